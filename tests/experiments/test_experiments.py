"""Tests of `python -m experiments`: the command, and the experiment `receptive-field`."""

import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from experiments import EXPERIMENTS, receptive_field
from experiments import __main__ as command
from experiments.support import digits
from tests.support.experiment_cases import read_results, write_mnist
from tests.support.experiment_cases import run as run_experiment

MAKEFILE = Path(__file__).parents[2] / "Makefile"
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


def results(out):
    return read_results(out, "receptive-field")


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


def test_an_interrupted_experiment_continues_to_the_same_results(data, tmp_path, monkeypatch):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    result = run("--data", data, "--out", whole, "--steps", 3)
    assert result.exit_code == 0, result.output
    assert "RowLSTM  step 3  validation" in result.stdout
    assert f"Done: results and plots are in {whole}." in result.stdout
    with monkeypatch.context() as patch:
        interrupt_after(18, patch)
        result = run("--data", data, "--out", broken, "--steps", 3)
        assert result.exit_code == 128, result.output
        assert f"Saved in {broken}: the same command continues." in result.stdout
        assert "test" not in results(broken)["models"]["PixelCNN"]
        assert (broken / "receptive-field.png").exists()
    result = run("--data", data, "--out", broken, "--steps", 3)
    assert result.exit_code == 0, result.output
    found = [results(out) for out in (whole, broken)]
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
    assert list(models) == list(receptive_field.CANDIDATES)
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
        (["--out", "{tmp}/full", "--data", "{data}"], "does not hold the results"),
    ],
    ids=["no data", "wrong data", "out is a file", "foreign results"],
)
def test_bad_input_is_one_sentence(data, tmp_path, arguments, message):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "receptive-field.json").write_text("[]")
    result = run(*(text.format(tmp=tmp_path, data=data) for text in arguments))
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.strip().splitlines()) == 1


def test_make_does_every_experiment():
    makefile = MAKEFILE.read_text().replace("\\\n", " ")
    names = re.search(r"addprefix experiment-,(.*?)\)", makefile)[1].split()
    assert names == list(EXPERIMENTS)


def test_an_experiment_runs_on_as_many_threads_as_its_option_says(tmp_path, monkeypatch):
    threads = []
    monkeypatch.setattr(
        command, "run", lambda name, config: not threads.append(torch.get_num_threads())
    )
    for count in (3, 1):
        result = run("--out", tmp_path, "--threads", count)
        assert result.exit_code == 0, result.output
    assert threads == [3, 1]
