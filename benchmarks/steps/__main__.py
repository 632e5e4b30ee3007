"""Runs one step: ``python -m benchmarks.steps engine``."""

import importlib
import sys

importlib.import_module(f"benchmarks.steps.{sys.argv[1]}").run()
