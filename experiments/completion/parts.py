"""What of an image is hidden, what a model sees of it, and how its completions are scored."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelsr import functional
from pixelsr.data.downsample import visible_average
from pixelsr.models import PixelModel, PixelRecursiveSR
from pixelsr.sampling import sample
from pixelsr.utils.progress import track

from ..support.results import Results

WHOLE, LOWER, UPPER, HOLE = "whole image", "lower half", "upper half", "hole"
"""Parts of an image that are drawn."""
GRAY = 128
"""Of hidden pixels on a sheet."""
DISC = (0.45, 0.4, 0.2)
"""Of the hole: column and row of the center, and the radius, in sides of the image."""
STROKE = ((0.15, 0.8), (0.85, 0.6), 0.06)
"""Of the hole: column and row of both ends, and half the width."""


def spread_out(images: Tensor, count: int) -> Tensor:
    """`count` of the images, from the first to the last, or all where there are fewer."""
    count = min(count, len(images))
    return images[torch.linspace(0, len(images) - 1, count).round().long()]


def hidden_pixels(part: str, height: int, width: int) -> Tensor:
    """The pixels that are to be drawn, bool ``[H, W]``."""
    if part == WHOLE:
        return torch.ones(height, width, dtype=torch.bool)
    if part == HOLE:
        return _hole(height, width)
    lower = (torch.arange(height) >= height // 2)[:, None].expand(height, width)
    return lower if part == LOWER else ~lower


def _hole(height: int, width: int) -> Tensor:
    """A disc and a stroke: no rectangle."""
    rows, cols = ((torch.arange(side) + 0.5) / side for side in (height, width))
    positions = torch.stack(torch.meshgrid(cols, rows, indexing="xy"), 2)  # [H, W, 2]
    *center, radius = DISC
    disc = (positions - torch.tensor(center)).norm(dim=2) < radius
    start, end = torch.tensor(STROKE[0]), torch.tensor(STROKE[1])
    along = ((positions - start) @ (end - start) / (end - start).square().sum()).clamp(0, 1)
    stroke = (positions - start - along[..., None] * (end - start)).norm(dim=2) < STROKE[2]
    return disc | stroke


def small_images(model: PixelModel, images: Tensor, part: str) -> Tensor | None:
    """What a `PixelRecursiveSR` is told, uint8 ``[N, C, h, w]``; None for a prior.

    That of the whole image, hidden pixels included; but with a hole that of the visible pixels
    alone, as of `visible_average`.
    """
    if not isinstance(model, PixelRecursiveSR):
        return None
    if part != HOLE:
        return model.downsample(images)
    hidden = hidden_pixels(part, *images.shape[2:]).expand(len(images), -1, -1)
    return visible_average(images, hidden, model.scale_factor)


def complete(
    model: PixelModel, images: Tensor, part: str, samples: int = 1, seed: int = 0, batch: int = 64
) -> Tensor:
    """Completions of each image, uint8 ``[N, samples, C, H, W]``, as the images in its levels.

    Args:
        model: a prior, or a `PixelRecursiveSR`.
        images: uint8 ``[N, C, H, W]``.
        batch: drawn at once; no image depends on it.
    """
    hidden = hidden_pixels(part, *images.shape[2:])
    low_res = small_images(model, images, part)
    known = images.repeat_interleave(samples, 0)
    drawn = sample(
        model,
        len(known) if low_res is None else samples,
        image_size=(images.shape[2], images.shape[3]),
        low_res=low_res,
        known=known,
        known_mask=(~hidden).expand_as(known),
        seed=seed,
        max_batch=batch,
        progress=True,
    )
    return drawn.cpu().unflatten(0, (len(images), samples))


def score(drawn: Tensor, images: Tensor, part: str, levels: int) -> Results:
    """How far completions are from one another, and from the truth.

    Both are root mean squares over the hidden values, in intensities from 0 to 1; the standard
    error of their ratio is that over the images.

    Args:
        drawn: uint8 ``[N, samples, C, H, W]``, two samples or more.
        images: uint8 ``[N, C, H, W]``.
    """
    hidden = hidden_pixels(part, *images.shape[2:])
    changed = drawn[..., ~hidden] != images[:, None][..., ~hidden]
    values, truth = (x[..., hidden].double() / (levels - 1) for x in (drawn, images))
    apart = 2 * values.var(1).flatten(1).mean(1)  # the mean over all pairs, squared
    off = (values - truth[:, None]).square().flatten(1).mean(1)
    ratio = (apart.mean() / off.mean()).sqrt()
    relative = apart / apart.mean() - off / off.mean()
    return {
        "images": len(images),
        "hidden": hidden.double().mean().item(),
        "known_values_changed": int(changed.sum()),
        "apart": apart.mean().sqrt().item(),
        "from_truth": off.mean().sqrt().item(),
        "ratio": ratio.item(),
        "standard_error": (ratio * relative.std() / 2 / math.sqrt(len(images))).item(),
    }


@torch.inference_mode()
def lower_half_bits(model: PixelModel, images: Tensor, batch: int) -> Tensor:
    """``-log2 p(lower half | upper half)`` of each image, bits a hidden value, float64 ``[N]``.

    In raster order the lower half comes last, so it is, exactly, the sum over its values of one
    pass.
    """
    rows = images.shape[2] // 2
    nll = []
    for part in track(images.split(batch), "likelihood of the lower halves", True):
        given = part.to(model.device)
        low_res = small_images(model, given, LOWER)
        logits = model(given) if low_res is None else model(given, low_res)
        lower = functional.nll(logits[..., rows:, :], given[..., rows:, :])
        nll.append(lower.double().cpu())
    return torch.cat(nll) / (images[0, :, rows:].numel() * math.log(2))


def mean_of(values: Tensor) -> Results:
    """The mean of a figure over the images, two or more, and its standard error."""
    error = values.std() / math.sqrt(len(values))
    return {
        "images": len(values),
        "mean": values.mean().item(),
        "standard_error": error.item(),
    }


def strip(image: Tensor, drawn: Tensor, part: str) -> Tensor:
    """The kept pixels, the hidden ones gray; the completions; the truth: ``[samples + 2, C, ...]``.

    Args:
        image: uint8 ``[C, H, W]``, intensities of 8 bits, as the rest.
        drawn: uint8 ``[samples, C, H, W]``.
    """
    kept = image.masked_fill(hidden_pixels(part, *image.shape[1:]), GRAY)
    return torch.cat((kept[None], drawn, image[None]))


def framed(images: Tensor, side: int) -> Tensor:
    """Images ``[N, C, H, W]`` amid black, `side` high and wide."""
    down, across = ((side - length) // 2 for length in images.shape[2:])
    height, width = images.shape[2:]
    return F.pad(images, (across, side - width - across, down, side - height - down))
