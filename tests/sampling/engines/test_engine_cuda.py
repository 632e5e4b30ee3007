"""Tests of the CUDA engine, on a GPU or on the emulated machine.

The emulated machine lets a test choose the order in which threads run between two barriers. A
result that depends on this order reveals a race.
"""

import copy
import os
import subprocess
import sys
import threading

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import pixelsr
from pixelsr import ops, sampling
from pixelsr.ops.gumbel_noise.reference import gumbel_noise_ref
from pixelsr.sampling.engines import packing
from pixelsr.sampling.engines.cuda import engine as cuda_engine
from pixelsr.sampling.engines.cuda.engine import CudaEngine, Machine, choose_cut
from pixelsr.sampling.engines.cuda.memory_layout import UNIT, Cut
from pixelsr.sampling.request import make_request
from pixelsr.sampling.sampler import Sampler
from pixelsr.utils import system
from tests.sampling.test_sampling import count_flips, masks, sample
from tests.sampling.test_sampling_distribution import (
    SHARP,
    chi_square_p,
    counts_of,
    probabilities,
    tiny_model,
)
from tests.support.emulator.build import HERE, build
from tests.support.helpers import randomize, slow
from tests.support.networks import NETWORKS, Network, inputs, network

HAS_GPU = torch.cuda.is_available() and ops.WHY_NO_CUDA is None
DEVICE = torch.device("cuda" if HAS_GPU else "cpu")
EXACT = torch.float16 if HAS_GPU else torch.float32
"""The dtype of the logic tests: the emulated machine also multiplies float32."""
NEAR = {"rtol": 0, "atol": 0.02 if HAS_GPU else 5e-6}
"""The tolerance of logits against the reference; half precision has its own bound below."""
exactly = pytest.mark.skipif(HAS_GPU, reason="a GPU rounds features to 16 bits: see the replays")
IN_HALF = [name for name in NETWORKS if name != "Conditioned"]
"""The networks that PyTorch can run in 16 bits, where its FFT needs sizes that are powers of 2."""


@pytest.fixture(autouse=True, scope="module")
def _machine():
    if HAS_GPU:
        yield
        return
    torch.ops.load_library(build([HERE / "run_tiles.cpp"], "run_tiles"))
    cuda_engine.EMULATES = True
    yield
    cuda_engine.EMULATES = False


@pytest.fixture(params=[0, slow(1), 5] if not HAS_GPU else [0])
def order(request, monkeypatch):
    """Set the order in which threads run on the emulated machine."""
    monkeypatch.setenv("PIXELSR_EMULATOR_ORDER", str(request.param))


@pytest.fixture
def gpu(monkeypatch):
    """Return a function that sets the properties of the machine."""

    def take(processors: int = 132, shared: int = 227 * 1024, has_clusters: bool = True) -> None:
        monkeypatch.setattr(
            cuda_engine, "machine", lambda device: Machine(processors, shared, has_clusters)
        )

    return take


def both(model: nn.Module, **options) -> tuple[Tensor, Tensor]:
    return sample(model, engine="cuda", **options), sample(model, engine="reference", **options)


def exact(name: str) -> nn.Module:
    return network(name, EXACT).to(DEVICE)


def logits_error(model: nn.Module, n: int = 2, engine: str = "cuda") -> tuple[float, float]:
    """Return the largest errors of our logits and of PyTorch in the same dtype, against float64."""
    size = (6, 4)
    generator = torch.Generator().manual_seed(3)
    shape = (n, model.colors, *size)
    images = torch.randint(model.levels, shape, dtype=torch.uint8, generator=generator).to(DEVICE)
    low_res = inputs(model, count=n).get("low_res")
    given = [] if low_res is None else [low_res.to(DEVICE)]
    ours = sampling.logits(model, images, low_res=given[0] if given else None, engine=engine)
    with torch.no_grad():
        theirs = model(images, *given)
        right = model.double()(images, *given)
    return tuple(float((found.double() - right).abs().max()) for found in (ours, theirs))


