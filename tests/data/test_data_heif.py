"""Tests of HEIC images without pillow-heif, with a stub of it, and with itself if installed."""

import importlib.util
import io
import sys
import types

import numpy as np
import pytest
from PIL import Image, ImageFile

from pixelsr.data import image_formats
from pixelsr.data.image_io import open_image
from pixelsr.data.load import load_images

MISSING = "is a HEIC image, which needs pillow-heif: pip install pillow-heif"


def box(brand, *compatible):
    body = brand + bytes(4) + b"".join(compatible)
    return (8 + len(body)).to_bytes(4, "big") + b"ftyp" + body


@pytest.fixture(autouse=True)
def _registered_anew():
    image_formats.register.cache_clear()
    yield
    image_formats.register.cache_clear()


@pytest.fixture
def without(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # makes the import raise ImportError


@pytest.fixture
def registered(monkeypatch):
    """Install a stub of pillow-heif whose images are 9x8 and red; return the list of its calls."""
    calls = []

    class Red(ImageFile.ImageFile):
        format = "HEIF"

        def _open(self):
            self._size, self._mode = (9, 8), "RGB"
            self.tile = []

        def load(self):
            self.im = Image.new("RGB", self.size, "red").im
            return Image.Image.load(self)

    def register_heif_opener():
        calls.append("HEIF")
        Image.register_open("HEIF", Red, lambda prefix: prefix[4:8] == b"ftyp")

    module = types.ModuleType("pillow_heif")
    module.__spec__ = importlib.util.spec_from_loader("pillow_heif", None)
    module.register_heif_opener = register_heif_opener
    monkeypatch.setitem(sys.modules, "pillow_heif", module)
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    return calls


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (box(b"heic", b"mif1", b"heic"), True),
        (box(b"heix"), True),
        (box(b"hevc"), True),
        (box(b"mif1", b"heic"), True),
        (box(b"msf1", b"hevc"), True),
        (box(b"mif1", b"avif"), False),
        (box(b"avif", b"mif1"), False),
        (box(b"mp42", b"isom"), False),
        (b"\xff\xd8\xff\xe0 a JPEG", False),
        (b"", False),
        (b"\0\0\0\x18ftyp", False),
    ],
)
def test_heic_is_known_by_its_content(data, expected, tmp_path):
    assert image_formats.is_heif(io.BytesIO(data)) == expected
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    assert image_formats.is_heif(path) == expected


def test_an_avif_image_is_none():
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "AVIF")
    assert not image_formats.is_heif(file)


@pytest.mark.usefixtures("without")
@pytest.mark.parametrize("name", ["photo.heic", "photo.jpg", "photo"])
def test_without_pillow_heif_one_sentence_names_it(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(box(b"heic", b"mif1") + bytes(100))
    with pytest.raises(ValueError, match=f"^{path} {MISSING}$"):
        open_image(path)


def test_with_pillow_heif_images_are_read_and_it_is_registered_once(registered, tmp_path):
    for name in ("a.heic", "b.jpg"):
        (tmp_path / name).write_bytes(box(b"heic") + bytes(100))
        image = open_image(tmp_path / name)
        assert (image.size, image.getpixel((0, 0))) == ((9, 8), (255, 0, 0))
    assert registered == ["HEIF"]


def test_other_images_do_not_register_it(registered, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    open_image(tmp_path / "a.png")
    assert registered == []


def test_images_that_were_skipped_are_read_once_it_is_installed(tmp_path, monkeypatch, request):
    folder, said = tmp_path / "photos", []
    folder.mkdir()
    (folder / "a.heic").write_bytes(box(b"heic") + bytes(100))
    Image.new("RGB", (8, 8)).save(folder / "b.png")
    options = {"size": 8, "report": said.append, "store": tmp_path / "store"}
    with monkeypatch.context() as patch:
        patch.setattr(image_formats, "is_installed", lambda: False)
        patch.setitem(sys.modules, "pillow_heif", None)
        assert len(load_images(folder, **options)) == 1
    assert said == [f"skipped: {folder / 'a.heic'} {MISSING}"]
    request.getfixturevalue("registered")
    assert len(load_images(folder, **options)) == 2


@pytest.mark.skipif(not image_formats.is_installed(), reason="pillow-heif is not installed")
def test_pillow_heif_itself_reads_what_it_has_written(tmp_path):
    image_formats.register()
    values = np.zeros((48, 64, 3), dtype=np.uint8)
    values[:, :32] = 200, 30, 60
    path = tmp_path / "photo.jpg"
    file = io.BytesIO()
    Image.fromarray(values).save(file, "HEIF", quality=100)
    path.write_bytes(file.getvalue())
    found = np.asarray(open_image(path)).astype(int)
    assert np.abs(found - values)[:, [8, 56]].max() < 8
