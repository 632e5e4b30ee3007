"""The exceptions that the package adds to Python's own."""


class CausalityError(ValueError):
    """An output of a network reads a value that is drawn at the same time or later.

    Attributes:
        output, input: (row, column, colour) of the two; None where no pair was measured.
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
