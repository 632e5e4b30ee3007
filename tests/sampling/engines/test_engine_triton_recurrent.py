"""Tests of recurrent networks in the Triton engine against the forward pass and the reference."""

import itertools

import pytest
import torch
from torch import Tensor

import pixelsr
from pixelsr import ConditioningNetwork, DiagonalBiLSTM, PixelRecursiveSR, RowLSTM, sampling
from pixelsr.sampling.engines.fusion import Task, tasks
from pixelsr.sampling.engines.triton import engine
from pixelsr.sampling.engines.triton import program as triton_program
from pixelsr.sampling.methods import start_engine
from pixelsr.sampling.plan.ir import Placed, Pointwise, Product, Scan, Span
from pixelsr.sampling.request import make_request
from tests.sampling.test_sampling import TEMPERATURE
from tests.support.helpers import randomize

pytest.importorskip("triton")
pytestmark = pytest.mark.usefixtures("quick_interpreter")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
MODELS = [RowLSTM, DiagonalBiLSTM]
SMALL = {"channels": 4, "layers": 1, "first_kernel_size": 3, "head_channels": 6}
SMALL |= {"colors": 1, "levels": 4}


@pytest.fixture(autouse=True)
def ieee():
    """Turn TF32 off in PyTorch's convolutions, because the engine does not use it."""
    switch = torch.backends.cudnn.conv
    before, switch.fp32_precision = switch.fp32_precision, "ieee"
    yield
    switch.fp32_precision = before


def network(make, **options):
    return randomize(make(**SMALL | options)).eval().to(DEVICE)


def enlarging(make):
    """Return the network as a prior of super-resolution; conditioning features have no padding."""
    conditioning = ConditioningNetwork(channels=4, blocks=1, scale_factor=2, colors=1, levels=4)
    return randomize(PixelRecursiveSR(network(make), conditioning)).eval().to(DEVICE)


