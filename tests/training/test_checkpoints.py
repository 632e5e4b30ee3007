"""Tests that a run resumes from exactly the saved state, or that one sentence says why not."""

import json
import math
import random
import shutil

import pytest
import torch

import pixelsr
from pixelsr.training import Budget, Intervals, RunDir, Trainer, TrainingConfig
from pixelsr.training.checkpoint import read_checkpoint, write_checkpoint
from pixelsr.training.progress import Display
from tests.support.mutations import changed, positions

pytestmark = pytest.mark.usefixtures("one_thread")
CHECKPOINT, LOG = "checkpoint.safetensors", "log.jsonl"
CONFIG = TrainingConfig(batch=2, lr=0.01, warmup=2, ema=0.9)
SIZES = {"channels": 3, "layers": 2, "first_kernel_size": 3, "head_channels": 4, "levels": 4}


def images(n=4):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 3, 4, 4), generator=generator, dtype=torch.uint8)


def train(out, steps, *, resume=False, config=CONFIG, make=pixelsr.PixelCNN):
    """Train a tiny model up to a step, and return the trainer."""
    torch.manual_seed(0)
    trainer = Trainer(
        make(**SIZES),
        images(),
        images(2),
        RunDir(out, resume=resume),
        config,
        Budget(steps=8),
        Intervals(log=1, validate=2, checkpoint=100),
        Display(),
        stop=lambda: trainer.state.step >= steps,
    )
    trainer.run()
    return trainer


@pytest.fixture
def run(tmp_path):
    """Return a folder with a run of 4 steps of 8, and its checkpoint's tensors and facts."""
    train(tmp_path / "run", 4)
    return tmp_path / "run", *read_checkpoint(tmp_path / "run" / CHECKPOINT)


def refusal(out, **options):
    """Return the sentence that refuses to resume a run, and check that it changed nothing."""
    before = {path: path.read_bytes() for path in out.rglob("*.*") if path.is_file()}
    with pytest.raises(ValueError, match=r"\A[^\n]*\Z") as refused:
        train(out, 8, resume=True, **options)
    assert {path: path.read_bytes() for path in out.rglob("*.*") if path.is_file()} == before
    return str(refused.value)


