"""The training loop."""

import dataclasses
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from ..models import PixelModel
from .batches import Batches
from .checkpoint import read_checkpoint, write_checkpoint
from .log import Log
from .meter import Meter, Reading
from .progress import Display
from .recipe import Budget, Intervals, Recipe
from .schedule import learning_rate
from .state import State
from .validate import bits_per_dimension

CHECKPOINT, MODEL, LOG = "checkpoint.safetensors", "model", "log.jsonl"


class Trainer:
    """One run: a model, its pictures, and the folder that it writes.

    Args:
        model: trained in place.
        images: uint8 ``[N, C, H, W]``, to train on.
        validation: uint8 ``[M, C, H, W]``, or None for no validation.
        out: receives `checkpoint.safetensors`, `log.jsonl` and `model/`, the averaged weights as
            `save_pretrained` writes them.
        recipe: how to train.
        budget: when to stop.
        intervals: how often to log, validate and save.
        display: where progress is shown.
        resume: go on from the checkpoint in `out`, of a run with the same model, pictures and
            recipe; batches, and with a budget of steps the weights too, are those of a run that was
            never stopped.
        stop: asked after every step; true ends the run with a checkpoint.
    Raises:
        FileExistsError: `out` already holds a run, and `resume` is false.
        FileNotFoundError: `out` holds no run, and `resume` is true.
        ValueError: the checkpoint is damaged, or of a run with other settings.
        OSError: `out` cannot be written.
    """

    def __init__(
        self,
        model: PixelModel,
        images: Tensor,
        validation: Tensor | None,
        out: str | os.PathLike[str],
        recipe: Recipe,
        budget: Budget,
        intervals: Intervals,
        display: Display,
        *,
        resume: bool = False,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.images, self.validation, self.out = images, validation, Path(out)
        self.recipe, self.budget, self.intervals = recipe, budget, intervals
        self.display, self.stop = display, stop
        self.batches = Batches(images, recipe.batch, recipe.seed, recipe.flip)
        self.state = State(model, recipe)
        _check_writable(self.out)
        if resume:
            self._resume()
        elif (self.out / CHECKPOINT).exists():
            raise FileExistsError(f"{self.out} already holds a run: resume it, or choose another")
        self.log = Log(self.out / LOG, self.state.step)
        self._start = time.perf_counter() - self.state.seconds
        self._meter = Meter(intervals.log, self.state.seconds, self._used())

    def run(self) -> bool:
        """Train until the budget is used (true), or until `stop` says so (false).

        Raises:
            FloatingPointError: the loss is not finite; the last checkpoint is kept.
        """
        with self.display:
            while (used := self._used()) < 1:
                self._advance(used)
                if self.stop():
                    self._save()
                    return False
                self._keep()
            self._save()
            self._validate()
        return True

    def _used(self) -> float:
        """Read the clock: the fraction of the budget that is used."""
        self.state.seconds = time.perf_counter() - self._start
        return self.budget.used(self.state.step, self.state.seconds)

    def _advance(self, used: float) -> None:
        state, batch = self.state, self.batches[self.state.step]
        self._meter.skip_to(state.seconds)
        try:
            bits = state.advance(batch, learning_rate(self.recipe, state.step, used))
        except FloatingPointError as error:
            raise FloatingPointError(f"{error}; {self._what_is_left()}") from None
        used = self._used()
        self._report(self._meter.read(state.step, state.seconds, used, bits, len(batch)))

    def _what_is_left(self) -> str:
        path = self.out / CHECKPOINT
        return f"{path} holds the last good state" if path.exists() else "nothing was saved so far"

    def _report(self, reading: Reading) -> None:
        logged = reading.step % self.intervals.log == 0
        self.display.update(reading, logged)
        if logged:
            self.log.write(
                step=reading.step,
                seconds=round(reading.seconds, 1),
                train=round(reading.bits, 4),
                pictures_per_second=round(reading.pictures_per_second, 1),
            )

    def _keep(self) -> None:
        """Save and validate where it is time to."""
        validate = self.state.step % self.intervals.validate == 0
        if validate or self.state.step % self.intervals.checkpoint == 0:
            self._save()
        if validate:
            self._validate()

    def _validate(self) -> None:
        """Save the averaged model, and measure it."""
        average, step = self.state.ema.model, self.state.step
        average.save_pretrained(self.out / MODEL)
        if self.validation is None:
            return
        bits = bits_per_dimension(average, self.validation, self.recipe.batch)
        self.log.write(step=step, seconds=round(self.state.seconds, 1), validation=bits)
        parts = ", ".join(f"{name} {value:.4f}" for name, value in bits.items())
        self.display.say(f"step {step}  validation, bits/dim: {parts}")

    def _settings(self) -> dict[str, Any]:
        """What a resumed run must have in common with the first, as JSON values."""
        recipe = dataclasses.asdict(self.recipe) | {"betas": list(self.recipe.betas)}
        return {"model": self.state.model.describe(), "images": list(self.images.shape), **recipe}

    def _save(self) -> None:
        facts = {"step": self.state.step, "seconds": self.state.seconds, **self._settings()}
        write_checkpoint(self.out / CHECKPOINT, self.state.tensors(), facts)

    def _resume(self) -> None:
        path = self.out / CHECKPOINT
        tensors, facts = read_checkpoint(path)
        for name, value in self._settings().items():
            if facts.get(name) != value:
                raise ValueError(
                    f"{path} is of another run: {name} was {facts.get(name)}, now it is {value}"
                )
        self.state.load_tensors(tensors)
        self.state.step, self.state.seconds = facts["step"], facts["seconds"]


def _check_writable(out: Path) -> None:
    """Find out now, not after hours of training."""
    for folder in (out, out / MODEL):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise OSError(f"{folder} cannot be written: {error.strerror or error}") from None
