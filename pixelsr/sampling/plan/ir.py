"""What a plan is made of: buffers, typed steps, and the order in which an image runs them.

A *stage* says when a channel of a feature map becomes known while an image is drawn:
``ROW`` once all rows above are drawn, c >= 0 once everything to the left, and the first c colors
of this very pixel, are drawn. The image itself has color c at stage c + 1.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import fx

ROW = -1


@dataclass(frozen=True)
class Initial:
    """Where a recurrence begins: what stands beside the image in place of zeros.

    Attributes:
        parameter: the name of the initial state, hidden and cell, ``[2, channels]``.
        part: 0, hidden, or 1, cell.
        row: -1, the row above the image, or None: all rows.
        cols: the columns.
    """

    parameter: str
    part: int
    row: int | None
    cols: range


@dataclass
class Buffer:
    """Feature maps of the last `rows` rows: ``[rows, N, left + W + right, channels]``.

    Row r lives in slot ``r % rows``. The margins, and the rows above the image, are zero, as the
    zero padding of a convolution has it, but for `initial`. Channels are sorted by stage;
    `order[i]` is the channel of the traced node that stands at place i. Of the right margin, the
    first `padding` columns are computed as those of the image are.
    """

    name: str
    node: fx.Node
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
    """`count` consecutive channels of a buffer, `dr` rows below and `dc` columns to the right.

    What is written, and the source of a product, stand at the pixel itself.
    """

    buffer: str
    first: int
    count: int
    dr: int = 0
    dc: int = 0


@dataclass(frozen=True)
class Weight:
    """A block of a layer's weight: some channels, and some rows and columns of the kernel.

    `layer` names the module. A kernel of one dimension is a row.
    """

    layer: str
    out_channels: tuple[int, ...]
    in_channels: tuple[int, ...]
    kernel_rows: tuple[int, ...]
    kernel_cols: tuple[int, ...]
    parameter: str = "weight"


@dataclass(frozen=True)
class Product:
    """``out (+)= window(src) @ weight + sum(biases) + add``, at one pixel or for a whole row.

    The window are the pixels at the offsets `rows` x `cols` of `src`. Without `src` the result is
    the sum of the biases. `biases` are (layer, channels) pairs.
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
    def macs(self) -> int:
        """Multiply-adds at one pixel."""
        taps = len(self.rows) * len(self.cols)
        return taps * self.src.count * self.out.count if self.src else 0


Expression = tuple[Any, ...]
"""A pointwise formula: ("arg", i), ("const", value), or (opcode, operand, ...)."""


@dataclass(frozen=True)
class Pointwise:
    """``out = expression(args)``, element by element, over spans of equal length."""

    out: Span
    args: tuple[Span, ...]
    expression: Expression

    macs = 0


Step = Product | Pointwise


def reads_of_step(step: Step) -> list[Span]:
    if isinstance(step, Pointwise):
        return list(step.args)
    return [span for span in (step.src, step.add) if span]


@dataclass(frozen=True)
class Scan:
    """A recurrence along a row: a whole row is run pixel by pixel, all its steps at each."""

    number: int
    reverse: bool


@dataclass(frozen=True)
class Placed:
    """A step, and when and where it runs.

    Attributes:
        when: "row", "left" or "color".
        color: the stage, where `when` is "color".
        head: does it serve only the logits of its own pixel?
        scan: that it is a part of; the steps of a scan follow each other.
        first_row: there is nothing to do above this row.
        padding: columns to the right of the image where it runs too.
    """

    step: Step
    when: str
    color: int = 0
    head: bool = False
    scan: Scan | None = None
    first_row: int = 0
    padding: int = 0


@dataclass(frozen=True)
class Prefill:
    """A part of the network that computes whole feature maps of known leading rows in one pass.

    ``module(images, *image-stage values)`` gives one map for each name in `buffers`.
    """

    module: fx.GraphModule
    buffers: tuple[str, ...]
    values: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Plan:
    """How a network draws images, each multiply-add once.

    Attributes:
        image_size: height and width.
        colors, levels: of the image.
        image: the buffer that a drawn value is written to.
        logits: the span of each color's logits.
        buffers: every buffer by name.
        placed: all steps in the order of the network; a row that is known runs them so.
        padding: columns to the right of the image that have features, as of `F.pad`.
        conditioning_features: what depends on the small image alone, as a module: ``(low_res) ->
        values``. values: the buffers that take the rows of those values. prefill: computes what
        rows below read of known leading rows; None where only the steps
            themselves can, see `is_local`.
    """

    image_size: tuple[int, int]
    colors: int
    levels: int
    image: str
    logits: tuple[Span, ...]
    buffers: dict[str, Buffer]
    placed: tuple[Placed, ...]
    padding: int
    conditioning_features: fx.GraphModule | None
    values: tuple[str, ...]
    prefill: Prefill | None

    def steps(self, when: str, color: int = 0, head: bool | None = None) -> list[Step]:
        """The steps of a stage in order; of the head only, or without it, where `head` is given."""
        return [
            placed.step
            for placed in self.placed
            if placed.when == when
            and placed.color == color
            and (head is None or placed.head == head)
        ]

    @cached_property
    def macs(self) -> int:
        """Multiply-adds of one image, which are the live ones of one forward pass.

        Those of the image stage are not counted: it runs once, as it stands.
        """
        height, width = self.image_size
        return sum(
            (height - placed.first_row) * (width + placed.padding) * placed.step.macs
            for placed in self.placed
        )

    @cached_property
    def is_local(self) -> bool:
        """Is every value made of a bounded window of the image, and no place beyond it?

        Recurrences read themselves, as far back as the image goes.
        """
        return self.prefill is not None
