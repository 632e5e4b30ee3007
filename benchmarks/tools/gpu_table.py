"""The results of a GPU as Markdown: times, times against PyTorch, bounds and breakdowns."""

import statistics
from collections.abc import Iterator
from typing import Any

from pixelsr.bench import Measurement, Report, times_faster
from pixelsr.bench.report import CACHED, CACHED_LOOP, CROPPED_LOOP, NAIVE_LOOP

PUBLISHED = {1: 2, 16: 18, 64: 61, 256: 183}
"""The published speedup over the naive loop by batch size: PixelCNN++, arXiv 1704.06001."""
HEADS = (
    *("images at once", "drawn by", "milliseconds", "images a second"),
    *("against the naive loop", "published", "against the row-cropped loop"),
    "against the cached loop",
)
LOOPS = NAIVE_LOOP, CROPPED_LOOP, CACHED_LOOP
NOTE = """
Against loops of plain PyTorch, as CUDA graphs, which are timed by some of their steps: the naive \
and the row-cropped one in bfloat16, with the masks in the weights; the cached one runs the same \
plan, with products in TF32. Published: PixelCNN++ against its naive loop on one GPU \
(arXiv 1704.06001).
"""


def gpu_table(report: Report, found: dict[str, Any]) -> str:
    """Return the section of one GPU.

    Args:
        found: the results that `benchmarks.tools.gpu_steps.loops` notes beside the report.
    """
    machine = report.machine
    parts = [
        f"On {machine['device']} (torch {machine['torch']}, {report.date[:10]}), 16-bit weights:\n",
        _markdown(HEADS, [row for n in report.batches for row in _rows(report.of_batch(n))]),
        NOTE.lstrip() + "".join(_plain_loops(found)),
        *_one_input(found),
        *_bound(report, found),
        *_breakdown(found),
    ]
    return "\n".join(parts)


def _rows(results: list[Measurement]) -> Iterator[list[str]]:
    rivals = {result.method: result for result in results}
    for result in results:
        if result.method != CACHED:
            continue
        batch = result.batch
        published = f"{PUBLISHED[batch]}" if batch in PUBLISHED else ""
        naive, *others = (_faster(result, rivals.get(m)) for m in LOOPS)
        yield [
            f"{batch:,}",
            f"`{result.engine}`, {result.weights}",
            f"{1e3 * statistics.median(result.seconds):,.1f}",
            f"{result.images_per_second:,.0f}",
            naive,
            published,
            *others,
        ]


def _faster(result: Measurement, rival: Measurement | None) -> str:
    """Return how many times faster `result` is than a rival, to two significant digits."""
    if rival is None:
        return ""
    times = times_faster(result, rival)
    return f"{times:,.0f}" if times >= 10 else f"{times:.2g}"


def _plain_loops(found: dict[str, Any]) -> Iterator[str]:
    reasons = {batch: why for batch, why in found["cached_loop"].items() if why}
    for batch, reason in reasons.items():
        yield f"The cached loop of {batch} images could not be captured: {reason}.\n"


def _one_input(found: dict[str, Any]) -> Iterator[str]:
    if not found["one_input"]:
        return
    best = max(found["one_input"], key=lambda one: one["images_per_second"])
    yield (
        "Each image has a small image of its own. As samples of one small image, "
        f"{best['batch']:,} at once, `{best['engine']}` draws "
        f"{best['images_per_second']:,.0f} images a second.\n"
    )


def _bound(report: Report, found: dict[str, Any]) -> Iterator[str]:
    bound = found.get("bound")
    if not bound:
        return
    batch = max(report.batches)
    speeds = [one.images_per_second for one in report.of_batch(batch) if one.engine == "cuda"]
    reads = sum(bound["bytes_of_a_tile"].values()) / 1e9
    by = "reading the weights" if bound["which"] == "L2" else "arithmetic"
    yield (
        f"What `cuda` cannot beat: {bound['by_arithmetic']:,.0f} images a second by arithmetic "
        f"({2 * bound['macs'] / 1e9:.1f} GFLOP each, "
        f"{bound['flops_per_second'] / 1e12:.0f} TFLOP/s), "
        f"{bound['by_l2']:,.0f} by reading the weights ({reads:.2f} GB for each tile of "
        f"{bound['samples_of_a_tile']} images, from L2 at "
        f"{bound['l2_bytes_per_second'] / 1e12:.0f} TB/s). With {batch:,} at once it comes to "
        f"{max(speeds) / bound['images_per_second']:.0%} of the lower one, by {by}.\n"
    )


def _breakdown(found: dict[str, Any]) -> Iterator[str]:
    if not found["breakdown"]:
        return
    heads = ("images at once", "drawing, ms", "row stage", "left", "colors", "draw", "other")
    more = ("a color step, µs", "conditioning features, ms", "a call that draws nothing, ms")
    yield "Where the time of `cuda` goes:\n"
    yield _markdown((*heads, *more), [_parts(one) for one in found["breakdown"]])


def _parts(one: dict[str, Any]) -> list[str]:
    events, seconds = one["event_seconds"], one["seconds"]
    whole = sum(events.values())
    named = [events[name] / whole for name in ("row stage", "left", "colors", "draw")]
    return [
        f"{one['batch']:,}",
        f"{1e3 * seconds['kernel']:.1f}",
        *(f"{share:.0%}" for share in (*named, 1 - sum(named))),
        f"{1e6 * one['color_step_seconds']:.2f}",
        f"{1e3 * seconds['conditioning features']:.1f}",
        f"{1e3 * seconds['call that draws nothing']:.1f}",
    ]


def _markdown(heads: tuple[str, ...], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
