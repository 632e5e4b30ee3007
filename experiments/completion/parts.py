"""The hidden parts of an image, the model's input for each, and the scores of completions."""

import math
from pathlib import PurePath

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelsr import functional
from pixelsr.data.downsample import visible_average
from pixelsr.models import PixelModel, PixelRecursiveSR
from pixelsr.sampling import sample
from pixelsr.utils.progress import track

from ..support.results import Results

NAME = "completion"
DIGITS, FACES, MODEL = "digits", "faces", "model"
"""The ways to complete: two priors that are trained here, and a model that was trained before."""
WHOLE, LOWER, UPPER, HOLE = "whole image", "lower half", "upper half", "hole"
"""The parts of an image that are drawn."""
GRAY = 128
"""The intensity of hidden pixels on a sheet."""
DISC = (0.45, 0.4, 0.2)
"""The disc of the hole: column and row of the center, and radius, in sides of the image."""
STROKE = ((0.15, 0.8), (0.85, 0.6), 0.06)
"""The stroke of the hole: column and row of both ends, and half the width."""


def titles(results: Results) -> dict[str, str]:
    """Return the names of the ways to complete, as a plot shows them."""
    model = PurePath(results["settings"]["model"]).name
    return {DIGITS: "digits", FACES: "faces, the prior", MODEL: f"faces, {model}"}


def spread_out(images: Tensor, count: int) -> Tensor:
    """Return `count` images, evenly spread from first to last, or all if there are fewer."""
    count = min(count, len(images))
    return images[torch.linspace(0, len(images) - 1, count).round().long()]


def hidden_pixels(part: str, height: int, width: int) -> Tensor:
    """Return a mask of the pixels to draw, bool ``[H, W]``."""
    if part == WHOLE:
        return torch.ones(height, width, dtype=torch.bool)
    if part == HOLE:
        return _hole(height, width)
    lower = (torch.arange(height) >= height // 2)[:, None].expand(height, width)
    return lower if part == LOWER else ~lower


def _hole(height: int, width: int) -> Tensor:
    """Return the mask of a disc and a stroke, which is no rectangle."""
    rows, cols = ((torch.arange(side) + 0.5) / side for side in (height, width))
    positions = torch.stack(torch.meshgrid(cols, rows, indexing="xy"), 2)  # [H, W, 2]
    *center, radius = DISC
    disc = (positions - torch.tensor(center)).norm(dim=2) < radius
    start, end = torch.tensor(STROKE[0]), torch.tensor(STROKE[1])
    along = ((positions - start) @ (end - start) / (end - start).square().sum()).clamp(0, 1)
    stroke = (positions - start - along[..., None] * (end - start)).norm(dim=2) < STROKE[2]
    return disc | stroke


def small_images(model: PixelModel, images: Tensor, part: str) -> Tensor | None:
    """Return the input of a `PixelRecursiveSR`, uint8 ``[N, C, h, w]``, or None for a prior.

    With a hole, it is the `visible_average` of the kept pixels. Otherwise it is the whole image
    downsampled, hidden pixels included.
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
    """Draw completions of each image, uint8 ``[N, samples, C, H, W]``.

    Args:
        model: a prior, or a `PixelRecursiveSR`.
        images: images in the model's levels, uint8 ``[N, C, H, W]``.
        batch: number of images that are drawn at once; no image depends on it.
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
    """Measure the distances between completions, and from completions to the original.

    Both are root mean squares over the hidden values, for intensities from 0 to 1. The standard
    error of their ratio is taken over the images.

    Args:
        drawn: completions, uint8 ``[N, samples, C, H, W]``; at least two samples.
        images: originals, uint8 ``[N, C, H, W]``.
    """
    hidden = hidden_pixels(part, *images.shape[2:])
    changed = drawn[..., ~hidden] != images[:, None][..., ~hidden]
    values, truth = (x[..., hidden].double() / (levels - 1) for x in (drawn, images))
    apart = 2 * values.var(1).flatten(1).mean(1)  # mean squared distance of all pairs
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
    """Return ``-log2 p(lower half | upper half)`` in bits per hidden value, float64 ``[N]``.

    In raster order the lower half comes last, so the sum over its values of one forward pass is
    exact.
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
    """Return the mean of a value over at least two images, and its standard error."""
    error = values.std() / math.sqrt(len(values))
    return {
        "images": len(values),
        "mean": values.mean().item(),
        "standard_error": error.item(),
    }


def strip(image: Tensor, drawn: Tensor, part: str) -> Tensor:
    """Join the image with hidden pixels gray, its completions and the original.

    Args:
        image: original, uint8 ``[C, H, W]`` with 8-bit intensities.
        drawn: completions, uint8 ``[samples, C, H, W]``.
    Returns:
        uint8 ``[samples + 2, C, H, W]``.
    """
    kept = image.masked_fill(hidden_pixels(part, *image.shape[1:]), GRAY)
    return torch.cat((kept[None], drawn, image[None]))


def framed(images: Tensor, side: int) -> Tensor:
    """Pad images ``[N, C, H, W]`` with black on all sides to `side` pixels."""
    down, across = ((side - length) // 2 for length in images.shape[2:])
    height, width = images.shape[2:]
    return F.pad(images, (across, side - width - across, down, side - height - down))
