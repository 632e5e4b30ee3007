"""The inputs that all samplers share, and the check of their outputs."""

import copy
import dataclasses
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

from pixelsr.models import PixelModel, PixelRecursiveSR
from pixelsr.sampling.noise import gumbel_noise
from pixelsr.sampling.request import make_request


@dataclasses.dataclass(frozen=True)
class Batch:
    """A batch of images for a model.

    Attributes:
        model: the model, in eval mode.
        images: random uint8 ``[B, C, H, W]``, the input of a forward pass.
        low_res: random uint8 ``[B, C, h, w]``, one for each image; None for a prior.
        kept: cached objects for this batch, such as CUDA graphs.
    """

    model: PixelModel
    images: Tensor
    low_res: Tensor | None
    kept: dict[Hashable, Any] = dataclasses.field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The arguments of a forward pass."""
        return (self.images,) if self.low_res is None else (self.images, self.low_res)

    @property
    def image_size(self) -> tuple[int, int]:
        """The height and width of the images."""
        return int(self.images.shape[2]), int(self.images.shape[3])

    @property
    def device(self) -> torch.device:
        return self.images.device

    def __len__(self) -> int:
        return len(self.images)

    def keep(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return the object kept under a key; make it on the first call."""
        if key not in self.kept:
            self.kept[key] = make()
        return self.kept[key]

    def chunks(self, most: int) -> "tuple[Batch, int]":
        """Return a batch of the first images, at most `most`, and how many such make up this one.

        The last one may be incomplete.
        """
        count = -(-len(self) // most)
        size = -(-len(self) // count)
        low_res = None if self.low_res is None else self.low_res[:size]
        return Batch(self.model, self.images[:size], low_res), count


def make_batch(model: PixelModel, samples: int, image_size: tuple[int, int]) -> Batch:
    """Make a batch of random images on the model's device; equal arguments give equal images.

    Raises:
        ValueError: `image_size` is not a multiple of the model's scale factor.
    """
    height, width = image_size
    images = _noise(model, samples, height, width)
    if not isinstance(model, PixelRecursiveSR):
        return Batch(model.eval(), images, None)
    factor = model.scale_factor
    if height % factor or width % factor:
        raise ValueError(
            f"the images are {height}x{width}, expected multiples of the model's scale factor "
            f"{factor}"
        )
    return Batch(model.eval(), images, _noise(model, samples, height // factor, width // factor))


def _noise(model: PixelModel, samples: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (samples, model.colors, height, width)
    values = torch.randint(model.levels, shape, dtype=torch.uint8, generator=generator)
    return values.to(model.device)


IMAGES = 4
"""The most images of a batch that are checked; the noise of each takes 3 MB at 32x32."""
FLIPS = 0.02
"""The share of values that rounding may flip; a wrong sampler flips most values."""


@torch.no_grad()
def flips(batch: Batch, drawn: Tensor, weights: str = "model") -> float:
    """Return the share of values that the network, in float64, would have drawn differently.

    Each expected value is ``argmax(logits + noise)`` with the logits of one pass over the finished
    image, so an early flip does not affect later values.

    Args:
        drawn: uint8 ``[B, C, H, W]``, drawn with seed 0 at temperature 1.
        weights: the weights that were passed to `pixelsr.sample`.
    """
    drawn = drawn[:IMAGES]
    inputs = [drawn, *(low_res[:IMAGES] for low_res in batch.inputs[1:])]
    request = make_request(
        batch.model,
        len(drawn) if batch.low_res is None else 1,
        image_size=batch.image_size,
        low_res=None if batch.low_res is None else inputs[1],
        weights=weights,
    )
    logits = copy.deepcopy(request.model).double()(*inputs)  # [N, L, C, H, W]
    samples, levels, *positions = logits.shape
    colors, height, width = positions
    count = height * width * colors
    noise = gumbel_noise(0, 0, samples, 0, count, levels, drawn.device)
    noise = noise.view(samples, height, width, colors, levels).permute(0, 4, 3, 1, 2)
    return float(((logits + noise).argmax(1) != drawn).double().mean())


def check_replay(name: str, batch: Batch, drawn: Tensor, weights: str = "model") -> None:
    """Check that `drawn` equals the network's own draws, up to rounding.

    Raises:
        ValueError: more than the share `FLIPS` of the values differs.
    """
    share = flips(batch, drawn, weights)
    if share > FLIPS:
        raise ValueError(
            f"not measured: {share:.0%} of the values that {name} draws differ from the network's, "
            f"expected at most {FLIPS:.0%}"
        )
