"""The loss from features, forward and backward, beside the plain path through the logits.

The sizes are those of the paper's output layers at 32x32, 1024 maps of B and 32 of A; 128 pictures
in bfloat16 and float32 on a GPU, 8 in float32 on a CPU. The plain path makes the logits of both,
adds them, and takes the cross-entropy of the sum and of A. On a GPU the peak of memory beyond
inputs and gradients is compared too, and so is making the 1024 maps again from 64.
"""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pixelsr import functional
from pixelsr.benchmark.clock import median_ratio, seconds
from pixelsr.functional import Output

Loss = Callable[[], Tensor]
HAS_GPU = torch.cuda.is_available()
COLOURS, LEVELS, CHANNELS, HIDDEN, CONDITIONING = 3, 256, 64, 1024, 32
IMAGES, ROUNDS = (128, 20) if HAS_GPU else (8, 5)
DTYPES = [torch.bfloat16, torch.float32] if HAS_GPU else [torch.float32]
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 3e-2}
"""Of gradients, relative to the largest."""


def layers(device: torch.device, dtype: torch.dtype) -> tuple[Output, Output]:
    """B's hidden and output layer with their input, and A's output layer with its own."""

    def normal(*shape: int) -> Tensor:
        scale = 1 if shape[0] == IMAGES else shape[1] ** -0.5
        made = scale * torch.randn(shape, device=device)
        return made.to(dtype, memory_format=torch.channels_last).requires_grad_()

    def zeros(count: int) -> Tensor:
        return torch.zeros(count, device=device, dtype=dtype, requires_grad=True)

    out = COLOURS * LEVELS
    features, alone = (normal(IMAGES, n, 32, 32) for n in (CHANNELS, CONDITIONING))
    hidden_weight, weight = normal(HIDDEN, CHANNELS, 1, 1), normal(out, HIDDEN, 1, 1)
    prior = Output(features, weight, zeros(out), hidden_weight, zeros(HIDDEN))
    return prior, Output(alone, normal(out, CONDITIONING, 1, 1), zeros(out))


def hidden_maps(prior: Output) -> Output:
    """With the hidden layer applied, as a forward pass keeps it."""
    made = functional.masked_conv2d(
        prior.features, prior.hidden_weight, prior.hidden_bias, mask_type="B", backend="reference"
    )
    maps = F.relu(made).detach().contiguous(memory_format=torch.channels_last)
    return Output(maps.requires_grad_(), prior.weight, prior.bias)


def plain_loss(images: Tensor, prior: Output, conditioning: Output) -> Tensor:
    b = functional.masked_conv2d(*prior[:3], mask_type="B", backend="reference")
    a = F.conv2d(*conditioning[:3])
    a, b = (functional.to_logits(logits, COLOURS, LEVELS) for logits in (a, b))
    return (functional.nats(a + b, images) + functional.nats(a, images)).mean()


def our_loss(images: Tensor, prior: Output, conditioning: Output) -> Tensor:
    both, alone = functional.pixel_cross_entropy(images, prior, conditioning)
    return (both + alone).mean()


def peak_memory(work: Callable[[], object]) -> int:
    """Bytes allocated on the GPU beyond what stands before, at most."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
def test_loss_from_features(benchmark, device: torch.device, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    images = torch.randint(LEVELS, (IMAGES, COLOURS, 32, 32), dtype=torch.uint8, device=device)
    prior, conditioning = layers(device, dtype)
    kept = hidden_maps(prior)
    leaves = [t for output in (kept, conditioning) for t in output if t is not None]
    run: dict[str, Loss] = {
        "ours": lambda: our_loss(images, kept, conditioning),
        "plain": lambda: plain_loss(images, kept, conditioning),
    }
    if HAS_GPU:
        compiled = torch.compile(plain_loss)
        run["plain, compiled"] = lambda: compiled(images, kept, conditioning)

    def turn(loss: Loss) -> tuple[Tensor, ...]:
        return torch.autograd.grad(loss(), leaves)

    results = {name: turn(loss) for name, loss in run.items()}
    for name, found in results.items():
        for ours, theirs in zip(results["ours"], found, strict=True):
            error = (ours.double() - theirs.double()).abs().max() / theirs.double().abs().max()
            assert error <= TOLERANCE[dtype], f"{name} differs"
    gradients = sum(t.numel() * t.element_size() for t in results.pop("ours"))
    results.clear()
    times: dict[str, list[float]] = {name: [] for name in run}

    def measure_once() -> None:
        for name, loss in run.items():
            times[name].append(seconds(device, turn, loss))

    benchmark.pedantic(measure_once, rounds=ROUNDS, warmup_rounds=1)
    for name in run:
        if name != "ours":
            ratio = median_ratio(times[name], times["ours"])
            benchmark.extra_info[f"times faster than {name}"] = round(ratio, 2)
    if HAS_GPU:
        peaks = {name: peak_memory(lambda loss=loss: turn(loss)) for name, loss in run.items()}
        extra = {name: peak - gradients for name, peak in peaks.items()}
        benchmark.extra_info["MiB beyond gradients"] = {k: v >> 20 for k, v in extra.items()}
        benchmark.extra_info["share of plain memory"] = round(extra["ours"] / extra["plain"], 3)
    print("\nloss from features:", dict(benchmark.extra_info))


@pytest.mark.skipif(not HAS_GPU, reason="asks what a GPU's memory holds between forward and back")
def test_hidden_maps_need_not_be_kept(benchmark, device: torch.device) -> None:
    torch.manual_seed(0)
    images = torch.randint(LEVELS, (IMAGES, COLOURS, 32, 32), dtype=torch.uint8, device=device)
    prior, conditioning = layers(device, torch.bfloat16)
    leaves = [t for output in (prior, conditioning) for t in output if t is not None]

    def kept() -> Tensor:
        made = functional.masked_conv2d(
            prior.features, prior.hidden_weight, prior.hidden_bias, mask_type="B"
        )
        return our_loss(images, Output(F.relu(made), prior.weight, prior.bias), conditioning)

    def again() -> Tensor:
        return our_loss(images, prior, conditioning)

    times: dict[str, list[float]] = {"kept": [], "made again": []}

    def measure_once() -> None:
        for name, loss in (("kept", kept), ("made again", again)):
            work = lambda loss=loss: torch.autograd.grad(loss(), leaves)  # noqa: E731
            times[name].append(seconds(device, work))

    benchmark.pedantic(measure_once, rounds=ROUNDS, warmup_rounds=1)
    slower = median_ratio(times["made again"], times["kept"])
    benchmark.extra_info["time of maps made again, against kept"] = round(slower, 2)
    held = {name: peak_memory(loss) >> 20 for name, loss in (("kept", kept), ("made again", again))}
    benchmark.extra_info["MiB at most in the forward pass"] = held
    print("\nhidden maps:", dict(benchmark.extra_info))
