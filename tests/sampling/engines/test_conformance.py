"""The laws of sampling, each stated once and checked for every engine.

Images are compared with the ancestral method in float64, and logits with a forward pass of the
network. Both are exact: one wrong tap, step or position shows.
"""

import contextlib
import dataclasses
import functools

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import pixelsr
from pixelsr import functional, sampling
from pixelsr.nn import MaskedConv2d
from pixelsr.ops.gumbel_noise.reference import gumbel_noise_ref
from pixelsr.sampling.engines import packing
from tests.support.engines import ENGINES, TestedEngine, for_engines
from tests.support.helpers import randomize, slow
from tests.support.networks import NETWORKS, RECURRENT, Network, Silent, inputs, network
from tests.support.sampling import (
    MASKS,
    TEMPERATURE,
    Draw,
    ancestral,
    cached_logits,
    count_flips,
    forward,
    in_threads,
    random_images,
)

ALL = [*NETWORKS, *RECURRENT]
LSTMS = ["RowLSTM", "DiagonalBiLSTM"]
TINY_LSTMS = ["RowLSTM-tiny", "DiagonalBiLSTM-tiny"]
HALVES = [torch.float16, torch.bfloat16]


def drawn(engine: TestedEngine, draw: Draw, model: nn.Module | None = None, **how) -> Tensor:
    """Return the images of a draw by an engine, on the CPU."""
    model = engine.network(draw.name) if model is None else model
    return pixelsr.sample(model, engine=engine.name, **(draw.options() | how)).cpu()


def assert_draws(engine: TestedEngine, draw: Draw) -> None:
    """Check the images of a draw: known values, and all others by the ancestral method."""
    images, what = drawn(engine, draw), draw.what()
    if draw.mask:
        mask = what["known_mask"].expand_as(images)
        assert torch.equal(images[mask], what["known"].expand_as(images)[mask])
    engine.skip_unless_exact()
    assert torch.equal(images, ancestral(draw))


@functools.cache
def expected_logits(name: str, dtype: torch.dtype, n: int, size: tuple[int, int]) -> Tensor:
    model = network(name, dtype).double()
    return forward(model, random_images(model, n, size))


def assert_logits(
    engine: TestedEngine, name: str, size: tuple[int, int] = (6, 4), n: int = 2
) -> None:
    """Check the logits of given images."""
    model = engine.network(name)
    found = cached_logits(engine.name, model, random_images(model, n, size)).cpu().double()
    expected = expected_logits(name, engine.dtype, n, size)
    torch.testing.assert_close(found, expected, **engine.near)


# The network.

DRAWN_BY_TRITON = ["PixelCNN-2-colors-5x5", "Dilated", *TINY_LSTMS]
"""The networks whose images the Triton engine draws; it computes the logits of others."""
READ_BY_TRITON = ["GatedPixelCNN-2-colors", "Concatenated", "OtherGate", "HintAbove", "Broadcast"]
READ_BY_TRITON += ["ReadTwice", "BeforeTheGate", "Pointwise", "OnlyLeft", "PixelRecursiveSR-tiny"]
READ_BY_TRITON += ["RowLSTM-gray-wide-skip", "DiagonalBiLSTM-tiny-multi-scale"]
READ_SLOWLY = [name for name in ALL if name not in DRAWN_BY_TRITON + READ_BY_TRITON]


@for_engines("name", ALL, triton=DRAWN_BY_TRITON)
def test_images_equal_those_of_the_ancestral_method(engine, name):
    assert_draws(engine, Draw(name, engine.size, n=2 if engine.name == "triton" else 3))


@for_engines("name", [*ALL, "Pointwise"], triton=[*READ_BY_TRITON, *map(slow, READ_SLOWLY)])
def test_logits_equal_a_forward_pass(engine, name):
    assert_logits(engine, name, engine.size)


ODD_SIZES = [(1, 1), (1, 5), (5, 1), (3, 7), (2, 19)]


