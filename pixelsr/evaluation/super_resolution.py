"""Super-resolution by a model and by simple baselines, scored against the true images."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pixelsr.data.downsample import area_average
from pixelsr.data.quantize import from_levels, to_levels
from pixelsr.models import PixelRecursiveSR
from pixelsr.sampling import sample
from pixelsr.utils.modules import in_eval_mode
from pixelsr.utils.progress import track

from . import metrics
from .report import Draws, Enlargement, Scores

Metric = Callable[[Tensor, Tensor], Tensor]


def measure_enlargements(
    model: PixelRecursiveSR, images: Tensor, train: Tensor | None, draws: Draws, progress: bool
) -> Enlargement:
    """Enlarge the area averages of images by every method, and score the answers.

    Args:
        images, train: uint8 ``[N, C, H, W]`` and ``[T, C, H, W]``, 8-bit intensities.
        progress: show progress bars on stderr if it is a terminal.
    """
    levels, scale_factor = model.levels, model.scale_factor
    truth = to_levels(images, levels)
    low_res = model.downsample(truth)
    answers = {
        "model": _draw(model, low_res, draws, progress),
        "bicubic": bicubic(low_res, scale_factor, levels),
    }
    if train is not None:
        nearest = nearest_neighbors(low_res, train, scale_factor, levels, progress=progress)
        answers["nearest_neighbor"] = to_levels(train[nearest], levels)
    scores = {
        name: score(some, truth, low_res, levels, draws.batch) for name, some in answers.items()
    }
    return Enlargement(len(images), draws, None if train is None else len(train), scores)


def _draw(model: PixelRecursiveSR, low_res: Tensor, draws: Draws, progress: bool) -> Tensor:
    """Draw samples in eval mode, uint8 ``[M * samples, C, H, W]``, on the CPU."""
    with in_eval_mode(model):
        drawn = sample(
            model,
            n=draws.samples,
            low_res=low_res,
            seed=draws.seed,
            temperature=draws.temperature,
            engine=draws.engine,
            max_batch=draws.batch,
            progress=progress,
        )
    return drawn.cpu()


def score(answers: Tensor, truth: Tensor, low_res: Tensor, levels: int, batch: int) -> Scores:
    """Return the mean metrics of all answers; each true image has equally many, side by side."""
    samples = len(answers) // len(truth)
    low_res = low_res.repeat_interleave(samples, 0)
    seen = from_levels(answers, levels)
    true = from_levels(truth, levels).repeat_interleave(samples, 0)
    side = min(truth.shape[2:])
    return Scores(
        psnr=_mean(metrics.psnr, seen, true, batch),
        ssim=_mean(metrics.ssim, seen, true, batch) if side >= metrics.SSIM_SIDE else None,
        ms_ssim=_mean(metrics.ms_ssim, seen, true, batch) if side >= metrics.MS_SSIM_SIDE else None,
        consistency=_mean(partial(metrics.consistency, levels=levels), answers, low_res, batch),
    )


def _mean(metric: Metric, answers: Tensor, truth: Tensor, batch: int) -> float:
    return each(metric, answers, truth, batch).mean().item()


def each(metric: Metric, answers: Tensor, truth: Tensor, batch: int) -> Tensor:
    """Return a metric of each pair of images, ``[N]``, computed in batches."""
    parts = zip(answers.split(batch), truth.split(batch), strict=True)
    return torch.cat([metric(*pair) for pair in parts])


_CHUNK = 1024
"""Images at once; a matrix of distances then has 8 MiB."""


def bicubic(low_res: Tensor, scale_factor: int, levels: int) -> Tensor:
    """Enlarge images with Pillow's bicubic interpolation, color by color.

    Args:
        low_res: uint8 ``[M, C, h, w]``, below `levels`; interpolated as 8-bit intensities.
    Returns:
        uint8 ``[M, C, h * scale_factor, w * scale_factor]``, below `levels`.
    """
    height, width = (scale_factor * side for side in low_res.shape[2:])
    planes = [
        np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BICUBIC))
        for plane in from_levels(low_res, levels).flatten(0, 1).numpy()
    ]
    large = torch.from_numpy(np.stack(planes)).unflatten(0, low_res.shape[:2])
    return to_levels(large, levels)


def nearest_neighbors(
    low_res: Tensor,
    train: Tensor,
    scale_factor: int,
    levels: int,
    *,
    chunk: int = _CHUNK,
    progress: bool = False,
) -> Tensor:
    """Return the index of the training image whose area average is nearest to each low_res image.

    The distance is the mean squared error; ties give the first image. All sums are integers that
    are exact in float64, so the result does not depend on `chunk`.

    Args:
        low_res: uint8 ``[M, C, h, w]``, below `levels`.
        train: uint8 ``[T, C, h * scale_factor, w * scale_factor]``, 8-bit intensities.
        chunk: images of `low_res` and of `train` at once; memory use does not grow with T.
        progress: show a progress bar on stderr if it is a terminal.
    Returns:
        int64 ``[M]``, indices into `train`.
    """
    queries = low_res.flatten(1).double().split(chunk)
    best = [
        torch.full((len(some),), torch.inf, dtype=torch.float64, device="cpu") for some in queries
    ]
    index = [torch.zeros(len(some), dtype=torch.int64, device="cpu") for some in queries]
    parts: Sequence[Tensor] = train.split(chunk)
    for number, part in enumerate(track(parts, "nearest neighbors", progress)):
        smalls = area_average(to_levels(part, levels), scale_factor).flatten(1).double()
        squares = smalls.square().sum(1)
        for k, some in enumerate(queries):
            # |q - s|^2 without |q|^2, which does not depend on s
            distance, nearest = torch.min(squares - 2 * some @ smalls.T, 1)
            nearer = distance < best[k]
            best[k] = torch.where(nearer, distance, best[k])
            index[k] = torch.where(nearer, nearest + number * chunk, index[k])
    return torch.cat(index)
