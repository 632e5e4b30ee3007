"""Tests of the moments of a draw: which steps run when."""

import pytest

from pixelsr.config.choices import ENGINES as NAMES
from pixelsr.models import DiagonalBiLSTM
from pixelsr.sampling import plan
from pixelsr.sampling.engines import ENGINES
from tests.support.networks import network


PLANS = {
    "prior": lambda: plan(network("GatedPixelCNN"), (6, 4)),
    "conditioned": lambda: plan(network("PixelRecursiveSR-gated"), (6, 4), (3, 2)),
    "padded": lambda: plan(DiagonalBiLSTM(channels=4, layers=1, head_channels=4), (6, 4)),
}


@pytest.fixture(params=PLANS)
def made(request):
    return PLANS[request.param]()


def test_each_step_runs_once_in_a_row_with_unknown_values(made):
    moments = made.moments(range(len(made.placed)), made.placed.__getitem__)
    pairs = [moments.left, *moments.colors]
    assert sorted([*moments.row, *(i for pair in pairs for i in pair[True])]) == [
        *range(len(made.placed))
    ]
    for without, with_logits in pairs:
        assert without == tuple(i for i in with_logits if not made.placed[i].logits_only)
    assert len(moments.colors) == made.colors + 1


def test_a_known_row_runs_each_step_that_other_pixels_need(made):
    moments = made.moments(range(len(made.placed)), made.placed.__getitem__)
    needed = [i for i, placed in enumerate(made.placed) if not placed.logits_only]
    assert moments.known_row == tuple(needed)
    assert any(placed.logits_only for placed in made.placed)


def test_the_columns_beyond_the_image_run_the_steps_that_reach_them():
    made = PLANS["padded"]()
    moments = made.moments(made.placed, lambda placed: placed)
    (steps,) = moments.padding
    assert steps == tuple(p for p in made.placed if p.when != "row" and p.padding == 1)
    assert moments.of_pixels[-1] == steps
    assert len(moments.of_pixels) == 2 + 2 * (made.colors + 1) + 1


def test_the_names_of_engines_are_the_choices_of_the_commands():
    assert tuple(ENGINES) == NAMES
