"""A command's options in a TOML file: `lr = 0.002` for `--lr 0.002`."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import tomlkit
from tomlkit.exceptions import TOMLKitError


def read_config(context: click.Context, option: click.Parameter, path: Path | None) -> None:
    """The callback of --config: what the file says stands for what the command line does not.

    Raises:
        click.BadParameter: the file is not TOML, or has a key that is no option of the command.
    """
    if path is None:
        return
    try:
        values = tomlkit.parse(path.read_bytes()).unwrap()
    except (TOMLKitError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{path} is not TOML: {error}") from None
    parameters = [known for known in context.command.params if known.expose_value]
    names = {_key(parameter): parameter.name for parameter in parameters}
    for key, value in values.items():
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
    """TOML that `read_config` reads, of parameters by name; None and what is not here are left out.

    Args:
        values: by the names that the command's function has for them.
    """
    given = {
        _key(parameter): values[parameter.name]
        for parameter in command.params
        if parameter.name in values and values[parameter.name] is not None
    }
    return tomlkit.dumps(given)


def _key(parameter: click.Parameter) -> str:
    """The option without its dashes."""
    if isinstance(parameter, click.Argument):
        return str(parameter.name)
    return max(parameter.opts, key=len).lstrip("-")


def _nearest(key: str, names: list[str]) -> str:
    nearest = difflib.get_close_matches(key, names, n=1, cutoff=0)
    return f"the nearest option is {nearest[0]!r}"
