"""Tests of the Triton engine against the reference engine and the forward pass.

They run on the GPU or in Triton's interpreter, which takes a second for a few pixels of a small
network.
"""

import itertools
import threading

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import pixelsr
from pixelsr import sampling
from pixelsr.nn import MaskedConv2d
from pixelsr.ops.gumbel_noise.reference import gumbel_noise_ref
from pixelsr.sampling.engines import choose_engine, packing
from pixelsr.sampling.engines.fusion import Task, tasks
from pixelsr.sampling.engines.triton import engine
from pixelsr.sampling.engines.triton import program as triton_program
from pixelsr.sampling.methods import start_engine
from pixelsr.sampling.plan.ir import Placed, Pointwise, Product, Span
from pixelsr.sampling.request import make_request
from pixelsr.utils import system
from tests.sampling.engines.test_engine_cpu import Pointwise as EveryFunction
from tests.sampling.test_sampling import TEMPERATURE, count_flips, masks
from tests.support import networks
from tests.support.helpers import randomize
from tests.support.networks import NETWORKS, Network

pytest.importorskip("triton")
pytestmark = pytest.mark.usefixtures("quick_interpreter")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FLOAT = torch.float32
SIZE = (2, 2)


@pytest.fixture(autouse=True)
def ieee():
    """Turn TF32 off in PyTorch's convolutions, because the engine does not use it."""
    switch = torch.backends.cudnn.conv
    before, switch.fp32_precision = switch.fp32_precision, "ieee"
    yield
    switch.fp32_precision = before


class Small(Network):
    """A network with taps above, to the left and at the center, in few steps."""

    colors = 2

    def __init__(self) -> None:
        super().__init__()
        self.first = MaskedConv2d(2, 5, 3, mask_type="A", colors=2)
        self.second = MaskedConv2d(5, 6, 3, mask_type="B", colors=2)
        self.out = MaskedConv2d(6, 16, 1, mask_type="B", colors=2)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.second(torch.relu(self.first(self.images(images))))
        return self.logits(self.out(torch.tanh(hidden)))


def small(dtype: torch.dtype = FLOAT) -> nn.Module:
    return randomize(Small()).to(DEVICE, dtype).eval()


def network(name: str, dtype: torch.dtype = FLOAT) -> nn.Module:
    return networks.network(name, dtype).to(DEVICE)


def inputs(model: nn.Module, count: int = 2) -> dict[str, object]:
    return networks.inputs(model, count, SIZE)


def sample(model: nn.Module, n: int = 2, **options) -> Tensor:
    options = {"temperature": TEMPERATURE, "engine": "triton", **inputs(model), **options}
    return pixelsr.sample(model, n, **options).cpu()


def images_of(model: nn.Module, n: int) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    shape = (n, model.colors, *SIZE)
    images = torch.randint(model.levels, shape, dtype=torch.uint8, generator=generator)
    return images.to(DEVICE)


def logits(model: nn.Module, images: Tensor) -> Tensor:
    low_res = inputs(model, count=len(images)).get("low_res")
    return sampling.logits(model, images, low_res=low_res, engine="triton")


@torch.no_grad()
def forward(model: nn.Module, images: Tensor) -> Tensor:
    low_res = inputs(model, count=len(images)).get("low_res")
    return model(images) if low_res is None else model(images, low_res.to(DEVICE))


DRAWN = ["GatedPixelCNN", "PixelCNN-2-colors-5x5", "PixelRecursiveSR-pixelcnn", "Dilated"]


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in DRAWN])
def test_logits_equal_the_forward_pass(name):
    model = network(name)
    images = images_of(model, 2)
    torch.testing.assert_close(logits(model, images), forward(model, images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", DRAWN)
def test_equal_images_to_those_of_the_reference_engine(name):
    model = network(name)
    assert torch.equal(sample(model), sample(model, engine="reference"))


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (4, 1)])
def test_equal_images_of_odd_sizes(size):
    model = small()
    ours = sample(model, image_size=size)
    assert torch.equal(ours, sample(model, image_size=size, engine="reference"))


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("norm", [parametrizations.weight_norm, nn.utils.weight_norm])
def test_the_effective_weights_of_reparametrized_layers(norm):
    model = small()
    for layer in (model.first, model.out):
        norm(layer)
    images = images_of(model, 2)
    torch.testing.assert_close(logits(model, images), forward(model, images), rtol=1e-5, atol=1e-5)


