"""Build, measure and test on a GPU: the steps run by importance, each in its own process.

    python -m benchmarks.tools.gpu [--steps engine,tests] [--minutes 9] [--resume] [--rehearse]

Each step has a time limit. Each of its results is appended at once to a file as a line of JSON. A
step that fails or hangs is recorded, and the next one begins. A later call continues with
`--resume`. With `--rehearse`, every step runs in its smallest form, on a CPU too.
"""

import argparse
import contextlib
import datetime
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "gpu"
SOURCES = ("csrc", "kernels", "pixelsr", "benchmarks", "tests")
DONE, FAILED, LIMIT = "done", "failed", "time limit"
FEWEST_SECONDS = 5
"""The least time left, in seconds, for a step to begin."""
TAIL = 3000
"""The number of characters kept from the output of a step that fails."""

Record = Callable[[str, dict[str, Any]], None]


class Step(NamedTuple):
    """A step that runs in its own process.

    Attributes:
        seconds: the time limit, after which the process is killed.
        arguments: Python's arguments; None for the step of this name in
            `benchmarks.tools.gpu_steps`.
    """

    name: str
    seconds: float
    arguments: tuple[str, ...] | None = None


STEPS = (
    Step("build", 75),
    Step("ceilings", 15),
    Step("engine", 80),
    Step("convolutions", 80),
    Step("training", 50),
    Step("engine_triton", 50),
    Step("tools", 75),
    Step("tests", 115),  # the steps up to here take 9 minutes
    Step("tuning", 500),
    Step("loops", 400),
    Step("recurrences", 120),
)


def main(given: Sequence[str] | None = None, steps: Sequence[Step] = STEPS) -> int:
    """Run the chosen steps; return 0 if all of them succeeded."""
    asked = _parse(given, [step.name for step in steps])
    device = _device(asked.rehearse)
    commit = _commit()
    file = asked.out or RESULTS / f"{re.sub('[^a-z0-9]+', '-', device.lower())}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    skipped = ended(file, commit, device) if asked.resume else set()
    chosen = [step for step in steps if step.name in asked.steps and step.name not in skipped]
    print(f"{device}, {commit}: {', '.join(step.name for step in chosen) or 'nothing'}, to {file}")
    end = time.monotonic() + 60 * asked.minutes

    def record(name: str, values: dict[str, Any]) -> None:
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        line = {"step": name, "commit": commit, "device": device, "at": now, **values}
        with file.open("a") as lines:
            lines.write(json.dumps(line) + "\n")

    endings = []
    for step in chosen:
        left = end - time.monotonic()
        if left < FEWEST_SECONDS:
            print(f"no time is left for {step.name}: --resume goes on with it")
            return 1
        limit = min(left, max(step.seconds, 600) if asked.rehearse else step.seconds)
        endings.append(run(step, limit, asked.rehearse, record))
    return int(any(how != DONE for how in endings))


def ended(file: Path, commit: str, device: str) -> set[str]:
    """Return the steps that ended by themselves for this commit on this device."""
    if not file.is_file():
        return set()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    own = [one for one in lines if (one["commit"], one["device"]) == (commit, device)]
    return {one["step"] for one in own if one.get("ended") in (DONE, FAILED)}


def run(step: Step, limit: float, rehearse: bool, record: Record) -> str:
    """Run one step for at most `limit` seconds, record its results, and return how it ended."""
    arguments = step.arguments or ("-m", "benchmarks.tools.gpu_steps", step.name)
    begin, count = time.monotonic(), 0
    with _process(arguments, rehearse) as (process, reported, said):

        def relay() -> None:
            nonlocal count
            for line in reported:
                if line.endswith("\n"):  # a killed process may leave a partial last line
                    record(step.name, json.loads(line))
                    count += 1

        reader = threading.Thread(target=relay, daemon=True)
        reader.start()
        try:
            how = FAILED if process.wait(limit) else DONE
        except subprocess.TimeoutExpired:
            how = LIMIT
        _kill(process)
        reader.join(FEWEST_SECONDS)
        said.seek(0)
        text = said.read()
    ending: dict[str, Any] = {"ended": how, "seconds": round(time.monotonic() - begin, 1)}
    if how != DONE:
        ending |= {"code": process.returncode, "said": text[-TAIL:]}
        print(text[-TAIL:])
    record(step.name, ending)
    print(f"{step.name}: {how} after {ending['seconds']} s, {count} results", flush=True)
    return how


@contextlib.contextmanager
def _process(
    arguments: Sequence[str], rehearse: bool
) -> Iterator[tuple[subprocess.Popen[bytes], TextIO, TextIO]]:
    """Start a process in its own session; yield it, its results and its other output."""
    reading, writing = os.pipe()
    environment = {**os.environ, "RESULTS_TO": str(writing)}
    if rehearse:
        environment |= {"REHEARSES": "1", "TRITON_INTERPRET": "1"}
    with tempfile.TemporaryFile("w+", errors="replace") as said, open(reading) as reported:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            pass_fds=[writing],
            start_new_session=True,
        )
        os.close(writing)
        try:
            yield process, reported, said
        finally:
            _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and all processes that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _parse(given: Sequence[str] | None, names: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tools.gpu", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--steps", help=f"which, of {', '.join(names)}; all unless given")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="of all steps together")
    parser.add_argument("--resume", action="store_true", help="leave out what has ended before")
    parser.add_argument("--rehearse", action="store_true", help="the smallest form of each step")
    parser.add_argument("--out", type=Path, help="file of results; one for each device by default")
    asked = parser.parse_args(given)
    asked.steps = asked.steps.split(",") if asked.steps else names
    if unknown := set(asked.steps) - set(names):
        parser.error(f"--steps must be of {names}, got {sorted(unknown)}")
    if not asked.minutes > 0:
        parser.error(f"--minutes must be positive, got {asked.minutes}")
    return asked


def _device(rehearse: bool) -> str:
    """Return the GPU's name; a child process asks, so that this one uses no GPU memory."""
    script = "from torch import cuda; print(cuda.get_device_name() if cuda.is_available() else '')"
    name = subprocess.check_output([sys.executable, "-c", script], text=True).strip()
    if not name and not rehearse:
        sys.exit("no GPU that this torch can use was found: nothing measured; see --rehearse")
    return name or "cpu"


def _commit() -> str:
    """Return git's name of this commit, or a hash of the sources if git has none for this state."""
    command = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    with contextlib.suppress(OSError):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode == 0 and not done.stdout.strip().endswith("-dirty"):
            return done.stdout.strip()
    sums = hashlib.sha256()
    for path in sorted(path for name in SOURCES for path in (ROOT / name).rglob("*")):
        if path.suffix in (".py", ".cpp", ".cu", ".h"):
            sums.update(path.read_bytes())
    return f"sources-{sums.hexdigest()[:12]}"


if __name__ == "__main__":
    sys.exit(main())
