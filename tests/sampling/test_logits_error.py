"""Tests of invalid logits and of forbidden levels, in every engine and method.

The small image makes a network's logits invalid: each of its values says what is added to the
logits of the same pixel and color.
"""

import pickle

import pytest
import torch
from torch import Tensor, nn

import pixelsr
from pixelsr import LogitsError, sampling
from pixelsr.nn import MaskedConv2d
from pixelsr.sampling.api import sample_distributed
from pixelsr.utils.distributed import Workers
from tests.support.engines import for_engines, for_ways
from tests.support.helpers import randomize, slow
from tests.support.networks import Network

pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered")
INF = float("inf")
NAN, PLUS, NONE, SOME, BOTH = 1, 2, 3, 4, 5
"""The marks of the small image: NaN, +inf, -inf at all or some levels, and NaN with +inf."""
FOUND = {NAN: "NaN", PLUS: "+inf", NONE: "-inf at every level", BOTH: "NaN"}
ALLOWED = [2, 5, 6]
SIZE = (2, 3)
HALVES = ["float16", "bfloat16"]


class Marked(Network):
    """A network whose `low_res`, of the size of the image, marks logits; the past matters too."""

    scale_factor = 1

    def __init__(self) -> None:
        super().__init__()
        self.first = MaskedConv2d(3, 7, 3, mask_type="A")
        self.out = MaskedConv2d(7, 24, 3, mask_type="B")

    def forward(self, images: Tensor, low_res: Tensor) -> Tensor:
        features = self.out(torch.relu(self.first(self.images(images))))
        return self.logits(features + marks(low_res).flatten(1, 2).to(self.out.weight.dtype))


def marks(low_res: Tensor) -> Tensor:
    """Return the numbers added to the logits, ``[N, C, L, H, W]``."""
    added = torch.zeros(8, 8)  # [mark, level]
    added[NAN, 7] = added[BOTH, 2] = torch.nan
    added[PLUS, 1] = added[BOTH, 6] = INF
    added[NONE] = -INF
    added[SOME] = -INF
    added[SOME, ALLOWED] = 0
    return added[low_res.long()].movedim(-1, 2)


def network(dtype: torch.dtype = torch.float32) -> nn.Module:
    return randomize(Marked()).to(dtype).eval()


def marked(*positions: tuple[int, int, int, int, int], count: int = 2) -> Tensor:
    """Return small images with marks: (mark, input, row, column, color)."""
    low_res = torch.zeros(count, 3, *SIZE, dtype=torch.uint8)
    for mark, number, row, col, color in positions:
        low_res[number, color, row, col] = mark
    return low_res


def error_of(how: dict[str, str], low_res: Tensor, **options) -> LogitsError:
    with pytest.raises(LogitsError) as caught:
        pixelsr.sample(network(), low_res=low_res, **how, **options)
    return caught.value


# Refused logits.


FAULTS = [*((mark, 1.0) for mark in FOUND), (NAN, 0), (PLUS, 1e300)]
FEW_FAULTS = [(NAN, 1.0), (NONE, 1.0), (PLUS, 1e300)]


@for_ways(
    "mark,temperature",
    FAULTS,
    triton=[*FEW_FAULTS, *(slow(*case) for case in FAULTS if case not in FEW_FAULTS)],
)
def test_a_fault_is_refused_by_name(mark, temperature, how):
    error = error_of(how, marked((mark, 1, 1, 2, 1)), n=2, temperature=temperature)
    assert (error.sample, error.position, error.found) == (2, (1, 2, 1), FOUND[mark])
    assert str(error) == (
        f"the logits of sample 2 at row 1, column 2, color 1 hold {FOUND[mark]}; "
        "expected finite numbers, or -inf at some of the levels"
    )


@for_ways("", [()])
def test_it_is_the_first_in_raster_order_and_there_of_the_lowest_sample(how, threads):
    """Check with threads that draw different samples, so each finds another invalid value first."""
    threads(4)
    positions = [(NAN, 0, 1, 0, 0), (PLUS, 3, 0, 1, 2), (NONE, 2, 0, 1, 2), (NAN, 1, 0, 2, 0)]
    error = error_of(how, marked(*positions, count=4))
    assert (error.sample, error.position, error.found) == (2, (0, 1, 2), FOUND[NONE])


