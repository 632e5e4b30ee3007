import dataclasses
import json
import math
import os
import re
import signal

import pytest
import torch
from safetensors.torch import load_file, save_file

import pixelsr
from pixelsr.data.binarize import binarize
from pixelsr.data.downsample import area_average
from pixelsr.training import Budget, Intervals, RunDir, Trainer, TrainingConfig, bits_per_dimension
from pixelsr.training import checkpoint as checkpoints
from pixelsr.training.data_order import DataOrder
from pixelsr.training.loss import TrainingLoss
from pixelsr.training.optimizer import learning_rate
from pixelsr.training.progress import Display
from pixelsr.training.state import Ema
from pixelsr.utils.atomic_write import write_whole
from pixelsr.utils.signals import Interrupt
from tests.support.training_cases import (
    CHECKPOINT,
    CONFIG,
    make_trainer,
    random_images,
    small_model,
    stop_at,
)

pytestmark = pytest.mark.usefixtures("one_thread")


# Batches.


def test_the_batch_of_a_step_depends_on_nothing_but_seed_and_step():
    images = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1).expand(10, 1, 2, 2)
    walked = DataOrder(images, 3, seed=5, flip=True)
    in_order = [walked[step] for step in range(9)]
    for step in (8, 0, 4, 7, 3):
        assert torch.equal(DataOrder(images, 3, seed=5, flip=True)[step], in_order[step])


def test_each_epoch_is_a_permutation_of_its_own():
    batches = DataOrder(torch.arange(12, dtype=torch.uint8).view(12, 1, 1, 1), 4, 0, flip=False)
    epochs = [
        torch.cat([batches[3 * epoch + k] for k in range(3)]).flatten().tolist()
        for epoch in range(3)
    ]
    for epoch in epochs:
        assert sorted(epoch) == list(range(12))
    assert len({tuple(epoch) for epoch in epochs}) == 3
    other = DataOrder(torch.arange(12, dtype=torch.uint8).view(12, 1, 1, 1), 4, 1, flip=False)
    assert torch.cat([other[k] for k in range(3)]).flatten().tolist() != epochs[0]


def test_about_half_of_the_images_are_mirrored():
    image = torch.tensor([0, 1], dtype=torch.uint8).view(1, 1, 1, 2)
    batch = DataOrder(image.expand(400, 1, 1, 2), 400, 0, flip=True)[0]
    mirrored = (batch[:, 0, 0, 0] == 1).sum().item()
    assert 150 < mirrored < 250
    assert torch.equal(batch[:, 0, 0, 0], 1 - batch[:, 0, 0, 1])
    plain = DataOrder(image.expand(400, 1, 1, 2), 400, 0, flip=False)[0]
    assert torch.equal(plain, image.expand(400, 1, 1, 2))


def test_a_batch_larger_than_the_set_is_the_whole_set():
    batches = DataOrder(random_images(3), 16, 0, flip=False)
    assert len(batches[0]) == len(batches[5]) == 3


# Two levels.


def bright(n, seed=0):
    return 28 * random_images(n, seed)  # 0 to 252


def test_a_model_of_two_levels_is_trained_on_and_validated_with_what_is_chosen(tmp_path):
    weights, logs = {}, {}
    for name, images, held_out, choice in (
        ("drawn", binarize(bright(10)), binarize(bright(6, 1)), None),
        ("bernoulli", bright(10), bright(6, 1), "bernoulli"),
        ("threshold", bright(10), bright(6, 1), "threshold"),
    ):
        config = dataclasses.replace(CONFIG, binarize=choice)
        files = RunDir(tmp_path / name)
        Trainer(
            small_model(2), images, held_out, files, config, Budget(3), Intervals(log=1), Display()
        ).run()
        weights[name] = load_file(tmp_path / name / "model" / "model.safetensors")
        lines = (tmp_path / name / "log.jsonl").read_text().splitlines()
        logs[name] = [
            json.loads(line)[key]
            for line in lines
            for key in ("train", "validation")
            if key in json.loads(line)
        ]
    assert logs["drawn"] == logs["bernoulli"] != logs["threshold"]
    for key, tensor in weights["drawn"].items():
        assert torch.equal(tensor, weights["bernoulli"][key])
    with pytest.raises(ValueError, match=r"to threshold .* or to bernoulli"):
        make_trainer(tmp_path / "none", 1, model=small_model(2), validation=bright(2))
    make_trainer(
        tmp_path / "none", 1, model=small_model(2), config=config
    )  # nobody locks the folder


