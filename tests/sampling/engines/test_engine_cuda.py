"""Tests of what only the CUDA engine has: clusters, windows, waves, launches, and its races.

They run on a GPU or on the emulated machine, which lets a test choose the order in which threads
run between two barriers. A result that depends on this order reveals a race.
"""

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

import pixelsr
from pixelsr import sampling
from pixelsr.ops.gumbel_noise.reference import gumbel_noise_ref
from pixelsr.sampling.engines.cuda import engine as cuda_engine
from pixelsr.sampling.engines.cuda.engine import CudaEngine, Machine, choose_cut
from pixelsr.sampling.engines.cuda.memory_layout import UNIT, Cut
from pixelsr.sampling.sampler import Sampler
from pixelsr.utils import system
from tests.support.emulator.build import HERE, build
from tests.support.engines import ENGINES, HAS_CUDA_ENGINE
from tests.support.helpers import randomize, slow
from tests.support.networks import NETWORKS, Silent, network
from tests.support.sampling import (
    Draw,
    ancestral,
    cached_logits,
    count_flips,
    forward,
    random_images,
    request_of,
)

pytestmark = pytest.mark.usefixtures("cuda_machine")

CUDA = ENGINES["cuda"]
DEVICE = torch.device(CUDA.device)
LSTMS = ["RowLSTM", "DiagonalBiLSTM"]
exactly = pytest.mark.skipif(not CUDA.is_exact, reason="a GPU rounds features to 16 bits")


@pytest.fixture
def order(request, monkeypatch) -> int:
    """Set the order in which threads run on the emulated machine."""
    monkeypatch.setenv("PIXELSR_EMULATOR_ORDER", str(request.param))
    return request.param


in_orders = pytest.mark.parametrize(
    "order", [0] if HAS_CUDA_ENGINE else [0, slow(1), 5], indirect=True
)
in_other_orders = pytest.mark.parametrize(
    "order", [] if HAS_CUDA_ENGINE else [slow(1), 5], indirect=True
)


@pytest.fixture
def gpu(monkeypatch):
    """Return a function that sets the properties of the machine."""

    def take(processors: int = 132, shared: int = 227 * 1024, has_clusters: bool = True) -> None:
        monkeypatch.setattr(
            cuda_engine, "machine", lambda device: Machine(processors, shared, has_clusters)
        )

    return take


@pytest.fixture
def launches(monkeypatch) -> list[tuple]:
    """Return a list that will hold (samples, first row, tiles) of the engine's next launches."""
    made, run = [], CudaEngine._run

    def spy(self, storage, at, rows, first, tiles, **more) -> None:
        made.append((len(self.images), at[0], tiles))
        run(self, storage, at, rows, first, tiles, **more)

    monkeypatch.setattr(CudaEngine, "_run", spy)
    return made


def drawn(draw: Draw, model: nn.Module | None = None, **how) -> Tensor:
    model = CUDA.network(draw.name) if model is None else model
    return pixelsr.sample(model, engine="cuda", **(draw.options() | how)).cpu()


def wide(make, **sizes: int) -> nn.Module:
    """Return a network with more than one tile of outputs and of inputs."""
    return CUDA.own(randomize(make(**{"layers": 2, "head_channels": 9, "levels": 8, **sizes})))


def wide_lstm(name: str, **sizes: int) -> nn.Module:
    return wide(getattr(pixelsr, name), first_kernel_size=3, **sizes)


def assert_logits(model: nn.Module, size: tuple[int, int], n: int = 1) -> Tensor:
    """Check the logits of random images, and return them."""
    images = random_images(model, n, size)
    found = cached_logits("cuda", model, images)
    torch.testing.assert_close(found, forward(model, images).float(), **CUDA.near)
    return found


def engine_of(model: nn.Module, n: int = 2, size: tuple[int, int] = (6, 4)) -> CudaEngine:
    return CudaEngine(sampling.plan(model, size), request_of(model, n, size))


# The order of threads.


@pytest.mark.skipif(HAS_CUDA_ENGINE, reason="of the emulated machine")
@in_other_orders
@pytest.mark.parametrize("name", NETWORKS)
def test_logits_do_not_depend_on_the_order_of_threads(name, order):
    assert_logits(CUDA.network(name), (6, 4), 2)


@in_orders
@pytest.mark.parametrize("name", LSTMS)
def test_logits_of_recurrences_without_clusters(name, order, gpu):
    gpu(has_clusters=False)
    assert_logits(CUDA.network(name), (6, 4))


