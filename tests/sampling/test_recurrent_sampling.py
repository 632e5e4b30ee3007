"""Tests of the plans of Row LSTM and Diagonal BiLSTM: each cell once, and clear refusals."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pixelsr
from pixelsr import functional
from pixelsr.errors import PlanError, UnsupportedOperation
from pixelsr.nn import MaskedConv2d
from pixelsr.sampling.plan import macs_with_known
from tests.support.helpers import randomize
from tests.support.networks import Network, network
from tests.support.plans import executed_macs, make_plan
from tests.support.sampling import masks


@pytest.mark.parametrize("name", ["RowLSTM", "DiagonalBiLSTM"])
def test_the_plan_counts_every_cell_once(name):
    model = network(name)
    h, taps = 6, {"RowLSTM": 3, "DiagonalBiLSTM": 2}[name]
    layers = [layer for layer in model.modules() if isinstance(layer, MaskedConv2d)]
    masked = {layer: int(layer.mask().sum()) for layer in layers}
    padded = sum(m for layer, m in masked.items() if layer not in [*model.head.children()])
    padded += 2 * taps * 4 * h * h  # two layers
    cropped = sum(masked[layer] for layer in [*model.head.children(), model.layers[1].out])
    height, width = 6, 4
    expected = (
        height * (width + 1) * (padded - masked[model.layers[1].out]) + height * width * cropped
    )
    if name == "DiagonalBiLSTM":  # the other direction; nobody reads its last row
        own = sum(masked[layer.input_to_state] // 2 for layer in model.layers)
        other = own + 2 * taps * 4 * h * h
        expected += height * (width + 1) * -own + (height - 1) * (width + 1) * other
    assert make_plan(model).macs == expected


@pytest.mark.parametrize("mask", ["upper half", "hole", "rows", "lower half"])
@pytest.mark.parametrize("name", ["RowLSTM", "DiagonalBiLSTM"])
def test_the_engine_does_the_predicted_multiply_adds(name, mask, monkeypatch):
    model, known_mask = network(name), masks((1, 3, 6, 4))[mask]
    predicted = macs_with_known(make_plan(model), ~known_mask[0])
    assert executed_macs(model, known_mask, monkeypatch) == predicted


@pytest.mark.parametrize("name", ["RowLSTM", "DiagonalBiLSTM"])
def test_edits_are_refused(name):
    with pytest.raises(pixelsr.PlanError, match="a change affects everything after it"):
        pixelsr.sampling.incremental_logits(
            network(name), torch.zeros(1, 3, 6, 4, dtype=torch.uint8)
        )


class Faulty(Network):
    """A network whose `change` alters the gates of a first layer before the logits."""

    def __init__(self, change: Callable[["Faulty", Tensor], Tensor]) -> None:
        super().__init__()
        self.change = change
        self.first = MaskedConv2d(3, 24, 3, mask_type="A", out_parts=4)
        self.weight = nn.Parameter(torch.zeros(24, 6, 2))
        self.initial = nn.Parameter(torch.zeros(2, 6))
        self.out = MaskedConv2d(6, 24, 1, mask_type="B")

    def of_gates(self, gates: Tensor) -> Tensor:
        return gates[0, :, :1, :1].expand_as(self.weight[..., :1])

    def forward(self, images: Tensor) -> Tensor:
        self.raw = images
        return self.logits(self.out(self.change(self, self.first(self.images(images)))))


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (
            lambda net, gates: functional.diagonal_lstm(
                gates, net.weight, net.initial, reverse=True
            ),
            UnsupportedOperation,
            "^diagonal_lstm .* does not know this operation",
        ),
        (
            lambda net, gates: functional.row_lstm(gates, net.of_gates(gates), net.initial),
            UnsupportedOperation,
            "^row_lstm .* weights and initial states must be constants",
        ),
        (lambda net, gates: F.pad(gates, (1, 0))[:, :6], PlanError, r"returns \[1, 8, 3, 6, 5\]"),
        (lambda net, gates: gates[:, :6, :, :-1], PlanError, r"returns \[1, 8, 3, 6, 3\]"),
        (
            lambda net, gates: F.pad(gates, (0, 1)) + F.pad(gates[:, :6], (1, 0)),
            RuntimeError,
            r"size of tensor a \(24\) must match",
        ),
        (
            lambda net, gates: gates[:, :6] * (40 * net.raw.repeat_interleave(2, 1)),
            UnsupportedOperation,
            r"^mul .*: computes torch.uint8 from 0 to 280, which would wrap around",
        ),
    ],
    ids=["right to left", "computed weights", "wide", "cut", "two shapes", "8 bits"],
)
def test_what_cannot_be_planned_is_named(change, error, says):
    with pytest.raises(error, match=says):
        make_plan(randomize(Faulty(change)).double())


@pytest.mark.parametrize(
    "change",
    [
        lambda net, gates: functional.row_lstm(gates, net.weight[..., :1], net.initial),
        lambda net, gates: functional.row_lstm(gates, -net.weight[..., 1:], net.initial * 2),
        lambda net, gates: gates[:, :6] * (2 * F.pad(net.raw, (0, 0, 1, 0))[:, :1, :-1]),
        lambda net, gates: F.pad(gates, (1, 0))[:, :6, :, :-1],
        lambda net, gates: (F.pad(gates[:, :6], (0, 1)) + F.pad(gates[:, 6:12], (0, 1)))[..., :-1],
        lambda net, gates: functional.row_lstm(
            F.pad(gates, (2, 0)), net.weight[..., :1], net.initial
        )[..., :-2],
    ],
    ids=["a part", "computed constants", "8 bits", "shifted", "padded and cut", "shifted gates"],
)
def test_other_uses_of_gates_are_drawn_as_the_network_computes(change):
    model = randomize(Faulty(change)).double()
    drawn = pixelsr.sample(model, 2, image_size=(5, 4))
    assert torch.equal(drawn, pixelsr.sample(model, 2, image_size=(5, 4), method="ancestral"))
