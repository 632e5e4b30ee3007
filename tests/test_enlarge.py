"""`pixelsr enlarge`: pictures and sheet on success; one sentence and no file otherwise."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import load_file, save_file

import pixelsr
from pixelsr.cli import main
from pixelsr.cli.outputs import unique_names
from pixelsr.cli.sheet import Row, draw_sheet
from pixelsr.data.small import SmallPicture, small_picture, to_tensor

SAMPLES = Path(pixelsr.__file__).parent / "samples"


def tiny(magnification: int = 2, **options: int) -> pixelsr.PixelRecursiveSR:
    """A random model that draws 16x16 pictures in a moment."""
    torch.manual_seed(0)
    return pixelsr.PixelRecursiveSR(
        pixelsr.GatedPixelCNN(channels=4, layers=1, head_channels=8, **options),
        pixelsr.ConditioningNetwork(channels=4, blocks=1, magnification=magnification, **options),
    ).eval()


@pytest.fixture
def model(tmp_path) -> Path:
    tiny().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def photo(tmp_path) -> Path:
    return save_photo(tmp_path / "photo.png")


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def calls(monkeypatch) -> list[dict]:
    """Puts a painter in the sampler's place; the list receives what it was asked."""
    asked: list[dict] = []

    def paint(model, n=1, *, low_res, seed=0, **options):
        asked.append({"model": model, "n": n, "low_res": low_res, "seed": seed, **options})
        size = [model.magnification * side for side in low_res.shape[-2:]]
        shape = (n * low_res.shape[0], low_res.shape[1], *size)
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(256, shape, generator=generator, dtype=torch.uint8)

    monkeypatch.setattr(pixelsr, "sample", paint)
    return asked


def save_photo(path: Path, height: int = 30, width: int = 40, seed: int = 0) -> Path:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def enlarge(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["enlarge", *(str(argument) for argument in arguments)])


def picture(path: Path) -> torch.Tensor:
    return to_tensor(Image.open(path))


