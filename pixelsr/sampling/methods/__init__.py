"""The methods: ways to draw the same pictures."""

from collections.abc import Callable

from torch import Tensor

from ..request import Request
from .ancestral import ancestral
from .cached import cached
from ..drawing import Drawing

METHODS: dict[str, Callable[[Request, Drawing, str], Tensor]] = {
    "cached": cached,
    "ancestral": ancestral,
}
