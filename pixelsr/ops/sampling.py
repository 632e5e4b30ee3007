"""The schemas of the C++ and CUDA engines' operators, which only the compiled kernels implement."""

import torch

from .registry import LIBRARY

LIBRARY.define(
    "run_plan_(Tensor program, Tensor weights, Tensor constants, Tensor(a!) storage, Tensor values,"
    " Tensor(b!) images, Tensor(c!) logits, Tensor known_mask, Tensor unknown,"
    " Tensor last_and_stop, Tensor(d!) cursor, Tensor(e!) faults, int seed, int first_index,"
    " float temperature, bool draw, int first_col, int cols, int rows, int threads, int session)"
    " -> ()"
)
LIBRARY.define(
    "run_cells_(Tensor program, Tensor constants, Tensor(a!) storage, Tensor cells, Tensor places)"
    " -> ()"
)
LIBRARY.define(
    "run_tiles_(Tensor program, Tensor table, Tensor(a!) storage, Tensor values, Tensor(b!) images,"
    " Tensor known_mask, Tensor unknown, Tensor last_and_stop, Tensor(c!) logits, Tensor(d!) ticks,"
    " Tensor(e!) faults, int row, int col, int color, int rows, int first_col, int cols, int seed,"
    " int first_index, float temperature, bool draws, int first_tile, int tiles, int operand,"
    " int tiles_of_8, int cluster_size, int shared) -> ()"
)
LIBRARY.define(
    "clusters_at_once(Tensor where, int operand, int tiles_of_8, int cluster_size, int shared)"
    " -> int"
)
LIBRARY.define("forget_session(int session) -> ()")
LIBRARY.define("instruction_set() -> str")

# These operators write into their arguments and return nothing.
for _name in ("run_plan_", "run_cells_", "run_tiles_"):
    torch.library.register_fake(f"pixelsr::{_name}", lambda *arguments: None, lib=LIBRARY)
