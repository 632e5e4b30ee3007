"""Everything that changes while a model is trained."""

import contextlib
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from pixelsr.models import PixelModel
from pixelsr.utils.distributed import Workers

from .ema import Ema
from .objective import Objective
from .optimizer import make_optimizer, outline_moments
from .recipe import PRECISIONS, Recipe
from .state_checks import check_same, check_values

SMALLEST_SCALE = 2.0**-16
"""Of a loss that is scaled for float16: below this, it is not the scale that makes NaN."""


class State:
    """Model, optimiser, average of the weights, and the counts of steps and seconds.

    Args:
        model: trained in place.
        recipe: how.
        workers: those that share each step; all hold the same weights.
    """

    def __init__(self, model: PixelModel, recipe: Recipe, workers: Workers) -> None:
        self.layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.model = _arranged(model, self.layout).train()
        self.ema = Ema(model, recipe.ema)
        self.optimizer = make_optimizer(model.parameters(), recipe)
        self.recipe = recipe
        self.dtype = PRECISIONS[recipe.precision]
        self.scaler = torch.amp.GradScaler(model.device.type, enabled=self.dtype is torch.float16)
        self.clip, self.workers = recipe.clip, workers
        objective: Any = Objective(model, recipe.conditioning_weight)
        if workers.count > 1:
            objective = DistributedDataParallel(objective)
        self.objective: Any = torch.compile(objective) if recipe.compile else objective
        self.step = 0
        self.seconds = 0.0

    def advance(self, parts: Sequence[Tensor], lr: float) -> float:
        """Take one step, and give the model's bits per dimension before it.

        Args:
            parts: this worker's batches, each uint8 ``[N, C, H, W]``; the gradient is their mean.
            lr: learning rate.
        Raises:
            FloatingPointError: the loss or its gradient is not finite; the weights are unchanged.
        """
        terms = self._differentiate(parts)
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        if not self.scaler.is_enabled():  # which else leaves out a step that overflowed
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
        """Find out whether a step could be taken from here; take none.

        Args:
            parts: of that step, as for `advance`.
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
        """The terms of the loss, finite, of all workers; their gradient is left at the weights."""
        self.optimizer.zero_grad()
        every: list[Tensor] = []
        for part in parts:  # a comprehension's frame, in an error, would hold on to the objective
            is_last = len(every) == len(parts) - 1
            every.append(self._backward(part, 1 / len(parts), is_last))
        terms = self.workers.mean(torch.stack(every).mean(0))
        self._check_finite("loss", terms.sum())
        return terms

    def _backward(self, images: Tensor, share: float, last: bool) -> Tensor:
        """Add `share` of a part's gradient; the terms of its loss.

        Workers average what they have added up after the last part, not before.
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
        """Weights, average, the optimiser's moments and the scale of the loss, by name."""
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
        """Return the names of the parameters that the optimizer has no state of.

        Those are the ones that no gradient has reached so far: all before the first step, and
        while each has overflowed at float16; and parameters that are frozen or that the loss does
        not depend on.
        """
        state = self.optimizer.state
        return [name for name, p in self.model.named_parameters() if not state.get(p)]

    def load_tensors(
        self, tensors: Mapping[str, Tensor], step: int, without_moments: Collection[str] = ()
    ) -> None:
        """Take up `tensors` of a state of the same model and recipe, after `step` steps.

        Args:
            tensors: exactly those of that state.
            step: steps taken.
            without_moments: as of that state.
        Raises:
            ValueError: a tensor is missing, unexpected, of another shape or dtype, or has a value
                that no run comes to; this state is left as it was.
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
        """Check which parameters have no moments: all before step 1, and not all after it."""
        names = {name for name, _ in self.model.named_parameters()}
        if foreign := sorted(set(without_moments) - names):
            raise ValueError(f"no parameter is named {foreign[0]!r}, said to have no moments")
        some = names - set(without_moments)
        if step == 0 and some:
            raise ValueError(f"{min(some)} has moments before the first step")
        if step > 0 and not some and not self.scaler.is_enabled():
            raise ValueError(f"no parameter has moments after {step} steps")

    def _outline(self, without_moments: Collection[str]) -> dict[str, Tensor]:
        """Return tensors of the names, shapes and dtypes of `tensors`."""
        own = self.tensors()
        like = {name: own[name] for name in own if not name.startswith("optimizer.")}
        trained = {
            name: parameter
            for name, parameter in self.model.named_parameters()
            if name not in without_moments
        }
        moments = outline_moments(trained, self.recipe)
        return like | {f"optimizer.{name}": tensor for name, tensor in moments.items()}


def _arranged(model: PixelModel, layout: torch.memory_format) -> PixelModel:
    """The model, the kernels of its convolutions in a memory format.

    One of 1x1 is in every format: it keeps its strides, which are those that its gradient comes
    with, while ``model.to(memory_format=...)`` would give it others, for DDP to warn of.
    """
    for parameter in model.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=layout)
    return model


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _placed(moments: dict[str, Tensor], parameter: Tensor) -> dict[str, Tensor]:
    """The optimiser's tensors of a parameter, in the parameter's memory format and device."""
    return {
        key: value.clone() if key == "step" else torch.empty_like(parameter).copy_(value)
        for key, value in moments.items()
    }
