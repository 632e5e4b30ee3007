"""The sampling methods: cached (a plan and an engine) and ancestral (the whole network)."""

from collections.abc import Callable, Generator

import torch
from torch import Tensor

from .engines import choose_engine, engine_name
from .engines.base import Engine
from .plan import Plan
from .plan_cache import plan
from .request import Request
from .sampler import Sampler


def plan_of(request: Request) -> Plan:
    """Return the plan for a request.

    Raises:
        PlanError: the model has no plan.
    """
    low_res = request.low_res
    size = None if low_res is None else (int(low_res.shape[2]), int(low_res.shape[3]))
    return plan(request.model, request.image_size, size)


@torch.inference_mode(False)  # callers may write to its tensors outside of inference mode
@torch.no_grad()
def start_engine(name: str, request: Request) -> Engine:
    """Return the engine for a request, ready to draw.

    Raises:
        ValueError: as in `choose_engine`.
        PlanError: the model has no plan.
    """
    made = plan_of(request)
    return _choose(name, made, request)(made, request)


def resolve_engine(name: str, request: Request) -> str:
    """Return the name of the engine that draws a request; "auto" is resolved.

    Raises:
        ValueError, PlanError: as in `start_engine`.
    """
    return engine_name(_choose(name, plan_of(request), request))


def _choose(name: str, made: Plan, request: Request) -> type[Engine]:
    return choose_engine(name, request.device, lambda kind: kind.why_not(made, request))


@torch.no_grad()
def ancestral(request: Request, sampler: Sampler, engine: str) -> Tensor:
    """Draw value by value, with one pass of the whole network for each; `engine` is ignored."""
    images = request.known.expand(request.samples, -1, -1, -1).clone()
    sampler.draw_all(request, _positions(request, images))
    return images


def _positions(
    request: Request, images: Tensor
) -> Generator[tuple[tuple[int, int, int], Tensor], Tensor, None]:
    """Yield each unknown position with its logits, and write the values that the caller sends."""
    low_res = request.low_res
    inputs = (
        [] if low_res is None else [low_res.repeat_interleave(request.samples // len(low_res), 0)]
    )
    expected = (request.samples, request.levels, *images.shape[1:])
    for row, col, color in request.unknown.permute(1, 2, 0).nonzero().tolist():
        logits = request.model(images, *inputs)
        if logits.shape != expected:
            raise ValueError(
                f"{type(request.model).__name__} gives logits {list(logits.shape)}, "
                f"expected [N, L, C, H, W] = {list(expected)}"
            )
        drawn = yield (row, col, color), logits[:, :, color, row, col]
        value = images[:, color, row, col]
        value.copy_(torch.where(request.known_mask[:, color, row, col], value, drawn))


@torch.no_grad()
def cached(request: Request, sampler: Sampler, engine: str) -> Tensor:
    """Draw value by value, with a plan that computes each feature once."""
    run = start_engine(engine, request)
    run.draw(sampler)
    return run.images


METHODS: dict[str, Callable[[Request, Sampler, str], Tensor]] = {
    "cached": cached,
    "ancestral": ancestral,
}
