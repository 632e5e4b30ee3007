"""The optimizer and the learning rate of a training config."""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from pixelsr.config.training import TrainingConfig


def make_optimizer(
    parameters: Iterable[nn.Parameter], config: TrainingConfig
) -> torch.optim.Optimizer:
    """Return the optimizer that a training config describes."""
    if config.optimizer == "rmsprop":
        return torch.optim.RMSprop(parameters, lr=config.lr, alpha=0.95, momentum=0.9, eps=1e-8)
    return torch.optim.AdamW(
        parameters, lr=config.lr, betas=(0.9, 0.98), weight_decay=config.weight_decay
    )


def outline_moments(
    parameters: Mapping[str, nn.Parameter], config: TrainingConfig
) -> dict[str, Tensor]:
    """Return meta tensors with the names, shapes and dtypes of the optimizer's state.

    Args:
        parameters: the parameters by name.
        config: the training config that selects the optimizer.
    Returns:
        The tensors, on the meta device, by "NAME.KEY".
    """
    tensors: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        for key, value in _moments_of_one(parameter.dtype, config).items():
            like = parameter if value.dim() else value
            tensors[f"{name}.{key}"] = torch.empty(like.shape, dtype=value.dtype, device="meta")
    return tensors


def _moments_of_one(dtype: torch.dtype, config: TrainingConfig) -> dict[str, Tensor]:
    """Return the optimizer's state of a one-element parameter after one step."""
    parameter = nn.Parameter(torch.zeros(1, dtype=dtype, device="cpu"))
    parameter.grad = torch.zeros_like(parameter)
    optimizer = make_optimizer([parameter], config)
    optimizer.step()
    return dict(optimizer.state[parameter])


def learning_rate(config: TrainingConfig, step: int, used: float) -> float:
    """Return the learning rate of a step: linear warm-up times the schedule.

    "cosine": half a wave from the peak to ``floor`` times the peak; "halving": the peak times
    ``0.5 ** (step // halve_every)``.

    Args:
        config: the training config with peak, warm-up and schedule.
        step: number of steps taken before this one.
        used: fraction of the budget that is used, 0 to 1.
    """
    rise = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    if config.schedule == "halving":
        return float(config.lr * rise * 0.5 ** (step // config.halve_every))
    cosine = 0.5 * (1 + math.cos(math.pi * used))
    return config.lr * rise * (config.floor + (1 - config.floor) * cosine)
