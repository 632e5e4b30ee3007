"""Turns a model into a graph of layers, pointwise functions and the leaves of `functional`."""

import contextlib
import inspect
import math
import operator
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from pixelsr import functional
from pixelsr.errors import PlanError
from pixelsr.nn import GatedMaskedConv2d, MaskedConv2d


def argument(node: fx.Node, place: int, name: str, default: Any = None) -> Any:
    """An argument of a traced call, given by place or by name."""
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)


def reads_of(node: fx.Node) -> int:
    """How often a node's output is read; twice by ``h + h``."""
    count = 0

    def visit(argument: fx.Node) -> fx.Node:
        nonlocal count
        count += argument is node
        return argument

    for user in node.users:
        fx.map_arg((user.args, user.kwargs), visit)
    return count


def logits_layout(graph: fx.Graph) -> tuple[int, int]:
    """Return colors and levels, as the last `functional.to_logits` of the network has them."""
    for node in reversed(graph.nodes):
        if node.target is functional.to_logits:
            return int(argument(node, 1, "colors")), int(argument(node, 2, "levels"))
    raise PlanError(
        "the model never calls pixelsr.functional.to_logits, so its output has no known layout"
    )


def describe(node: fx.Node, modules: dict[str, nn.Module]) -> str:
    if node.op == "call_module":
        return f"{type(modules[str(node.target)]).__name__} (layer {node.target})"
    name = node.target if isinstance(node.target, str) else node.target.__name__
    return f"{name} (node {node.name})"


UNPLANNED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What a forward may raise that is called on symbols instead of tensors."""


class _Tracer(fx.Tracer):
    """Stops at convolutions and pointwise modules, and at every public function of `functional`.

    A subclass of a layer with a forward of its own is traced into. While it traces, all modules
    of the process ask it how to be called; those that other threads call are left alone.
    """

    def __init__(self) -> None:
        modules: Any = (math, functional)
        super().__init__(autowrap_modules=modules)
        self.thread = threading.get_ident()

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if threading.get_ident() != self.thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: Any) -> Any:
        if threading.get_ident() != self.thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        if "forward" in vars(module):
            return False
        if isinstance(module, MaskedConv2d):
            return type(module).forward in (MaskedConv2d.forward, GatedMaskedConv2d.forward)
        return super().is_leaf_module(module, name)


@contextlib.contextmanager
def left_as_it_was(model: nn.Module) -> Iterator[None]:
    """Undo what tracing a forward leaves behind: its constants, and symbols that were cached."""
    before = [(module, dict(vars(module))) for module in model.modules()]
    try:
        yield
    finally:
        for module, attributes in before:
            own = vars(module)
            for name in [name for name in own if own[name] is not attributes.get(name, own)]:
                del own[name]
            own.update(attributes)


def trace(model: nn.Module, with_low_res: bool) -> fx.Graph:
    """The model's forward as a graph; parameters that are not passed keep their defaults.

    Raises:
        PlanError: the forward depends on values, does what tracing cannot follow, or changes in
            place what others read later.
    """
    if model._forward_hooks or model._forward_pre_hooks or _has_global_hooks():
        raise PlanError(
            f"{type(model).__name__} has forward hooks, which the cached sampler cannot run; "
            'method="ancestral" runs them'
        )
    if "forward" in vars(model):
        raise PlanError(
            f"the forward of this {type(model).__name__} is not that of its class, "
            'which the cached sampler traces; method="ancestral" runs it'
        )
    _, *others = inspect.signature(model.forward).parameters.values()
    defaults = {p.name: p.default for p in (others[1:] if with_low_res else others)}
    try:
        graph = _Tracer().trace(model, concrete_args=defaults)
    except PlanError:
        raise
    except UNPLANNED as error:
        raise PlanError(
            f'{type(model).__name__} cannot be traced ({error}); method="ancestral" needs no plan'
        ) from error
    _forget_wrapping(graph)
    _fold_properties(model, graph)
    _show_gates(model, graph)
    _check_in_place(model, graph)
    _drop_dead_code(model, graph)
    return graph


def _forget_wrapping(graph: fx.Graph) -> None:
    """Keep fx from adding the functions of `functional` to a list that every trace goes through.

    It never removes them: each plan would be slower than the one before.
    """
    for node in graph.nodes:
        node.meta.pop("is_wrapped", None)


def _has_global_hooks() -> bool:
    hooks = torch.nn.modules.module
    return bool(hooks._global_forward_hooks or hooks._global_forward_pre_hooks)


_PROPERTIES = ("dtype", "device", "shape", "ndim", "requires_grad", "is_cuda")


def _fold_properties(model: nn.Module, graph: fx.Graph) -> None:
    """Replace the dtype, device or shape of a parameter by the answer; `data` or `T` stay calls."""
    for node in list(graph.nodes):
        if node.target is not getattr or node.args[0].op != "get_attr":
            continue
        parameter, name = node.args
        if name not in _PROPERTIES:
            continue
        answers = {node: getattr(operator.attrgetter(parameter.target)(model), name)}
        replace = partial(_replaced, answers)
        for user in list(node.users):
            user.args, user.kwargs = fx.node.map_arg((user.args, user.kwargs), replace)
        graph.erase_node(node)


def _replaced(answers: dict[fx.Node, Any], node: fx.Node) -> Any:
    return answers.get(node, node)


def _show_gates(model: nn.Module, graph: fx.Graph) -> None:
    """``gated, y = layer(x)`` becomes ``y = layer(x)[1]`` and ``gated = functional.gate(y)``."""
    modules = dict(model.named_modules())
    for node in list(graph.nodes):
        if not isinstance(modules.get(str(node.target)), GatedMaskedConv2d):
            continue
        users = list(node.users)
        with graph.inserting_after(node):
            before = graph.call_function(operator.getitem, (node, 1))
        with graph.inserting_after(before):
            gated = graph.call_function(functional.gate, (before,))
        for user in users:
            if user.target is not operator.getitem or user.args[1] not in (0, 1):
                raise PlanError(f"layer {node.target} gives two feature maps; expected them apart")
            user.replace_all_uses_with(before if user.args[1] else gated)
            graph.erase_node(user)


def takes_low_res(model: nn.Module) -> tuple[bool, bool]:
    """Can the model be called with a small image too, and must it be?"""
    _, *others = inspect.signature(model.forward).parameters.values()
    required = bool(others) and others[0].default is inspect.Parameter.empty
    return required or (bool(others) and others[0].name == "low_res"), required


def placeholders(graph: fx.Graph) -> list[fx.Node]:
    """Return the inputs in the order of the forward's parameters: images, then low_res."""
    return [node for node in graph.nodes if node.op == "placeholder"]