@exactly
@in_other_orders
@pytest.mark.parametrize("mask", ["upper half", "each its own"])
@pytest.mark.parametrize("name", ["GatedPixelCNN", "PixelRecursiveSR-pixelcnn"])
def test_images_and_steps_do_not_depend_on_the_order_of_threads(name, mask, order):
    draw = Draw(name, mask=mask)
    images = ancestral(draw)
    assert torch.equal(drawn(draw), images)
    state = sampling.start(CUDA.network(name), engine="cuda", **draw.what())
    step = state.step()
    while step is not None:
        row, col, color = state.position
        step = state.step(images[:, color, row, col].long())
    assert torch.equal(state.images, images)


@exactly
@in_orders
def test_ranks_wait_for_a_scan_that_the_leader_runs_alone(order):
    """Check that the ranks of a cluster wait for a scan that rank 0 runs alone, and it for them.

    In a known row, each rank has some of the columns.
    """
    sizes = {"channels": 4, "layers": 2, "head_channels": 3, "levels": 4}
    model = CUDA.own(randomize(pixelsr.DiagonalBiLSTM(**sizes)))
    known_mask = torch.ones(1, 3, 3, 8, dtype=torch.bool)
    known_mask[:, :, 2, :3] = False
    known = random_images(model, 1, (3, 8))
    what = {"n": 2, "image_size": (3, 8), "known": known, "known_mask": known_mask}
    ours, theirs = (sampling.start(model, engine=name, **what) for name in ("cuda", "reference"))
    step, expected = ours.step(), theirs.step()
    while expected is not None:
        torch.testing.assert_close(step, expected.float(), **CUDA.near)
        values = torch.tensor([1, 3], device=DEVICE)
        step, expected = ours.step(values), theirs.step(values)
    assert step is None


@in_orders
@pytest.mark.parametrize("has_clusters", [False, True])
def test_rows_that_are_taken_in_several_passes(has_clusters, gpu, order):
    """Check wide layers in wide images, where a warp's sums cover a part of the row."""
    gpu(has_clusters=has_clusters)
    assert_logits(wide(pixelsr.GatedPixelCNN, channels=64, head_channels=16), (2, 20))


@pytest.mark.parametrize("name", LSTMS)
def test_rows_of_recurrences_in_several_passes(name, gpu):
    """Check rows whose last column, beyond the image, has its own pass."""
    gpu(has_clusters=False)
    assert_logits(wide_lstm(name, channels=20), (2, 16))


# Division of the work.


@pytest.mark.parametrize("name", ["GatedPixelCNN-4-colors-256-levels", "PixelRecursiveSR-gated"])
def test_images_do_not_depend_on_how_the_work_is_cut(name, gpu):
    model, draw = CUDA.network(name, torch.bfloat16), Draw(name, n=17)
    whole = drawn(draw, model)
    for processors, batch in ((1, None), (16, None), (32, 16), (132, 5)):
        gpu(processors)
        assert torch.equal(drawn(draw, model, max_batch=batch), whole)


@pytest.mark.parametrize(
    ("make", "sizes", "size"),
    [
        (pixelsr.GatedPixelCNN, {"channels": 96, "head_channels": 40}, (2, 4)),
        *((getattr(pixelsr, name), {"channels": 64, "layers": 1}, (2, 3)) for name in LSTMS),
    ],
)
def test_a_sum_is_in_the_same_order_in_a_cluster(make, sizes, size, gpu):
    """Check layers wide enough for a cluster to share their tiles of outputs and their scans."""
    model, found = wide(make, **sizes), []
    for has_clusters in (False, True):
        gpu(has_clusters=has_clusters)
        assert engine_of(model, 1).cut.cluster_size == (8 if has_clusters else 1)
        found.append(assert_logits(model, size))
    assert torch.equal(*found)


def test_few_samples_have_clusters_and_many_have_none(gpu):
    model = CUDA.network("GatedPixelCNN", torch.float16)
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


def test_windows_that_do_not_fit_stay_in_global_memory(gpu):
    """Check for equal images from a GPU whose blocks have little shared memory."""
    model = wide(pixelsr.GatedPixelCNN, channels=40, head_channels=300)
    options = {"image_size": (3, 4), "engine": "cuda", "temperature": 0.5}
    whole = pixelsr.sample(model, 3, **options)
    for shared in (66 * 1024, 99 * 1024):
        gpu(shared=shared)
        tiles = engine_of(model, 3, (3, 4)).cuda_program.tiles
        assert len(tiles.windows) < len(tiles._wanted) or shared > 70000
        assert torch.equal(pixelsr.sample(model, 3, **options), whole)


