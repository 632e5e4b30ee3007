"""Write the README's results from benchmarks/results: ``python -m benchmarks.tools.report``."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pixelsr.bench import Growth, Measurement, Report, plot, times_faster
from pixelsr.bench.report import CACHED, CROPPED, CROPPED_LOOP, NAIVE_LOOP

from .gpu_steps.loops import join
from .gpu_table import gpu_table

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- results: python -m benchmarks.tools.report -->\n", "<!-- /results -->\n"
SAMPLING = "test_sampling"


def read_report(file: Path) -> Report:
    """Return the sampling report from one machine's results."""
    return Report.from_json(_found(file)["report"])


def _found(file: Path) -> dict[str, Any]:
    """Return the suite's results; for a GPU, from the last commit that measured sampling."""
    if file.suffix == ".jsonl":
        return join(_sampled(file))
    by_name = {one["name"]: one for one in _benchmarks(file)}
    found: dict[str, Any] = by_name[SAMPLING]["extra_info"]
    return found


def table(report: Report) -> str:
    """Return one machine's sampling results as Markdown."""
    machine = report.machine
    rows = [
        f"On {machine['device']} ({machine['threads']} threads, torch {machine['torch']}, "
        f"{report.date[:10]}):",
        "",
        "| images at once | drawn by | forward passes an image | against the naive loop | "
        "against the row-cropped loop |",
        "| --- | --- | --- | --- | --- |",
        *(row for batch in report.batches for row in _rows(report.of_batch(batch))),
    ]
    grown = [_growth(growth) for growth in report.growth if growth.weights == "model"]
    return "\n".join([*rows, *grown]) + "\n"


def _rows(results: list[Measurement]) -> Iterable[str]:
    by_method = {result.method: result for result in results}
    naive, cropped = by_method[NAIVE_LOOP], by_method[CROPPED_LOOP]
    for result in results:
        if result.method == CACHED:
            yield (
                f"| {result.batch} | {_engine(result)} | {result.forward_passes:.2f} | "
                f"{times_faster(result, naive):,.0f} times faster | "
                f"{times_faster(result, cropped):,.0f} times faster |"
            )
    passes = by_method[CROPPED].forward_passes
    yield f"| {results[0].batch} | a forward pass, cropped | {passes:.2f} | | |"


def _engine(result: Measurement | Growth) -> str:
    weights = "" if result.weights == "model" else f", {result.weights}"
    return f"`{result.engine}`{weights}"


def _growth(growth: Growth) -> str:
    (height, width), (large_height, large_width) = growth.image_sizes
    return (
        f"\nWith {_engine(growth)}, a pixel of a {large_width}x{large_height} image takes "
        f"{growth.time_per_pixel:.2f} times as long as one of a {width}x{height} image."
    )


def result_files() -> list[Path]:
    """Return the result files of all machines on which sampling was measured."""
    folder = ROOT / "benchmarks" / "results"
    files = [
        file
        for file in sorted(folder.glob("*.json"))
        if SAMPLING in {one["name"] for one in _benchmarks(file) if "extra_info" in one}
    ]
    return files + [file for file in sorted((folder / "gpu").glob("*.jsonl")) if _sampled(file)]


def _sampled(file: Path) -> list[dict[str, Any]]:
    """Return what the "loops" step of `benchmarks.tools.gpu` reported for the last commit."""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    own = [line for line in lines if line.get("what") == "sampling"]
    return [line for line in own if line["commit"] == own[-1]["commit"]]


def _benchmarks(file: Path) -> list[dict[str, Any]]:
    return json.loads(file.read_text())["benchmarks"]


def plot_of(file: Path) -> str:
    """Return the path of a machine's plot, relative to the README."""
    return f"docs/images/speed-{file.stem}.png"


def netket_file(file: Path) -> Path:
    """Return the path of the NetKet comparison on the same machine, whether or not it exists."""
    return file.parent / "netket" / file.name


def results(files: Iterable[Path]) -> str:
    """Return the README's section: for each machine, its table and its plot."""
    return "\n".join(
        f"{_table_of(file)}{_netket(file)}\n![Images a second]({plot_of(file)})\n" for file in files
    )


def _table_of(file: Path) -> str:
    found = _found(file)
    if "gpu" in found:
        return gpu_table(read_report(file), found["gpu"])
    return table(read_report(file))


def _netket(file: Path) -> str:
    """Return what `benchmarks.tools.netket` found on the same machine, or "" if nothing."""
    beside = netket_file(file)
    if not beside.is_file():
        return ""
    found = json.loads(beside.read_text())
    best = min(found["results"], key=lambda result: result["ratio"])
    task, version = found["task"], found["versions"]["netket"]
    return (
        f"\nNetKet {version} samples one of its networks with a cache of its own. "
        f"On {task['samples']} binary {task['side']}x{task['side']} images of that network, "
        f"`{best['engine']}` is {1 / best['ratio']:.0f} times faster than NetKet "
        "([how it was measured](benchmarks/tools/netket.py)).\n"
    )


def main() -> None:
    readme = ROOT / "README.md"
    before, rest = readme.read_text().split(BEGIN)
    _, after = rest.split(END)
    files = result_files()
    text = results(files)
    for file in files:
        (ROOT / plot_of(file)).write_bytes(plot.draw_plot(read_report(file)))
    readme.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


if __name__ == "__main__":
    main()