# Schedule, average and loss.


def test_the_learning_rate_rises_then_falls_to_the_floor():
    config = TrainingConfig(lr=1.0, warmup=4, floor=0.03)
    assert [learning_rate(config, step, 0.0) for step in range(5)] == [0.25, 0.5, 0.75, 1, 1]
    assert learning_rate(config, 50, 0.5) == pytest.approx(0.515)
    assert learning_rate(config, 100, 1.0) == pytest.approx(0.03)
    assert learning_rate(TrainingConfig(lr=1.0, warmup=0), 0, 0.0) == 1.0


def test_the_budget_is_used_by_what_comes_first():
    assert Budget(steps=10, minutes=1).used(2, 30) == 0.5
    assert Budget(steps=10, minutes=1).used(8, 30) == 0.8
    assert Budget(minutes=0.5).used(1000, 60) == 1.0
    assert Budget(steps=10).used(5, 1e9) == 0.5


def test_the_average_follows_the_weights():
    model = small_model()
    average = Ema(model, decay=0.75)
    before = [weight.clone() for weight in average.model.parameters()]
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(1)
    average.update(model, step=1000)
    for now, was in zip(average.model.parameters(), before, strict=True):
        torch.testing.assert_close(now, was + 0.25)


def test_the_loss_is_the_models_own_by_the_value():
    model, images = small_model(), random_images(4)
    expected = model.loss(images, area_average(images, 2)) / (3 * 8 * 8)
    torch.testing.assert_close(TrainingLoss(model)(images).sum(), expected)


def test_bits_per_dimension_of_a_prior_that_knows_nothing_are_log2_of_the_levels():
    model = pixelsr.GatedPixelCNN(channels=3, layers=1, head_channels=6, levels=32)
    torch.nn.init.zeros_(model.head.out.weight)
    torch.nn.init.zeros_(model.head.out.bias)
    bits = bits_per_dimension(model, random_images(3), batch=2)
    assert bits == {"model": pytest.approx(5, abs=1e-6)}


def test_bits_per_dimension_do_not_depend_on_the_batch():
    model, images = small_model(), random_images(5)
    one, all_at_once = (bits_per_dimension(model, images, batch) for batch in (1, 5))
    assert list(one) == ["sum", "conditioning", "prior"]
    assert one == pytest.approx(all_at_once, rel=1e-6)
    low_res = area_average(images, 2)
    nll = torch.nn.functional.cross_entropy(model(images, low_res), images.long())
    assert one["sum"] == pytest.approx(nll.item() / math.log(2), rel=1e-6)
    assert model.training


# Runs.


@pytest.mark.parametrize("name", ["PixelRecursiveSR", "GatedPixelCNN", "PixelCNN"])
def test_training_learns(tmp_path, name):
    torch.manual_seed(0)
    sizes = {"channels": 6, "layers": 2, "kernel_size": 3, "head_channels": 12}
    model = small_model() if name == "PixelRecursiveSR" else getattr(pixelsr, name)(**sizes)
    trainer = make_trainer(tmp_path, 60, model=model, validation=random_images(4, seed=1))
    first = next(iter(bits_per_dimension(model, random_images(4, seed=1), 4).values()))
    assert trainer.run()
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries if "train" in entry] == list(range(2, 61, 2))
    measured = next(iter(entries[-1]["validation"].values()))
    assert measured < first - 2
    trained = type(model).from_pretrained(tmp_path / "model")
    again = next(iter(bits_per_dimension(trained, random_images(4, seed=1), 4).values()))
    assert again == pytest.approx(measured, rel=1e-6)