@for_engines(
    "name,sizes",
    [
        (name, ODD_SIZES)
        for name in ["GatedPixelCNN", "Concatenated", "Dilated", *RECURRENT]
        if "SR" not in name and "scale" not in name
    ],
    triton=[("Small", [(1, 1), (1, 5), (4, 1)])]
    + [(name, [(1, 3), (3, 1)]) for name in TINY_LSTMS],
    cuda=[
        *((name, [*ODD_SIZES, (2, 37)]) for name in ["GatedPixelCNN", "Concatenated", "Dilated"]),
        *((name, [(1, 1), (1, 4), (4, 1)]) for name in [*LSTMS, "OnlyLeft"]),
    ],
)
def test_images_and_logits_of_odd_sizes(engine, name, sizes):
    for size in sizes:
        if engine.name != "triton":
            assert_logits(engine, name, size)
        if engine.name != "cuda":
            assert_draws(engine, Draw(name, size))


# Known values.

KNOWN_IN = ["GatedPixelCNN", "PixelCNN", "PixelRecursiveSR-gated", "Conditioned", "HintAbove"]
KNOWN_IN += ["RowLSTM", "DiagonalBiLSTM-multi-scale"]
FEW_MASKS = ["rows", "hole", "each its own"]


@for_engines(
    "name,mask",
    [(name, mask) for name in KNOWN_IN for mask in MASKS],
    triton=[
        *(("Small", mask) for mask in FEW_MASKS),
        *(slow("Small", mask) for mask in MASKS if mask not in FEW_MASKS),
        ("RowLSTM-tiny", "rows"),
        *(("DiagonalBiLSTM-tiny", mask) for mask in ("upper half", "each its own")),
    ],
    cuda=[
        *((name, mask) for name in ("GatedPixelCNN", "HintAbove") for mask in MASKS),
        *((name, mask) for name in KNOWN_IN[2:] for mask in FEW_MASKS),
    ],
)
def test_known_values_stay_and_the_rest_is_right(engine, name, mask):
    assert_draws(engine, Draw(name, engine.tall, mask=mask))


@for_engines(
    "name",
    ["PixelCNN", "PixelRecursiveSR-gated", "Conditioned", "HintAbove", *LSTMS],
    triton=["Conditioned", slow("RowLSTM-tiny"), "DiagonalBiLSTM-tiny"],
)
def test_samples_may_share_known_rows(engine, name):
    """Check that samples of two inputs share what an engine computes once for each input."""
    n = 11 if engine.name == "cuda" else 3
    for mask in ("upper half",) if engine.name == "triton" else ("upper half", "rows"):
        assert_draws(engine, Draw(name, engine.tall, n, mask, shares=True))


@for_engines(
    "name,mask",
    [("GatedPixelCNN", mask) for mask in MASKS] + [(name, "rows") for name in LSTMS],
    triton=[("Small", "rows")],
)
def test_values_are_the_same_whether_they_are_drawn_or_known(engine, name, mask):
    """Check that an image is completed to itself: drawn values use their own positions' noise."""
    engine.skip_unless_exact()
    images = ancestral(Draw(name, engine.tall))
    draw = Draw(name, engine.tall, mask=mask, given="drawn")
    assert torch.equal(drawn(engine, draw), images)


