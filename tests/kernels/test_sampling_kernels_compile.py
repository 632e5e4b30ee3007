"""Tests that the sampling kernels compile for two GPUs as they are launched."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
from pixelsr.kernels.sampling.faults import LEVELS
from pixelsr.kernels.sampling.pixels import LEVELS_OF_FOUR
from pixelsr.kernels.sampling.rows import HALF, IEEE, POINTWISE_LANES, SAMPLES
from tests.support.aot import MOST_SHARED, Job
from tests.support.helpers import slow

ROWS_MODULE = "pixelsr.kernels.sampling.rows"
MODULES = {
    "_pixels_kernel": "pixelsr.kernels.sampling.pixels",
    "_columns_kernel": "pixelsr.kernels.sampling.lists",
    "_faults_kernel": "pixelsr.kernels.sampling.faults",
}
CONFIGS = {"fp16": HALF, "bf16": HALF, "fp32": IEEE}
ROW = ("task", "row", "size", "samples", "first_col", "cols", "out_blocks")
COLUMNS = ("list_at", "row", "first_col", "cols", "direction", "size", "samples")
PIXELS = ("row", "start", "stop", "resumes", "pauses", "size", "samples", "height", "width")
PIXELS += ("colors", "levels", "lists", "logits", "image")
FAULTS = ("row", "first_col", "cols", "size", "samples", "height", "width")
FAULTS += ("colors", "levels", "logits")

COMPILE = r"""
import json, re, sys
import triton
from tests.support import aot

texts = []
compile = triton.compile

def remembering(*arguments, **options):
    compiled = compile(*arguments, **options)
    texts.append(compiled.asm)
    return compiled

triton.compile = remembering
used = []
for job in json.load(sys.stdin):
    used.append(aot._compile(aot.Job(**job)))
    ptx = texts[-1]["ptx"]
    used[-1]["NON_COHERENT"] = len(re.findall(r"ld\.global[.\w]*\.nc", ptx))
    used[-1]["MIN_MAX"] = len(re.findall(r"\b(?:min|max)\.f32", ptx))
    used[-1]["BARRIERS"] = len(re.findall(r"\b(?:gpu|ttg)\.barrier", texts[-1]["ttgir"]))
print(json.dumps(used))
"""
"""A script that compiles as tests.support.aot does, and inspects the code.

It also counts non-coherent loads, minima and maxima that drop NaN, and barriers between tasks.
"""


def job(kernel, pointers, numbers, constexprs, capability, warps, stages, wide=()):
    types = {**dict.fromkeys(numbers, "i32"), **dict.fromkeys(wide, "i64")}
    signature = {**pointers, **types}
    module = MODULES.get(kernel, ROWS_MODULE)
    return Job(module, kernel, signature, constexprs, capability, warps, stages, tuple(pointers))


def jobs(capability):
    """Yield every kernel by name, as launched."""
    storage = {"storage_ptr": "*fp32", "table_ptr": "*i32", "constants_ptr": "*fp32"}
    for dtype, config in CONFIGS.items():
        weighed = {**storage, "weight_ptr": f"*{dtype}"}
        blocks = {"BLOCK_K": config.inputs, "PRECISION": "ieee"}
        for gated in (False, True):
            sizes = {"GATED": gated, "BLOCK_M": config.positions, "BLOCK_OUT": config.out, **blocks}
            yield (
                f"row {'gated ' if gated else ''}{dtype}",
                job(
                    "_row_product_kernel",
                    weighed,
                    ROW,
                    sizes,
                    capability,
                    config.warps,
                    config.stages,
                ),
            )
        blocks |= {"BLOCK_M": SAMPLES, "BLOCK_OUT": config.pixel_out}
        blocks["BLOCK_POINTWISE"] = POINTWISE_LANES
        launched = (capability, config.pixel_warps, config.stages)
        yield f"columns {dtype}", job("_columns_kernel", weighed, COLUMNS, blocks, *launched)
        pointers = {**weighed, "images_ptr": "*u8", "known_ptr": "*u8", "schedule_ptr": "*i32"}
        sizes = {"FOURS": LEVELS_OF_FOUR, **blocks}
        wide = ("known_size", "seed", "first_index")
        made = job("_pixels_kernel", pointers, PIXELS, sizes, *launched, wide)
        signature = {**made.signature, "temperature": "fp32"}
        yield f"pixels {dtype}", dataclasses.replace(made, signature=signature)
    sizes = {"BLOCK_M": SAMPLES, "BLOCK": POINTWISE_LANES}
    pointers = {**storage, "known_ptr": "*u8", "schedule_ptr": "*i32", "faults_ptr": "*i64"}
    del pointers["constants_ptr"]
    faults = {"BLOCK_M": SAMPLES, "BLOCK": LEVELS}
    yield (
        "faults",
        job("_faults_kernel", pointers, FAULTS, faults, capability, 4, 3, ("known_size",)),
    )
    yield "formula", job("_row_pointwise_kernel", storage, ROW, sizes, capability, 4, 3)


def resources_of(made):
    request = json.dumps([dataclasses.asdict(job) for job in made])
    environment = {name: os.environ[name] for name in os.environ if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE],
        input=request,
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module", params=[slow(80), 90])
def compiled(request):
    names, made = zip(*jobs(request.param), strict=True)
    return request.param, dict(zip(names, resources_of(made), strict=True))


def test_nothing_is_spilled_and_shared_memory_is_enough(compiled):
    capability, kernels = compiled
    for name, used in kernels.items():
        assert used["STACK"] == used["LOCAL"] == 0, f"{name} spills: {used}"
        assert used["SHARED"] <= MOST_SHARED[capability], f"{name}: {used}"


def test_halves_are_multiplied_by_matrix_instructions_and_float32_is_not(compiled):
    capability, kernels = compiled
    for name, used in kernels.items():
        matrix = used["MMA"] + used["WGMMA"]
        assert (matrix > 0) == bool(re.search("fp16|bf16", name)), f"{name}: {used}"
        if capability == 90 and name.startswith("row") and "fp32" not in name:
            assert used["WGMMA"] > 0, f"{name} is on a slower path: {used}"


def test_what_tasks_write_is_never_read_through_a_cache_that_does_not_see_it(compiled):
    for name, used in compiled[1].items():
        assert used["NON_COHERENT"] == 0, f"{name}: {used}"


def test_pointwise_functions_drop_no_nan(compiled):
    """Check that pointwise functions keep NaN.

    Triton's interpreter keeps NaN in a minimum or maximum, but a GPU would drop it. The kernel of
    the pixels has a maximum of scores; its pointwise functions are those of the columns' kernel.
    """
    for name, used in compiled[1].items():
        assert used["MIN_MAX"] == 0 or name.startswith("pixels"), f"{name}: {used}"


def test_tasks_of_a_pixel_wait_for_each_other(compiled):
    """Check for one barrier between the tasks of a list, and one before the draw."""
    barriers = {"pixels": 2, "columns": 1}
    for name, used in compiled[1].items():
        assert used["BARRIERS"] == barriers.get(name.split()[0], 0), f"{name}: {used}"


def test_the_storage_of_a_batch_may_have_more_than_2_31_values(compiled):
    for name, used in compiled[1].items():
        assert "storage_ptr" in used["WIDE"], name
        assert not name.startswith("pixels") or "images_ptr" in used["WIDE"], name
        assert not {"table_ptr", "weight_ptr", "constants_ptr"} & set(used["WIDE"]), name
