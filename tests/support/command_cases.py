"""Small models, photos and options for tests of the commands, and what the tests ask of them."""

from pathlib import Path

import numpy as np
import torch
from click.testing import CliRunner, Result
from PIL import Image

import pixelsr
from pixelsr.cli import main
from pixelsr.data.crop import to_tensor
from tests.support.helpers import randomize

TINY_MODEL = {"channels": 4, "layers": 1, "head-channels": 8, "conditioning-channels": 4}
TINY_RUN = {"size": 8, "scale-factor": 2, "conditioning-blocks": 1, "batch": 4, "threads": 1}
QUIET_RUN = {"log-every": 1, "grid": 0, "workers": 0}
TINY = [f"--{key}={value}" for key, value in (TINY_MODEL | TINY_RUN | QUIET_RUN).items()]
TINY.append("--no-tensorboard")
BINARY = [*TINY, "--model=PixelCNN", "--levels=2", "--colors=1"]
BINARY = [option for option in BINARY if "conditioning" not in option and "scale" not in option]


def tiny(scale_factor: int = 2, **options: int) -> pixelsr.PixelRecursiveSR:
    """Return a random model that draws 16x16 images quickly."""
    torch.manual_seed(0)
    return pixelsr.PixelRecursiveSR(
        pixelsr.GatedPixelCNN(channels=4, layers=1, head_channels=8, **options),
        pixelsr.ConditioningNetwork(channels=4, blocks=1, scale_factor=scale_factor, **options),
    ).eval()


def prior(**options: int) -> pixelsr.GatedPixelCNN:
    options = {"channels": 6, "layers": 1, "head_channels": 8, **options}
    return randomize(pixelsr.GatedPixelCNN(**options)).eval()


def save_photo(path: Path, height: int = 30, width: int = 40, seed: int = 0) -> Path:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def read_image(path: Path) -> torch.Tensor:
    return to_tensor(Image.open(path))


def written(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def refusal(result: Result, out: Path) -> str:
    """Return the one error sentence of a command that failed and wrote nothing."""
    assert isinstance(result.exception, SystemExit), result.exception  # else: a traceback
    assert result.exit_code != 0
    assert not out.is_dir() or not list(out.iterdir())
    assert "Traceback" not in result.output
    lines = result.stderr.strip().splitlines()
    assert lines[-1].startswith("Error: ")
    assert sum(line.startswith("Error: ") for line in lines) == 1
    return lines[-1]


def holds(sheet: Image.Image, tile: torch.Tensor, scale: int) -> bool:
    """Return True if the tile, enlarged to squares of `scale` pixels, is somewhere on the sheet."""
    large = np.kron(tile.permute(1, 2, 0).numpy(), np.ones((scale, scale, 1), dtype=np.uint8))
    values, (height, width) = np.asarray(sheet), large.shape[:2]
    starts = np.argwhere((values == large[0, 0]).all(-1))
    return any(np.array_equal(values[y : y + height, x : x + width], large) for y, x in starts)


def words(path: Path) -> None:
    path.write_text("not an image\n" * 100)


def invoke(*arguments: object) -> Result:
    """Run `pixelsr` in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])
