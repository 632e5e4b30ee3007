"""The time until the command line answers: help and usage errors, beside importing torch."""

import statistics
import subprocess
import sys
from functools import partial

import torch

from .turns import time_in_turns

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
    sides = {
        name: partial(subprocess.run, command, capture_output=True)
        for name, command in ANSWERS.items()
    }
    times = time_in_turns(benchmark, torch.device("cpu"), sides, ROUNDS)
    medians = {name: round(statistics.median(own), 3) for name, own in times.items()}
    benchmark.extra_info["seconds"] = medians
    print("\ncommand line:", medians)
