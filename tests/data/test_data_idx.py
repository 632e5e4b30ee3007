"""Tests of idx files, the format of MNIST."""

import gzip
import tempfile

import pytest
import torch

from pixelsr.data.load import load_images
from tests.support.data_cases import BODY, SHAPE, VALUES, WHOLE, header, refuse


@pytest.fixture(params=["plain", "gzipped"])
def write(request, tmp_path):
    """Return a function that writes bytes as an idx file, and returns its path."""

    def write(data):
        packed = request.param == "gzipped"
        path = tmp_path / f"some-images-idx3-ubyte{'.gz' * packed}"
        path.write_bytes(gzip.compress(data) if packed else data)
        return path

    return write


@pytest.mark.parametrize("colors", [1, 3])
def test_the_gray_values_come_as_they_are(write, colors):
    images = load_images(write(WHOLE), 8, refuse, colors=colors)
    expected = torch.from_numpy(VALUES)[:, None, :8].expand(-1, colors, -1, -1)
    assert torch.equal(images, expected)


def test_the_kind_is_told_by_the_content_not_the_name(tmp_path):
    (tmp_path / "digits").write_bytes(gzip.compress(WHOLE))
    assert len(load_images(tmp_path / "digits", 8, refuse)) == 5


def test_unpacking_leaves_no_file(tmp_path, write, monkeypatch):
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    load_images(write(WHOLE), 8, refuse)
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not an idx file of images: .* found nothing"),
        (b"not an idx file", "is not an idx file of images: .* 00000803, found 6e6f7420"),
        (header(5) + BODY[:5], "holds labels, expected images"),
        (header(*SHAPE, kind=13) + BODY * 4, "is not an idx file of images: .* found 00000d03"),
        (header(*SHAPE, 3) + BODY * 3, "is not an idx file of images: .* found 00000804"),
        (header(*SHAPE)[:11], "is cut short"),
        (WHOLE[:-1], "5 images of 8x9 are 360 bytes, but it holds only 359"),
        (WHOLE + b"\0", "5 images of 8x9 are 360 bytes, but it holds more"),
        (header(2**32 - 1, 2**32 - 1, 9) + BODY, "it holds only 360"),
        (header(0, 9, 8), "is empty: 0 images of 8x9"),
        (header(5, 9, 0), "is empty: 5 images of 0x9"),
    ],
    ids=[
        "nothing",
        "text",
        "labels",
        "floats",
        "four dimensions",
        "half a header",
        "a byte too few",
        "a byte too many",
        "absurd counts",
        "no image",
        "no width",
    ],
)
def test_what_is_no_file_of_images_gives_one_sentence(write, data, message):
    with pytest.raises(ValueError, match=f"some-images-idx3-ubyte.*{message}") as error:
        load_images(write(data), 8, refuse)
    assert "\n" not in str(error.value)


def test_images_that_are_too_small_give_one_sentence_for_all(write):
    with pytest.raises(ValueError, match="holds images of 8x9, smaller than 9x9"):
        load_images(write(WHOLE), 9, refuse)


@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[:-1],
        lambda packed: packed[: len(packed) // 2],
        lambda packed: packed[:5],
        lambda packed: packed[:-5] + b"\0" + packed[-4:],
        lambda packed: packed[:10] + b"\xff" + packed[11:],
        lambda packed: packed[:40] + bytes(20) + packed[60:],
        lambda packed: packed + b"and more",
    ],
    ids=["last byte gone", "half", "header", "checksum", "block", "zeros within", "trailing text"],
)
def test_a_damaged_gzip_file_gives_one_sentence(tmp_path, damage):
    path = tmp_path / "damaged.gz"
    path.write_bytes(damage(gzip.compress(WHOLE)))
    with pytest.raises(ValueError, match=r"damaged\.gz is a damaged gzip file: ") as error:
        load_images(path, 8, refuse)
    assert "\n" not in str(error.value)


def test_a_bomb_is_not_unpacked_beyond_what_its_header_tells(tmp_path, monkeypatch):
    read = []

    class Watched(gzip.GzipFile):
        def read(self, size=-1):
            read.append(size)
            return super().read(size)

    monkeypatch.setattr(gzip, "open", Watched)
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(header(*SHAPE) + bytes(1 << 24)))
    with pytest.raises(ValueError, match="it holds more"):
        load_images(path, 8, refuse)
    assert sum(read) < 1 << 22
