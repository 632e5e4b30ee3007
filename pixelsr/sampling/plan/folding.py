"""Folds scales and offsets of channels, such as batch normalization, into the layer before them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from .graph import Graph, Linear, Map, Operand, PerChannel, Pointwise, Recipe

_SCALE = ("mul", ("arg", 0), ("arg", 1))
_OFFSET = ("add", ("arg", 0), ("arg", 1))
_BOTH = ("add", ("mul", ("arg", 0), ("arg", 1)), ("arg", 2))


def fold(graph: Graph) -> Graph:
    """Replace ``scale * layer(x) + offset`` by a layer with other weights and biases.

    The scale and the offset are constants of each channel, and nothing else reads the layer.
    """
    assert graph.logits is not None
    readers = Counter(np.unique(graph.logits.map).tolist())
    for made in graph.maps:
        for operand in made.operands:
            readers.update(np.unique(operand.reads.map).tolist())
    for number, made in enumerate(graph.maps):
        folded = _folded(graph, made, readers)
        if folded is not None:
            graph.maps[number] = replace(made, op=folded)
    return graph


def _folded(graph: Graph, made: Map, readers: Counter[int]) -> Linear | None:
    op = made.op
    if not isinstance(op, Pointwise) or op.expression not in (_SCALE, _OFFSET, _BOTH):
        return None
    source, *constants = op.args
    layer = _whole(graph, source)
    if layer is None or readers[layer.number] > 1 or not isinstance(layer.op, Linear):
        return None
    factors = [_constant(graph, operand) for operand in constants]
    if None in factors:
        return None
    scale = factors[0] if op.expression != _OFFSET else None
    offset = factors[-1] if op.expression != _SCALE else None
    return _scaled(graph, layer.op, made.channels, scale, offset)


def _whole(graph: Graph, operand: Operand) -> Map | None:
    source = graph.maps[int(operand.reads.map[0])]
    same = source.size == operand.size and operand.reads.is_whole(source.number, source.channels)
    return source if same else None


_Factor = tuple[str, tuple[int, ...]]
"""A constant and its element for each channel."""


def _constant(graph: Graph, operand: Operand) -> _Factor | None:
    numbers = np.unique(operand.reads.map)
    source = graph.maps[int(numbers[0])].op
    if len(numbers) > 1 or not isinstance(source, PerChannel):
        return None
    return source.constant, tuple(source.index[k] for k in operand.reads.channel.tolist())


def _scaled(
    graph: Graph, op: Linear, channels: int, scale: _Factor | None, offset: _Factor | None
) -> Linear:
    biases = op.biases
    terms = op.terms
    if scale is not None:
        factor = _vector(graph, scale)
        terms = tuple(
            replace(term, weight=_new(graph, _product(graph.recipes[term.weight], factor)))
            for term in terms
        )
        biases = tuple(
            (_new(graph, _bias_product(_vector(graph, bias), factor)), tuple(range(channels)))
            for bias in biases
        )
    return Linear(terms, biases if offset is None else (*biases, offset))


def _new(graph: Graph, recipe: Recipe) -> str:
    name = f"folded {len(graph.recipes)}"
    graph.recipes[name] = recipe
    return name


def _vector(graph: Graph, factor: _Factor) -> Recipe:
    name, index = factor
    recipe, chosen = graph.recipes[name], torch.tensor(index, device="cpu")
    return lambda constants: recipe(constants).reshape(-1)[chosen]


def _product(weight: Recipe, scale: Recipe) -> Recipe:
    def recipe(constants: Sequence[Tensor]) -> Tensor:
        return weight(constants) * scale(constants)[:, None, None, None]

    return recipe


def _bias_product(bias: Recipe, scale: Recipe) -> Recipe:
    return lambda constants: bias(constants) * scale(constants)
