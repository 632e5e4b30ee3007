"""A progress bar on stderr, where that is a terminal."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich import progress
from rich.console import Console

T = TypeVar("T")


def track(items: Sequence[T], description: str, show: bool) -> Iterable[T]:
    """The items one by one; if `show`, a bar tells how many of them are done."""
    console = Console(stderr=True)
    hidden = not (show and console.is_terminal)
    return progress.track(items, description, console=console, transient=True, disable=hidden)
