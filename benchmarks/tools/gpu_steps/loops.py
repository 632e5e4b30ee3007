"""32x32 images from the paper-size model on a GPU, 16-bit weights: the engines beside PyTorch.

Beside the engines stand, in the same process and in turns, what plain PyTorch does at its best: the
naive loop, the row-cropped loop and the cached loop (the plan, as the reference engine runs it), in
bfloat16 or TF32 and as CUDA graphs, each timed by some of its steps. What is drawn is checked by a
forward pass before it is timed. Then: where the time of the CUDA engine goes, and how far it is
from what no engine can beat.

Asked for: 1 image in 40 ms, 16 in 60 ms, and 10,000 images a second 2,048 at a time.
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
from pixelsr.bench.engine_choices import request_of
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
    """Fast engines that can draw from the model with 16-bit weights."""
    engines = ("cuda",) if REHEARSES else ()  # Triton's interpreter is slow
    found = engine_choices(batch.device, engines, batch)
    return [one for one in found if one.weights in WEIGHTS and one.engine in ("cuda", "triton")]


def sound(every: Sequence[EngineChoice], batch: Batch) -> tuple[list[EngineChoice], dict[str, str]]:
    """The samplers that draw what the network draws, and why the others are not measured."""
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
    """Everything, as JSON values; `report` has the times as `pixelsr bench` writes them."""
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
            found["cached_loop"][count] = cached_loop(batch).why_not_captured
        batch.kept.clear()  # the graphs' memory
        of_cuda = [one for one in good if one.engine == "cuda"]
        if of_cuda:
            found["breakdown"].append(break_down(batch, of_cuda[0].weights, turns).as_json())
        if count == max(batches):
            found["one_input"] = [one_input(batch, one, turns) for one in good]
            found["bound"] = bound_of(batch, of_cuda[0].weights) if of_cuda else None
        release(batch.device)
    return {"report": report_of(model, size, results).as_json(), "gpu": found}


def one_input(batch: Batch, sampler: EngineChoice, rounds: int) -> dict[str, Any]:
    """As many samples of one small image, whose image stage is computed once."""
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
    """What the CUDA engine cannot beat with this batch."""
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
    """What `measure_gpu` would have found of all batches at once, from those of single ones."""
    last, gpus = parts[-1], [part["gpu"] for part in parts]
    results = [figure for part in parts for figure in part["report"]["figures"]]
    gpu = {
        **gpus[-1],
        "breakdown": [one for found in gpus for one in found["breakdown"]],
        "cached_loop": {size: why for found in gpus for size, why in found["cached_loop"].items()},
        "refused": {name: why for found in gpus for name, why in found["refused"].items()},
    }
    return {"report": {**last["report"], "figures": results}, "gpu": gpu}
