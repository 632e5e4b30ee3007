"""Tests of the CUDA engine with recurrences: states beside the image, scans, columns beyond it."""

import pytest
import torch
from torch import Tensor, nn

import pixelsr
from pixelsr import sampling
from pixelsr.sampling.engines.cuda.engine import CudaEngine
from tests.sampling.engines import test_engine_cuda
from tests.sampling.engines.test_engine_cuda import (
    DEVICE,
    EXACT,
    HAS_GPU,
    NEAR,
    engine_of,
    exactly,
    logits_error,
)
from tests.sampling.test_recurrent_sampling import NETWORKS, draw, network
from tests.sampling.test_sampling import masks
from tests.support.helpers import randomize

_machine = test_engine_cuda._machine
gpu = test_engine_cuda.gpu
order = test_engine_cuda.order

BOTH = ["RowLSTM", "DiagonalBiLSTM"]


def exact(name: str) -> nn.Module:
    return network(name, EXACT).to(DEVICE)


def wide(name: str, channels: int, layers: int = 2) -> nn.Module:
    """Return a network with more than one tile of outputs and of inputs."""
    sizes = {"channels": channels, "layers": layers, "head_channels": 9, "levels": 4}
    model = randomize(getattr(pixelsr, name)(**sizes, first_kernel_size=3))
    return model.to(DEVICE, EXACT).eval()


def check_logits(model: nn.Module, size: tuple[int, int], n: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(4, (n, 3, *size), dtype=torch.uint8, generator=generator).to(DEVICE)
    found = sampling.logits(model, images, engine="cuda")
    with torch.no_grad():
        torch.testing.assert_close(found, model(images).float(), **NEAR)
    return found


def check_images(model: nn.Module, **options) -> None:
    ours, reference = (draw(model, engine=name, **options) for name in ("cuda", "reference"))
    assert torch.equal(ours, reference)


def check_steps(model: nn.Module, size: tuple[int, int], **options: Tensor) -> None:
    """Compare the logits of each value to draw; the values before it are chosen at random."""
    ours, theirs = (
        sampling.start(model, n=2, image_size=size, engine=engine, **options)
        for engine in ("cuda", "reference")
    )
    step, expected = ours.step(), theirs.step()
    while expected is not None:
        torch.testing.assert_close(step, expected.float(), **NEAR)
        values = torch.randint(4, (2,), device=DEVICE)
        step, expected = ours.step(values), theirs.step(values)
    assert step is None


@pytest.mark.parametrize("name", BOTH)
def test_logits_equal_the_forward_pass_in_any_order_of_the_threads(name, order, gpu):
    gpu(has_clusters=False)
    ours, theirs = logits_error(exact(name), n=1)
    assert ours <= (2 * theirs if HAS_GPU else 5e-6)


@exactly
@pytest.mark.parametrize("name", NETWORKS)
def test_equal_images(name, gpu):
    gpu(has_clusters=False)
    check_images(exact(name), size=(4, 4))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", BOTH)
def test_16_bit_logits_are_as_right_as_those_of_pytorch(name, dtype, gpu):
    gpu(has_clusters=False)
    ours, theirs = logits_error(network(name, dtype).to(DEVICE), n=1)
    assert 0 < ours <= 2 * theirs


@pytest.mark.parametrize("name", [*BOTH, "OnlyLeft"])
@pytest.mark.parametrize("size", [(1, 4), (4, 1), (1, 1)])
def test_one_row_and_one_column_too(name, size, gpu):
    gpu(has_clusters=False)
    check_logits(exact(name), size)


@pytest.mark.parametrize("name", BOTH)
def test_rows_that_are_taken_in_several_passes(name, gpu):
    """Check rows whose last column, beyond the image, has its own pass."""
    gpu(has_clusters=False)
    check_logits(wide(name, 20), (2, 16))


@exactly
@pytest.mark.parametrize("mask", ["rows", "hole", "lower half", "each its own"])
@pytest.mark.parametrize("name", ["RowLSTM", "DiagonalBiLSTM-multi-scale"])
def test_known_values_are_heard_of(name, mask, gpu):
    gpu(has_clusters=False)
    model, known_mask = exact(name), masks((1, 3, 6, 4))[mask].to(DEVICE)
    known = torch.randint(4, known_mask.shape, dtype=torch.uint8, device=DEVICE)
    check_images(model, known=known, known_mask=known_mask)


@exactly
@pytest.mark.parametrize("name", BOTH)
def test_samples_share_the_rows_that_are_known(name, gpu, monkeypatch):
    gpu(has_clusters=False)
    samples, run = [], CudaEngine._run
    monkeypatch.setattr(
        CudaEngine,
        "_run",
        lambda self, *a, **k: samples.append(len(self.images)) or run(self, *a, **k),
    )
    known_mask = masks((1, 3, 6, 4))["upper half"].to(DEVICE)
    known = torch.randint(4, known_mask.shape, dtype=torch.uint8, device=DEVICE)
    check_images(exact(name), n=9, known=known, known_mask=known_mask)
    assert samples == [1, 9]


@pytest.mark.parametrize("name", BOTH)
def test_a_cluster_draws_the_same(name, gpu):
    """Check a layer wide enough for the ranks of a cluster to share its scans."""
    model, found = wide(name, 64, layers=1), []
    for has_clusters in (False, True):
        gpu(has_clusters=has_clusters)
        assert engine_of(model, 1).cut.cluster_size == (8 if has_clusters else 1)
        found.append(check_logits(model, (2, 3)))
    assert torch.equal(*found)


@exactly
def test_members_wait_for_a_scan_that_the_leader_runs_alone(order):
    """Check that the ranks of a cluster wait for a scan that rank 0 runs alone, and it for them.

    In a known row, each rank has some of the columns.
    """
    model = randomize(pixelsr.DiagonalBiLSTM(channels=4, layers=2, head_channels=3, levels=4))
    known = torch.randint(4, (1, 3, 3, 8), dtype=torch.uint8, device=DEVICE)
    known_mask = torch.ones_like(known, dtype=torch.bool)
    known_mask[:, :, 2, :3] = False
    model = model.to(DEVICE, EXACT).eval()
    check_steps(model, (3, 8), known=known, known_mask=known_mask)


@pytest.mark.parametrize("name", BOTH)
def test_states_that_have_no_window_stay_in_global_memory(name, gpu):
    gpu(shared=53 * 1024, has_clusters=False)
    model = wide(name, 20)
    tiles = engine_of(model, 1).cuda_program.tiles
    states = [b.name for b in tiles.plan.buffers.values() if b.initial]
    assert len(tiles.windows) < len(tiles._wanted)
    assert any(name not in tiles.windows for name in states)
    check_logits(model, (2, 3))


@exactly
@pytest.mark.parametrize("name", BOTH)
def test_another_initial_state_is_another_image(name, gpu):
    gpu(has_clusters=False)
    model = exact(name)
    before = draw(model, engine="cuda", size=(2, 3))
    with torch.no_grad():
        model.layers[0].initial_state += 3
    assert not torch.equal(draw(model, engine="cuda", size=(2, 3)), before)
    check_images(model, size=(2, 3))


@exactly
def test_a_caller_who_draws_gets_the_logits_of_the_reference(gpu):
    """Check that a row also ends if the caller chooses its last value."""
    gpu(has_clusters=False)
    check_steps(exact("DiagonalBiLSTM"), (3, 2))
