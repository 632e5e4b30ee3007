"""The start of the work of a command, which imports torch."""

import importlib
from typing import Any

import click

from .options import THREADS_KEY


def run(name: str, **options: Any) -> None:
    """Run `pixelsr.cli.NAME.run` with the options of the command, on the threads of --threads."""
    set_threads()
    importlib.import_module(f"pixelsr.cli.{name}").run(**options)


def set_threads() -> None:
    """Import torch, and set the number of its threads by --threads."""
    import torch

    threads = click.get_current_context().meta.get(THREADS_KEY)
    if threads is not None:
        torch.set_num_threads(threads)
