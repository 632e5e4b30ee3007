"""Errors of the library, shown as one sentence."""

import errno
import sys
from typing import Any

import click

from pixelsr.utils.signals import Ended, as_ended, signals_raise
from pixelsr.utils.streams import give_up_stdout, stdout_sentence


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
            if give_up_stdout(error):
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


def warn(sentence: str) -> None:
    """Show a sentence on stderr."""
    click.echo(sentence, err=True)


def is_out_of_memory(error: Exception) -> bool:
    """Return True if memory ran out; torch has no exception of its own for CPU memory."""
    torch = sys.modules.get("torch")  # an error of torch comes after its import
    if isinstance(error, MemoryError) or (torch and isinstance(error, torch.OutOfMemoryError)):
        return True
    return "DefaultCPUAllocator: can't allocate memory" in str(error)


def sentence(error: Exception) -> str:
    """Return the message of an error, without Python's "[Errno 13]"."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    return str(error)