def test_layers_that_are_wider_than_a_block():
    model = pixelsr.GatedPixelCNN(
        channels=70, layers=1, kernel_size=3, head_channels=4, colors=1, levels=2
    )
    model = randomize(model).eval().to(DEVICE)
    images = images_of(model, 2)
    torch.testing.assert_close(logits(model, images), forward(model, images), rtol=1e-5, atol=1e-5)


def test_every_pointwise_function():
    model = randomize(EveryFunction()).eval().to(DEVICE)
    images = images_of(model, 4)
    torch.testing.assert_close(logits(model, images), forward(model, images), rtol=1e-5, atol=1e-5)


# Samples and batches.


def test_an_image_is_the_same_in_any_batch_and_in_any_tile_of_it():
    """Check 18 samples, which make two tiles, the second nearly empty."""
    model = network("GatedPixelCNN-gray-binary")
    together = sample(model, n=18)
    assert torch.equal(sample(model, n=18, max_batch=10), together)
    assert torch.equal(sample(model, n=18, engine="reference"), together)
    alone = sample(model, n=1, first_index=17)
    assert torch.equal(alone[0], together[17])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_logits_are_the_same_in_any_batch(dtype):
    model = small(dtype)
    images = images_of(model, 17)
    together = logits(model, images)
    for k in (0, 16):
        assert torch.equal(logits(model, images[k : k + 1])[0], together[k])


@pytest.mark.slow
def test_completions_are_the_same_in_any_batch():
    """Check known leading rows, and a known row further down."""
    model = network("HintAbove")
    low_res = networks.inputs(model, 2, (4, 2))["low_res"]
    known = torch.zeros(1, 3, 4, 2, dtype=torch.uint8)
    mask = known.bool()
    mask[:, :, [0, 2]] = True
    options = {"low_res": low_res, "known": known, "known_mask": mask}
    together = sample(model, n=2, **options)
    assert torch.equal(sample(model, n=2, max_batch=1, **options), together)


# Known values.


@pytest.mark.parametrize("mask", masks((1, 1, 6, 4)))
def test_known_values_stay_and_the_rest_is_that_of_the_reference(mask):
    model = small()
    known_mask = masks((2, 2, 6, 4))[mask][:, :, 1:5, 1:4]
    known = torch.randint(model.levels, (2, 2, 4, 3), dtype=torch.uint8)
    options = {"image_size": (4, 3), "known": known, "known_mask": known_mask}
    images = sample(model, **options)
    assert torch.equal(images[known_mask], known[known_mask])
    assert torch.equal(images, sample(model, engine="reference", **options))


def test_rows_give_the_same_whether_they_are_drawn_or_known():
    """Check that an image is completed to itself by other kernels with the same sums."""
    model = small()
    images = sample(model, image_size=(4, 2))
    mask = torch.zeros(images.shape, dtype=torch.bool)
    mask[:, :, [0, 2]] = True
    own = sample(model, image_size=(4, 2), known=images, known_mask=mask)
    assert torch.equal(own, images)


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
    model = network("Conditioned")
    shape = (1, 3, 4, 4)
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[:, :, :2] = True
    known = torch.randint(model.levels, shape, dtype=torch.uint8)
    low_res = networks.inputs(model, 2, (4, 4))["low_res"]
    options = {"low_res": low_res, "known": known, "known_mask": mask, "n": 3}
    assert torch.equal(sample(model, **options), sample(model, engine="reference", **options))
    assert made == [6, 2]  # three samples of each of two inputs


# Drawing.


class Indifferent(Network):
    """A network whose logits are zero, so that only the noise draws."""

    def __init__(self, colors: int, levels: int) -> None:
        super().__init__()
        self.colors, self.levels = colors, levels
        self.out = MaskedConv2d(colors, colors * levels, 3, mask_type="A", colors=colors)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.out(self.images(images)))