def test_no_flipped_bit_of_a_checkpoint_goes_unnoticed(run):
    path = run[0] / CHECKPOINT
    whole = path.read_bytes()
    for bit in range(0, 8 * len(whole), 8 * len(whole) // 200 | 1):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=CHECKPOINT):
            read_checkpoint(path)


def test_every_tensor_of_a_checkpoint_is_needed(run):
    out, tensors, facts = run
    for name in tensors:
        others = {key: tensor for key, tensor in tensors.items() if key != name}
        write_checkpoint(out / CHECKPOINT, others, facts)
        assert refusal(out) == (
            f"{out / CHECKPOINT} is not a checkpoint that a run can resume: "
            f"the tensor {name} is missing"
        )
    without = {key: tensor for key, tensor in tensors.items() if "optimizer" not in key}
    write_checkpoint(out / CHECKPOINT, without, facts)
    assert "the tensor optimizer.blocks.0.conv.bias.exp_avg is missing" in refusal(out)
    write_checkpoint(out / CHECKPOINT, tensors | {"extra": torch.zeros(1)}, facts)
    assert "the tensor extra is unexpected" in refusal(out)


CHANGES = {
    "shape": lambda tensor: tensor[None],
    "float64": lambda tensor: tensor.double(),
    "float16": lambda tensor: tensor.half(),
    "int": lambda tensor: tensor.long(),
    "nan": lambda tensor: tensor * math.nan,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    "name",
    [
        "model.head.out.weight",
        "ema.head.out.weight",
        "optimizer.head.out.weight.exp_avg_sq",
        "optimizer.head.out.weight.step",
        "meter.bits",
    ],
)
def test_a_tensor_of_another_kind_is_refused(run, name, change):
    out, tensors, facts = run
    other = CHANGES[change](tensors[name])
    if other.dtype == tensors[name].dtype and other.equal(tensors[name]):
        return
    write_checkpoint(out / CHECKPOINT, tensors | {name: other}, facts)
    assert f"{CHECKPOINT} is not a checkpoint that a run can resume: {name} is" in refusal(out)


@pytest.mark.parametrize("steps", [0.0, 2.5, 5.0, -4.0])
def test_the_optimizers_steps_are_those_of_the_run(run, steps):
    out, tensors, facts = run
    name = "optimizer.head.out.weight.step"
    write_checkpoint(out / CHECKPOINT, tensors | {name: torch.tensor(steps)}, facts)
    assert f"{name} must be a whole number from 1 to 4, got {steps}" in refusal(out)


def test_a_step_that_the_optimizer_has_not_taken_is_refused(run):
    out, tensors, facts = run
    write_checkpoint(out / CHECKPOINT, tensors, facts | {"step": 6})
    assert "the optimizer has taken 4 steps, expected 6" in refusal(out)


def test_parameters_without_moments_are_named_as_such(run):
    out, tensors, facts = run
    assert facts["without_moments"] == []
    for names, reason in [
        (["nobody"], "no parameter is named 'nobody'"),
        (["head.out.bias"], "the tensor optimizer.head.out.bias.exp_avg is unexpected"),
        ([name[6:] for name in tensors if name[:6] == "model."], "no parameter has moments after"),
    ]:
        write_checkpoint(out / CHECKPOINT, tensors, facts | {"without_moments": names})
        assert reason in refusal(out)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("scale", 0.0, "more than 0"),
        ("scale", -1.0, "more than 0"),
        ("scale", math.inf, None),
        ("scale", math.nan, None),
        ("growth_factor", 3.0, "2.0"),
        ("backoff_factor", 1.5, "0.5"),
        ("growth_interval", 7, "2000"),
        ("_growth_tracker", -1, "from 0 to 4"),
        ("_growth_tracker", 5, "from 0 to 4"),
    ],
)
def test_the_scale_of_a_float16_loss_is_checked(tmp_path, key, value, expected):
    config = TrainingConfig(batch=2, warmup=2, precision="float16")
    out = tmp_path / "run"
    train(out, 4, config=config)
    tensors, facts = read_checkpoint(out / CHECKPOINT)
    name = f"scaler.{key}"
    write_checkpoint(out / CHECKPOINT, tensors | {name: torch.tensor(value)}, facts)
    reason = f"{name} is not finite" if expected is None else f"{name} must be {expected}, got"
    assert reason in refusal(out, config=config)
    write_checkpoint(out / CHECKPOINT, tensors | {name: torch.tensor([value])}, facts)
    assert f"{name} is torch." in refusal(out, config=config)
    write_checkpoint(out / CHECKPOINT, tensors, facts)
    assert train(out, 8, resume=True, config=config).state.step == 8


ODD = [None, True, -1, 10**13, 2.5, 1e300, "x", [], [1], {}, {"a": 1}, ...]


POSSIBLE = {
    ("best", "bits"): (None, 2.5, 1e300, 10**13),
    ("seconds",): (2.5,),
    ("without_moments",): ([],),
    ("settings", "binarize"): (...,),  # absent, as in this run
}
"""The values of `ODD` that a run may write."""


def odd_facts(facts):
    """Yield facts that no run writes."""
    for at in positions(facts):
        for value in ("x", ...) if at[0] == "settings" and at[1:] else ODD:
            if value not in POSSIBLE.get(at, ()):
                yield changed(facts, at, value)
    yield facts | {"more": 1}
    yield facts | {"best": facts["best"] | {"more": 1}}


def test_odd_facts_are_refused(run):
    out, tensors, facts = run
    for other in odd_facts(facts):
        write_checkpoint(out / CHECKPOINT, tensors, other)
        assert str(out / CHECKPOINT) in refusal(out), other


def test_a_damaged_log_is_refused_and_kept(run):
    out, _, _ = run
    whole = (out / LOG).read_bytes()
    draw = random.Random(0)
    damages = [b"\xff\n" + whole, whole[5:], b"[" * 100_000 + b"\n" + whole, b"\n" + whole]
    damages += [b'{"step": %s}\n' % step + whole for step in (b"NaN", b"true", b"2.5", b"-1")]
    damages += [b'{"step": 1, "step": 2}\n' + whole, b'{"step": ' + b"9" * 5000 + b"}\n" + whole]
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(whole) - 1)] ^= 0x80
        damages.append(bytes(damaged))
    for damaged in damages:
        (out / LOG).write_bytes(damaged)
        assert str(out / LOG) in refusal(out)


