"""The state of a training run: weights, average, optimizer and loss scale."""

import contextlib
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from pixelsr.config.training import TrainingConfig
from pixelsr.models import PixelModel
from pixelsr.utils.distributed import Workers
from pixelsr.utils.modules import copy_model

from .loss import TrainingLoss
from .optimizer import make_optimizer, outline_moments

SMALLEST_SCALE = 2.0**-16
"""The smallest loss scale for float16; at a smaller one, the scale cannot be what causes NaN."""


class State:
    """The model, optimizer and average of the weights, with the numbers of steps and seconds.

    Args:
        model: the model, trained in place.
        config: the training config.
        workers: the workers that share each step; all hold the same weights.
    """

    def __init__(self, model: PixelModel, config: TrainingConfig, workers: Workers) -> None:
        self.layout = torch.channels_last if config.channels_last else torch.contiguous_format
        self.model = _arranged(model, self.layout).train()
        self.ema = Ema(model, config.ema)
        self.optimizer = make_optimizer(model.parameters(), config)
        self.config = config
        self.dtype: torch.dtype = getattr(torch, config.precision)
        self.scaler = torch.amp.GradScaler(model.device.type, enabled=self.dtype is torch.float16)
        self.clip, self.workers = config.clip, workers
        objective: Any = TrainingLoss(model, config.conditioning_weight)
        if workers.count > 1:
            objective = DistributedDataParallel(objective)
        self.objective: Any = torch.compile(objective) if config.compile else objective
        self.step = 0
        self.seconds = 0.0

    def advance(self, parts: Sequence[Tensor], lr: float) -> float:
        """Take one step; return the model's bits per dimension before it.

        Args:
            parts: this worker's batches, each uint8 ``[N, C, H, W]``; their gradients are averaged.
            lr: learning rate.
        Raises:
            FloatingPointError: the loss or its gradient is not finite; the weights are unchanged.
        """
        terms = self._differentiate(parts)
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        if not self.scaler.is_enabled():  # an enabled scaler skips steps that overflowed
            self._check_finite("gradient", norm)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.scaler.is_enabled() and self.scaler.get_scale() < SMALLEST_SCALE:
            raise FloatingPointError(
                f"the gradient was not finite at any scale of the loss after {self.step} steps"
            )
        self.ema.update(self.model, self.step)
        self.step += 1
        return terms[0].item() / math.log(2)

    def check(self, parts: Sequence[Tensor]) -> None:
        """Check that a step could be taken from this state, without taking it.

        Args:
            parts: the parts of that step, as for `advance`.
        Raises:
            FloatingPointError: the weights, the loss or its gradient are not finite.
        """
        for name, tensor in self.tensors().items():
            if not torch.isfinite(tensor).all():
                raise FloatingPointError(f"{name} was not finite after {self.step} steps")
        self._differentiate(parts)
        if not self.scaler.is_enabled():
            gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
            self._check_finite("gradient", torch.nn.utils.get_total_norm(gradients))

    def _differentiate(self, parts: Sequence[Tensor]) -> Tensor:
        """Compute the gradients; return the terms of the loss, finite, averaged over workers."""
        self.optimizer.zero_grad()
        every: list[Tensor] = []
        # Not a comprehension: in an error, its frame would keep the objective alive.
        for part in parts:
            is_last = len(every) == len(parts) - 1
            every.append(self._backward(part, 1 / len(parts), is_last))
        terms = self.workers.mean(torch.stack(every).mean(0))
        self._check_finite("loss", terms.sum())
        return terms

    def _backward(self, images: Tensor, share: float, last: bool) -> Tensor:
        """Accumulate `share` times a part's gradient; return the terms of its loss.

        Workers average the accumulated gradients once, after the last part.
        """
        images = images.to(self.model.device).contiguous(memory_format=self.layout)
        alone = self.workers.count == 1
        with contextlib.nullcontext() if alone or last else self.objective.no_sync():
            with torch.autocast(
                images.device.type, self.dtype, enabled=self.dtype is not torch.float32
            ):
                terms = self.objective(images)
            self.scaler.scale(share * terms.sum()).backward()
        return terms.detach()

    def _check_finite(self, name: str, value: Tensor) -> None:
        if not torch.isfinite(value):
            raise FloatingPointError(f"the {name} became {value.item()} after {self.step} steps")

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights, their average, the optimizer's state and the loss scale, by name."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        average = self.ema.model.state_dict()
        tensors |= {f"ema.{name}": tensor for name, tensor in average.items()}
        for name, parameter in self.model.named_parameters():
            moments = self.optimizer.state.get(parameter, {})
            tensors |= {f"optimizer.{name}.{key}": value for key, value in moments.items()}
        for key, value in self.scaler.state_dict().items():
            tensors[f"scaler.{key}"] = torch.tensor(value, device="cpu")
        return tensors

    def without_moments(self) -> list[str]:
        """Return the names of the parameters without optimizer state.

        These have not received a gradient yet: all parameters before the first step, or while every
        float16 step has overflowed; and parameters that are frozen or do not affect the loss.
        """
        state = self.optimizer.state
        return [name for name, p in self.model.named_parameters() if not state.get(p)]

    def load_tensors(
        self, tensors: Mapping[str, Tensor], step: int, without_moments: Collection[str] = ()
    ) -> None:
        """Load the `tensors` of a state of the same model and training config.

        Args:
            tensors: the complete output of `tensors` on that state.
            step: number of steps that state has taken.
            without_moments: the output of `without_moments` on that state.
        Raises:
            ValueError: a tensor is missing, unexpected, of the wrong shape or dtype, or has a value
                that no run can reach; this state is left unchanged.
        """
        self._check_moments(step, without_moments)
        check_same(self._outline(without_moments), tensors)
        check_values(tensors, step, self.scaler.state_dict())
        self.model.load_state_dict(_below("model.", tensors))
        self.ema.model.load_state_dict(_below("ema.", tensors))
        self.optimizer.state.clear()
        for name, parameter in self.model.named_parameters():
            if state := _below(f"optimizer.{name}.", tensors):
                self.optimizer.state[parameter] = _placed(state, parameter.detach())
        if scaler := _below("scaler.", tensors):
            self.scaler.load_state_dict({key: value.item() for key, value in scaler.items()})
        self.step = step

    def _check_moments(self, step: int, without_moments: Collection[str]) -> None:
        """Check that all parameters lack moments before the first step, and not all after it."""
        names = {name for name, _ in self.model.named_parameters()}
        if foreign := sorted(set(without_moments) - names):
            raise ValueError(f"no parameter is named {foreign[0]!r}, which without_moments lists")
        some = names - set(without_moments)
        if step == 0 and some:
            raise ValueError(f"{min(some)} has moments before the first step")
        if step > 0 and not some and not self.scaler.is_enabled():
            raise ValueError(f"no parameter has moments after {step} steps")

    def _outline(self, without_moments: Collection[str]) -> dict[str, Tensor]:
        """Return tensors with the names, shapes and dtypes that `tensors` returns."""
        own = self.tensors()
        like = {name: own[name] for name in own if not name.startswith("optimizer.")}
        trained = {
            name: parameter
            for name, parameter in self.model.named_parameters()
            if name not in without_moments
        }
        moments = outline_moments(trained, self.config)
        return like | {f"optimizer.{name}": tensor for name, tensor in moments.items()}


