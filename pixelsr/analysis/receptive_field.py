"""Which pixels an output of a network sees, as an image."""

import torch
from torch import Tensor, nn

from pixelsr.functional.autocast import without_autocast
from pixelsr.utils.modules import unwrap

from .causality import _PATIENCE, _TRIALS, _image_size, _Probe, _sizes


@without_autocast()
def receptive_field(
    model: nn.Module,
    image_size: tuple[int, int] = (15, 15),
    position: tuple[int, int] | None = None,
    *,
    color: int = 0,
    low_res: Tensor | None = None,
    colors: int = 3,
    levels: int = 256,
) -> Tensor:
    """The pixels that the logits at a position read: a change of theirs changes a logit.

    Measured as `check_causality` does, by perturbation of random images, in float64 on the CPU
    where the network can run so; in eval mode. What parameters of zero hide is not seen. The future
    is shown like the past: nothing is refused.

    Args:
        model: any module, called as ``model(images)`` or ``model(images, low_res)`` with uint8
            images ``[N, C, H, W]``, that gives logits ``[N, L, C, H, W]``.
        image_size: ``(H, W)``; rounded up to multiples of ``model.scale_factor``, if it has one.
        position: ``(row, column)`` of the output; None for the center.
        color: of the output. For 0, nothing of its own pixel is past.
        low_res: uint8 ``[1, C, h, w]``; None for random ones where the model has a
            ``scale_factor``.
        colors, levels: C and L, where the model does not say.
    Returns:
        bool ``[H, W]``, true where any color of the pixel is read.
    Raises:
        TypeError: `model` is not a module.
        ValueError: as `check_causality`; a position or a color outside the image.
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
