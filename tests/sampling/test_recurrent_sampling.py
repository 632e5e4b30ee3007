"""Tests of Row LSTM and Diagonal BiLSTM in the plan: each cell once, equal to the forward pass."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pixelsr
from pixelsr import functional
from pixelsr.models import ConditioningNetwork, DiagonalBiLSTM, PixelRecursiveSR, RowLSTM
from pixelsr.nn import MaskedConv2d, RowLSTMLayer
from pixelsr.sampling import logits
from pixelsr.sampling.plan import macs_with_known
from tests.sampling.plan.test_plan import executed_macs, make_plan
from tests.sampling.test_sampling import masks
from tests.support.helpers import randomize
from tests.support.networks import Network, inputs

SMALL = {"channels": 6, "layers": 2, "levels": 4, "head_channels": 9}
ENGINES = ["reference", "cpu"]


def _sr(prior: nn.Module) -> PixelRecursiveSR:
    return PixelRecursiveSR(
        prior, ConditioningNetwork(channels=4, blocks=1, scale_factor=2, levels=4)
    )


class Unpadded(Network):
    """A Row LSTM on the image itself, with a skip, whose gates are also read elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.first = MaskedConv2d(3, 24, 3, mask_type="A", out_parts=4)
        self.weight = nn.Parameter(torch.zeros(24, 6, 5))
        self.initial = nn.Parameter(torch.zeros(2, 6))
        self.mix = MaskedConv2d(24, 8, 1, mask_type="B", in_parts=4)
        self.layer = RowLSTMLayer(4, kernel_size=1)
        self.out = MaskedConv2d(8, 24, 1, mask_type="B")

    def forward(self, images: Tensor) -> Tensor:
        gates = self.first(self.images(images))
        hidden = functional.row_lstm(torch.tanh(gates), self.weight, self.initial)
        x = torch.cat([hidden, gates.chunk(4, 1)[1], hidden * hidden, gates.chunk(4, 1)[0]], 1)
        return self.logits(self.out(self.layer(self.mix(x))))


