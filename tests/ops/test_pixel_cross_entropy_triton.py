"""Tests of the Triton cross-entropy, on the GPU or under the interpreter."""

import dataclasses
import math

import pytest
import torch

from pixelsr.functional import pixel_cross_entropy
from pixelsr.ops.cross_entropy import fused_linear
from pixelsr.ops.cross_entropy.fused_linear import Chunk, Layer
from tests.support.aot import MOST_SHARED, Job, resources_of
from tests.support.helpers import normal, random_images, slow
from tests.support.pixel_cross_entropy_cases import (
    CASES,
    Case,
    close,
    from_features,
    from_logits,
    leaves,
    make,
    no_worse_than_pytorch,
)

pytest.importorskip("triton")
from pixelsr.kernels.configs import HALF, IEEE, TF32
from pixelsr.kernels.cross_entropy import from_features as kernels
from pixelsr.kernels.cross_entropy import from_logits as kernels_with_logits

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
OURS = torch.ops.pixelsr
pytestmark = pytest.mark.usefixtures("poisoned", "ieee", "quick_interpreter")


@pytest.fixture(autouse=True)
def _several_chunks(monkeypatch):
    """Use several chunks, the last one partial."""
    monkeypatch.setattr(fused_linear, "CPU_CHUNK", 32)
    monkeypatch.setattr(fused_linear, "GPU_CHUNK", 32)


WIDE = Case(levels=200, channels=203, conditioning=70, size=(1, 9, 9))
"""A case with several tiles of pixels, levels and channels, some of them partial."""


@pytest.mark.parametrize("case", [*CASES, WIDE], ids=str)
@pytest.mark.parametrize("call", [from_features, from_logits])
def test_the_kernels_equal_the_reference(call, case):
    close(call, case, "triton", torch.float32, DEVICE)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("hidden", [0, 40], ids=["", "hidden"])
@pytest.mark.parametrize("call", [from_features, from_logits])
def test_half_precision_is_no_worse_than_twice_pytorchs(call, hidden, dtype):
    case = Case(hidden=hidden, channels=60, levels=64)
    no_worse_than_pytorch(call, case, "triton", dtype, DEVICE)


def test_what_is_dead_is_not_read():
    images, prior, _ = make(Case(channels=9, conditioning=0), torch.float32, DEVICE)
    expected = pixel_cross_entropy(prior, images, backend="triton")[0]
    weight = prior.weight.clone()
    weight[:7, 3:], weight[7:14, 6:] = math.nan, math.nan  # red reads 3 channels, green 6
    got = pixel_cross_entropy(prior._replace(weight=weight), images, backend="triton")[0]
    assert torch.equal(got, expected)


