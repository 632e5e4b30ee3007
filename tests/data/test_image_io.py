"""Tests of image files: every kind is read as upright RGB, every bad file gives one sentence."""

import contextlib
import io
import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pixelsr
from pixelsr.data.crop import area_resize, center_square, from_tensor, small_image, to_tensor
from pixelsr.data.downsample import area_average
from pixelsr.data.image_io import (
    FORMATS,
    MAX_SIDE,
    decode_image,
    open_image,
    save_image,
    to_rgb,
)
from pixelsr.utils.atomic_write import write_all_whole


def pattern(height: int = 6, width: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def opened(image: Image.Image, path: Path, **options: object) -> np.ndarray:
    image.save(path, **options)
    result = open_image(path)
    assert result.mode == "RGB"
    return np.asarray(result)


def refusal(path: Path, error: type[Exception] = ValueError) -> str:
    with pytest.raises(error) as caught:
        open_image(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


# --- files that are read ---


def test_rgb_comes_as_it_is(tmp_path):
    assert (opened(Image.fromarray(pattern()), tmp_path / "a.png") == pattern()).all()


@pytest.mark.parametrize("mode", ["L", "1"])
def test_gray_fills_three_colors(tmp_path, mode):
    gray = Image.fromarray(pattern()).convert(mode)
    values = opened(gray, tmp_path / "a.png")
    assert (values == np.asarray(gray.convert("L"))[..., None]).all()


def test_transparent_is_composed_over_white(tmp_path):
    image = Image.new("RGBA", (3, 1), (0, 0, 0, 255))
    image.putpixel((1, 0), (10, 20, 30, 0))
    image.putpixel((2, 0), (100, 0, 0, 51))  # one fifth opaque over white
    values = opened(image, tmp_path / "a.png")
    assert values.tolist() == [[[0, 0, 0], [255, 255, 255], [224, 204, 204]]]


@pytest.mark.parametrize("mode", ["LA", "PA", "La", "RGBa"])
def test_every_alpha_mode_is_composed_over_white(mode):
    source = Image.new("LA", (1, 1), (0, 0))
    if mode in ("PA", "RGBa"):
        source = source.convert("RGBA")
    clear = Image.new("PA", (1, 1), (0, 0)) if mode == "PA" else source.convert(mode)
    assert to_rgb(clear).getpixel((0, 0)) == (255, 255, 255)


def test_transparent_palette_entry_shows_white(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    values = opened(image, tmp_path / "a.png", transparency=0)
    assert values.tolist() == [[[255, 255, 255], [40, 50, 60]]]


def test_cmyk_works(tmp_path):
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    red = opened(image, tmp_path / "a.jpg", quality=100)[8, 8]
    assert np.abs(red.astype(int) - (255, 0, 0)).max() < 15


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_gray_is_scaled_and_not_clipped(tmp_path, suffix):
    values = np.array([[0, 128, 129, 257, 32768, 65535]], dtype=np.uint16)
    result = opened(Image.fromarray(values), tmp_path / f"a.{suffix}")
    assert result[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]


def test_16_bit_rgb_is_scaled_and_not_clipped(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png_16_bit_rgb([(0x0000, 0x8080, 0xFFFF)]))
    assert np.asarray(open_image(path)).tolist() == [[[0, 128, 255]]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 7.0, 255.0], [0, 7, 255]),
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
        ([5.0, 5.0, 1000.0], [0, 0, 255]),
    ],
    ids=["unit", "bytes", "signed", "large"],
)
def test_float_images_are_scaled(tmp_path, values, expected):
    image = Image.fromarray(np.array([values], dtype=np.float32))
    assert opened(image, tmp_path / "a.tif")[0, :, 0].tolist() == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0, 257, 65535], [0, 1, 255]), ([-100, 0, 100], [0, 128, 255]), ([0, 0, 70000], [0, 0, 255])],
    ids=["16 bits", "signed", "large"],
)
def test_32_bit_integers_are_scaled(tmp_path, values, expected):
    image = Image.fromarray(np.array([values], dtype=np.int32))
    assert opened(image, tmp_path / "a.tif")[0, :, 0].tolist() == expected


@pytest.mark.filterwarnings("error")
def test_a_constant_float_image_works(tmp_path):
    image = Image.fromarray(np.full((2, 2), -3, dtype=np.float32))
    assert (opened(image, tmp_path / "a.tif") == 0).all()


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_exif_orientation_is_applied(tmp_path, orientation, turns):
    exif = Image.Exif()
    exif[0x0112] = orientation
    values = opened(Image.fromarray(pattern()), tmp_path / "a.png", exif=exif)
    assert (values == np.rot90(pattern(), turns)).all()


