"""Imports run one way, from a short list of layers; a command's help imports no torch.

No test imports a module of other tests.
"""

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = (
    ("config", "errors", "utils", "kernels"),
    ("masks",),
    ("ops",),
    ("functional", "data"),
    ("nn", "analysis", "adapters"),
    ("models", "sampling"),
    ("training",),
    ("evaluation", "bench"),
    ("cli",),
)
"""Parts of `pixelsr`, the lowest first; a part imports only parts of lower layers."""
OF_SAMPLING = (("plan",), ("engines",), ("incremental",))
"""Folders of `pixelsr.sampling`, likewise."""
QUICK = [
    ["--help"],
    ["train", "--help"],
    ["enlarge"],
    ["sample", "--model"],
    ["enlarge", "x", "-o", "y", "--threads", "1", "--samples", "many"],
    ["complete", "x", "-o", "y", "--keep", "upper", "--mask", "m.png"],
    ["bench", "--batch", "none"],
]


def imported(path: Path, package: tuple[str, ...]):
    """Yield the absolute name, as parts, of each module or object that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = (*base, *(node.module.split(".") if node.module else ()))
            yield from ((*module, alias.name) for alias in node.names)


def upward(folder: Path, prefix: tuple[str, ...], layers) -> list[str]:
    """Return the imports of a package that do not go from a layer to a lower one."""
    layer_of = {part: number for number, layer in enumerate(layers) for part in layer}
    found = []
    for path in sorted(folder.rglob("*.py")):
        inner = path.relative_to(folder).with_suffix("").parts
        own = inner[0]
        if own not in layer_of:
            continue
        for name in imported(path, (*prefix, *inner[:-1])):
            is_ours = len(name) > len(prefix) and name[: len(prefix)] == prefix
            other = name[len(prefix)] if is_ours else own
            if other in layer_of and other != own and layer_of[other] >= layer_of[own]:
                found.append(f"{path.relative_to(ROOT)} imports {'.'.join(name)}")
    return found


def test_every_part_of_the_package_has_a_layer():
    parts = {path.stem for path in (ROOT / "pixelsr").iterdir() if path.suffix in ("", ".py")}
    known = {part for layer in LAYERS for part in layer}
    assert parts - {"__init__", "__main__", "__pycache__", "samples", "weights"} <= known


def test_imports_of_the_package_run_one_way():
    assert upward(ROOT / "pixelsr", ("pixelsr",), LAYERS) == []


def test_imports_of_sampling_run_one_way():
    assert upward(ROOT / "pixelsr" / "sampling", ("pixelsr", "sampling"), OF_SAMPLING) == []


def test_kernels_import_nothing_of_the_package():
    for path in (ROOT / "kernels").rglob("*.py"):
        package = ("kernels", *path.relative_to(ROOT / "kernels").parts[:-1])
        for name in imported(path, package):
            assert name[0] != "pixelsr", f"{path} imports {'.'.join(name)}"


def test_the_package_imports_nothing_from_outside_it():
    for path in (ROOT / "pixelsr").rglob("*.py"):
        for name in imported(path, ("pixelsr", *path.relative_to(ROOT / "pixelsr").parts[:-1])):
            assert name[0] not in ("kernels", "experiments", "benchmarks", "tests", "docs")


def test_no_test_module_is_imported():
    """Check that what several test files share is in tests/support or in a conftest.py."""
    found = []
    for path in (ROOT / "tests").rglob("*.py"):
        inner = path.relative_to(ROOT)
        for name in imported(path, inner.parts[:-1]):
            if name[0] == "tests" and any(part.startswith("test_") for part in name):
                found.append(f"{inner} imports {'.'.join(name)}")
    assert found == []


@pytest.mark.parametrize("arguments", QUICK, ids=" ".join)
def test_help_and_usage_errors_import_no_torch(arguments):
    check_answers_without_torch("from pixelsr.cli import main", arguments)


@pytest.mark.parametrize("arguments", [["--help"], ["faces"], ["none", "-o", "x"]], ids=" ".join)
def test_help_and_usage_errors_of_the_experiments_import_no_torch(arguments):
    check_answers_without_torch("from experiments.__main__ import experiment as main", arguments)


def check_answers_without_torch(command: str, arguments: list[str]) -> None:
    """Check that a command answers without torch, with the status of help or of a usage error."""
    script = (
        f"import sys\n{command}\n"
        f"try:\n    main({arguments!r})\n"
        "except SystemExit as end:\n    print(end.code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    status = 0 if "--help" in arguments else 2
    assert done.stdout.splitlines()[-1:] == [f"{status} False"], done.stderr


def test_help_takes_less_than_four_tenths_of_a_second():
    """The quickest of five, as other tests run at the same time."""

    def seconds() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "pixelsr", "--help"], check=True, stdout=-3)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(5)) < 0.4
