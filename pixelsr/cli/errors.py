"""Errors of the library as one sentence at the command line."""

import errno
import io
import os
import sys
from typing import Any

import click
import torch

from pixelsr.training.progress import stdout_sentence
from pixelsr.utils.signals import Ended, as_ended, signals_raise


class EndsWithSentence(click.Command):
    """A command that ends with one sentence on stderr and exit status 1, not with a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with signals_raise():
                return super().invoke(ctx)
        except (Ended, KeyboardInterrupt) as error:
            ended = as_ended(error)
            click.echo(f"Error: {ended}", err=True)
            ctx.exit(ended.status)
        except OSError as error:
            if _give_up_stdout(error):
                raise click.ClickException(stdout_sentence(error)) from error
            if error.errno == errno.EPIPE:  # of stderr: nobody would read it
                raise
            raise click.ClickException(sentence(error)) from error
        except (ValueError, FloatingPointError) as error:
            raise click.ClickException(sentence(error)) from error
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise click.ClickException(
                "out of memory; smaller batches need less: --max-batch where images are drawn, "
                "--batch of train and evaluate"
            ) from error


class SentenceGroup(EndsWithSentence, click.Group):
    """A group whose commands end with a sentence."""


def is_out_of_memory(error: Exception) -> bool:
    """For memory of the CPU, torch has no exception of its own."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return "DefaultCPUAllocator: can't allocate memory" in str(error)


def _give_up_stdout(error: OSError) -> bool:
    """Return True where the error is that of writing to standard output, and write no more to it.

    Such an error names no file. A new line is written to find out whether it comes again.
    """
    if error.errno is None or error.filename is not None or sys.stdout is None:
        return False
    try:
        descriptor = sys.stdout.fileno()
    except io.UnsupportedOperation:
        return False
    try:
        os.write(descriptor, b"\n")
    except OSError:
        # What is left in its buffer is written when Python exits, and would fail again.
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), descriptor)
        return True
    return False


def sentence(error: Exception) -> str:
    """What the error says, without Python's "[Errno 13]"."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    return str(error)
