"""The command `pixelsr doctor`."""

import click

from .help import examples
from .run import run


@click.command(short_help="Show what can run on this machine.", epilog=examples("pixelsr doctor"))
def doctor() -> None:
    """Show what can run on this machine, what "auto" takes, and why the rest cannot run."""
    run("doctor")
