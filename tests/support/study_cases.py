"""A small study of real-or-fake: faces, a model, and the page made from them."""

import base64
import io

import pytest
import torch
from PIL import Image

from experiments.real_or_fake import experiment as real_or_fake
from tests.support.command_cases import tiny
from tests.support.experiment_cases import run, write_faces

NAME = "real-or-fake"
PAIRS, SIDE = 4, 16
MODEL = "<model>"


def make_study(folder):
    """Write faces and a model below `folder`, and run the study into out/."""
    write_faces(folder / "faces", SIDE, train=1, val=6)
    tiny().save_pretrained(folder / MODEL)
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(real_or_fake.PAIRS, "small", PAIRS)
        result = run(NAME, "--data", folder, "--out", folder / "out", "--model", folder / MODEL)
    torch.set_num_threads(threads)
    assert result.exit_code == 0, result.output
    return folder


def decode(uri):
    """Return the image of a data: URI."""
    kind, text = uri.split(",")
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(text)))