@for_engines(
    "name,mask",
    [
        (name, mask)
        for name in ["GatedPixelCNN", "PixelRecursiveSR-pixelcnn", "DiagonalBiLSTM"]
        for mask in [None, "hole", "upper half", "each its own"]
    ],
    triton=[
        ("Small", "each its own"),
        ("DiagonalBiLSTM-tiny", "rows"),
        slow("RowLSTM-tiny", "rows"),
    ],
)
def test_steps_give_the_logits_of_the_network(engine, name, mask):
    """Check each step's logits by a forward pass; random values are chosen."""
    what = Draw(name, engine.tall, mask=mask).what()
    exact = network(name, engine.dtype).double()
    state = sampling.start(engine.network(name), engine=engine.name, **what)
    positions, chosen = [], random_images(exact, len(state.images), engine.tall)
    step = state.step()
    while step is not None:
        row, col, color = state.position
        positions.append((row, col, color))
        expected = forward_of(exact, state.images.cpu(), what)[:, :, color, row, col]
        torch.testing.assert_close(step.cpu().double(), expected, **engine.near)
        step = state.step(chosen[:, color, row, col].to(step.device, torch.long))
    known = what.get("known_mask", torch.zeros_like(chosen, dtype=torch.bool))
    unknown = (~known).any(0).permute(1, 2, 0).nonzero()
    assert positions == [tuple(position) for position in unknown.tolist()]
    values = torch.where(known, what.get("known", chosen), chosen)
    assert torch.equal(state.images.cpu(), values)


@torch.no_grad()
def forward_of(model: nn.Module, images: Tensor, what: dict[str, object]) -> Tensor:
    if "low_res" not in what:
        return model(images)
    return model(images, what["low_res"].repeat_interleave(what["n"], 0))


# Batches, seeds and temperatures.


@for_engines(
    "name,dtype",
    [],
    cpu=[
        (name, torch.float32)
        for name in ["GatedPixelCNN", "PixelRecursiveSR-gated", "OtherGate", *LSTMS]
    ],
    triton=[("Small", torch.float32), slow("Small", torch.float16)],
    cuda=[("GatedPixelCNN", torch.bfloat16), ("PixelRecursiveSR-gated", torch.float16)],
)
def test_logits_are_the_same_in_any_batch(engine, name, dtype):
    """Check to the last bit, for the engines whose sums have the same order in any batch."""
    model = engine.network(name, dtype)
    images = random_images(model, 17, engine.size)
    what = inputs(model, 17, engine.size)

    def logits(part: slice) -> Tensor:
        low_res = {"low_res": what["low_res"][part]} if "low_res" in what else {}
        return sampling.logits(model, images[part], engine=engine.name, **low_res)

    together = logits(slice(17))
    for k in (16,) if engine.name == "triton" else (0, 7, 16):
        assert torch.equal(logits(slice(k, k + 1))[0], together[k])


@for_engines(
    "name",
    ["GatedPixelCNN", "PixelRecursiveSR-pixelcnn", "Dilated", *LSTMS],
    triton=["GatedPixelCNN-gray-binary"],
    cuda=["GatedPixelCNN", "PixelRecursiveSR-pixelcnn", "DiagonalBiLSTM"],
)
def test_an_image_depends_only_on_its_seed_and_index(engine, name):
    draw = Draw(name, engine.size, n=17)
    what = draw.what()
    images = drawn(engine, draw)
    if engine.is_exact:
        assert torch.equal(images, ancestral(draw))
    assert torch.equal(drawn(engine, draw, max_batch=10), images)
    assert not torch.equal(drawn(engine, draw, seed=1, n=1), images[::17])
    parts = [{"low_res": part} for part in what["low_res"].split(1)] if "low_res" in what else [{}]
    for number, part in enumerate(parts):
        first = 17 * number + 15
        alone = drawn(engine, draw, n=2, first_index=first, **part)
        assert torch.equal(alone, images[first : first + 2])


@for_engines(
    "colors,levels,seed,first_index",
    [(1, 2, 0, 0), (3, 8, 2**64 - 1, 2**33 + 1), (2, 256, 2**40 + 3, 2**32 - 1)],
)
def test_the_noise_is_the_reference_s(engine, colors, levels, seed, first_index):
    model = engine.own(Silent(colors, levels))
    options = {"image_size": (2, 2), "seed": seed, "first_index": first_index}
    ours = pixelsr.sample(model, 3, engine=engine.name, **options).cpu()
    signed = seed - 2**64 if seed >= 2**63 else seed
    noise = gumbel_noise_ref(signed, first_index, 3, 0, 4 * colors, levels)
    expected = noise.argmax(2).view(3, 2, 2, colors).permute(0, 3, 1, 2)
    assert torch.equal(ours, expected.to(torch.uint8))


