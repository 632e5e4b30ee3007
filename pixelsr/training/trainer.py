"""The training loop."""

import contextlib
import dataclasses
import functools
import math
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pixelsr.config.training import Budget, Intervals, TrainingConfig, difference
from pixelsr.data.binarize import binarized, describe_levels
from pixelsr.data.quantize import to_levels
from pixelsr.models import PixelModel
from pixelsr.utils.distributed import Workers
from pixelsr.utils.streams import stdout_sentence

from .checkpoint import Facts, read_checkpoint
from .data_order import DataOrder
from .loss import ALONE, bits_per_dimension, nats_per_image
from .meters import EarlyStopping, Meter, Reading
from .optimizer import learning_rate
from .progress import Display
from .run_dir import RunDir
from .sample_grid import draw_grid
from .state import State

WINDOW = "meter.bits"


class _Stopped(Exception):  # noqa: N818
    """A request to end the run with a checkpoint, before its budget is used."""


class Trainer:
    """One training run: a model, its images, and the folder that it writes to.

    Args:
        model: the model, trained in place.
        images: training images, uint8 ``[N, C, H, W]``, 8-bit intensities for any number of
            levels. For a model of 2 levels they must be black and white, unless the training
            config says how to binarize them.
        validation: uint8 ``[M, C, H, W]``, or None for no validation.
        files: the folder of the run. A run is resumed from its checkpoint, which must have the
            same model, images, training config and number of workers. A resumed run gets the same
            batches as an uninterrupted one and, with a budget of steps, the same weights. The saved
            model is the average of the weights at the best validation, or the last average if
            there is no validation.
        config: the training config.
        budget: when to stop.
        intervals: how often to log, validate and save.
        display: the progress display.
        stop: called after every step and every batch of a validation; if it returns true in any
            worker, the run ends with a checkpoint.
        pause: also end the run after this many steps, with a checkpoint and the validation of that
            step.
        workers: processes that share each step. k workers with `batch` images each are equivalent
            to one process with batches k times as large. The first worker writes the files.
        grid: number of images that samples are drawn for at each validation.
        tensorboard: also write `tensorboard/`.
    Raises:
        ValueError: the checkpoint is damaged or belongs to a run with other settings; or the images
            are gray, the model has 2 levels, and the training config does not say how to binarize.
        OSError: a file cannot be written.
    """

    def __init__(
        self,
        model: PixelModel,
        images: Tensor,
        validation: Tensor | None,
        files: RunDir,
        config: TrainingConfig,
        budget: Budget,
        intervals: Intervals,
        display: Display,
        *,
        stop: Callable[[], bool] = lambda: False,
        pause: int | None = None,
        workers: Workers = ALONE,
        grid: int = 0,
        tensorboard: bool = False,
    ) -> None:
        self.images, self.validation = images, validation
        self.config, self.budget, self.intervals = config, budget, intervals
        self.files, self.display, self.stop, self.workers = files, display, stop, workers
        self.pause = pause
        self.lost: OSError | None = None  # the error that made the display unusable
        self.parts = config.accumulate * workers.count
        self.best = EarlyStopping()
        with files.start():
            self._begin(model, grid, tensorboard)

    def _begin(self, model: PixelModel, grid: int, tensorboard: bool) -> None:
        config = self.config
        fit = functools.partial(binarized, levels=model.levels, choice=config.binarize)
        images = fit(self.images)
        self.held_out = None if self.validation is None else fit(self.validation)
        batch = config.batch * self.parts
        self.batches = DataOrder(images, batch, config.seed, config.flip, self.parts)
        shown = images if self.held_out is None else self.held_out
        self.grid = to_levels(shown[:grid], model.levels)
        self.state = State(model, config, self.workers)
        bits = self._resume() if self.files.resume else []
        self.files.open_logs(self.state.step, self.best.measured, tensorboard)
        self._start = time.perf_counter() - self.state.seconds
        used = self.budget.used(self.state.step, self.state.seconds)
        self.meter = Meter(self.intervals.log, self.state.seconds, used, bits)

    def run(self) -> bool:
        """Train; return True if the budget is used, False if `stop` or `pause` ended the run.

        Raises:
            FloatingPointError: a loss, its gradient, a weight or a validation is not finite; the
                last checkpoint is kept.
            OSError: a file cannot be written, and the last checkpoint is kept; or the display
                cannot be written, and a new checkpoint has been saved.
        """
        try:
            with self.display:
                return self._run()
        except FloatingPointError as error:
            path = self.files.checkpoint
            left = f"{path} holds the last good state" if path.exists() else "nothing was saved"
            raise FloatingPointError(f"{error}; {left}") from None
        finally:
            self.files.close()

    def _run(self) -> bool:
        try:
            self._train()
            self._check()
            self._save()
            if self.best.measured != self.state.step:
                self._validate()
                self._save()
        except _Stopped:
            self._leave()
            if self.lost is not None:
                raise OSError(
                    f"{stdout_sentence(self.lost)}; {self.files.checkpoint} holds the state after "
                    f"{self.state.step} steps"
                ) from None
            return False
        return True

    def _train(self) -> None:
        if self._is_due(self.intervals.validate) and self.best.measured != self.state.step:
            self._validate()  # the run ended between a checkpoint and its validation
            self.state.seconds = self.workers.agree(self._clock())
        used = self.budget.used(self.state.step, self.state.seconds)
        while used < 1 and not self.best.is_stale(self.budget.patience):
            if self.state.step == self.pause:
                raise _Stopped
            self.meter.skip_to(self._clock())
            lr = learning_rate(self.config, self.state.step, used)
            bits = self.state.advance(self._parts(), lr)
            used, stopped = self._look()
            images = self.batches.batch
            self._report(self.meter.read(self.state.step, self.state.seconds, used, bits, images))
            if stopped:
                raise _Stopped
            if self._keep():
                used, _ = self._look()  # a validation counts too

    def _clock(self) -> float:
        """Return the seconds that the run has taken, over all sessions."""
        return time.perf_counter() - self._start

    def _look(self) -> tuple[float, bool]:
        """Return the used fraction of the budget, and True if any worker must stop."""
        every = self.workers.gather((self._clock(), self._is_asked_to_stop()))
        self.state.seconds = every[0][0]
        stopped = any(asked for _, asked in every)
        return self.budget.used(self.state.step, self.state.seconds), stopped

    def _is_asked_to_stop(self) -> bool:
        return self.stop() or self.lost is not None

    def _show(self, show: Callable[..., None], *arguments: Any) -> None:
        """Call a method of the display; if it cannot be written, request a stop."""
        try:
            if self.lost is None:
                show(*arguments)
        except OSError as error:
            self.lost = error

    def _parts(self) -> Sequence[Tensor]:
        """Return this worker's parts of the batch of the next step."""
        batch = to_levels(self.batches[self.state.step], self.state.model.levels)
        return batch.chunk(self.parts)[self.workers.rank :: self.workers.count]

    def _check(self) -> None:
        """Check that the run can continue from the state that is about to be saved."""
        self.state.check(self._parts())

    def _report(self, reading: Reading) -> None:
        logged = reading.step % self.intervals.log == 0
        self._show(self.display.update, reading, logged)
        if logged:
            self.files.write_log(
                step=reading.step,
                seconds=round(reading.seconds, 1),
                train=round(reading.bits, 4),
                images_per_second=round(reading.images_per_second, 1),
            )

    def _is_due(self, interval: int) -> bool:
        return self.state.step > 0 and self.state.step % interval == 0

    def _keep(self) -> bool:
        """Save and validate if they are due; return True after a validation.

        The result of the validation is stored in the next checkpoint. A run that ends before that
        repeats the same validation, with the same weights, when it is resumed.
        """
        validate = self._is_due(self.intervals.validate)
        if not validate and not self._is_due(self.intervals.checkpoint):
            return False
        self._check()
        self._save()
        if validate:
            self._validate()
        return validate

    def _advance_validation(self, done: float) -> None:
        self._show(self.display.validate, done)
        if self.workers.any(self._is_asked_to_stop()):
            raise _Stopped

    def _validate(self) -> None:
        """Validate the averaged model, save it if it is the best, and save a sample grid."""
        average, step = self.state.ema.model, self.state.step
        if self.held_out is None:
            self.files.save_model(average)
        else:
            images = to_levels(self.held_out, average.levels)
            bits = bits_per_dimension(
                average, images, self.config.batch, self.workers, self._advance_validation
            )
            for name, value in bits.items():
                if not math.isfinite(value):
                    raise FloatingPointError(
                        f"the validation of {name} became {value} after {step} steps"
                    )
            self.files.write_log(step=step, seconds=round(self.state.seconds, 1), validation=bits)
            line = f"step {step}  {self._headline}: {_metrics(bits, images)}"
            self._show(self.display.say, line)
            if self.best.take(next(iter(bits.values()))):
                self.files.save_model(average)
        self.best.measured = step
        if len(self.grid) and self.workers.is_first:
            self.files.save_grid(step, draw_grid(average, self.grid, self.config.seed))

    @property
    def _headline(self) -> str:
        """The description of the metrics that a validation prints."""
        quantized = describe_levels(self.state.model.levels, self.config.binarize)
        parts = ("validation", quantized, "bits/dim (nats/image)")
        return ", ".join(part for part in parts if part)

    def _leave(self) -> None:
        """Save a checkpoint of a stopped run, and a model if there is none yet."""
        self._check()
        self._save()
        if self.validation is None or math.isinf(self.best.bits):
            self.files.save_model(self.state.ema.model)
        self.workers.gather(None)  # launchers kill the first worker once another has exited

    @functools.cached_property
    def _settings(self) -> dict[str, Any]:
        """The settings that a resumed run must share with the original, as JSON values."""
        return {
            **self.state.model.describe(),
            "images": _summary(self.images),
            "validation images": _summary(self.validation),
            "workers": self.workers.count,
            **dataclasses.asdict(self.config),
        }

    def _save(self) -> None:
        state = self.state
        facts = Facts(state.step, state.seconds, self.best, self._settings, state.without_moments())
        window = {WINDOW: torch.tensor(self.meter.bits, dtype=torch.float64, device="cpu")}
        self.files.save_checkpoint(state.tensors() | window, facts.to_json())

    def _resume(self) -> list[float]:
        """Load the checkpoint; return the bits per dimension of its last steps."""
        path = self.files.checkpoint
        tensors, values = read_checkpoint(path)
        with _naming(path):
            facts = Facts.from_json(values)
        if clause := difference(facts.settings, self._settings):
            raise ValueError(f"{path} is of another run: {clause}")
        with _naming(path):
            bits = _window(tensors.pop(WINDOW, None), facts.step)
            self.state.load_tensors(tensors, facts.step, facts.without_moments)
        self.state.seconds, self.best = facts.seconds, facts.best
        return bits


