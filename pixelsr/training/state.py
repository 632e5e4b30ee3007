"""Everything that changes while a model is trained."""

import math

import torch
from torch import Tensor

from ..models import PixelModel
from .ema import Ema
from .objective import loss_terms
from .recipe import Recipe

MOMENTS = ("exp_avg", "exp_avg_sq", "step")


class State:
    """Model, optimiser, average of the weights, and the counts of steps and seconds."""

    def __init__(self, model: PixelModel, recipe: Recipe) -> None:
        self.model = model.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.ema = Ema(model, recipe.ema)
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=recipe.lr, betas=recipe.betas, weight_decay=recipe.weight_decay
        )
        self.clip = recipe.clip
        self.step = 0
        self.seconds = 0.0

    def advance(self, images: Tensor, lr: float) -> float:
        """Take one step, and give the model's bits per dimension before it.

        Args:
            images: uint8 ``[N, C, H, W]``.
            lr: learning rate.
        Raises:
            FloatingPointError: the loss or its gradient is not finite; the weights are unchanged.
        """
        images = images.to(self.model.device).contiguous(memory_format=torch.channels_last)
        terms = loss_terms(self.model, images)
        loss = torch.stack(terms).sum()
        self._check_finite("loss", loss)
        self.optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self._check_finite("gradient", norm)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.ema.update(self.model, self.step)
        self.step += 1
        return terms[0].item() / math.log(2)

    def _check_finite(self, name: str, value: Tensor) -> None:
        if not torch.isfinite(value):
            raise FloatingPointError(f"the {name} became {value.item()} after {self.step} steps")

    def tensors(self) -> dict[str, Tensor]:
        """Weights, average and moments, by name."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        average = self.ema.model.state_dict()
        tensors |= {f"ema.{name}": tensor for name, tensor in average.items()}
        for name, parameter in self.model.named_parameters():
            moments = self.optimizer.state.get(parameter, {})
            tensors |= {f"optimizer.{key}.{name}": moments[key] for key in MOMENTS if moments}
        return tensors

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `tensors`, for a state of the same model."""
        self.model.load_state_dict(_below("model.", tensors))
        self.ema.model.load_state_dict(_below("ema.", tensors))
        for name, parameter in self.model.named_parameters():
            if f"optimizer.step.{name}" in tensors:
                self.optimizer.state[parameter] = _moments(parameter, name, tensors)


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _moments(parameter: Tensor, name: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The optimiser's tensors of a parameter, in the parameter's memory format and device."""
    moments = {key: tensors[f"optimizer.{key}.{name}"] for key in MOMENTS}
    return {
        key: value if key == "step" else torch.empty_like(parameter.detach()).copy_(value)
        for key, value in moments.items()
    }
