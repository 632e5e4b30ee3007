"""The methods: ways to draw the same pictures."""

from collections.abc import Callable

from torch import Tensor

from ..drawing import Drawing
from ..request import Request
from .ancestral import ancestral
from .cached import cached

METHODS: dict[str, Callable[[Request, Drawing, str], Tensor]] = {
    "cached": cached,
    "ancestral": ancestral,
}
