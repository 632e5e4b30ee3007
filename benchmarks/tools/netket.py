"""Compare pixelsr with NetKet, another cached sampler, on NetKet's own task.

    python -m benchmarks.tools.netket --python /elsewhere/bin/python

The task is 16 binary 28x28 images. The given Python has `netket` (3.23.0) and jax for the CPU,
which pixelsr itself never needs. NetKet runs in its own process and draws on request, so that the
two take turns; jax compiles before the clock starts.

NetKet's `FastARNNConv2D` is a chain of masked convolutions with SELU between them and no other
output layer. Its 3x5 kernel is the upper part of a 5x5 kernel of one color, with mask A in the
first layer and mask B in the others. The last layer's two outputs are log psi of the two spins, and
p = |psi|^2, so the logits are twice the outputs. `Chain` below is that network: it has the same
parameters, live taps, padding, inputs (-1 and 1) and dtype (float32). Before the clock starts, it
loads NetKet's weights, and its probabilities are compared with NetKet's.

The two differ as follows. NetKet sums all 15 taps of a kernel, although its mask zeroes 3 or 2 of
them; pixelsr skips dead taps. NetKet draws from its own random numbers; pixelsr draws from its
Gumbel noise, so an image is the same in any batch. NetKet compiles for one batch size and network;
pixelsr plans and packs weights within the measured time, unless they are cached.
"""

import dataclasses
import json
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pixelsr
from pixelsr import functional
from pixelsr.bench import engine_choices
from pixelsr.bench.choices import EngineChoice
from pixelsr.bench.timing import median_ratio, seconds
from pixelsr.cli.commands.options import count_option
from pixelsr.nn import MaskedConv2d
from pixelsr.utils.atomic_write import write_json

WORKER = Path(__file__).with_name("netket_worker.py")
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
TOLERANCE = 1e-4
"""The largest difference of a probability, in float32."""
CPU = torch.device("cpu")


@dataclasses.dataclass(frozen=True)
class Task:
    """The task that both sides draw; the defaults define the comparison."""

    layers: int = 4
    features: int = 32
    kernel_size: tuple[int, int] = (3, 5)
    side: int = 28
    samples: int = 16
    threads: int = 2


class Chain(nn.Module):
    """NetKet's `FastARNNConv2D` with real parameters, built from pixelsr's layers.

    Shape:
        images, uint8 ``[N, 1, H, W]``, to logits ``[N, 2, 1, H, W]``.
    """

    colors, levels = 1, 2

    def __init__(self, task: Task) -> None:
        super().__init__()
        height, width = task.kernel_size
        channels = [1, *[task.features] * (task.layers - 1), 2]
        self.layers = nn.ModuleList(
            MaskedConv2d(
                channels[k],
                channels[k + 1],
                (2 * height - 1, width),
                mask_type="AB"[k > 0],
                colors=1,
            )
            for k in range(task.layers)
        )

    def forward(self, images: Tensor) -> Tensor:
        x = functional.normalize_images(images, 1, 2, torch.float32)
        for k, layer in enumerate(self.layers):
            x = layer(SELU_SCALE * F.elu(x, SELU_ALPHA) if k else x)
        return functional.to_logits(2 * x, 1, 2)

    @torch.no_grad()
    def load(self, arrays: dict[str, np.ndarray]) -> None:
        """Load NetKet's parameters; level 0 is spin -1."""
        for k, layer in enumerate(self.layers):
            kernel = torch.from_numpy(arrays[f"kernel_{k}"]).permute(3, 2, 0, 1)
            layer.weight.zero_()
            layer.weight[:, :, : kernel.shape[2]] = kernel
            layer.bias.copy_(torch.from_numpy(arrays[f"bias_{k}"]))
        order = arrays["states"].argsort()
        layer.weight.copy_(layer.weight[order])
        layer.bias.copy_(layer.bias[order])

    @property
    def live_parameters(self) -> int:
        """Return the number of weights at live taps plus biases."""
        return sum(int(layer.mask().sum()) + layer.out_channels for layer in self.layers)


