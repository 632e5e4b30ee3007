"""A progress bar on stderr, if it is a terminal."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress, ProgressColumn

T = TypeVar("T")


def progress_bar(*columns: ProgressColumn, show: bool = True) -> Progress:
    """Return a bar that vanishes at its end, with more columns than the usual ones.

    It is hidden if `show` is false or stderr is no terminal.
    """
    console = Console(stderr=True)
    hidden = not (show and console.is_terminal)
    every = (*Progress.get_default_columns(), *columns)
    return Progress(*every, console=console, transient=True, disable=hidden)


def track(items: Sequence[T], description: str, show: bool) -> Iterable[T]:
    """Iterate over the items, with a progress bar if `show` is true and stderr is a terminal."""
    with progress_bar(show=show) as bar:
        yield from bar.track(items, description=description)