def written(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def refusal(result: Result, out: Path) -> str:
    """The one sentence of a command that failed, and wrote nothing."""
    assert isinstance(result.exception, SystemExit), result.exception  # else: a traceback
    assert result.exit_code != 0
    assert not out.is_dir() or not list(out.iterdir())
    assert "Traceback" not in result.output
    lines = result.stderr.strip().splitlines()
    assert lines[-1].startswith("Error: ")
    assert sum(line.startswith("Error: ") for line in lines) == 1
    return lines[-1]


# --- what it writes ---


def test_writes_what_the_sampler_draws(model, photo, out):
    other = save_photo(photo.with_name("other.png"), 50, 50, seed=1)
    result = enlarge(photo, other, "-o", out, "--model", model, "--samples", 2, "--seed", 3)
    assert result.exit_code == 0, result.output
    assert str(out / "sheet.png") in result.stdout
    assert list(written(out)) == [
        *("other-1.png", "other-2.png", "photo-1.png", "photo-2.png", "sheet.png")
    ]
    smalls = [small_picture(Image.open(path), magnification=2) for path in (photo, other)]
    low_res = torch.stack([small.low_res for small in smalls])
    expected = pixelsr.sample(tiny(), n=2, low_res=low_res, seed=3)
    names = ["photo-1.png", "photo-2.png", "other-1.png", "other-2.png"]
    assert torch.equal(torch.stack([picture(out / name) for name in names]), expected)


def test_the_same_seed_draws_the_same_files_and_another_seed_does_not(model, photo, tmp_path):
    runs = []
    for name, seed in [("first", 5), ("again", 5), ("other", 6)]:
        out = tmp_path / name
        options = ["--model", model, "--samples", 1, "--seed", seed]
        assert enlarge(photo, "-o", out, *options).exit_code == 0
        runs.append(written(out))
    assert runs[0] == runs[1]
    assert runs[0]["photo-1.png"] != runs[2]["photo-1.png"]


def test_bundled_sample_faces_are_enlarged(calls, out, tmp_path):
    tiny(magnification=4).save_pretrained(tmp_path / "model")
    photos = sorted(SAMPLES.glob("*.png"))
    assert len(photos) == 2
    assert enlarge(*photos, "-o", out, "--model", tmp_path / "model").exit_code == 0
    assert len(written(out)) == 2 * 4 + 1
    assert picture(out / "astronaut-4.png").shape == (3, 32, 32)


def test_an_8x8_picture_is_taken_as_it_is(calls, model, out, tmp_path):
    photo = save_photo(tmp_path / "tiny.png", 8, 8)
    assert enlarge(photo, "-o", out, "--model", model).exit_code == 0
    assert torch.equal(calls[0]["low_res"][0], picture(photo))


def test_box_is_cut_out_of_each_photo(calls, model, photo, out):
    result = enlarge(photo, "-o", out, "--model", model, "--box", "7,3,23,19")
    assert result.exit_code == 0, result.output
    small = small_picture(Image.open(photo), magnification=2, box=(7, 3, 23, 19))
    assert torch.equal(calls[0]["low_res"][0], small.low_res)


@pytest.mark.parametrize(
    ("options", "temperature"),
    [([], 1.0), (["--temperature", 0.5], 0.5), (["--temperature", 0], 0.0), (["--tau", 4], 0.25)],
    ids=str,
)
def test_tau_is_one_over_temperature(calls, model, photo, out, options, temperature):
    assert enlarge(photo, "-o", out, "--model", model, *options).exit_code == 0
    assert calls[0]["temperature"] == temperature


def test_options_reach_the_sampler(calls, model, photo, out):
    options = ["--samples", 3, "--seed", 9, "--engine", "reference", "--max-batch", 2]
    assert enlarge(photo, "-o", out, "--model", model, *options).exit_code == 0
    expected = {"n": 3, "seed": 9, "engine": "reference", "max_batch": 2}
    assert {name: calls[0][name] for name in expected} == expected


def test_photos_of_one_name_do_not_overwrite_each_other(calls, model, out, tmp_path):
    photos = [save_photo(tmp_path / name / "me.png", seed=k) for k, name in enumerate("ab")]
    assert enlarge(*photos, "-o", out, "--model", model, "--samples", 1).exit_code == 0
    assert list(written(out)) == ["me-1.png", "me_2-1.png", "sheet.png"]


def test_unique_names_avoid_names_that_come_later():
    paths = [Path(name) for name in ("a.png", "a.jpg", "a_2.png", "A.gif", "b/a.png")]
    assert unique_names(paths) == ["a", "a_3", "a_2", "A_4", "a_5"]


def test_grey_transparent_cmyk_and_16_bit_photos_work(calls, model, out, tmp_path):
    photo = Image.open(save_photo(tmp_path / "rgb.png"))
    photo.convert("L").save(tmp_path / "grey.png")
    photo.convert("RGBA").save(tmp_path / "clear.png")
    photo.convert("CMYK").save(tmp_path / "print.jpg")
    deep = np.asarray(photo.convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "deep.png")
    photos = [tmp_path / name for name in ("grey.png", "clear.png", "print.jpg", "deep.png")]
    result = enlarge(*photos, "-o", out, "--model", model)
    assert result.exit_code == 0, result.output
    grey, _, _, deep_low = calls[0]["low_res"]
    assert torch.equal(grey, deep_low)


def test_a_grey_model_draws_grey_pictures(calls, photo, out, tmp_path):
    tiny(colours=1).save_pretrained(tmp_path / "grey")
    result = enlarge(photo, "-o", out, "--model", tmp_path / "grey")
    assert result.exit_code == 0, result.output
    assert calls[0]["low_res"].shape == (1, 1, 8, 8)


# --- the sheet ---


def sheet_row(known: bool, seed: int = 0) -> Row:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (3, 3, 32, 32), generator=generator, dtype=torch.uint8)
    small = SmallPicture(images[0, :, :8, :8].clone(), images[0] if known else None)
    return Row("photo.png", small, images[1:])


def holds(sheet: Image.Image, tile: torch.Tensor, scale: int) -> bool:
    """Whether the tile, each pixel a square, stands somewhere on the sheet."""
    large = np.kron(tile.permute(1, 2, 0).numpy(), np.ones((scale, scale, 1), dtype=np.uint8))
    values, (height, width) = np.asarray(sheet), large.shape[:2]
    starts = np.argwhere((values == large[0, 0]).all(-1))
    return any(np.array_equal(values[y : y + height, x : x + width], large) for y, x in starts)


def test_the_sheet_holds_input_samples_and_original():
    row = sheet_row(known=True)
    sheet = draw_sheet([row], scale=2)
    assert holds(sheet, row.small.low_res, 8)
    for tile in (*row.samples, row.small.original):
        assert holds(sheet, tile, 2)


