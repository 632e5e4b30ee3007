"""The public function `pixelsr.evaluation.evaluate`."""

import math

import torch
from torch import Tensor

from pixelsr import __version__
from pixelsr.data.binarize import binarized
from pixelsr.data.load import spread
from pixelsr.data.quantize import to_levels
from pixelsr.models import PixelModel, PixelRecursiveSR
from pixelsr.sampling.engines import choose_engine
from pixelsr.sampling.methods import resolve_engine
from pixelsr.sampling.noise import check_seed, check_temperature
from pixelsr.sampling.plan_cache import plan_of
from pixelsr.sampling.request import check_images, check_positive, make_request
from pixelsr.training.loss import bits_per_dimension, check_size, nats_per_image
from pixelsr.utils.modules import unwrap
from pixelsr.utils.progress import track

from .report import Draws, Report
from .super_resolution import measure_enlargements


def evaluate(
    model: PixelModel,
    images: Tensor,
    *,
    train: Tensor | None = None,
    samples: int = 1,
    max_images: int | None = None,
    batch: int = 32,
    seed: int = 0,
    temperature: float = 1.0,
    engine: str = "auto",
    binarize: str | None = None,
    progress: bool = False,
) -> Report:
    """Evaluate a model on images that it was not trained on.

    Bits per dimension are the mean over all images. For a `PixelRecursiveSR`, the area averages of
    some of them are also enlarged: by the model, by bicubic interpolation, and by the nearest
    neighbor in `train`. Each answer is compared with the true image by PSNR, SSIM, MS-SSIM and
    consistency; each metric is the mean over images and samples (`pixelsr.evaluation.metrics`).

    For a model of fewer than 256 levels, the images and all answers are quantized to
    ``images * levels // 256``; metrics are computed on the levels scaled back to intensities. For a
    model of 2 levels, gray images are first binarized as `binarize` says; the output of bicubic
    interpolation is always thresholded.

    Args:
        model: run in eval mode; its own mode is restored afterwards.
        images: uint8 ``[N, C, H, W]``, 8-bit intensities.
        train: uint8 ``[T, C, H, W]``; None omits the nearest neighbor.
        samples: number of samples of each enlarged image; sample k of the m-th has the index
            m * samples + k in the noise.
        max_images: number of images to enlarge, at even distances in `images`; None, or more than
            N, for all.
        batch: images at a time; no result depends on it, beyond rounding.
        seed, temperature, engine: as for `pixelsr.sample`.
        binarize: for a model of 2 levels, "threshold" or "bernoulli", as in its training config;
            None if `images` and `train` are black and white (`pixelsr.data.binarize.binarized`).
        progress: show progress bars on stderr if it is a terminal.
    Raises:
        ValueError: an argument is invalid; the message names the value and what was expected.
        FloatingPointError: bits per dimension are not finite.
    """
    model = unwrap(model)
    _check_images(model, images, train)
    check_positive("samples", samples)
    check_positive("batch", batch)
    if max_images is not None:
        check_positive("max_images", max_images)
    check_seed(seed)
    temperature = check_temperature(temperature)
    draws = Draws(samples, batch, seed, temperature, _resolve(engine, model, images))
    images = binarized(images, model.levels, binarize)
    if train is not None:
        train = binarized(train, model.levels, binarize)
    bits = _bits(model, images, batch, progress)
    enlargement = None
    if isinstance(model, PixelRecursiveSR):
        chosen = spread(images, max_images)
        enlargement = measure_enlargements(model, chosen, train, draws, progress)
    height, width = images.shape[2:]
    versions = {"pixelsr": __version__, "torch": torch.__version__}
    return Report(
        model.describe(),
        len(images),
        (height, width),
        bits,
        {name: nats_per_image(value, images) for name, value in bits.items()},
        model.levels,
        binarize,
        enlargement,
        versions,
    )


def _check_images(model: PixelModel, images: Tensor, train: Tensor | None) -> None:
    check_images("images", images, model.colors, None)
    check_size(model, images.shape[2:])
    if train is None:
        return
    if not isinstance(model, PixelRecursiveSR):
        raise ValueError(
            f"{type(model).__name__} enlarges nothing and does not use training images, "
            "expected train=None"
        )
    height, width = images.shape[2:]
    check_images("train", train, model.colors, (height, width))


def _resolve(engine: str, model: PixelModel, images: Tensor) -> str:
    """Return the resolved engine; for a model that draws nothing here, only check the name."""
    choose_engine(engine, model.device)
    if not isinstance(model, PixelRecursiveSR):
        return engine
    height, width = (side // model.scale_factor for side in images.shape[2:])
    low_res = torch.zeros(1, model.colors, height, width, dtype=torch.uint8, device="cpu")
    request = make_request(model, low_res=low_res)
    return resolve_engine(engine, plan_of(request), request).name


def _bits(model: PixelModel, images: Tensor, batch: int, progress: bool) -> dict[str, float]:
    """Return bits per dimension, mean over all images; batch by batch for the progress bar."""
    totals: dict[str, float] = {}
    for some in track(images.split(batch), "bits per dimension", progress):
        quantized = to_levels(some, model.levels)
        for name, bits in bits_per_dimension(model, quantized, batch).items():
            totals[name] = totals.get(name, 0.0) + bits * len(some)
    for name, total in totals.items():
        if not math.isfinite(total):
            raise FloatingPointError(
                f"bits per dimension of the model ({name}) are {total}, expected a finite "
                "number: its weights may hold NaN or infinity"
            )
    return {name: total / len(images) for name, total in totals.items()}
