"""A model's enlargements beside those of the baselines, each scored against the true pictures."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from pixelsr.data.levels import from_levels, to_levels
from pixelsr.models import PixelRecursiveSR
from pixelsr.sampling import sample

from . import metrics
from .baselines import bicubic, nearest_neighbours
from .report import Draws, Enlargement, Scores

Metric = Callable[[Tensor, Tensor], Tensor]


def measure_enlargements(
    model: PixelRecursiveSR, images: Tensor, train: Tensor | None, draws: Draws, progress: bool
) -> Enlargement:
    """Enlarge the area averages of pictures in every way there is, and compare with the pictures.

    Args:
        images, train: uint8 ``[N, C, H, W]`` and ``[T, C, H, W]``, intensities of 8 bits.
        progress: show progress bars on stderr, where that is a terminal.
    """
    levels, magnification = model.levels, model.magnification
    truth = to_levels(images, levels)
    low_res = model.shrink(truth)
    answers = {
        "model": _draw(model, low_res, draws, progress),
        "bicubic": bicubic(low_res, magnification, levels),
    }
    if train is not None:
        nearest = nearest_neighbours(low_res, train, magnification, levels, progress=progress)
        answers["nearest_neighbour"] = to_levels(train[nearest], levels)
    scores = {
        name: score(some, truth, low_res, levels, draws.batch) for name, some in answers.items()
    }
    return Enlargement(len(images), draws, None if train is None else len(train), scores)


def _draw(model: PixelRecursiveSR, low_res: Tensor, draws: Draws, progress: bool) -> Tensor:
    """Samples in eval mode, uint8 ``[M * samples, C, H, W]``, on the CPU."""
    was_training = model.training
    model.eval()
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
    model.train(was_training)
    return drawn.cpu()


def score(answers: Tensor, truth: Tensor, low_res: Tensor, levels: int, batch: int) -> Scores:
    """Means over all answers, of which each true picture has equally many, side by side."""
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
    """A metric of each pair of pictures, ``[N]``, so many at a time."""
    parts = zip(answers.split(batch), truth.split(batch), strict=True)
    return torch.cat([metric(*pair) for pair in parts])
