"""The command `pixelsr`."""

import importlib

import click

from pixelsr import __version__

from .errors import SentenceGroup

COMMANDS = ("enlarge", "sample", "complete", "evaluate", "train", "bench", "doctor")
"""Each is a function of the module `pixelsr.cli.commands.NAME`."""


class LazyGroup(SentenceGroup):
    """The subcommands in the order of `COMMANDS`, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"pixelsr.cli.commands.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pixelsr")
def main() -> None:
    """Pixel-autoregressive image models: enlarge tiny photos, train models of your own."""
