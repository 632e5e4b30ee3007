"""One task of a plan at a tile of positions: a product or a pointwise function.

A table of integers describes the tasks; pixelsr/sampling/engines/triton/program.py writes it. The
fields of a task's record are

    0  kind: product or pointwise         6  span of the output            26  first piece, or code
    1  number of results                  11 span of the source            27  pieces, or codes
    2  function: none, ReLU or gate       16 span of the addend            28  first weight / 16
    3  overwrite: the output is new       21 span of the function's result 29  columns / 16
    4  keeps: write the sum itself                                         30  first bias
    5  has an addend

A span has five fields: the offset of column 0 in the first row of a sample's buffer, the number of
rows that the circular buffer keeps, the elements of a row and of a column, and a row shift. These
numbers are relative to a sample's storage; `at` is the offset of each position's sample.
"""

import triton
import triton.language as tl

from ..gate import tanh

POINTWISE = tl.constexpr(1)
SPAN = tl.constexpr(5)  # fields
RELU, GATE = tl.constexpr(1), tl.constexpr(2)  # functions
# Opcodes of pointwise functions, as in OPCODES of pixelsr/sampling/engines/packing.py.
_ARG, _CONST, _ADD, _SUB, _MUL, _DIV = (tl.constexpr(k) for k in range(6))
_NEG, _EXP, _RELU, _TANH, _SIGMOID = (tl.constexpr(k) for k in range(6, 11))
_ELU, _SILU, _GATE = (tl.constexpr(k) for k in range(11, 14))


@triton.jit
def span_at(span_ptr, at, row, col):
    """Return the offset of the first element of a span at each position, [M]."""
    slot = (row + tl.load(span_ptr + 4)) % tl.load(span_ptr + 1)
    return at + (tl.load(span_ptr) + slot * tl.load(span_ptr + 2)) + col * tl.load(span_ptr + 3)


@triton.jit
def _relu(x):
    """Return max(x, 0), but keep NaN, which `tl.maximum` drops."""
    return tl.where(x < 0, 0.0, x)