def check_the_same_probabilities(chain: Chain, arrays: dict[str, np.ndarray]) -> float:
    """Return the largest difference of a conditional probability, on images that NetKet drew.

    Raises:
        ValueError: the difference is above `TOLERANCE`.
    """
    spins = torch.from_numpy(arrays["spins"]).long()
    side = int(spins.shape[1] ** 0.5)
    images = ((spins + 1) // 2).to(torch.uint8).view(-1, 1, side, side)
    with torch.inference_mode():
        ours = chain(images).softmax(1)[:, :, 0].flatten(2).transpose(1, 2)  # [N, H W, 2]
    theirs = torch.from_numpy(arrays["conditionals"][:, :, arrays["states"].argsort()])
    error = float((ours - theirs).abs().max())
    if not error <= TOLERANCE:
        raise ValueError(
            f"not measured: the two networks' probabilities differ by {error:.2g}, "
            f"expected at most {TOLERANCE:g}"
        )
    return error


class NetKet:
    """NetKet in its own process, compiled and waiting."""

    def __init__(self, process: "subprocess.Popen[str]", weights: Path) -> None:
        self._process = process
        self.versions: dict[str, str] = json.loads(self._answer())
        with np.load(weights, allow_pickle=False) as arrays:
            self.arrays = dict(arrays)

    def seconds(self) -> float:
        """Run one draw in NetKet's process and return its seconds."""
        assert self._process.stdin
        self._process.stdin.write("draw\n")
        self._process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise ValueError(f"NetKet's process ended with status {self._process.wait()}")
        return line


@contextmanager
def netket(python: Path, task: Task) -> Iterator[NetKet]:
    """Start NetKet's process, wait until it has compiled, and end it when the block exits."""
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.npz"
        # -I keeps the script's folder off sys.path: otherwise `import netket` finds this file.
        command = [str(python), "-I", str(WORKER), str(weights)]
        process = subprocess.Popen(
            [*command, json.dumps(dataclasses.asdict(task))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            yield NetKet(process, weights)


def compare(theirs: NetKet, task: Task, sampler: EngineChoice, rounds: int) -> dict[str, Any]:
    """Return the seconds of both in turns, and the median of the ratios, ours / theirs."""
    chain = Chain(task).eval()
    chain.load(theirs.arrays)
    error = check_the_same_probabilities(chain, theirs.arrays)

    def draw() -> Tensor:
        return pixelsr.sample(
            chain,
            task.samples,
            image_size=(task.side, task.side),
            engine=sampler.engine,
            weights=sampler.weights,
        )

    draw()
    theirs.seconds()
    taken = [(seconds(CPU, draw), theirs.seconds()) for _ in range(rounds)]
    our_seconds, their_seconds = zip(*taken, strict=True)
    return {
        "engine": sampler.engine,
        "weights": sampler.weights,
        "seconds": our_seconds,
        "netket_seconds": their_seconds,
        "ratio": median_ratio(our_seconds, their_seconds),
        "largest_difference_of_a_probability": error,
        "live_parameters": chain.live_parameters,
    }


@click.command()
@click.option("--python", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--engine", "engines", multiple=True, help="More than once for several.")
@count_option("--rounds", default=15, help="Turns of each side.")
@count_option("--threads", default=Task.threads, help="CPU threads of each side.")
@click.option("--out", type=click.Path(path_type=Path), help="JSON file.")
def main(
    python: Path, engines: tuple[str, ...], rounds: int, threads: int, out: Path | None
) -> None:
    """Time pixelsr and NetKet in turns."""
    torch.set_num_threads(threads)
    task = Task(threads=threads)
    with netket(python, task) as theirs:
        versions = {**theirs.versions, "pixelsr": pixelsr.__version__, "torch": torch.__version__}
        click.echo(f"{dataclasses.asdict(task)}\n{versions}")
        found = [compare(theirs, task, sampler, rounds) for sampler in engine_choices(CPU, engines)]
    for result in found:
        ours, other = (statistics.median(result[key]) for key in ("seconds", "netket_seconds"))
        click.echo(
            f"{result['engine']}, weights {result['weights']}: {ours:.4f} s, NetKet {other:.4f} s, "
            f"ratio {result['ratio']:.3f} (median of {rounds} turns); "
            f"{result['live_parameters']:,} live parameters, probabilities within "
            f"{result['largest_difference_of_a_probability']:.1g}"
        )
    if out:
        written = {"task": dataclasses.asdict(task), "versions": versions, "results": found}
        write_json(out, written)


if __name__ == "__main__":
    main()
