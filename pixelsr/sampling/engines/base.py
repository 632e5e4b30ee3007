"""The interface of all engines, and what those that execute a plan have in common."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Generator
from typing import ClassVar

import torch
from torch import Tensor

from ..plan import Plan, Schedule
from ..request import Request
from ..sampler import Sampler

Position = tuple[int, int, int]
Positions = Generator[tuple[Position, Tensor], Tensor, None]


class Engine(ABC):
    """A batch of images that is drawn value by value.

    Attributes:
        images: the images as drawn so far, uint8 ``[samples, C, H, W]``.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.images = request.known.expand(request.samples, -1, -1, -1).clone()

    @abstractmethod
    def positions(self) -> Positions:
        """Yield (row, column, color) and logits ``[samples, levels]``, and take the drawn values.

        The generator asks only for values that are unknown in some sample; it fills in the others.
        """

    def draw(self, sampler: Sampler) -> None:
        """Draw all unknown values into `images`."""
        sampler.draw_all(self.request, self.positions())

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

    def write(self, position: Position, drawn: Tensor) -> None:
        """Write the drawn values of a position into `images`, except where a value is known."""
        row, col, color = position
        value = self.images[:, color, row, col]
        value.copy_(torch.where(self.request.known_mask[:, color, row, col], value, drawn))


class PlanEngine(Engine):
    """An engine that executes a plan.

    Attributes:
        name: the engine's name for users.
        inputs: the number of low-resolution images, or 1.
    """

    name: ClassVar[str]

    def __init__(self, plan: Plan, request: Request) -> None:
        super().__init__(request)
        self.plan, self.device = plan, request.device
        self.schedule = Schedule(plan, request.unknown)
        self.inputs = 1 if request.low_res is None else len(request.low_res)

    @staticmethod
    @abstractmethod
    def device_unsupported_reason(device: torch.device) -> str | None:
        """Return the reason why the engine cannot run on a device, or None if it can."""

    @staticmethod
    def skip_reason(device: torch.device) -> str | None:
        """Return the reason why "auto" skips the engine on a device that it supports, or None."""
        return None

    @staticmethod
    def unsupported_reason(plan: Plan, request: Request) -> str | None:
        """Return the reason why the engine cannot run a plan and model, or None if it can."""
        return None

    # Leading rows that are known.

    @property
    def leading_rows(self) -> range:
        """Return the known rows at the top that have to be computed before the first draw."""
        first, end = self.schedule.first_row, self.schedule.leading_rows
        return range(first, end if end <= self.schedule.last_row else first)

    @property
    def shares_leading_rows(self) -> bool:
        """Return True if several samples of an input have the same features in leading rows."""
        shares = len(self.request.known) == 1 and self.request.samples > self.inputs
        return shares and len(self.leading_rows) > 0

    def one_sample_per_input(self) -> Request:
        """Return the request for an engine that computes shared leading rows only once.

        That engine is of the same kind, because PyTorch's rounding depends on the batch size.
        """
        return dataclasses.replace(self.request, samples=self.inputs)
