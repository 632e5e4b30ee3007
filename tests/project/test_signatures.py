"""A test of the order of arguments in the public functions, constructors and methods."""

import collections
import inspect
import itertools

import pixelsr
from pixelsr import evaluation, functional, masks, models, nn, sampling
from pixelsr.data import binarize, crop, downsample, load, quantize

PACKAGES = (pixelsr, evaluation, functional, models, nn, sampling)
MODULES = (masks, nn.init, binarize, crop, downsample, load, quantize)


BUILT_IN = (pixelsr.PlanError, pixelsr.NotCausal)
"""The classes whose constructor is Python's."""


def public():
    """Return the public functions, constructors and methods by name."""
    found = {f"{p.__name__}.{name}": getattr(p, name) for p in PACKAGES for name in p.__all__}
    for module in MODULES:
        found |= members(module.__name__, module)
    for name, kind in list(found.items()):
        if inspect.isclass(kind):
            found |= members(name, kind)
    return {
        name: value for name, value in found.items() if callable(value) and value not in BUILT_IN
    }


def members(name, owner):
    """Return the public functions of a module or class that the package defines."""
    return {
        f"{name}.{member}": value
        for member, value in inspect.getmembers(owner, inspect.isroutine)
        if member[0] != "_" and getattr(value, "__module__", "").startswith("pixelsr.")
    }


def positional(call):
    """Return the names of the arguments that may be given by position."""
    parameters = inspect.signature(call).parameters.values()
    return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"]


def test_arguments_have_one_order_in_all_functions():
    orders = collections.defaultdict(dict)
    for name, call in public().items():
        for pair in itertools.combinations(positional(call), 2):
            orders[frozenset(pair)].setdefault(pair, name)
    assert len(orders) > 50
    assert [found for found in orders.values() if len(found) > 1] == []
