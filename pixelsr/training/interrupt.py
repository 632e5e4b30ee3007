"""Signals as a request to stop, instead of an end in the middle of a step."""

import contextlib
import os
import signal
from types import FrameType
from typing import Any

from typing_extensions import Self

from pixelsr.signals import end_signals

NOTICE = b"\nstopping: saving a checkpoint; press Ctrl-C to quit without\n"


class Interrupt:
    """A context in which Ctrl-C, SIGTERM and SIGHUP only set `requested`.

    After the first signal, SIGTERM and SIGHUP are ignored: launchers and terminals send them more
    than once. Ctrl-C then acts as usual.

    Args:
        alone: false for one of several workers, where Ctrl-C is ignored then too: `torchrun` passes
            on what the terminal has sent to each already.
    """

    def __init__(self, alone: bool = True) -> None:
        self.number: int | None = None
        self.alone = alone
        self._usual: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """True after a signal."""
        return self.number is not None

    def __enter__(self) -> Self:
        numbers = (signal.SIGINT, *end_signals())
        self._usual = {number: signal.signal(number, self._request) for number in numbers}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._usual.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        for other, handler in self._usual.items():
            usual = other == signal.SIGINT and self.alone
            signal.signal(other, handler if usual else signal.SIG_IGN)
        with contextlib.suppress(OSError):  # the terminal may be gone
            os.write(2, NOTICE)  # print may be in the middle of a line, and cannot be entered twice
