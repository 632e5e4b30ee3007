"""Errors of the library as one sentence at the command line."""

import errno
from typing import Any

import click
import torch


class SentenceGroup(click.Group):
    """A group whose commands end with one sentence on stderr and exit status 1, not a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (ValueError, FloatingPointError, OSError) as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise
            raise click.ClickException(sentence(error)) from error
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise click.ClickException(
                "out of memory; smaller batches need less: --max-batch where pictures are drawn, "
                "--batch of train and evaluate"
            ) from error


def is_out_of_memory(error: Exception) -> bool:
    """For memory of the CPU, torch has no exception of its own."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return "DefaultCPUAllocator: can't allocate memory" in str(error)


def sentence(error: Exception) -> str:
    """What the error says, without Python's "[Errno 13]"."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    return str(error)
