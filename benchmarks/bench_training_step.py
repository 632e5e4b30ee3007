"""One step of training, ours beside the same network in plain PyTorch.

On a GPU the paper-size `PixelRecursiveSR`, 128 pictures of 32x32, bfloat16 autocast, channels
last, the plain one through torch.compile, ours with and without; on a CPU the bundled model's size,
8 pictures, float32. Plain is ``F.conv2d(x, weight * mask)`` for each masked layer, and a loss from
logits. Both end in a step of AdamW. How many multiply-adds a second ours makes is put beside a
large matrix product.
"""

import copy
import statistics
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import pixelsr
from pixelsr import functional
from pixelsr.area import area_average
from pixelsr.benchmark.clock import median_ratio, seconds
from pixelsr.benchmark.passes import on_backend
from pixelsr.training.objective import Objective

HAS_GPU = torch.cuda.is_available()
IMAGES, ROUNDS = (128, 10) if HAS_GPU else (8, 5)
TOLERANCE = 2e-2
"""Of the loss, in nats per value."""


class PlainObjective(nn.Module):
    """The paper's loss from whole logits."""

    def __init__(self, model: pixelsr.PixelRecursiveSR) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        conditioning = self.model.conditioning(area_average(images, self.model.magnification))
        total = functional.add_logits(conditioning, self.model.prior(images))
        terms = [functional.nats(logits, images).mean() for logits in (total, conditioning)]
        return torch.stack(terms) / images[0].numel()


def make_step(objective: nn.Module, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """Takes images, steps, and gives the loss of before: the sum of its terms, nats per value."""
    optimizer = torch.optim.AdamW(objective.parameters(), 3e-4)

    def step(images: Tensor) -> Tensor:
        optimizer.zero_grad()
        enabled = dtype != torch.float32
        with torch.autocast(images.device.type, dtype=dtype, enabled=enabled):
            loss = objective(images).sum()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def live_products(model: pixelsr.PixelRecursiveSR) -> int:
    """Multiply-adds of a forward pass of one 32x32 picture; dead taps are not counted."""
    small = torch.zeros(1, 3, 8, 8, dtype=torch.uint8, device=model.device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.conditioning(small)
    return pixelsr.sampling.plan(model, (32, 32), (8, 8)).macs + counter.get_total_flops() // 2


def peak_products(device: torch.device, size: int = 8192) -> float:
    """Multiply-adds a second of a large product of random matrices in bfloat16."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    times = [seconds(device, torch.mm, a, b) for _ in range(20)]
    return size**3 / sorted(times)[len(times) // 2]


def test_training_step(benchmark, device: torch.device) -> None:
    torch.manual_seed(0)
    model = (
        pixelsr.PixelRecursiveSR()
        if HAS_GPU
        else pixelsr.PixelRecursiveSR.from_pretrained("faces-8x32")
    )
    model = model.to(device, memory_format=torch.channels_last).train()
    images = torch.randint(256, (IMAGES, 3, 32, 32), dtype=torch.uint8, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    dtype = torch.bfloat16 if HAS_GPU else torch.float32
    plain = PlainObjective(on_backend(copy.deepcopy(model), "reference"))
    run = {
        "ours": make_step(Objective(model), dtype),
        "plain": make_step(torch.compile(plain) if HAS_GPU else plain, dtype),
    }
    losses = [step(images) for step in run.values()]
    assert (losses[0] - losses[1]).abs() <= TOLERANCE
    if HAS_GPU:
        run["ours, compiled"] = make_step(torch.compile(Objective(model)), dtype)
    times: dict[str, list[float]] = {name: [] for name in run}

    def measure_once() -> None:
        for name, step in run.items():
            times[name].append(seconds(device, step, images))

    benchmark.pedantic(measure_once, rounds=ROUNDS, warmup_rounds=2)
    for name in run.keys() - {"plain"}:
        ratio = median_ratio(times["plain"], times[name])
        benchmark.extra_info[f"{name}: times faster than plain"] = round(ratio, 2)
    if HAS_GPU:
        taken = min(statistics.median(times[name]) for name in run.keys() - {"plain"})
        made = 3 * IMAGES * live_products(model) / taken  # forward, and two gradients
        benchmark.extra_info["milliseconds"] = 1e3 * taken
        benchmark.extra_info["share of the peak of bfloat16"] = round(
            made / peak_products(device), 3
        )
    print("\ntraining step:", dict(benchmark.extra_info))
