"""Training with the Triton kernels beside training in plain PyTorch, from the same start.

    python -m benchmarks.tools.agreement IMAGES --out benchmarks/results/agreement/gpu.json

Both see the same batches in the same precision. Kernels that are right differ by rounding, and
training makes rounding grow; how far two right runs drift apart is what a third run shows, the
plain one with its feature maps in another memory format.
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
from pixelsr.data.load import load_images
from pixelsr.training.loss import TrainingLoss

from ..suites.bench_training_step import PlainObjective, make_step

WINDOW = 20
"""Steps that a point of a curve is the mean of, or all where they are fewer."""
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def curve(objective: nn.Module, batches: Sequence[Tensor], dtype: torch.dtype) -> list[float]:
    """The loss while training, bits per value: that of A + B, plus that of A."""
    step = make_step(objective, dtype)
    losses = torch.stack([step(batch) for batch in batches]).cpu() / math.log(2)
    window = min(WINDOW, len(losses))
    return losses.unfold(0, window, window).mean(1).tolist()


def compare(
    model: pixelsr.PixelRecursiveSR, batches: Sequence[Tensor], dtype: torch.dtype
) -> dict[str, list[float]]:
    """The curves of "triton", "plain" and "plain, contiguous"; the model is left as it is."""
    start = model.to(memory_format=torch.channels_last)
    ours = on_backend(start, "triton")
    plain = on_backend(start, "reference")
    contiguous = copy.deepcopy(plain).to(memory_format=torch.contiguous_format)
    return {
        "triton": curve(TrainingLoss(ours), batches, dtype),
        "plain": curve(PlainObjective(plain), batches, dtype),
        "plain, contiguous": curve(PlainObjective(contiguous), batches, dtype),
    }


def apart(curves: dict[str, list[float]], one: str, other: str) -> float:
    """The largest difference of two curves."""
    return max(abs(a - b) for a, b in zip(curves[one], curves[other], strict=True))


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--model", help="A model to start from. [default: the paper's size, untrained]")
@click.option("--steps", default=200, show_default=True, type=click.IntRange(min=1))
@click.option("--batch", default=32, show_default=True, type=click.IntRange(min=1))
@click.option("--precision", default="bfloat16", type=click.Choice(list(DTYPES)))
@click.option("--out", type=click.Path(path_type=Path), help="JSON file.")
def main(
    folder: Path, model: str | None, steps: int, batch: int, precision: str, out: Path | None
) -> None:
    """Train three times from one start, and tell how far the losses are apart."""
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
        out.parent.mkdir(parents=True, exist_ok=True)
        told = {"machine": machine(device), "precision": precision, "curves": curves, **found}
        out.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
