"""The configuration of a training run: optimization, budget and intervals."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .choices import BINARIZATIONS, OPTIMIZERS, PRECISIONS, SCHEDULES

CHECKPOINT, MODEL, TRAINING = "checkpoint.safetensors", "model", "training.toml"
"""The files of a run: its checkpoint, its model, and the options of its training."""
LARGEST = {"lr": 1000, "clip": 10**9, "conditioning_weight": 1000}
"""Upper limits: far above any useful setting, and still safe in float32."""


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """The settings that determine the weights, besides the model and the images.

    Args:
        batch: images that one worker processes at once.
        accumulate: number of batches whose gradients are accumulated into one step.
        optimizer: "adamw", or "rmsprop" with decay 0.95, momentum 0.9 and epsilon 1e-8 as in the
            PRSR paper (1702.00783).
        lr: peak learning rate.
        weight_decay: decoupled weight decay of AdamW; RMSProp ignores it.
        schedule: "cosine", half a wave from the peak to `floor` over the whole budget, or
            "halving", repeated halving as in the PRSR paper.
        warmup: steps in which the learning rate rises to its peak.
        floor: final learning rate of the cosine schedule, as a fraction of the peak.
        halve_every: steps between two halvings.
        clip: maximum gradient norm; larger gradients are scaled down to it.
        ema: decay of the exponential moving average of the weights; 0 means no averaging.
        precision: "float32", or the autocast dtype: "bfloat16", or "float16" with loss scaling.
            Weights, their average and the loss stay float32.
        channels_last: use channels-last memory format for weights and images.
        compile: run model and loss through `torch.compile`.
        conditioning_weight: for `PixelRecursiveSR`, how strongly A counts in the sum. Its own term
            of the loss is -log softmax(A / weight); the paper uses 1.
        flip: mirror half of the images, a different half in each epoch.
        seed: seed of the image order and the flips.
        binarize: for a model of 2 levels, how gray images become black and white: "threshold" or
            "bernoulli" (`pixelsr.data.binarize.binarized`). None for other models, and for images
            that are already black and white.
    """

    batch: int = 16
    accumulate: int = 1
    optimizer: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.01
    schedule: str = "cosine"
    warmup: int = 200
    floor: float = 0.03
    halve_every: int = 500_000
    clip: float = 1.0
    ema: float = 0.999
    precision: str = "float32"
    channels_last: bool = True
    compile: bool = False
    conditioning_weight: float = 1.0
    flip: bool = True
    seed: int = 0
    binarize: str | None = None

    def __post_init__(self) -> None:
        for name in ("batch", "accumulate", "halve_every"):
            _check(name, getattr(self, name) >= 1, "at least 1", getattr(self, name))
        for name, largest in LARGEST.items():
            value = getattr(self, name)
            expected = f"more than 0 and at most {largest:,}"
            _check(name, 0 < value <= largest, expected, value)
        _check("weight_decay", 0 <= self.weight_decay <= 100, "from 0 to 100", self.weight_decay)
        _check("warmup", self.warmup >= 0, "at least 0 steps", self.warmup)
        _check("floor", 0 <= self.floor <= 1, "from 0 to 1", self.floor)
        _check("ema", 0 <= self.ema < 1, "at least 0 and less than 1", self.ema)
        _check("seed", 0 <= self.seed < 2**63, "at least 0 and less than 2**63", self.seed)
        for name, known in (
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("precision", PRECISIONS),
            ("binarize", (None, *BINARIZATIONS)),
        ):
            _check(name, getattr(self, name) in known, f"one of {list(known)}", getattr(self, name))


@dataclasses.dataclass(frozen=True)
class Budget:
    """The length of a run: until `steps` or `minutes` are used up, whichever comes first.

    Args:
        patience: stop early after this many consecutive validations without a new best.
    """

    steps: int | None = None
    minutes: float | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            raise ValueError("a training run needs an end: give steps, minutes or both")
        for name in ("steps", "patience"):
            value = getattr(self, name)
            _check(name, value is None or value >= 1, "at least 1", value)
        minutes = self.minutes
        fits = minutes is None or 0 < minutes <= 1e6
        _check("minutes", fits, "more than 0 and at most a million", minutes)

    def used(self, step: int, seconds: float) -> float:
        """Return the fraction of the budget that is used, 0 to 1."""
        by_steps = step / self.steps if self.steps is not None else 0.0
        by_time = seconds / (60 * self.minutes) if self.minutes is not None else 0.0
        return min(1.0, max(by_steps, by_time))


@dataclasses.dataclass(frozen=True)
class Intervals:
    """The numbers of steps between two log lines, two validations and two checkpoints."""

    log: int = 50
    validate: int = 1000
    checkpoint: int = 500

    def __post_init__(self) -> None:
        for name, steps in dataclasses.asdict(self).items():
            _check(f"the interval of {name}", steps >= 1, "at least 1 step", steps)


def _check(name: str, fits: bool, expected: str, value: Any) -> None:
    if not fits:
        raise ValueError(f"{name} must be {expected}, got {value}")


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Return a clause that names the first setting that differs, or None if all are equal.

    Nested settings are compared one by one; {"prior": {"layers": 2}} is named "prior layers".
    """
    old, new = _flat(before), _flat(now)
    for name in old | new:
        if old.get(name) != new.get(name):
            return f"{name.replace('_', ' ')} was {old.get(name)}, now it is {new.get(name)}"
    return None


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        inner = _flat(value) if isinstance(value, dict) else None
        flat |= {name: value} if inner is None else {f"{name} {k}": v for k, v in inner.items()}
    return flat


def find_config(out: Path) -> Path:
    """Return the path of the training config of the run in `out`; it may be missing.

    Raises:
        FileNotFoundError: there is no run in `out`.
    """
    if not (out / CHECKPOINT).is_file():
        raise FileNotFoundError(f"{out / CHECKPOINT} is missing: there is no run to resume")
    return out / MODEL / TRAINING
