"""What every engine is."""

from abc import ABC, abstractmethod
from collections.abc import Generator

import torch
from torch import Tensor

from ..plan import Plan
from ..request import Request
from ..sampler import Sampler

Positions = Generator[tuple[tuple[int, int, int], Tensor], Tensor, None]


class Engine(ABC):
    """One batch of images on its way, by a plan.

    Attributes:
        images: the images so far, uint8 ``[samples, C, H, W]``.
    """

    images: Tensor

    @abstractmethod
    def __init__(self, plan: Plan, request: Request) -> None: ...

    @staticmethod
    @abstractmethod
    def why_not_here(device: torch.device) -> str | None:
        """Why the engine cannot run on a device; None where it can."""

    @staticmethod
    def is_worth_it(device: torch.device) -> str | None:
        """Why "auto" passes the engine over, although it can run there; None where it does not."""
        return None

    @staticmethod
    def why_not(plan: Plan, request: Request) -> str | None:
        """Why the engine cannot run this plan and model; None where it can."""
        return None

    @abstractmethod
    def positions(self) -> Positions:
        """Draw: yields (row, column, color) and logits ``[samples, levels]``; takes the values.

        Only values that are unknown in some sample are asked for; the others are filled in.
        """

    @abstractmethod
    def draw(self, sampler: Sampler) -> None:
        """Draw everything into `images`."""

    def record(self, images: Tensor) -> Tensor:
        """Return the logits that a draw of the given images sees, ``[samples, L, C, H, W]``.

        Args:
            images: uint8 ``[samples, C, H, W]`` on any device; nothing of them may be known to the
                request of this engine, which has to be a new one.
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
