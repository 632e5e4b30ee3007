"""How well and how fast a run goes, and which validation was the best."""

import collections
import dataclasses
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True)
class Reading:
    """Where a run stands; bits per dimension and speed are means over the last steps.

    Args:
        step: steps taken.
        seconds: spent, over all sessions of the run.
        used: fraction of the budget, 0 to 1.
        bits: per dimension, of the model's own distribution, on the training images.
        images_per_second: trained on in this session.
        seconds_left: until the budget is used, at the speed of this session.
    """

    step: int
    seconds: float
    used: float
    bits: float
    images_per_second: float
    seconds_left: float

    def __str__(self) -> str:
        minutes, seconds = divmod(round(self.seconds_left), 60)
        return (
            f"step {self.step}  {self.bits:.3f} bits/dim  "
            f"{self.images_per_second:.3g} images/s  "
            f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d} left"
        )


class Meter:
    """Takes the steps of one session, and gives readings.

    Args:
        window: steps that a mean is over.
        seconds, used: where the session begins.
        bits: of the last steps of the session before.
    """

    def __init__(
        self, window: int, seconds: float, used: float, bits: Iterable[float] = ()
    ) -> None:
        self._begin = self._last = seconds
        self._used = used
        self.bits = collections.deque(bits, maxlen=window)
        self._steps: collections.deque[tuple[float, int]] = collections.deque(maxlen=window)

    def skip_to(self, seconds: float) -> None:
        """Leave out the time until `seconds`, in which there was no training."""
        self._last = seconds

    def read(self, step: int, seconds: float, used: float, bits: float, batch: int) -> Reading:
        """The reading after a step of `batch` images that had `bits` per dimension."""
        self.bits.append(bits)
        self._steps.append((seconds - self._last, batch))
        self._last = seconds
        durations, images = zip(*self._steps, strict=True)
        return Reading(
            step=step,
            seconds=seconds,
            used=used,
            bits=sum(self.bits) / len(self.bits),
            images_per_second=sum(images) / sum(durations),
            seconds_left=(1 - used) * (seconds - self._begin) / max(used - self._used, 1e-9),
        )


@dataclasses.dataclass
class EarlyStopping:
    """The best validation so far.

    Args:
        bits: per dimension; infinite before the first validation.
        stale: validations since.
        measured: the step of the last validation.
    """

    bits: float = float("inf")
    stale: int = 0
    measured: int = 0

    def take(self, bits: float) -> bool:
        """Take one validation; true where it is a new best."""
        better = bits < self.bits
        self.bits, self.stale = (bits, 0) if better else (self.bits, self.stale + 1)
        return better

    def is_stale(self, patience: int | None) -> bool:
        """True after `patience` validations without a new best; never where that is None."""
        return patience is not None and self.stale >= patience