@for_engines("", [()])
def test_temperature_zero_is_the_mode_and_a_tie_goes_to_the_lowest_level(engine):
    draw = Draw("Small", (2, 2), temperature=0)
    images = drawn(engine, draw)
    assert torch.equal(drawn(engine, draw, seed=5), images)
    if engine.is_exact:
        model = network("Small")
        assert torch.equal(forward(model, images).argmax(1), images.long())
    silent = engine.own(Silent(3, 130))
    assert not pixelsr.sample(silent, 2, image_size=(1, 2), temperature=0, engine=engine.name).any()


# Precision.


@for_engines(
    "name,n,size,dtype,most",
    [("GatedPixelCNN", 64, (6, 4), torch.float32, 0)]
    + [("GatedPixelCNN", 64, (6, 4), dtype, 0.02) for dtype in HALVES],
    triton=[
        slow("Small", 32, (2, 3), torch.float32, 0),
        ("Small", 32, (2, 2), torch.float16, 0.02),
    ],
)
def test_few_values_flip(engine, name, n, size, dtype, most):
    """Count the values that one forward pass of the sample would draw differently."""
    if dtype == torch.float32 and not engine.is_exact:
        pytest.skip("it takes 16-bit weights")
    model = engine.network(name, dtype)
    what = {"image_size": size, "temperature": TEMPERATURE}
    images = pixelsr.sample(model, n, engine=engine.name, **what)
    flips = count_flips(model, images.to(engine.device), TEMPERATURE)
    print(f"{engine.name}, {dtype}: {flips} of {images.numel()} values flipped")
    assert flips <= images.numel() * most


IN_HALF = [name for name in NETWORKS if name != "Conditioned"]
"""The networks that PyTorch can run in 16 bits, where its FFT needs sizes that are powers of 2."""


@for_engines(
    "name,dtype",
    [(name, dtype) for name in ["GatedPixelCNN", *LSTMS] for dtype in HALVES],
    triton=[("Small", torch.float16), ("RowLSTM-tiny", torch.float16)]
    + [slow("DiagonalBiLSTM-tiny", torch.float16)]
    + [slow(name, dtype) for name in ["PixelCNN", "GatedPixelCNN"] for dtype in HALVES],
    cuda=[(name, torch.float16) for name in [*IN_HALF, *LSTMS]]
    + [(name, torch.bfloat16) for name in ["GatedPixelCNN", *LSTMS]]
    + [slow(name, torch.bfloat16) for name in IN_HALF[1:]],
)
def test_16_bit_logits_are_as_right_as_those_of_pytorch(engine, name, dtype):
    model = engine.network(name, dtype)
    images = random_images(model, 2, engine.size)
    ours = cached_logits(engine.name, model, images).double()
    theirs = forward(model, images).double()
    right = forward(model.double(), images)
    assert 0 < (ours - right).abs().max() <= 2 * (theirs - right).abs().max()


@for_engines("weights", ["float16", "bfloat16"], triton=["float16", slow("bfloat16")])
def test_rounded_weights_give_the_images_of_the_rounded_model(engine, weights):
    name = "Small" if engine.name == "triton" else "GatedPixelCNN"
    own, rounded = (engine.network(name, getattr(torch, weights)) for _ in range(2))
    draw = Draw(name, engine.size, n=3)
    ours = drawn(engine, draw, engine.network(name, torch.float32), weights=weights)
    assert torch.equal(ours, drawn(engine, draw, own))
    if engine.name != "cuda":  # it rounds features too
        assert torch.equal(ours, drawn(engine, draw, rounded.float()))
    if engine.dtype == torch.float64:
        ours = drawn(engine, draw, weights=weights)
        assert torch.equal(ours, drawn(engine, draw, rounded.double()))


