"""Tests of images with a color profile: they are converted to sRGB."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from pixelsr.data.image_io import decode_image, open_image
from pixelsr.data.load import load_images
from tests.support import icc

P3 = icc.rgb_profile(icc.color_matrix(icc.P3_PRIMARIES))
GRAY = icc.gray_profile(1.8)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
TOLERANCE = 0.75
"""The tolerance in levels of 255: half a level for rounding, a quarter for the library's tables."""


def colors(height: int = 24, width: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def read(image: Image.Image, kind: str, profile: bytes | None, **options: object) -> np.ndarray:
    """Return the values read from a file of this kind."""
    file = io.BytesIO()
    image.save(file, kind, icc_profile=profile, **options)
    return np.asarray(decode_image(file.getvalue(), "image")).astype(int)


def check(
    values: np.ndarray, expected: np.ndarray, plain: np.ndarray, *, composed: bool = False
) -> None:
    """Check that values are as expected, and differ from those without a profile."""
    assert np.abs(values - expected).max() <= TOLERANCE + (0.5 if composed else 0)  # rounded twice
    assert np.abs(values - plain).max() > 10


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})]
)
def test_display_p3_becomes_srgb(kind, options):
    values = read(Image.fromarray(colors()), kind, P3, **options)
    check(values, icc.from_p3(colors()), colors())


def test_a_photo_in_a_file_becomes_srgb(tmp_path):
    image = Image.new("RGB", (16, 16), (200, 80, 60))
    image.save(tmp_path / "a.jpg", quality=100, icc_profile=P3)
    plain = np.asarray(Image.open(tmp_path / "a.jpg")).astype(int)
    check(np.asarray(open_image(tmp_path / "a.jpg")).astype(int), icc.from_p3(plain), plain)


def test_transparency_stays_as_it_is_and_colors_become_srgb():
    alpha = np.random.default_rng(1).integers(0, 256, (24, 32, 1), dtype=np.uint8)
    values = read(Image.fromarray(np.concatenate((colors(), alpha), -1)), "PNG", P3)
    share = alpha / 255
    expected, plain = (share * c + (1 - share) * 255 for c in (icc.from_p3(colors()), colors()))
    check(values, expected, plain, composed=True)


def test_a_transparent_color_of_rgb_is_the_one_of_the_file():
    image = Image.fromarray(colors())
    values = read(image, "PNG", P3, transparency=tuple(colors()[3, 5].tolist()))
    assert values[3, 5].tolist() == [255, 255, 255]
    values[3, 5] = np.rint(icc.from_p3(colors())[3, 5])
    check(values, icc.from_p3(colors()), colors())


@pytest.mark.parametrize("transparent", [False, True])
def test_a_palette_has_the_profile_of_its_colors(transparent):
    image = Image.new("P", (256, 1))
    image.putdata(range(256))
    palette = colors(1, 256)
    image.putpalette(palette.tobytes())
    values = read(image, "PNG", P3, **({"transparency": 7} if transparent else {}))
    expected = icc.from_p3(palette)
    if transparent:
        expected[0, 7] = 255
    check(values, expected, palette)


def grays() -> np.ndarray:
    return np.arange(256, dtype=np.uint8)[None]


def test_grays_become_those_of_srgb():
    values = read(Image.fromarray(grays()), "PNG", GRAY)
    check(values, icc.from_gray(grays() / 255, 1.8), grays()[..., None])


def test_transparent_grays_become_those_of_srgb():
    alpha = np.random.default_rng(1).integers(0, 256, (1, 256), dtype=np.uint8)
    values = read(Image.fromarray(np.stack((grays(), alpha), -1), "LA"), "PNG", GRAY)
    share = alpha[..., None] / 255
    light = icc.from_gray(grays() / 255, 1.8)
    expected, plain = (share * c + (1 - share) * 255 for c in (light, grays()[..., None]))
    check(values, expected, plain, composed=True)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grays_of_16_bits_become_those_of_srgb(kind):
    deep = np.arange(0, 65536, 257, dtype=np.uint16)[None] // 3  # dark: 8 bits are coarse
    values = read(Image.fromarray(deep), kind, icc.gray_profile(1.0))
    check(values, icc.from_gray(deep / 65535, 1.0), deep[..., None] / 257)


def test_big_endian_grays_of_16_bits_are_the_same(tmp_path):
    deep = np.arange(0, 65536, 257, dtype=np.uint16)[None]
    profile = icc.gray_profile(1.0)
    Image.fromarray(deep.astype(">u2")).save(tmp_path / "a.tif", icc_profile=profile)
    with Image.open(tmp_path / "a.tif") as image:
        assert image.mode == "I;16B"
    values = np.asarray(open_image(tmp_path / "a.tif")).astype(int)
    check(values, icc.from_gray(deep / 65535, 1.0), deep[..., None] / 257)