def test_the_kernels_fill_the_slices_that_they_are_given_and_nothing_else():
    targets = random_images(5, 2, 1, 1, 7)[:, :, 0, 0].to(DEVICE)
    layers = [Layer(normal(5, k, seed=k), normal(14, k), normal(14)) for k in (3, 4)]
    layers = [Layer(*(tensor.float().to(DEVICE) for tensor in layer)) for layer in layers]
    buffers = torch.full((2, 2, 9, 2), math.nan, device=DEVICE)
    nll, log_sums = buffers[:, :, 2:7]
    chunk = Chunk(targets, *layers, 1.5)
    kernels.launch_pixel_cross_entropy(nll, log_sums, *chunk)
    assert buffers.isnan().sum() == 2 * 2 * 4 * 2
    scratch = torch.full((2, 7, 14), math.nan, device=DEVICE)
    of_logits = list(scratch[:, 1:6])
    grad = torch.tensor([[1.0, 2, 3, 4, 5], [5.0, 4, 3, 2, 1]], device=DEVICE)
    kernels.launch_pixel_cross_entropy_grad(of_logits, grad, log_sums, *chunk)
    assert scratch.isnan().sum() == 2 * 2 * 14
    expected = torch.empty_like(nll)
    fused_linear.PYTORCH.forward(expected, log_sums, chunk)
    torch.testing.assert_close(nll, expected)
    plain = fused_linear.PYTORCH.backward(grad, log_sums, chunk)
    for ours, theirs in zip(of_logits, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_logits_of_overlapping_strides_are_read_as_they_are():
    case = Case(conditioning=0)
    images, _ = leaves(case, torch.float32, DEVICE)
    one = normal(7, 3, 1, 5).float().to(DEVICE).requires_grad_()
    grads = []
    for backend in ("triton", "reference"):
        logits = one.expand(3, 7, 3, 4, 5)
        given = images, logits, None, 1.0, True
        run = OURS.pixel_cross_entropy_with_logits_triton
        nll = (
            run(*given)[0][0]
            if backend == "triton"
            else torch.nn.functional.cross_entropy(logits, images.long(), reduction="sum")
        )
        grads.append(torch.autograd.grad(nll.sum(), one)[0])
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("case", [Case(hidden=7), Case(conditioning=0, bias=False)], ids=str)
def test_the_operators_pass_opcheck(case):
    images, tensors = leaves(dataclasses.replace(case, size=(2, 2, 2)), torch.float32, DEVICE)
    prior, conditioning = case.outputs(tensors)
    alone = conditioning[:3] if conditioning else (None, None, None)
    torch.library.opcheck(OURS.pixel_cross_entropy_triton.default, (images, *prior, *alone, 1.5))
    fixed = [None if tensor is None else tensor.detach() for tensor in (*prior, *alone)]
    _, log_sums = OURS.pixel_cross_entropy_triton(images, *fixed, 1.5)
    grad = torch.ones(2 if conditioning else 1, len(images), device=DEVICE)
    needs = [tensor is not None for tensor in fixed]
    torch.library.opcheck(
        OURS.pixel_cross_entropy_grad_triton.default, (grad, log_sums, images, *fixed, 1.5, needs)
    )
    b, a = case.logits(tensors)
    given = images, b, a, 1.5, True
    torch.library.opcheck(
        OURS.pixel_cross_entropy_with_logits_triton.default,
        [
            t.detach().requires_grad_(t.is_floating_point()) if hasattr(t, "shape") else t
            for t in given
        ],
    )


@pytest.mark.parametrize("call", [from_features, from_logits])
def test_it_compiles_as_one_graph(call):
    case = Case(hidden=7, size=(1, 2, 3))
    images, tensors = leaves(case, torch.float32, DEVICE)

    def loss(*given):
        return call(case, images, given, "triton")

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    grads = [torch.autograd.grad(sum(run(*tensors)).sum(), tensors) for run in (loss, compiled)]
    torch.testing.assert_close(*grads)


def test_float64_is_refused_with_the_reason():
    images, prior, conditioning = make(Case(), torch.float64, DEVICE)
    with pytest.raises(ValueError, match="'triton' cannot run this: its kernels take float32"):
        pixel_cross_entropy(prior, images, conditioning, backend="triton")


# Compilation for a GPU that need not be present.

POINTERS = {"nll_ptr": "*fp32", "log_sums_ptr": "*fp32", "grad_ptr": "*fp32"}
POINTERS |= {"targets_ptr": "*u8", "images_ptr": "*u8"}
ONE = {"x_channel", "weight_channel", "a_channel", "a_weight_channel", "target_color"}
UNALIGNED = {"targets_ptr", "images_ptr", "target_pixel", "one_over_scale", "levels", "width"}
HAS = {HALF: [("bf16", True), ("fp16", False)], TF32: [("fp32", True)], IEEE: [("fp32", True)]}
LARGE = {"nll_ptr", "log_sums_ptr", "targets_ptr", "x_ptr", "a_ptr"}
LARGE_GRAD = {
    "of_logits_ptr",
    "add_ptr",
    "grad_ptr",
    "log_sums_ptr",
    "targets_ptr",
    "x_ptr",
    "a_ptr",
}


def job(name, dtype, capability, config, *, module=kernels, **constexprs):
    """Return a kernel as launched for channels_last features of the paper's sizes."""
    function = getattr(module, name)
    types = {
        name: _type(name, dtype, function.fn.__annotations__.get(name))
        for name in function.arg_names
        if not name.isupper() and name not in ONE
    }
    constexprs |= dict.fromkeys(ONE & set(function.arg_names), 1)
    aligned = tuple(name for name in types if name not in UNALIGNED)
    place = module.__name__, name, types, constexprs, capability
    return Job(*place, config.warps, config.stages, aligned)


def _type(name, dtype, annotation):
    if name.endswith("_ptr"):
        return POINTERS.get(name, f"*{dtype}")
    if name == "one_over_scale":
        return "fp32"
    return "i64" if annotation is not None else "i32"


def product_jobs(capability):
    """Yield both kernels in every configuration with all options, in 16 bits also without."""
    for name, table, large in (
        ("_pixel_cross_entropy_kernel", kernels.FORWARD, LARGE),
        ("_pixel_cross_entropy_grad_kernel", kernels.GRAD, LARGE_GRAD),
    ):
        for (precision, many), config in table.items():
            for dtype, has in HAS[precision]:
                given = dict.fromkeys(("MASKED", "HAS_BIAS", "HAS_A", "HAS_A_BIAS"), has)
                given |= {"HAS_ADD": True} if table is kernels.GRAD else {}
                given |= {"COLORS": 3, "WIDEN": False}
                given |= {"PRECISION": "tf32" if precision == TF32 else "ieee"}
                given |= {"BLOCK_P": config.pixels, "BLOCK_L": config.out}
                given["BLOCK_K"] = config.inputs
                label = f"{name} {precision} {many} {dtype} {has}"
                wide = large if has else large - {"a_ptr"}
                yield label, precision, wide, job(name, dtype, capability, config, **given)


@pytest.mark.parametrize("capability", [slow(80), 90])
def test_every_configuration_compiles_to_matrix_instructions_without_spills(capability):
    labels, precisions, large, jobs = zip(*product_jobs(capability), strict=True)
    for label, precision, wide, used in zip(
        labels, precisions, large, resources_of(jobs), strict=True
    ):
        assert used["STACK"] == used["LOCAL"] == 0, f"{label} spills: {used}"
        assert used["SHARED"] <= MOST_SHARED[capability], f"{label}: {used}"
        assert used["ASYNC"] > 0, f"{label} waits for each load: {used}"
        wgmma = capability == 90 and precision != IEEE
        assert (used["WGMMA"] > 0) == wgmma, f"{label}: {used}"
        assert (used["MMA"] > 0) == (precision != IEEE and not wgmma), f"{label}: {used}"
        assert wide <= set(used["WIDE"]), f"{label}: {used}"


@pytest.mark.parametrize("capability", [slow(80), 90])
def test_the_kernel_that_is_given_logits_compiles_without_spills(capability):
    config = kernels_with_logits.LOGITS
    jobs = [
        job(
            "_pixel_cross_entropy_with_logits_kernel",
            dtype,
            capability,
            config,
            module=kernels_with_logits,
            COLORS=3,
            HAS_A=True,
            NEEDS_GRAD=True,
            BLOCK_P=config.pixels,
            BLOCK_L=levels,
        )
        for dtype, levels in (("bf16", 256), ("fp32", 256), ("fp16", 2))
    ]
    large = {"nll_ptr", "images_ptr", "logits_ptr", "a_ptr", "of_total_ptr", "of_alone_ptr"}
    for used in resources_of(jobs):
        assert used["STACK"] == used["LOCAL"] == 0, used
        assert large <= set(used["WIDE"]), used