@for_ways("row,col,color", [(0, 0, 0), (1, 2, 2)], triton=[(1, 2, 2), slow(0, 0, 0)])
def test_the_first_and_the_last_value(row, col, color, how):
    error = error_of(how, marked((NAN, 0, row, col, color)))
    assert error.position == (row, col, color)


@for_ways("", [()])
def test_the_second_tile_of_samples(how):
    error = error_of(how, marked((PLUS, 17, 0, 1, 0), count=18))
    assert (error.sample, error.position) == (17, (0, 1, 0))


@for_ways("", [()], triton=[slow()])
def test_the_sample_is_counted_in_the_result_however_it_is_batched(how):
    low_res = marked((NAN, 1, 1, 2, 1), count=3)
    error = error_of(how, low_res, n=2, max_batch=1, first_index=40)
    assert (error.sample, error.position) == (2, (1, 2, 1))


@for_ways("", [()])
def test_shared_leading_rows_are_drawn_below(how):
    """Check that faults in shared leading rows are ignored, because nothing is drawn there."""
    known = torch.zeros(1, 3, *SIZE, dtype=torch.uint8)
    mask = known.bool()
    mask[:, :, 0] = True
    low_res = marked((NAN, 0, 0, 1, 0), (PLUS, 1, 1, 0, 0))
    error = error_of(how, low_res, n=2, known=known, known_mask=mask)
    assert (error.sample, error.position, error.found) == (2, (1, 0, 0), "+inf")


@for_ways("", [()])
def test_known_values_are_not_checked(how):
    """Check a value that is known only in the invalid sample, and drawn in the others."""
    low_res = marked((NAN, 0, 1, 2, 1), (NONE, 1, 1, 0, 0))
    mask = torch.zeros(2, 3, *SIZE, dtype=torch.bool)
    mask[0, 1, 1, 2] = mask[1, 0, 1, 0] = True
    known = torch.full(mask.shape, 3, dtype=torch.uint8)
    images = pixelsr.sample(network(), low_res=low_res, known=known, known_mask=mask, **how)
    assert (images[mask] == 3).all()
    swapped = {"known": known, "known_mask": mask.flip(0)}
    with pytest.raises(LogitsError, match="sample 1 at row 1, column 0, color 0 hold -inf"):
        pixelsr.sample(network(), low_res=low_res, **swapped, **how)


@for_engines("", [()])
def test_a_caller_who_draws_gets_the_logits_as_they_are(engine):
    low_res = marked((NAN, 0, 0, 0, 1), (NONE, 1, 0, 0, 0))
    state = sampling.start(network(), low_res=low_res, engine=engine.name)
    first = state.step()
    second = state.step(torch.tensor([1, 2]))
    assert first[0].isfinite().all()
    assert (first[1] == -INF).all()
    assert second.isnan().nonzero().tolist() == [[0, 7]]


# Drawn values.


def reference(images: Tensor, low_res: Tensor, temperature: float) -> Tensor:
    """Return the values by definition, from the float64 logits of the given images."""
    with torch.no_grad():
        logits = network(torch.float64)(images, low_res).permute(0, 3, 4, 2, 1)
    if temperature:
        noise = sampling.noise.gumbel_noise(
            0, 0, len(images), 0, logits[0, ..., 0].numel(), 8, images.device
        )
        scores = logits.float() / torch.tensor(temperature).float() + noise.view(logits.shape)
    else:
        scores = logits
    return scores.masked_fill(logits == -INF, -INF).argmax(-1).permute(0, 3, 1, 2)


@for_ways("temperature", [0, 0.5, 1e30, 1e300], triton=[slow(0), 0.5, slow(1e30), 1e300])
def test_a_forbidden_level_is_never_drawn(temperature, how):
    """Check the temperature 1e300 too, which is infinite in float32."""
    low_res = torch.full((2, 3, *SIZE), SOME, dtype=torch.uint8)
    low_res[:, :, 1] = 0
    images = pixelsr.sample(network(), low_res=low_res, temperature=temperature, **how)
    drawn = images[low_res == SOME].unique().tolist()
    assert set(drawn) <= set(ALLOWED)
    assert len(drawn) > 1
    assert torch.equal(images, reference(images, low_res, temperature))


