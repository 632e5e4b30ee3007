"""The folder of a run: checkpoint, best weights, log, samples, TensorBoard events."""

import contextlib
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from PIL import Image
from torch import Tensor

from pixelsr.config.training import CHECKPOINT, MODEL, TRAINING, find_config
from pixelsr.data.image_io import save_image
from pixelsr.models import PixelModel
from pixelsr.utils import strict_files
from pixelsr.utils.atomic_write import check_makeable, naming, remove_partials, write_whole

from .checkpoint import write_checkpoint

LOG = "log.jsonl"
SAMPLES, TENSORBOARD, LOCK = "samples", "tensorboard", ".lock"


class RunDir:
    """The files of a run; the folder is locked against other runs until `close`.

    The folder holds `checkpoint.safetensors`; `log.jsonl`; `model/`, as `save_pretrained` writes
    it, with the training config `training.toml` beside the weights; `samples/`, the sample grids;
    and `tensorboard/`.

    Args:
        out: the folder; created if it is missing.
        resume: True if the folder must hold a run to resume, False if it must hold none.
        writes: False for a worker that creates and writes nothing, because another worker does.
    Raises:
        FileExistsError: `out` holds a run, and `resume` is false; or a run is writing to it now.
        FileNotFoundError: `out` holds no run, and `resume` is true.
        OSError: `out` is a file, or cannot be written.
    """

    def __init__(
        self, out: str | os.PathLike[str], *, resume: bool = False, writes: bool = True
    ) -> None:
        self.out, self.resume, self.writes = Path(out), resume, writes
        self.log: Log | None = None
        self.tensorboard: TensorBoard | None = None
        if not writes:
            return
        if resume:
            find_config(self.out)
        own = (self.out / LOCK, self.out / MODEL, self.out, *self.out.absolute().parents)
        self._missing = [path for path in own if not path.exists()]
        self._entries: set[Path] | None = None  # entries of `out`; None until it is locked
        try:
            self._take_folder()
        except BaseException:
            self._restore()
            raise

    def _take_folder(self) -> None:
        for folder in (self.out, self.out / MODEL):
            _check_writable(folder)
        self.lock = FileLock(self.out / LOCK, timeout=0)
        try:
            self.lock.acquire()
        except Timeout:
            raise FileExistsError(
                f"another run is writing to {self.out} now: wait until it ends, or choose another "
                "folder"
            ) from None
        self._entries = set(self.out.iterdir()) - set(self._missing)
        if self.checkpoint.exists() and not self.resume:
            self.lock.release()
            raise FileExistsError(
                f"{self.out} already holds a run: resume it, or choose another folder"
            )
        for folder in (self.out, self.out / MODEL, self.out / SAMPLES):
            remove_partials(folder)

    def _restore(self) -> None:
        """Remove everything that this run has created, as far as possible."""
        if self._entries is not None:
            for path in set(self.out.iterdir()) - self._entries:
                _remove(path)
        for folder in self._missing:
            with contextlib.suppress(OSError):
                folder.rmdir()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the same folder with `writes=False`: only this worker writes to it."""
        return partial(RunDir, resume=self.resume, writes=False), (self.out,)

    @property
    def checkpoint(self) -> Path:
        """The path of the checkpoint, which may not exist yet."""
        return self.out / CHECKPOINT

    def open_logs(self, first_step: int, measured: int, tensorboard: bool) -> None:
        """Open the logs after step `first_step` and the validation of step `measured`."""
        if self.writes:
            self.log = Log(self.out / LOG, first_step, measured)
            if tensorboard:
                self.tensorboard = TensorBoard(self.out / TENSORBOARD, first_step)

    def write_log(self, **entry: Any) -> None:
        """Append an entry, which must have a "step"."""
        for log in (self.log, self.tensorboard):
            if log:
                log.write(**entry)

    def save_checkpoint(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Replace the checkpoint atomically."""
        if self.writes:
            write_checkpoint(self.checkpoint, tensors, facts)

    def save_config(self, toml: str) -> None:
        """Replace the training config beside the weights."""
        if self.writes:
            write_whole(self.out / MODEL / TRAINING, toml.encode())

    def save_model(self, model: PixelModel) -> None:
        """Replace the model atomically."""
        if self.writes:
            model.save_pretrained(self.out / MODEL)

    def save_grid(self, step: int, grid: Image.Image) -> None:
        """Add a sample grid."""
        folder = self.out / SAMPLES
        folder.mkdir(exist_ok=True)
        save_image(grid, folder / f"step-{step:07d}.png")
        if self.tensorboard:
            self.tensorboard.show(step, grid)

    @contextlib.contextmanager
    def start(self) -> Iterator[None]:
        """Run the setup of a run in this context; on failure, remove what it created and close.

        A resumed run removes nothing from its folder.
        """
        try:
            yield
        except BaseException:
            if self.writes and not self.resume:
                self._restore()
            self.close()
            raise

    def close(self) -> None:
        """Close the logs and unlock the folder for other runs."""
        if self.tensorboard:
            self.tensorboard.close()
        if self.writes:
            self.lock.release()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        path.unlink()


