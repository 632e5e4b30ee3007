"""Write pixelsr/ops/fastest.json, which "auto" chooses by, from the results of a GPU.

    python -m benchmarks.tools.fastest benchmarks/results/gpu/nvidia-h200.jsonl

The fastest backend of the masked convolution is the one that takes the least total time for the
paper's layers: forward and both gradients, in bfloat16.
"""

import json
import sys
from pathlib import Path
from typing import Any

from ..suites.bench_masked_conv import SHAPES
from .gpu_steps.convolutions import BACKENDS, FORWARD, TO_INPUT, TO_WEIGHT

TABLE = Path(__file__).parents[2] / "pixelsr" / "ops" / "fastest.json"
DTYPE = "bfloat16"
FURTHEST = 0.02
"""The largest relative distance from the dense side; a backend beyond it is wrong."""


def fastest_convolution(lines: list[dict[str, Any]]) -> str:
    """Return the backend that took the least total time.

    Raises:
        ValueError: a part of a layer was not measured, or a backend computes something else.
    """
    found = {(*line["layer"], line["what"]): line for line in lines}
    expected = {(*layer, part) for layer in SHAPES for part in (FORWARD, TO_INPUT, TO_WEIGHT)}
    if missing := expected - found.keys():
        raise ValueError(f"{len(missing)} of {len(expected)} parts of layers were not measured")
    right = [name for name in BACKENDS if all(_is_right(found[key], name) for key in expected)]
    if not right:
        raise ValueError(f"all of {list(BACKENDS)} are further than {FURTHEST} from the dense side")
    return min(right, key=lambda name: sum(found[key]["seconds"][name] for key in expected))


def _is_right(line: dict[str, Any], backend: str) -> bool:
    return line["from_dense"][backend] <= FURTHEST


def main(file: Path, table: Path = TABLE) -> None:
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    own = [line for line in lines if line["step"] == "convolutions" and line.get("dtype") == DTYPE]
    own = [line for line in own if line["commit"] == own[-1]["commit"]]
    try:
        best = fastest_convolution(own)
    except ValueError as error:
        sys.exit(f"{file}: {error}")
    known = json.loads(table.read_text())
    known.setdefault(own[-1]["device"], {})["masked_conv2d"] = best
    table.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
    print(f"{own[-1]['device']}: {best}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
