"""The layout of help pages: options in sections, and examples at the end."""

from collections.abc import Callable
from typing import Any

import click

REST = "Help"


class GroupedOption(click.Option):
    """An option that the help lists under the heading `group`."""

    def __init__(self, *arguments: Any, group: str = REST, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose help lists its options under headings, in the order of their first use."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                groups.setdefault(getattr(parameter, "group", REST), []).append(record)
        for group, records in groups.items():
            with formatter.section(group):
                formatter.write_dl(records)


def option_of(group: str) -> Callable[..., Any]:
    """Return `click.option` for one heading, with defaults shown."""

    def option(*names: str, **attributes: Any) -> Any:
        attributes.setdefault("show_default", True)
        return click.option(*names, cls=GroupedOption, group=group, **attributes)

    return option


def examples(*lines: str) -> str:
    """Return an epilog of example command lines."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])