def test_of_an_animation_the_first_frame_is_taken(tmp_path):
    frames = [Image.fromarray(pattern(seed=seed)) for seed in range(3)]
    options = {"save_all": True, "append_images": frames[1:], "lossless": True}
    assert (opened(frames[0], tmp_path / "a.webp", **options) == pattern()).all()


# --- files that are refused ---


def test_missing_file(tmp_path):
    assert "no such image" in refusal(tmp_path / "none.png", FileNotFoundError)


def test_folder(tmp_path):
    assert "folder" in refusal(tmp_path)


def test_empty_file(tmp_path):
    (tmp_path / "a.png").touch()
    assert "empty" in refusal(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "gif", "bmp"])
@pytest.mark.parametrize("part", [0.1, 0.6])
def test_truncated_file(tmp_path, suffix, part):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(pattern(40, 40)).save(path)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    assert path.name in refusal(path)


def test_damaged_chunk(tmp_path):
    path = tmp_path / "a.png"
    pixels = zlib.compress(bytes(4 * 13))
    path.write_bytes(png_header(4, 4) + chunk(b"IDAT", pixels[:4]) + b"\0\0\0\4????" + bytes(9))
    assert "cannot be decoded" in refusal(path)


def test_not_an_image(tmp_path):
    path = tmp_path / "a.png"
    path.write_text("these are words\n" * 100)
    assert "not an image" in refusal(path)


