"""Signal handling: signals raise an exception, or request a stop after the current step."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from typing_extensions import Self


class Ended(BaseException):
    """The exception for a signal that ends this process.

    Attributes:
        number: the number of the signal.
        status: the exit status of the process, 128 + number, as in shells.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.number, self.status = number, 128 + number


def as_ended(error: Ended | KeyboardInterrupt) -> Ended:
    """Return an `Ended`, also for the KeyboardInterrupt that Ctrl-C raises."""
    return error if isinstance(error, Ended) else Ended(signal.SIGINT)


def end_signals() -> list[signal.Signals]:
    """Return SIGTERM, and SIGHUP if the system has it and it is not ignored, as under `nohup`."""
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is None or signal.getsignal(hangup) is signal.SIG_IGN:
        return [signal.SIGTERM]
    return [signal.SIGTERM, hangup]


@contextlib.contextmanager
def signals_raise() -> Iterator[None]:
    """Make SIGTERM and SIGHUP raise `Ended` in this context; do nothing outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = {number: signal.signal(number, _raise) for number in end_signals()}
    try:
        yield
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Ended(number)


NOTICE = b"\nstopping: saving a checkpoint; press Ctrl-C to quit without\n"


class Interrupt:
    """A context in which Ctrl-C, SIGTERM and SIGHUP only set `requested`.

    After the first signal, SIGTERM and SIGHUP are ignored, because launchers and terminals send
    them more than once. Ctrl-C then acts as usual.

    Args:
        alone: False for one of several workers. Ctrl-C is then ignored too after the first signal,
            because `torchrun` forwards what the terminal has already sent to each worker.
    """

    def __init__(self, alone: bool = True) -> None:
        self.number: int | None = None
        self.alone = alone
        self._usual: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Return True after a signal."""
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
            os.write(2, NOTICE)  # print is not reentrant, and may have been interrupted
