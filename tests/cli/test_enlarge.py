"""Tests of `pixelsr enlarge`: it writes images and a sheet, or one sentence and no file."""

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
from pixelsr.cli.files import unique_names
from pixelsr.data.crop import from_tensor, small_image, to_tensor
from pixelsr.utils.contact_sheet import Row, draw_sheet
from tests.support.command_cases import (
    holds,
    invoke,
    read_image,
    refusal,
    save_photo,
    tiny,
    words,
    written,
)

SAMPLES = Path(pixelsr.__file__).parent / "samples"
SAMPLER = "pixelsr.cli.enlarge.sample_distributed"


@pytest.fixture
def model(tmp_path) -> Path:
    tiny().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def calls(monkeypatch) -> list[dict]:
    """Replace the sampler by a stub; return the list of its calls' arguments."""
    asked: list[dict] = []

    def paint(workers, model, n=1, *, low_res, seed=0, **options):
        asked.append({"model": model, "n": n, "low_res": low_res, "seed": seed, **options})
        size = [model.scale_factor * side for side in low_res.shape[-2:]]
        shape = (n * low_res.shape[0], low_res.shape[1], *size)
        generator = torch.Generator().manual_seed(seed)
        images = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
        options["keep"](0, images)
        return images

    monkeypatch.setattr(SAMPLER, paint)
    return asked


def enlarge(*arguments: object) -> Result:
    return invoke("enlarge", *arguments)


# --- the written images ---


def test_writes_what_the_sampler_draws(model, photo, out):
    other = save_photo(photo.with_name("other.png"), 50, 50, seed=1)
    result = enlarge(photo, other, "-o", out, "--model", model, "--samples", 2, "--seed", 3)
    assert result.exit_code == 0, result.output
    assert str(out / "sheet.png") in result.stdout
    assert list(written(out)) == [
        *("other-1.png", "other-2.png", "photo-1.png", "photo-2.png", "sheet.png")
    ]
    smalls = [small_image(Image.open(path), scale_factor=2) for path in (photo, other)]
    low_res = torch.stack([small.low_res for small in smalls])
    expected = pixelsr.sample(tiny(), n=2, low_res=low_res, seed=3)
    names = ["photo-1.png", "photo-2.png", "other-1.png", "other-2.png"]
    assert torch.equal(torch.stack([read_image(out / name) for name in names]), expected)


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
    tiny(scale_factor=4).save_pretrained(tmp_path / "model")
    photos = sorted(SAMPLES.glob("*.png"))
    assert len(photos) == 2
    assert enlarge(*photos, "-o", out, "--model", tmp_path / "model").exit_code == 0
    assert len(written(out)) == 2 * 4 + 1
    assert read_image(out / "astronaut-4.png").shape == (3, 32, 32)


def test_an_8x8_image_is_taken_as_it_is(calls, model, out, tmp_path):
    photo = save_photo(tmp_path / "tiny.png", 8, 8)
    assert enlarge(photo, "-o", out, "--model", model).exit_code == 0
    assert torch.equal(calls[0]["low_res"][0], read_image(photo))


def test_box_is_cut_out_of_each_photo(calls, model, photo, out):
    result = enlarge(photo, "-o", out, "--model", model, "--box", "7,3,23,19")
    assert result.exit_code == 0, result.output
    small = small_image(Image.open(photo), scale_factor=2, box=(7, 3, 23, 19))
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


def test_gray_transparent_cmyk_and_16_bit_photos_work(calls, model, out, tmp_path):
    photo = Image.open(save_photo(tmp_path / "rgb.png"))
    photo.convert("L").save(tmp_path / "gray.png")
    photo.convert("RGBA").save(tmp_path / "clear.png")
    photo.convert("CMYK").save(tmp_path / "print.jpg")
    deep = np.asarray(photo.convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "deep.png")
    photos = [tmp_path / name for name in ("gray.png", "clear.png", "print.jpg", "deep.png")]
    result = enlarge(*photos, "-o", out, "--model", model)
    assert result.exit_code == 0, result.output
    gray, _, _, deep_low = calls[0]["low_res"]
    assert torch.equal(gray, deep_low)


def test_a_gray_model_draws_gray_images(calls, photo, out, tmp_path):
    tiny(colors=1).save_pretrained(tmp_path / "gray")
    result = enlarge(photo, "-o", out, "--model", tmp_path / "gray")
    assert result.exit_code == 0, result.output
    assert calls[0]["low_res"].shape == (1, 1, 8, 8)


# --- the sheet ---


