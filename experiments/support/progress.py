"""What an experiment shows while models are trained in turns: a bar each, or lines in a file."""

from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from typing_extensions import Self

from pixelsr.training.meters import Reading


class Show:
    """The `Display` of each model's `Trainer` in its turn.

    Args:
        names: of the models.
        steps: of each.
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
        """It is this model's turn."""
        self.name = name

    def __enter__(self) -> Self:
        """Each trainer enters too: the bars stay as long as the whole experiment does."""
        self.depth += 1
        if self.depth == 1:
            self.progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.depth -= 1
        if self.depth == 0:
            self.progress.stop()

    def update(self, reading: Reading, logged: bool) -> None:
        """After every step of the trainer."""
        task = self.tasks[self.name]
        self.progress.update(task, completed=reading.step, description=str(reading))
        if logged and self.progress.disable:
            self.say(str(reading))

    def validate(self, done: float) -> None:
        """During a validation of the trainer."""
        self.progress.update(self.tasks[self.name], description=f"validating: {done:.0%}")

    def say(self, sentence: str) -> None:
        """Show a sentence that stays."""
        line = f"{self.name}  {sentence}"
        if self.progress.disable:
            print(line, flush=True)
        else:
            self.progress.console.print(line, highlight=False, markup=False)
