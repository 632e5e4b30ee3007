"""The exceptions of the package."""

import functools
from typing import Any


class CausalityError(ValueError):
    """An error for a network with an output that reads itself or a value drawn later.

    Attributes:
        output, input: the positions (row, column, color) of the output and of the value that it
            reads; None if no pair was measured.
        mode: the network's mode, "train" or "eval"; None if no pair was measured.
    """

    def __init__(
        self,
        message: str,
        output: tuple[int, int, int] | None = None,
        input: tuple[int, int, int] | None = None,
        mode: str | None = None,
    ) -> None:
        super().__init__(message)
        self.output, self.input, self.mode = output, input, mode


class PlanError(ValueError):
    """An error for a network that the cached sampler does not support; it names the operation."""


class UnsupportedOperation(PlanError):  # noqa: N818  the kinds of PlanError name the reason
    """An error for an operation that no plan can be made of.

    Attributes:
        operation: the name of the operation, such as "cumsum".
        module: the path of the layer that calls it in the network; "" for the network itself.
        source: file and line of the call, such as "net.py:41"; "" if unknown.
    """

    def __init__(self, message: str, *, operation: str, module: str = "", source: str = "") -> None:
        super().__init__(message)
        self.operation, self.module, self.source = operation, module, source

    def __str__(self) -> str:
        layer = f" in layer {self.module!r}" if self.module else ""
        line = f" ({self.source})" if self.source else ""
        return (
            f"{self.operation.removeprefix('aten.')}{layer}{line}: {self.args[0]}; "
            'method="ancestral" works for any causal network'
        )

    def __reduce__(self) -> tuple[Any, ...]:
        parts = {"operation": self.operation, "module": self.module, "source": self.source}
        return functools.partial(type(self), **parts), self.args


class NotCausal(PlanError):  # noqa: N818  as above
    """An error for a network whose plan would read a value before it is drawn."""


class LogitsError(ValueError):
    """An error for logits that cannot be sampled from: NaN, +inf, or -inf at every level.

    Attributes:
        sample: the index of the sample among all samples drawn.
        position: the (row, column, color) of the value.
        found: "NaN", "+inf" or "-inf at every level".
    """

    def __init__(self, sample: int, position: tuple[int, int, int], found: str) -> None:
        super().__init__(sample, position, found)
        self.sample, self.position, self.found = sample, position, found

    def __str__(self) -> str:
        row, column, color = self.position
        return (
            f"the logits of sample {self.sample} at row {row}, column {column}, color {color} "
            f"hold {self.found}; expected finite numbers, or -inf at some of the levels"
        )
