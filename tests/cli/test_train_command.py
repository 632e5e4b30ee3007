"""Tests of the `pixelsr train` command."""

import math
import re
import shutil
import signal
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import pixelsr
from pixelsr.cli.errors import sentence
from pixelsr.data.crop import from_tensor
from pixelsr.training import checkpoint as checkpoints
from pixelsr.training import run_dir as boards
from tests.support.command_cases import BINARY, TINY, invoke
from tests.support.helpers import slow
from tests.support.processes import Process, command
from tests.support.training_cases import CHECKPOINT, random_images

tomlkit = pytest.importorskip("tomlkit")


def run(*arguments):
    return invoke("train", *arguments)


def test_the_command_trains_and_resumes(folder, tmp_path):
    (folder / "notes.txt").write_text("not an image")
    options = [folder, "--val", folder, "-o", tmp_path / "out", *TINY]
    result = run(*options, "--steps", 2)
    assert result.exit_code == 0, result.output
    assert "notes.txt" in result.stderr
    assert "step 2  validation, bits/dim (nats/image): sum " in result.stdout
    assert "Done after 2 steps" in result.stdout
    result = run(*options, "--steps", 3, "--resume")
    assert result.exit_code == 0, result.output
    assert "from step 2" in result.stdout
    model = pixelsr.PixelRecursiveSR.from_pretrained(tmp_path / "out" / "model")
    assert model.scale_factor == 2


def test_the_same_seed_gives_the_same_model(folder, tmp_path):
    models = []
    for name, seed in [("a", 1), ("b", 1), ("c", 2)]:
        result = run(folder, "-o", tmp_path / name, *TINY, "--steps", 1, "--seed", seed)
        assert result.exit_code == 0, result.output
        models.append((tmp_path / name / "model" / "model.safetensors").read_bytes())
    assert models[0] == models[1] != models[2]


def test_the_command_trains_a_prior_alone(folder, tmp_path):
    options = ["--model", "PixelCNN", "--size", 8, "--channels", 3, "--layers", 2, "--steps", 1]
    result = run(folder, "-o", tmp_path / "out", *options, "--head-channels", 6, "--threads", 1)
    assert result.exit_code == 0, result.output
    assert pixelsr.PixelCNN.from_pretrained(tmp_path / "out" / "model").config.layers == 2
    assert list((tmp_path / "out" / "tensorboard").iterdir())
    with Image.open(tmp_path / "out" / "samples" / "step-0000001.png") as grid:
        assert grid.size == (4 * 4 * 10, 4 * 4 * 10)  # 4 draws of 4 framed images, enlarged


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--model", "ConditioningNetwork"], {"class": "ConditioningNetwork", "blocks": 1}),
        (["--colors", 1, "--levels", 2, "--binarize", "bernoulli"], {"class": "PixelRecursiveSR"}),
        (["--prior", "PixelCNN", "--first-kernel-size", 3], {"class": "PixelRecursiveSR"}),
    ],
    ids=["conditioning", "binary", "other prior"],
)
def test_the_command_trains_every_class(folder, tmp_path, options, expected):
    sizes = TINY
    if "ConditioningNetwork" in options:
        sizes = [o for o in TINY if not re.match("--(channels|layers|head)", o)]
    result = run(folder, "-o", tmp_path / "out", *sizes, "--steps", 1, "--grid", 1, *options)
    assert result.exit_code == 0, result.output
    model = pixelsr.models.PixelModel.from_pretrained(tmp_path / "out" / "model")
    assert expected.items() <= model.describe().items()
    flags = dict(zip(options[::2], options[1::2], strict=True))
    assert model.colors == flags.get("--colors", 3)
    assert model.levels == flags.get("--levels", 256)
    if "--prior" in flags:
        assert model.prior.config == pixelsr.PixelCNN.Config(
            channels=4, layers=1, head_channels=8, first_kernel_size=3
        )


