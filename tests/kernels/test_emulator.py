"""Tests of the emulated machine that runs the kernels of csrc/cuda without a GPU."""

import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tests.support.emulator.build import HERE, ROOT, build

pytestmark = [
    pytest.mark.skipif(not (ROOT / "csrc").exists(), reason="not in a source tree"),
    pytest.mark.skipif(sys.platform != "linux", reason="fibers need Linux here"),
    pytest.mark.skipif(
        shutil.which(os.environ.get("CXX", "c++").split()[0]) is None, reason="no compiler"
    ),
]
GARBAGE = 255  # each byte of unwritten memory
ORDERS = [0, 1, 2, 3]  # forward, reversed, and two random orders


@pytest.fixture(scope="module")
def ops():
    torch.ops.load_library(build([HERE / "self_test.cpp"], "self_test"))
    return torch.ops.pixelsr_emulator


def assert_same_bits(found, expected):
    """Check that two tensors have equal bits, except in NaNs, which have many encodings."""
    assert torch.equal(found.isnan(), expected.isnan())
    integers = torch.int32 if expected.dtype == torch.float32 else torch.int16
    same = found.view(integers) == expected.view(integers)
    assert (same | expected.isnan()).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_number_of_16_bits_converts_as_in_torch(ops, dtype):
    narrow = torch.arange(65536).to(torch.uint16).view(dtype)
    wide = torch.empty(65536)
    ops.convert(wide, narrow)
    assert_same_bits(wide, narrow.float())
    again = torch.empty_like(narrow)
    ops.convert(again, wide)
    assert_same_bits(again, narrow)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_floats_are_rounded_as_in_torch(ops, dtype):
    numbers = torch.arange(65536).to(torch.uint16).view(dtype).float()
    middle = (numbers.double() + numbers.roll(-1).double()).div(2).float()
    any_bits = torch.randint(-(2**31), 2**31, (100000,)).int().view(torch.float32)
    ties = [middle, middle.nextafter(torch.tensor(0.0)), middle.nextafter(2 * middle)]
    wide = torch.cat([*ties, any_bits, torch.randn(100000) * 0.001])
    narrow = torch.empty_like(wide, dtype=dtype)
    ops.convert(narrow, wide)
    assert_same_bits(narrow, wide.to(dtype))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_multiply_is_a_product_of_matrices(ops, dtype, order):
    weights, inputs = torch.randn(8, 16, 16).to(dtype), torch.randn(8, 8, 16).to(dtype)
    sums = torch.randn(8, 16, 8)
    expected = sums.double() + weights.double() @ inputs.double().mT
    ops.products(sums, weights, inputs, order)
    torch.testing.assert_close(sums.double(), expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("order", ORDERS)
def test_shuffle_xor_exchanges_within_a_warp(ops, order):
    for mask in (1, 6, 16, 31):
        lanes = torch.arange(256).int()
        floats, ints = lanes + 0.5, lanes.clone()
        ops.shuffle(floats, ints, mask, order)
        assert ints.tolist() == [lane ^ mask for lane in range(256)]
        assert torch.equal(floats, ints + 0.5)


def copied(ops, still, change=False, order=0):
    source = torch.arange(8192).remainder(99).to(torch.uint8).view(2, 256, 16)
    out = torch.empty_like(source)
    ops.copies(out, source.clone(), still, change, order)
    return source, out


@pytest.mark.parametrize("order", ORDERS)
def test_copies_are_there_after_the_wait_and_not_before(ops, order):
    source, out = copied(ops, still=0, order=order)
    assert torch.equal(out, source)
    source, out = copied(ops, still=1, order=order)
    assert torch.equal(out[0], source[0])
    assert (out[1] == GARBAGE).all()
    _, out = copied(ops, still=-1, order=order)
    assert (out == GARBAGE).all()


def test_what_changes_during_a_copy_is_garbage(ops):
    source, out = copied(ops, still=0, change=True)
    source[:, :, 3] = GARBAGE
    assert torch.equal(out, source)


def neighbors(ops, barriers, order):
    out = torch.empty(256, dtype=torch.int32)
    ops.neighbors(out, barriers, order)
    return out


def test_a_missing_barrier_shows_in_some_order(ops):
    expected = torch.arange(256).roll(-1).mul(2).add(1000).int()
    for order in range(10):
        assert torch.equal(neighbors(ops, 2, order), expected)
    for barriers in (0, 1):
        found = [neighbors(ops, barriers, order) for order in ORDERS]
        assert any(not torch.equal(out, found[0]) for out in found)
        assert any(not torch.equal(out, expected) for out in found)


def through_leader(ops, barriers, order, cluster_size=3):
    out = torch.empty(2, cluster_size, 256, dtype=torch.int32)
    ops.through_leader(out, barriers, order)
    return out


@pytest.mark.parametrize("cluster_size", [1, 2, 3, 8])
def test_members_see_what_the_cluster_has_written(ops, cluster_size):
    positions = torch.arange(cluster_size * 256).view(cluster_size, 256).roll(-1, dims=0)
    expected = (positions + torch.tensor([0, 10000]).view(2, 1, 1)).int()
    for order in ORDERS:
        assert torch.equal(through_leader(ops, 7, order, cluster_size), expected)


@pytest.mark.parametrize("missing", [1, 2, 4])
def test_each_of_the_barriers_of_a_cluster_is_needed(ops, missing):
    expected = through_leader(ops, 7, 0)
    found = [through_leader(ops, 7 - missing, order) for order in ORDERS]
    assert any(not torch.equal(out, expected) for out in found)


MISTAKES = [
    "deadlock: thread 0 of block 0 waits at sync_cluster, but thread 17 of block 1 has ended",
    "deadlock: thread 0 of block 1 waits at sync_block, but thread 17 of block 1 at sync_cluster",
    "thrown by a thread",
    "thread 17 of block 1 copies 16 bytes to or from an address that is no multiple of 16",
    "thread 17 of block 1 copies 16 bytes to or from an address that is no multiple of 16",
    "thread 17 of block 1 copies to outside of its block's shared memory, to byte 112 of 120",
    "thread 17 of block 1 copies to outside of its block's shared memory",
    "thread 17 of block 1 copies from shared memory, not from global memory",
    "thread 17 of block 1 is at shuffle_xor, another lane of its warp at that of another type",
    "something was written outside of the shared memory of block 1",
    "run_grid was called within a kernel",
    "a function of the machine was called outside of run_grid",
    "there is no grid of 4 blocks in clusters of 3",
]
OVERRUN = 9


@pytest.mark.parametrize("which", range(len(MISTAKES)))
def test_a_mistake_is_an_error_that_says_which(ops, which):
    if which == OVERRUN and "libasan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("AddressSanitizer ends the process there")
    out = torch.zeros(1, dtype=torch.int32)
    with pytest.raises(RuntimeError, match=MISTAKES[which]):
        ops.mistake(out, which)
    ops.mistake(out, -1)  # the next grid still runs
    assert out.item() == 1


def test_grids_run_side_by_side_in_several_threads(ops):
    expected = neighbors(ops, 2, 0)
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda order: neighbors(ops, 2, order), range(200))
        assert all(torch.equal(out, expected) for out in found)


def test_a_library_is_compiled_once_and_again_after_a_change(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.support.emulator.build.FOLDER", tmp_path / "built")
    source = tmp_path / "some.cu"
    source.write_text('extern "C" int number() { return 1; }\n')
    first = build([source], "some")
    time = first.stat().st_mtime_ns
    assert build([source], "some") == first
    assert first.stat().st_mtime_ns == time
    assert build([source], "some", ["-DOTHER"]) != first
    source.write_text("no C++\n")
    with pytest.raises(RuntimeError, match="no C"):
        build([source], "some")
    assert len(list((tmp_path / "built").iterdir())) == 2  # no partial file is left