# Weights.


@for_engines(
    "name,change",
    [("PixelCNN", "step"), ("PixelCNN", "data"), *((name, "state") for name in LSTMS)],
    triton=[("Small", "data"), slow("RowLSTM-tiny", "state")],
)
def test_changed_parameters_change_the_images(engine, name, change):
    model = engine.network(name)
    draw = Draw(name, (2, 3), n=4)
    before = drawn(engine, draw, model)
    if change == "step":
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        functional.nll(model(before.to(engine.device)), before.to(engine.device)).mean().backward()
        optimizer.step()
    elif change == "data":  # no version counts it
        for parameter in model.parameters():
            parameter.data.neg_()
    else:
        with torch.no_grad():
            model.layers[0].initial_state += 3
    after = drawn(engine, draw, model)
    assert not torch.equal(after, before)
    exact = model.to("cpu", torch.float64)
    if engine.is_exact:
        expected = pixelsr.sample(exact, method="ancestral", **draw.options())
        assert torch.equal(after, expected)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@for_engines("norm", [parametrizations.weight_norm, nn.utils.weight_norm])
def test_reparametrized_layers_have_their_effective_weights(engine, norm):
    model = engine.network("Small")
    for layer in (model.first, model.out):
        norm(layer)
    images = random_images(model, 2, (2, 2))
    found = cached_logits(engine.name, model, images)
    torch.testing.assert_close(found, forward(model, images).to(found.dtype), **engine.near)


# The caller.


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def filled_memory():
    """Fill the memory of `torch.empty` with NaN or the largest integer."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(3).isnan().all()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


SETTINGS = {
    "meta device": lambda: torch.device("meta"),
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "inference mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "memory of NaN": filled_memory,
}


@dataclasses.dataclass
class Caller:
    """A caller with a new network, whose plan is made when it draws."""

    engine: TestedEngine

    def __post_init__(self) -> None:
        name = "Small" if self.engine.name == "triton" else "Conditioned"
        draw = Draw(name, (4, 2), mask="rows", shares=True)
        self.model, self.options = self.engine.network(name), draw.options()
        self.images = random_images(self.model, 2, (4, 2))
        self.given = {key: self.options[key] for key in ("low_res",) if key in self.options}

    def results(self) -> tuple[Tensor, Tensor]:
        """Return images below known rows, and logits."""
        images = pixelsr.sample(self.model, engine=self.engine.name, **self.options)
        logits = sampling.logits(self.model, self.images, engine=self.engine.name, **self.given)
        return images, logits


@functools.cache
def by_default(name: str) -> tuple[Tensor, Tensor]:
    return Caller(ENGINES[name]).results()


@for_engines("setting", SETTINGS)
def test_settings_of_the_caller_change_nothing(engine, setting):
    """Check a plan, images and logits that are made under the setting."""
    expected, caller = by_default(engine.name), Caller(engine)
    with SETTINGS[setting]():
        found = caller.results()
    for ours, right in zip(found, expected, strict=True):
        assert ours.dtype == right.dtype
        assert torch.equal(ours, right)


@for_engines("names", [("GatedPixelCNN PixelCNN Dilated",)], triton=[("Small",)])
def test_several_python_threads_may_sample_at_once(engine, names):
    models = [engine.network(name) for name in names.split()]
    size = (1, 2) if engine.name == "triton" else (6, 4)

    def work(k: int) -> Tensor:
        model = models[k % len(models)]
        return pixelsr.sample(model, 2, image_size=size, seed=k, engine=engine.name)

    expected = [work(k) for k in range(3)]
    for _ in range(1 if engine.name == "triton" else 4):
        found = in_threads(work)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


# Refusals.


class Long(Network):
    """A network with a pointwise step that is too long for a stack of eight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = MaskedConv2d(3, 24, 1, mask_type="A")

    def forward(self, images: Tensor) -> Tensor:
        y = x = self.first(self.images(images))
        for k in range(packing.MAX_STACK):
            y = x * k - y
        return self.logits(y)