def test_a_resumed_run_gives_the_same_weights_as_one_never_stopped(tmp_path):
    # 10 images in batches of 4 are 2 steps per epoch, so step 5 is in the middle of an epoch.
    whole = make_trainer(tmp_path / "whole", 8)
    assert whole.run()
    assert not make_trainer(tmp_path / "parts", 8, stop=stop_at(5)).run()
    resumed = make_trainer(tmp_path / "parts", 8, resume=True)
    assert resumed.state.step == 5
    assert resumed.run()
    expected, got = whole.state.tensors(), resumed.state.tensors()
    assert expected.keys() == got.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, got[name]), name
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "parts")]
    whole_train, parts_train = (
        [entry["train"] for entry in map(json.loads, log.splitlines())] for log in logs
    )
    assert parts_train == whole_train  # step 6: a mean of one step before the stop, one after
    saved = load_file(tmp_path / "parts" / "model" / "model.safetensors")
    for name, tensor in saved.items():
        assert torch.equal(tensor, expected[f"ema.{name}"]), name


def test_time_goes_on_where_it_stopped(tmp_path):
    make_trainer(tmp_path, 4, stop=stop_at(2)).run()
    tensors, facts = checkpoints.read_checkpoint(tmp_path / CHECKPOINT)
    assert 0 < facts["seconds"] < 60
    checkpoints.write_checkpoint(tmp_path / CHECKPOINT, tensors, facts | {"seconds": 1000.0})
    resumed = make_trainer(tmp_path, 4, resume=True)
    resumed.run()
    assert 1000 < resumed.state.seconds < 1060


def test_minutes_end_a_run(tmp_path, monkeypatch):
    seconds = iter(range(1000))
    monkeypatch.setattr("time.perf_counter", lambda: next(seconds))
    trainer = make_trainer(tmp_path, 1000, budget=Budget(minutes=0.5))
    rates = []
    advance = trainer.state.advance
    monkeypatch.setattr(
        trainer.state, "advance", lambda parts, lr: (rates.append(lr), advance(parts, lr))[1]
    )
    assert trainer.run()
    assert 30 <= trainer.state.seconds < 32
    assert trainer.state.step == len(rates) > 10
    assert max(rates) > 5 * rates[-1]


def test_the_log_of_a_lost_stretch_is_cut_off(tmp_path):
    make_trainer(tmp_path, 8, stop=stop_at(4)).run()
    log = tmp_path / "log.jsonl"
    kept = log.read_text()
    log.write_text(kept + '{"step": 6, "train": 1.0}\n{"step": 8, "tr')
    make_trainer(tmp_path, 8, resume=True)
    assert log.read_text() == kept


@pytest.mark.parametrize("line", ['{"train": 1.0}', "7", '{"step": "two"}'])
def test_a_log_that_is_none_of_ours_is_named_and_kept(tmp_path, line):
    make_trainer(tmp_path, 8, stop=stop_at(4)).run()
    log = tmp_path / "log.jsonl"
    log.write_text(foreign := log.read_text() + line + "\n")
    with pytest.raises(
        ValueError, match=r'log\.jsonl .* line without a "step": ' + re.escape(line)
    ):
        make_trainer(tmp_path, 8, resume=True)
    assert log.read_text() == foreign


