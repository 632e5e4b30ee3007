"""What the README shows runs as it stands."""

import re
from pathlib import Path

import pytest
import torch

README = Path(__file__).parent.parent / "README.md"


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
    exec(code, names)  # the README's own lines
    assert names["images"].shape == (4, 3, 32, 32)
    assert torch.equal(names["whole"][:1][mask], names["upper"][mask])
    assert names["report"].blind == []