@pytest.mark.parametrize(
    ("colors", "levels", "seed", "first_index"),
    [(1, 2, 0, 0), (3, 8, 2**64 - 1, 2**33 + 1), (2, 256, 2**40 + 3, 2**32 - 1)],
)
def test_the_noise_is_that_of_the_definition(colors, levels, seed, first_index):
    model = Indifferent(colors, levels).eval().to(DEVICE)
    ours = sample(model, n=3, seed=seed, first_index=first_index)
    signed = seed - 2**64 if seed >= 2**63 else seed
    noise = gumbel_noise_ref(signed, first_index, 3, 0, 4 * colors, levels)
    expected = noise.argmax(2).view(3, *SIZE, colors).permute(0, 3, 1, 2)
    assert torch.equal(ours, expected.to(torch.uint8))


def test_temperature_zero_is_the_mode_and_a_tie_goes_to_the_lowest_level():
    model = small()
    ours = sample(model, temperature=0)
    assert torch.equal(ours, sample(model, temperature=0, engine="reference"))
    indifferent = Indifferent(3, 130).eval().to(DEVICE)
    assert not sample(indifferent, temperature=0).any()


def test_values_that_a_caller_chooses():
    model = small()
    shape = (3, 2, *SIZE)
    known = torch.randint(model.levels, shape, dtype=torch.uint8)
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[:, 0, 0, 1] = mask[1, :, 1, 0] = True  # a value of all, and a pixel of one
    options = {"n": 3, "image_size": SIZE, "known": known, "known_mask": mask}
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
    assert torch.equal(ours.images.cpu()[mask], known[mask])


def test_several_python_threads_may_sample_at_once():
    model = small()
    options = {"n": 1, "image_size": (1, 2)}
    expected = [sample(model, seed=k, **options) for k in range(3)]
    found: dict[int, Tensor] = {}

    def work(k: int) -> None:
        found[k] = sample(model, seed=k, **options)

    workers = [threading.Thread(target=work, args=(k,)) for k in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(torch.equal(found[k], expected[k]) for k in range(3))


def test_few_values_flip(capsys):
    """Count the values that one forward pass of the sample would draw differently."""
    for dtype, most in ((torch.float32, 0), (torch.float16, 0.02)):
        model = small(dtype)
        images = sample(model, n=32, image_size=(2, 3)).to(DEVICE)
        flips = count_flips(model, images, TEMPERATURE)
        with capsys.disabled():
            print(f"\nTriton engine, {dtype}: {flips} of {images.numel()} values flipped")
        assert flips <= images.numel() * most


# Weights.


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["GatedPixelCNN", "PixelCNN"])
def test_half_precision_is_at_most_twice_as_far_off_as_pytorch(name, dtype):
    model = network(name, dtype)
    exact = network(name, torch.float64)
    exact.load_state_dict(model.state_dict())
    images = images_of(model, 4)
    expected = forward(exact, images)
    ours = (logits(model, images).double() - expected).abs().max()
    pytorch = (forward(model, images).double() - expected).abs().max()
    assert ours <= 2 * pytorch


@pytest.mark.parametrize("weights", ["float16", "bfloat16"])
def test_16_bit_weights_are_those_of_the_rounded_model(weights):
    model, rounded = small(), small(getattr(torch, weights))
    assert torch.equal(sample(model, weights=weights), sample(rounded))


def test_weights_are_packed_once_and_again_when_one_has_changed(monkeypatch):
    packed = []
    run = triton_program._Writer.run
    monkeypatch.setattr(
        triton_program._Writer, "run", lambda self: packed.append(self) or run(self)
    )
    model, options = small(), {"image_size": (1, 2)}
    before = sample(model, n=4, **options)
    sample(model, seed=1, **options)
    assert len(packed) == 1
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.data.neg_()
    after = sample(model, n=4, **options)
    assert len(packed) == 2
    assert not torch.equal(after, before)
    assert torch.equal(after, sample(model, n=4, engine="reference", **options))


# The task lists of a pixel. Only these waits order the reads and writes of its tasks.


def _written(task) -> set[tuple[str, int]]:
    return {(s.buffer, k) for s in (task.step.out, task.result) if s for k in _channels(s)}


