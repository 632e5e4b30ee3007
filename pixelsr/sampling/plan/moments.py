"""The moments of a draw, and the steps that run at each of them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from .ir import Placed

T = TypeVar("T")


@dataclass(frozen=True)
class Moments(Generic[T]):
    """The steps that run at each moment of a draw, in the order of the network.

    `left` and each of `colors` are pairs: without and with the logits-only steps. A pixel needs
    the latter only up to its last unknown color.

    Attributes:
        row: the steps that run for a whole row with unknown values, before its pixels.
        known_row: the steps that run for a whole row without unknown values.
        left: the steps at the start of a pixel.
        colors: the steps at a pixel when its first 0, 1 .. C colors are drawn.
        padding: the steps of each column to the right of the image, where nothing is drawn.
    """

    row: tuple[T, ...]
    known_row: tuple[T, ...]
    left: tuple[tuple[T, ...], tuple[T, ...]]
    colors: tuple[tuple[tuple[T, ...], tuple[T, ...]], ...]
    padding: tuple[tuple[T, ...], ...]

    @property
    def of_pixels(self) -> list[tuple[T, ...]]:
        """Return the lists of single pixels, numbered as in csrc/common/moments.h."""
        return [*self.left, *(steps for pair in self.colors for steps in pair), *self.padding]


def select(
    items: Iterable[T], placed_of: Callable[[T], "Placed"], colors: int, padding: int
) -> Moments[T]:
    """Return the items that run at each moment; `placed_of` returns the placed step of an item."""
    pairs = [(item, placed_of(item)) for item in items]

    def at(condition: Callable[["Placed"], bool]) -> tuple[T, ...]:
        return tuple(item for item, placed in pairs if condition(placed))

    def at_pixel(when: str, color: int = 0) -> tuple[tuple[T, ...], tuple[T, ...]]:
        def runs(placed: "Placed") -> bool:
            return (placed.when, placed.color) == (when, color)

        return at(lambda placed: runs(placed) and not placed.logits_only), at(runs)

    def beyond(col: int) -> tuple[T, ...]:
        return at(lambda placed: placed.when != "row" and placed.padding > col)

    return Moments(
        row=at(lambda placed: placed.when == "row"),
        known_row=at(lambda placed: not placed.logits_only),
        left=at_pixel("left"),
        colors=tuple(at_pixel("color", color) for color in range(colors + 1)),
        padding=tuple(beyond(col) for col in range(padding)),
    )
