"""Plans of the networks of tests, and the multiply-adds that an engine executes."""

import torch
from torch import Tensor, nn

from pixelsr.sampling import plan
from pixelsr.sampling.engines import reference
from pixelsr.sampling.plan import Plan, Product, Schedule
from tests.support.networks import inputs
from tests.support.sampling import request_of


def make_plan(model: nn.Module, size: tuple[int, int] = (6, 4)) -> Plan:
    low_res = inputs(model, size=size).get("low_res")
    return plan(model, size, None if low_res is None else tuple(low_res.shape[2:]))


def prefilled_macs(made: Plan, unknown: Tensor) -> int:
    """Return the multiply-adds in known leading rows, which the engine leaves to the prefill."""
    schedule = Schedule(made, unknown)
    return sum(
        (schedule.leading_rows - first) * len(schedule.cols) * placed.step.macs
        for placed, first in zip(made.placed, schedule.first_rows, strict=True)
        if not placed.logits_only
    )


def executed_macs(model: nn.Module, known_mask: Tensor, monkeypatch, **what: object) -> int:
    """Return the multiply-adds of the engine for one image, counted where it executes them."""
    total = 0
    bind = reference.ReferenceEngine._bind_product

    def counting(self, step: Product):
        run = bind(self, step)

        def counted(row: int, col: int, pixels: int) -> None:
            nonlocal total
            total += step.macs * pixels
            run(row, col, pixels)

        return counted

    monkeypatch.setattr(reference.ReferenceEngine, "_bind_product", counting)
    what = what or inputs(model)
    low_res = what.get("low_res")
    known = torch.zeros(known_mask.shape, dtype=torch.uint8)
    request = request_of(model, 1, what.get("image_size"), low_res, known, known_mask)
    made = make_plan(model, tuple(known_mask.shape[2:]))
    positions = reference.ReferenceEngine(made, request).positions()
    try:
        next(positions)
        while True:
            positions.send(torch.zeros(1, dtype=torch.long))
    except StopIteration:
        return total
