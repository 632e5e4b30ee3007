"""The interface of all engines."""

from abc import ABC, abstractmethod
from collections.abc import Generator

import torch
from torch import Tensor

from ..plan import Plan
from ..request import Request
from ..sampler import Sampler

Positions = Generator[tuple[tuple[int, int, int], Tensor], Tensor, None]


class Engine(ABC):
    """A batch of images that is drawn by a plan.

    Attributes:
        images: the images as drawn so far, uint8 ``[samples, C, H, W]``.
    """

    images: Tensor

    @abstractmethod
    def __init__(self, plan: Plan, request: Request) -> None: ...

    @staticmethod
    @abstractmethod
    def why_not_here(device: torch.device) -> str | None:
        """Return the reason why the engine cannot run on a device, or None if it can."""

    @staticmethod
    def is_worth_it(device: torch.device) -> str | None:
        """Return the reason why "auto" skips the engine although it can run, or None."""
        return None

    @staticmethod
    def why_not(plan: Plan, request: Request) -> str | None:
        """Return the reason why the engine cannot run a plan and model, or None if it can."""
        return None

    @abstractmethod
    def positions(self) -> Positions:
        """Yield (row, column, color) and logits ``[samples, levels]``, and take the drawn values.

        The generator asks only for values that are unknown in some sample; it fills in the others.
        """

    @abstractmethod
    def draw(self, sampler: Sampler) -> None:
        """Draw all unknown values into `images`."""

    def record(self, images: Tensor) -> Tensor:
        """Return the logits ``[samples, L, C, H, W]`` from which the images would be drawn.

        Args:
            images: uint8 ``[samples, C, H, W]`` on any device. The engine must be new, and its
                request must have no known values.
        """
        positions = self.positions()
        position, logits = next(positions)
        record = logits.new_empty(*images.shape, logits.shape[1])
        images = images.to(record.device)
        while True:
            row, col, color = position
            record[:, color, row, col] = logits
            try:
                position, logits = positions.send(images[:, color, row, col])
            except StopIteration:
                return record.permute(0, 4, 1, 2, 3)
