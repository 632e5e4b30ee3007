"""Standard output that cannot be written."""

import io
import os
import sys


def stdout_sentence(error: OSError) -> str:
    """Return the sentence about a standard output that is closed, or on a full disk."""
    return f"standard output cannot be written: {error.strerror or error}"


def give_up_stdout(error: OSError) -> bool:
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
