"""The methods that enlarge an 8x8 face to 32x32, and their scores."""

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor

from pixelsr.evaluation import metrics
from pixelsr.evaluation.super_resolution import bicubic, each, nearest_neighbors, score
from pixelsr.models import ConditioningNetwork, PixelModel, PixelRecursiveSR
from pixelsr.sampling import sample
from pixelsr.training.loss import bits_per_dimension

from ..support.baselines import Regression, draw_independently
from ..support.results import Results

TAUS = 1.0, 1.1, 1.2
"""The inverse temperatures of the sums."""
DRAWS = 2
"""The number of draws of each face, to compare two draws with each other."""
BATCH = 64
"""The number of images in a batch; no image depends on it."""


@dataclasses.dataclass(frozen=True)
class Method:
    """A method that enlarges images.

    Args:
        title: name in the results and on sheets.
        enlarge: function from uint8 ``[M, C, h, w]`` to ``[M * draws, C, H, W]``.
        draws: number of images for each small image.
        bits: name of the model whose bits per dimension belong to the method; None for none.
        publishable: True if its images are made, not taken from the photos.
    """

    title: str
    enlarge: Callable[[Tensor], Tensor]
    draws: int = 1
    bits: str | None = None
    publishable: bool = True


def baselines(train: Tensor, scale_factor: int) -> list[Method]:
    """Return the methods that need no model."""

    def nearest(low_res: Tensor) -> Tensor:
        return train[nearest_neighbors(low_res, train, scale_factor, 256, progress=True)]

    return [
        Method("bicubic", lambda low_res: bicubic(low_res, scale_factor, 256), publishable=False),
        Method("nearest neighbor", nearest, publishable=False),
    ]


def regression(model: Regression) -> Method:
    """Return the method that answers the mean of all images that fit."""

    @torch.inference_mode()
    def enlarge(low_res: Tensor) -> Tensor:
        parts = low_res.split(BATCH)
        return torch.cat([model.answer(part.to(model.device)).cpu() for part in parts])

    return Method("L2 regression", enlarge)


def independent(name: str, model: ConditioningNetwork, seed: int) -> Method:
    """Return the method of A alone, which draws each value by itself."""

    def enlarge(low_res: Tensor) -> Tensor:
        return draw_independently(model, low_res, DRAWS, seed)

    return Method("A alone", enlarge, DRAWS, name)


def prior(name: str, model: PixelModel, size: tuple[int, int], seed: int) -> Method:
    """Return the method of B alone, which sees no small image."""

    def enlarge(low_res: Tensor) -> Tensor:
        n = len(low_res) * DRAWS
        return sample(model, n, image_size=size, seed=seed, max_batch=BATCH, progress=True).cpu()

    return Method("B alone", enlarge, DRAWS, name)


def recursive(title: str, name: str, model: PixelRecursiveSR, seed: int) -> list[Method]:
    """Return the methods of A + B, one for each tau."""

    def at(tau: float) -> Callable[[Tensor], Tensor]:
        return lambda low_res: sample(
            model,
            DRAWS,
            low_res=low_res,
            seed=seed,
            temperature=1 / tau,
            max_batch=BATCH,
            progress=True,
        ).cpu()

    return [Method(f"{title}, tau {tau}", at(tau), DRAWS, name) for tau in TAUS]


def bits(model: PixelModel, images: Tensor) -> float | None:
    """Return bits per dimension of the model's own distribution; None for a regression."""
    if isinstance(model, Regression):
        return None
    return round(next(iter(bits_per_dimension(model, images, BATCH).values())), 4)


def measure(method: Method, answers: Tensor, truth: Tensor, low_res: Tensor) -> Results:
    """Return the scores of `pixelsr.evaluation`, and pSNR and SSIM between two draws of a face.

    If the draws have the true distribution, the photo is one more draw, and two draws differ from
    each other as much as from the photo. `excess` is the pSNR between draws minus the pSNR to the
    photo, in dB: the mean over the faces and its standard error.
    """
    scores = score(answers, truth, low_res, 256, BATCH)
    results: Results = {k: _rounded(v) for k, v in dataclasses.asdict(scores).items()}
    if method.draws > 1:
        one, other = answers.unflatten(0, (-1, method.draws))[:, :2].unbind(1)
        between = each(metrics.psnr, one, other, BATCH)
        to_photo = [each(metrics.psnr, drawn, truth, BATCH) for drawn in (one, other)]
        excess = between - torch.stack(to_photo).mean(0)
        error = excess.std() / math.sqrt(len(excess)) if len(excess) > 1 else excess.new_tensor(0)
        results["psnr_between_draws"] = _rounded(between.mean().item())
        results["excess"] = [_rounded(excess.mean().item()), _rounded(error.item())]
        if scores.ssim is not None:
            between = each(metrics.ssim, one, other, BATCH)
            results["ssim_between_draws"] = _rounded(between.mean().item())
    return results


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
