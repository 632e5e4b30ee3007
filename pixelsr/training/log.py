"""The log of a run: one JSON object a line."""

import contextlib
import json
from pathlib import Path
from typing import Any

from pixelsr.utils import strict_files
from pixelsr.utils.atomic_write import write_whole


class Log:
    """Appends entries, each with its "step", to those that the checkpoint knows of.

    Args:
        path: the file; it is made, or cut back to the entries up to `first_step`, and the
            validations up to `measured`. Others are of a stretch that was lost.
        first_step: where the run starts or resumes.
        measured: the step of the last validation before.
    Raises:
        ValueError: the file holds a line that is no entry, other than a last one that was cut off;
            it is left as it is.
        OSError: it cannot be read or written.
    """

    def __init__(self, path: Path, first_step: int, measured: int = 0) -> None:
        self.path = path
        lines = _lines(path) if first_step and path.is_file() else []
        kept = [line for line, entry in lines if _is_kept(entry, first_step, measured)]
        write_whole(path, "".join(f"{line}\n" for line in kept).encode())

    def write(self, **entry: Any) -> None:
        """Append one entry."""
        try:
            with open(self.path, "a") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise OSError(f"{self.path} cannot be written: {error.strerror or error}") from None


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the entries of a log.

    Raises:
        ValueError: the file holds a line that is no entry, other than a last one that was cut off.
        OSError: it cannot be read.
    """
    return [entry for _, entry in _lines(path)]


def _is_kept(entry: dict[str, Any], first_step: int, measured: int) -> bool:
    last: int = measured if "validation" in entry else first_step
    return bool(entry["step"] <= last)


def _lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return each line with its entry; one that was cut off, the last, is left out."""
    try:
        *lines, rest = path.read_bytes().decode().split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no log of a run: {error}") from None
    entries = [(line, _entry(path, line)) for line in lines]
    with contextlib.suppress(ValueError):
        entries.append((rest, _entry(path, rest)))
    return entries


def _entry(path: Path, line: str) -> dict[str, Any]:
    try:
        entry = strict_files.parse(line)
    except ValueError as error:
        raise ValueError(f"{path} is no log of a run: a line is not JSON: {error}") from None
    step = entry.get("step") if isinstance(entry, dict) else None
    if type(step) is not int or step < 0:
        raise ValueError(
            f'{path} is no log of a run: it has a line without a "step": {line.strip()[:100]}'
        )
    return entry