class Wide(Network):
    """A network that reads 17 columns to the left."""

    def __init__(self) -> None:
        super().__init__()
        self.out = MaskedConv2d(3, 24, (1, 35), mask_type="A")

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.out(self.images(images)))


class Mixed(Network):
    """A network whose last layer has another dtype."""

    def __init__(self) -> None:
        super().__init__()
        self.first = MaskedConv2d(3, 6, 3, mask_type="A")
        self.out = MaskedConv2d(6, 24, 1, mask_type="B")

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.out(self.first(self.images(images)).to(self.out.weight.dtype)))


def mixed(engine: TestedEngine) -> nn.Module:
    model = randomize(Mixed()).to(engine.device, torch.float32)
    model.out.to(torch.float16)
    return model


MODELS = {
    "float64": lambda engine: engine.network("PixelCNN", torch.float64),
    "mixed dtype": mixed,
    "long step": lambda engine: engine.own(randomize(Long())),
    "wide window": lambda engine: engine.own(randomize(Wide())),
    "unknown function": lambda engine: engine.network("OtherGate"),
}
MIXED = r"mixed dtype, torch.float32 and torch.float16 \(.*\), expected one"
ELU = r"it does not know the pointwise function 'elu'"
UNSUPPORTED = {
    "cpu": {"mixed dtype": MIXED, "unknown function": ELU},
    "triton": {
        "float64": "its kernels take float32, float16 or bfloat16, got float64",
        "mixed dtype": MIXED,
        "unknown function": ELU,
        "edits": "it does not support edits",
    },
    "cuda": {
        "float64": "it multiplies float16 or bfloat16 weights, got torch.float64; see `weights`",
        "mixed dtype": MIXED,
        "wide window": "reads more than 16 rows or columns",
        "unknown function": ELU,
        "edits": "it does not support edits",
    },
}
"""What an engine cannot run, and the sentence that says so; it runs everything else."""


@for_engines(
    "what",
    [],
    **{name: list(refused) for name, refused in UNSUPPORTED.items()},
)
def test_what_an_engine_cannot_run_is_refused_by_name(engine, what, monkeypatch):
    says = rf"engine '{engine.name}' cannot run: .*{UNSUPPORTED[engine.name][what]}"
    says = says.replace(".*it ", "it ").replace(".*its ", "its ")
    if what == "unknown function":
        monkeypatch.delitem(packing.OPCODES, "elu")
    if what == "edits":
        model = engine.network("Small")
        images = random_images(model, 1, (2, 2))
        with pytest.raises(ValueError, match=says):
            sampling.incremental_logits(model, images, engine=engine.name)
        assert sampling.incremental_logits(model, images).logits.shape == (1, 8, 2, 2, 2)
        return
    model = MODELS[what](engine)
    with pytest.raises(ValueError, match=says):
        pixelsr.sample(model, image_size=(2, 2), engine=engine.name)
    if what not in ("mixed dtype", "float64"):  # "auto" passes the engine over
        drawn = pixelsr.sample(model, image_size=(2, 2))
        assert torch.equal(drawn, pixelsr.sample(model, image_size=(2, 2), method="ancestral"))


@for_engines(
    "what",
    [],
    **{
        name: [what for what in MODELS if what not in UNSUPPORTED.get(name, ())]
        for name in ("reference", "cpu", "triton")
    },
)
def test_what_no_table_refuses_is_run(engine, what):
    model = MODELS[what](engine)
    options = {"image_size": (1, 2), "temperature": TEMPERATURE}
    ours = pixelsr.sample(model, engine=engine.name, **options)
    assert torch.equal(ours.cpu(), pixelsr.sample(model, method="ancestral", **options).cpu())