def test_checkpoints_and_models_come_at_their_intervals(tmp_path, monkeypatch):
    saved, validated = [], []
    trainer = make_trainer(tmp_path, 7, intervals=Intervals(log=1, validate=3, checkpoint=2))
    save, validate = trainer._save, trainer._validate
    monkeypatch.setattr(trainer, "_save", lambda: (saved.append(trainer.state.step), save()))
    monkeypatch.setattr(
        trainer, "_validate", lambda: (validated.append(trainer.state.step), validate())
    )
    trainer.run()
    assert saved == [2, 3, 4, 6, 7, 7]  # the last one includes the last validation's result
    assert validated == [3, 6, 7]


# Errors.


def test_a_nan_loss_stops_and_keeps_the_last_good_checkpoint(tmp_path):
    trainer = make_trainer(tmp_path, 8, intervals=Intervals(log=1, validate=100, checkpoint=2))
    trainer.stop = lambda: trainer.state.step == 3 and _poison(trainer.state.model)
    with pytest.raises(FloatingPointError, match=r"loss became nan after 3 steps.*last good state"):
        trainer.run()
    tensors, facts = checkpoints.read_checkpoint(tmp_path / CHECKPOINT)
    assert facts["step"] == 2
    assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_a_checkpoint_is_never_of_a_state_that_no_step_can_be_taken_from(tmp_path):
    intervals = Intervals(log=1, validate=100, checkpoint=1)
    trainer = make_trainer(tmp_path, 8, intervals=intervals)
    advance = trainer.state.advance
    trainer.state.advance = lambda parts, lr: advance(parts, lr if trainer.state.step < 3 else 1e3)
    with pytest.raises(FloatingPointError, match=r"gradient became inf after 4 .*last good state"):
        trainer.run()
    resumed = make_trainer(tmp_path, 4, resume=True)
    assert resumed.state.step == 3
    assert resumed.run()


def test_neither_a_checkpoint_nor_a_model_is_saved_of_a_bad_last_step(tmp_path):
    trainer = make_trainer(tmp_path, 1, config=TrainingConfig(batch=4, lr=1e3, warmup=0))
    with pytest.raises(FloatingPointError, match=r"after 1 steps; nothing was saved"):
        trainer.run()
    assert not list(tmp_path.rglob("*.safetensors"))


def test_an_average_that_is_not_finite_is_not_saved(tmp_path):
    trainer = make_trainer(tmp_path, 4, stop=lambda: not _poison(trainer.state.ema.model))
    with pytest.raises(FloatingPointError, match=r"ema\..* was not finite after 1 steps"):
        trainer.run()
    assert not (tmp_path / CHECKPOINT).exists()


def test_a_nan_validation_stops_and_keeps_the_checkpoint_before_it(tmp_path, monkeypatch):
    bits = iter([2.0, math.nan])
    monkeypatch.setattr(
        "pixelsr.training.trainer.bits_per_dimension", lambda *_: {"sum": 1.0, "prior": next(bits)}
    )
    intervals = Intervals(log=1, validate=2, checkpoint=100)
    trainer = make_trainer(tmp_path, 8, validation=random_images(2), intervals=intervals)
    with pytest.raises(
        FloatingPointError, match=r"validation of prior became nan after 4 .*last good state"
    ):
        trainer.run()
    assert checkpoints.read_checkpoint(tmp_path / CHECKPOINT)[1]["step"] == 4
    assert "NaN" not in (tmp_path / "log.jsonl").read_text()


def _poison(model):
    with torch.no_grad():
        next(model.parameters()).fill_(math.nan)
    return False


def test_an_infinite_gradient_leaves_the_weights_as_they_are(tmp_path):
    trainer = make_trainer(tmp_path, 8)
    trainer.state.model.prior.head.out.bias.register_hook(lambda grad: grad * math.inf)
    before = {name: tensor.clone() for name, tensor in trainer.state.tensors().items()}
    with pytest.raises(FloatingPointError, match=r"gradient became .* nothing was saved"):
        trainer.run()
    for name, tensor in trainer.state.tensors().items():
        assert torch.equal(tensor, before[name]), name


