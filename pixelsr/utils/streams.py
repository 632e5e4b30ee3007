"""Handling of a standard output that cannot be written."""

import io
import os
import sys


def stdout_sentence(error: OSError) -> str:
    """Return the message for a standard output that is closed or on a full disk."""
    return f"standard output cannot be written: {error.strerror or error}"


def give_up_stdout(error: OSError) -> bool:
    """Return True if the error came from writing to standard output, and stop writing to it.

    Such an error names no file. Writing a newline shows if the error persists.
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
        # Python flushes the buffer again at exit, which would fail again.
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), descriptor)
        return True
    return False
