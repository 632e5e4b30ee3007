"""Tests that an installation without C++ kernels warns once, at the first use that needs them."""

import pytest

from tests.support.processes import run, script

SCRIPT = """
import warnings
import torch
import pixelsr

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    model = pixelsr.RowLSTM(channels=2, layers=1, head_channels=2, levels=2)
    model(torch.zeros(1, 3, 2, 2, dtype=torch.uint8))
    for _ in range(2):
        pixelsr.sample(model, image_size=(2, 2))
print(*(str(warning.message) for warning in caught), sep="\\n")
"""


@pytest.mark.parametrize(
    ("environment", "count"),
    [({"PIXELSR_EXTENSION": "/no/such/file.so"}, 1), ({"PIXELSR_NO_EXTENSION": "1"}, 0)],
)
def test_missing_kernels_are_said_once_unless_they_were_switched_off(environment, count):
    done = run(script, SCRIPT, environment=environment)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line]
    assert len(lines) == count
    assert all("without its C++ kernels, many times slower" in line for line in lines)


def test_what_was_not_built_names_the_command(monkeypatch):
    from pixelsr.ops import compiled

    monkeypatch.delenv("PIXELSR_NO_EXTENSION", raising=False)
    reason = compiled._load("pixelsr._none", "C++")
    assert "was not built; `pip install --no-build-isolation" in reason
