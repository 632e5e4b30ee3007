"""Tests of optimizers, precisions, accumulation and early stopping, and of a run's output."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import pixelsr
from pixelsr.data.downsample import area_average
from pixelsr.training import Budget, Intervals, RunDir, TrainingConfig
from pixelsr.training.loss import TrainingLoss
from pixelsr.training.meters import EarlyStopping
from pixelsr.training.optimizer import learning_rate
from pixelsr.training.sample_grid import draw_grid
from pixelsr.training.state import State
from pixelsr.utils.distributed import Workers
from tests.support.training_cases import CONFIG, make_trainer, random_images, small_model, stop_at

pytestmark = pytest.mark.usefixtures("one_thread")


def make_state(model=None, **config):
    return State(model or small_model(), dataclasses.replace(CONFIG, **config), Workers())


def weights(state):
    return {name: tensor.detach().clone() for name, tensor in state.model.state_dict().items()}


# Recipes.


def test_the_papers_schedule_halves_again_and_again():
    config = TrainingConfig(lr=1.0, schedule="halving", warmup=0, halve_every=10)
    rates = [learning_rate(config, step, used=0.9) for step in (0, 9, 10, 25)]
    assert rates == [1, 1, 0.5, 0.25]


def test_rmsprop_is_the_papers():
    # RMSProp in TensorFlow and PyTorch divides by sqrt(mean square), then applies the momentum.
    model = small_model()
    state = make_state(model, optimizer="rmsprop", clip=1e9, lr=0.1)
    parameter = model.prior.head.out.bias
    expected, square, momentum = parameter.detach().clone(), 0.0, 0.0
    for step in range(3):
        state.advance([random_images(4, seed=step)], lr=0.1)
        square = 0.95 * square + 0.05 * parameter.grad**2
        momentum = 0.9 * momentum + parameter.grad / (square.sqrt() + 1e-8)
        expected -= 0.1 * momentum
    torch.testing.assert_close(parameter.detach(), expected)


def test_accumulated_parts_are_one_large_batch():
    images = random_images(12)
    whole, parts = (make_state(small_model().double(), clip=1e9) for _ in range(2))
    for _ in range(2):
        bits = whole.advance([images], lr=0.01), parts.advance(images.chunk(3), lr=0.01)
        assert bits[0] == pytest.approx(bits[1])
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(weights(parts)[name], tensor)
    # AdamW hides the scale of the gradient.
    pairs = zip(whole.model.parameters(), parts.model.parameters(), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(other.grad, one.grad)


def test_a_run_takes_as_many_parts_as_it_is_told(tmp_path):
    trainer = make_trainer(tmp_path, 3, config=dataclasses.replace(CONFIG, batch=2, accumulate=3))
    counts = []
    advance = trainer.state.advance
    trainer.state.advance = lambda parts, lr: (
        counts.append([len(part) for part in parts]),
        advance(parts, lr),
    )[1]
    trainer.run()
    assert counts == [[2, 2, 2]] * 3


@pytest.mark.parametrize("layout", [True, False], ids=["channels_last", "contiguous"])
def test_the_memory_format_is_that_of_the_config(layout):
    state = make_state(channels_last=layout)
    kernel = state.model.prior.layers[0].vertical.weight
    assert kernel.is_contiguous(memory_format=torch.channels_last) == layout
    # A 1x1 kernel has its gradient's strides, because DistributedDataParallel compares them.
    assert state.model.prior.layers[0].link.weight.stride()[1:] == (1, 1, 1)
    state.advance([random_images(4)], lr=0.01)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_precision_is_that_of_the_computation_alone(precision):
    seen = set()
    state = make_state(precision=precision)
    layer = state.model.prior.layers[0].link
    layer.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    first = state.advance([random_images(8)], lr=0.01)
    for _ in range(4):
        last = state.advance([random_images(8)], lr=0.01)
    assert seen == {getattr(torch, precision)}
    assert {tensor.dtype for tensor in weights(state).values()} == {torch.float32}
    assert last < first


def test_a_scaled_loss_that_overflows_costs_a_step_and_no_run():
    state = make_state(precision="float16")
    before = weights(state)
    state.scaler.load_state_dict(state.scaler.state_dict() | {"scale": 2.0**40})
    state.advance([random_images(4)], lr=0.01)
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(state).items())
    assert state.scaler.get_scale() == 2.0**39


def test_the_conditioning_weight_is_a_temperature_of_its_own_term():
    model, images = small_model(), random_images(4)
    a, b = model.conditioning(area_average(images, 2)), model.prior(images)
    terms = [
        torch.nn.functional.cross_entropy(logits, images.long()) for logits in (a + b, a / 2.5)
    ]
    torch.testing.assert_close(TrainingLoss(model, 2.5)(images), torch.stack(terms))


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "rmsprop", "lr": 1e-3},
        {"precision": "bfloat16"},
        {"precision": "float16"},
        {"accumulate": 2, "batch": 2},
        {"conditioning_weight": 2.0},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
def test_every_config_resumes_exactly(tmp_path, options):
    config = dataclasses.replace(CONFIG, **options)
    validation, intervals = random_images(3, seed=1), Intervals(log=2, validate=3, checkpoint=2)
    common = {"config": config, "validation": validation, "intervals": intervals}
    whole = make_trainer(tmp_path / "whole", 8, **common)
    assert whole.run()
    assert not make_trainer(tmp_path / "parts", 8, stop=stop_at(5), **common).run()
    resumed = make_trainer(tmp_path / "parts", 8, resume=True, **common)
    assert resumed.run()
    expected, got = whole.state.tensors(), resumed.state.tensors()
    assert expected.keys() == got.keys()
    assert [name for name in expected if not torch.equal(expected[name], got[name])] == []
    assert resumed.best == whole.best


@pytest.mark.slow
def test_a_compiled_run_takes_the_same_steps():
    plain, compiled = make_state(), make_state(compile=True)
    for _ in range(3):
        bits = [state.advance([random_images(4)], lr=0.01) for state in (plain, compiled)]
        assert bits[0] == pytest.approx(bits[1], rel=1e-4)
    for name, tensor in weights(plain).items():
        torch.testing.assert_close(weights(compiled)[name], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"accumulate": 0},
        {"clip": 0.0},
        {"floor": -0.1},
        {"halve_every": 0},
        {"optimizer": "sgd"},
        {"schedule": "flat"},
        {"precision": "float8"},
        {"weight_decay": -1.0},
        {"conditioning_weight": math.inf},
    ],
    ids=str,
)
def test_a_config_out_of_range_names_the_value(options):
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=rf"{name} must be .* got {value}"):
        TrainingConfig(**options)


# The best model and early stopping.


def test_the_best_is_the_lowest_and_goes_stale():
    best = EarlyStopping()
    assert [best.take(bits) for bits in (5.0, 4.0, 4.0, 4.5)] == [True, True, False, False]
    assert best.bits == 4.0
    assert [best.is_stale(patience) for patience in (None, 2, 3)] == [False, True, False]


def test_a_run_stops_early_and_keeps_the_best_model(tmp_path, monkeypatch):
    figures = iter([3.0, 2.0, 2.5, 2.5, 2.5])
    monkeypatch.setattr(
        "pixelsr.training.trainer.bits_per_dimension",
        lambda *_: {"sum": next(figures), "prior": 9.0},
    )
    intervals = Intervals(log=1, validate=2, checkpoint=100)
    saved = {}
    trainer = make_trainer(
        tmp_path,
        100,
        validation=random_images(2),
        intervals=intervals,
        budget=Budget(steps=100, patience=2),
    )
    take = trainer.best.take
    trainer.best.take = lambda bits: (
        saved.update({trainer.state.step: weights_of(trainer.state.ema.model)}),
        take(bits),
    )[1]
    assert trainer.run()
    assert trainer.state.step == 8
    model = load_file(tmp_path / "model" / "model.safetensors")
    assert all(torch.equal(model[name], tensor) for name, tensor in saved[4].items())


def weights_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_a_run_that_is_stopped_before_a_validation_has_a_model(tmp_path):
    trainer = make_trainer(tmp_path, 100, validation=random_images(2), stop=stop_at(3))
    assert not trainer.run()
    model = load_file(tmp_path / "model" / "model.safetensors")
    average = trainer.state.ema.model.state_dict()
    assert all(torch.equal(model[name], average[name]) for name in model)


@pytest.mark.parametrize("stop", [3, 6, 8])
def test_a_run_stopped_where_it_validates_resumes_exactly(tmp_path, stop):
    options = {
        "validation": random_images(3, seed=1),
        "intervals": Intervals(log=2, validate=3, checkpoint=100),
    }
    assert make_trainer(tmp_path / "whole", 8, **options).run()
    make_trainer(tmp_path / "parts", 8, stop=stop_at(stop), **options).run()
    for _ in range(2):  # the second time, nothing is left to do
        assert make_trainer(tmp_path / "parts", 8, resume=True, **options).run()
    logs, models = [], []
    for name in ("whole", "parts"):
        entries = map(json.loads, (tmp_path / name / "log.jsonl").read_text().splitlines())
        logs.append([(e["step"], e["validation"]) for e in entries if "validation" in e])
        models.append((tmp_path / name / "model" / "model.safetensors").read_bytes())
    assert [step for step, _ in logs[0]] == [3, 6, 8]
    assert logs[0] == logs[1]
    assert models[0] == models[1]


def test_the_average_has_the_buffers_of_the_model():
    model = small_model()
    model.prior.register_buffer("scale", torch.zeros(2))
    state = make_state(model)
    model.prior.scale += 3
    state.advance([random_images(4)], lr=0.01)
    assert state.ema.model.prior.scale.tolist() == [3, 3]


def test_float16_that_is_nan_at_any_scale_ends_the_run():
    state = make_state(precision="float16")
    state.model.prior.head.out.bias.register_hook(lambda grad: grad * math.nan)
    steps = (state.advance([random_images(4)], lr=0.01) for _ in range(40))
    with pytest.raises(FloatingPointError, match="not finite at any scale of the loss"):
        list(steps)


# The output of a run.


def test_grids_show_the_same_inputs_each_time(tmp_path):
    trainer = make_trainer(
        tmp_path,
        4,
        validation=random_images(3, seed=1),
        intervals=Intervals(log=1, validate=2, checkpoint=100),
        grid=2,
    )
    trainer.run()
    grids = []
    for name in ("step-0000002.png", "step-0000004.png"):
        with Image.open(tmp_path / "samples" / name) as grid:
            grids.append(np.asarray(grid.convert("RGB")))
    first, second = grids
    side = 4 * (8 + 2)  # an image and its frame, enlarged 4 times
    assert first.shape == (2 * side, 6 * side, 3)
    for column in (0, 5):  # the input and the original
        here = slice(column * side, (column + 1) * side)
        assert np.array_equal(first[:, here], second[:, here])
    assert not np.array_equal(first[:, side : 5 * side], second[:, side : 5 * side])
    truth = random_images(3, seed=1)[1, :, 3, 5].tolist()
    assert first[side + 4 * (1 + 3), 5 * side + 4 * (1 + 5)].tolist() == truth


def test_the_grid_of_a_binary_prior_is_black_and_white():
    torch.manual_seed(0)
    model = pixelsr.PixelCNN(channels=2, layers=2, head_channels=4, colors=1, levels=2).eval()
    grid = np.asarray(draw_grid(model, torch.zeros(1, 1, 8, 8, dtype=torch.uint8), seed=0))
    assert set(np.unique(grid)) == {0, 255}
    other = np.asarray(draw_grid(model, torch.zeros(1, 1, 8, 8, dtype=torch.uint8), seed=1))
    assert not np.array_equal(grid, other)


def test_the_grid_of_a_conditioning_network_is_the_likeliest_of_each_value():
    torch.manual_seed(0)
    model = pixelsr.ConditioningNetwork(channels=4, blocks=1, scale_factor=2).eval()
    images = random_images(2)
    grid = np.asarray(draw_grid(model, images, seed=0))
    likeliest = model(area_average(images, 2)).argmax(1)
    assert grid[4 * 3, 4 * (10 + 4)].tolist() == likeliest[0, :, 2, 3].tolist()


def test_tensorboard_gets_the_curves_and_the_grids(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    options = {
        "intervals": Intervals(log=1, validate=2, checkpoint=2),
        "validation": random_images(2),
    }
    make_trainer(tmp_path, 3, grid=1, tensorboard=True, stop=stop_at(2), **options).run()
    make_trainer(tmp_path, 3, grid=1, tensorboard=True, resume=True, **options).run()
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    logged = [entry["train"] for entry in log if "train" in entry]
    assert [event.step for event in events.Scalars("train")] == [1, 2, 3]
    assert [event.value for event in events.Scalars("train")] == pytest.approx(logged)
    assert [event.step for event in events.Scalars("validation/sum")] == [2, 3]
    assert [event.step for event in events.Images("samples")] == [2, 3]


# One run per folder.


def test_two_runs_at_the_same_time_do_not_share_a_folder(tmp_path):
    first = RunDir(tmp_path)
    with pytest.raises(FileExistsError, match=f"another run is writing to {tmp_path} now"):
        RunDir(tmp_path)
    first.close()
    RunDir(tmp_path).close()


def test_a_trainer_that_cannot_be_made_leaves_the_folder_free(tmp_path):
    with pytest.raises(ValueError, match="a step needs at least 99 images"):
        make_trainer(tmp_path, 2, config=dataclasses.replace(CONFIG, accumulate=99))
    assert make_trainer(tmp_path, 2).run()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"images": random_images(10, seed=9)}, r"images was \[10, 3, 8, 8\] with the checksum"),
        ({"validation": random_images(2)}, "validation images was none, now it is "),
        ({"workers": Workers(0, 2)}, "workers was 1, now it is 2"),
    ],
    ids=["images", "validation", "workers"],
)
def test_a_run_is_not_resumed_with_other_images_or_workers(tmp_path, changed, message):
    make_trainer(tmp_path, 2).run()
    trainer = make_trainer(tmp_path, 4, resume=True)
    vars(trainer).update(changed)
    del trainer._settings
    with pytest.raises(ValueError, match=message):
        trainer._resume()