def random_values(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(4, shape, dtype=torch.uint8, generator=generator)


def sample(model, n=2, **options):
    options = {"temperature": TEMPERATURE, "engine": "triton", **options}
    return pixelsr.sample(model, n, **options).cpu()


def assert_logits_equal_the_forward_pass(model, size, **low_res):
    images = random_values(2, model.colors, *size).to(DEVICE)
    ours = sampling.logits(model, images, engine="triton", **low_res)
    with torch.no_grad():
        torch.testing.assert_close(ours, model(images, **low_res), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize(
    ("size", "options"),
    [
        ((3, 4), {}),
        ((2, 2), {"colors": 3, "channels": 5, "layers": 2}),
        ((1, 3), {}),
        ((3, 1), {}),
    ],
    ids=["gray", "three colors", "one row", "one column"],
)
def test_logits_equal_the_forward_pass(make, size, options):
    assert_logits_equal_the_forward_pass(network(make, **options), size)


def test_logits_of_a_wide_row_lstm_whose_layers_are_all_read_at_the_end():
    model = network(RowLSTM, layers=2, kernel_size=5, skip=True)
    assert_logits_equal_the_forward_pass(model, (2, 3))


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize(
    "form", [lambda make: network(make, scale_factor=2), enlarging], ids=["multi-scale", "prior"]
)
def test_logits_where_a_small_image_is_given(make, form):
    low_res = random_values(2, 1, 1, 1).to(DEVICE)
    assert_logits_equal_the_forward_pass(form(make), (2, 2), low_res=low_res)


def test_logits_are_the_same_in_any_tile_of_a_batch():
    """Check the last of 17 samples, alone in its tile, below a known row that is scanned."""
    model = network(DiagonalBiLSTM)
    known = random_values(17, 1, 2, 3)
    mask = torch.zeros(known.shape, dtype=torch.bool)
    mask[:, :, 0] = True
    options = {"engine": "triton", "image_size": (2, 3)}
    together = sampling.start(model, n=17, known=known, known_mask=mask, **options).step()
    alone = sampling.start(model, n=1, known=known[16:], known_mask=mask[16:], **options).step()
    assert torch.equal(alone[0], together[16])


# Known values.


def masks():
    leading, between, hole = (torch.ones(2, 1, 4, 3, dtype=torch.bool) for _ in range(3))
    leading[:, :, 2:] = False
    between[:, :, [0, 2]] = False
    between[:, :, 3, 2] = False
    hole[0, :, 1, 1] = hole[1, :, 2, 0] = False
    return {"leading rows": leading, "a row between": between, "holes": hole}


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("mask", masks())
def test_known_values_stay_and_the_rest_is_that_of_the_reference(make, mask):
    model, known_mask = network(make), masks()[mask]
    known = random_values(*known_mask.shape)
    options = {"image_size": (4, 3), "known": known, "known_mask": known_mask}
    images = sample(model, **options)
    assert torch.equal(images[known_mask], known[known_mask])
    assert torch.equal(images, sample(model, engine="reference", **options))


@pytest.mark.parametrize("make", MODELS)
def test_rows_give_the_same_whether_they_are_drawn_or_known(make):
    """Check the row below known rows, which other kernels run once for all samples."""
    model, images = network(make), random_values(1, 1, 3, 2).to(DEVICE)
    mask = torch.zeros(images.shape, dtype=torch.bool)
    mask[:, :, :2] = True
    drawn = sampling.logits(model, images, engine="triton")[:, :, 0, 2, 0]
    options = {"engine": "triton", "image_size": (3, 2), "known": images, "known_mask": mask}
    for n in (1, 2):
        given = sampling.start(model, n=n, **options).step()
        torch.testing.assert_close(given, drawn.expand(n, -1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make", MODELS)
def test_values_that_a_caller_chooses(make):
    known = random_values(2, 2, 2, 2)
    mask = torch.zeros(known.shape, dtype=torch.bool)
    mask[:, 0, 0, 1] = mask[1, :, 1, 0] = True  # a value of all, and a pixel of one
    model = network(make, colors=2)
    options = {"n": 2, "image_size": (2, 2), "known": known, "known_mask": mask}
    ours = sampling.start(model, engine="triton", **options)
    other = sampling.start(model, engine="reference", **options)
    given, expected = ours.step(), other.step()
    while expected is not None:
        assert ours.position == other.position
        torch.testing.assert_close(given, expected, rtol=1e-5, atol=1e-5)
        values = expected.argmin(1)
        given, expected = ours.step(values), other.step(values)
    assert given is None
    assert torch.equal(ours.images, other.images)


@pytest.mark.parametrize("make", MODELS)
def test_half_precision_is_at_most_twice_as_far_off_as_pytorch(make):
    model = network(make).half()
    exact = network(make).double()
    exact.load_state_dict(model.state_dict())
    images = random_values(4, 1, 2, 2).to(DEVICE)
    with torch.no_grad():
        expected, pytorch = exact(images), model(images)
    ours = sampling.logits(model, images, engine="triton")
    assert (ours - expected).abs().max() <= 2 * (pytorch - expected).abs().max()


def test_the_memory_asked_for_is_what_is_allocated(monkeypatch):
    """Check that the memory of padded conditioning features is counted too."""
    asked = []
    monkeypatch.setattr(engine, "check_memory", lambda needed, *_: asked.append(needed))
    model = network(DiagonalBiLSTM, scale_factor=2)
    request = make_request(model, 3, low_res=random_values(2, 1, 2, 2).to(DEVICE))
    made = start_engine("triton", request)
    tensors = [made.storage, made.images, *made.features.conditioning.values()]
    assert asked == [sum(tensor.nbytes for tensor in tensors)]


# Fused steps and task lists.


def plan_of(*placed: Placed) -> sampling.Plan:
    plan = sampling.plan(network(RowLSTM), (2, 2))
    return type(plan)(**{**vars(plan), "placed": placed, "logits": ()})


A, B, C = (Span(name, 0, 4) for name in "abc")
PRODUCT = Product(B, A, (0,), (0,), None, (), overwrite=True)
RELU = Pointwise(C, (B,), ("relu", ("arg", 0)))


@pytest.mark.parametrize(
    "marks", [{"scan": Scan(2, False)}, {"first_row": 1}, {"padding": 1}, {"scan": None}], ids=str
)
def test_a_function_is_not_joined_to_a_product_that_runs_elsewhere(marks):
    own = {"when": "left", "scan": Scan(1, False)}
    product = Placed(PRODUCT, **own)
    assert len(tasks(plan_of(product, Placed(RELU, **own)))) == 1
    assert len(tasks(plan_of(product, Placed(RELU, **own | marks)))) == 2


def test_a_function_of_another_pixel_is_not_joined():
    gate = ("mul", ("tanh", ("arg", 0)), ("sigmoid", ("arg", 1)))
    product = Placed(PRODUCT, "row")
    for dr, joined in ((0, 1), (-1, 2)):
        halves = [Span("b", first, 2, dr) for first in (0, 2)]
        step = Pointwise(Span("c", 0, 2), tuple(halves), gate)
        assert len(tasks(plan_of(product, Placed(step, "row")))) == joined


@pytest.mark.parametrize("make", MODELS)
def test_a_task_waits_for_those_that_it_depends_on(make):
    """Check the lists of the pixels, of the scans and of the padding columns."""
    every = tasks(sampling.plan(network(make, layers=2, colors=3), (3, 4)))
    lists = [[task for task in every if task.placed.when != "row"]]
    lists += [
        [t for t in every if t.placed.scan == scan] for scan in {t.placed.scan for t in every}
    ]
    for due in lists:
        waits = triton_program._waits(due)
        assert waits[0]
        for (i, before), (j, after) in itertools.combinations(enumerate(due), 2):
            if _depends(after, before):
                assert any(waits[i + 1 : j + 1]), f"{after} does not wait for {before}"


def _depends(after: Task, before: Task) -> bool:
    outs, written = ([s for s in (t.step.out, t.result) if s] for t in (after, before))
    pairs = [(a, b) for a in written for b in [*_read(after), *outs]]
    pairs += [(a, b) for a in _read(before) for b in outs]
    return any(a.overlaps(b) for a, b in pairs)


def _read(task: Task) -> list[Span]:
    """Return what a task reads at the pixel itself: nothing else is written while a list runs."""
    step = task.step
    spans = list(step.args) if isinstance(step, Pointwise) else [step.add, step.out]
    if isinstance(step, Product) and 0 in step.rows and 0 in step.cols:
        spans.append(step.src)
    return [span for span in spans if span and span.dr == span.dc == 0]
