"""The operators of the C++ engine: they exist where the compiled kernels do."""

import torch

from .library import LIBRARY

LIBRARY.define(
    "run_plan_(Tensor program, Tensor weights, Tensor constants, Tensor(a!) storage, Tensor values,"
    " Tensor(b!) images, Tensor known_mask, Tensor unknown, Tensor last_and_stop,"
    " Tensor(c!) cursor, int seed, int first_index, float temperature, bool draw, int first_col,"
    " int cols, int rows, int threads, int session) -> ()"
)
LIBRARY.define(
    "run_cells_(Tensor program, Tensor constants, Tensor(a!) storage, Tensor cells, Tensor places)"
    " -> ()"
)
LIBRARY.define("forget_session(int session) -> ()")
LIBRARY.define("instruction_set() -> str")

for _name in ("run_plan_", "run_cells_"):  # they write into what they are given, and return nothing
    torch.library.register_fake(f"pixelsr::{_name}", lambda *arguments: None, lib=LIBRARY)