@pytest.mark.parametrize("rest", [b"", b'{"step": 5, "tr', b"\0" * 100])
def test_a_log_whose_last_line_was_cut_off_goes_on(run, rest):
    out, _, _ = run
    whole = (out / LOG).read_bytes()
    (out / LOG).write_bytes(whole + rest)
    train(out, 6, resume=True)
    assert (out / LOG).read_bytes().startswith(whole)
    steps = [json.loads(line)["step"] for line in (out / LOG).read_text().splitlines()]
    assert steps == [1, 2, 2, 3, 4, 4, 5, 6]  # a stop comes before the validation of its step


def test_an_entry_that_lost_its_end_of_line_keeps_its_line(run):
    out, _, _ = run
    whole = (out / LOG).read_bytes()
    (out / LOG).write_bytes(whole.rstrip(b"\n"))
    train(out, 6, resume=True)
    assert (out / LOG).read_bytes().startswith(whole)


# User-defined networks.


def check_resumes(tmp_path, make, config=CONFIG):
    """Check that a run of a class resumes to the weights of an uninterrupted run."""
    whole = train(tmp_path / "whole", 8, make=make, config=config)
    train(tmp_path / "parts", 4, make=make, config=config)
    shutil.copy(tmp_path / "parts" / CHECKPOINT, tmp_path / "at-4")
    resumed = train(tmp_path / "parts", 8, resume=True, make=make, config=config)
    expected, got = whole.state.tensors(), resumed.state.tensors()
    assert expected.keys() == got.keys()
    assert all(tensor.equal(got[name]) for name, tensor in expected.items())
    return resumed, *read_checkpoint(tmp_path / "at-4")


def test_a_run_of_tied_weights_resumes(tmp_path, own_class):
    class TiedBlocks(pixelsr.PixelCNN):
        def __init__(self, **options):
            super().__init__(**options | {"layers": 3})
            self.blocks[1].conv.weight = self.blocks[0].conv.weight
            self.register_buffer("table", torch.arange(6.0))
            self.register_buffer("part", self.table[1:4])

    resumed, tensors, _ = check_resumes(tmp_path, TiedBlocks)
    for model in (resumed.state.model, TiedBlocks.from_pretrained(tmp_path / "parts" / "model")):
        assert model.blocks[0].conv.weight is model.blocks[1].conv.weight
    assert tensors["model.blocks.0.conv.weight"].equal(tensors["model.blocks.1.conv.weight"])
    assert "optimizer.blocks.1.conv.weight.exp_avg" not in tensors


@pytest.mark.parametrize("optimizer", ["adamw", "rmsprop"])
def test_a_run_with_parameters_that_are_not_trained_resumes(tmp_path, own_class, optimizer):
    class PartlyTrained(pixelsr.PixelCNN):
        def __init__(self, **options):
            super().__init__(**options)
            self.unused = torch.nn.Linear(2, 2)
            self.first.bias.requires_grad_(False)

    config = TrainingConfig(batch=2, lr=0.001, warmup=2, optimizer=optimizer)
    _, _, facts = check_resumes(tmp_path, PartlyTrained, config)
    assert sorted(facts["without_moments"]) == ["first.bias", "unused.bias", "unused.weight"]


def test_a_run_whose_steps_all_overflowed_resumes(tmp_path):
    config = TrainingConfig(batch=2, precision="float16")
    out = tmp_path / "run"
    trainer = train(out, 1, config=config)
    tensors, facts = read_checkpoint(out / CHECKPOINT)
    names = [name for name, _ in trainer.state.model.named_parameters()]
    tensors = {name: tensor for name, tensor in tensors.items() if "optimizer" not in name}
    write_checkpoint(out / CHECKPOINT, tensors, facts | {"without_moments": names})
    assert train(out, 3, resume=True, config=config).state.step == 3