class Vast(Network):
    """A network with the same very large logits for every image, and a forbidden level."""

    def __init__(self) -> None:
        super().__init__()
        self.out = MaskedConv2d(3, 24, 3, mask_type="A")
        nn.init.zeros_(self.out.weight)
        self.out.bias.data = torch.tensor([0.0, -3e38, -2e38, *[-3e38] * 5]).repeat(3)
        self.register_buffer("shift", torch.tensor([-INF, *[0.0] * 7]).repeat(3).view(24, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.out(self.images(images)) + self.shift)


@for_ways("", [()])
def test_a_forbidden_level_is_not_drawn_where_all_scores_underflow(how):
    images = pixelsr.sample(Vast().eval(), image_size=(2, 2), temperature=1e-3, **how)
    assert (images == 1).all()  # ties give the lowest level


@for_ways("weights", HALVES, triton=["float16", slow("bfloat16")])
def test_16_bit_weights_forbid_levels_too(weights, how):
    low_res = torch.full((2, 3, *SIZE), SOME, dtype=torch.uint8)
    model = network(getattr(torch, weights))
    for options in ({"weights": weights}, {}):
        images = pixelsr.sample(
            network() if options else model, low_res=low_res, temperature=2.0, **options, **how
        )
        assert set(images.unique().tolist()) <= set(ALLOWED)


# Infinite activations.


class Overflowing(Network):
    """A network whose activations overflow after a large pixel to the left."""

    def __init__(self, function) -> None:
        super().__init__()
        self.first = MaskedConv2d(3, 6, 3, mask_type="A")
        self.second = MaskedConv2d(6, 6, 3, mask_type="B")
        self.out = MaskedConv2d(6, 24, 1, mask_type="B")
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.function(3000 * self.first(self.images(images)))
        return self.logits(self.out(self.second(hidden)))


@for_ways("dtype", ["float32", *HALVES], triton=["float32", *map(slow, HALVES)])
def test_infinite_activations_end_in_the_error(dtype, how):
    """Check exp(3000 x), which is infinite even in float32."""
    model = randomize(Overflowing(torch.exp)).to(getattr(torch, dtype)).eval()
    with pytest.raises(LogitsError, match=r"hold (NaN|\+inf); expected finite numbers"):
        pixelsr.sample(model, 4, image_size=(2, 2), **how)


@for_ways("weights", HALVES, triton=["float16", slow("bfloat16")])
def test_infinite_activations_with_rounded_weights_end_in_the_error(weights, how):
    model = randomize(Overflowing(torch.exp)).eval()
    with pytest.raises(LogitsError, match=r"hold (NaN|\+inf); expected finite numbers"):
        pixelsr.sample(model, 4, image_size=(2, 2), weights=weights, **how)


@for_ways("", [()])
def test_features_beyond_float16_are_no_other_number(how):
    """Check hidden values of 1e5: drawn correctly with float32 features, else refused."""
    model = randomize(Overflowing(lambda x: 300 * torch.relu(x))).eval()
    options = {"image_size": (2, 2), "weights": "float16", "temperature": 0}
    expected = pixelsr.sample(model, 4, engine="reference", **options)
    try:
        images = pixelsr.sample(model, 4, **options, **how)
    except LogitsError:
        assert how == {"engine": "cuda"} or how == {"engine": "triton"}
    else:
        assert torch.equal(images, expected)


# The error class.


def test_the_error_survives_a_process():
    error = LogitsError(3, (0, 1, 2), "NaN")
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, ValueError)
    assert (str(again), again.position) == (str(error), (0, 1, 2))


class Two(Workers):
    """The second of two workers, the first of which has sent an error."""

    def gather(self, value):
        return [LogitsError(0, (2, 0, 0), "NaN"), value]


