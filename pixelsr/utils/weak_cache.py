"""A cache of a function's results for each object, for as long as the object exists."""

import functools
import weakref
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

Owner = TypeVar("Owner")
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def weak_cache(
    function: Callable[Concatenate[Owner, Arguments], Result],
) -> Callable[Concatenate[Owner, Arguments], Result]:
    """Cache the results of a function, which are forgotten with its first argument.

    The first argument is compared by identity and referenced weakly; the results must not refer to
    it. The other arguments must be positional and hashable.
    """
    results: weakref.WeakKeyDictionary[Owner, dict[Any, Result]] = weakref.WeakKeyDictionary()

    @functools.wraps(function)
    def cached(owner: Owner, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        own = results.setdefault(owner, {})
        if args not in own:
            own[args] = function(owner, *args, **kwargs)
        return own[args]

    return cached
