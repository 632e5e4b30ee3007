"""The results of the benchmarks."""

import dataclasses
import statistics
from typing import Any, TypeVar

from .growth import Growth
from .timing import median_ratio

CACHED, CROPPED_LOOP, NAIVE_LOOP = "cached", "row-cropped loop", "naive loop"
CACHED_LOOP = "cached loop"
DENSE, CROPPED = "forward, dense", "forward, cropped"
LOOPS, FORWARDS = (CACHED_LOOP, CROPPED_LOOP, NAIVE_LOOP), (DENSE, CROPPED)


T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Measurement:
    """The times of one way to draw a batch, or to run the network on it.

    Attributes:
        method: `CACHED`, one of `LOOPS`, whose times are extrapolated from steps, or one of
            `FORWARDS`, which draw nothing.
        engine, weights: as for `pixelsr.sample`; None if they do not apply.
        batch: number of images.
        seconds: time for the whole batch in each round.
        forward_seconds: time of a dense forward pass of the same batch, run right after each.
    """

    method: str
    engine: str | None
    weights: str | None
    batch: int
    seconds: tuple[float, ...]
    forward_seconds: tuple[float, ...]

    @property
    def name(self) -> str:
        """The method, engine and weights as readable text."""
        weights = None if self.weights == "model" else self.weights
        return ", ".join(part for part in (self.method, self.engine, weights) if part)

    @property
    def forward_passes(self) -> float:
        """The time in dense forward passes: the median of the rounds' ratios."""
        return median_ratio(self.seconds, self.forward_seconds)

    @property
    def images_per_second(self) -> float:
        """The throughput in the median round."""
        return self.batch / statistics.median(self.seconds)

    def as_json(self) -> dict[str, Any]:
        """Return the measurement as JSON values."""
        return {
            **dataclasses.asdict(self),
            "forward_passes": self.forward_passes,
            "images_per_second": self.images_per_second,
            "extrapolated": self.method in LOOPS,
        }


def times_faster(result: Measurement, rival: Measurement) -> float:
    """Return the speedup over a rival: the median ratio over the rounds that both ran."""
    return median_ratio(rival.seconds, result.seconds)


@dataclasses.dataclass(frozen=True)
class Report:
    """The results of `measure`.

    Attributes:
        machine: device, threads and versions, as `timing.machine` returns them.
        date: date and time in UTC, ISO 8601.
        model: the network as `PixelModel.describe` gives it.
        image_size: height and width of the images.
        results: the measurements, in the order of the batches.
        growth: the growth of each engine that is not slow.
    """

    machine: dict[str, Any]
    date: str
    model: dict[str, Any]
    image_size: tuple[int, int]
    results: tuple[Measurement, ...]
    growth: tuple[Growth, ...]

    @property
    def batches(self) -> list[int]:
        """The batch sizes, in the order in which they were measured."""
        return list(dict.fromkeys(result.batch for result in self.results))

    def of_batch(self, batch: int) -> list[Measurement]:
        """Return the measurements of one batch size."""
        return [result for result in self.results if result.batch == batch]

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            **dataclasses.asdict(self),
            "results": [result.as_json() for result in self.results],
            "growth": [growth.as_json() for growth in self.growth],
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Report":
        """Build a report from the output of `as_json`."""
        results = tuple(_from_json(Measurement, each) for each in values["results"])
        growth = tuple(_from_json(Growth, each) for each in values["growth"])
        return _from_json(cls, {**values, "results": results, "growth": growth})


def _from_json(kind: type[T], values: dict[str, Any]) -> T:
    """Build a dataclass from JSON values, with tuples in place of lists."""
    return kind(
        **{field.name: _frozen(values[field.name]) for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    )


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
