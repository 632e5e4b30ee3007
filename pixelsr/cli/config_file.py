"""TOML files of options: `lr = 0.002` for `--lr 0.002`."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from pixelsr.utils.toml_file import read_toml


def read_config(context: click.Context, option: click.Parameter, path: Path | None) -> None:
    """Take the options of a TOML file that the command line does not give; callback of --config.

    Raises:
        click.BadParameter: the file is not TOML, or has a key that is no option of the command.
    """
    if path is None:
        return
    try:
        values = read_toml(path)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    parameters = [known for known in context.command.params if known.expose_value]
    names = {_key(parameter): parameter.name for parameter in parameters}
    for key, value in values.items():
        if isinstance(value, dict):
            raise click.BadParameter(
                f"{path} has the table [{key}]: options stand at the top level, in no table"
            )
        if key not in names:
            raise click.BadParameter(f"{path} has the key {key!r}; {_nearest(key, list(names))}")
        if not isinstance(value, str | int | float):
            raise click.BadParameter(
                f"{path}: {key} must be a text, a number, true or false, got {value!r}"
            )
    # As text, so that 2.7 for a whole number is refused as it is on the command line.
    context.default_map = {
        str(names[key]): str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in values.items()
    }


def write_config(command: click.Command, values: Mapping[str, Any]) -> str:
    """Return TOML for `read_config`, without options that are None or unknown to the command.

    Args:
        values: by the names that the command's function has for them.
    """
    import tomlkit

    given = {
        _key(parameter): values[parameter.name]
        for parameter in command.params
        if parameter.name in values and values[parameter.name] is not None
    }
    return tomlkit.dumps(given)


def _key(parameter: click.Parameter) -> str:
    """Return the name of an option without its dashes."""
    if isinstance(parameter, click.Argument):
        return str(parameter.name)
    return max(parameter.opts, key=len).lstrip("-")


def _nearest(key: str, names: list[str]) -> str:
    """Return the nearest option by abbreviation or spelling, or else a list of all."""
    key = key.lower().replace("_", "-")
    short = [name for name in names if _abbreviates(name, key) or _abbreviates(key, name)]
    similar = difflib.get_close_matches(key, short, 1, 0) or difflib.get_close_matches(
        key, names, 1, 0.7
    )
    if similar:
        return f"the nearest option is {similar[0]!r}"
    return f"the options are {', '.join(names)}"


def _abbreviates(short: str, word: str) -> bool:
    """Return True for "val" and "validation", and for "lr" and "learning-rate"."""
    return word.startswith(short) or short == "".join(part[:1] for part in word.split("-"))
