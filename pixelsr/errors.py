"""The exceptions that the package adds to Python's own."""


class CausalityError(ValueError):
    """An output of a network reads a value that is drawn at the same time or later.

    Attributes:
        output, input: (row, column, color) of the two; None where no pair was measured.
        mode: "train" or "eval", the mode that the network was in; None likewise.
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
    """A network that the cached sampler cannot plan; the message names the operation."""


class LogitsError(ValueError):
    """Logits that no value can be drawn from: NaN, +inf, or -inf at every level.

    Attributes:
        sample: index of the sample among all that are drawn.
        position: (row, column, color) of the value.
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
