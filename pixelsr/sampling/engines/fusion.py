"""The fusion of pointwise steps into the products before them, for the GPU engines.

The sums of a product are in registers. A ReLU or a gate that reads exactly these sums is applied
there, and the sums themselves are written only if another step reads them too.
"""

from dataclasses import dataclass, replace

from pixelsr.utils.weak_cache import weak_cache

from ..plan import Plan, Pointwise, Product, Span, Step
from ..plan.ir import Expression, Placed

_RELU: Expression = ("relu", ("arg", 0))
_GATE: Expression = ("mul", ("tanh", ("arg", 0)), ("sigmoid", ("arg", 1)))


@dataclass(frozen=True)
class Task:
    """A step of a plan, with the pointwise function that is fused into it.

    Attributes:
        placed: the step, and when it runs.
        function: the function that is applied to the sum of a product: "relu"; "gate", which is
            tanh of the first half times sigmoid of the second half; or "" for none.
        result: the span that the function's result is written to.
        keeps: True if the step's own result is written to its `out`.
    """

    placed: Placed
    function: str = ""
    result: Span | None = None
    keeps: bool = True

    @property
    def step(self) -> Step:
        return self.placed.step


@weak_cache
def tasks(plan: Plan) -> tuple[Task, ...]:
    """Return the steps of a plan in network order, with pointwise steps fused into products."""
    steps = [placed.step for placed in plan.placed]
    made: dict[int, Task] = {}
    joined: dict[int, int] = {}  # number of a pointwise step -> number of the product before it
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
            any(out.overlaps(span) for step in others for span in step.sources)
            or any(out.overlaps(span) for span in plan.logits),
        )
    return tuple(made[number] for number in sorted(made))


def _product_before(plan: Plan, number: int) -> int | None:
    """Return the number of the product that a pointwise step can be fused into, or None."""
    placed, step = plan.placed[number], plan.placed[number].step
    source = _whole_source(step)
    if source is None:
        return None
    if any(later.step.out.overlaps(source) for later in plan.placed[number + 1 :]):
        return None
    for before in range(number - 1, -1, -1):
        other = plan.placed[before]
        if isinstance(other.step, Product) and other.step.out == source:
            return before if replace(other, step=step) == placed else None  # same time and place
        touched = [other.step.out, *other.step.sources]
        if other.step.out.overlaps(source) or any(map(step.out.overlaps, touched)):
            return None
    return None


def _whole_source(step: Step) -> Span | None:
    """Return the single span that a ReLU or a gate reads, or None."""
    if not isinstance(step, Pointwise):
        return None
    first, *rest = step.args
    if step.expression == _RELU:
        return first
    if step.expression == _GATE and rest == [replace(first, first=first.first + first.count)]:
        return replace(first, count=2 * first.count)
    return None
