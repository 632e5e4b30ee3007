"""A progress bar on stderr, if it is a terminal."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich import progress
from rich.console import Console

T = TypeVar("T")


def track(items: Sequence[T], description: str, show: bool) -> Iterable[T]:
    """Iterate over the items, with a progress bar if `show` is true and stderr is a terminal."""
    console = Console(stderr=True)
    hidden = not (show and console.is_terminal)
    return progress.track(items, description, console=console, transient=True, disable=hidden)