def _arranged(model: PixelModel, layout: torch.memory_format) -> PixelModel:
    """Convert the model's convolution kernels to a memory format, in place; return the model.

    A 1x1 kernel is contiguous in every format, so it keeps its strides, which match those of its
    gradient. ``model.to(memory_format=...)`` would change them, and DDP would warn.
    """
    for parameter in model.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=layout)
    return model


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _placed(moments: dict[str, Tensor], parameter: Tensor) -> dict[str, Tensor]:
    """Return copies of a parameter's optimizer state in its memory format and on its device."""
    return {
        key: value.clone() if key == "step" else torch.empty_like(parameter).copy_(value)
        for key, value in moments.items()
    }


def check_same(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Check that tensors have the expected names, shapes and dtypes.

    Raises:
        ValueError: a tensor differs; the message names the first one.
    """
    if odd := sorted(expected.keys() ^ tensors.keys()):
        where = "is missing" if odd[0] in expected else "is unexpected"
        raise ValueError(f"the tensor {odd[0]} {where}")
    for name, wanted in expected.items():
        tensor = tensors[name]
        if (tensor.shape, tensor.dtype) != (wanted.shape, wanted.dtype):
            raise ValueError(
                f"{name} is {tensor.dtype} {list(tensor.shape)}, "
                f"expected {wanted.dtype} {list(wanted.shape)}"
            )


def check_values(tensors: Mapping[str, Tensor], step: int, scaler: Mapping[str, Any]) -> None:
    """Check that the tensors of a state have values that a run can reach in `step` steps.

    Args:
        tensors: tensors with the right names, shapes and dtypes.
        step: number of steps taken.
        scaler: the state of a new scaler of the same training config; its constants must match.
    Raises:
        ValueError: a value is impossible; the message names the first such tensor.
    """
    most = 0.0
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} is not finite")
        if name.startswith("optimizer.") and name.endswith(".step") and tensor.dim() == 0:
            taken = tensor.item()
            if not 1 <= taken <= step or taken % 1:
                raise ValueError(f"{name} must be a whole number from 1 to {step}, got {taken}")
            most = max(most, taken)
    if not scaler and most < step:  # with a scaler, steps that overflowed were skipped
        raise ValueError(f"the optimizer has taken {most:.0f} steps, expected {step}")
    for key, constant in scaler.items():
        value = tensors[f"scaler.{key}"].item()
        if key == "scale":
            fits, expected = value > 0, "more than 0"
        elif key == "_growth_tracker":
            largest = min(step, scaler["growth_interval"])
            fits, expected = 0 <= value <= largest, f"from 0 to {largest}"
        else:
            fits, expected = value == constant, f"{constant}"
        if not fits:
            raise ValueError(f"scaler.{key} must be {expected}, got {value}")


class Ema:
    """An exponential moving average of a model: ``a += (1 - decay) * (weights - a)``.

    The decay is at most ``(1 + step) / (10 + step)``, so that the untrained initial weights are
    soon forgotten. Buffers are copied.
    """

    def __init__(self, model: PixelModel, decay: float) -> None:
        self.model = copy_model(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: PixelModel, step: int) -> None:
        """Update the average with the weights of `model` after step number `step` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for average, weight in zip(self.model.parameters(), model.parameters(), strict=True):
            average.lerp_(weight, 1 - decay)
        for copied, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            copied.copy_(buffer)
