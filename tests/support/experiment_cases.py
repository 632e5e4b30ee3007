"""Small data for the experiments, and a function that runs their command."""

import json
import struct

import numpy as np
from click.testing import CliRunner
from PIL import Image

from experiments.__main__ import experiment
from experiments.support import digits


def write_mnist(folder, side, train=24, test=8):
    """Write idx files like MNIST's into `folder`."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for count, name in zip((train, test), digits.FILES.values(), strict=True):
        header = struct.pack(">HBB3I", 0, 8, 3, count, side, side)
        values = random.integers(0, 256, (count, side, side), dtype=np.uint8)
        (folder / name).write_bytes(header + values.tobytes())
    return folder


def write_faces(folder, side, train=12, val=6):
    """Write the image folders train/ and val/ into `folder`."""
    random = np.random.default_rng(1)
    for part, count in (("train", train), ("val", val)):
        (folder / part).mkdir(parents=True)
        for k in range(count):
            values = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
            Image.fromarray(values).save(folder / part / f"{k}.png")
    return folder


def run(name, *arguments):
    """Run `python -m experiments` in this process."""
    arguments = [name, "--threads", 1, *arguments]
    return CliRunner().invoke(experiment, [str(argument) for argument in arguments])


def read_results(out, name):
    """Return the JSON results that an experiment wrote."""
    return json.loads((out / f"{name}.json").read_text())