@pytest.mark.parametrize("name", ["RowLSTM", "DiagonalBiLSTM"])
@pytest.mark.parametrize("options", [[], ["--skip", "--scale-factor", 2]], ids=["", "multi-scale"])
def test_a_recurrent_network_is_trained_and_made_again_from_its_configuration(
    folder, tmp_path, name, options
):
    sizes = [
        "--size",
        8,
        "--channels",
        3,
        "--layers",
        1,
        "--head-channels",
        6,
        "--first-kernel-size",
        3,
    ]
    run_options = ["--steps", 1, "--grid", 1, "--threads", 1, "--workers", 0, "--no-tensorboard"]
    first = [folder, "--val", folder, "-o", tmp_path / "a", "--model", name, *sizes, *run_options]
    result = run(*first, *options)
    assert result.exit_code == 0, result.output
    assert "validation, bits/dim (nats/image): model " in result.stdout
    again = run("--config", tmp_path / "a" / "model" / "training.toml", "-o", tmp_path / "b")
    assert again.exit_code == 0, again.output
    models = [pixelsr.models.PixelModel.from_pretrained(tmp_path / x / "model") for x in "ab"]
    assert models[0].describe() == models[1].describe()
    assert models[0].config.skip == bool(options)
    assert models[0].config.scale_factor == (2 if options else None)
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_recurrent_network_can_be_the_prior_of_one_that_enlarges(folder, tmp_path):
    options = ["--prior", "RowLSTM", "--skip", "--steps", 1]
    result = run(folder, "-o", tmp_path / "a", *TINY, *options)
    assert result.exit_code == 0, result.output
    model = pixelsr.PixelRecursiveSR.from_pretrained(tmp_path / "a" / "model")
    assert model.prior.config.skip
    assert (model.prior.config.scale_factor, model.scale_factor) == (None, 2)
    again = run("--config", tmp_path / "a" / "model" / "training.toml", "-o", tmp_path / "b")
    assert again.exit_code == 0, again.output


def test_the_papers_optimizer_brings_its_learning_rate_and_schedule(folder, tmp_path):
    result = run(folder, "-o", tmp_path / "out", *TINY, "--steps", 1, "--optimizer", "rmsprop")
    assert result.exit_code == 0, result.output
    saved = tomlkit.parse((tmp_path / "out" / "model" / "training.toml").read_text())
    assert (saved["lr"], saved["schedule"]) == (4e-4, "halving")


def test_a_run_can_start_with_the_weights_of_a_model(folder, tmp_path):
    assert run(folder, "-o", tmp_path / "a", *TINY, "--steps", 1).exit_code == 0
    small = [option for option in TINY if re.match("--(size|batch|grid|no-tens)", option)]
    options = ["--from", tmp_path / "a" / "model", "--steps", 1, "--lr", 1e-30, *small]
    result = run(folder, "-o", tmp_path / "b", *options)
    assert result.exit_code == 0, result.output
    first, second = (load_file(tmp_path / n / "model" / "model.safetensors") for n in "ab")
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=0, atol=1e-6)
    again = run("--config", tmp_path / "b" / "model" / "training.toml", "-o", tmp_path / "c")
    assert again.exit_code == 0, again.output


# The file of options.


def test_the_options_of_a_run_repeat_it_from_anywhere(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder.parent)
    options = [folder.name, "--val", folder.name, "-o", tmp_path / "a", *TINY, "--no-flip"]
    assert run(*options, "--steps", 2, "--lr", 0.02).exit_code == 0
    config = tmp_path / "a" / "model" / "training.toml"
    monkeypatch.chdir("/")
    result = run("--config", config, "-o", tmp_path / "b")
    assert result.exit_code == 0, result.output
    weights = [(tmp_path / n / "model" / "model.safetensors").read_bytes() for n in "ab"]
    assert weights[0] == weights[1]
    assert (tmp_path / "b" / "model" / "training.toml").read_text() == config.read_text()