def test_the_sheet_has_a_row_a_photo_and_no_column_for_unknown_originals():
    without, known = sheet_row(known=False), sheet_row(known=True, seed=1)
    assert draw_sheet([known]).width > draw_sheet([without]).width
    assert draw_sheet([known, without]).width == draw_sheet([known]).width
    assert draw_sheet([known, without]).height > draw_sheet([known]).height + 256


def test_the_sheet_shows_a_question_mark_for_each_odd_letter_of_a_name():
    row = sheet_row(known=True)
    odd, plain = (Row(name, row.small, row.samples) for name in ("фото\n\udcff.png", "??????.png"))
    assert draw_sheet([odd]) == draw_sheet([plain])


# --- what it refuses: one sentence, nothing written ---


def empty(path: Path) -> None:
    path.touch()


def truncated(path: Path) -> None:
    save_photo(path)
    path.write_bytes(path.read_bytes()[:1000])


def words(path: Path) -> None:
    path.write_text("not a picture\n" * 100)


def wide(path: Path) -> None:
    Image.new("1", (20_000, 40)).save(path)


def small(path: Path) -> None:
    save_photo(path, 12, 12)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "no such picture"),
        (Path.mkdir, "folder"),
        (empty, "empty"),
        (truncated, "cannot be decoded"),
        (words, "not a picture"),
        (wide, "20,000 x 40"),
        (small, "12 pixels a side"),
    ],
    ids=["missing", "folder", "empty", "truncated", "words", "20,000 wide", "small"],
)
def test_a_bad_photo_is_named_before_anything_is_drawn(
    calls, model, photo, out, tmp_path, make, reason
):
    bad = tmp_path / "bad.png"
    make(bad)
    message = refusal(enlarge(photo, bad, "-o", out, "--model", model), out)
    assert str(bad) in message
    assert reason in message
    assert not calls
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--tau", 1, "--temperature", 1], "not both"),
        (["--tau", 0], "x>0"),
        (["--tau", "nan"], "finite"),
        (["--temperature", -1], "x>=0"),
        (["--temperature", "inf"], "finite"),
        (["--samples", 0], "1<=x<=64"),
        (["--seed", -1], "x>=0"),
        (["--engine", "steam"], "steam"),
        (["--box", "1,2,3"], "LEFT,TOP,RIGHT,BOTTOM"),
        (["--box", "a,b,c,d"], "LEFT,TOP,RIGHT,BOTTOM"),
        (["--box", "5,5,5,5"], "empty"),
        (["--box", "20,0,60,40"], "leaves the picture"),
        (["--max-batch", 0], "x>=1"),
        (["--model", "no-such-model"], "no-such-model"),
    ],
    ids=str,
)
def test_a_bad_option_is_refused(calls, model, photo, out, options, reason):
    message = refusal(enlarge(photo, "-o", out, "--model", model, *options), out)
    assert reason in message
    assert not calls
    assert not out.exists()


@pytest.mark.parametrize(
    "options", [["--tau", 1e31], ["--temperature", 1 / 1e31], ["--tau", 1e-320]], ids=str
)
def test_a_temperature_that_the_sampler_refuses_is_named(model, photo, out, options):
    message = refusal(enlarge(photo, "-o", out, "--model", model, *options), out)
    reason = "is too small" if options[1] != 1e-320 else "must be 0 or more and finite, got inf"
    assert message.startswith("Error: temperature ")
    assert reason in message
    assert not out.exists()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB.\nMore\nlines"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_too_little_memory_gives_one_sentence(model, photo, out, monkeypatch, error):
    def exhausted(*arguments, **options):
        raise error

    monkeypatch.setattr(pixelsr, "sample", exhausted)
    message = refusal(enlarge(photo, "-o", out, "--model", model), out)
    assert message.startswith("Error: out of memory")
    assert "--max-batch" in message


def test_the_torch_of_this_machine_says_so_where_memory_runs_out(model, photo, out, monkeypatch):
    monkeypatch.setattr(pixelsr, "sample", lambda *arguments, **options: torch.empty(2**60))
    message = refusal(enlarge(photo, "-o", out, "--model", model), out)
    assert message.startswith("Error: out of memory")


def test_another_error_of_torch_is_not_hidden(model, photo, out, monkeypatch):
    def broken(*arguments, **options):
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(pixelsr, "sample", broken)
    result = enlarge(photo, "-o", out, "--model", model)
    assert isinstance(result.exception, RuntimeError)


