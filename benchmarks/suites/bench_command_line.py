"""The time until the command line answers: help and usage errors, beside importing torch."""

import statistics
import subprocess
import sys
import time

COMMAND = (sys.executable, "-m", "pixelsr")
ANSWERS = {
    "pixelsr --help": (*COMMAND, "--help"),
    "pixelsr train --help": (*COMMAND, "train", "--help"),
    "pixelsr enlarge, a missing argument": (*COMMAND, "enlarge"),
    "pixelsr train, no end": (*COMMAND, "train", "x", "-o", "y", "--threads", "1"),
    "import torch": (sys.executable, "-c", "import torch"),
}
ROUNDS = 9


def test_the_command_line_answers(benchmark) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in ANSWERS}

    def measure_each() -> None:
        for name, command in ANSWERS.items():
            start = time.perf_counter()
            subprocess.run(command, capture_output=True)
            seconds[name].append(time.perf_counter() - start)

    benchmark.pedantic(measure_each, rounds=ROUNDS, warmup_rounds=1)
    medians = {name: round(statistics.median(times[1:]), 3) for name, times in seconds.items()}
    benchmark.extra_info["seconds"] = medians
    print("\ncommand line:", medians)