PSD = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 4, 4, 8, 3) + bytes(12) + bytes(2 + 3 * 16)
WMF = b"\xd7\xcd\xc6\x9a\0\0" + struct.pack("<4hH", 0, 0, 100, 100, 72) + bytes(10)
SPIDER = struct.pack(">23f", *(1 if k in (0, 1, 4, 11, 12, 21) else 0 for k in range(23)))
EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 8 8
%%EndComments
0 0 8 8 rectfill showpage
%%EOF
"""


@pytest.mark.parametrize("name", ["face.png", "face.eps", "face"])
def test_an_eps_starts_no_program(tmp_path, monkeypatch, name):
    programs, mark = tmp_path / "programs", tmp_path / "mark"
    programs.mkdir()
    (programs / "gs").write_text(f"#!/bin/sh\ntouch {mark}\n")
    (programs / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # Pillow caches the path
    (tmp_path / name).write_bytes(EPS)
    assert "expected PNG, JPEG, " in refusal(tmp_path / name)
    assert not mark.exists()
    with Image.open(tmp_path / name) as image, contextlib.suppress(OSError):
        image.load()
    assert mark.exists()  # without our reader, Pillow starts the program


@pytest.mark.parametrize("data", [PSD, WMF, SPIDER + bytes(400)], ids=["PSD", "WMF", "Spider"])
def test_a_format_that_people_do_not_have_is_refused_whatever_its_name(tmp_path, data):
    (tmp_path / "face.png").write_bytes(data)
    message = refusal(tmp_path / "face.png")
    assert message.endswith(f"is not an image of a supported format: expected {', '.join(FORMATS)}")
    with pytest.raises(ValueError, match="is not an image of a supported format"):
        decode_image(data, "face.png")


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_read_whatever_its_name(tmp_path, name):
    file, size = io.BytesIO(), (16, 16)
    Image.new("RGB", size, (200, 80, 60)).save(file, name)
    for suffix in ("png", "eps", "txt"):
        (tmp_path / f"a.{suffix}").write_bytes(file.getvalue())
        image = open_image(tmp_path / f"a.{suffix}")
        assert image.size == size
        assert np.abs(np.asarray(image).astype(int) - (200, 80, 60)).max() < 10


def test_the_documents_list_every_format():
    docs = Path(pixelsr.__file__).parents[1] / "docs" / "training.md"
    listed = docs.read_text().upper().replace("JPEG 2000", "JPEG2000")
    assert [name for name in FORMATS if name not in re.split(r"[^A-Z0-9]+", listed)] == []


def test_the_several_images_of_a_camera_are_read_as_the_first(tmp_path):
    first, second = Image.new("RGB", (16, 16), "red"), Image.new("RGB", (16, 16), "blue")
    first.save(tmp_path / "a.mpo", "MPO", save_all=True, append_images=[second])
    assert open_image(tmp_path / "a.mpo").getpixel((8, 8))[0] > 240


def test_files_are_opened_in_one_place_alone():
    """Check that files are opened in one place only; elsewhere Pillow could start programs."""
    package = Path(pixelsr.__file__).parent
    opening = {
        str(path.relative_to(package)): len(found)
        for path in package.rglob("*.py")
        if (
            found := re.findall(
                r"\bImage\.open\(|ImageFile\.Parser|import open\b", path.read_text()
            )
        )
    }
    assert opening == {"data/image_io.py": 1}


@pytest.mark.parametrize(
    "error",
    [ZeroDivisionError, TypeError, AttributeError, OverflowError, KeyError, AssertionError],
)
@pytest.mark.parametrize("stage", ["open", "load"])
def test_whatever_a_decoder_raises_is_one_sentence_that_names_the_file(
    tmp_path, monkeypatch, error, stage
):
    def fail(*arguments: object, **options: object) -> None:
        raise error("of a decoder")

    Image.fromarray(pattern()).save(tmp_path / "a.png")
    where = "PIL.Image.open" if stage == "open" else "PIL.PngImagePlugin.PngImageFile.load"
    monkeypatch.setattr(where, fail)
    message = refusal(tmp_path / "a.png")
    assert "cannot be read" in message if stage == "open" else "cannot be decoded" in message


@pytest.mark.parametrize("stage", ["open", "load"])
def test_a_bomb_is_too_large_wherever_it_is_found(tmp_path, monkeypatch, stage):
    def fail(*arguments: object, **options: object) -> None:
        raise Image.DecompressionBombError("of an image within")

    Image.fromarray(pattern()).save(tmp_path / "a.png")
    where = "PIL.Image.open" if stage == "open" else "PIL.PngImagePlugin.PngImageFile.load"
    monkeypatch.setattr(where, fail)
    assert "too large" in refusal(tmp_path / "a.png")


# --- PNG files without their last rows ---


ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4)]
ADAM7 += [(1, 0, 2, 2), (0, 1, 1, 2)]  # left, top, step to the right, step down


def png_rows(rows: int, bits: int, kind: int, height: int = 12, *, interlaced: bool) -> bytes:
    """Return a PNG's first `rows` rows, or rows of Adam7 passes, 10 pixels wide.

    All of these rows are white, except the last, which is black.
    """
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[kind]
    header = struct.pack(">IIBBBBB", 10, height, bits, kind, 0, 0, interlaced)
    parts = [(10, height)]
    if interlaced:
        parts = [(len(range(x, 10, dx)), len(range(y, height, dy))) for x, y, dx, dy in ADAM7]
    lines = [1 + -(-width * bits * channels // 8) for width, count in parts for _ in range(count)]
    data = b"".join(b"\0" + b"\xff" * (length - 1) for length in lines[: rows - 1])
    data += bytes(lines[rows - 1])
    pixels = chunk(b"IDAT", zlib.compress(data)[:7]) + chunk(b"IDAT", zlib.compress(data)[7:])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("kind", [0, 2, 4, 6])
def test_a_png_that_ends_before_its_last_row_is_refused(tmp_path, bits, kind):
    for rows in (4, 11):
        (tmp_path / "a.png").write_bytes(png_rows(rows, bits, kind, interlaced=False))
        assert "cannot be decoded: its data end before the last row" in refusal(tmp_path / "a.png")
        with pytest.raises(ValueError, match="its data end before the last row"):
            decode_image((tmp_path / "a.png").read_bytes(), "a.png")


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("height", [12, 13])
def test_an_interlaced_png_that_ends_before_its_last_row_is_refused(tmp_path, bits, height):
    path = tmp_path / "a.png"
    rows = sum(len(range(y, height, step)) for _, y, _, step in ADAM7)
    path.write_bytes(png_rows(rows, bits, 0, height, interlaced=True))
    assert open_image(path).size == (10, height)
    for less in (1, 6, 12):
        path.write_bytes(png_rows(rows - less, bits, 0, height, interlaced=True))
        assert "its data end before the last row" in refusal(path)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_whole_png_may_be_black(tmp_path, mode):
    for size in ((5, 7), (1, 1), (3000, 500)):
        black = Image.new(mode, size)
        assert opened(black, tmp_path / "a.png").shape == (size[1], size[0], 3)


def test_floats_that_are_not_finite(tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(np.array([[0, np.nan]], dtype=np.float32)).save(path)
    assert "not finite" in refusal(path)


@pytest.mark.parametrize(
    ("width", "height"),
    [(20_000, 10), (10, 20_000), (MAX_SIDE + 1, 1), (20_000, 20_000)],
)
def test_too_large_is_refused_by_the_header(tmp_path, width, height):
    path = tmp_path / "a.png"
    path.write_bytes(png_header(width, height) + chunk(b"IDAT", b"no pixels"))
    assert "too large" in refusal(path)


def test_the_largest_side_is_read(tmp_path):
    image = Image.new("L", (MAX_SIDE, 1))
    assert opened(image, tmp_path / "a.png").shape == (1, MAX_SIDE, 3)


def test_a_real_image_of_20_000_pixels_is_refused(tmp_path):
    path = tmp_path / "a.png"
    Image.new("1", (20_000, 40)).save(path)
    assert "20,000 x 40" in refusal(path)


# --- saving ---


def test_a_saved_image_comes_back(tmp_path):
    path = tmp_path / "a.png"
    save_image(Image.fromarray(pattern()), path)
    assert (np.asarray(open_image(path)) == pattern()).all()
    assert os.listdir(tmp_path) == ["a.png"]


def fill_disk(monkeypatch, after: int) -> None:
    """Make every fsync after the first `after` ones fail, as on a full disk."""
    left = iter(range(after))

    def sync(descriptor):
        if next(left, None) is None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", sync)


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    fill_disk(monkeypatch, after=1)
    with pytest.raises(OSError, match=r"b\.png cannot be written: No space left on device"):
        write_all_whole({tmp_path / "a.png": b"a", tmp_path / "b.png": b"b"})
    assert os.listdir(tmp_path) == []


def test_a_failed_write_keeps_the_older_file(tmp_path, monkeypatch):
    save_image(Image.fromarray(pattern()), tmp_path / "a.png")
    fill_disk(monkeypatch, after=0)
    with pytest.raises(OSError, match="cannot be written"):
        save_image(Image.fromarray(pattern(seed=1)), tmp_path / "a.png")
    assert (np.asarray(open_image(tmp_path / "a.png")) == pattern()).all()


# --- from a photo to the small image ---


def test_the_center_square_is_taken():
    assert center_square((10, 4)) == (3, 0, 7, 4)
    assert center_square((4, 9)) == (0, 2, 4, 6)


def test_low_res_of_a_32x32_image_is_its_area_average():
    image = to_tensor(Image.fromarray(pattern(32, 32)))
    small = small_image(from_tensor(image))
    assert torch.equal(small.original, image)
    assert torch.equal(small.low_res, area_average(image[None], 4)[0])


@pytest.mark.parametrize("side", [32, 64, 96, 160])
def test_area_resize_equals_area_average_where_it_divides(side):
    image = to_tensor(Image.fromarray(pattern(side, side)))
    assert torch.equal(area_resize(image, 32), area_average(image[None], side // 32)[0])


@pytest.mark.parametrize(("side", "size"), [(33, 32), (50, 32), (7, 3), (101, 8)])
def test_area_resize_is_exact_where_it_does_not_divide(side, size):
    """Compare with the definition: split pixels into size x size parts, average blocks of parts."""
    image = to_tensor(Image.fromarray(pattern(side, side)))
    parts = image.repeat_interleave(size, 1).repeat_interleave(size, 2)
    assert torch.equal(area_resize(image, size), area_average(parts[None], side)[0])


def test_area_resize_rounds_half_to_even():
    image = torch.tensor([[[0, 1], [1, 0]], [[1, 2], [2, 1]]], dtype=torch.uint8)
    assert area_resize(image, 1).flatten().tolist() == [0, 2]


def test_an_8x8_image_is_taken_as_it_is():
    small = small_image(Image.fromarray(pattern(8, 8)))
    assert (small.low_res.permute(1, 2, 0).numpy() == pattern(8, 8)).all()
    assert small.original is None


def test_a_box_is_cut_out():
    values = pattern(40, 60)
    small = small_image(Image.fromarray(values), box=(20, 5, 52, 37))
    assert (small.original.permute(1, 2, 0).numpy() == values[5:37, 20:52]).all()


def test_a_gray_model_gets_one_color():
    small = small_image(Image.fromarray(pattern(32, 32)), colors=1)
    assert small.low_res.shape == (1, 8, 8)
    assert (
        small.original[0].numpy() == np.asarray(Image.fromarray(pattern(32, 32)).convert("L"))
    ).all()


@pytest.mark.parametrize("side", [1, 7, 9, 31])
def test_too_small_a_photo_is_refused(side):
    with pytest.raises(
        ValueError, match=f"{side} pixels a side, expected exactly 8 .* at least 32"
    ):
        small_image(Image.fromarray(pattern(side, 40)))


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((10, 10, 10, 42), "empty"),
        ((20, 10, 10, 42), "empty"),
        ((-1, 0, 31, 32), "leaves the image"),
        ((0, 10, 32, 42), "leaves the image"),
        ((30, 0, 62, 32), "leaves the image"),
        ((0, 0, 40, 32), "expected a square"),
    ],
)
def test_a_bad_box_is_refused(box, reason):
    with pytest.raises(ValueError, match=reason):
        small_image(Image.fromarray(pattern(40, 60)), box=box)


# --- PNG files that Pillow does not write ---


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int, bits: int = 8) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(
        b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    )


def png_16_bit_rgb(row: list[tuple[int, int, int]]) -> bytes:
    data = io.BytesIO(b"\0")
    data.seek(1)
    for pixel in row:
        data.write(struct.pack(">HHH", *pixel))
    pixels = chunk(b"IDAT", zlib.compress(data.getvalue()))
    return png_header(len(row), 1, bits=16) + pixels + chunk(b"IEND", b"")
