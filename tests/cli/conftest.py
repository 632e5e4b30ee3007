"""Fixtures for tests of the commands: a photo, a folder of images, and a place for results."""

from pathlib import Path

import pytest
import torch

from pixelsr.data.crop import from_tensor
from tests.support.command_cases import save_photo
from tests.support.training_cases import random_images


@pytest.fixture(autouse=True)
def _threads_as_they_were():
    """Restore the number of threads, which a command sets for the whole process."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def photo(tmp_path) -> Path:
    return save_photo(tmp_path / "photo.png")  # 40 wide, 30 high


@pytest.fixture
def folder(tmp_path) -> Path:
    """Return a folder of six images of 8x8 pixels."""
    path = tmp_path / "images"
    path.mkdir()
    for k, image in enumerate(random_images(6)):
        from_tensor(image).save(path / f"{k}.png")
    return path


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"