@pytest.mark.parametrize("name", IN_HALF if HAS_GPU else NETWORKS)
def test_logits_equal_the_forward_pass(name, order):
    ours, theirs = logits_error(exact(name))
    assert ours <= (2 * theirs if HAS_GPU else 5e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", IN_HALF)
def test_16_bit_logits_are_as_right_as_those_of_pytorch(name, dtype):
    ours, theirs = logits_error(network(name, dtype).to(DEVICE))
    assert 0 < ours <= 2 * theirs


@exactly
@pytest.mark.parametrize("n", [slow(1), 3, slow(9)])
@pytest.mark.parametrize("name", NETWORKS)
def test_equal_images(name, n):
    ours, reference = both(exact(name), n=n)
    assert torch.equal(ours, reference)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("norm", [parametrizations.weight_norm, nn.utils.weight_norm])
def test_the_effective_weights_of_reparametrized_layers(norm):
    model = exact("GatedPixelCNN")
    for layer in (model.horizontal_first, model.head.out):
        norm(layer)
    images = torch.randint(8, (2, 3, 3, 4), dtype=torch.uint8, device=DEVICE)
    ours = sampling.logits(model, images, engine="cuda")
    torch.testing.assert_close(ours, model(images).detach().float(), **NEAR)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (3, 7), (2, 37)])
@pytest.mark.parametrize("name", ["GatedPixelCNN", "Concatenated", "Dilated"])
def test_logits_of_odd_sizes(name, size):
    model = exact(name)
    images = torch.randint(8, (3, 3, *size), dtype=torch.uint8, device=DEVICE)
    ours = sampling.logits(model, images, engine="cuda")
    torch.testing.assert_close(ours, model(images).detach().float(), **NEAR)


@pytest.mark.parametrize("has_clusters", [False, True])
def test_rows_that_are_taken_in_several_passes(has_clusters, gpu, order):
    """Check wide layers in wide images, where a warp's sums cover a part of the row."""
    gpu(has_clusters=has_clusters)
    model = randomize(pixelsr.GatedPixelCNN(channels=64, layers=2, head_channels=16, levels=8))
    model = model.to(DEVICE, EXACT).eval()
    images = torch.randint(8, (1, 3, 2, 20), dtype=torch.uint8, device=DEVICE)
    with torch.no_grad():
        expected = model(images).float()
    ours = sampling.logits(model, images, engine="cuda")
    torch.testing.assert_close(ours, expected, **NEAR)


@exactly
@pytest.mark.parametrize("mask", masks((1, 1, 6, 4)))
@pytest.mark.parametrize("name", ["GatedPixelCNN", "PixelRecursiveSR-gated", "HintAbove"])
def test_known_values_stay_and_the_rest_is_right(name, mask):
    model = exact(name)
    shape = sample(model).shape
    known_mask = masks(tuple(shape))[mask].to(DEVICE)
    known = torch.randint(model.levels, shape, dtype=torch.uint8, device=DEVICE)
    ours, reference = both(model, known=known, known_mask=known_mask)
    assert torch.equal(ours[known_mask], known[known_mask])
    assert torch.equal(ours, reference)


