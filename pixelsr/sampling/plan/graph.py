"""Questions about a traced graph."""

from typing import Any

from torch import fx, nn

from pixelsr import functional
from pixelsr.errors import PlanError


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
    """Return colours and levels, as the last `functional.to_logits` of the network has them."""
    for node in reversed(graph.nodes):
        if node.target is functional.to_logits:
            return int(argument(node, 1, "colours")), int(argument(node, 2, "levels"))
    raise PlanError(
        "the model never calls pixelsr.functional.to_logits, so its output has no known layout"
    )


def describe(node: fx.Node, modules: dict[str, nn.Module]) -> str:
    if node.op == "call_module":
        return f"{type(modules[str(node.target)]).__name__} (layer {node.target})"
    name = node.target if isinstance(node.target, str) else node.target.__name__
    return f"{name} (node {node.name})"
