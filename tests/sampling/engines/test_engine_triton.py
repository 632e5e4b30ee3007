"""Tests of what only the Triton engine has: blocks, task lists, packed weights, memory.

They run on the GPU or in Triton's interpreter, which takes a second for a few pixels of a small
network.
"""

import dataclasses
import itertools

import pytest
import torch
from torch import Tensor, nn

import pixelsr
from pixelsr import sampling
from pixelsr.sampling.engines import choose_engine
from pixelsr.sampling.engines.fusion import Task, tasks
from pixelsr.sampling.engines.triton import engine
from pixelsr.sampling.engines.triton import program as triton_program
from pixelsr.sampling.methods import start_engine
from pixelsr.sampling.plan.ir import Placed, Pointwise, Product, Scan, Span
from pixelsr.utils import system
from tests.support.engines import ENGINES
from tests.support.helpers import randomize, slow
from tests.support.networks import NETWORKS, RECURRENT, inputs, network
from tests.support.plans import make_plan
from tests.support.sampling import (
    Draw,
    ancestral,
    cached_logits,
    forward,
    random_images,
    request_of,
)

pytestmark = pytest.mark.usefixtures("interpreter")

TRITON = ENGINES["triton"]
SIZE = (2, 2)


def sample(model: nn.Module, n: int = 2, **options: object) -> Tensor:
    options = {"temperature": 0.5, "engine": "triton", "image_size": SIZE, **options}
    return pixelsr.sample(model, n, **options).cpu()


def test_layers_that_are_wider_than_a_block():
    sizes = {"channels": 70, "layers": 1, "kernel_size": 3, "head_channels": 4}
    model = TRITON.own(randomize(pixelsr.GatedPixelCNN(**sizes, colors=1, levels=2)))
    images = random_images(model, 2, SIZE)
    found = cached_logits("triton", model, images)
    torch.testing.assert_close(found, forward(model, images), **TRITON.near)


def test_logits_are_the_same_in_any_tile_of_a_batch():
    """Check the last of 17 samples, alone in its tile, below a known row that is scanned."""
    model = TRITON.network("DiagonalBiLSTM-tiny")
    known = random_images(model, 17, (2, 3))
    mask = torch.zeros(known.shape, dtype=torch.bool)
    mask[:, :, 0] = True
    options = {"engine": "triton", "image_size": (2, 3)}
    together = sampling.start(model, n=17, known=known, known_mask=mask, **options).step()
    alone = sampling.start(model, n=1, known=known[16:], known_mask=mask[16:], **options).step()
    assert torch.equal(alone[0], together[16])


@pytest.mark.slow
def test_completions_are_the_same_in_any_batch():
    """Check known leading rows, and a known row further down."""
    draw = Draw("HintAbove", (4, 2), mask="rows")
    model = TRITON.network(draw.name)
    options = {**draw.options(), "engine": "triton"}
    together = pixelsr.sample(model, **options)
    assert torch.equal(pixelsr.sample(model, max_batch=1, **options), together)


def test_samples_of_one_input_share_the_rows_that_are_known(monkeypatch):
    made = []
    init = engine.TritonEngine.__init__
    monkeypatch.setattr(
        engine.TritonEngine,
        "__init__",
        lambda self, plan, request, *more: (
            made.append(request.samples) or init(self, plan, request, *more)
        ),
    )
    draw = Draw("Conditioned", (4, 2), 3, "upper half", shares=True)
    images = pixelsr.sample(TRITON.network(draw.name), engine="triton", **draw.options())
    assert torch.equal(images.cpu(), ancestral(draw))
    assert made == [6, 2]  # three samples of each of two inputs


@pytest.mark.parametrize("name", [slow("RowLSTM-tiny"), "DiagonalBiLSTM-tiny"])
def test_rows_give_the_same_whether_they_are_drawn_or_known(name):
    """Check the row below known rows, which other kernels run once for all samples."""
    model = TRITON.network(name)
    images = random_images(model, 1, (3, 2))
    mask = torch.zeros(images.shape, dtype=torch.bool)
    mask[:, :, :2] = True
    drawn = cached_logits("triton", model, images)[:, :, 0, 2, 0]
    options = {"engine": "triton", "image_size": (3, 2), "known": images, "known_mask": mask}
    for n in (1, 2):
        given = sampling.start(model, n=n, **options).step()
        torch.testing.assert_close(given, drawn.expand(n, -1), rtol=1e-5, atol=1e-5)