@exactly
@pytest.mark.parametrize("name", ["PixelCNN", "PixelRecursiveSR-gated", "HintAbove"])
def test_samples_of_one_input_share_the_rows_that_are_known(name, monkeypatch):
    rows = []
    run = CudaEngine._run
    monkeypatch.setattr(
        CudaEngine,
        "_run",
        lambda self, *a, **k: rows.append(len(self.images)) or run(self, *a, **k),
    )
    model = exact(name)
    shape = (1, 3, 6, 4)
    known = torch.randint(model.levels, shape, dtype=torch.uint8, device=DEVICE)
    options = {"known": known, "known_mask": masks(shape)["upper half"].to(DEVICE), "n": 11}
    ours, reference = both(model, **options)
    assert torch.equal(ours, reference)
    assert rows == [len(ours) // 11, len(ours)]


# Division of the work.


@pytest.mark.parametrize("name", ["GatedPixelCNN-4-colors-256-levels", "PixelRecursiveSR-gated"])
def test_images_do_not_depend_on_how_the_work_is_cut(name, gpu, monkeypatch):
    model = network(name, torch.bfloat16).to(DEVICE)
    whole = sample(model, n=17, engine="cuda")
    for processors, batch in ((1, None), (16, None), (32, 16), (132, 5)):
        gpu(processors)
        assert torch.equal(sample(model, n=17, engine="cuda", max_batch=batch), whole)


def test_a_sum_is_in_the_same_order_in_a_cluster(gpu):
    """Check layers wide enough for a cluster to share their tiles of outputs."""
    wide = randomize(pixelsr.GatedPixelCNN(channels=96, layers=2, head_channels=40, levels=8))
    model = wide.to(DEVICE, EXACT).eval()
    images = torch.randint(8, (1, 3, 2, 4), dtype=torch.uint8, device=DEVICE)
    found = []
    for processors in (1, 16):
        gpu(processors)
        assert engine_of(model, 1).cut.cluster_size == (1 if processors == 1 else 8)
        found.append(sampling.logits(model, images, engine="cuda"))
    assert torch.equal(*found)


def test_few_samples_have_clusters_and_many_have_none(gpu):
    model = network("GatedPixelCNN", torch.float16).to(DEVICE)
    expected = {
        1: (1, 8),
        9: (1, 8),  # two tiles of 8 run at once, each as fast as one
        128: (1, 8),
        129: (2, 8),  # 17 tiles of 8 would have 4 blocks each
        256: (2, 8),
        257: (2, 4),
        600: (2, 2),
        1030: (1, 1),
        1060: (2, 1),  # 133 tiles of 8 would not all run at once
        5000: (2, 1),
    }
    assert {n: cut_of(model, n) for n in expected} == expected
    gpu(108, 163 * 1024, has_clusters=False)
    expected = {1: (1, 1), 100: (1, 1), 864: (1, 1), 865: (2, 1)}
    assert {n: cut_of(model, n) for n in expected} == expected


def test_clusters_are_as_many_as_the_driver_can_place(gpu, monkeypatch):
    """Check a GPU that runs fewer clusters at once than its multiprocessors would allow."""
    gpu()
    asked = []
    monkeypatch.setattr(cuda_engine, "_clusters_at_once", lambda cut, _: asked.append(cut) or 13)
    most = {
        cluster_size: cuda_engine._tiles_at_once(cut(cluster_size), torch.device("cuda"))
        for cluster_size in (1, 8)
    }
    assert most == {1: 132, 8: 13}
    assert [one.cluster_size for one in asked] == [8]
    assert cuda_engine._tiles_at_once(cut(8), torch.device("cpu")) == 16


def cut(cluster_size: int) -> Cut:
    return Cut(torch.float16, 1, cluster_size, 227 * 1024)


def cut_of(model: nn.Module, n: int) -> tuple[int, int]:
    chosen = choose_cut(sampling.plan(model, (6, 4)), request_of(model, n, (6, 4)))
    return chosen.eights, chosen.cluster_size


def engine_of(model: nn.Module, n: int = 2) -> CudaEngine:
    request = make_request(model, n, image_size=(6, 4))
    return CudaEngine(sampling.plan(model, (6, 4)), request)


def test_windows_that_do_not_fit_stay_in_global_memory(gpu):
    """Check for equal images from a GPU whose blocks have little shared memory."""
    wide = randomize(pixelsr.GatedPixelCNN(channels=40, layers=2, head_channels=300, levels=8))
    model = wide.to(DEVICE, EXACT).eval()
    whole = pixelsr.sample(model, 3, image_size=(3, 4), engine="cuda", temperature=0.5)
    for shared in (66 * 1024, 99 * 1024):
        gpu(shared=shared)
        engine = CudaEngine(sampling.plan(model, (3, 4)), request_of(model))
        assert (
            len(engine.cuda_program.tiles.windows) < len(engine.cuda_program.tiles._wanted)
            or shared > 70000
        )
        ours = pixelsr.sample(model, 3, image_size=(3, 4), engine="cuda", temperature=0.5)
        assert torch.equal(ours, whole)


def request_of(model: nn.Module, n: int = 3, size: tuple[int, int] = (3, 4)):
    return make_request(model, n, image_size=size)


@pytest.mark.parametrize("mask", ["upper half", "hole", "each its own"])
def test_a_batch_that_does_not_fit_is_drawn_in_waves(mask, monkeypatch):
    model = exact("PixelRecursiveSR-gated")
    shape = sample(model, n=13).shape
    options = {"known": torch.randint(8, shape, dtype=torch.uint8, device=DEVICE), "n": 13}
    options["known_mask"] = masks(tuple(shape))[mask].to(DEVICE)
    whole = sample(model, engine="cuda", **options)
    launches = []
    run = CudaEngine._run
    monkeypatch.setattr(
        CudaEngine, "_run", lambda self, *a, **k: launches.append(a[4]) or run(self, *a, **k)
    )
    monkeypatch.setattr(cuda_engine, "available_on", lambda device: 1)
    monkeypatch.setattr(cuda_engine, "check_memory", lambda *arguments: None)
    assert torch.equal(sample(model, engine="cuda", **options), whole)
    assert launches == [1, 1, 1, 1]


def test_a_tile_that_does_not_fit_is_refused_in_one_sentence(monkeypatch):
    monkeypatch.setattr(system, "available_memory", lambda: 1000)
    monkeypatch.setattr(system, "available_on", lambda device: 1000)
    with pytest.raises(ValueError, match=r"images at once need .* GiB of memory, and .* are free"):
        sample(exact("PixelCNN"), engine="cuda")


def test_long_jobs_are_several_launches(monkeypatch):
    model = exact("GatedPixelCNN")
    whole = sample(model, engine="cuda")
    rows = []
    run = CudaEngine._run
    monkeypatch.setattr(
        CudaEngine, "_run", lambda self, *a, **k: rows.append(a[1][0]) or run(self, *a, **k)
    )
    monkeypatch.setattr(cuda_engine, "_PIXELS_AT_ONCE", 8)
    assert torch.equal(sample(model, engine="cuda"), whole)
    assert rows == [0, 2, 4]


def test_leading_known_rows_and_several_launches(monkeypatch):
    model = exact("GatedPixelCNN")
    shape = sample(model).shape
    options = {"known": torch.randint(8, shape, dtype=torch.uint8, device=DEVICE)}
    options["known_mask"] = masks(tuple(shape))["rows"].to(DEVICE)
    whole = sample(model, engine="cuda", **options)
    monkeypatch.setattr(cuda_engine, "_PIXELS_AT_ONCE", 1)
    assert torch.equal(sample(model, engine="cuda", **options), whole)


# Drawing.


class Silent(Network):
    """A network whose logits are all equal, so that it draws the argmax of the noise."""

    colors, levels = 2, 256

    def __init__(self) -> None:
        super().__init__()
        self.out = pixelsr.nn.MaskedConv2d(2, 512, 1, mask_type="A", colors=2)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.out(self.images(images)))