@pytest.mark.parametrize("name", LSTMS)
def test_states_that_have_no_window_stay_in_global_memory(name, gpu):
    gpu(shared=53 * 1024, has_clusters=False)
    model = wide_lstm(name, channels=20)
    tiles = engine_of(model, 1).cuda_program.tiles
    states = [b.name for b in tiles.plan.buffers.values() if b.initial]
    assert len(tiles.windows) < len(tiles._wanted)
    assert any(name not in tiles.windows for name in states)
    assert_logits(model, (2, 3))


# Launches.


@exactly
@pytest.mark.parametrize("name", ["PixelCNN", "PixelRecursiveSR-gated", "RowLSTM"])
def test_samples_of_one_input_share_the_rows_that_are_known(name, launches):
    draw = Draw(name, n=11, mask="upper half", shares=True)
    images = drawn(draw)
    assert torch.equal(images, ancestral(draw))
    assert [samples for samples, *_ in launches] == [len(images) // 11, len(images)]


@pytest.mark.parametrize("mask", ["upper half", "hole", "each its own"])
def test_a_batch_that_does_not_fit_is_drawn_in_waves(mask, launches, monkeypatch):
    draw = Draw("PixelRecursiveSR-gated", n=13, mask=mask)
    whole = drawn(draw)
    launches.clear()
    monkeypatch.setattr(cuda_engine, "available_on", lambda device: 1)
    monkeypatch.setattr(cuda_engine, "check_memory", lambda *arguments: None)
    assert torch.equal(drawn(draw), whole)
    assert [tiles for _, _, tiles in launches] == [1, 1, 1, 1]


def test_shared_rows_are_the_same_in_waves(monkeypatch):
    draw = Draw("PixelRecursiveSR-gated", n=13, mask="upper half", shares=True)
    whole = drawn(draw)
    monkeypatch.setattr(cuda_engine, "available_on", lambda device: 1)
    monkeypatch.setattr(cuda_engine, "check_memory", lambda *arguments: None)
    assert torch.equal(drawn(draw), whole)


def test_a_tile_that_does_not_fit_is_refused_in_one_sentence(monkeypatch):
    monkeypatch.setattr(system, "available_memory", lambda: 1000)
    monkeypatch.setattr(system, "available_on", lambda device: 1000)
    with pytest.raises(ValueError, match=r"images at once need .* GiB of memory, and .* are free"):
        drawn(Draw("PixelCNN"))


def test_long_jobs_are_several_launches(launches, monkeypatch):
    draw = Draw("GatedPixelCNN")
    whole = drawn(draw)
    launches.clear()
    monkeypatch.setattr(cuda_engine, "_PIXELS_AT_ONCE", 8)
    assert torch.equal(drawn(draw), whole)
    assert [row for _, row, _ in launches] == [0, 2, 4]


def test_leading_known_rows_and_several_launches(monkeypatch):
    draw = Draw("GatedPixelCNN", mask="rows")
    whole = drawn(draw)
    monkeypatch.setattr(cuda_engine, "_PIXELS_AT_ONCE", 1)
    assert torch.equal(drawn(draw), whole)


def test_time_is_told_by_event():
    engine = engine_of(CUDA.network("GatedPixelCNN"))
    events = len(cuda_engine.EVENTS)
    engine.ticks = torch.zeros(engine.tiles, events, dtype=torch.int64, device=DEVICE)
    engine.draw(Sampler(0, 1.0))
    spent = dict(zip(cuda_engine.EVENTS, engine.ticks.sum(0).tolist(), strict=True))
    assert spent.pop("known row") == 0
    assert all(ticks > 0 for ticks in spent.values())


# Precision.


@pytest.mark.parametrize("levels", [256, 2, 7])
def test_the_noise_is_the_reference_s_bit_for_bit(levels):
    """Read the noise from the tiles' storage after the last row.

    These are 50 thousand draws, or a million on a GPU.
    """
    samples, (height, width) = (500 if HAS_CUDA_ENGINE else 25), (3, 4)
    model = Silent(2, levels).to(DEVICE, torch.float16).eval()
    seed, first_index = 2**63 + 12345, 2**32 - 7
    request = request_of(model, samples, (height, width), first_index=first_index)
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


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [CUDA.dtype, torch.bfloat16])
def test_the_paper_s_model_by_replay(dtype, gpu):
    gpu(has_clusters=HAS_CUDA_ENGINE)
    torch.manual_seed(0)
    model = pixelsr.PixelRecursiveSR().to(DEVICE, dtype).eval()
    low_res = torch.randint(256, (1, 3, 8, 8), dtype=torch.uint8, device=DEVICE)
    images = pixelsr.sample(model, 1, low_res=low_res, engine="cuda")
    flips = count_flips(model.float(), images, 1.0, low_res)
    print(f"paper size, {dtype}: {flips} of {images.numel()} values flipped")
    assert flips <= (3 if dtype == torch.float32 else 0.02 * images.numel())


