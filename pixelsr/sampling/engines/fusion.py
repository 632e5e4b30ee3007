"""A plan's steps as a GPU runs them: a pointwise function right after the product that it reads.

What a product has summed stands in registers; a ReLU or a gate that reads just that is applied
there, and the sum itself is written only where another step reads it too.
"""

import weakref
from dataclasses import dataclass, replace

from ..plan import Plan, Pointwise, Product, Span, Step
from ..plan.ir import Expression, Placed

_RELU: Expression = ("relu", ("arg", 0))
_GATE: Expression = ("mul", ("tanh", ("arg", 0)), ("sigmoid", ("arg", 1)))


@dataclass(frozen=True)
class Task:
    """A step of a plan, and what follows it in registers.

    Attributes:
        placed: the step, and when it runs.
        function: applied to the sum of a product: "relu"; "gate", which is tanh of its first half
            times sigmoid of its second; or "", none.
        result: where the function's result is written.
        keeps: whether the step's own result is written to its `out`.
    """

    placed: Placed
    function: str = ""
    result: Span | None = None
    keeps: bool = True

    @property
    def step(self) -> Step:
        return self.placed.step


_tasks: "weakref.WeakKeyDictionary[Plan, tuple[Task, ...]]" = weakref.WeakKeyDictionary()


def tasks(plan: Plan) -> tuple[Task, ...]:
    """The steps of a plan in the order of the network, pointwise ones joined to products."""
    if plan not in _tasks:
        _tasks[plan] = _join(plan)
    return _tasks[plan]


def _join(plan: Plan) -> tuple[Task, ...]:
    steps = [placed.step for placed in plan.placed]
    made: dict[int, Task] = {}
    joined: dict[int, int] = {}  # a pointwise step to the product before it
    for number, placed in enumerate(plan.placed):
        product = _product_before(plan, number)
        if product is None or product in joined.values():
            made[number] = Task(placed)
        else:
            joined[number] = product
    for number, product in joined.items():
        out, function = steps[product].out, steps[number]
        others = [step for k, step in enumerate(steps) if k not in (number, product)]
        made[product] = Task(
            plan.placed[product],
            "gate" if isinstance(function, Pointwise) and function.expression == _GATE else "relu",
            function.out,
            any(overlap(out, span) for step in others for span in sources(step))
            or any(overlap(out, span) for span in plan.logits),
        )
    return tuple(made[number] for number in sorted(made))


def sources(step: Step) -> list[Span]:
    """The spans that a step reads, beside its own `out` where a product adds to it."""
    if isinstance(step, Pointwise):
        return list(step.args)
    return [span for span in (step.src, step.add) if span]


def overlap(a: Span, b: Span) -> bool:
    return a.buffer == b.buffer and a.first < b.first + b.count and b.first < a.first + a.count


def _product_before(plan: Plan, number: int) -> int | None:
    """The product whose sum a pointwise step can take from registers; None where there is none."""
    placed, step = plan.placed[number], plan.placed[number].step
    source = _whole_source(step)
    if source is None:
        return None
    if any(overlap(later.step.out, source) for later in plan.placed[number + 1 :]):
        return None
    for before in range(number - 1, -1, -1):
        other = plan.placed[before]
        if isinstance(other.step, Product) and other.step.out == source:
            return before if replace(other, step=step) == placed else None  # there and then
        touched = [other.step.out, *sources(other.step)]
        if overlap(other.step.out, source) or any(overlap(step.out, span) for span in touched):
            return None
    return None


def _whole_source(step: Step) -> Span | None:
    """The span that a ReLU or a gate reads, where that is one span from end to end."""
    if not isinstance(step, Pointwise):
        return None
    first, *rest = step.args
    if step.expression == _RELU:
        return first
    if step.expression == _GATE and rest == [replace(first, first=first.first + first.count)]:
        return replace(first, count=2 * first.count)
    return None
