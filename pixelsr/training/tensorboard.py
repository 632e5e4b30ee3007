"""TensorBoard, where it is installed."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def is_installed() -> bool:
    """True where runs can be written for TensorBoard."""
    return importlib.util.find_spec("tensorboard") is not None


class TensorBoard:
    """Writes the entries of the log as curves, and grids of samples as pictures.

    Args:
        folder: made if need be.
        first_step: where the run starts or resumes; later entries in the folder are hidden.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import

        self.writer = SummaryWriter(folder, purge_step=first_step + 1)

    def write(self, step: int, **entry: Any) -> None:
        """Add one point to the curve of each figure."""
        for name, value in entry.items():
            figures = value if isinstance(value, dict) else {"": value}
            for part, figure in figures.items():
                self.writer.add_scalar(f"{name}/{part}" if part else name, figure, step)

    def show(self, step: int, grid: Image.Image) -> None:
        """Add a picture."""
        self.writer.add_image("samples", np.asarray(grid), step, dataformats="HWC")

    def close(self) -> None:
        """Write what is still in memory."""
        self.writer.close()
