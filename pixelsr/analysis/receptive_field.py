"""The receptive field of an output of a network, as an image."""

import torch
from torch import Tensor, nn

from pixelsr.functional.autocast import without_autocast
from pixelsr.utils.modules import unwrap

from .causality import _PATIENCE, _TRIALS, _image_size, _Probe, _sizes


@without_autocast()
def receptive_field(
    model: nn.Module,
    image_size: tuple[int, int] = (15, 15),
    low_res: Tensor | None = None,
    *,
    position: tuple[int, int] | None = None,
    color: int = 0,
    colors: int = 3,
    levels: int = 256,
) -> Tensor:
    """Return the pixels that the logits at a position read.

    A pixel is read if a change of it changes a logit. As in `check_causality`, random images are
    perturbed, in float64 on the CPU if the network can run so, but in eval mode only. Zero weights
    hide what they multiply. Future pixels are shown like past ones and raise no error.

    Args:
        model: any module, called as ``model(images)`` or ``model(images, low_res)`` with uint8
            images ``[N, C, H, W]``, that returns logits ``[N, L, C, H, W]``.
        image_size: ``(H, W)``; rounded up to multiples of ``model.scale_factor``, if it has one.
        low_res: uint8 ``[1, C, h, w]``; None for random ones if the model has a ``scale_factor``.
        position: the ``(row, column)`` of the output; None for the center.
        color: the color of the output. Color 0 of a causal network reads nothing of its own pixel.
        colors, levels: C and L, as in `check_causality`.
    Returns:
        bool ``[H, W]``, true where any color of the pixel is read.
    Raises:
        TypeError: `model` is not a module.
        ValueError: the position or the color is outside the image, or as in `check_causality`.
    """
    model = unwrap(model)
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    colors, levels = _sizes(model, colors, levels)
    height, width = _image_size(model, image_size, low_res)
    row, column = (height // 2, width // 2) if position is None else _two_ints(position)
    if not (0 <= row < height and 0 <= column < width):
        raise ValueError(f"position must lie in {height} x {width} pixels, got {(row, column)}")
    if type(color) is not int or not 0 <= color < colors:
        raise ValueError(f"color must be an int below {colors}, got {color!r}")
    output = (row * width + column) * colors + color
    probe = _Probe(model, (colors, height, width), levels, low_res)
    reads = torch.zeros(height * width * colors, dtype=torch.bool, device="cpu")
    stale = trial = 0
    while stale < _PATIENCE and trial < _TRIALS:
        before = int(reads.sum())
        for inputs, changed in probe.changes("eval", trial):  # changed: [inputs, outputs]
            reads[inputs] |= changed[:, output]
        stale = stale + 1 if int(reads.sum()) == before else 0
        trial += 1
    return reads.view(height, width, colors).any(2)


def _two_ints(position: tuple[int, int]) -> tuple[int, int]:
    values = tuple(position) if isinstance(position, tuple | list) else ()
    if len(values) != 2 or any(type(value) is not int for value in values):
        raise ValueError(f"position must be two ints (row, column), got {position!r}")
    return values[0], values[1]
