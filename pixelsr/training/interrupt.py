"""Ctrl-C and SIGTERM as a request to stop, instead of an end in the middle of a step."""

import os
import signal
from types import FrameType
from typing import Any

from typing_extensions import Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)
NOTICE = b"\nfinishing the step and saving; once more to stop without\n"


class Interrupt:
    """A context in which the first signal sets `requested`, and a second one acts as usual."""

    def __init__(self) -> None:
        self.requested = False
        self._usual: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._usual = {number: signal.signal(number, self._request) for number in SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore()

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        os.write(2, NOTICE)  # print may be in the middle of a line, and cannot be entered twice
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._usual.items():
            signal.signal(number, handler)
