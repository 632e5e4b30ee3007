"""The recurrences to test, and the same recurrences as plain PyTorch loops."""

import math

import torch
import torch.nn.functional as F

from pixelsr import functional
from tests.support.helpers import normal

KINDS = {
    "row": (functional.row_lstm, 3, {}),
    "row5": (functional.row_lstm, 5, {}),
    "diagonal": (functional.diagonal_lstm, 2, {}),
    "reverse": (functional.diagonal_lstm, 2, {"reverse": True}),
}


def operator_of(kind):
    """Return the operator, and the arguments between its tensors and the flag that keeps states."""
    function, _, options = KINDS[kind]
    operator = getattr(torch.ops.pixelsr, function.__name__)
    is_row = function is functional.row_lstm
    return operator, [] if is_row else [options.get("reverse", False)]


def tensors(taps, n=2, h=3, height=5, width=4):
    """Return gates, weight and initial state for which the past matters."""
    gates, state = normal(n, 4 * h, height, width), normal(2, h, seed=2)
    weight = normal(4 * h, h, taps, seed=1) / math.sqrt(h * taps)
    return [tensor.requires_grad_() for tensor in (gates, weight, state)]


def with_gradients(run, given, grad_out):
    out = run(*given)
    return [out, *torch.autograd.grad(out, given, grad_out)]


def loop(gates, weight, state, kind):
    """Return the output of the plain PyTorch loop, computed in the dtype of the gates."""
    if kind == "reverse":
        return loop(gates.flip(3), weight, state, "diagonal").flip(3)
    n, _, height, width = gates.shape
    row_by_row = kind == "row"
    positions, steps = (width, height) if row_by_row else (height, height + width - 1)
    hidden, cell = state[:, None, :, None].expand(-1, n, -1, positions)
    outs = []
    for step in range(steps):
        if row_by_row:
            inputs = gates[:, :, step]
            padding = (1, 1)
        else:
            column = [step - r for r in range(height)]
            inside = torch.tensor([0 <= c < width for c in column], device=gates.device)
            picked = [gates[:, :, r, min(max(c, 0), width - 1)] for r, c in enumerate(column)]
            inputs = torch.stack(picked, 2)
            padding = (1, 0)
        o, f, i, g = (inputs + F.conv1d(F.pad(hidden, padding), weight)).chunk(4, 1)
        after = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        out = torch.sigmoid(o) * torch.tanh(after)
        if row_by_row:
            hidden, cell = out, after
        else:
            hidden, cell = torch.where(inside, out, hidden), torch.where(inside, after, cell)
        outs.append(out)
    if row_by_row:
        return torch.stack(outs, 2)
    rows = [torch.stack([outs[r + c][:, :, r] for c in range(width)], 2) for r in range(height)]
    return torch.stack(rows, 2)