@pytest.mark.parametrize("levels", [256, 2, 7])
def test_the_noise_is_the_reference_s_bit_for_bit(levels):
    """Read the noise from the tiles' storage after the last row.

    These are 50 thousand draws, or a million on a GPU.
    """
    samples, (height, width) = (500 if HAS_GPU else 25), (3, 4)
    model = Silent()
    model.levels = levels
    model.out = pixelsr.nn.MaskedConv2d(2, 2 * levels, 1, mask_type="A", colors=2)
    model = model.to(DEVICE, torch.float16).eval()
    seed, first_index = 2**63 + 12345, 2**32 - 7
    request = make_request(model, samples, image_size=(height, width), first_index=first_index)
    engine = CudaEngine(sampling.plan(model, (height, width)), request)
    kept = []
    storage_of = engine._storage
    engine._storage = lambda tiles: kept.append(storage_of(tiles)) or kept[0]
    engine.draw(Sampler(seed, 1.0))
    bytes_of_noise = width * 2 * engine.cut.samples * levels * 4
    first = engine.cuda_program.tiles.units * UNIT  # after the ring buffers
    noise = kept[0].view(engine.tiles, -1)[:, first : first + bytes_of_noise].contiguous()
    noise = noise.view(torch.float32).view(engine.tiles, width * 2, levels, engine.cut.samples)
    noise = noise.permute(0, 3, 1, 2).flatten(0, 1)[:samples]  # [samples, positions, levels]
    expected = gumbel_noise_ref(seed, first_index, samples, 2 * width * 2, width * 2, levels)
    assert torch.equal(noise.cpu(), expected)


def test_equal_logits_draw_the_argmax_of_the_noise():
    model = Silent().to(DEVICE, torch.float16).eval()
    drawn = pixelsr.sample(model, 20, image_size=(3, 5), seed=7, first_index=11, engine="cuda")
    noise = gumbel_noise_ref(7, 11, 20, 0, 30, 256).argmax(-1)
    assert torch.equal(drawn.cpu().long(), noise.view(20, 3, 5, 2).permute(0, 3, 1, 2))


@exactly
def test_temperature_zero_takes_the_lowest_of_equal_levels():
    model = Silent().to(DEVICE, torch.float16).eval()
    assert not pixelsr.sample(model, 3, image_size=(2, 2), temperature=0, engine="cuda").any()
    ours, reference = both(exact("PixelCNN"), temperature=0)
    assert torch.equal(ours, reference)


