"""A cache of a function's results for each object, for as long as the object exists."""

import functools
import weakref
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

Owner = TypeVar("Owner")
Others = ParamSpec("Others")
Result = TypeVar("Result")


def weak_cache(
    function: Callable[Concatenate[Owner, Others], Result],
) -> Callable[Concatenate[Owner, Others], Result]:
    """Cache the results of a function, which are forgotten with its first argument.

    All arguments are positional and are compared as keys of a dictionary; the first one is
    referenced weakly, so the results must not refer to it.
    """
    results: weakref.WeakKeyDictionary[Owner, dict[Any, Result]] = weakref.WeakKeyDictionary()

    @functools.wraps(function)
    def cached(owner: Owner, /, *args: Others.args, **none: Others.kwargs) -> Result:
        if none:
            raise TypeError(f"{function.__name__} takes no keywords, got {list(none)}")
        own = results.setdefault(owner, {})
        if args not in own:
            own[args] = function(owner, *args, **none)
        return own[args]

    return cached