def _check_writable(folder: Path) -> None:
    """Check that a folder can be written, now rather than after hours of training."""
    check_makeable(folder, "the run")
    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


class Log:
    """The log of a run: one JSON entry per line, each with a "step".

    Args:
        path: the file. It is created, or cut back to the entries up to `first_step` and the
            validations up to `measured`; later entries belong to steps that were lost.
        first_step: the step at which the run starts or resumes.
        measured: the step of the last validation before that.
    Raises:
        ValueError: the file holds a line that is not an entry, other than a truncated last line;
            the file is left unchanged.
        OSError: the file cannot be read or written.
    """

    def __init__(self, path: Path, first_step: int, measured: int = 0) -> None:
        self.path = path
        lines = _lines(path) if first_step and path.is_file() else []
        kept = [line for line, entry in lines if _is_kept(entry, first_step, measured)]
        write_whole(path, "".join(f"{line}\n" for line in kept).encode())

    def write(self, **entry: Any) -> None:
        """Append one entry."""
        with naming(self.path), open(self.path, "a") as file:
            file.write(json.dumps(entry) + "\n")


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the entries of a log.

    Raises:
        ValueError: the file holds a line that is not an entry, other than a truncated last line.
        OSError: the file cannot be read.
    """
    return [entry for _, entry in _lines(path)]


def _is_kept(entry: dict[str, Any], first_step: int, measured: int) -> bool:
    last: int = measured if "validation" in entry else first_step
    return bool(entry["step"] <= last)


def _lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return each line with its entry; a truncated last line is dropped."""
    try:
        *lines, rest = path.read_bytes().decode().split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not the log of a run: {error}") from None
    entries = [(line, _entry(path, line)) for line in lines]
    with contextlib.suppress(ValueError):
        entries.append((rest, _entry(path, rest)))
    return entries


def _entry(path: Path, line: str) -> dict[str, Any]:
    try:
        entry = strict_files.parse(line)
    except ValueError as error:
        raise ValueError(f"{path} is not the log of a run: a line is not JSON: {error}") from None
    step = entry.get("step") if isinstance(entry, dict) else None
    if type(step) is not int or step < 0:
        raise ValueError(
            f'{path} is not the log of a run: it has a line without a "step": {line.strip()[:100]}'
        )
    return entry


def is_installed() -> bool:
    """Return True if TensorBoard is installed."""
    return importlib.util.find_spec("tensorboard") is not None


class TensorBoard:
    """A TensorBoard writer: log entries become curves, sample grids become images.

    Args:
        folder: the folder of the events; created if it is missing.
        first_step: the step at which the run starts or resumes; later entries are hidden.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import

        self.writer = SummaryWriter(folder, purge_step=first_step + 1)

    def write(self, step: int, **entry: Any) -> None:
        """Add one point to the curve of each metric."""
        for name, value in entry.items():
            metrics = value if isinstance(value, dict) else {"": value}
            for part, metric in metrics.items():
                self.writer.add_scalar(f"{name}/{part}" if part else name, metric, step)

    def show(self, step: int, grid: Image.Image) -> None:
        """Add a sample grid."""
        self.writer.add_image("samples", np.asarray(grid), step, dataformats="HWC")

    def close(self) -> None:
        """Flush pending events and close the writer."""
        self.writer.close()
