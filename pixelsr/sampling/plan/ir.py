"""The intermediate representation of a plan: buffers, typed steps and their order.

A *stage* says when a channel of a feature map becomes known while an image is drawn. A channel of
stage ``ROW`` is known once all rows above are drawn. A channel of stage c >= 0 is known once all
pixels above and to the left and the first c colors of the same pixel are drawn. Color c of the
image itself has stage c + 1.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .moments import Moments, T, select

if TYPE_CHECKING:
    from .graph import Given, Graph
    from .origins import Layout
    from .tape import Tape

ROW = -1


@dataclass(frozen=True)
class Initial:
    """The initial state of a recurrence, which fills a margin of the image in place of zeros.

    Attributes:
        constant: name of the constant with the hidden and the cell state, ``[2, channels]``.
        part: 0 for the hidden state, 1 for the cell state.
        row: -1 for the row above the image, None for all rows.
        cols: the columns to fill.
    """

    constant: str
    part: int
    row: int | None
    cols: range


@dataclass
class Buffer:
    """A buffer of the last `rows` rows of a feature map, ``[rows, N, left + W + right, channels]``.

    Row r is in slot ``r % rows``. The margins and the rows above the image are zero, like the
    padding of a convolution, except where `initial` fills them. Channels are sorted by stage:
    channel i of the buffer is channel ``order[i]`` of the feature map. The first `padding` columns
    of the right margin are computed like the columns of the image.
    """

    name: str
    order: tuple[int, ...]
    rows: int = 1
    left: int = 0
    right: int = 0
    padding: int = 0
    initial: Initial | None = None

    @property
    def channels(self) -> int:
        return len(self.order)


@dataclass(frozen=True)
class Span:
    """A run of `count` channels of a buffer, `dr` rows below and `dc` columns to the right.

    The offsets are zero in outputs and in the sources of products.
    """

    buffer: str
    first: int
    count: int
    dr: int = 0
    dc: int = 0

    def overlaps(self, other: "Span") -> bool:
        """Return True if the spans share a channel, at whatever pixels."""
        return (
            self.buffer == other.buffer
            and self.first < other.first + other.count
            and other.first < self.first + self.count
        )


@dataclass(frozen=True)
class Weight:
    """A block of a constant ``[out, in, rows, columns]``.

    `is_sum` is true if the constant only repeats one number, which counts no multiply-adds.
    """

    constant: str
    out_channels: tuple[int, ...]
    in_channels: tuple[int, ...]
    kernel_rows: tuple[int, ...]
    kernel_cols: tuple[int, ...]
    is_sum: bool = False


@dataclass(frozen=True)
class Product:
    """The step ``out (+)= window(src) @ weight + sum(biases) + add``, for a pixel or a whole row.

    The window consists of the pixels of `src` at the offsets `rows` x `cols`. Without `src`, the
    result is the sum of the biases. `biases` holds pairs of a constant's name and its elements.
    """

    out: Span
    src: Span | None
    rows: tuple[int, ...]
    cols: tuple[int, ...]
    weight: Weight | None
    biases: tuple[tuple[str, tuple[int, ...]], ...]
    overwrite: bool
    add: Span | None = None

    @property
    def sources(self) -> list[Span]:
        """Return the spans that the step reads, except for the `out` that it adds to."""
        return [span for span in (self.src, self.add) if span]

    @property
    def macs(self) -> int:
        """Return the number of multiply-adds at one pixel."""
        if self.src is None or (self.weight is not None and self.weight.is_sum):
            return 0
        return len(self.rows) * len(self.cols) * self.src.count * self.out.count


Expression = tuple[Any, ...]
"""A pointwise expression: ("arg", i), ("const", number), or (opcode, operand, ...)."""


@dataclass(frozen=True)
class Pointwise:
    """The step ``out = expression(args)``, elementwise, over spans of equal length."""

    out: Span
    args: tuple[Span, ...]
    expression: Expression

    macs = 0

    @property
    def sources(self) -> list[Span]:
        """Return the spans that the step reads."""
        return list(self.args)


Step = Product | Pointwise


@dataclass(frozen=True)
class Scan:
    """A recurrence along a row, whose steps all run at one pixel before the next."""

    number: int
    reverse: bool


@dataclass(frozen=True)
class Placed:
    """A step with the time and place at which it runs.

    Attributes:
        when: "row", "left" or "color".
        color: the stage if `when` is "color".
        logits_only: True for a logits-only step, which affects only the logits of its own pixel.
        scan: the scan that it belongs to; the steps of a scan are consecutive.
        first_row: the first row in which it runs.
        padding: number of columns to the right of the image in which it also runs; 0 for a
            logits-only step, since nothing is drawn there.
    """

    step: Step
    when: str
    color: int = 0
    logits_only: bool = False
    scan: Scan | None = None
    first_row: int = 0
    padding: int = 0


@dataclass(frozen=True)
class Captured:
    """The place of a buffer's features among the results of a forward pass.

    Attributes:
        entry: the number of the recorded operation.
        result: the number of its result.
        layout: the layout of the result.
        shift: the number of rows by which the buffer is shifted down.
    """

    entry: int
    result: int
    layout: "Layout"
    shift: int


@dataclass(frozen=True, eq=False)
class Plan:
    """The plan with which a network draws images, doing each multiply-add once.

    Attributes:
        image_size: height and width.
        colors, levels: number of colors and of levels of the image.
        image: the name of the buffer for drawn values.
        logits: the span of each color's logits.
        buffers: all buffers by name.
        placed: all steps in the order of the network; a known row runs them in this order.
        padding: number of columns to the right of the image that have features.
        tape: the recorded forward pass that the plan was made from.
        graph: the feature maps of the tape, and the constants that the plan reads.
        conditioning: the feature map that is given before the first pixel, by buffer.
        prefill: for each buffer whose earlier rows are read, where to find it in a forward pass;
            None if only the steps can compute them, see `is_local`.
    """

    image_size: tuple[int, int]
    colors: int
    levels: int
    image: str
    logits: tuple[Span, ...]
    buffers: dict[str, Buffer]
    placed: tuple[Placed, ...]
    padding: int
    tape: "Tape"
    graph: "Graph"
    conditioning: dict[str, "Given"]
    prefill: dict[str, Captured] | None

    def moments(self, items: Iterable[T], placed_of: Callable[[T], Placed]) -> Moments[T]:
        """Return the items that run at each moment, for example the plan's steps.

        Args:
            items: things made of placed steps, in the order of the plan.
            placed_of: returns the placed step of an item.
        """
        return select(items, placed_of, self.colors, self.padding)

    @cached_property
    def macs(self) -> int:
        """Return the number of multiply-adds per image, equal to the live ones in a forward pass.

        Conditioning features are not counted, since they are computed once, by the network itself.
        """
        height, width = self.image_size
        return sum(
            (height - placed.first_row) * (width + placed.padding) * placed.step.macs
            for placed in self.placed
        )

    @cached_property
    def is_local(self) -> bool:
        """Return True if each feature depends on a bounded window inside the image.

        Recurrences depend on all earlier positions, and padding on columns outside the image.
        """
        return not self.padding and not any(b.initial for b in self.buffers.values())
