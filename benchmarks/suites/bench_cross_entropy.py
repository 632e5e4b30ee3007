"""The time of the loss from features, forward and backward, beside the path through the logits.

The sizes are those of the paper's output layers at 32x32: 1024 maps of B and 32 of A. The batch is
8 images in float32 on a CPU; `benchmarks.tools.gpu` measures a GPU. The plain path computes the
logits of both, adds them, and takes the cross-entropy of the sum and of A.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelsr import functional
from pixelsr.bench.timing import median_ratio
from pixelsr.functional import LogitsHead

from .turns import time_in_turns

Loss = Callable[[], Tensor]
COLORS, LEVELS, CHANNELS, HIDDEN, CONDITIONING = 3, 256, 64, 1024, 32
IMAGES, SIZE, ROUNDS = 8, (32, 32), 5
TOLERANCE = 1e-3
"""The largest error of a gradient, relative to its largest entry."""


def layers(
    device: torch.device, dtype: torch.dtype, images: int, size: tuple[int, int]
) -> tuple[LogitsHead, LogitsHead]:
    """Return B's hidden and output layer with their input, and A's output layer with its input."""

    def normal(*shape: int) -> Tensor:
        made = torch.randn(shape, device=device)
        return made.to(dtype, memory_format=torch.channels_last)

    def weight(*shape: int) -> Tensor:
        return normal(*shape, 1, 1).mul_(shape[1] ** -0.5).requires_grad_()

    def zeros(count: int) -> Tensor:
        return torch.zeros(count, device=device, dtype=dtype, requires_grad=True)

    out = COLORS * LEVELS
    features, alone = (normal(images, n, *size).requires_grad_() for n in (CHANNELS, CONDITIONING))
    prior = LogitsHead(
        features, weight(out, HIDDEN), zeros(out), weight(HIDDEN, CHANNELS), zeros(HIDDEN)
    )
    return prior, LogitsHead(alone, weight(out, CONDITIONING), zeros(out))


def hidden_maps(prior: LogitsHead) -> LogitsHead:
    """Return the output layer with the hidden maps as its input, as a forward pass keeps them."""
    made = functional.masked_conv2d(
        prior.features, prior.hidden_weight, prior.hidden_bias, mask_type="B", backend="reference"
    )
    maps = F.relu(made).detach().contiguous(memory_format=torch.channels_last)
    return LogitsHead(maps.requires_grad_(), prior.weight, prior.bias)


def plain_loss(images: Tensor, prior: LogitsHead, conditioning: LogitsHead) -> Tensor:
    b = functional.masked_conv2d(*prior[:3], mask_type="B", backend="reference")
    a = F.conv2d(*conditioning[:3])
    a, b = (functional.to_logits(logits, COLORS, LEVELS) for logits in (a, b))
    return (functional.nll(a + b, images) + functional.nll(a, images)).mean()


def our_loss(images: Tensor, prior: LogitsHead, conditioning: LogitsHead) -> Tensor:
    both, alone = functional.pixel_cross_entropy(prior, images, conditioning)
    return (both + alone).mean()


def test_loss_from_features(benchmark, device: torch.device) -> None:
    torch.manual_seed(0)
    images = torch.randint(LEVELS, (IMAGES, COLORS, *SIZE), dtype=torch.uint8, device=device)
    prior, conditioning = layers(device, torch.float32, IMAGES, SIZE)
    kept = hidden_maps(prior)
    leaves = [t for output in (kept, conditioning) for t in output if t is not None]
    run: dict[str, Loss] = {
        "ours": lambda: our_loss(images, kept, conditioning),
        "plain": lambda: plain_loss(images, kept, conditioning),
    }

    def turn(loss: Loss) -> tuple[Tensor, ...]:
        return torch.autograd.grad(loss(), leaves)

    for ours, theirs in zip(*(turn(loss) for loss in run.values()), strict=True):
        error = (ours.double() - theirs.double()).abs().max() / theirs.double().abs().max()
        assert error <= TOLERANCE
    sides = {name: partial(turn, loss) for name, loss in run.items()}
    times = time_in_turns(benchmark, device, sides, ROUNDS)
    ratio = median_ratio(times["plain"], times["ours"])
    benchmark.extra_info["times faster than plain"] = round(ratio, 2)
    print("\nloss from features:", dict(benchmark.extra_info))
