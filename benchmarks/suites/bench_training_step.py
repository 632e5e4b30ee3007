"""The time of one training step, beside the same network in plain PyTorch.

The network is the bundled model, on 8 images in float32 on a CPU; `benchmarks.tools.gpu` measures a
GPU. The plain side uses ``F.conv2d(x, weight * mask)`` for each masked layer, and a loss from
logits. Both end in a step of AdamW.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import pixelsr
from pixelsr import functional
from pixelsr.bench.passes import on_backend
from pixelsr.bench.timing import median_ratio
from pixelsr.data.downsample import area_average
from pixelsr.training.loss import TrainingLoss

from .turns import time_in_turns

IMAGES, ROUNDS = 8, 5
TOLERANCE = 2e-2
"""The largest difference of the loss, in nats per value."""


class PlainLoss(nn.Module):
    """The paper's loss, computed from the full logits."""

    def __init__(self, model: pixelsr.PixelRecursiveSR) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        conditioning = self.model.conditioning(area_average(images, self.model.scale_factor))
        total = functional.add_logits(self.model.prior(images), conditioning)
        terms = [functional.nll(logits, images).mean() for logits in (total, conditioning)]
        return torch.stack(terms) / images[0].numel()


def make_step(loss_module: nn.Module, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """Return a function that takes a training step on images.

    It returns the loss before the step: the sum of its terms, in nats per value.
    """
    optimizer = torch.optim.AdamW(loss_module.parameters(), 3e-4)

    def step(images: Tensor) -> Tensor:
        optimizer.zero_grad()
        enabled = dtype != torch.float32
        with torch.autocast(images.device.type, dtype=dtype, enabled=enabled):
            loss = loss_module(images).sum()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def live_products(
    model: pixelsr.PixelRecursiveSR, size: tuple[int, int], low_res_size: tuple[int, int]
) -> int:
    """Return the multiply-adds of a forward pass of one image, without dead taps."""
    small = torch.zeros(1, model.colors, *low_res_size, dtype=torch.uint8, device=model.device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.conditioning(small)
    plan = pixelsr.sampling.plan(model, size, low_res_size)
    return plan.macs + counter.get_total_flops() // 2


def test_training_step(benchmark, device: torch.device) -> None:
    torch.manual_seed(0)
    model = pixelsr.PixelRecursiveSR.from_pretrained("faces-8x32")
    model = model.to(device, memory_format=torch.channels_last).train()
    images = torch.randint(256, (IMAGES, 3, 32, 32), dtype=torch.uint8, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    plain = PlainLoss(on_backend(model, "reference"))
    run = {
        "ours": make_step(TrainingLoss(model), torch.float32),
        "plain": make_step(plain, torch.float32),
    }
    losses = [step(images) for step in run.values()]
    assert (losses[0] - losses[1]).abs() <= TOLERANCE
    sides = {name: partial(step, images) for name, step in run.items()}
    times = time_in_turns(benchmark, device, sides, ROUNDS, warm_ups=2)
    ratio = median_ratio(times["plain"], times["ours"])
    benchmark.extra_info["ours: times faster than plain"] = round(ratio, 2)
    print("\ntraining step:", dict(benchmark.extra_info))
