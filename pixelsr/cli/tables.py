"""Tables on standard output."""

from rich import box
from rich.console import Console
from rich.table import Table


def make_console(width: int | None = None) -> Console:
    """Return a console that prints text as it is; None takes the width of the terminal."""
    return Console(width=width, highlight=False, emoji=False, markup=False)


def make_table(*heads: str, name_column: int = 0) -> Table:
    """Return an empty table with numbers aligned right, and column `name_column` aligned left."""
    table = Table(box=box.SIMPLE_HEAD)
    for k, head in enumerate(heads):
        table.add_column(head, justify="left" if k == name_column else "right")
    return table


def by(size: tuple[int, int]) -> str:
    """Return the text of a height and width, such as "32x16", the width first."""
    height, width = size
    return f"{width}x{height}"