CAPTIONS = ["8x8 input", "bicubic", "sample 1", "sample 2", "original"]


def sheet_row(count: int, seed: int = 0) -> Row:
    generator = torch.Generator().manual_seed(seed)
    tiles = torch.randint(256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return Row("photo.png", [from_tensor(tile) for tile in tiles])


def draw(*rows: Row, scale: int = 2) -> Image.Image:
    captions = CAPTIONS[: max(len(row.tiles) for row in rows)]
    return draw_sheet(captions, rows, (32, 32), scale)


def test_the_sheet_holds_input_samples_and_original(calls, model, photo, out):
    assert enlarge(photo, "-o", out, "--model", model, "--samples", 2).exit_code == 0
    sheet = Image.open(out / "sheet.png")
    small = small_image(Image.open(photo), scale_factor=2)
    assert holds(sheet, small.low_res, 32)
    for tile in (read_image(out / "photo-1.png"), read_image(out / "photo-2.png"), small.original):
        assert holds(sheet, tile, 16)


def test_the_sheet_has_no_column_for_originals_that_nobody_knows(calls, model, photo, tmp_path):
    tiny_photo = save_photo(tmp_path / "tiny.png", 8, 8)
    widths = {}
    for name, photos in {"none": [tiny_photo], "one": [tiny_photo, photo], "all": [photo]}.items():
        assert enlarge(*photos, "-o", tmp_path / name, "--model", model).exit_code == 0
        widths[name] = Image.open(tmp_path / name / "sheet.png").width
    assert widths["none"] < widths["one"] == widths["all"]


def test_the_sheet_has_a_row_a_photo():
    one, other = sheet_row(5), sheet_row(5, seed=1)
    sheet = draw(one, other)
    assert sheet.height > draw(one).height + 64
    for tile in (*one.tiles, *other.tiles):
        assert holds(sheet, to_tensor(tile), 2)


def test_tiles_of_many_columns_or_large_images_are_smaller():
    row = sheet_row(1)
    few, many = (draw_sheet(["sample"] * count, [row], (32, 32)) for count in (8, 67))
    assert few.width > 8 * 256
    assert many.width <= 8192 + 32
    assert draw_sheet(["sample"], [row], (300, 300)).width == 32 + 300


def test_the_sheet_shows_a_question_mark_for_each_odd_letter_of_a_name():
    row = sheet_row(5)
    odd, plain = (Row(name, row.tiles) for name in ("фото\n\udcff.png", "??????.png"))
    assert draw(odd) == draw(plain)


# --- folders ---


def test_a_folder_stands_for_all_its_images(calls, model, out, tmp_path):
    for k, name in enumerate(["b.png", "deep/er/a.jpg", ".hidden.png", ".cache/c.png"]):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save_photo(path, seed=k)
    (tmp_path / "photos/b.json").write_text("{}")
    single = save_photo(tmp_path / "single.png")
    result = enlarge(single, tmp_path / "photos", "-o", out, "--model", model, "--samples", 1)
    assert result.exit_code == 0, result.output
    assert list(written(out)) == ["a-1.png", "b-1.png", "sheet.png", "single-1.png"]
    assert len(calls[0]["low_res"]) == 3
    expected = small_image(Image.open(tmp_path / "photos/b.png"), scale_factor=2).low_res
    assert torch.equal(calls[0]["low_res"][1], expected)


def test_what_is_no_image_in_a_folder_is_named_and_skipped(calls, model, out, tmp_path):
    folder = tmp_path / "photos"
    save_photo(folder / "good.png")
    words(folder / "words.txt")
    small(folder / "small.png")
    result = enlarge(folder, "-o", out, "--model", model, "--samples", 1)
    assert result.exit_code == 0, result.output
    assert list(written(out)) == ["good-1.png", "sheet.png"]
    lines = result.stderr.splitlines()
    assert lines[0].startswith(f"skipped: {folder / 'small.png'}: the square")
    assert lines[1].startswith(f"skipped: {folder / 'words.txt'} is not an image")
    assert len(lines) == 2


def test_a_folder_without_a_usable_image_is_refused(calls, model, out, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    words(folder / "words.txt")
    message = refusal(enlarge(folder, "-o", out, "--model", model), out)
    assert message == "Error: none of the files found is an image that can be used"
    assert not calls


def test_images_of_an_earlier_run_are_no_photos(calls, model, photo):
    folder = photo.parent
    options = ["--model", model, "--samples", 1]
    for _ in range(2):
        result = enlarge(photo.parent, "-o", folder / "out", *options)
        assert result.exit_code == 0, result.output
    assert [len(call["low_res"]) for call in calls] == [1, 1]


def test_an_unreadable_file_of_a_folder_is_not_written_over_either(calls, model, tmp_path):
    folder = tmp_path / "photos"
    save_photo(folder / "me.png")
    words(folder / "me-1.png")
    result = enlarge(folder, "-o", folder, "--model", model)
    assert f"{folder / 'me-1.png'} is one of the inputs" in result.stderr
    assert result.exit_code == 1
    assert not calls


def test_the_sheet_of_many_photos_shows_the_first_24_and_says_so(calls, model, out, tmp_path):
    folder = tmp_path / "photos"
    for k in range(25):
        save_photo(folder / f"{k:02d}.png", 16, 16, seed=k)
    result = enlarge(folder, "-o", out, "--model", model, "--samples", 1)
    assert result.exit_code == 0, result.output
    assert len(written(out)) == 25 + 1
    says = f"25 images in {out}, those of the first 24 photos side by side in {out / 'sheet.png'}"
    assert result.stdout == says + "\n"
    sheet = Image.open(out / "sheet.png")
    assert holds(sheet, read_image(out / "23-1.png"), 16)
    assert not holds(sheet, read_image(out / "24-1.png"), 16)


# --- the size that a model was trained at ---


def test_the_small_size_is_the_trained_one_over_the_magnification(calls, model, photo, out):
    (model / "training.toml").write_text("size = 24\n")
    assert enlarge(photo, "-o", out, "--model", model).exit_code == 0
    assert calls[0]["low_res"].shape == (1, 3, 12, 12)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("size = 25", "25 pixels a side"),
        ("size = 0", "size must be a positive int, got 0"),
        ("size = '32'", "size must be a positive int, got '32'"),
        ("size = true", "size must be a positive int, got True"),
        ("size =", "training.toml is not TOML"),
    ],
)
def test_a_bad_trained_size_is_refused(calls, model, photo, out, text, reason):
    (model / "training.toml").write_text(text)
    assert reason in refusal(enlarge(photo, "-o", out, "--model", model), out)
    assert not calls


