"""Interleaved training: models take turns, so an interrupt leaves comparable models behind."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pixelsr.models import PixelModel
from pixelsr.training import Budget, Intervals, RunDir, Trainer, TrainingConfig
from pixelsr.training.progress import Display
from pixelsr.training.run_dir import CHECKPOINT, LOG, MODEL
from pixelsr.training.run_dir import read_log as read_file

from .config import ExperimentConfig
from .image_split import ImageSplit


@dataclasses.dataclass(frozen=True)
class TrainingPlan:
    """The data and budget that all models share.

    Args:
        images, validation: images for `Trainer`, uint8 ``[N, C, H, W]``.
        training_config: config with the seed; all models see the same images in the same order.
        steps: training steps of each model.
        turn: steps of a turn, which ends with a validation.
    """

    images: Tensor
    validation: Tensor
    training_config: TrainingConfig
    steps: int
    turn: int

    @classmethod
    def of(
        cls,
        config: ExperimentConfig,
        images: ImageSplit,
        training_config: TrainingConfig,
        steps: int,
        turns: int,
        validation: int | None = None,
    ) -> "TrainingPlan":
        """Return the plan of an experiment, with its seed and, if it gives them, its steps.

        Args:
            steps: training steps of each model, unless the experiment's config gives them.
            turns: the number of turns that the steps are split into.
            validation: the largest number of held-out images that choose the best step.
        """
        steps = config.steps or steps
        return cls(
            images.train,
            images.held_out[:validation],
            dataclasses.replace(training_config, seed=config.seed),
            steps,
            max(1, steps // turns),
        )

    def settings(self) -> dict[str, Any]:
        """Return the budget as JSON values."""
        return {
            "steps": self.steps,
            "turn": self.turn,
            "config": dataclasses.asdict(self.training_config),
            "training_images": len(self.images),
            "held_out_images": len(self.validation),
        }


def train_in_turns(
    makers: Mapping[str, Callable[[], PixelModel]],
    plan: TrainingPlan,
    out: Path,
    stop: Callable[[], bool],
    after: Callable[[], None] = lambda: None,
) -> bool:
    """Train all models for one turn, then for the next, until each has taken all its steps.

    The run of a model is in ``out/NAME``, like a run of `pixelsr train`. An existing run is
    continued, to the same weights as without the break.

    Args:
        makers: functions that make each model, always the same, on the device that trains it.
        stop: called after every step; True saves and ends the training.
        after: called after each round of turns.
    Returns:
        True if all models have taken all steps, False if `stop` ended the training.
    """
    with Display(list(makers)) as display:
        for target in _targets(plan):
            for name, make in makers.items():
                if target < min(_validated(out / name), plan.steps):
                    continue  # the checkpoint is from a later turn
                display.begin(name)
                _train(make(), plan, out / name, target, display, stop)
                if stop():
                    return False
            after()
    return True


def _validated(out: Path) -> int:
    """Return the step of a model's last validation, or 0 if there is none."""
    log = read_log(out) if (out / LOG).is_file() else []
    return max((entry["step"] for entry in log if "validation" in entry), default=0)


def _targets(plan: TrainingPlan) -> list[int]:
    """Return the step at which each turn ends."""
    return [*range(plan.turn, plan.steps, plan.turn), plan.steps]


def _train(
    model: PixelModel,
    plan: TrainingPlan,
    out: Path,
    target: int,
    display: Display,
    stop: Callable[[], bool],
) -> None:
    """Train for one turn, up to `target` steps, unless the model has taken them."""
    trainer = Trainer(
        model,
        plan.images,
        plan.validation,
        RunDir(out, resume=(out / CHECKPOINT).is_file()),
        plan.training_config,
        Budget(plan.steps),
        Intervals(log=50, validate=plan.turn, checkpoint=plan.turn),
        display,
        stop=stop,
        pause=target,
    )
    if trainer.best.measured < target:
        trainer.run()
    else:
        trainer.files.close()


def trained(out: Path, device: str | torch.device) -> Any:
    """Return the best model of the finished run in ``out``."""
    return PixelModel.from_pretrained(out / MODEL).to(device)


def read_log(out: Path) -> list[dict[str, Any]]:
    """Return the entries of a model's log so far, including validations."""
    return read_file(out / LOG)