def no_weights(model: Path) -> None:
    (model / "model.safetensors").unlink()


def no_config(model: Path) -> None:
    (model / "config.json").unlink()


def foreign_weights(model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"PK\x03\x04 a pickle in a zip")


def foreign_config(model: Path) -> None:
    (model / "config.json").write_text('{"class": "Unicorn"}')


def broken_config(model: Path) -> None:
    (model / "config.json").write_text("{")


def foreign_tensor(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    save_file({**tensors, "unicorn": torch.zeros(1)}, model / "model.safetensors")


def other_class(model: Path) -> None:
    tiny().prior.save_pretrained(model)


def two_levels(model: Path) -> None:
    tiny(levels=2).save_pretrained(model)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (no_weights, "model.safetensors is missing"),
        (no_config, "config.json is missing"),
        (foreign_weights, "not a whole safetensors file"),
        (foreign_config, "Unicorn"),
        (broken_config, "not the config"),
        (foreign_tensor, "unicorn"),
        (other_class, "GatedPixelCNN"),
        (two_levels, "2 levels"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_bad_model_folder_is_refused(calls, model, photo, out, damage, reason):
    damage(model)
    message = refusal(enlarge(photo, "-o", out, "--model", model), out)
    assert reason in message
    assert not calls
    assert not out.exists()


def test_nan_weights_are_refused(photo, out, tmp_path):
    model = tiny()
    with torch.no_grad():
        next(model.prior.parameters()).view(-1)[0] = float("nan")
    model.save_pretrained(tmp_path / "nan")
    message = refusal(enlarge(photo, "-o", out, "--model", tmp_path / "nan"), out)
    assert "nan" in message.lower()
    assert not out.exists()


def test_out_that_is_a_file_is_refused(calls, model, photo, tmp_path):
    out = tmp_path / "out.png"
    out.write_text("mine")
    result = enlarge(photo, "-o", out, "--model", model)
    assert f"{out} is a file" in refusal(result, out)
    assert result.exit_code == 1
    assert out.read_text() == "mine"
    assert not calls


def test_out_inside_a_file_is_refused(calls, model, photo, tmp_path):
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "out"
    message = refusal(enlarge(photo, "-o", out, "--model", model), out)
    assert f"{tmp_path / 'file'} is a file" in message
    assert not calls


def test_out_without_permission_is_refused(calls, model, photo, out, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: not mode & os.W_OK)
    assert "no permission" in refusal(enlarge(photo, "-o", out, "--model", model), out)
    assert not calls


def test_a_folder_in_the_place_of_a_picture_is_refused(calls, model, photo, out):
    (out / "photo-2.png").mkdir(parents=True)
    result = enlarge(photo, "-o", out, "--model", model)
    assert "photo-2.png is a folder" in result.stderr
    assert result.exit_code == 1
    assert [path.name for path in out.iterdir()] == ["photo-2.png"]
    assert not calls


def test_a_photo_is_never_written_over(calls, model, tmp_path):
    first, second = (save_photo(tmp_path / name) for name in ("me.png", "me-1.png"))
    before = second.read_bytes()
    result = enlarge(first, second, "-o", tmp_path, "--model", model)
    assert result.exit_code == 1
    assert f"{second} is a photo to enlarge" in result.stderr
    assert second.read_bytes() == before
    assert not calls


def test_a_full_disk_leaves_no_file(calls, model, photo, out, monkeypatch):
    count = iter(range(100))

    def full(descriptor):
        if next(count) == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    message = refusal(enlarge(photo, "-o", out, "--model", model), out)
    assert "No space left on device" in message
    assert "photo-4.png" in message


def test_an_interrupt_leaves_no_file(model, photo, out, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(pixelsr, "sample", interrupted)
    result = enlarge(photo, "-o", out, "--model", model)
    assert result.exit_code != 0
    assert isinstance(result.exception, SystemExit)
    assert not out.exists()


def test_every_command_is_summed_up_in_a_line_that_is_whole():
    for width in (80, 72):
        help = CliRunner().invoke(main, ["--help"], terminal_width=width).output
        assert "enlarge  " in help
        assert "..." not in help.split("Commands:")[1]


def test_help_tells_of_every_option():
    text = enlarge("--help").output
    for word in ("PHOTO...", "--samples", "--seed", "--temperature", "--tau", "--model", "--box"):
        assert word in text
