"""Writes docs/commands/: a page for each command, made from its help.

python docs/commands.py
"""

from pathlib import Path

import click

from pixelsr.cli import COMMANDS, main

FOLDER = Path(__file__).parent / "commands"


def page(name: str) -> str:
    """The page of a command, in Markdown."""
    with click.Context(main, info_name="pixelsr", **main.context_settings) as parent:
        command = main.get_command(parent, name)
        assert command is not None
        with click.Context(command, info_name=name, parent=parent, terminal_width=100) as context:
            text = command.get_help(context)
    return f"# pixelsr {name}\n\n{command.get_short_help_str(200)}\n\n```text\n{text}\n```\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in COMMANDS:
        (FOLDER / f"{name}.md").write_text(page(name))
