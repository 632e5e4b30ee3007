"""Tests of the kinds of PlanError."""

import pickle

import pytest

import pixelsr
from pixelsr import NotCausal, PlanError, UnsupportedOperation

ALWAYS = 'method="ancestral" works for any causal network'
MESSAGES = [
    (
        UnsupportedOperation("m", operation="aten.cumsum", module="blocks.3", source="net.py:41"),
        f"cumsum in layer 'blocks.3' (net.py:41): m; {ALWAYS}",
    ),
    (
        UnsupportedOperation("m", operation="aten.cumsum", source="net.py:41"),
        f"cumsum (net.py:41): m; {ALWAYS}",
    ),
    (
        UnsupportedOperation("m", operation="aten.cumsum", module="out"),
        f"cumsum in layer 'out': m; {ALWAYS}",
    ),
    (UnsupportedOperation("m", operation="custom.scan"), f"custom.scan: m; {ALWAYS}"),
    (NotCausal("row 1 reads row 2"), "row 1 reads row 2"),
]


@pytest.mark.parametrize(("error", "says"), MESSAGES)
def test_a_refusal_has_a_kind_and_names_its_place(error, says):
    assert isinstance(error, PlanError)
    assert str(error) == says


@pytest.mark.parametrize("error", [error for error, _ in MESSAGES])
def test_a_refusal_survives_a_process(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_the_kinds_are_public():
    assert {"NotCausal", "UnsupportedOperation", "adapt"} <= {*pixelsr.__all__}
