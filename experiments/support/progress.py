"""The progress display of models that are trained in turns: a bar each, or lines in a file."""

from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from typing_extensions import Self

from pixelsr.training.meters import Reading


class TrainingProgress:
    """The `Display` that the `Trainer` of each model uses in its turn.

    Args:
        names: names of the models.
        steps: training steps of each model.
    """

    def __init__(self, names: Sequence[str], steps: int) -> None:
        console = Console()
        self.progress = Progress(
            TextColumn("{task.fields[name]}"),
            BarColumn(16),
            TextColumn("{task.percentage:>3.0f}%  {task.description}"),
            console=console,
            disable=not console.is_terminal,
        )
        self.tasks = {name: self.progress.add_task("", total=steps, name=name) for name in names}
        self.depth, self.name = 0, ""

    def begin(self, name: str) -> None:
        """Begin the turn of a model."""
        self.name = name

    def __enter__(self) -> Self:
        """Start the bars at the first entry; each trainer enters again, and they stay."""
        self.depth += 1
        if self.depth == 1:
            self.progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.depth -= 1
        if self.depth == 0:
            self.progress.stop()

    def update(self, reading: Reading, logged: bool) -> None:
        """Show the reading after a training step."""
        task = self.tasks[self.name]
        self.progress.update(task, completed=reading.step, description=str(reading))
        if logged and self.progress.disable:
            self.say(str(reading))

    def validate(self, done: float) -> None:
        """Show the progress of a validation."""
        self.progress.update(self.tasks[self.name], description=f"validating: {done:.0%}")

    def say(self, sentence: str) -> None:
        """Show a sentence that stays."""
        line = f"{self.name}  {sentence}"
        if self.progress.disable:
            print(line, flush=True)
        else:
            self.progress.console.print(line, highlight=False, markup=False)
