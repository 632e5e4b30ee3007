"""The time of 32x32 images from the paper-size model on a GPU: engines beside plain PyTorch.

The engines use 16-bit weights. The PyTorch rivals run in the same process and in turns: the naive
loop, the row-cropped loop and the cached loop, which runs the plan as the reference engine does.
They run in bfloat16 or TF32 and as CUDA graphs, and each is timed by some of its steps. Images are
checked by a forward pass before they are timed. The step also reports where the time of the CUDA
engine goes, and how far the engine is from its upper bound.

The targets are 1 image in 40 ms, 16 images in 60 ms, and 10,000 images a second in batches of
2,048.
"""

import datetime
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch

import pixelsr
from pixelsr.bench import (
    EngineChoice,
    Measurement,
    Report,
    engine_choices,
    machine,
    make_batch,
    measure_batch,
    timing,
)
from pixelsr.bench.choices import request_of
from pixelsr.bench.inputs import Batch, check_replay
from pixelsr.bench.loops import cached_loop
from pixelsr.bench.timing import seconds
from pixelsr.models import PixelModel
from pixelsr.sampling.engines.cuda.engine import CudaEngine
from pixelsr.sampling.methods import plan_of

from ..bound import bound
from ..breakdown import break_down
from . import REHEARSES, report
from .engine import ROUNDS, rounds_of
from .setting import BATCHES, SIZE, emulate, make_model

WEIGHTS = ("bfloat16", "float16")

Say = Callable[[str], None]


def half_precision(batch: Batch) -> list[EngineChoice]:
    """Return the fast engines that can draw from the model with 16-bit weights."""
    engines = ("cuda",) if REHEARSES else ()  # Triton's interpreter is slow
    found = engine_choices(batch.device, engines, batch)
    return [one for one in found if one.weights in WEIGHTS and one.engine in ("cuda", "triton")]


def sound(every: Sequence[EngineChoice], batch: Batch) -> tuple[list[EngineChoice], dict[str, str]]:
    """Return the samplers that draw the network's images, and why the others are not measured."""
    good, refused = [], {}
    for sampler in every:
        try:
            check_replay(f"engine {sampler.engine}", batch, sampler(batch), sampler.weights)
            good.append(sampler)
        except (ValueError, RuntimeError) as error:
            refused[f"{sampler.engine}, {sampler.weights}, {len(batch)} at once"] = str(error)
    return good, refused


def measure_gpu(
    model: PixelModel, size: tuple[int, int], batches: Sequence[int], rounds: int, say: Say = print
) -> dict[str, Any]:
    """Return all measurements as JSON values; "report" has the times as `pixelsr bench` does."""
    results: list[Measurement] = []
    found: dict[str, Any] = {"breakdown": [], "one_input": [], "cached_loop": {}, "refused": {}}
    for count in batches:
        say(f"batch {count}")
        batch = make_batch(model, count, size)
        turns = min(rounds, rounds_of(batch))
        good, refused = sound(half_precision(batch), batch)
        found["refused"] |= refused
        results += measure_batch(batch, good, turns)
        if timing.uses_graphs(batch.device):
            found["cached_loop"][count] = cached_loop(batch).uncaptured_reason
        batch.kept.clear()  # free the graphs' memory
        of_cuda = [one for one in good if one.engine == "cuda"]
        if of_cuda:
            found["breakdown"].append(break_down(batch, of_cuda[0].weights, turns).as_json())
        if count == max(batches):
            found["one_input"] = [one_input(batch, one, turns) for one in good]
            found["bound"] = bound_of(batch, of_cuda[0].weights) if of_cuda else None
        release(batch.device)
    return {"report": report_of(model, size, results).as_json(), "gpu": found}


def one_input(batch: Batch, sampler: EngineChoice, rounds: int) -> dict[str, Any]:
    """Time a batch of samples of one small image, whose conditioning features are shared."""
    low_res = None if batch.low_res is None else batch.low_res[:1]

    def draw() -> None:
        options = {"engine": sampler.engine, "weights": sampler.weights}
        size = batch.image_size
        pixelsr.sample(batch.model, len(batch), low_res=low_res, image_size=size, **options)

    draw()
    times = [seconds(batch.device, draw) for _ in range(rounds)]
    speed = len(batch) / statistics.median(times)
    own = {"engine": sampler.engine, "weights": sampler.weights, "batch": len(batch)}
    return {**own, "seconds": times, "images_per_second": speed}


@torch.no_grad()
def bound_of(batch: Batch, weights: str) -> dict[str, Any]:
    """Return the upper bound of the CUDA engine for this batch."""
    request = request_of(batch, weights)
    return bound(CudaEngine(plan_of(request), request))


def report_of(model: PixelModel, size: tuple[int, int], results: list[Measurement]) -> Report:
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    return Report(machine(model.device), now, model.describe(), size, tuple(results), ())


def release(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()


def run() -> None:
    emulate()
    model = make_model()
    refused: dict[str, str] = {}
    for count in BATCHES:
        found = measure_gpu(model, SIZE, (count,), 1 if REHEARSES else ROUNDS)
        report(what="sampling", **found)
        refused |= found["gpu"]["refused"]
    if refused:
        raise SystemExit(f"an engine draws something else, or fails: {refused}")


def join(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Join the results of single batches into those of one `measure_gpu` call for all batches."""
    last, gpus = parts[-1], [part["gpu"] for part in parts]
    results = [one for part in parts for one in part["report"]["results"]]
    gpu = {
        **gpus[-1],
        "breakdown": [one for found in gpus for one in found["breakdown"]],
        "cached_loop": {size: why for found in gpus for size, why in found["cached_loop"].items()},
        "refused": {name: why for found in gpus for name, why in found["refused"].items()},
    }
    return {"report": {**last["report"], "results": results}, "gpu": gpu}