# Unsupported machines.


@pytest.mark.skipif(HAS_CUDA_ENGINE, reason="of a machine without a GPU")
def test_a_model_on_the_cpu_is_refused(monkeypatch):
    monkeypatch.setattr(cuda_engine, "EMULATES", False)
    with pytest.raises(ValueError, match="its kernels need a GPU, got cpu"):
        drawn(Draw("PixelCNN"), network("PixelCNN", torch.float16))
    reason = CudaEngine.unsupported_reason(
        sampling.plan(network("PixelCNN", torch.float32), (3, 4)),
        request_of(network("PixelCNN", torch.float32)),
    )
    assert reason == "it multiplies float16 or bfloat16 weights, got torch.float32; see `weights`"


def test_too_little_shared_memory_is_said_and_auto_goes_on(gpu):
    gpu(shared=16 * 1024)
    model = CUDA.network("PixelCNN")
    says = r"its blocks need more than the 16384 bytes of shared memory"
    with pytest.raises(ValueError, match=says):
        drawn(Draw("PixelCNN"), model)
    assert pixelsr.sample(model, image_size=(6, 4)).shape == (1, 3, 6, 4)


@pytest.mark.skipif(HAS_CUDA_ENGINE, reason="there is no emulated machine")
def test_auto_passes_the_emulated_machine_over():
    assert CudaEngine.skip_reason(DEVICE) == "the emulated machine is for tests"


def test_the_operator_is_well_registered(monkeypatch):
    calls = []

    class Recording:
        def run_tiles_(self, *arguments: object) -> None:
            calls.append([a.clone() if isinstance(a, Tensor) else a for a in arguments])
            torch.ops.pixelsr.run_tiles_(*arguments)

    monkeypatch.setattr(cuda_engine, "operators", Recording())
    drawn(Draw("GatedPixelCNN"))
    torch.library.opcheck(torch.ops.pixelsr.run_tiles_, calls[0])


# Races that the emulated machine must detect, to validate these tests.


HIDDEN = {
    None: "",
    "sync_block": "inline void no_barrier() {}\n#define sync_block no_barrier\n",
    "sync_cluster": "inline void no_barrier() {}\n#define sync_cluster no_barrier\n",
    "wait_for_copies": "template <int N> void no_wait() {}\n#define wait_for_copies no_wait\n",
}
SCRIPT = """
import sys, torch
from pixelsr.sampling.engines.cuda import engine
from tests.support.sampling import cached_logits, forward, network, random_images
torch.ops.load_library(sys.argv[1])
engine.EMULATES = True
model = network("PixelRecursiveSR-gated", torch.float32)
images = random_images(model)
print("ready", flush=True)
print(float((cached_logits("cuda", model, images) - forward(model, images)).abs().max()))
"""


@pytest.mark.skipif(HAS_CUDA_ENGINE, reason="of the emulated machine")
@pytest.mark.parametrize(
    "barrier", [slow("sync_block"), "sync_cluster", slow("wait_for_copies"), slow(None)]
)
def test_a_missing_barrier_is_seen(barrier, tmp_path):
    """Check that a kernel without one kind of barrier fails or errs, and with all does not."""
    source = (HERE / "run_tiles.cpp").read_text()
    broken = tmp_path / "broken.cpp"
    broken.write_text(f'#include "cuda/intrinsics.h"\n{HIDDEN[barrier]}{source}')
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(build([broken], "broken"))],
        env={**os.environ, "PYTHONPATH": str(HERE.parents[2]), "PIXELSR_EMULATOR_ORDER": "5"},
        capture_output=True,
        text=True,
    )
    ready, *error = run.stdout.split()
    assert ready == "ready", run.stderr
    is_right = run.returncode == 0 and float(error[0]) < 5e-6
    assert is_right == (barrier is None), run.stderr
