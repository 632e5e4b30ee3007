"""Tests of the memory that sampling takes, keeps and announces, and of its limit."""

import os
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch

from pixelsr import ops, sampling
from pixelsr.sampling import api
from pixelsr.sampling.engines.cpu import engine as cpu_engine
from pixelsr.sampling.methods import start_engine
from pixelsr.utils import system
from tests.support.helpers import slow
from tests.support.networks import inputs, network
from tests.support.sampling import request_of, sample

needs_kernels = pytest.mark.skipif(
    ops.WHY_NOT_COMPILED is not None, reason=str(ops.WHY_NOT_COMPILED)
)
unsanitized = pytest.mark.skipif(
    "PIXELSR_EXTENSION" in os.environ, reason="a sanitizer keeps memory of its own"
)
GIB = 2**30


# The available memory.


@pytest.fixture
def group(monkeypatch, tmp_path) -> Path:
    """Return the process's own control group, inside another one; 8 GiB are free outside both."""
    own = tmp_path / "outer" / "own"
    own.mkdir(parents=True)
    (tmp_path / "self").write_text("4:memory:/elsewhere\n0::/outer/own\n")
    (tmp_path / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable: {8 * 2**20} kB\n")
    monkeypatch.setattr(system, "_ROOT", tmp_path)
    monkeypatch.setattr(system, "_OWN", tmp_path / "self")
    monkeypatch.setattr(system, "_MEMINFO", tmp_path / "meminfo")
    return own


def limit(group: Path, size: object, used: int, cached: int = 0) -> None:
    (group / "memory.max").write_text(f"{size}\n")
    (group / "memory.current").write_text(f"{used}\n")
    (group / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\nactive_file 7\n")


def test_without_a_limit_all_that_is_free_is_available(group):
    assert system.available_memory() == 8 * GIB
    limit(group, "max", GIB)
    assert system.available_memory() == 8 * GIB


def test_the_limit_of_a_container_counts(group):
    limit(group, 4 * GIB, GIB)
    assert system.available_memory() == 3 * GIB


def test_the_narrowest_of_nested_limits_counts(group):
    limit(group, 4 * GIB, GIB)
    limit(group.parent, 5 * GIB, 3 * GIB)
    assert system.available_memory() == 2 * GIB


def test_files_that_are_kept_for_the_next_reader_give_way(group):
    limit(group, 4 * GIB, 4 * GIB - 1, cached=3 * GIB)
    assert system.available_memory() == 3 * GIB + 1


def test_a_container_has_so_much_time_of_its_processors(group, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
    assert system.usable_processors() == 16
    (group / "cpu.max").write_text("max 100000\n")
    assert system.usable_processors() == 16
    (group.parent / "cpu.max").write_text("250000 100000\n")
    assert system.usable_processors() == 3
    (group / "cpu.max").write_text("50000 100000\n")
    assert system.usable_processors() == 1


# The required memory.


def engine(name: str, n: int, known_rows: int = 0) -> cpu_engine.CpuEngine:
    model = network(name, torch.float32)
    what = inputs(model, count=2)
    known = mask = None
    if known_rows:
        known = torch.zeros(1, model.colors, 6, 4, dtype=torch.uint8)
        mask = known.bool()
        mask[:, :, :known_rows] = True
    size, low_res = what.get("image_size"), what.get("low_res")
    request = request_of(model, n, size, low_res, known, mask)
    made = start_engine("cpu", request)
    assert isinstance(made, cpu_engine.CpuEngine)
    return made


@needs_kernels
@pytest.mark.parametrize("name", ["PixelCNN", "PixelRecursiveSR-gated", "HintAbove"])
@pytest.mark.parametrize("known_rows", [0, 3])
def test_the_memory_asked_for_is_what_is_allocated(name, known_rows, monkeypatch):
    asked, made = [], []
    check, init = system.check_memory, cpu_engine.CpuEngine.__init__
    monkeypatch.setattr(
        cpu_engine, "check_memory", lambda need, *_: asked.append(need) or check(need, *_)
    )
    monkeypatch.setattr(
        cpu_engine.CpuEngine, "__init__", lambda s, *a: made.append(s) or init(s, *a)
    )
    engine(name, 3, known_rows)
    checks = [own for own in made if own.dtype == torch.float64]  # of the plan check
    made = [own for own in made if own.dtype == torch.float32]
    tensors = {
        t.data_ptr(): t.nbytes for own in made for t in (own.storage, own.images, own.conditioning)
    }
    positions = sum(
        8 * len(own.images) * (1 + len(own.schedule.cols)) * len(own.plan.buffers) for own in made
    )
    assert asked[len(checks)] == sum(tensors.values()) + positions


@needs_kernels
def test_a_batch_beyond_memory_is_refused_before_it_is_allocated(monkeypatch):
    model = network("PixelCNN", torch.float32)
    expected = sample(model, n=8, engine="cpu")
    need = engine("PixelCNN", 1)._bytes_needed()
    monkeypatch.setattr(system, "available_memory", lambda: 3 * need)
    says = r"8 images at once need .* GiB of memory, .*; max_batch of pixelsr.sample splits"
    with pytest.raises(ValueError, match=says):
        sample(model, n=8, engine="cpu")
    assert torch.equal(sample(model, n=8, engine="cpu", max_batch=2), expected)


@needs_kernels
def test_evaluate_says_what_its_caller_can_do(monkeypatch):
    model, images = network("PixelCNN"), torch.zeros(5, 3, 4, 4, dtype=torch.uint8)
    sampling.plan(model, (4, 4))
    monkeypatch.setattr(system, "available_memory", lambda: 3000)
    with pytest.raises(ValueError, match=r"^5 images at once .*; pass fewer images to "):
        sampling.incremental_logits(model, images, engine="cpu")


# The memory taken and kept by a process.

PREPARE = """
import ctypes, gc, resource, sys
import torch, pixelsr
from pixelsr.sampling.sampler import Sampler
from pixelsr.sampling.engines.cpu import engine as cpu_engine
from pixelsr.sampling.methods import start_engine
from pixelsr.sampling.request import make_request
cpu_engine.usable_processors = lambda: 2
torch.set_num_threads(2)
model = pixelsr.PixelCNN(channels=4, layers=1, head_channels=4).eval()

def memory(line):
    status = dict(line.split(":") for line in open("/proc/self/status"))
    return int(status[line].split()[0]) * 1024
"""
RESIDENT = """
def resident():
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return memory("VmRSS")

pixelsr.sample(model, 2, image_size=(2, 64), engine="cpu")
before = resident()
for seed in range(3):
    pixelsr.sample(model, 400, image_size=(2, 64), engine="cpu", seed=seed)
print(resident() - before)
"""
PEAK = """
pixelsr.sample(model, 2, image_size=(2, 64), engine="cpu")
request = make_request(model, 1500, image_size=(2, 64))
before = memory("VmRSS")
engine = start_engine("cpu", request)
with torch.no_grad():
    engine.draw(Sampler(0, 1.0))
print(memory("VmHWM") - before, engine._bytes_needed())
"""
EXHAUSTED = """
size = int(sys.argv[1]), int(sys.argv[2])
pixelsr.sample(model, 1, image_size=size, engine="cpu", temperature=0)
engine = start_engine("cpu", make_request(model, image_size=size))
limit = memory("VmSize") + int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    with torch.no_grad():
        engine.draw(Sampler(0, 1.0))
except (MemoryError, RuntimeError):
    pass
print("returned")
"""


def run(code: str, *arguments: object) -> str:
    command = [sys.executable, "-c", PREPARE + code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_kernels
@unsanitized
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nothing_of_a_batch_is_kept():
    """Check that no memory of a batch is kept; the noise of one batch alone is 75 MiB."""
    assert int(run(RESIDENT)) < 40 * 2**20


@needs_kernels
@unsanitized
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_more_is_taken_than_was_asked_for():
    taken, asked = map(int, run(PEAK).split())
    assert asked / 2 < taken < asked + 40 * 2**20


@pytest.mark.slow
@needs_kernels
@unsanitized
@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
@pytest.mark.parametrize("left", [slow(0), slow(2**20), 16 * 2**20])
def test_threads_that_share_an_image_do_not_wait_for_one_that_has_no_memory(left):
    assert run(EXHAUSTED, 1, 20000, left) == "returned\n"


def test_an_engine_has_ended_when_the_next_batch_begins(monkeypatch):
    engines, start = [], api.start_engine

    def started(*arguments):
        assert all(engine() is None for engine in engines)
        engine = start(*arguments)
        engines.append(weakref.ref(engine))
        return engine

    monkeypatch.setattr(api, "start_engine", started)
    sampling.sample(network("PixelCNN"), 3, image_size=(2, 2), max_batch=1, engine="reference")
    assert len(engines) == 3
