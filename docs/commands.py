"""Write docs/commands/: a page for each command, made from its help.

python -m docs.commands
"""

from pathlib import Path

import click

from experiments.__main__ import experiment
from pixelsr.cli import COMMANDS, main

FOLDER = Path(__file__).parent / "commands"


def pages() -> dict[str, str]:
    """Return the page of each command, in Markdown."""
    with click.Context(main, info_name="pixelsr", **main.context_settings) as parent:
        made = {name: page(main.get_command(parent, name), name, parent) for name in COMMANDS}
    return made | {"experiments": page(experiment, "python -m experiments")}


def page(command: click.Command | None, name: str, parent: click.Context | None = None) -> str:
    """Return the page of one command."""
    assert command is not None
    settings = {"help_option_names": ["-h", "--help"]}
    with click.Context(
        command, info_name=name, parent=parent, terminal_width=100, **settings
    ) as context:
        text = command.get_help(context)
    short = command.get_short_help_str(200)
    return f"# {context.command_path}\n\n{short}\n\n```text\n{text}\n```\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / f"{name}.md").write_text(text)
