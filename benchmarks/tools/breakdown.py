"""The time of a CUDA engine call, split into host, conditioning features and kernel."""

import dataclasses
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

import pixelsr
from pixelsr.bench.choices import EngineChoice, request_of
from pixelsr.bench.inputs import Batch
from pixelsr.bench.timing import in_turns, seconds
from pixelsr.sampling.engines.buffers import packed_conditioning
from pixelsr.sampling.engines.cuda.engine import EVENTS, CudaEngine
from pixelsr.sampling.methods import plan_of
from pixelsr.sampling.sampler import Sampler

CALL, NOTHING, REQUEST = "call", "call that draws nothing", "request"
CONDITIONING, KERNEL, TICKING = "conditioning features", "kernel", "kernel, with clocks"


@dataclasses.dataclass(frozen=True)
class Breakdown:
    """The measured parts of one batch.

    Attributes:
        values: height, width and colors of an image.
        tile: samples per tile, blocks that share a tile, the number of tiles, and bytes of the
            program.
        seconds: median seconds of each part: a whole call; a call with everything known, which
            contains the host's work and the conditioning features; checking the arguments; the
            conditioning features; drawing without reading the clocks, and with it.
        clocks: multiprocessor clocks by event, averaged over the tiles.
    """

    weights: str
    batch: int
    values: tuple[int, int, int]
    tile: dict[str, int]
    seconds: dict[str, float]
    clocks: dict[str, float]

    @property
    def event_seconds(self) -> dict[str, float]:
        """Return the seconds by event; they are correct if all tiles are drawn at once."""
        whole = sum(self.clocks.values())
        return {name: self.seconds[TICKING] * own / whole for name, own in self.clocks.items()}

    def as_json(self) -> dict[str, Any]:
        """Return the measurements and the numbers derived from them."""
        height, width, colors = self.values
        events = self.event_seconds
        steps = (events["colors"] + events["draw"]) / (height * width * colors)
        return {
            **dataclasses.asdict(self),
            "event_seconds": events,
            "color_step_seconds": steps,
            "left_seconds": events["left"] / (height * width),
            "row_stage_seconds": events["row stage"] / height,
        }


def events_of(engine: CudaEngine) -> tuple[float, dict[str, float]]:
    """Return the seconds of a draw that reads the clocks, and a tile's mean clocks by event."""
    shape = engine.tiles, len(EVENTS)
    engine.ticks = torch.zeros(shape, dtype=torch.int64, device=engine.device)
    taken = seconds(engine.device, engine.draw, Sampler(0, 1.0))
    clocks = engine.ticks.double().mean(0).tolist()
    return taken, dict(zip(EVENTS, clocks, strict=True))


def draw_nothing(batch: Batch, weights: str) -> None:
    """Run a call with every value known."""
    known = batch.images[:1]
    n = 1 if batch.low_res is not None else len(batch)
    pixelsr.sample(
        batch.model,
        n,
        low_res=batch.low_res,
        image_size=batch.image_size,
        known=known,
        known_mask=torch.ones_like(known, dtype=torch.bool),
        engine="cuda",
        weights=weights,
    )


@torch.no_grad()
def break_down(batch: Batch, weights: str, rounds: int) -> Breakdown:
    """Measure the parts in turns; each runs once before the clock starts."""
    request = request_of(batch, weights)
    made = plan_of(request)
    engine = CudaEngine(made, request)
    parts: dict[str, Callable[[], object]] = {
        CALL: partial(EngineChoice("cuda", weights), batch),
        NOTHING: partial(draw_nothing, batch, weights),
        REQUEST: partial(request_of, batch, weights),
        CONDITIONING: partial(packed_conditioning, made, request),
        KERNEL: lambda: engine.draw(Sampler(0, 1.0)),
    }
    for part in parts.values():
        part()
    times = in_turns(batch.device, parts, rounds)
    found = {name: statistics.median(own) for name, own in times.items()}
    found[TICKING], clocks = events_of(engine)
    tile = {
        "samples": engine.cut.samples,
        "blocks": engine.cut.cluster_size,
        "tiles": engine.tiles,
        "bytes": engine.cuda_program.units * 16,
    }
    return Breakdown(
        weights, len(batch), (*batch.image_size, batch.model.colors), tile, found, clocks
    )