@pytest.mark.parametrize("dtype", [EXACT, torch.float16, torch.bfloat16])
def test_few_values_flip(dtype):
    model = network("GatedPixelCNN", dtype).to(DEVICE)
    images = sample(model, n=64, engine="cuda")
    flips = count_flips(model, images, 0.5)
    print(f"{dtype}: {flips} of {images.numel()} values flipped")
    assert flips <= images.numel() * (0 if dtype == torch.float32 else 0.02)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [EXACT, torch.bfloat16])
def test_the_paper_s_model_by_replay(dtype, gpu):
    gpu(has_clusters=HAS_GPU)
    torch.manual_seed(0)
    model = pixelsr.PixelRecursiveSR().to(DEVICE, dtype).eval()
    low_res = torch.randint(256, (1, 3, 8, 8), dtype=torch.uint8, device=DEVICE)
    images = pixelsr.sample(model, 1, low_res=low_res, engine="cuda")
    flips = count_flips(model.float(), images, 1.0, low_res)
    print(f"paper size, {dtype}: {flips} of {images.numel()} values flipped")
    assert flips <= (3 if dtype == torch.float32 else 0.02 * images.numel())


def test_frequencies_of_an_enumerable_image():
    model, n = tiny_model(), 4_000
    on_device = copy.deepcopy(model).to(DEVICE, EXACT)
    options = {"image_size": (3, 3), "temperature": SHARP, "engine": "cuda"}
    images = pixelsr.sample(on_device, n, **options).cpu()
    assert chi_square_p(counts_of(images), probabilities(model) * n) > 1e-3


# Step by step.


@pytest.mark.parametrize("mask", [None, "hole", "upper half", "each its own"])
@pytest.mark.parametrize("name", ["GatedPixelCNN", "PixelRecursiveSR-pixelcnn"])
def test_a_caller_who_draws_gets_the_logits_of_the_reference(name, mask, order):
    model = exact(name)
    what = {key: v.to(DEVICE) if isinstance(v, Tensor) else v for key, v in inputs(model).items()}
    if mask:
        shape = (1, 3, 6, 4)
        what["known_mask"] = masks(shape)[mask].to(DEVICE)
        what["known"] = torch.randint(8, shape, dtype=torch.uint8, device=DEVICE)
    ours, theirs = (
        sampling.start(model, n=3, engine=engine, **what) for engine in ("cuda", "reference")
    )
    step, expected = ours.step(), theirs.step()
    while expected is not None:
        assert ours.position == theirs.position
        torch.testing.assert_close(step, expected.float(), **NEAR)
        values = torch.randint(8, (3,), device=DEVICE)
        step, expected = ours.step(values), theirs.step(values)
    assert step is None
    assert torch.equal(ours.images, theirs.images)


