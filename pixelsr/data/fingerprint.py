"""What tells whether pictures are still those that were prepared before."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path


def fingerprint(parts: Iterable[object]) -> str:
    """A digest of the parts, as hexadecimal digits; each is taken as `str` gives it."""
    digest = hashlib.sha256()
    for part in parts:
        text = os.fsencode(str(part))
        digest.update(b"%d:" % len(text) + text)  # with its length, so that no two run together
    return digest.hexdigest()[:32]


def file_facts(path: Path) -> str:
    """Size, time of the last change and permissions of a file, in one string.

    Permissions, because a file that could not be read and was passed over may be readable now.
    """
    try:
        facts = path.stat()
    except OSError as error:  # a link to nowhere
        return f"errno {error.errno}"
    return f"{facts.st_size} {facts.st_mtime_ns} {facts.st_mode}"