def test_weights_are_packed_once_and_again_when_one_has_changed(monkeypatch):
    packed = []
    run = triton_program._Writer.run
    monkeypatch.setattr(
        triton_program._Writer, "run", lambda self: packed.append(self) or run(self)
    )
    model, options = TRITON.network("Small"), {"image_size": (1, 2)}
    before = sample(model, n=4, **options)
    sample(model, seed=1, **options)
    assert len(packed) == 1
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.data.neg_()
    after = sample(model, n=4, **options)
    assert len(packed) == 2
    assert not torch.equal(after, before)


# Fused steps and task lists. Only the waits of a list order the reads and writes of its tasks.


def plan_of(*placed: Placed) -> sampling.Plan:
    plan = sampling.plan(network("RowLSTM-tiny"), (2, 2))
    return dataclasses.replace(plan, placed=placed, logits=())


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


@pytest.mark.parametrize("name", [*NETWORKS, *RECURRENT])
def test_a_task_waits_for_those_that_it_depends_on(name):
    """Check the lists of each stage of a pixel, of all of them, and of the scans."""
    every = tasks(make_plan(network(name)))
    stages = {(task.placed.when, task.placed.color) for task in every} - {("row", 0)}
    lists = [[t for t in every if (t.placed.when, t.placed.color) == stage] for stage in stages]
    lists.append([task for task in every if task.placed.when != "row"])
    scans = {task.placed.scan for task in every} - {None}
    lists += [[task for task in every if task.placed.scan == scan] for scan in scans]
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


def test_a_task_waits_for_those_that_read_what_it_writes():
    a, b, c = (Span(name, 0, 4) for name in "abc")
    steps = [Pointwise(b, (a,), ("arg", 0)), Pointwise(a, (c,), ("arg", 0))]
    due = [Task(Placed(step, "left", 0, False)) for step in steps]
    assert triton_program._waits(due) == [True, True]
    assert triton_program._waits([due[0], Task(Placed(steps[0], "left", 0, False))]) == [True, True]


def test_independent_tasks_do_not_wait():
    plan = make_plan(network("GatedPixelCNN"))
    left = [task for task in tasks(plan) if task.placed.when == "left"]
    assert len(left) == 3
    assert triton_program._waits(left) == [True, False, False]


# Unsupported requests.


@pytest.mark.skipif(TRITON.device == "cuda", reason="auto takes it there")
def test_auto_passes_over_the_interpreter():
    assert choose_engine("auto", torch.device("cpu")) is not engine.TritonEngine
    assert choose_engine("triton", torch.device("cpu")) is engine.TritonEngine


def test_where_it_cannot_run_it_says_why(monkeypatch):
    where = engine.TritonEngine.device_unsupported_reason
    with monkeypatch.context() as patch:
        patch.setattr(engine, "interprets", lambda: False)
        message = "its kernels need a GPU, or TRITON_INTERPRET=1 on a CPU, got cpu"
        assert where(torch.device("cpu")) == message
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
        assert where(torch.device("cuda")) == "its kernels need compute capability 8.0, got 7.5"
    monkeypatch.setattr(engine, "HAS_TRITON", False)
    assert where(torch.device("cpu")) == "triton is not installed"


def test_features_that_32_bits_do_not_count_are_refused(monkeypatch):
    monkeypatch.setattr(triton_program, "MOST_VALUES", 100)
    with pytest.raises(ValueError, match=r"features of one image are \d+ numbers, more than 100"):
        sample(TRITON.network("Small"))


# Memory.


def test_a_batch_beyond_memory_is_refused_before_it_is_allocated(monkeypatch):
    model = TRITON.network("Small")
    monkeypatch.setattr(system, "available_on", lambda device: 1000)
    with pytest.raises(ValueError, match=r"2 images at once need .* max_batch of pixelsr.sample"):
        sample(model)


def test_what_is_free_on_a_gpu_includes_what_pytorch_keeps_for_reuse(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 5000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 400)
    assert system.available_on(torch.device("cuda")) == 1300
    monkeypatch.setattr(system, "available_memory", lambda: 7)
    assert system.available_on(torch.device("cpu")) == 7


@pytest.mark.parametrize("name", ["HintAbove", "DiagonalBiLSTM-tiny-multi-scale"])
def test_the_memory_asked_for_is_what_is_allocated(name, monkeypatch):
    """Check that the memory of conditioning features is counted, of padded ones too."""
    asked = []
    monkeypatch.setattr(engine, "check_memory", lambda needed, *_: asked.append(needed))
    model = TRITON.network(name)
    low_res = inputs(model, 2, (4, 4))["low_res"].to(TRITON.device)
    made = start_engine("triton", request_of(model, 3, None, low_res))
    assert isinstance(made, engine.TritonEngine)
    tensors = [made.storage, made.images, *made.features.conditioning.values()]
    assert asked == [sum(tensor.nbytes for tensor in tensors)]
