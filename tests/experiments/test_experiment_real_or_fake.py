"""Tests of `python -m experiments real-or-fake`: its draws, and the page that it writes."""

import json
import re

import pytest
from PIL import Image

from pixelsr import GatedPixelCNN
from tests.support.command_cases import tiny
from tests.support.experiment_cases import read_results, run
from tests.support.study_cases import NAME, PAIRS, SIDE, decode, make_study


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("study"))


def test_the_study_holds_what_the_model_drew(folder):
    made = read_results(folder / "out", NAME)
    settings = made["settings"]
    assert settings["images"] == [0, 1, 3, 4]  # of 6, evenly spread
    assert (settings["size"], settings["small_size"], settings["model"]) == (SIDE, 8, "<model>")
    text = (folder / "out" / f"{NAME}.html").read_text()
    study = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    assert len(study["pairs"]) == PAIRS
    for pair in study["pairs"]:
        sizes = {name: decode(pair[name]).size for name in ("input", "sample", "photo")}
        assert sizes == {"input": (8, 8), "sample": (SIDE, SIDE), "photo": (SIDE, SIDE)}
    photo = decode(study["pairs"][2]["photo"])
    assert photo.tobytes() == Image.open(folder / "faces" / "val" / "3.png").tobytes()
    with Image.open(folder / "out" / f"{NAME}.png") as sheet:
        assert sheet.width > 500


def test_the_page_names_no_other_place(folder):
    text = (folder / "out" / f"{NAME}.html").read_text()
    assert not re.findall(r"https?:|//[a-z]|@import|url\(", re.sub(r'base64,[^"]*', "", text))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("prior", "holds a GatedPixelCNN, expected a PixelRecursiveSR"),
        ("gray", "has 1 colors, expected 3, as a photo has"),
        ("large", "holds no image of at least 32x32 pixels"),
        ("odd", "expected a multiple of its scale factor, 2"),
        ("none", "no model folder"),
    ],
)
def test_a_model_that_does_not_fit_is_one_sentence(folder, tmp_path, model, message):
    models = {
        "prior": lambda: GatedPixelCNN(channels=4, layers=1, head_channels=8),
        "gray": lambda: tiny(colors=1),
        "large": lambda: tiny(4),
        "odd": tiny,
    }
    if model in models:
        models[model]().save_pretrained(tmp_path / model)
    if model == "odd":
        (tmp_path / model / "training.toml").write_text("size = 15\n")
    result = run(NAME, "--data", folder, "--out", tmp_path / "o", "--model", tmp_path / model)
    assert result.exit_code == 1
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "o" / f"{NAME}.html").exists()
