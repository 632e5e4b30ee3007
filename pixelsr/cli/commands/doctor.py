"""The command `pixelsr doctor`."""

import click

from .help import examples
from .run import run


@click.command(epilog=examples("pixelsr doctor"))
def doctor() -> None:
    """Tell what can run on this machine, and why not."""
    run("doctor")
