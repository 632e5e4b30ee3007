"""Tests of `python -m experiments`: from images to results, plots and a paragraph of the docs."""

import re
import runpy
from pathlib import Path

import pytest
import torch
from PIL import Image

from experiments import EXPERIMENTS, receptive_field, section
from experiments import __main__ as command
from experiments.support import digits
from tests.support.experiment_cases import figures as read_figures
from tests.support.experiment_cases import run as run_experiment
from tests.support.experiment_cases import write_mnist

DOCS = Path(__file__).parents[2] / "docs"
SIDE = 6
MODELS = ["PixelCNN", "RowLSTM", "DiagonalBiLSTM"]


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Make the images 6x6, and restore the number of threads."""
    for module in (digits, receptive_field):
        monkeypatch.setattr(module, "SIDE", SIDE)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def data(tmp_path):
    return write_mnist(tmp_path / "digits", SIDE)


def run(*arguments):
    return run_experiment("receptive-field", *arguments)


def figures(out):
    return read_figures(out, "receptive-field")


def interrupt_after(questions, monkeypatch):
    """Request a stop, as Ctrl-C does, after `questions` checks for one.

    Every model checks at each training step and at each batch of a validation.
    """

    class Impatient(command.Interrupt):
        asked = 0

        @property
        def requested(self):
            self.asked += 1
            return self.asked > questions

        @requested.setter
        def requested(self, value):
            pass

    monkeypatch.setattr(command, "Interrupt", Impatient)


def test_an_experiment_goes_on_after_an_interrupt_to_the_same_figures(data, tmp_path, monkeypatch):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    result = run("--data", data, "--out", whole, "--steps", 3)
    assert result.exit_code == 0, result.output
    assert "RowLSTM  step 3  validation" in result.stdout
    assert f"Done: figures and plots are in {whole}." in result.stdout
    with monkeypatch.context() as patch:
        interrupt_after(18, patch)
        result = run("--data", data, "--out", broken, "--steps", 3)
        assert result.exit_code == 128, result.output
        assert f"Saved in {broken}: the same command goes on." in result.stdout
        assert "test" not in figures(broken)["models"]["PixelCNN"]
        assert (broken / "receptive-field.png").exists()
    result = run("--data", data, "--out", broken, "--steps", 3)
    assert result.exit_code == 0, result.output
    found = [figures(out) for out in (whole, broken)]
    for facts in (facts for one in found for facts in one["models"].values()):
        assert facts.pop("seconds") >= 0
        del facts["images_per_second"]  # not measured in fewer than 50 steps
        assert [step for step, _ in facts["held_out"]] == [1, 2, 3]
        assert all(0 < nll < 2 * SIDE * SIDE for _, nll in facts["held_out"])
    assert found[0] == found[1]
    for name in ("receptive-field", "receptive-field-samples"):
        with Image.open(whole / f"{name}.png") as plot:
            assert plot.width > 500
        assert (whole / f"{name}.png").stat().st_size < 100_000
    result = run("--data", data, "--out", broken, "--steps", 4)
    assert result.exit_code == 1
    assert "is of another run: steps was 3, now it is 4; choose another folder" in result.stderr


def test_the_models_are_of_equal_parameter_count_and_see_the_same_images():
    models = {name: receptive_field.make(name) for name in MODELS}
    counts = [receptive_field.live_parameters(model) for model in models.values()]
    assert max(counts) <= 1.03 * min(counts)
    assert list(models) == list(receptive_field.CONTESTANTS)
    recurrent = [models[name].config for name in MODELS[1:]]
    assert [config.layers for config in recurrent] == [7, 7]
    assert recurrent[1].channels == 16  # the paper's number


def test_live_parameters_are_those_that_the_loss_reaches():
    model = receptive_field.make("PixelCNN")
    images = torch.randint(2, (8, 1, 12, 12), dtype=torch.uint8)
    model.nll(images).sum().backward()
    reached = sum(int((weight.grad != 0).sum()) for weight in model.parameters())
    live = receptive_field.live_parameters(model)
    assert 0.97 * live < reached <= live


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "{tmp}/out"], "receptive-field needs --data"),
        (["--out", "{tmp}/out", "--data", "{tmp}/none"], "expected the idx files of MNIST"),
        (["--out", "{data}/train-images-idx3-ubyte", "--data", "{data}"], "is a file, expected"),
        (["--out", "{tmp}/full", "--data", "{data}"], "does not hold the figures"),
    ],
    ids=["no data", "wrong data", "out is a file", "foreign figures"],
)
def test_bad_input_is_one_sentence(data, tmp_path, arguments, message):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "receptive-field.json").write_text("[]")
    result = run(*(text.format(tmp=tmp_path, data=data) for text in arguments))
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_section_tells_whether_the_order_is_the_papers():
    costs = {"parameters": 64_000, "seconds": 600.0, "images_per_second": 123.4}
    shared = costs | {"less_than_first": 1.5, "standard_error": 0.1}
    recipe = {"batch": 16, "optimizer": "adamw", "lr": 0.004, "warmup": 200, "floor": 0}
    recipe |= {"clip": 1, "ema": 0.99, "schedule": "cosine"}
    made = {
        "experiment": "receptive-field",
        "settings": {
            "scale": "small",
            "steps": 6000,
            "recipe": recipe,
            "training_images": 50_000,
            "held_out_images": 1000,
            "test_images": 10_000,
            "binarization": "once",
            "checksum": "0a",
        },
        "machine": {"device": "a machine", "threads": 2, "torch": "2"},
        "models": {name: shared | {"test": 90.0 - k} for k, name in enumerate(MODELS)},
    }
    text = section("receptive-field", made)
    assert "as in the paper: the wider receptive field wins here too" in text
    assert (
        "| Row LSTM | a triangle above | 64,000 | 89.00 | 1.50 ± 0.10 | 80.54 | 10 | 123 |" in text
    )
    assert "1.9 passes over 50,000 training images" in text
    made["models"]["PixelCNN"]["test"] = 80
    assert "which is not the paper's order" in section("receptive-field", made)


def test_the_page_of_results_is_made_from_the_figures():
    page = (DOCS / "results.md").read_text()
    made = runpy.run_path(str(DOCS / "results.py"))
    assert page == made["page"](page), "python -m docs.results writes it anew"
    for name in EXPERIMENTS:
        assert made["between"](name).search(page)
    for image in re.findall(r"\]\((results/[^)]+)\)", page):
        assert (DOCS / image).is_file()


def test_make_does_every_experiment():
    makefile = (DOCS.parent / "Makefile").read_text().replace("\\\n", " ")
    names = re.search(r"addprefix experiment-,(.*?)\)", makefile)[1].split()
    assert names == list(EXPERIMENTS)
