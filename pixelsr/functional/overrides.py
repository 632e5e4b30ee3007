"""PyTorch's protocol for overriding functions, applied to functions of this library."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from torch.overrides import handle_torch_function, has_torch_function

P = ParamSpec("P")
R = TypeVar("R")


def overridable(function: Callable[P, R]) -> Callable[P, R]:
    """Show each call to ``__torch_function__``, as the functions of `torch.nn.functional` do.

    A `TorchFunctionMode` or an argument of a tensor subclass receives the call as one operation,
    with the arguments as they were given. The undecorated function is ``__wrapped__``.
    """

    def public(*args: P.args, **kwargs: P.kwargs) -> R:
        given = (*args, *kwargs.values())
        if has_torch_function(given):
            return handle_torch_function(public, given, *args, **kwargs)
        return function(*args, **kwargs)

    # torch.compile counts compilations by code object: each function needs its own.
    public.__code__ = public.__code__.replace(co_name=function.__name__)
    return functools.update_wrapper(public, function)
