"""Tests of the dependencies: what an edit affects is the transpose of what a value needs."""

import numpy as np
import pytest
import torch
from torch import nn

from pixelsr.sampling.plan import Product, Span, Step
from pixelsr.sampling.plan.dependencies import Cells
from tests.support.networks import NETWORKS, network
from tests.support.plans import make_plan

SIZE = (6, 4)


@pytest.mark.parametrize("name", NETWORKS)
def test_cells_are_the_channels_and_the_multiply_adds_of_the_plan(name):
    made = make_plan(network(name))
    cells = Cells(made).cells
    channels = [
        (cell.span.buffer, cell.span.first + i) for cell in cells for i in range(cell.span.count)
    ]
    expected = [(name, i) for name, b in made.buffers.items() for i in range(b.channels)]
    assert sorted(channels) == sorted(expected)
    assert 6 * 4 * sum(cell.macs for cell in cells) == made.macs


@pytest.mark.parametrize("name", NETWORKS)
def test_cells_stand_after_what_they_read_and_are_first_overwritten(name):
    made = make_plan(network(name))
    cells = Cells(made)
    given = {made.image, *made.conditioning}
    for number, cell in enumerate(cells.cells):
        assert all(max(cells.reads[read].cells) < number for read in cell.reads)
        assert (not cell.steps) == (cell.span.buffer in given)
        own = [not _overwrites(step) for step in cell.steps]
        assert own == sorted(own)
        assert not cell.steps or not own[0]


def _overwrites(step: Step) -> bool:
    return step.overwrite if isinstance(step, Product) else step.out not in step.args


@pytest.mark.parametrize("name", ["GatedPixelCNN", "PixelCNN", "Dilated", "ReadTwice", "HintAbove"])
def test_needed_is_the_transpose_of_affected(name):
    """Check that a position affects another exactly if the other needs it."""
    cells = Cells(make_plan(network(name)))
    every = np.eye(24, dtype=bool).reshape(24, *SIZE)  # one mask per position
    numbers = range(len(cells.cells))
    affected = {a: cells.affected({a: every}) for a in numbers}
    needed = {b: cells.needed({b: every}) for b in numbers}
    nowhere = np.zeros_like(every)
    for a in numbers:
        for b in numbers:
            forwards = affected[a].get(b, nowhere).reshape(24, 24)  # from, to
            backwards = needed[b].get(a, nowhere).reshape(24, 24)
            assert np.array_equal(forwards, backwards.T)


@pytest.mark.parametrize("name", ["GatedPixelCNN", "PixelCNN", "Dilated"])
def test_logits_need_the_values_that_can_change_them(name, monkeypatch):
    model = network(name)
    made = make_plan(model)
    cells = Cells(made)
    monkeypatch.setattr(nn.functional, "relu", lambda x: x)  # ReLU would hide some changes
    nowhere = np.zeros((1, *SIZE), dtype=bool)
    for color, row, col in ((0, 5, 3), (2, 3, 0), (1, 2, 2)):
        wanted = nowhere.copy()
        wanted[0, row, col] = True
        needed = cells.needed(dict.fromkeys(cells.of(made.logits[color]), wanted))
        values = [cells.of(Span(made.image, c, 1))[0] for c in range(3)]
        found = np.concatenate([needed.get(cell, nowhere) for cell in values])
        assert np.array_equal(found, changes(model, color, row, col))


@torch.no_grad()
def changes(model: nn.Module, color: int, row: int, col: int) -> np.ndarray:
    """Return the values that change some logits at a position, bool ``[C, H, W]``."""
    shape = (model.colors, *SIZE)
    images = torch.randint(7, (1, *shape), dtype=torch.uint8)
    ones = torch.eye(3 * 6 * 4, dtype=torch.uint8).view(-1, *shape)  # [values, C, H, W]
    differs = model(images) != model(images + ones)
    return differs[:, :, color, row, col].any(1).view(shape).numpy()
