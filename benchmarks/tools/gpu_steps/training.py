"""The time of the loss and of one training step, both eager, beside plain PyTorch."""

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.suites.bench_cross_entropy import hidden_maps, layers, our_loss, plain_loss
from benchmarks.suites.bench_training_step import PlainLoss, live_products, make_step
from pixelsr.bench.passes import on_backend
from pixelsr.functional import LogitsHead
from pixelsr.training.loss import TrainingLoss

from . import REHEARSES, report
from .setting import DEVICE, SIZE, make_model, median_seconds, name_of

IMAGES, ROUNDS = (2, 2) if REHEARSES else (128, 10)
DTYPES = [torch.float32] if REHEARSES else [torch.bfloat16, torch.float32]
Sides = dict[str, Callable[[], object]]


def run() -> None:
    for dtype in DTYPES:
        measure("loss", losses(dtype), dtype)
    model = make_model().to(memory_format=torch.channels_last).train()
    small = SIZE[0] // model.scale_factor, SIZE[1] // model.scale_factor
    report(what="multiply-adds", forward=IMAGES * live_products(model, SIZE, small))
    for dtype in DTYPES:
        measure("step", steps(model, dtype), dtype)


def measure(what: str, sides: Sides, dtype: torch.dtype) -> None:
    """Warm up all sides, time them in turns, then measure the peak memory of each."""
    for side in sides.values():
        side()
    medians = median_seconds(sides, ROUNDS)
    memory = {name: peak_memory(side) for name, side in sides.items()}
    report(what=what, dtype=name_of(dtype), images=IMAGES, seconds=medians, peak_bytes=memory)


def peak_memory(work: Callable[[], object]) -> int | None:
    """Return the peak bytes allocated on the GPU beyond the bytes allocated before."""
    if DEVICE.type != "cuda":
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def losses(dtype: torch.dtype) -> Sides:
    """Return the loss with its gradients: ours, ours with recomputed hidden maps, and plain."""
    torch.manual_seed(0)
    images = torch.randint(256, (IMAGES, 3, *SIZE), dtype=torch.uint8, device=DEVICE)
    prior, conditioning = layers(DEVICE, dtype, IMAGES, SIZE)
    kept = hidden_maps(prior)
    return {
        "ours": partial(_gradients, our_loss, images, kept, conditioning),
        "ours, hidden maps made again": partial(_gradients, our_loss, images, prior, conditioning),
        "plain": partial(_gradients, plain_loss, images, kept, conditioning),
    }


def _gradients(
    loss: Callable[..., Tensor], images: Tensor, *outputs: LogitsHead
) -> tuple[Tensor, ...]:
    leaves = [tensor for output in outputs for tensor in output if tensor is not None]
    return torch.autograd.grad(loss(images, *outputs), leaves)


def steps(model: torch.nn.Module, dtype: torch.dtype) -> Sides:
    """Return an AdamW step under autocast for "auto", for each named backend, and for plain."""
    images = torch.randint(model.levels, (IMAGES, 3, *SIZE), dtype=torch.uint8, device=DEVICE)
    images = images.contiguous(memory_format=torch.channels_last)
    loss_modules = {
        "auto": TrainingLoss(copy.deepcopy(model)),
        "triton": TrainingLoss(on_backend(model, "triton")),
        "cropped": TrainingLoss(on_backend(model, "cropped")),
        "plain": PlainLoss(on_backend(model, "reference")),
    }
    return {name: partial(make_step(one, dtype), images) for name, one in loss_modules.items()}