def test_a_failed_write_leaves_the_old_checkpoint_and_no_partial(tmp_path, monkeypatch):
    path = tmp_path / CHECKPOINT
    checkpoints.write_checkpoint(path, {"a": torch.zeros(2)}, {"step": 1})

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"checkpoint.safetensors cannot be written: No space left"):
        checkpoints.write_checkpoint(path, {"a": torch.ones(2)}, {"step": 2})
    assert os.listdir(tmp_path) == [CHECKPOINT]
    tensors, facts = checkpoints.read_checkpoint(path)
    assert facts == {"step": 1}
    assert torch.equal(tensors["a"], torch.zeros(2))


def test_an_error_without_a_text_of_the_system_is_told_too(tmp_path, monkeypatch):
    def broken(*arguments, **options):
        raise OSError("the disk is on fire")

    trainer = make_trainer(tmp_path, 4)
    for target, call in [
        ("os.fsync", lambda: write_whole(tmp_path / "a", b"")),
        ("builtins.open", lambda: trainer.files.log.write(step=1)),
        ("tempfile.TemporaryFile", lambda: make_trainer(tmp_path, 4)),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(target, broken)
            with pytest.raises(OSError, match=r"cannot be written: the disk is on fire$"):
                call()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_log_on_a_full_disk_is_named(tmp_path):
    trainer = make_trainer(tmp_path, 4)
    trainer.files.log.path = "/dev/full"
    with pytest.raises(OSError, match="/dev/full cannot be written: No space left on device"):
        trainer.run()


def test_a_second_run_into_one_folder_is_refused(tmp_path):
    make_trainer(tmp_path, 2).run()
    with pytest.raises(FileExistsError, match="already holds a run"):
        make_trainer(tmp_path, 2)


def test_there_must_be_something_to_resume(tmp_path):
    with pytest.raises(FileNotFoundError, match="no run to resume"):
        make_trainer(tmp_path, 2, resume=True)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"config": TrainingConfig(batch=4, lr=0.02, warmup=3, ema=0.9)},
            "lr was 0.01, now it is 0.02",
        ),
        (
            {"model": pixelsr.GatedPixelCNN(channels=3, layers=1, head_channels=3)},
            "class was PixelRecursiveSR, now",
        ),
    ],
    ids=["config", "model"],
)
def test_a_run_is_not_resumed_with_other_settings(tmp_path, changed, message):
    make_trainer(tmp_path, 2).run()
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, 4, resume=True, **changed)


def test_a_damaged_or_foreign_checkpoint_is_named(tmp_path):
    make_trainer(tmp_path, 2).run()
    path = tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        make_trainer(tmp_path, 4, resume=True)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="not a checkpoint of pixelsr"):
        make_trainer(tmp_path, 4, resume=True)


@pytest.mark.parametrize(
    "options",
    [
        {"batch": 0},
        {"lr": 0.0},
        {"lr": math.nan},
        {"lr": 1e38},
        {"clip": 1e300},
        {"warmup": -1},
        {"ema": 1.0},
        {"seed": -1},
    ],
    ids=str,
)
def test_a_config_out_of_range_names_the_value(options):
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=rf"{name} must be .* got {re.escape(str(value))}"):
        TrainingConfig(**options)


@pytest.mark.parametrize(
    "options", [{}, {"steps": 0}, {"minutes": 0.0}, {"minutes": math.nan}, {"minutes": 1e308}]
)
def test_a_budget_must_end(options):
    with pytest.raises(ValueError, match=r"give steps|must be"):
        Budget(**options)


@pytest.fixture
def _python_handles_sigint():
    """Set the default SIGINT handler, because a shell ignores SIGINT in background jobs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_python_handles_sigint")
def test_the_first_signal_is_a_request_and_the_second_acts_as_usual():
    with Interrupt() as interrupt:
        signal.raise_signal(signal.SIGINT)
        assert interrupt.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
