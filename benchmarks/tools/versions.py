"""Compare the time of a draw with the time of another version of pixelsr, in turns.

    python -m benchmarks.tools.versions /elsewhere/pixelsr --out versions.json

The other version is a checkout with its C++ kernels built (`python setup.py build_ext --inplace`).
Each version runs in its own process and draws images of the paper's `PixelRecursiveSR`; the fastest
of three draws counts. A ratio is this version's time divided by the other's.
"""

import argparse
import contextlib
import statistics
import subprocess
import sys
from pathlib import Path

import torch

from pixelsr.bench import machine
from pixelsr.utils.atomic_write import write_json

BATCHES, TURNS = (1, 8, 16), 15
ROOT = Path(__file__).parents[2]
WORKER = """
import sys, time
sys.path.insert(0, ".")
import torch, pixelsr
torch.manual_seed(0)
model = pixelsr.PixelRecursiveSR().eval()
low_res = torch.randint(256, (1, 3, 8, 8), dtype=torch.uint8)
def draw():
    start = time.perf_counter()
    pixelsr.sample(model, int(sys.argv[1]), low_res=low_res, seed=1, engine="cpu")
    return time.perf_counter() - start
draw()
print(pixelsr.__file__, flush=True)
for _ in sys.stdin:
    print(min(draw() for _ in range(3)), flush=True)
"""


@contextlib.contextmanager
def worker(checkout: Path, batch: int):
    """Start a process that draws with the version in a checkout."""
    command = [sys.executable, "-c", WORKER, str(batch)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=checkout, **pipes) as process:
        found = Path(process.stdout.readline().strip())
        if not found.is_relative_to(checkout.resolve()):
            raise ValueError(f"expected pixelsr from {checkout}, got {found}")
        yield process


def seconds(process: subprocess.Popen) -> float:
    process.stdin.write("draw\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def ratios(other: Path, batch: int) -> list[float]:
    """Return this version's time divided by the other's, for each turn."""
    found = []
    with worker(ROOT, batch) as ours, worker(other, batch) as theirs:
        for turn in range(TURNS):
            order = (ours, theirs) if turn % 2 else (theirs, ours)
            times = {process.pid: seconds(process) for process in order}
            found.append(times[ours.pid] / times[theirs.pid])
    return found


def commit(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.check_output(command, text=True).strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("other", type=Path, help="a checkout of another version, built")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    given = parser.parse_args()
    if not (given.other / "pixelsr").is_dir():
        parser.error(f"{given.other} is no checkout of pixelsr: it has no folder pixelsr")
    results = []
    for batch in BATCHES:
        found = ratios(given.other, batch)
        lower, median, upper = (round(value, 3) for value in statistics.quantiles(found, n=4))
        results.append({"images": batch, "median": median, "quartiles": [lower, upper]})
        print(results[-1], flush=True)
    versions = {"this": commit(ROOT), "other": commit(given.other)}
    machine_info = machine(torch.device("cpu"))
    report = {"machine": machine_info, "versions": versions, "turns": TURNS, "ratios": results}
    write_json(given.out, report, indent=1)


if __name__ == "__main__":
    main()
