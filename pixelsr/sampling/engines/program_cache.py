"""A cache of the programs into which engines pack plans and weights."""

import weakref
from collections.abc import Callable, Hashable
from typing import Generic, NamedTuple, TypeVar

from torch import nn

from ..binding import bind
from ..plan import Plan
from ..request import Request

Program = TypeVar("Program")

_KEPT = 4  # programs of one model, for several image sizes, weight dtypes or layouts


class _Entry(NamedTuple):
    number: int
    plan: Plan
    key: Hashable
    program: object


class ProgramCache(Generic[Program]):
    """The latest programs of each model; a program is packed again when a weight has changed."""

    def __init__(self) -> None:
        self._entries: weakref.WeakKeyDictionary[nn.Module, list[_Entry]]
        self._entries = weakref.WeakKeyDictionary()

    def get(
        self, plan: Plan, request: Request, key: Hashable, pack: Callable[[], Program]
    ) -> Program:
        """Return the program of a plan and a request's weights; `key` identifies its form."""
        number = bind(plan, request).number
        wanted = (number, plan, key)
        kept = [
            entry
            for entry in self._entries.get(request.model, [])
            if entry.number == number or entry.plan is not plan
        ]
        for entry in kept:
            if entry[:3] == wanted:
                return entry.program  # type: ignore[return-value]
        program = pack()
        self._entries[request.model] = [_Entry(*wanted, program), *kept][:_KEPT]
        return program