def _metrics(bits: dict[str, float], images: Tensor) -> str:
    """Format the bits per dimension of each distribution, with nats per image in brackets."""
    nll = {name: nats_per_image(value, images) for name, value in bits.items()}
    return ", ".join(f"{name} {value:.4f} ({nll[name]:.2f})" for name, value in bits.items())


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Add the checkpoint's path to the message of a ValueError."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path} is not a checkpoint that a run can resume: {error}") from None


def _window(bits: Tensor | None, step: int) -> list[float]:
    """Return the checked bits per dimension of the last steps: 1 to `step` numbers."""
    if bits is None:
        raise ValueError(f"the tensor {WINDOW} is missing")
    expected = f"1 to {step} finite numbers of torch.float64" if step else "no numbers"
    fits = bits.dim() == 1 and min(1, step) <= len(bits) <= step
    if not fits or bits.dtype != torch.float64 or not torch.isfinite(bits).all():
        raise ValueError(f"{WINDOW} is {bits.dtype} {list(bits.shape)}, expected {expected}")
    values: list[float] = bits.tolist()
    return values


def _summary(images: Tensor | None) -> str:
    """Return the shape and a checksum of the images, to recognize them when a run resumes."""
    if images is None:
        return "none"
    checksum = zlib.crc32(images.contiguous().numpy().data)
    return f"{list(images.shape)} with the checksum {checksum:08x}"
