"""Tests that the README's code runs unchanged."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch

from benchmarks.tools import report
from pixelsr.bench.report import CROPPED
from tests.support.bench_cases import figure, growth
from tests.support.bench_cases import report as speeds

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.slow
def test_the_python_of_the_readme_runs():
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    mask = torch.zeros(1, 3, 32, 32, dtype=torch.bool)
    mask[:, :, :28] = True
    names = {
        "low_res": torch.randint(256, (1, 3, 8, 8), dtype=torch.uint8),
        "upper": torch.randint(256, (1, 3, 32, 32), dtype=torch.uint8),
        "mask": mask,
    }
    exec(code, names)  # runs the code of the README
    assert names["images"].shape == (4, 3, 32, 32)
    assert torch.equal(names["whole"][:1][mask], names["upper"][mask])
    assert names["report"].blind == []


def test_the_figures_are_made_from_the_results():
    """Check that `python -m benchmarks.tools.report` would write the same results and plots."""
    _, rest = README.read_text().split(report.BEGIN)
    shown, _ = rest.split(report.END)
    files = report.result_files()
    assert files, "make bench writes them"
    assert shown == f"\n{report.results(files)}\n"
    for file in files:
        assert (README.parent / report.plot_of(file)).is_file()


def test_a_table_has_a_row_for_each_engine_and_the_ratios_of_the_report(tmp_path):
    made = speeds(growth=(growth(), dataclasses.replace(growth(), weights="model")))
    forward = [figure(CROPPED, batch=batch, scale=0.1) for batch in made.batches]
    made = dataclasses.replace(made, results=(*made.results, *forward))
    results = [
        {"name": "other"},
        {"name": "test_sampling", "extra_info": {"report": made.as_json()}},
    ]
    file = tmp_path / "cpu.json"
    file.write_text(json.dumps({"benchmarks": results}))
    text = report.results([file])
    assert f"({made.machine['threads']} threads, torch {torch.__version__}, 2026-01-02)" in text
    for batch in (4, 1):
        assert f"| {batch} | `cpu` | 3.00 | 900 times faster | 50 times faster |\n" in text
        assert f"| {batch} | a forward pass, cropped | 0.30 | | |\n" in text
    (growths,) = re.findall(r"With .*", text)
    assert growths.startswith("With `cpu`, a pixel of a 16x16 image takes 1.38 times as long")
    assert "(docs/images/speed-cpu.png)" in text
    assert "NetKet" not in text
    report.netket_file(file).parent.mkdir()
    task = {"samples": 16, "side": 28}
    ratios = [{"engine": "cpu", "ratio": 0.251}, {"engine": "reference", "ratio": 2.0}]
    found = {"task": task, "versions": {"netket": "3.23.0"}, "results": ratios}
    report.netket_file(file).write_text(json.dumps(found))
    assert "`cpu` is 4 times faster than NetKet" in report.results([file])
