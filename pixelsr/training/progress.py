"""The progress display of a run: a bar on a terminal, occasional lines elsewhere."""

import sys
from collections.abc import Sequence

from typing_extensions import Self

from .meters import Reading


class Display:
    """The display of one run, or of the runs of several models that take turns.

    Args:
        names: the names of the models, each with a bar of its own; a single model needs no name.
        speaks: False to show nothing, for all workers but the first.
    """

    def __init__(self, names: Sequence[str] = ("",), speaks: bool = True) -> None:
        from rich.progress import BarColumn, Progress, TextColumn  # lazy, as in sampling/api.py

        on_terminal = sys.stdout is not None and sys.stdout.isatty()
        self.progress = Progress(
            *([TextColumn("{task.fields[name]}")] if any(names) else []),
            BarColumn(16),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.description}"),
            disable=not (speaks and on_terminal),
        )
        self.tasks = {name: self.progress.add_task("", total=1.0, name=name) for name in names}
        self.speaks, self.name, self.depth = speaks, names[0], 0

    def begin(self, name: str) -> None:
        """Begin the turn of a model."""
        self.name = name

    def __enter__(self) -> Self:
        """Start the bars at the first entry; runs that take turns enter again and keep them."""
        self.depth += 1
        if self.depth == 1 and not self.progress.disable:
            self.progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.depth -= 1
        if self.depth == 0 and not self.progress.disable:
            self.progress.stop()

    def update(self, reading: Reading, logged: bool) -> None:
        """Show a reading; called after every step, with `logged` if the step is also logged."""
        task = self.tasks[self.name]
        self.progress.update(task, completed=reading.used, description=str(reading))
        if logged and self.progress.disable:
            self.say(str(reading))

    def validate(self, done: float) -> None:
        """Show the progress of a validation; `done` is the fraction that is finished."""
        self.progress.update(self.tasks[self.name], description=f"validating: {done:.0%}")

    def say(self, sentence: str) -> None:
        """Show a sentence permanently."""
        line = f"{self.name}  {sentence}" if self.name else sentence
        if not self.progress.disable:
            self.progress.console.print(line, highlight=False, markup=False)
        elif self.speaks:
            print(line, flush=True)
