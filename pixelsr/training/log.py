"""The log of a run: one JSON object a line."""

import json
from pathlib import Path
from typing import Any

from ..files import write_whole


class Log:
    """Appends entries, each with its "step", to those that the checkpoint knows of.

    Args:
        path: the file; it is made, or cut back to the entries up to `first_step`, and the
            validations up to `measured`. Others are of a stretch that was lost.
        first_step: where the run starts or resumes.
        measured: the step of the last validation before.
    Raises:
        ValueError: the file holds a line that is JSON but no entry; it is left as it is.
        OSError: it cannot be written.
    """

    def __init__(self, path: Path, first_step: int, measured: int = 0) -> None:
        self.path = path
        lines = _lines(path) if first_step else []
        kept = [line for line in lines if _is_kept(_read(path, line), first_step, measured)]
        write_whole(path, "".join(kept).encode())

    def write(self, **entry: Any) -> None:
        """Append one entry."""
        try:
            with open(self.path, "a") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise OSError(f"{self.path} cannot be written: {error.strerror or error}") from None


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines(keepends=True) if path.is_file() else []


def _is_kept(entry: dict[str, Any], first_step: int, measured: int) -> bool:
    last: int = measured if "validation" in entry else first_step
    return bool(entry["step"] <= last)


def _read(path: Path, line: str) -> dict[str, Any]:
    """Return the entry of a line; for a line that was cut off, one of an infinite step."""
    try:
        entry = json.loads(line)
    except ValueError:
        return {"step": float("inf")}
    step = entry.get("step") if isinstance(entry, dict) else None
    if not isinstance(step, int | float):
        raise ValueError(
            f'{path} is no log of a run: it has a line without a "step": {line.strip()}'
        )
    return dict(entry)
