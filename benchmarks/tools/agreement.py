"""Compare training with the Triton kernels and training in plain PyTorch, from the same start.

    python -m benchmarks.tools.agreement IMAGES --out benchmarks/results/agreement/gpu.json

Both see the same batches in the same precision. Correct kernels differ by rounding, and training
amplifies rounding errors. A third run shows how far two correct runs drift apart: plain PyTorch
with its feature maps in another memory format.
"""

import copy
import json
import math
from collections.abc import Sequence
from pathlib import Path

import click
import torch
from torch import Tensor, nn

import pixelsr
from pixelsr.bench import machine
from pixelsr.bench.passes import on_backend
from pixelsr.cli.commands.options import count_option
from pixelsr.data.load import load_images
from pixelsr.training.loss import TrainingLoss
from pixelsr.utils.atomic_write import write_json

from ..suites.bench_training_step import PlainLoss, make_step

WINDOW = 20
"""The number of steps that one point of a curve averages, or all steps if there are fewer."""
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def curve(loss_module: nn.Module, batches: Sequence[Tensor], dtype: torch.dtype) -> list[float]:
    """Return the loss during training in bits per value: the loss of A + B plus the loss of A."""
    step = make_step(loss_module, dtype)
    losses = torch.stack([step(batch) for batch in batches]).cpu() / math.log(2)
    window = min(WINDOW, len(losses))
    return losses.unfold(0, window, window).mean(1).tolist()


def compare(
    model: pixelsr.PixelRecursiveSR, batches: Sequence[Tensor], dtype: torch.dtype
) -> dict[str, list[float]]:
    """Return the curves of "triton", "plain" and "plain, contiguous"; leave the model as it is."""
    start = model.to(memory_format=torch.channels_last)
    ours = on_backend(start, "triton")
    plain = on_backend(start, "reference")
    contiguous = copy.deepcopy(plain).to(memory_format=torch.contiguous_format)
    return {
        "triton": curve(TrainingLoss(ours), batches, dtype),
        "plain": curve(PlainLoss(plain), batches, dtype),
        "plain, contiguous": curve(PlainLoss(contiguous), batches, dtype),
    }


def apart(curves: dict[str, list[float]], one: str, other: str) -> float:
    """Return the largest difference between two curves."""
    return max(abs(a - b) for a, b in zip(curves[one], curves[other], strict=True))


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--model", help="A model to start from. [default: the paper's size, untrained]")
@count_option("--steps", default=200, help="Training steps.")
@count_option("--batch", default=32, help="Images in a batch.")
@click.option("--precision", default="bfloat16", type=click.Choice(list(DTYPES)))
@click.option("--out", type=click.Path(path_type=Path), help="JSON file.")
def main(
    folder: Path, model: str | None, steps: int, batch: int, precision: str, out: Path | None
) -> None:
    """Train three times from one start, and report how far apart the losses are."""
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    start = pixelsr.PixelRecursiveSR.from_pretrained(model) if model else pixelsr.PixelRecursiveSR()
    images = load_images(folder, 32, click.echo)
    order = torch.randint(len(images), (steps, batch))
    batches = [images[some].to(device, memory_format=torch.channels_last) for some in order]
    curves = compare(start.to(device).train(), batches, DTYPES[precision])
    found = {
        "triton against plain": apart(curves, "triton", "plain"),
        "plain against plain, contiguous": apart(curves, "plain", "plain, contiguous"),
    }
    click.echo(f"bits per value, means of {WINDOW} steps: {json.dumps(curves)}\n{found}")
    if out:
        results = {"machine": machine(device), "precision": precision, "curves": curves, **found}
        write_json(out, results)


if __name__ == "__main__":
    main()
