"""Every feature computed once: the plan, executed by an engine."""

import torch
from torch import Tensor

from ..drawing import Drawing
from ..execution import start_engine
from ..request import Request


@torch.no_grad()
def cached(request: Request, drawing: Drawing, engine: str) -> Tensor:
    """Draw value by value, each from what the plan has computed so far."""
    run = start_engine(engine, request)
    run.draw(drawing)
    return run.images
