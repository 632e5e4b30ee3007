"""Tests of the docs: links resolve, code runs, and the commands' pages equal their help."""

import re
import shlex
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from docs.commands import pages
from pixelsr.cli import COMMANDS, main
from pixelsr.data.crop import from_tensor
from tests.support.training_cases import random_images

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted(ROOT.glob("docs/**/*.md")),
    *sorted(ROOT.glob("pixelsr/**/*.md")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_that_are_there(page):
    links = re.findall(r"\]\(([^):#]+)\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_page_of_a_command_is_its_help():
    folder = ROOT / "docs" / "commands"
    kept = {page.stem: page.read_text() for page in folder.glob("*.md")}
    assert kept == pages(), "make docs writes the pages anew"


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """Create a folder with the files that the examples name, and change to it."""
    (tmp_path / "photos").mkdir()
    image = from_tensor(random_images(1, side=40)[0])
    image.save(tmp_path / "photos" / "you.png")
    image.save(tmp_path / "me.jpg")
    mask = Image.new("L", image.size)
    mask.paste(255, (9, 9, 19, 13))
    mask.save(tmp_path / "scratch.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def examples(name):
    """Return the arguments of each example in the help of a command."""
    shown = CliRunner().invoke(main, [name, "--help"]).stdout
    lines = [line.strip() for line in shown.partition("Examples:")[2].splitlines()]
    return [shlex.split(line)[1:] for line in lines if line]


@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_of_a_command_are_understood(name):
    found = examples(name)
    assert found
    for command, *arguments in found:
        assert command == name
        main.get_command(None, name).make_context(name, arguments)


@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize("name", ["enlarge", "complete"])
def test_the_examples_that_need_no_model_of_ones_own_run(name):
    for arguments in examples(name):
        if "--model" not in arguments:
            result = CliRunner().invoke(main, arguments)
            assert result.exit_code == 0, result.output


@pytest.mark.parametrize("page", ["training", "own-network"])
def test_the_python_of_a_page_runs(page, tmp_path, capsys):
    for k, image in enumerate(random_images(4, side=16)):
        from_tensor(image).save(tmp_path / f"{k}.png")
    text = (ROOT / "docs" / f"{page}.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names = {"folder": tmp_path, "out": tmp_path / "run", "steps": 1}
    exec(code, names)  # runs the code of the page
    if page == "training":
        assert names["drawn"].shape == (4, 3, 16, 16)
    else:
        assert "read color 0 of their own pixel" in capsys.readouterr().out
        known = names["upper"].expand(4, -1, -1, -1)
        assert torch.equal(names["whole"][known], names["images"][:1].expand(4, -1, -1, -1)[known])
        assert names["logits"].shape == (4, 256)
