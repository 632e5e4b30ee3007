"""The packing of parameters, buffers and pointwise steps, shared by the engines' programs."""

import itertools
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..binding import Binding
from ..plan import Buffer, Plan, Pointwise, Product
from ..plan.ir import Expression, Initial, Weight
from ..plan.pointwise import BY_NAME, MAX_ARGS, MAX_STACK, depth
from ..request import Request

OPCODES = {name: number for number, name in enumerate(("arg", "const", *BY_NAME))}
"""The opcodes of pointwise steps in postfix order; "arg" and "const" push a number."""
_POWERS: dict[float, Callable[[Expression], Expression]] = {
    2.0: lambda x: ("square", x),
    0.5: lambda x: ("sqrt", x),
    -0.5: lambda x: ("reciprocal", ("sqrt", x)),
    -1.0: lambda x: ("reciprocal", x),
}
"""Powers as faster expressions, by the exponent."""
PANEL = 16


def block_of(binding: Binding, block: Weight) -> Tensor:
    """Return the block of a weight, ``[out, in, rows, columns]``."""
    whole = binding[block.constant]
    taken = block.out_channels, block.in_channels, block.kernel_rows, block.kernel_cols
    for dim, indices in enumerate(taken):
        whole = _take(whole, dim, indices)
    return whole


def _take(tensor: Tensor, dim: int, indices: Sequence[int]) -> Tensor:
    """Return the slices at `indices`: a view if they are consecutive, otherwise a copy."""
    count = len(indices)
    if count and tuple(indices) == tuple(range(indices[0], indices[0] + count)):
        return tensor.narrow(dim, indices[0], count)
    return tensor.index_select(dim, torch.tensor(indices, dtype=torch.long, device=tensor.device))


def bias_of(binding: Binding, step: Product, dtype: torch.dtype) -> Tensor:
    """Return the sum of a product's biases, ``[out]``."""
    bias = torch.zeros(step.out.count, dtype=dtype, device=binding.device)
    for name, channels in step.biases:
        bias += binding[name].reshape(-1)[list(channels)]
    return bias


def initial_of(binding: Binding, initial: Initial) -> Tensor:
    """Return the state that a recurrence begins with, ``[channels]``."""
    return binding[initial.constant][initial.part]


def weight_dtype(request: Request) -> torch.dtype:
    """Return the dtype of packed weights: as requested for a float32 model, else its own."""
    own = next(request.model.parameters()).dtype
    return request.weights if request.weights and own == torch.float32 else own


def parameters_unsupported_reason(request: Request) -> str | None:
    """Return the reason why a model's parameters cannot be packed together, or None."""
    first, *others = request.model.named_parameters()
    for name, other in others:
        if other.dtype != first[1].dtype:
            return (
                f"the parameters are of mixed dtype, {first[1].dtype} and {other.dtype} "
                f"({name}), expected one"
            )
        if other.device != first[1].device:
            return (
                f"the parameters are on {first[1].device} and {other.device} ({name}), "
                "expected one device"
            )
    return None


class Packer:
    """A tensor made of parts, each of which begins at a multiple of `unit` elements."""

    def __init__(self, unit: int) -> None:
        self.unit, self.parts, self.size = unit, list[Tensor](), 0

    def append(self, part: Tensor) -> int:
        """Append a flat part, and return its offset."""
        offset = self.size
        self.parts.append(F.pad(part, (0, -part.numel() % self.unit)))
        self.size += self.parts[-1].numel()
        return offset

    def joined(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        parts = [part.to(device, dtype) for part in self.parts]
        return torch.cat([torch.zeros(0, dtype=dtype, device=device), *parts])


def padded_width(plan: Plan, buffer: Buffer) -> int:
    return buffer.left + plan.image_size[1] + buffer.right


def offsets_of(plan: Plan) -> tuple[dict[str, int], int]:
    """Return the offsets of the buffers in the storage of one sample, and its size."""
    offsets, end = {}, 0
    for buffer in plan.buffers.values():
        offsets[buffer.name] = end
        size = buffer.rows * padded_width(plan, buffer) * buffer.channels
        end += size + -size % PANEL
    return offsets, end


def segments_of(plan: Plan, step: Product) -> list[list[int]]:
    """Return [row, column, length] of each contiguous piece of a product's window."""
    if step.src is None:
        return []
    whole = step.src.count == plan.buffers[step.src.buffer].channels
    segments: list[list[int]] = []
    for row in step.rows:
        for number, col in enumerate(step.cols):
            if whole and number and col == step.cols[number - 1] + 1:
                segments[-1][2] += step.src.count
            else:
                segments.append([row, col, step.src.count])
    return segments


def postfix(expression: Expression) -> list[tuple[str, float]]:
    """Return an expression as (opcode, operand) pairs in postfix order."""
    opcode, *operands = _simplified(expression)
    if opcode in ("arg", "const"):
        return [(opcode, operands[0])]
    return [*itertools.chain(*map(postfix, operands)), (opcode, 0)]


def _simplified(expression: Expression) -> Expression:
    """Replace ``tanh(a) * sigmoid(b)`` by the opcode "gate", and "pow" as `_POWERS` says.

    The gate needs one division less. PyTorch too computes these powers without a `pow`, whose
    results for -0 and -inf are others.
    """
    opcode, *operands = expression
    if opcode == "mul" and [operand[0] for operand in operands] == ["tanh", "sigmoid"]:
        return ("gate", operands[0][1], operands[1][1])
    if opcode == "pow" and operands[1][0] == "const" and operands[1][1] in _POWERS:
        return _POWERS[operands[1][1]](operands[0])
    return expression


def pointwise_unsupported_reason(step: Pointwise) -> str | None:
    """Return the reason why a pointwise step does not fit the opcodes or the stack, or None."""
    for opcode, _ in postfix(step.expression):
        if opcode not in OPCODES:
            return f"it does not know the pointwise function {opcode!r}"
    if depth(step.expression) > MAX_STACK or len(step.args) > MAX_ARGS:
        return f"the pointwise step into {step.out.buffer} is too long for it"
    return None
