"""What a run shows while it goes on: a bar on a terminal, now and then a line elsewhere."""

import sys
from typing import Protocol

from typing_extensions import Self

from .meters import Reading


class Display(Protocol):
    """Where a run shows itself."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...

    def update(self, reading: Reading, logged: bool) -> None:
        """After every step; `logged` where the step is written to the log as well."""

    def validate(self, done: float) -> None:
        """During a validation; `done` is the fraction of it."""

    def say(self, sentence: str) -> None:
        """Show a sentence that stays."""


class Bar:
    """A progress bar."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn  # here, as in sampling/api.py

        self.progress = Progress(
            BarColumn(16), TextColumn("{task.percentage:>3.0f}%"), TextColumn("{task.description}")
        )
        self.task = self.progress.add_task("", total=1.0)

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.progress.stop()

    def update(self, reading: Reading, logged: bool) -> None:
        self.progress.update(self.task, completed=reading.used, description=str(reading))

    def validate(self, done: float) -> None:
        self.progress.update(self.task, description=f"validating: {done:.0%}")

    def say(self, sentence: str) -> None:
        self.progress.console.print(sentence, highlight=False, markup=False)


class Lines:
    """Plain lines, for a file or a pipe."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def update(self, reading: Reading, logged: bool) -> None:
        if logged:
            self.say(str(reading))

    def validate(self, done: float) -> None:
        pass

    def say(self, sentence: str) -> None:
        print(sentence, flush=True)


class Silence(Lines):
    """Nothing: for the workers that leave the speaking to the first."""

    def say(self, sentence: str) -> None:
        pass


def stdout_sentence(error: OSError) -> str:
    """Return what is said of a standard output that is closed, or on a full disk."""
    return f"standard output cannot be written: {error.strerror or error}"


def display(speaks: bool = True) -> Display:
    """A bar where stdout is a terminal, lines elsewhere; silence where it does not speak."""
    if not speaks:
        return Silence()
    return Bar() if sys.stdout is not None and sys.stdout.isatty() else Lines()