class OnlyLeft(Network):
    """A Diagonal BiLSTM as the first layer, on an image shifted by a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first = MaskedConv2d(3, 48, 1, mask_type="A", out_parts=8)
        self.weight = nn.Parameter(torch.zeros(24, 6, 2))
        self.other = nn.Parameter(torch.zeros(24, 6, 2))
        self.initial = nn.Parameter(torch.zeros(2, 6))
        self.out = MaskedConv2d(6, 24, 1, mask_type="B")

    def forward(self, images: Tensor) -> Tensor:
        gates = self.first(F.pad(self.images(images), (0, 2)))
        maps = functional.diagonal_bilstm(
            gates, self.weight, self.initial, self.other, self.initial
        )
        return self.logits(self.out(maps[..., :-1][..., :-1]))


class ReadAround(Network):
    """A network with wide kernels on hidden states, on a cropped map, and on one padded again."""

    def __init__(self) -> None:
        super().__init__()
        self.first = MaskedConv2d(3, 24, 3, mask_type="A", out_parts=4)
        self.weight = nn.Parameter(torch.zeros(24, 6, 3))
        self.initial = nn.Parameter(torch.zeros(2, 6))
        self.offset = nn.Parameter(torch.zeros(6, 1, 1))
        self.wide = MaskedConv2d(6, 6, 3, mask_type="B")
        self.out = MaskedConv2d(6, 24, 3, mask_type="B")

    def forward(self, images: Tensor) -> Tensor:
        gates = self.first(F.pad(self.images(images), (0, 1)))
        x = functional.row_lstm(gates, weight=self.weight, initial_state=self.initial)
        x = self.wide(torch.tanh(self.wide(x) + self.offset)[..., :-1])
        x = self.wide(F.pad(torch.relu(self.wide(F.pad(x, (0, 1)))[..., :-1]), (0, 1)))
        return self.logits(self.out(x[..., :-1]))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "RowLSTM": lambda: RowLSTM(**SMALL),
    "DiagonalBiLSTM": lambda: DiagonalBiLSTM(**SMALL),
    "RowLSTM-gray-wide-skip": lambda: RowLSTM(**SMALL, colors=1, kernel_size=5, skip=True),
    "DiagonalBiLSTM-gray-skip": lambda: DiagonalBiLSTM(**SMALL, colors=1, skip=True),
    "RowLSTM-multi-scale": lambda: RowLSTM(**SMALL, scale_factor=2),
    "DiagonalBiLSTM-multi-scale": lambda: DiagonalBiLSTM(**SMALL, scale_factor=2),
    "PixelRecursiveSR-diagonal": lambda: _sr(DiagonalBiLSTM(**SMALL)),
    "Unpadded": Unpadded,
    "OnlyLeft": OnlyLeft,
    "ReadAround": ReadAround,
}


def network(name: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    return randomize(NETWORKS[name]()).to(dtype).eval()


def draw(model: nn.Module, n: int = 2, size: tuple[int, int] = (6, 4), **options: object) -> Tensor:
    return pixelsr.sample(model, n, **inputs(model, size=size), seed=3, temperature=0.7, **options)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", NETWORKS)
def test_cached_and_ancestral_draw_equal_images(name, engine):
    model = network(name)
    assert torch.equal(draw(model, engine=engine), draw(model, method="ancestral"))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "name", ["RowLSTM", "DiagonalBiLSTM", "Unpadded", "OnlyLeft", "ReadAround"]
)
@pytest.mark.parametrize("size", [(1, 4), (5, 1), (1, 1), (3, 7)])
def test_one_row_and_one_column_too(name, size, engine):
    model = network(name)
    images = torch.randint(4, (2, 3, *size), dtype=torch.uint8)
    expected = model(images)
    torch.testing.assert_close(
        logits(model, images, engine=engine), expected, rtol=1e-12, atol=1e-12
    )
    torch.testing.assert_close(
        draw(model, size=size, engine=engine), draw(model, size=size, method="ancestral")
    )


@pytest.mark.parametrize("mask", masks((1, 1, 6, 4)))
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["RowLSTM", "DiagonalBiLSTM-multi-scale"])
def test_known_values_are_heard_of(name, engine, mask):
    model = network(name)
    known_mask = masks((1, 3, 6, 4))[mask]
    known = torch.randint(4, known_mask.shape, dtype=torch.uint8)
    given = {"known": known, "known_mask": known_mask}
    assert torch.equal(
        draw(model, engine=engine, **given), draw(model, method="ancestral", **given)
    )


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("name", ["RowLSTM", "DiagonalBiLSTM"])
def test_an_image_is_the_same_in_any_batch_by_any_number_of_threads(name, threads):
    model = network(name, torch.float32)
    before = torch.get_num_threads()
    alone = draw(model, 1, engine="cpu")
    torch.set_num_threads(threads)
    together = draw(model, 3, engine="cpu")
    torch.set_num_threads(before)
    assert torch.equal(together[:1], alone)


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


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["RowLSTM", "DiagonalBiLSTM"])
def test_another_initial_state_is_another_image(name, engine):
    model = network(name)
    before = draw(model, engine=engine)
    with torch.no_grad():
        model.layers[0].initial_state += 3
    assert not torch.equal(draw(model, engine=engine), before)
    assert torch.equal(draw(model, engine=engine), draw(model, method="ancestral"))


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

    def forward(self, images: Tensor) -> Tensor:
        self.raw = images
        return self.logits(self.out(self.change(self, self.first(self.images(images)))))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda net, gates: functional.diagonal_lstm(
                gates, net.weight, net.initial, reverse=True
            ),
            "does not know diagonal_lstm",
        ),
        (
            lambda net, gates: functional.row_lstm(gates, net.weight[..., :1], net.initial),
            "weights and initial states must be parameters",
        ),
        (lambda net, gates: F.pad(gates, (1, 0))[:, :6], "only columns of zeros on the right"),
        (lambda net, gates: gates.chunk(4, 1)[0][..., :-1], "last column of the image is cut"),
        (
            lambda net, gates: F.pad(gates.chunk(4, 1)[0], (0, 1)) + gates.chunk(4, 1)[1],
            "padded by .* cannot be combined",
        ),
        (lambda net, gates: F.pad(gates.chunk(4, 1)[0], (0, 1)), "1 columns wider"),
        (lambda net, gates: gates.chunk(4, 1)[0] * (2 * F.pad(net.raw, (0, 0))), "wrap around"),
    ],
    ids=["right to left", "a part", "padded on the left", "cut", "two widths", "wide", "8 bits"],
)
def test_what_cannot_be_planned_is_named(change, says):
    with pytest.raises(pixelsr.PlanError, match=says):
        make_plan(randomize(Faulty(change)))
