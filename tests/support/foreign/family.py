"""The parts that all families share: their description, one draw, random parameters, live taps."""

import dataclasses
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tests.support.helpers import randomize

Size = tuple[int, int]
OwnLoop = Callable[[nn.Module, Tensor, Tensor, float], Tensor]
"""A sampling loop as the author of a network writes it, one pass of the network for each value.

Its arguments are the network, the images with -1 at the values to draw (int64 ``[N, C, H, W]``),
Gumbel noise ``[N, positions, levels]`` and the temperature; it returns the images.
"""


@dataclasses.dataclass(frozen=True)
class Family:
    """A kind of network that others publish.

    Attributes:
        make: a function that returns a network for images of a size.
        adapt: the keyword arguments of `pixelsr.adapt`.
        own_loop: the author's sampling loop.
        constant_taps: live taps that read only constant planes; a plan may sum them in advance.
        summed_channels: channels of a pixel that norms and softmax sum; a plan may count them too.
    """

    make: Callable[[Size], nn.Module]
    adapt: dict[str, object]
    own_loop: OwnLoop
    constant_taps: int = 0
    summed_channels: int = 0

    def network(self, size: Size, seed: int = 2) -> nn.Module:
        """Return a network in float64 with random parameters."""
        return randomize_all(self.make(size), seed).double().eval()


@dataclasses.dataclass(frozen=True)
class Faulty:
    """A network with one mistake, so that a value reads the future.

    Attributes:
        is_known: True if the planner knows all operations, and thus must name the future read.
    """

    make: Callable[[Size], nn.Module]
    adapt: dict[str, object]
    is_known: bool = True

    def network(self, size: Size, seed: int = 2) -> nn.Module:
        """Return a network in float64 with random parameters."""
        return randomize_all(self.make(size), seed).double().eval()


def draw(logits: Tensor, noise: Tensor, temperature: float, given: Tensor) -> Tensor:
    """Return the given values, and drawn ones where the given value is -1.

    Args:
        logits, noise: ``[N, levels]``.
        given: int64 ``[N]``.
    """
    drawn = (logits / temperature + noise if temperature else logits).argmax(-1)
    return torch.where(given >= 0, given, drawn)


@torch.no_grad()
def randomize_all(network: nn.Module, seed: int) -> nn.Module:
    """Draw the parameters and the running statistics at random; masks in parameters stay.

    Weights are twice as large as those of `randomize`, since masks take half of them, and offsets
    are smaller, so that the past matters to the images.
    """
    masks = [p for p in network.parameters() if not p.requires_grad]
    values = [mask.clone() for mask in masks]
    randomize(network, seed)
    for name, parameter in network.named_parameters():
        parameter *= 0.2 if name.endswith("bias") else 2
    for mask, value in zip(masks, values, strict=True):
        mask.copy_(value)
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.2, generator=generator)
            module.running_var.uniform_(1, 4, generator=generator)
    return network


_LINEAR_MAPS = {
    torch.conv1d: (1, 1),
    torch.conv2d: (1, 1),
    F.linear: (1, -1),
    torch.einsum: (2, 1),
}
"""The number of the argument that is the weight, and the dimension of the output's channels."""


class _LinearMaps(TorchFunctionMode):
    """A record of the linear maps that are called: live taps of each output channel, and output."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Tensor, Tensor, int]] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func not in _LINEAR_MAPS:
            return out
        weight, channels = _LINEAR_MAPS[func]
        out.retain_grad()
        self.calls.append((args[weight].flatten(1).count_nonzero(1), out, channels))
        return out.clone()  # in-place operations would change the recorded output


@torch.enable_grad()
def live_macs(models: Iterable[nn.Module], images: Tensor) -> tuple[int, int]:
    """Return bounds of the multiply-adds of one image: the nonzero weights of all linear maps.

    The lower bound counts the positions whose output has a gradient, thus matters to the logits:
    what a crop or a shift removes does not. The upper bound counts the pixels of the image.

    Args:
        models: one network with several random parameters, since an activation may be zero by
            chance.
        images: several random images.
    """
    matters: dict[int, Tensor] = {}
    for model in models:
        with _LinearMaps() as record:
            logits = model(images)
        (logits * torch.randn_like(logits)).sum().backward()
        for number, (_, out, channels) in enumerate(record.calls):
            found = (out.grad != 0).any(0, keepdim=True).movedim(channels, 0).flatten(1)
            matters[number] = matters.get(number, torch.zeros_like(found)) | found
    pixels = images.shape[2] * images.shape[3]
    counts = [(taps, matters[number]) for number, (taps, _, _) in enumerate(record.calls)]
    least = sum(int((taps * found.sum(1)).sum()) for taps, found in counts)
    return least, pixels * sum(int(taps.sum()) for taps, _ in counts)
