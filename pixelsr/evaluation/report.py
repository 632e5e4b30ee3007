"""What an evaluation found."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Scores:
    """How near the answers of one method are to the true images.

    Each is the mean over images, and over the samples of each, of a figure of one image;
    `pixelsr.evaluation.metrics` has the formulas.

    Attributes:
        psnr: in dB; higher is nearer.
        ssim: up to 1, higher is nearer; None where it is not defined at this size.
        ms_ssim: the same.
        consistency: mean squared error of the answer, made small again, against the small image,
            of intensities in [0, 1]; lower is nearer.
    """

    psnr: float
    ssim: float | None
    ms_ssim: float | None
    consistency: float


@dataclasses.dataclass(frozen=True)
class Draws:
    """How the model drew.

    Attributes:
        samples: of each image.
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
    """How well small images were enlarged.

    Attributes:
        images: how many were.
        draws: how the model drew them.
        train: images among which the nearest neighbors were sought; None where none were given.
        scores: of "model", "bicubic" and, where `train` is known, "nearest_neighbor".
    """

    images: int
    draws: Draws
    train: int | None
    scores: dict[str, Scores]


@dataclasses.dataclass(frozen=True)
class Report:
    """What an evaluation found.

    Attributes:
        network: the model as `PixelModel.describe` gives it.
        images: how many the bits per dimension are the mean of.
        size: height and width of the images, in pixels.
        bits_per_dimension: see `pixelsr.training.loss.bits_per_dimension`.
        nats_per_image: the same, of a whole image.
        levels: of the model, that the images were quantized to; bits of other levels do not
            compare.
        binarize: with 2 levels, how; None where the images were black and white.
        enlargement: None for a model that enlarges nothing.
        versions: of pixelsr and torch.
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
        """The report as JSON values; every number in it is finite, what is not defined is None."""
        return {**dataclasses.asdict(self), "size": list(self.size)}
