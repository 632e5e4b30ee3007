"""The block sizes of the kernels for each kind of work, with the reason for each choice."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Config:
    """The block sizes of a kernel.

    Attributes:
        pixels, out, inputs: the sizes of a block; powers of two, at least 16.
        warps: the warps of a program.
        stages: the stages of its pipeline; one is for the table of live blocks, each other stage
            holds a block of inputs and of weights.
        reason: the reason for this choice.
    """

    pixels: int
    out: int
    inputs: int
    warps: int
    stages: int
    reason: str

    def launch_options(self) -> dict[str, int]:
        """Return the block sizes as compile-time arguments of a kernel, with warps and stages."""
        return {
            "BLOCK_P": self.pixels,
            "BLOCK_OUT": self.out,
            "BLOCK_IN": self.inputs,
            "num_warps": self.warps,
            "num_stages": self.stages,
        }


HALF, TF32, IEEE = "half", "tf32", "ieee"

PRODUCTS: dict[tuple[str, str], Config] = {
    (HALF, "wide"): Config(128, 128, 64, 8, 5, "64x128 a warpgroup, four 32 KB stages in flight"),
    (HALF, "narrow"): Config(128, 64, 64, 4, 4, "up to 64 outputs; two programs a multiprocessor"),
    (HALF, "few"): Config(256, 16, 64, 4, 4, "gradient to an image: long columns, few outputs"),
    (HALF, "lanes"): Config(64, 64, 32, 4, 2, "a first layer, 3 channels x 24 taps: 3 steps"),
    (TF32, "wide"): Config(128, 128, 32, 8, 5, "the bytes of 16 bits, half as many inputs"),
    (TF32, "narrow"): Config(128, 64, 32, 4, 5, "the bytes of 16 bits, half as many inputs"),
    (TF32, "few"): Config(128, 16, 32, 4, 4, "gradient to an image"),
    (TF32, "lanes"): Config(64, 64, 32, 4, 2, "a first layer"),
    (IEEE, "wide"): Config(64, 64, 16, 8, 3, "no matrix instructions: 16 sums a thread"),
    (IEEE, "narrow"): Config(64, 32, 16, 4, 3, "no matrix instructions: 16 sums a thread"),
    (IEEE, "few"): Config(64, 16, 16, 4, 3, "gradient to an image"),
    (IEEE, "lanes"): Config(64, 32, 16, 4, 2, "a first layer"),
}
"""The configs of the forward pass and the input gradient, by precision and kind."""

GATED: dict[tuple[str, str], Config] = {
    (HALF, "wide"): Config(128, 64, 64, 8, 4, "two sums of 64 outputs in the place of one of 128"),
    (HALF, "lanes"): Config(64, 32, 32, 4, 2, "a first layer"),
    (TF32, "wide"): Config(128, 64, 32, 8, 5, "two sums of 64 outputs in the place of one of 128"),
    (TF32, "lanes"): Config(64, 32, 32, 4, 2, "a first layer"),
    (IEEE, "wide"): Config(64, 32, 16, 8, 3, "two sums, no matrix instructions"),
    (IEEE, "lanes"): Config(64, 16, 16, 4, 2, "a first layer"),
}
"""The configs of the forward pass with a gate."""

GRAD_WEIGHT: dict[tuple[str, str], Config] = {
    (HALF, "wide"): Config(64, 128, 64, 4, 4, "the weights of a tap are the tile; 24 KB a stage"),
    (HALF, "lanes"): Config(64, 64, 32, 4, 3, "a first layer, 3 channels x 24 taps: 3 tiles"),
    (TF32, "wide"): Config(32, 128, 64, 8, 3, "half as many pixels a stage as in 16 bits"),
    (TF32, "lanes"): Config(32, 64, 32, 4, 3, "a first layer"),
    (IEEE, "wide"): Config(16, 64, 64, 8, 2, "no matrix instructions: 16 sums a thread"),
    (IEEE, "lanes"): Config(16, 32, 32, 4, 2, "a first layer"),
}
"""The configs of the weight gradient."""

FEWEST_CHANNELS = 16
"""The least number of input channels for blocks of one tap. With fewer channels, the lanes of a
block are (tap, channel) pairs of any taps.
"""


def choose_product(
    precision: str, in_channels: int, out_channels: int, gated: bool = False
) -> Config:
    """Return the config of a forward pass or, with the channels swapped, of its input gradient."""
    lanes = in_channels < FEWEST_CHANNELS
    if gated:
        return GATED[precision, "lanes" if lanes else "wide"]
    if lanes:
        return PRODUCTS[precision, "lanes"]
    widths = {16: "few", 64: "narrow"}
    kind = next((kind for most, kind in widths.items() if out_channels <= most), "wide")
    return PRODUCTS[precision, kind]


def choose_grad_weight(precision: str, in_channels: int) -> Config:
    """Return the config of a weight gradient."""
    return GRAD_WEIGHT[precision, "lanes" if in_channels < FEWEST_CHANNELS else "wide"]


ALONE = {HALF: 2**19, TF32: 2**19, IEEE: 2**16}
"""The most bytes of weights with which each program of a recurrence runs all wavefronts alone. It
rereads the weights for each wavefront, which at 40 KB per microsecond takes no more time than a
launch. Without matrix instructions one multiprocessor is too slow for more.
"""

LSTM: dict[tuple[str, str], Config] = {
    (HALF, "alone"): Config(64, 32, 32, 8, 4, "two rows of 32; more outputs or inputs spill"),
    (HALF, "wavefront"): Config(64, 16, 64, 4, 4, "many programs; 16 KB a stage"),
    (TF32, "alone"): Config(64, 32, 32, 8, 4, "the bytes of 16 bits, half as many inputs"),
    (TF32, "wavefront"): Config(64, 16, 32, 4, 4, "the bytes of 16 bits, half as many inputs"),
    (IEEE, "alone"): Config(32, 16, 16, 4, 2, "no matrix instructions: 16 sums a thread"),
    (IEEE, "wavefront"): Config(32, 16, 16, 4, 2, "no matrix instructions: 16 sums a thread"),
}
"""The configs of a recurrence forward, by precision and by the way to run the wavefronts: each
program runs all of them alone, or many programs share one wavefront. `out` counts the outputs of
each of the four gates.
"""

LSTM_GRAD: dict[tuple[str, str], Config] = {
    (HALF, "alone"): Config(64, 64, 64, 8, 4, "two rows of 32; 16 KB a stage"),
    (HALF, "wavefront"): Config(64, 32, 64, 4, 4, "many programs; 12 KB a stage"),
    (TF32, "alone"): Config(64, 32, 64, 8, 3, "more outputs spill"),
    (TF32, "wavefront"): Config(64, 32, 32, 8, 4, "many programs; four warps spill"),
    (IEEE, "alone"): Config(32, 32, 16, 4, 3, "no matrix instructions: 8 sums a thread"),
    (IEEE, "wavefront"): Config(32, 32, 16, 4, 3, "no matrix instructions: 8 sums a thread"),
}
"""The configs of a recurrence's gradient; `inputs` counts gates."""


def choose_lstm(precision: str, alone: bool, channels: int) -> Config:
    return _for_channels(LSTM[precision, "alone" if alone else "wavefront"], channels, channels)


def choose_lstm_grad(precision: str, alone: bool, channels: int) -> Config:
    return _for_channels(
        LSTM_GRAD[precision, "alone" if alone else "wavefront"], channels, 4 * channels
    )


def _for_channels(config: Config, out: int, inputs: int) -> Config:
    """Return the config with smaller blocks if there are fewer channels than one block holds."""
    fits = [max(16, 1 << (count - 1).bit_length()) for count in (out, inputs)]
    return dataclasses.replace(
        config, out=min(config.out, fits[0]), inputs=min(config.inputs, fits[1])
    )