def test_every_worker_raises_the_first_error():
    low_res = marked((NAN, 2, 1, 2, 1), count=4)
    with pytest.raises(LogitsError, match="sample 2 at row 1, column 2"):
        sample_distributed(Two(rank=1, count=2), network(), low_res=low_res)
    with pytest.raises(LogitsError, match="sample 0 at row 2, column 0"):
        sample_distributed(Two(rank=1, count=2), network(), low_res=0 * low_res)


# No step may turn NaN or an infinity into another number.

EXTREMES = [torch.nan, INF, -INF, 3e38, -3e38, 1e38, -1e38, 1e5, -1e5, 200.0, -200.0, 88.5]
EXTREMES += [-88.5, 87.5, -87.5, 45.0, -45.0, 21.0, -21.0, 1e-40, -1e-40, 0.0, 1.0, -1.0]


class Extreme(Network):
    """A network with a function of numbers a and b; the small image chooses the pair."""

    scale_factor = 1

    def __init__(self, function, parts: int) -> None:
        super().__init__()
        self.zero = MaskedConv2d(3, 24 * parts, 1, mask_type="A", out_parts=parts)
        nn.init.zeros_(self.zero.weight)
        nn.init.zeros_(self.zero.bias)
        self.function, self.parts = function, parts

    def forward(self, images: Tensor, low_res: Tensor) -> Tensor:
        numbers = extremes(low_res, self.parts).to(self.zero.weight.dtype)
        given = self.zero(self.images(images)) + numbers
        if self.parts == 1:
            return self.logits(self.function(given))
        a, b = given.chunk(2, 1)
        return self.logits(self.function(a, b))


def extremes(low_res: Tensor, parts: int) -> Tensor:
    """Return all numbers, with two parts again and rolled, ``[N, 24 * parts, 1, 1]``."""
    number = 8 * low_res[:, 0, 0].long() + low_res[:, 1, 0].long()
    shifts = number * torch.tensor([[0, 1]])[:, :parts]  # [N, parts]
    positions = (torch.arange(24) + shifts.unsqueeze(2)) % 24
    return torch.tensor(EXTREMES)[positions].flatten(1)[:, :, None, None]


FUNCTIONS = {
    "neg": lambda x: -x,
    "exp": torch.exp,
    "relu": torch.relu,
    "relu of a formula": lambda x: torch.relu(-x),
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "elu": lambda x: nn.functional.elu(x, 0.7),
    "silu": nn.functional.silu,
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "gate": lambda a, b: torch.tanh(a) * torch.sigmoid(b),
    "gate of a formula": lambda a, b: torch.tanh(-a) * torch.sigmoid(-b),
}
BINARY = ["add", "sub", "mul", "div", "gate", "gate of a formula"]


@pytest.mark.filterwarnings("ignore:divide by zero encountered")
@for_engines(
    "name,dtype",
    [(name, dtype) for name in FUNCTIONS for dtype in ("float32", "float64", *HALVES)],
    triton=[(name, "float32") for name in FUNCTIONS]
    + [slow(name, dtype) for name in FUNCTIONS for dtype in HALVES],
    cuda=[(name, dtype) for name in FUNCTIONS for dtype in ("float32", *HALVES)],
)
def test_functions_of_extreme_numbers_are_those_of_pytorch(name, dtype, engine):
    parts, dtype = 2 if name in BINARY else 1, getattr(torch, dtype)
    model = Extreme(FUNCTIONS[name], parts).to(dtype).eval()
    number = torch.arange(24 if parts == 2 else 1)
    digits = torch.stack([number // 8, number % 8, 0 * number], 1)  # in base 8
    low_res = digits.to(torch.uint8)[:, :, None, None]
    images = torch.zeros(len(low_res), 3, 1, 1, dtype=torch.uint8)
    found = sampling.logits(model, images, low_res=low_res, engine=engine.name)
    given = extremes(low_res, parts).to(dtype).to(found.dtype) + 0  # as the network adds zeros
    expected = model.logits(FUNCTIONS[name](*given.chunk(parts, 1)))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6, equal_nan=True)
