"""Tests of validations, which come after their step's checkpoint, also in a run that is killed."""

import json

import pytest
from safetensors.torch import load_file

from pixelsr.training import Budget, Intervals, bits_per_dimension
from pixelsr.training.checkpoint import read_checkpoint
from pixelsr.utils.distributed import Workers
from tests.support.training_cases import (
    CHECKPOINT,
    CONFIG,
    make_trainer,
    random_images,
    small_model,
)

VALIDATING = {"validation": random_images(5, seed=1), "intervals": Intervals(1, 2, 100), "grid": 1}


def outcome(out):
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    validations = [(e["step"], e["validation"]) for e in entries if "validation" in e]
    tensors, facts = read_checkpoint(out / CHECKPOINT)
    model = load_file(out / "model" / "model.safetensors")
    sums = {name: tensor.double().sum().item() for name, tensor in (tensors | model).items()}
    return validations, facts["step"], facts["best"], sums


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the outcome of an uninterrupted run of 7 steps."""
    out = tmp_path_factory.mktemp("whole")
    make_trainer(out, 7, **VALIDATING).run()
    return outcome(out)


@pytest.mark.parametrize("where", ["begin", "batch", "log", "model", "grid"])
@pytest.mark.parametrize("step", [4, 7])
def test_a_run_killed_in_a_validation_goes_on_as_if_it_were_not(
    whole, tmp_path, monkeypatch, where, step
):
    """Kill a run in the validation of step 4, due by interval, or of the last step, 7."""
    trainer = make_trainer(tmp_path / "parts", 7, **VALIDATING)

    def killed_after(act):
        def acted(*arguments, **options):
            if trainer.state.step < step:
                return act(*arguments, **options)
            act(*arguments, **options)
            raise KeyboardInterrupt

        return acted

    of, name = {
        "begin": (trainer, "_save"),
        "batch": (trainer, "_advance_validation"),
        "log": (trainer.files, "write_log"),
        "model": (trainer.files, "save_model"),
        "grid": (trainer.files, "save_grid"),
    }[where]
    if where == "log":  # the training metrics, before the checkpoint
        write = trainer.files.write_log
        kill = killed_after(write)
        act = lambda **entry: (kill if "validation" in entry else write)(**entry)  # noqa: E731
        monkeypatch.setattr(trainer.files, "write_log", act)
    else:
        monkeypatch.setattr(of, name, killed_after(getattr(of, name)))
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert read_checkpoint(tmp_path / "parts" / CHECKPOINT)[1]["step"] == step
    make_trainer(tmp_path / "parts", 7, resume=True, **VALIDATING).run()
    assert outcome(tmp_path / "parts") == whole


def test_a_stop_ends_a_validation_at_once(whole, tmp_path, monkeypatch):
    batches = []
    trainer = make_trainer(
        tmp_path / "parts", 7, stop=lambda: trainer.state.step == 4 and bool(batches), **VALIDATING
    )
    validate = trainer.display.validate

    def count(done):
        if trainer.state.step == 4:
            batches.append(done)
        validate(done)

    monkeypatch.setattr(trainer.display, "validate", count)
    assert not trainer.run()
    assert batches == [0.8]  # the first batch, 4 of 5 images
    assert not (tmp_path / "parts" / "samples" / "step-0000004.png").exists()
    make_trainer(tmp_path / "parts", 7, resume=True, **VALIDATING).run()
    assert outcome(tmp_path / "parts") == whole


def test_a_validation_counts_against_the_minutes(tmp_path, monkeypatch):
    seconds = [0.0]

    def clock():
        seconds[0] += 1e-3
        return seconds[0]

    monkeypatch.setattr("pixelsr.training.trainer.time.perf_counter", clock)

    def measure(*arguments):
        seconds[0] += 60
        return {"sum": 1.0}

    monkeypatch.setattr("pixelsr.training.trainer.bits_per_dimension", measure)
    trainer = make_trainer(
        tmp_path, 100, budget=Budget(steps=100, minutes=1), config=CONFIG, **VALIDATING
    )
    assert trainer.run()
    assert trainer.state.step == 2
    assert trainer.state.seconds == pytest.approx(60, abs=1)


def test_a_run_pauses_with_the_validation_of_its_last_step(whole, tmp_path):
    trainer = make_trainer(tmp_path / "parts", 7, pause=4, **VALIDATING)
    assert not trainer.run()
    assert (trainer.state.step, trainer.best.measured) == (4, 4)
    make_trainer(tmp_path / "parts", 7, resume=True, **VALIDATING).run()
    assert outcome(tmp_path / "parts") == whole


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_worker_advances_equally_often_in_a_validation(count):
    class Team(Workers):
        def gather(self, value):
            return [value]

    model, images = small_model(), random_images(5, seed=1)
    calls = []
    for rank in range(count):
        done = []
        bits_per_dimension(model, images, 2, Team(rank, count), done.append)
        calls.append(done)
    assert calls == [calls[0]] * count
    assert calls[0][-1] == 1
