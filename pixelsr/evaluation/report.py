"""The results of an evaluation."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Scores:
    """The metrics of one method's answers, each the mean over images and samples.

    `pixelsr.evaluation.metrics` has the formulas.

    Attributes:
        psnr: peak signal-to-noise ratio in dB; higher is better.
        ssim: structural similarity, at most 1; higher is better. None for too small images.
        ms_ssim: multi-scale structural similarity, likewise.
        consistency: mean squared error between the downsampled answer and low_res, of intensities
            in [0, 1]; lower is better.
    """

    psnr: float
    ssim: float | None
    ms_ssim: float | None
    consistency: float


@dataclasses.dataclass(frozen=True)
class Draws:
    """The settings of the model's sampling.

    Attributes:
        samples: number of samples of each image.
        batch: images at a time.
        seed, temperature, engine: as for `pixelsr.sample`; "auto" is resolved.
    """

    samples: int
    batch: int
    seed: int
    temperature: float
    engine: str


@dataclasses.dataclass(frozen=True)
class Enlargement:
    """The results of enlarging downsampled images.

    Attributes:
        images: number of enlarged images.
        draws: the settings of the model's sampling.
        train: number of training images for the nearest neighbor; None if none were given.
        scores: the scores of "model", "bicubic" and, unless `train` is None, "nearest_neighbor".
    """

    images: int
    draws: Draws
    train: int | None
    scores: dict[str, Scores]


@dataclasses.dataclass(frozen=True)
class Report:
    """The results of an evaluation.

    Attributes:
        network: the model as `PixelModel.describe` gives it.
        images: number of images that bits per dimension are averaged over.
        size: height and width of the images, in pixels.
        bits_per_dimension: see `pixelsr.training.loss.bits_per_dimension`.
        nats_per_image: the same, in nats per image.
        levels: number of levels that the images were quantized to; bits for different numbers of
            levels are not comparable.
        binarize: binarization method for 2 levels; None if the images were black and white.
        enlargement: results of the enlargements; None for a model that enlarges nothing.
        versions: versions of pixelsr and torch.
    """

    network: dict[str, Any]
    images: int
    size: tuple[int, int]
    bits_per_dimension: dict[str, float]
    nats_per_image: dict[str, float]
    levels: int
    binarize: str | None
    enlargement: Enlargement | None
    versions: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON values: every number is finite, undefined ones are None."""
        return {**dataclasses.asdict(self), "size": list(self.size)}