def test_the_command_line_goes_before_the_file(folder, tmp_path):
    config = tmp_path / "my.toml"
    config.write_text("steps = 1\nlr = 0.5\nflip = false\n")
    result = run(folder, "--config", config, "-o", tmp_path / "out", *TINY, "--lr", 0.25)
    assert result.exit_code == 0, result.output
    saved = tomlkit.parse((tmp_path / "out" / "model" / "training.toml").read_text())
    assert (saved["steps"], saved["lr"], saved["flip"]) == (1, 0.25, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chanels = 3", "my.toml has the key 'chanels'; the nearest option is 'channels'"),
        ("head_channels = 3", "the key 'head_channels'; the nearest option is 'head-channels'"),
        ("config = 'x'", "my.toml has the key 'config'"),
        ("learning-rate = 1", "the key 'learning-rate'; the nearest option is 'lr'"),
        ("learning_rate = 1", "the key 'learning_rate'; the nearest option is 'lr'"),
        ("validation = 'x'", "the key 'validation'; the nearest option is 'val'"),
        ("batch-size = 2", "the key 'batch-size'; the nearest option is 'batch'"),
        ("epochs = 2", "the key 'epochs'; the options are images, val, val-images, "),
        ("[train]\nlr = 1", "has the table [train]: options stand at the top level"),
        ("channels = 'many'", "Invalid value for '--channels': 'many' is not a valid integer"),
        ("steps = 0", "Invalid value for '--steps': 0 is not in the range x>=1"),
        ("steps", "my.toml is not TOML: "),
        ("batch = [1, 2]", "my.toml: batch must be a text, a number, true or false, got [1, 2]"),
        ("batch = 2.7", "Invalid value for '--batch': '2.7' is not a valid integer"),
        ("batch = true", "Invalid value for '--batch': 'true' is not a valid integer"),
        ("batch = inf", "Invalid value for '--batch': 'inf' is not a valid integer"),
        ("flip = 3", "Invalid value for '--flip': '3' is not a valid boolean"),
        ("model = 'PixelRNN'", "Invalid value for '--model': 'PixelRNN' is not one of"),
    ],
)
def test_a_bad_file_of_options_gives_one_sentence(folder, tmp_path, text, message):
    config = tmp_path / "my.toml"
    config.write_text(text + "\n")
    result = run(folder, "--config", config, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert message in result.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_a_run_is_not_resumed_with_another_file(folder, tmp_path):
    assert run(folder, "-o", tmp_path / "out", *TINY, "--steps", 1).exit_code == 0
    saved = tmp_path / "out" / "model" / "training.toml"
    other = tmp_path / "my.toml"
    other.write_text(saved.read_text().replace("lr = 0.001", "lr = 0.5"))
    before = saved.read_text()
    result = run("--config", other, "-o", tmp_path / "out", "--resume")
    assert result.exit_code == 1
    assert result.stderr.endswith("is of another run: lr was 0.001, now it is 0.5\n")
    assert saved.read_text() == before


# Fewer levels than 256.


@pytest.mark.parametrize("choice", ["threshold", "bernoulli"])
def test_the_choice_of_a_binarization_is_kept_printed_and_followed(folder, tmp_path, choice):
    out = tmp_path / "out"
    options = [folder, "--val", folder, "-o", out, *BINARY, "--steps", 1, "--binarize", choice]
    result = run(*options)
    assert result.exit_code == 0, result.output
    (line,) = (line for line in result.stdout.splitlines() if "validation" in line)
    found = re.fullmatch(
        rf"step 1  validation, binarized by {choice}, bits/dim \(nats/image\): "
        r"model (\d+\.\d+) \((\d+\.\d+)\)",
        line,
    )
    bits, nll = map(float, found.groups())
    assert nll == pytest.approx(bits * 64 * math.log(2), abs=0.01)
    assert tomlkit.parse((out / "model" / "training.toml").read_text())["binarize"] == choice
    evaluated = invoke("evaluate", folder, "--model", out / "model")
    assert evaluated.exit_code == 0, evaluated.output
    assert f"model  {bits:.4f}  {nll:.2f}" in re.sub(" +", "  ", evaluated.stdout)
    assert f"the images were binarized by {choice}: " in evaluated.stdout


def test_gray_images_and_two_levels_need_a_choice(folder, tmp_path):
    result = run(folder, "-o", tmp_path / "out", *BINARY, "--steps", 1)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "(--binarize) to threshold (white from 128 on) or to bernoulli" in result.stderr
    assert not (tmp_path / "out").exists()


def test_images_to_validate_on_that_are_gray_need_a_choice(folder, tmp_path):
    black = tmp_path / "black"
    black.mkdir()
    for k in range(4):
        Image.new("L", (8, 8), 255 * (k % 2)).save(black / f"{k}.png")
    options = [*BINARY, "--steps", 1]
    result = run(black, "--val", folder, "-o", tmp_path / "a", *options)
    assert "these images hold gray" in result.stderr
    result = run(black, "--val", black, "-o", tmp_path / "b", *options)
    assert result.exit_code == 0, result.output
    assert "validation, black and white, bits/dim" in result.stdout
    assert "binarize" not in (tmp_path / "b" / "model" / "training.toml").read_text()


def test_a_resume_keeps_to_the_binarization(folder, tmp_path):
    options = [folder, "-o", tmp_path / "out", *BINARY]
    assert run(*options, "--steps", 1, "--binarize", "bernoulli").exit_code == 0
    result = run(*options, "--steps", 2, "--binarize", "threshold", "--resume")
    assert result.exit_code == 1
    assert "another run: binarize was bernoulli, now it is threshold" in result.stderr
    config = tmp_path / "out" / "model" / "training.toml"
    result = run("--config", config, "-o", tmp_path / "out", "--steps", 2, "--resume")
    assert result.exit_code == 0, result.output


def test_other_levels_are_said_and_have_no_binarization(folder, tmp_path):
    options = [folder, "--val", folder, *TINY, "--levels", 5, "--steps", 1]
    result = run(*options, "-o", tmp_path / "a", "--binarize", "threshold")
    assert result.exit_code == 1
    assert "--binarize threshold is for models of 2 levels, and this one has 5" in result.stderr
    assert not (tmp_path / "a").exists()
    result = run(*options, "-o", tmp_path / "b")
    assert result.exit_code == 0, result.output
    assert "validation, quantized to 5 levels, bits/dim (nats/image): sum " in result.stdout


# Errors.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", 1, "--lr", -1], "--lr must be more than 0 and at most 1,000, got -1.0"),
        (["--steps", 1, "--lr", 1e38, "--warmup", 0], "--lr must be more than 0 and at most 1,000"),
        (["--minutes", "nan"], "minutes must be more than 0 and at most a million, got nan"),
        (["--steps", 1, "--size", 9], "sides that are multiples of 2, got 9x9"),
        (["--steps", 1, "--size", 10], "holds no image of at least 10x10 pixels"),
        (["--steps", 1, "--scale-factor", 3], "scale_factor must be a power of two, got 3"),
        (["--steps", 1, "--model", "PixelCNN"], "PixelCNN has no conditioning network"),
        (["--steps", 1, "--model", "ConditioningNetwork"], "ConditioningNetwork has no prior"),
        (["--steps", 1, "--skip"], "GatedPixelCNN has no such option: --skip has no place here"),
        (
            ["--steps", 1, "--prior", "DiagonalBiLSTM", "--kernel-size", 3],
            "DiagonalBiLSTM has no such option: --kernel-size has no place here",
        ),
        (["--steps", 1, "--from", "faces-8x32"], "--channels has no place here"),
        (["--steps", 1, "--from", "nowhere"], "--from nowhere brings all sizes with it"),
        (["--steps", 1, "--warmup", -1], "--warmup must be at least 0 steps, got -1"),
        (["--steps", 1, "--floor", 2], "floor must be from 0 to 1, got 2.0"),
        (["--steps", 1, "--clip", 0], "--clip must be more than 0 and at most"),
        (["--steps", 1, "--ema", 1], "ema must be at least 0 and less than 1, got 1.0"),
        (["--steps", 1, "--weight-decay", "nan"], "--weight-decay must be from 0 to 100, got nan"),
        (["--steps", 1, "--conditioning-weight", 0], "--conditioning-weight must be more than 0"),
        (["--steps", 1, "--seed", -1], "seed must be at least 0 and less than 2**63, got -1"),
        (["--steps", 1, "-o", "{folder}/run"], "would be read as images"),
        (["--steps", 1, "--accumulate", 7], "a step needs at least 7 images"),
        (["--steps", 1, "--levels", 1], "levels must be 2 to 256, got 1"),
        (["--steps", 1, "--val", "{folder}/none"], "{folder}/none"),
        (["--steps", 1, "--resume"], "there is no run to resume"),
        (["--steps", 1, "-o", "{folder}/../file"], "file is a file, expected a folder for the run"),
        (
            ["--steps", 1, "-o", "{folder}/../file/out"],
            "file is a file, expected a folder for the run",
        ),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_bad_options_give_one_sentence(folder, tmp_path, options, message):
    (tmp_path / "file").touch()
    options = [str(option).format(folder=folder) for option in options]
    result = run(folder, "-o", tmp_path / "out", *TINY, *options)
    assert result.exit_code == 1
    *skipped, last = result.stderr.splitlines()
    assert message.format(folder=folder) in last
    assert all(line.startswith("skipped: ") for line in skipped)
    assert not (tmp_path / "out" / CHECKPOINT).exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "a training run needs an end: give --steps, --minutes or both"),
        (["--steps", 1, "--patience", 2], "--patience counts validations: give images"),
    ],
)
def test_options_that_lack_another_are_usage_errors(folder, tmp_path, options, message):
    result = run(folder, "-o", tmp_path / "out", *TINY, *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("flag", ["steps", "patience", "size", "batch", "log-every"])
def test_a_count_below_one_is_refused(folder, tmp_path, flag):
    result = run(folder, "-o", tmp_path / "out", f"--{flag}", 0)
    assert result.exit_code == 2
    assert f"Invalid value for '--{flag}': 0 is not in the range x>=1" in result.stderr


@pytest.mark.parametrize(
    ("flag", "value", "reason"),
    [
        ("threads", 0, "0 is not in the range 1<=x<=1024"),
        ("threads", 100_000, "100000 is not in the range 1<=x<=1024"),
        ("workers", 100_000, "100000 is not in the range 0<=x<=1024"),
        ("kernel-size", 4, "4 is even, expected an odd number"),
        ("first-kernel-size", 2, "2 is even, expected an odd number"),
    ],
)
def test_an_option_out_of_range_is_refused_by_its_name(folder, tmp_path, flag, value, reason):
    result = run(folder, "-o", tmp_path / "out", "--steps", 1, f"--{flag}", value)
    assert result.exit_code == 2
    assert f"Invalid value for '--{flag}': {reason}" in result.stderr


def test_a_batch_of_more_images_than_there_are_is_cut_said_and_recorded(folder, tmp_path):
    options = [folder, "-o", tmp_path / "out", *TINY, "--batch", 100_000, "--accumulate", 2]
    result = run(*options, "--steps", 1)
    assert result.exit_code == 0, result.output
    assert result.stderr == "--batch 100000: there are 6 images, so it is 3\n"
    config = tmp_path / "out" / "model" / "training.toml"
    assert tomlkit.parse(config.read_text())["batch"] == 3
    for again in (options, ["--config", config, "-o", tmp_path / "out"]):
        result = run(*again, "--steps", 2, "--resume")
        assert result.exit_code == 0, result.output


def test_a_resume_that_is_refused_keeps_the_images_of_the_run(folder, tmp_path):
    out, other = tmp_path / "out", tmp_path / "other"
    other.mkdir()
    for k, image in enumerate(random_images(5, seed=1)):
        from_tensor(image).save(other / f"{k}.png")
    assert run(folder, "-o", out, *TINY, "--steps", 1).exit_code == 0

    def written() -> dict[Path, tuple[int, ...]]:
        found = {path: path.stat() for path in (out / "images").rglob("*")}
        return {path: (at.st_ino, at.st_size, at.st_mtime_ns) for path, at in found.items()}

    kept = written()
    result = run(other, "-o", out, *TINY, "--steps", 2, "--resume")
    assert result.exit_code == 1
    assert "is of another run: images was [6, 3, 8, 8]" in result.stderr
    assert written() == kept


def test_a_resume_prepares_images_that_are_gone(folder, tmp_path):
    out = tmp_path / "out"
    assert run(folder, "-o", out, *TINY, "--steps", 1).exit_code == 0
    shutil.rmtree(out / "images")
    assert run(folder, "-o", out, *TINY, "--steps", 2, "--resume").exit_code == 0
    assert list((out / "images" / "train").glob("*.raw"))


def test_a_prior_alone_has_no_conditioning_to_weigh(folder, tmp_path):
    options = ["--model", "PixelCNN", "--channels", 3, "--layers", 1, "--head-channels", 3]
    options += ["--size", 8, "--steps", 1, "--conditioning-weight", 2]
    result = run(folder, "-o", tmp_path / "out", *options)
    assert result.exit_code == 1
    assert "--conditioning-weight weighs A against B, and a PixelCNN has but one" in result.stderr


def test_patience_says_that_it_ended_the_run(folder, tmp_path):
    options = ["--val", folder, *TINY, "--steps", 50, "--validate-every", 1, "--patience", 2]
    result = run(folder, "-o", tmp_path / "out", *options, "--lr", 1e-30)
    assert result.exit_code == 0, result.output
    assert "Stopped after 3 steps, 2 validations without a new best" in result.stdout


def test_tensorboard_is_asked_for_in_vain_where_it_is_not(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(boards, "is_installed", lambda: False)
    options = [folder, "-o", tmp_path / "out", *TINY, "--steps", 1]
    result = run(*options, "--tensorboard")
    assert result.exit_code == 1
    assert "pip install tensorboard" in result.stderr
    assert run(*options).exit_code == 0


def test_an_error_of_the_system_names_the_file_and_no_number():
    error = PermissionError(13, "Permission denied", "out/log.jsonl")
    assert sentence(error) == "out/log.jsonl: Permission denied"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there_gives_one_sentence(folder, tmp_path):
    result = run(folder, "-o", tmp_path / "out", *TINY, "--steps", 1, "--device", "cuda")
    assert result.exit_code == 1
    assert result.stderr == "Error: --device cuda: PyTorch finds no CUDA device on this machine\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, slow(signal.SIGHUP)])
def test_a_signal_saves_and_ends_the_command(folder, tmp_path, number):
    out = tmp_path / "out"
    options = [folder, "-o", out, *TINY, "--steps", 10**6]
    with Process(command, "train", *options) as process:
        while not process.stdout.readline().startswith("step 3"):
            assert process.poll() is None, process.stderr.read()
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in stderr
    _, facts = checkpoints.read_checkpoint(out / CHECKPOINT)
    assert facts["step"] >= 3
    assert stdout.splitlines()[-1].startswith(f"Saved at step {facts['step']}: ")
    assert not list(out.glob("*.partial"))