def _read(task) -> set[tuple[str, int]]:
    """Return what a task reads at the pixel itself: nothing else is written while a list runs."""
    step = task.step
    spans = list(step.args) if isinstance(step, Pointwise) else [step.add, step.out]
    if isinstance(step, Product) and 0 in step.rows and 0 in step.cols:
        spans.append(step.src)
    return {(span.buffer, k) for span in spans if span for k in _channels(span)}


def _channels(span) -> range:
    return range(span.first, span.first + span.count)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_task_waits_for_those_that_it_depends_on(name):
    model = networks.network(name)
    low_res = networks.inputs(model).get("low_res")
    plan = sampling.plan(model, (6, 4), low_res if low_res is None else tuple(low_res.shape[2:]))
    stages = {(task.placed.when, task.placed.color) for task in tasks(plan)} - {("row", 0)}
    for stage in stages:
        due = [t for t in tasks(plan) if (t.placed.when, t.placed.color) == stage]
        waits = triton_program._waits(due)
        assert waits[0]
        for (i, before), (j, after) in itertools.combinations(enumerate(due), 2):
            out = _written(after)
            if _written(before) & (_read(after) | out) or _read(before) & out:
                assert any(waits[i + 1 : j + 1]), f"{after} does not wait for {before}"


def test_a_task_waits_for_those_that_read_what_it_writes():
    a, b, c = (Span(name, 0, 4) for name in "abc")
    steps = [Pointwise(b, (a,), ("arg", 0)), Pointwise(a, (c,), ("arg", 0))]
    due = [Task(Placed(step, "left", 0, False)) for step in steps]
    assert triton_program._waits(due) == [True, True]
    assert triton_program._waits([due[0], Task(Placed(steps[0], "left", 0, False))]) == [True, True]


def test_independent_tasks_do_not_wait():
    plan = sampling.plan(networks.network("GatedPixelCNN"), (6, 4))
    left = [task for task in tasks(plan) if task.placed.when == "left"]
    assert len(left) == 3
    assert triton_program._waits(left) == [True, False, False]


# Unsupported requests.


@pytest.mark.skipif(DEVICE == "cuda", reason="auto takes it there")
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


def test_float64_is_refused():
    with pytest.raises(ValueError, match=r"engine 'triton' cannot run: .*got float64"):
        sample(small(torch.float64))


def test_parameters_of_mixed_dtype_are_refused():
    model = small()
    list(model.parameters())[-1].data = list(model.parameters())[-1].data.half()
    with pytest.raises(ValueError, match=r"mixed dtype, torch.float32 and torch.float16"):
        sample(model)


def test_a_function_that_it_does_not_know_is_refused(monkeypatch):
    monkeypatch.delitem(packing.OPCODES, "elu")
    with pytest.raises(ValueError, match=r"cannot run: .* pointwise function 'elu'"):
        sample(network("OtherGate"))


def test_features_that_32_bits_do_not_count_are_refused(monkeypatch):
    monkeypatch.setattr(triton_program, "MOST_VALUES", 100)
    with pytest.raises(ValueError, match=r"features of one image are \d+ numbers, more than 100"):
        sample(small())


def test_edits_are_refused_by_name_and_auto_takes_another_engine():
    model = small()
    images = images_of(model, 1)
    with pytest.raises(ValueError, match=r"engine 'triton' cannot run: it does not support edits"):
        sampling.incremental_logits(model, images, engine="triton")
    assert sampling.incremental_logits(model, images).logits.shape == (1, 8, 2, *SIZE)


def test_a_batch_beyond_memory_is_refused_before_it_is_allocated(monkeypatch):
    model = small()
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


def test_the_memory_asked_for_is_what_is_allocated(monkeypatch):
    asked = []
    monkeypatch.setattr(engine, "check_memory", lambda needed, *_: asked.append(needed))
    model = network("HintAbove")
    low_res = networks.inputs(model, 2, (4, 4))["low_res"]
    request = make_request(model, 3, low_res=low_res)
    made = start_engine("triton", request)
    assert isinstance(made, engine.TritonEngine)
    tensors = [made.storage, made.images, *made.features.conditioning.values()]
    assert asked == [sum(tensor.nbytes for tensor in tensors)]
