"""Tests of truncated JPEG files with an end-of-image marker, which Pillow does not report."""

import io

import numpy as np
import pytest
from PIL import Image

from pixelsr.data.image_io import decode_image

NOISE = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
GRAY = np.full_like(NOISE, 128)
HALF = np.concatenate([NOISE[:25], GRAY[25:]])
OPTIONS = [{}, {"subsampling": 0}, {"optimize": True}, {"restart_marker_rows": 1}]
END = b"\xff\xd9"


def jpeg(values, mode="RGB", kind="JPEG", **options):
    file = io.BytesIO()
    Image.fromarray(values).convert(mode).save(file, kind, quality=90, **options)
    return file.getvalue()


@pytest.mark.parametrize("options", [*OPTIONS, {"progressive": True}], ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("values", [NOISE, HALF, GRAY], ids=["noise", "half gray", "gray"])
def test_a_whole_jpeg_is_read_gray_or_not(values, mode, options):
    assert decode_image(jpeg(values, mode, **options), "whole").size == (70, 50)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("left", [0.3, 0.9])
def test_a_jpeg_that_is_cut_and_ended_is_refused(mode, options, left):
    data = jpeg(NOISE, mode, **options)
    begin = data.rindex(b"\xff\xda") + 14
    cut = data[: begin + int(left * (len(data) - begin))].rstrip(b"\xff") + END
    with pytest.raises(ValueError, match="cut cannot be decoded: its data end before the last row"):
        decode_image(cut, "cut")


def test_the_first_image_of_several_is_the_one_that_is_looked_at():
    more = {"kind": "MPO", "save_all": True, "append_images": [Image.fromarray(NOISE)]}
    data = jpeg(NOISE, **more)
    assert decode_image(jpeg(GRAY, **more), "whole").size == (70, 50)
    end = len(jpeg(NOISE))
    with pytest.raises(ValueError, match="its data end before the last row"):
        decode_image(data[: end // 2] + data[data.index(END, end // 2) :], "cut")


def test_a_jpeg_that_ends_without_a_marker_is_read_or_refused_by_the_decoder_alone():
    with pytest.raises(ValueError, match="truncated"):
        decode_image(jpeg(GRAY)[:-40], "cut")
