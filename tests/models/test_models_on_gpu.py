"""Tests of whole models on the Triton kernels against float64, on a GPU or in the interpreter."""

import copy
import math

import pytest
import torch

from pixelsr.bench.passes import on_backend
from tests.support.helpers import slow
from tests.support.networks import NETWORKS, inputs, network

pytest.importorskip("triton")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
needs_gpu = pytest.mark.skipif(DEVICE == "cpu", reason="there is no GPU")


@pytest.fixture(autouse=True)
def _exact_float32():
    """Turn TF32 off; both sides would round to it in different ways."""
    switches = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    before = [switch.fp32_precision for switch in switches]
    for switch in switches:
        switch.fp32_precision = "ieee"
    yield
    for switch, value in zip(switches, before, strict=True):
        switch.fp32_precision = value


def results(model, dtype, device):
    """Return the logits and the gradients of all parameters."""
    model = copy.deepcopy(model).to(device, dtype, memory_format=torch.channels_last).eval()
    given = inputs(model, 2)
    generator = torch.Generator().manual_seed(2)
    height, width = given.get("image_size") or (2 * side for side in given["low_res"].shape[2:])
    shape = (2, model.colors, height, width)
    images = torch.randint(model.levels, shape, dtype=torch.uint8, generator=generator).to(device)
    small = (given["low_res"].to(device),) if "low_res" in given else ()
    logits = model(images, *small)
    index = images.long()[:, None]
    loss = -logits.double().log_softmax(1).gather(1, index).sum()
    return [logits.detach(), *torch.autograd.grad(loss, list(model.parameters()))]


def error(found, exact):
    """Return the root mean square of all tensors' relative errors, by the norm.

    The error of a single tensor of few values is chance: two correct sides may differ by a factor
    of more than two.
    """
    relative = [
        float((some.double().cpu() - right).norm() / right.norm())
        for some, right in zip(found, exact, strict=True)
        if right.any()
    ]
    return math.hypot(*relative) / math.sqrt(len(relative))


@pytest.mark.parametrize(
    "dtype", [slow(torch.float32) if DEVICE == "cpu" else torch.float32, torch.bfloat16], ids=str
)
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.usefixtures("quick_interpreter")
def test_models_err_at_most_twice_as_much_as_pytorch(name, dtype):
    if name == "Conditioned" and dtype == torch.bfloat16:
        pytest.skip("its Fourier transform takes no bfloat16")
    model = network(name)
    exact = results(model, torch.float64, "cpu")
    ours, theirs = (
        error(results(on_backend(model, backend), dtype, DEVICE), exact)
        for backend in ("triton", "cropped")
    )
    assert ours <= 2 * theirs + (1e-7 if dtype == torch.float32 else 0)


@needs_gpu
@pytest.mark.parametrize("name", ["GatedPixelCNN", "PixelCNN", "PixelRecursiveSR-gated"])
def test_the_loss_of_autocast_is_near_that_of_float64(name):
    model = network(name).float()
    given = inputs(model, 2)
    images = torch.randint(8, (2, 3, 6, 4), dtype=torch.uint8)
    small = (given["low_res"],) if "low_res" in given else ()
    call = (lambda m, *x: m.loss(*x)) if small else (lambda m, *x: m.nll(*x).mean())
    exact = call(copy.deepcopy(model).double(), images, *small)
    model = model.cuda()
    with torch.autocast("cuda", dtype=torch.bfloat16):
        loss = call(model, images.cuda(), *(some.cuda() for some in small))
    assert abs(float(loss) - float(exact)) <= 0.02 * float(exact)
