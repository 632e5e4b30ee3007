"""What a training run is told: how the weights are found, and for how long."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything beside the model and the pictures that decides the weights.

    Args:
        batch: pictures a step.
        lr: peak learning rate of AdamW.
        betas: decay of its two running moments.
        weight_decay: decoupled, as in AdamW.
        warmup: steps in which the learning rate rises to its peak.
        floor: the learning rate at the end, as a fraction of the peak.
        clip: largest norm of the gradient.
        ema: decay of the exponential moving average of the weights; 0 is the weights themselves.
        flip: mirror half of the pictures, others in each epoch.
        seed: of the order of the pictures and the flips.
    """

    batch: int = 16
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    warmup: int = 200
    floor: float = 0.03
    clip: float = 1.0
    ema: float = 0.999
    flip: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1 picture, got {self.batch}")
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr must be positive and finite, got {self.lr}")
        if self.warmup < 0:
            raise ValueError(f"warmup must be at least 0 steps, got {self.warmup}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema must be at least 0 and less than 1, got {self.ema}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must be at least 0 and less than 2**63, got {self.seed}")


@dataclasses.dataclass(frozen=True)
class Budget:
    """How long to train: until `steps` or `minutes` are used up, whichever comes first."""

    steps: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            raise ValueError("a training run needs an end: give steps, minutes or both")
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise ValueError(f"minutes must be positive and finite, got {self.minutes}")

    def used(self, step: int, seconds: float) -> float:
        """The fraction of the budget that is used, 0 to 1."""
        by_steps = step / self.steps if self.steps is not None else 0.0
        by_time = seconds / (60 * self.minutes) if self.minutes is not None else 0.0
        return min(1.0, max(by_steps, by_time))


@dataclasses.dataclass(frozen=True)
class Intervals:
    """Steps between two lines of the log, two validations, two checkpoints."""

    log: int = 50
    validate: int = 1000
    checkpoint: int = 500

    def __post_init__(self) -> None:
        for name, steps in dataclasses.asdict(self).items():
            if steps < 1:
                raise ValueError(f"the interval of {name} must be at least 1 step, got {steps}")
