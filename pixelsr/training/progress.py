"""The progress display of a run: a bar on a terminal, occasional lines elsewhere."""

import sys
from typing import Protocol

from typing_extensions import Self

from .meters import Reading


class Display(Protocol):
    """The display that a run reports its progress to."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...

    def update(self, reading: Reading, logged: bool) -> None:
        """Show a reading; called after every step, with `logged` if the step is also logged."""

    def validate(self, done: float) -> None:
        """Show the progress of a validation; `done` is the fraction that is finished."""

    def say(self, sentence: str) -> None:
        """Show a sentence permanently."""


class Bar:
    """A progress bar on a terminal."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn  # lazy, as in sampling/api.py

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
    """A display that shows nothing, for all workers but the first."""

    def say(self, sentence: str) -> None:
        pass


def display(speaks: bool = True) -> Display:
    """Return a bar if stdout is a terminal, else lines; `Silence` unless `speaks`."""
    if not speaks:
        return Silence()
    return Bar() if sys.stdout is not None and sys.stdout.isatty() else Lines()
