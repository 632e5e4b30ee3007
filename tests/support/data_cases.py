"""Noise images, an idx file, and a report that nothing should reach."""

import struct

import numpy as np
from PIL import Image


def draw(path, width, height, mode="RGB", seed=0):
    """Write a noise image, and return its values."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    shape = (height, width, channels) if channels > 1 else (height, width)
    values = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values, mode).save(path)
    return values


def refuse(sentence):
    raise AssertionError(f"nothing should be skipped: {sentence}")


SHAPE = (5, 9, 8)
VALUES = np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)
BODY = VALUES.tobytes()


def header(*counts, kind=8):
    return struct.pack(f">HBB{len(counts)}I", 0, kind, len(counts), *counts)


WHOLE = header(*SHAPE) + BODY