def test_a_training_file_may_not_tell_the_size(calls, model, photo, out):
    (model / "training.toml").write_text("seed = 1\n")
    assert enlarge(photo, "-o", out, "--model", model).exit_code == 0
    assert calls[0]["low_res"].shape == (1, 3, 8, 8)


# --- refused arguments: one sentence, nothing written ---


def empty(path: Path) -> None:
    path.touch()


def truncated(path: Path) -> None:
    save_photo(path)
    path.write_bytes(path.read_bytes()[:1000])


def wide(path: Path) -> None:
    Image.new("1", (20_000, 40)).save(path)


def small(path: Path) -> None:
    save_photo(path, 12, 12)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "no such image"),
        (Path.mkdir, "is a folder without an image"),
        (empty, "empty"),
        (truncated, "cannot be decoded"),
        (words, "not an image"),
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
        (["--samples", 65], "1<=x<=64"),
        (["--seed", -1], "0<=x<=18446744073709551615"),
        (["--seed", 2**64], "0<=x<=18446744073709551615"),
        (["--engine", "steam"], "steam"),
        (["--box", "1,2,3"], "LEFT,TOP,RIGHT,BOTTOM"),
        (["--box", "a,b,c,d"], "LEFT,TOP,RIGHT,BOTTOM"),
        (["--box", "5,5,5,5"], "empty"),
        (["--box", "20,0,60,40"], "leaves the image"),
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

    monkeypatch.setattr(SAMPLER, exhausted)
    message = refusal(enlarge(photo, "-o", out, "--model", model), out)
    assert message.startswith("Error: out of memory")
    assert "--max-batch" in message


def test_the_torch_of_this_machine_says_so_where_memory_runs_out(model, photo, out, monkeypatch):
    monkeypatch.setattr(SAMPLER, lambda *arguments, **options: torch.empty(2**60))
    message = refusal(enlarge(photo, "-o", out, "--model", model), out)
    assert message.startswith("Error: out of memory")


def test_another_error_of_torch_is_not_hidden(model, photo, out, monkeypatch):
    def broken(*arguments, **options):
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(SAMPLER, broken)
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


def test_a_folder_in_the_place_of_an_image_is_refused(calls, model, photo, out):
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
    assert f"{second} is one of the inputs" in result.stderr
    assert second.read_bytes() == before
    assert not calls


def fail_fsync(monkeypatch, fails):
    """Make the fsync of the files fail for whose numbers, counted from 0, `fails` returns True."""
    count = iter(range(100))

    def full(descriptor):
        if fails(next(count)):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)