@triton.jit
def _sums(
    table_ptr,
    task_ptr,
    weight_ptr,
    base,
    at,
    exists,
    row,
    col,
    out,
    TWO: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Return total[m, o] = sum of source[m + tap, k] weight[k, o] over the k of the window.

    With TWO, the second result is the same for the second half of a gate. The window is divided
    into pieces of contiguous elements; every tile sums them in the same order.
    """
    padded = tl.load(task_ptr + 29) * 16  # the compiler can tell that it is aligned
    columns = padded * 2 if TWO else padded
    weight_at = weight_ptr + tl.load(task_ptr + 28) * 16 + out[None, :]
    rows, row_size = tl.load(task_ptr + 12), tl.load(task_ptr + 13)
    source = at + tl.load(task_ptr + 11) + col * tl.load(task_ptr + 14)
    first = tl.load(task_ptr + 26)
    k = tl.arange(0, BLOCK_K)
    written = (out < padded)[None, :]
    total = tl.full([BLOCK_M, BLOCK_OUT], 0.0, tl.float32)
    other = tl.full([BLOCK_M, BLOCK_OUT], 0.0, tl.float32)
    for piece in range(tl.load(task_ptr + 27)):
        piece_ptr = table_ptr + first + 4 * piece
        slot = (row + tl.load(piece_ptr) + rows) % rows
        used = k < tl.load(piece_ptr + 2)
        place = slot * row_size + tl.load(piece_ptr + 1) + k
        mask = exists[:, None] & used[None, :]
        x = tl.load(base + (source[:, None] + place[None, :]), mask=mask, other=0.0)
        x = x.to(weight_ptr.dtype.element_ty)
        w_at = weight_at + ((tl.load(piece_ptr + 3) + k) * columns)[:, None]
        live = used[:, None] & written
        total = tl.dot(x, tl.load(w_at, mask=live, other=0.0), total, input_precision=PRECISION)
        if TWO:
            w = tl.load(w_at + padded, mask=live, other=0.0)
            other = tl.dot(x, w, other, input_precision=PRECISION)
    return total, other


@triton.jit
def _completed(total, task_ptr, constants_ptr, base, at, exists, row, col, channel, written):
    """Return total + (bias or the old output) + addend; store it if a later task reads it."""
    inside = exists[:, None] & written[None, :]
    overwrite = tl.load(task_ptr + 3)
    out_at = base + (span_at(task_ptr + 6, at, row, col)[:, None] + channel[None, :])
    bias_at = constants_ptr + tl.load(task_ptr + 30) + channel
    total += tl.load(bias_at, mask=written & (overwrite != 0), other=0.0)[None, :]
    total += tl.load(out_at, mask=inside & (overwrite == 0), other=0.0)
    add_at = base + (span_at(task_ptr + 16, at, row, col)[:, None] + channel[None, :])
    total += tl.load(add_at, mask=inside & (tl.load(task_ptr + 5) != 0), other=0.0)
    tl.store(out_at, total, mask=inside & (tl.load(task_ptr + 4) != 0))
    return total


@triton.jit
def _finish(
    total,
    other,
    task_ptr,
    constants_ptr,
    base,
    at,
    exists,
    row,
    col,
    out,
    GATED: tl.constexpr,
):
    """Run the epilogue of a product for a block of outputs: bias, addend, ReLU or gate."""
    count = tl.load(task_ptr + 1)
    written = out < count
    inside = exists[:, None] & written[None, :]
    total = _completed(total, task_ptr, constants_ptr, base, at, exists, row, col, out, written)
    result_at = base + (span_at(task_ptr + 21, at, row, col)[:, None] + out[None, :])
    if GATED:
        half = count + out
        other = _completed(
            other, task_ptr, constants_ptr, base, at, exists, row, col, half, written
        )
        tl.store(result_at, tanh(total) * tl.sigmoid(other), mask=inside)
    else:
        relu = tl.load(task_ptr + 2) == RELU
        tl.store(result_at, _relu(total), mask=inside & relu)


@triton.jit
def product(
    table_ptr,
    task_ptr,
    weight_ptr,
    constants_ptr,
    base,
    at,
    exists,
    row,
    col,
    block,
    GATED: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Compute a block of out (+)= window(source) @ weight + bias + add, and its function."""
    out = block * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    total, other = _sums(
        table_ptr,
        task_ptr,
        weight_ptr,
        base,
        at,
        exists,
        row,
        col,
        out,
        GATED,
        BLOCK_M,
        BLOCK_OUT,
        BLOCK_K,
        PRECISION,
    )
    _finish(total, other, task_ptr, constants_ptr, base, at, exists, row, col, out, GATED)


@triton.jit
def _unary(opcode, x):
    if opcode == _NEG:
        x = -x
    elif opcode == _EXP:
        x = tl.exp(x)
    elif opcode == _RELU:
        x = _relu(x)
    elif opcode == _TANH:
        x = tanh(x)
    elif opcode == _SIGMOID:
        x = tl.sigmoid(x)
    else:  # SiLU
        x = x * tl.sigmoid(x)
    return x


@triton.jit
def _binary(opcode, x, y):
    if opcode == _ADD:
        x = x + y
    elif opcode == _SUB:
        x = x - y
    elif opcode == _MUL:
        x = x * y
    elif opcode == _DIV:
        x = x / y
    elif opcode == _ELU:
        x = tl.where(x > 0, x, y * (tl.exp(tl.where(x > 0, 0.0, x)) - 1))
    else:  # gate
        x = tanh(x) * tl.sigmoid(y)
    return x


@triton.jit
def pointwise(
    table_ptr,
    task_ptr,
    constants_ptr,
    base,
    at,
    exists,
    row,
    col,
    block,
    BLOCK_M: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Compute a pointwise function of spans on a stack of eight registers with top `a`."""
    channel = block * BLOCK + tl.arange(0, BLOCK)
    inside = exists[:, None] & (channel < tl.load(task_ptr + 1))[None, :]
    a = tl.full([BLOCK_M, BLOCK], 0.0, tl.float32)
    b, c, d, e, f, g, h = a, a, a, a, a, a, a
    code_ptr = table_ptr + tl.load(task_ptr + 26)
    for number in range(tl.load(task_ptr + 27)):
        opcode = tl.load(code_ptr + 2 * number)
        operand = tl.load(code_ptr + 2 * number + 1)
        if opcode <= _CONST:
            b, c, d, e, f, g, h = a, b, c, d, e, f, g
            if opcode == _ARG:
                arg_at = base + (
                    span_at(table_ptr + operand, at, row, col)[:, None] + channel[None, :]
                )
                a = tl.load(arg_at, mask=inside, other=0.0)
            else:
                a = tl.full([BLOCK_M, BLOCK], 0.0, tl.float32) + tl.load(constants_ptr + operand)
        elif (opcode <= _DIV) | (opcode == _ELU) | (opcode == _GATE):
            a = _binary(opcode, b, a)
            b, c, d, e, f, g = c, d, e, f, g, h
        else:
            a = _unary(opcode, a)
    tl.store(
        base + (span_at(task_ptr + 6, at, row, col)[:, None] + channel[None, :]), a, mask=inside
    )
