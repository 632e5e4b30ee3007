"""Signals as an exception, so that a command ends with a sentence."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


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
