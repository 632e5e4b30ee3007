"""The growth of the cost per pixel from an image to one four times as high and wide."""

import dataclasses
from typing import Any

from pixelsr.models import PixelModel
from pixelsr.sampling.plan import Plan
from pixelsr.sampling.plan_cache import plan_of

from .choices import EngineChoice, request_of
from .inputs import check_replay, make_batch
from .timing import median_ratio, seconds

FACTOR = 4
"""The ratio of a side of the large image to a side of the small one."""


@dataclasses.dataclass(frozen=True)
class Growth:
    """The times and cache sizes of a small and a large image, drawn by the cached method.

    Attributes:
        engine, weights: as for `pixelsr.sample`.
        image_sizes: height and width of the small image and of the large one.
        seconds: times of the small image and of the large one, one per round.
        cache_bytes: sizes of the plan's buffers for one image of each size, in float32. The logits
            of a conditioning network, which are computed beforehand, are not included.
    """

    engine: str
    weights: str
    image_sizes: tuple[tuple[int, int], tuple[int, int]]
    seconds: tuple[tuple[float, ...], tuple[float, ...]]
    cache_bytes: tuple[int, int]

    @property
    def time_per_pixel(self) -> float:
        """The time per pixel of the large image over the small one, median over the rounds."""
        (height, width), (large_height, large_width) = self.image_sizes
        small, large = self.seconds
        return median_ratio(large, small) * height * width / (large_height * large_width)

    def as_json(self) -> dict[str, Any]:
        """Return the growth as JSON values."""
        return {**dataclasses.asdict(self), "time_per_pixel": self.time_per_pixel}


def measure_growth(
    model: PixelModel, sampler: EngineChoice, image_size: tuple[int, int], rounds: int
) -> Growth:
    """Time an image of `image_size` and one `FACTOR` times as high and wide, in turns.

    Raises:
        ValueError: an image differs from the network's own draws.
    """
    height, width = image_size
    sizes = (image_size, (height * FACTOR, width * FACTOR))
    batches = [make_batch(model, 1, size) for size in sizes]
    for batch in batches:
        check_replay(f"engine {sampler.engine}", batch, sampler(batch), sampler.weights)
    rows = [
        tuple(seconds(batch.device, sampler, batch) for batch in batches) for _ in range(rounds)
    ]
    small, large = zip(*rows, strict=True)
    first, second = (cache_bytes(plan_of(request_of(batch, sampler.weights))) for batch in batches)
    return Growth(sampler.engine, sampler.weights, sizes, (small, large), (first, second))


def cache_bytes(made: Plan) -> int:
    """Return the size of a plan's buffers for one image, in bytes of float32."""
    width = made.image_size[1]
    values = (
        buffer.rows * (buffer.left + width + buffer.right) * buffer.channels
        for buffer in made.buffers.values()
    )
    return 4 * sum(values)