def test_several_python_threads_may_sample_at_once():
    models = [exact(name) for name in ("GatedPixelCNN", "PixelCNN", "Dilated")]
    expected = [sample(model, n=3, engine="cuda") for model in models]
    found: dict[int, Tensor] = {}

    def work(k: int) -> None:
        for _ in range(3):
            found[k] = sample(models[k], n=3, engine="cuda")

    workers = [threading.Thread(target=work, args=(k,)) for k in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(torch.equal(found[k], expected[k]) for k in range(3))


@exactly
def test_a_changed_parameter_changes_the_image():
    model = exact("PixelCNN")
    before = sample(model, n=4, engine="cuda")
    next(model.parameters()).data.mul_(-1)
    ours, reference = both(model, n=4)
    assert torch.equal(ours, reference)
    assert not torch.equal(ours, before)


def test_time_is_told_by_event():
    engine = engine_of(exact("GatedPixelCNN"))
    engine.ticks = torch.zeros(
        engine.tiles, len(cuda_engine.EVENTS), dtype=torch.int64, device=DEVICE
    )
    engine.draw(Sampler(0, 1.0))
    spent = dict(zip(cuda_engine.EVENTS, engine.ticks.sum(0).tolist(), strict=True))
    assert spent.pop("known row") == 0
    assert all(ticks > 0 for ticks in spent.values())


# Unsupported requests.


def test_float64_is_refused_by_name():
    with pytest.raises(ValueError, match=r"multiplies float16 or bfloat16 weights, got .*64"):
        sample(network("PixelCNN").to(DEVICE), engine="cuda")


@pytest.mark.skipif(HAS_GPU, reason="of a machine without a GPU")
def test_float32_is_refused_on_a_real_gpu(monkeypatch):
    model = network("PixelCNN", torch.float32)
    monkeypatch.setattr(cuda_engine, "EMULATES", False)
    reason = CudaEngine.unsupported_reason(sampling.plan(model, (3, 4)), request_of(model))
    assert reason == "it multiplies float16 or bfloat16 weights, got torch.float32; see `weights`"


def test_too_little_shared_memory_is_said_and_auto_goes_on(gpu):
    gpu(shared=16 * 1024)
    model = exact("PixelCNN")
    with pytest.raises(
        ValueError, match=r"its blocks need more than the 16384 bytes of shared memory"
    ):
        sample(model, engine="cuda")
    assert sample(model).shape == (2, 3, 6, 4)


def test_a_wide_window_is_refused():
    class Wide(Network):
        def __init__(self) -> None:
            super().__init__()
            self.out = pixelsr.nn.MaskedConv2d(3, 24, (1, 35), mask_type="A")

        def forward(self, images: Tensor) -> Tensor:
            return self.logits(self.out(self.images(images)))

    model = randomize(Wide()).to(DEVICE, EXACT).eval()
    with pytest.raises(ValueError, match="reads more than 16 rows or columns"):
        sample(model, engine="cuda")


def test_an_unknown_function_is_refused_by_name(monkeypatch):
    monkeypatch.delitem(packing.OPCODES, "elu")
    with pytest.raises(ValueError, match=r"'cuda' cannot run: .* pointwise function 'elu'"):
        sample(exact("OtherGate"), engine="cuda")


def test_a_model_on_the_cpu_is_refused(monkeypatch):
    monkeypatch.setattr(cuda_engine, "EMULATES", False)
    with pytest.raises(ValueError, match="its kernels need a GPU, got cpu"):
        sample(network("PixelCNN", torch.float16), engine="cuda")


def test_auto_passes_the_emulated_machine_over():
    if HAS_GPU:
        pytest.skip("there is no emulated machine")
    assert CudaEngine.skip_reason(DEVICE) == "the emulated machine is for tests"


def test_the_operator_is_well_registered(monkeypatch):
    calls = []

    class Recording:
        def run_tiles_(self, *arguments: object) -> None:
            calls.append([a.clone() if isinstance(a, Tensor) else a for a in arguments])
            torch.ops.pixelsr.run_tiles_(*arguments)

    monkeypatch.setattr(cuda_engine, "operators", Recording())
    sample(exact("GatedPixelCNN"), engine="cuda")
    torch.library.opcheck(torch.ops.pixelsr.run_tiles_, calls[0])


# Races that the emulated machine must detect, to validate these tests.


@pytest.mark.skipif(HAS_GPU, reason="of the emulated machine")
@pytest.mark.parametrize(
    "barrier", [slow("sync_block"), "sync_cluster", slow("wait_for_copies"), slow(None)]
)
def test_a_missing_barrier_is_seen(barrier, tmp_path):
    """Check that a kernel without one kind of barrier fails or errs, and with all does not."""
    source = (HERE / "run_tiles.cpp").read_text()
    hidden = {
        None: "",
        "sync_block": "inline void no_barrier() {}\n#define sync_block no_barrier\n",
        "sync_cluster": "inline void no_barrier() {}\n#define sync_cluster no_barrier\n",
        "wait_for_copies": "template <int N> void no_wait() {}\n#define wait_for_copies no_wait\n",
    }[barrier]
    broken = tmp_path / "broken.cpp"
    broken.write_text(f'#include "cuda/intrinsics.h"\n{hidden}{source}')
    script = (
        "import sys, torch\n"
        "from tests.sampling.engines import test_engine_cuda as t\n"
        "torch.ops.load_library(sys.argv[1])\n"
        "t.cuda_engine.EMULATES = True\n"
        "model = t.exact('PixelRecursiveSR-gated')\n"
        "print('ready', flush=True)\n"
        "print(t.logits_error(model)[0])\n"
    )
    library = build([broken], "broken")
    run = subprocess.run(
        [sys.executable, "-c", script, str(library)],
        env={**os.environ, "PYTHONPATH": str(HERE.parents[2]), "PIXELSR_EMULATOR_ORDER": "5"},
        capture_output=True,
        text=True,
    )
    ready, *error = run.stdout.split()
    assert ready == "ready", run.stderr
    is_right = run.returncode == 0 and float(error[0]) < 5e-6
    assert is_right == (barrier is None), run.stderr