_FRESH = {"call_function", "call_module", "call_method"}
_ALIASES = (operator.getitem, torch.chunk, "chunk", functional.to_logits)


def _check_in_place(model: nn.Module, graph: fx.Graph) -> None:
    """Refuse a change in place that another part of the network would see: a plan has none."""
    order = {node: number for number, node in enumerate(graph.nodes)}
    modules = dict(model.named_modules())
    for node in graph.nodes:
        if not _is_in_place(node, modules):
            continue
        changed = node.all_input_nodes[0]
        module = modules.get(str(changed.target)) if changed.op == "call_module" else None
        alias = isinstance(module, nn.Identity | nn.Dropout | nn.Dropout2d)
        alias = alias or changed.op not in _FRESH or changed.target in _ALIASES
        seen_later = any(order[user] > order[node] for user in changed.users)
        if alias or seen_later or not node.users:
            raise PlanError(
                f"{node.name} changes a feature map in place that others may read; "
                "the cached sampler needs the form that returns a new one"
            )


def _is_in_place(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return bool(getattr(modules[str(node.target)], "inplace", False))
    if node.op == "call_method":
        return str(node.target).endswith("_") and not str(node.target).endswith("__")
    name = getattr(node.target, "__name__", "")
    functions = (operator.iadd, operator.isub, operator.imul, operator.itruediv)
    in_place = node.target in functions or bool(node.kwargs.get("inplace", False))
    return node.op == "call_function" and (in_place or name.endswith("_"))


def depends_on(graph: fx.Graph, source: fx.Node) -> set[fx.Node]:
    """The nodes that `source` reaches, itself included."""
    reached = {source}
    for node in graph.nodes:
        if any(argument in reached for argument in node.all_input_nodes):
            reached.add(node)
    return reached


def needed(outputs: list[fx.Node], inputs: set[fx.Node]) -> set[fx.Node]:
    """The nodes from which `outputs` are computed, looking no further back than `inputs`."""
    found, waiting = set[fx.Node](), list(outputs)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += [] if node in inputs else node.all_input_nodes
    return found


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
    _drop_dead_code(model, part)
    return fx.GraphModule(model, part)


def _drop_dead_code(model: nn.Module, graph: fx.Graph) -> None:
    graph.owning_module = model  # type: ignore[assignment]  # it asks only for submodules
    graph.eliminate_dead_code()
    graph.owning_module = None  # or a plan that is kept would keep its model


def rows_of(value: Tensor) -> Tensor:
    """A feature map or logits as rows: ``[H, N, W, channels]``, logits color-major.

    What has fewer dimensions, a scalar or ``[C, 1, 1]``, is taken as broadcasting has it.
    """
    value = value.reshape((1,) * (4 - value.dim()) + value.shape)
    if value.dim() == 5:  # [N, L, C, H, W]
        return value.permute(3, 0, 4, 2, 1).flatten(3)
    return value.permute(2, 0, 3, 1)


@torch.no_grad()
def run_conditioning(stage: fx.GraphModule, low_res: Tensor | None) -> tuple[Tensor, ...]:
    """The conditioning features as rows, ``[H, M, W, channels]`` each."""
    values = stage() if low_res is None else stage(low_res)
    return tuple(rows_of(value) for value in values)
