"""Several models trained in turns, so that what an interrupt leaves can be compared."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pixelsr.models import PixelModel
from pixelsr.training import Budget, Intervals, RunDir, Trainer, TrainingConfig
from pixelsr.training.run_dir import CHECKPOINT, LOG, MODEL
from pixelsr.training.run_dir import read_log as read_file

from .progress import Show


@dataclasses.dataclass(frozen=True)
class Plan:
    """The one budget of all models.

    Args:
        images, validation: uint8 ``[N, C, H, W]``, as of `Trainer`.
        recipe: with its seed; so all models see the same images in the same order.
        steps: of each model.
        turn: steps until it is the next model's turn; each turn ends with a validation.
    """

    images: Tensor
    validation: Tensor
    recipe: TrainingConfig
    steps: int
    turn: int

    @classmethod
    def of(
        cls, images: Tensor, validation: Tensor, recipe: TrainingConfig, steps: int, turns: int
    ) -> "Plan":
        """So many steps, cut into so many turns."""
        return cls(images, validation, recipe, steps, max(1, steps // turns))

    def settings(self) -> dict[str, Any]:
        """The budget as JSON values."""
        return {
            "steps": self.steps,
            "turn": self.turn,
            "recipe": dataclasses.asdict(self.recipe),
            "training_images": len(self.images),
            "held_out_images": len(self.validation),
        }


def train_in_turns(
    makers: Mapping[str, Callable[[], PixelModel]],
    plan: Plan,
    out: Path,
    stop: Callable[[], bool],
    after: Callable[[], None] = lambda: None,
) -> bool:
    """Train each model for a turn, then each for the next, until all have taken their steps.

    What a model writes is in ``out/NAME``, as of `pixelsr train`; a run that is there is gone on
    with, to the same weights as without the break.

    Args:
        makers: of each model, the same one each time, on the device that trains it.
        stop: asked after every step; true saves, and ends the training.
        after: called after each round of turns.
    Returns:
        true where all have taken all steps, false where `stop` has ended it.
    """
    with Show(list(makers), plan.steps) as show:
        for target in _targets(plan):
            for name, make in makers.items():
                if target < min(_validated(out / name), plan.steps):
                    continue  # the checkpoint is of a later turn
                show.begin(name)
                _train(make(), plan, out / name, target, show, stop)
                if stop():
                    return False
            after()
    return True


def _validated(out: Path) -> int:
    """The step of a model's last validation; 0 where there is none."""
    log = read_log(out) if (out / LOG).is_file() else []
    return max((entry["step"] for entry in log if "validation" in entry), default=0)


def _targets(plan: Plan) -> list[int]:
    return [*range(plan.turn, plan.steps, plan.turn), plan.steps]


def _train(
    model: PixelModel, plan: Plan, out: Path, target: int, show: Show, stop: Callable[[], bool]
) -> None:
    """One turn: up to `target` steps, if they are not taken already."""
    trainer = Trainer(
        model,
        plan.images,
        plan.validation,
        RunDir(out, resume=(out / CHECKPOINT).is_file()),
        plan.recipe,
        Budget(plan.steps),
        Intervals(log=50, validate=plan.turn, checkpoint=plan.turn),
        show,
        stop=stop,
        pause=target,
    )
    if trainer.best.measured < target:
        trainer.run()
    else:
        trainer.files.close()


def trained(out: Path, device: str | torch.device) -> Any:
    """The model that a finished training has left in ``out``."""
    return PixelModel.from_pretrained(out / MODEL).to(device)


def read_log(out: Path) -> list[dict[str, Any]]:
    """The entries of a model's log so far, validations among them."""
    return read_file(out / LOG)
