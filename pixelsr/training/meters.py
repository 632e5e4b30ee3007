"""The progress, speed and best validation of a run."""

import collections
import dataclasses
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True)
class Reading:
    """The progress of a run; bits per dimension and speed are means over the last steps.

    Args:
        step: number of steps taken.
        seconds: time spent, over all sessions of the run.
        used: fraction of the budget that is used, 0 to 1.
        bits: bits per dimension of the model's own distribution on the training images.
        images_per_second: training speed in this session.
        seconds_left: time until the budget is used, at the speed of this session.
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
    """A meter that turns the steps of one session into readings.

    Args:
        window: number of steps that the means are taken over.
        seconds, used: time spent and budget used before this session.
        bits: bits per dimension of the last steps of the previous session.
    """

    def __init__(
        self, window: int, seconds: float, used: float, bits: Iterable[float] = ()
    ) -> None:
        self._begin = self._last = seconds
        self._used = used
        self.bits = collections.deque(bits, maxlen=window)
        self._steps: collections.deque[tuple[float, int]] = collections.deque(maxlen=window)

    def skip_to(self, seconds: float) -> None:
        """Exclude the time until `seconds` from the speed: there was no training in it."""
        self._last = seconds

    def read(self, step: int, seconds: float, used: float, bits: float, batch: int) -> Reading:
        """Return the reading after a step on `batch` images at `bits` bits per dimension."""
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
        bits: its bits per dimension; infinite before the first validation.
        stale: number of validations since the best one.
        measured: the step of the last validation.
    """

    bits: float = float("inf")
    stale: int = 0
    measured: int = 0

    def take(self, bits: float) -> bool:
        """Record one validation; return True if it is a new best."""
        better = bits < self.bits
        self.bits, self.stale = (bits, 0) if better else (self.bits, self.stale + 1)
        return better

    def is_stale(self, patience: int | None) -> bool:
        """Return True after `patience` validations without a new best; never if it is None."""
        return patience is not None and self.stale >= patience
