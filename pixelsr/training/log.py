"""The log of a run: one JSON object a line."""

import json
import os
from pathlib import Path
from typing import Any


class Log:
    """Appends entries, each with its "step"; entries after `first_step` are those of a lost run.

    Args:
        path: the file; it is made, or cut back to the entries up to `first_step`.
        first_step: where the run starts or resumes.
    """

    def __init__(self, path: Path, first_step: int) -> None:
        self.path = path
        kept = [line for line in _lines(path) if _step(line) <= first_step] if first_step else []
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text("".join(kept))
        os.replace(partial, path)

    def write(self, **entry: Any) -> None:
        """Append one entry."""
        try:
            with open(self.path, "a") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise OSError(f"{self.path} cannot be written: {error.strerror}") from None


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines(keepends=True) if path.is_file() else []


def _step(line: str) -> float:
    """The step of an entry; infinite for a line that was cut off."""
    try:
        return float(json.loads(line)["step"])
    except ValueError:
        return float("inf")
