"""Run one step: ``python -m benchmarks.tools.gpu_steps engine``."""

import importlib
import sys

importlib.import_module(f"benchmarks.tools.gpu_steps.{sys.argv[1]}").run()
