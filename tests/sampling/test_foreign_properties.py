"""Tests of random networks as others compose them: planned right or refused, never wrong."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import pixelsr
from pixelsr import ops
from tests.support.foreign.family import randomize_all
from tests.support.random_foreign import FUNCTIONS, STEPS, foreign_networks, with_function
from tests.support.random_networks import requests

pytestmark = pytest.mark.usefixtures("one_thread")

settings.register_profile("tests", deadline=None, derandomize=True, database=None)
settings.load_profile("tests")
SLOW_IS_FINE = list(HealthCheck)
ENGINES = ["reference"] if ops.WHY_NOT_COMPILED else ["reference", "cpu"]


def reads_the_future(model: nn.Module, size: tuple[int, int]) -> bool:
    """Return True if a value reads the future, with any of several weights.

    The images are large enough for every mistake to matter: a plan may also refuse a network where
    a tap of the future lies outside of all images of a size.
    """
    size = max(size[0], 6), max(size[1], 6)
    for seed in range(4):
        try:
            pixelsr.check_causality(randomize_all(model, seed), size)
        except pixelsr.CausalityError:
            return True
    return False


def check(
    data: st.DataObject,
    engine: str,
    kinds: tuple[str, ...] = tuple(STEPS),
    refusals: tuple[type[Exception], ...] = (pixelsr.UnsupportedOperation,),
) -> None:
    """Draw an image with an engine and with `ancestral`, or check that a refusal is right.

    Any other PlanError is a mistake of the planner, which the check of its plan has found.
    """
    network, adapt = data.draw(foreign_networks(kinds))
    model = pixelsr.adapt(network, **adapt)
    request = data.draw(requests(model))
    try:
        drawn = pixelsr.sample(model, engine=engine, **request)
    except pixelsr.NotCausal:
        assert reads_the_future(model, request["image_size"])
        return
    except refusals:
        return
    assert torch.equal(drawn, pixelsr.sample(model, method="ancestral", **request))


@pytest.mark.parametrize("engine", ENGINES)
@settings(max_examples=25, suppress_health_check=SLOW_IS_FINE)
@given(st.data())
def test_a_random_network_is_planned_right_or_refused(engine, data):
    check(data, engine)


# Moved maps may be needed outside the image, where no plan computes them.
MOVES = ("conv", "strict conv", "depthwise conv", "grouped conv", "shift", "there and back")


@pytest.mark.parametrize("kind", [kind for kind in STEPS if kind not in ("function", *MOVES)])
@settings(max_examples=4, derandomize=True, suppress_health_check=SLOW_IS_FINE)
@given(st.data())
def test_a_causal_network_of_one_kind_of_step_is_planned(kind, data):
    check(data, "reference", (kind,), refusals=())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_network_with_a_function_is_planned(name, engine):
    network, adapt = with_function(name)
    model, request = pixelsr.adapt(network, **adapt), {"n": 2, "image_size": (4, 5)}
    drawn = pixelsr.sample(model, engine=engine, **request)
    assert torch.equal(drawn, pixelsr.sample(model, method="ancestral", **request))


@pytest.mark.slow
@settings(max_examples=1000, suppress_health_check=SLOW_IS_FINE)
@given(st.data())
def test_many_more_networks(data):
    check(data, data.draw(st.sampled_from(ENGINES)))
