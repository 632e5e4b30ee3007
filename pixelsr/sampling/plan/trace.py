"""Turns a model into a graph of layers, pointwise functions and the leaves of `functional`."""

import inspect
import math
from typing import Any

import torch
from torch import Tensor, fx, nn

from ... import functional
from ...errors import PlanError
from ...nn import MaskedConv2d


class _Tracer(fx.Tracer):
    """Stops at convolutions and pointwise modules, and at every public function of `functional`."""

    def __init__(self) -> None:
        modules: Any = (math, functional)
        super().__init__(autowrap_modules=modules)

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, MaskedConv2d) or super().is_leaf_module(module, name)


def trace(model: nn.Module) -> fx.Graph:
    """The model's forward as a graph.

    Raises:
        PlanError: the forward depends on values, or does what tracing cannot follow.
    """
    try:
        graph = _Tracer().trace(model)
    except (fx.proxy.TraceError, TypeError, RuntimeError) as error:
        raise PlanError(
            f'{type(model).__name__} cannot be traced ({error}); method="ancestral" needs no plan'
        ) from error
    return _without_dead_code(model, graph).graph


def takes_low_res(model: nn.Module) -> bool:
    """Is the model called with a small picture too?"""
    return len(inspect.signature(model.forward).parameters) > 1


def placeholders(graph: fx.Graph) -> list[fx.Node]:
    return [node for node in graph.nodes if node.op == "placeholder"]


def depends_on(graph: fx.Graph, source: fx.Node) -> set[fx.Node]:
    """The nodes that `source` reaches, itself included."""
    reached = {source}
    for node in graph.nodes:
        if any(argument in reached for argument in node.all_input_nodes):
            reached.add(node)
    return reached


def extract(
    model: nn.Module, graph: fx.Graph, inputs: list[fx.Node], outputs: list[fx.Node]
) -> fx.GraphModule:
    """The part of the graph that leads from `inputs` to `outputs`, as a module giving a tuple."""
    part = fx.Graph()
    copies = {node: part.placeholder(node.name) for node in inputs}
    for node in graph.nodes:
        if node in copies or node.op in ("placeholder", "output"):
            continue
        if all(argument in copies for argument in node.all_input_nodes):
            copies[node] = part.node_copy(node, lambda argument: copies[argument])
    part.output(tuple(copies[node] for node in outputs))
    return _without_dead_code(model, part)


def _without_dead_code(model: nn.Module, graph: fx.Graph) -> fx.GraphModule:
    module = fx.GraphModule(model, graph)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def rows_of(value: Tensor) -> Tensor:
    """A feature map or logits as rows: ``[H, N, W, channels]``, logits colour-major."""
    if value.dim() == 5:  # [N, L, C, H, W]
        return value.permute(3, 0, 4, 2, 1).flatten(3)
    return value.permute(2, 0, 3, 1)


@torch.no_grad()
def image_stage_values(stage: fx.GraphModule, low_res: Tensor | None) -> tuple[Tensor, ...]:
    """The values of the image stage as rows, ``[H, M, W, channels]`` each."""
    values = stage() if low_res is None else stage(low_res)
    return tuple(rows_of(value) for value in values)