def lab_of(inks: np.ndarray) -> np.ndarray:
    """Return the Lab of white paper with four inks, all of which together are black.

    They are not the inks that Pillow assumes.
    """
    lightness = 100 - inks @ [20, 25, 5, 50]
    return np.stack([lightness, inks @ [-24, 30, -6, 0], inks @ [-20, -10, 30, 0]], -1)


@pytest.mark.parametrize("kind", ["TIFF", "JPEG"])
def test_inks_have_the_colors_of_their_profile(kind):
    inks = np.stack(np.meshgrid(*[[0, 1]] * 4, indexing="ij"), -1).reshape(1, 16, 4)
    large = np.kron(inks[0], np.ones((8, 1), int)).reshape(1, 128, 4).repeat(8, 0)
    image = Image.fromarray((255 * large).astype(np.uint8), "CMYK")
    options = {"quality": 100} if kind == "JPEG" else {}
    values = read(image, kind, icc.cmyk_profile(lab_of), **options)[4, 4::8]
    expected, plain = (
        icc.from_lab(lab_of(inks[0].astype(float))),
        read(image, kind, None, **options),
    )
    assert np.abs(values - expected).max() <= 4  # 8-bit Lab, interpolated tables
    assert np.abs(plain[4, 4::8] - expected).max() > 50


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "CMYK"])
@pytest.mark.parametrize(
    "profile",
    [b"no profile", SRGB[:200], SRGB[:-300] + bytes(300), "another kind", b"\0" * 128],
    ids=["text", "cut", "damaged", "another kind", "zeros"],
)
def test_a_profile_that_cannot_be_used_counts_as_srgb(mode, profile):
    if profile == "another kind":
        profile = P3 if mode in ("L", "CMYK") else GRAY
    image = Image.fromarray(colors()).convert(mode)
    values = read(image, "TIFF", profile)
    assert (values == read(image, "TIFF", None)).all()


def nearly_srgb() -> bytes:
    """Return an sRGB profile with differently rounded primaries, as in many files."""
    return icc.rgb_profile(icc.color_matrix(icc.SRGB_PRIMARIES) * [1.006, 0.994, 1.006])


def test_grays_with_the_curve_of_srgb_stay_as_they_are_bit_for_bit():
    for values in (grays(), np.arange(0, 65536, 11, dtype=np.uint16)[None]):
        image, profile = Image.fromarray(values), icc.gray_profile(*icc.CURVE)
        assert (read(image, "PNG", profile) == read(image, "PNG", None)).all()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
@pytest.mark.parametrize("profile", [SRGB, nearly_srgb()], ids=["the library's", "another"])
def test_srgb_stays_as_it_is_bit_for_bit(mode, profile):
    image = Image.fromarray(colors()).convert(mode)
    assert (read(image, "PNG", profile) == read(image, "PNG", None)).all()


def test_the_other_srgb_profile_would_change_pixels():
    image, srgb = Image.fromarray(colors()), ImageCms.createProfile("sRGB")
    moved = ImageCms.profileToProfile(image, io.BytesIO(nearly_srgb()), srgb)
    assert (np.asarray(moved) != colors()).any()


def test_data_sets_come_in_the_colors_that_they_have(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for name, profile in (("a", None), ("b", P3)):
        Image.fromarray(colors(8, 8)).save(images / f"{name}.png", icc_profile=profile)
    check_set(load_images(images, 8, print))


def test_data_sets_of_hugging_face_come_in_the_colors_that_they_have(tmp_path):
    datasets = pytest.importorskip("datasets")
    files = []
    for profile in (None, P3):
        files.append(io.BytesIO())
        Image.fromarray(colors(8, 8)).save(files[-1], "PNG", icc_profile=profile)
    rows = {"image": [{"bytes": file.getvalue(), "path": None} for file in files]}
    features = datasets.Features(image=datasets.Image())
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "saved")
    check_set(load_images(tmp_path / "saved", 8, print))


def check_set(images: torch.Tensor) -> None:
    plain, converted = images.permute(0, 2, 3, 1).numpy().astype(int)
    assert (plain == colors(8, 8)).all()
    check(converted, icc.from_p3(colors(8, 8)), colors(8, 8))


def test_a_profile_that_is_read_once_serves_the_next_images(tmp_path, monkeypatch):
    """Check that a profile's transform is reused; building one takes as long as a conversion."""
    built = []
    usual = ImageCms.buildTransform

    def build(*arguments: object, **options: object) -> object:
        built.append(arguments)
        return usual(*arguments, **options)

    monkeypatch.setattr(ImageCms, "buildTransform", build)
    profile = icc.rgb_profile(icc.color_matrix(icc.P3_PRIMARIES, white=(0.32, 0.33)))
    for k in range(3):
        Image.fromarray(colors(8, 8)).save(Path(tmp_path) / f"{k}.png", icc_profile=profile)
    load_images(tmp_path, 8, print)
    assert len(built) == 1
