"""Tests that every engine and batch draws what `ancestral` draws, for random networks."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pixelsr
from tests.support.random_networks import models, requests

settings.register_profile("tests", deadline=None, derandomize=True, database=None)
settings.load_profile("tests")
SLOW_IS_FINE = list(HealthCheck)


def check(data: st.DataObject) -> None:
    """Draw with `ancestral`, and compare every engine, alone and in batches."""
    model = data.draw(models())
    request = data.draw(requests(model))
    expected = pixelsr.sample(model, method="ancestral", **request)
    for engine in ("cpu", "reference"):
        drawn = pixelsr.sample(model, engine=engine, **request)
        assert torch.equal(drawn, expected), engine
    max_batch = data.draw(st.integers(1, 4))
    assert torch.equal(pixelsr.sample(model, max_batch=max_batch, **request), expected)


@settings(max_examples=40, suppress_health_check=SLOW_IS_FINE)
@given(st.data())
def test_every_engine_and_batch_draws_the_images_of_ancestral(data):
    check(data)


@pytest.mark.slow
@settings(max_examples=1500, suppress_health_check=SLOW_IS_FINE)
@given(st.data())
def test_many_more_networks(data):
    check(data)
