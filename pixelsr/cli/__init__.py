"""The `pixelsr` command."""

import importlib

import click

from pixelsr import __version__

from .errors import SentenceGroup

COMMANDS = {
    "enlarge": "pixelsr.cli.enlarge:enlarge",
    "sample": "pixelsr.cli.sample:sample",
    "complete": "pixelsr.cli.complete:complete",
    "evaluate": "pixelsr.cli.evaluate:evaluate",
    "train": "pixelsr.cli.train:train",
    "bench": "pixelsr.cli.bench:bench",
    "doctor": "pixelsr.cli.doctor:doctor",
}


class LazyGroup(SentenceGroup):
    """Subcommands in the order of `COMMANDS`, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name].split(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pixelsr")
def main() -> None:
    """Pixel-autoregressive image models: enlarge tiny photos, train models of your own."""
