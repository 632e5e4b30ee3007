"""The steps of `benchmarks.tools.gpu`: one module per step, each with a function `run`."""

import json
import os
from typing import Any

REHEARSES = os.environ.get("REHEARSES") == "1"
"""True if each step runs in its smallest form, on a CPU too."""


def report(**values: Any) -> None:
    """Report one result to `benchmarks.tools.gpu`, which records it, or to stdout."""
    with open(int(os.environ.get("RESULTS_TO", "1")), "w", closefd=False) as results:
        results.write(json.dumps(values) + "\n")
