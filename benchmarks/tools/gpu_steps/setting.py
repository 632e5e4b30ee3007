"""The model that the steps measure: paper-size on the GPU, or a small one in rehearsals."""

import statistics
from collections.abc import Callable, Mapping

import torch

import pixelsr
from pixelsr.bench import Batch, make_batch
from pixelsr.bench.timing import in_turns

from . import REHEARSES

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SIZE = (4, 4) if REHEARSES else (32, 32)
BATCHES = (1, 3) if REHEARSES else (1, 16, 64, 256, 2048)


def make_model() -> pixelsr.PixelRecursiveSR:
    torch.manual_seed(0)
    if not REHEARSES:
        return pixelsr.PixelRecursiveSR().to(DEVICE)
    sizes = {"channels": 9, "layers": 2, "levels": 16, "kernel_size": 3}
    prior = pixelsr.GatedPixelCNN(**sizes, head_channels=12, first_kernel_size=5)
    conditioning = pixelsr.ConditioningNetwork(channels=4, blocks=1, levels=16, scale_factor=2)
    return pixelsr.PixelRecursiveSR(prior, conditioning).to(DEVICE)


def median_seconds(sides: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each side, timed in turns."""
    times = in_turns(DEVICE, sides, rounds)
    return {name: statistics.median(own) for name, own in times.items()}


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def batch_of(model: pixelsr.PixelRecursiveSR, count: int) -> Batch:
    return make_batch(model, count, SIZE)


def emulate() -> None:
    """Run the CUDA engine on the emulated machine of the tests if there is no GPU."""
    if DEVICE.type == "cuda":
        return
    from pixelsr.sampling.engines.cuda import engine as cuda_engine
    from tests.support.emulator.build import HERE, build

    torch.ops.load_library(build([HERE / "run_tiles.cpp"], "run_tiles"))
    cuda_engine.EMULATES = True
