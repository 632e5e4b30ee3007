"""Signals as an exception, or as a request to stop after the current step."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from typing_extensions import Self


class Ended(BaseException):
    """A signal has asked this process to end.

    Attributes:
        number: of the signal.
        status: what the process exits with, 128 + number, as shells have it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.number, self.status = number, 128 + number


def as_ended(error: Ended | KeyboardInterrupt) -> Ended:
    """Return what Ctrl-C raises as the same exception as other signals."""
    return error if isinstance(error, Ended) else Ended(signal.SIGINT)


def end_signals() -> list[signal.Signals]:
    """Return SIGTERM and SIGHUP; SIGHUP only where the system has it and it is not ignored.

    `nohup` lets a command ignore it.
    """
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is None or signal.getsignal(hangup) is signal.SIG_IGN:
        return [signal.SIGTERM]
    return [signal.SIGTERM, hangup]


@contextlib.contextmanager
def signals_raise() -> Iterator[None]:
    """Run a context in which SIGTERM and SIGHUP raise `Ended`; only the main thread can do so."""
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