def test_an_image_that_cannot_be_written_loses_itself_alone(calls, model, photo, out, monkeypatch):
    fail_fsync(monkeypatch, lambda number: number == 1)
    result = enlarge(photo, "-o", out, "--model", model)
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: {out / 'photo-2.png'} cannot be written: No space left on device; "
        f"3 of 4 images are in {out}\n"
    )
    assert set(written(out)) == {"photo-1.png", "photo-3.png", "photo-4.png", "sheet.png"}


def test_a_sheet_that_cannot_be_written_loses_no_image(calls, model, photo, out, monkeypatch):
    fail_fsync(monkeypatch, lambda number: number == 4)
    result = enlarge(photo, "-o", out, "--model", model)
    assert result.exit_code == 1
    assert f"{out / 'sheet.png'} cannot be written" in result.stderr
    assert set(written(out)) == {f"photo-{k}.png" for k in (1, 2, 3, 4)}


def test_images_are_written_batch_by_batch(model, photo, out, monkeypatch):
    fail_fsync(monkeypatch, lambda number: number >= 2)
    result = enlarge(photo, "-o", out, "--model", model, "--max-batch", 2)
    assert result.exit_code == 1
    assert f"{out / 'photo-3.png'} cannot be written" in result.stderr
    assert set(written(out)) == {"photo-1.png", "photo-2.png"}


def test_a_full_disk_leaves_no_file(calls, model, photo, out, monkeypatch):
    fail_fsync(monkeypatch, lambda number: True)
    message = refusal(enlarge(photo, "-o", out, "--model", model), out)
    assert message == f"Error: {out / 'photo-1.png'} cannot be written: No space left on device"
    assert not out.exists()


@pytest.mark.parametrize("length", [236, 249])
def test_a_long_name_is_written(calls, model, tmp_path, out, length):
    photo = save_photo(tmp_path / f"{'x' * (length - 4)}.png")
    result = enlarge(photo, "-o", out, "--model", model)
    assert result.exit_code == 0, result.output
    assert len(written(out)) == 5


@pytest.mark.parametrize("made", [True, False])
def test_a_name_that_becomes_too_long_is_found_before_the_drawing(
    calls, model, tmp_path, out, made
):
    photo = save_photo(tmp_path / f"{'x' * 251}.png")
    if made:
        out.mkdir()
    message = refusal(enlarge(photo, "-o", out, "--model", model), out)
    assert message.endswith(
        "-1.png cannot be written: its name has 257 bytes, expected at most 255"
    )
    assert not calls


def test_a_folder_whose_name_is_too_long_is_found_before_the_drawing(calls, model, photo, out):
    message = refusal(enlarge(photo, "-o", out / ("x" * 256), "--model", model), out)
    assert message.endswith("cannot be written: its name has 256 bytes, expected at most 255")
    assert not calls


@pytest.mark.parametrize("target", ["nowhere", "out"], ids=["nowhere", "itself"])
@pytest.mark.parametrize("below", ["", "more"])
def test_an_out_that_is_a_link_to_nowhere_is_found_before_the_drawing(
    calls, model, photo, out, target, below
):
    out.symlink_to(out.with_name(target))
    message = refusal(enlarge(photo, "-o", out / below, "--model", model), out)
    assert message == f"Error: {out} is a broken link, expected a folder for the images"
    assert not calls


def test_links_that_lead_to_each_other_are_no_photo(calls, model, tmp_path, out):
    loop = tmp_path / "loop.png"
    loop.symlink_to(loop)
    message = refusal(enlarge(loop, "-o", out, "--model", model), out)
    assert message == f"Error: no such image: {loop}"
    folder = tmp_path / "photos"
    save_photo(folder / "photo.png")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    result = enlarge(folder, "-o", out, "--model", model)
    assert result.exit_code == 0, result.output
    assert result.stderr == f"skipped: no such image: {folder / 'loop.png'}\n"


@pytest.mark.parametrize("place", ["PHOTO...", "-o", "--model"])
def test_an_empty_path_is_refused(calls, model, photo, out, place):
    given = {"PHOTO...": photo, "-o": out, "--model": model} | {place: ""}
    result = enlarge(given["PHOTO..."], "-o", given["-o"], "--model", given["--model"])
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("Error: Invalid value for ")
    assert result.stderr.endswith(": it is empty\n")
    assert not calls


def test_an_interrupt_leaves_no_file(model, photo, out, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(SAMPLER, interrupted)
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
