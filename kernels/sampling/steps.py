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
numbers are relative to a sample's storage.

Two tuples go through all functions: `program`, the pointers to the table, the weights and the
constants; and `tile`, the positions: a pointer to the storage of the first one's sample, the offset
from it of each position's sample, the mask of positions that exist, and their row and columns.
`BLOCKS` are the sizes of a product's tile: positions, outputs and inputs.
"""

import triton
import triton.language as tl

from ..gate import tanh

POINTWISE = tl.constexpr(1)
SPAN = tl.constexpr(5)  # fields
FUSED_RELU, FUSED_GATE = tl.constexpr(1), tl.constexpr(2)  # functions of a product
# Opcodes of pointwise steps, in the order of the table in pixelsr/sampling/plan/pointwise.py: two
# that push a number, then the functions of one, of two and of three numbers.
(
    ARG,
    CONST,
    NEG,
    EXP,
    ABS,
    RELU,
    TANH,
    SIGMOID,
    SILU,
    GELU,
    GELU_TANH,
    LOG,
    SQRT,
    SQUARE,
    RECIPROCAL,
    ADD,
    SUB,
    MUL,
    DIV,
    POW,
    MAXIMUM,
    MINIMUM,
    GATE,
    ELU,
    LEAKY_RELU,
    LT,
    LE,
    EQ,
    CLAMP,
    SOFTPLUS,
    WHERE,
) = map(tl.constexpr, range(31))


@triton.jit
def span_at(span_ptr, tile):
    """Return the offset of the first element of a span at each position, [M]."""
    _, at, _, row, col = tile
    slot = (row + tl.load(span_ptr + 4)) % tl.load(span_ptr + 1)
    return at + (tl.load(span_ptr) + slot * tl.load(span_ptr + 2)) + col * tl.load(span_ptr + 3)


@triton.jit
def _relu(x):
    """Return max(x, 0), but keep NaN, which `tl.maximum` drops."""
    return tl.where(x < 0, 0.0, x)


@triton.jit
def _sums(
    program, task_ptr, tile, out, TWO: tl.constexpr, BLOCKS: tl.constexpr, PRECISION: tl.constexpr
):
    """Return total[m, o] = sum of source[m + tap, k] weight[k, o] over the k of the window.

    With TWO, the second result is the same for the second half of a gate. The window is divided
    into pieces of contiguous elements; every tile sums them in the same order.
    """
    table_ptr, weight_ptr, _ = program
    base, at, exists, row, col = tile
    padded = tl.load(task_ptr + 29) * 16  # the compiler can tell that it is aligned
    columns = padded * 2 if TWO else padded
    weight_at = weight_ptr + tl.load(task_ptr + 28) * 16 + out[None, :]
    rows, row_size = tl.load(task_ptr + 12), tl.load(task_ptr + 13)
    source = at + tl.load(task_ptr + 11) + col * tl.load(task_ptr + 14)
    first = tl.load(task_ptr + 26)
    k = tl.arange(0, BLOCKS[2])
    written = (out < padded)[None, :]
    total = tl.full([BLOCKS[0], BLOCKS[1]], 0.0, tl.float32)
    other = tl.full([BLOCKS[0], BLOCKS[1]], 0.0, tl.float32)
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
def _completed(total, program, task_ptr, tile, spans, channel, written):
    """Return total + (bias or the old output) + addend; store it if a later task reads it."""
    _, _, constants_ptr = program
    base, _, exists, _, _ = tile
    out_span, add_span = spans
    inside = exists[:, None] & written[None, :]
    overwrite = tl.load(task_ptr + 3)
    out_at = base + (out_span[:, None] + channel[None, :])
    bias_at = constants_ptr + tl.load(task_ptr + 30) + channel
    total += tl.load(bias_at, mask=written & (overwrite != 0), other=0.0)[None, :]
    total += tl.load(out_at, mask=inside & (overwrite == 0), other=0.0)
    add_at = base + (add_span[:, None] + channel[None, :])
    total += tl.load(add_at, mask=inside & (tl.load(task_ptr + 5) != 0), other=0.0)
    tl.store(out_at, total, mask=inside & (tl.load(task_ptr + 4) != 0))
    return total


@triton.jit
def product(
    program,
    task_ptr,
    tile,
    block,
    GATED: tl.constexpr,
    BLOCKS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Compute a block of out (+)= window(source) @ weight + bias + add, and its ReLU or gate."""
    out = block * BLOCKS[1] + tl.arange(0, BLOCKS[1])
    total, other = _sums(program, task_ptr, tile, out, GATED, BLOCKS, PRECISION)
    base, _, exists, _, _ = tile
    count = tl.load(task_ptr + 1)
    written = out < count
    inside = exists[:, None] & written[None, :]
    spans = (span_at(task_ptr + 6, tile), span_at(task_ptr + 16, tile))
    total = _completed(total, program, task_ptr, tile, spans, out, written)
    result_at = base + (span_at(task_ptr + 21, tile)[:, None] + out[None, :])
    if GATED:
        other = _completed(other, program, task_ptr, tile, spans, count + out, written)
        tl.store(result_at, tanh(total) * tl.sigmoid(other), mask=inside)
    else:
        relu = tl.load(task_ptr + 2) == FUSED_RELU
        tl.store(result_at, _relu(total), mask=inside & relu)


@triton.jit
def _unary(opcode, x):
    y = tl.full(x.shape, float("nan"), tl.float32)
    if opcode == NEG:
        y = -1.0 * x  # `-x` is 0 - x, which is never -0
    elif opcode == EXP:
        y = tl.exp(x)
    elif opcode == ABS:
        y = tl.abs(x)
    elif opcode == RELU:
        y = _relu(x)
    elif opcode == TANH:
        y = tanh(x)
    elif opcode == SIGMOID:
        y = tl.sigmoid(x)
    elif opcode == SILU:
        y = x * tl.sigmoid(x)
    elif opcode == GELU:
        y = 0.5 * x * (1 + tl.erf(x * 0.7071067811865476))
    elif opcode == GELU_TANH:
        y = x * tl.sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))
    elif opcode == LOG:
        y = tl.log(x)
    elif opcode == SQRT:
        y = _sqrt(x)
    elif opcode == SQUARE:
        y = x * x
    elif opcode == RECIPROCAL:
        y = 1 / x
    return y


@triton.jit
def _binary(opcode, x, y):
    z = tl.full(x.shape, float("nan"), tl.float32)
    if opcode == ADD:
        z = x + y
    elif opcode == SUB:
        z = x - y
    elif opcode == MUL:
        z = x * y
    elif opcode == DIV:
        z = x / y
    elif opcode == POW:
        z = _pow(x, y)
    elif opcode == MAXIMUM:
        z = _maximum(x, y)
    elif opcode == MINIMUM:
        z = _minimum(x, y)
    elif opcode == GATE:
        z = tanh(x) * tl.sigmoid(y)
    elif opcode == ELU:
        z = tl.where(x > 0, x, y * (tl.exp(tl.where(x > 0, 0.0, x)) - 1))
    elif opcode == LEAKY_RELU:
        z = tl.where(x > 0, x, y * x)
    elif opcode == LT:
        z = tl.where(x < y, 1.0, 0.0)
    elif opcode == LE:
        z = tl.where(x <= y, 1.0, 0.0)
    elif opcode == EQ:
        z = tl.where(x == y, 1.0, 0.0)
    return z


@triton.jit
def _ternary(opcode, x, y, z):
    a = tl.full(x.shape, float("nan"), tl.float32)
    if opcode == CLAMP:
        a = _minimum(_maximum(x, y), z)
    elif opcode == SOFTPLUS:
        a = tl.where(x * y > z, x, _log1p(tl.exp(x * y)) / y)
    elif opcode == WHERE:
        a = tl.where(x != 0, y, z)
    return a


@triton.jit
def _maximum(x, y):
    """Return the maximum, or NaN if either is NaN."""
    return tl.where(x > y, x, tl.where(y >= x, y, x + y))


@triton.jit
def _minimum(x, y):
    return tl.where(x < y, x, tl.where(y <= x, y, x + y))


@triton.jit
def _log1p(x):
    """Return log(1 + x), accurate for small `x` too: the rounding error of 1 + x cancels."""
    y = 1 + x
    is_tiny, is_huge = y == 1, y == float("inf")
    quotient = tl.log(y) * (x / tl.where(is_tiny, 1.0, y - 1))
    return tl.where(is_tiny, x, tl.where(is_huge, y, quotient))


@triton.jit
def _sqrt(x):
    """Return the square root, also of subnormal numbers, which `tl.sqrt` takes for zero.

    `tl.sqrt_rn` calls a function, for which the kernel of the pixels would spill registers.
    """
    is_tiny = tl.abs(x) < 1e-30
    root = tl.sqrt(tl.where(is_tiny, x * 281474976710656.0, x))  # 2^48
    return tl.where(is_tiny, root * 5.9604644775390625e-08, root)  # 2^-24


@triton.jit
def _pow(x, y):
    """Return x ** y, through logarithms in float64."""
    size = tl.abs(x)
    exponent = y.to(tl.float64) * tl.log(size.to(tl.float64))
    is_one = (x == 1) | (y == 0) | ((x == -1) & (y == y))
    power = tl.exp(tl.where(is_one, 0.0, exponent)).to(tl.float32)
    is_whole = (tl.floor(y) == y) & (tl.abs(y) < float("inf"))
    is_odd = is_whole & (y - 2 * tl.floor(y / 2) == 1)
    is_negative = (x < 0) | ((x == 0) & (1 / x < 0))
    is_finite = size < float("inf")
    undefined = (x < 0) & is_finite & (tl.abs(y) < float("inf")) & (tl.floor(y) != y)
    power = tl.where(is_negative & is_odd, -power, power)
    return tl.where(undefined, float("nan"), power)


@triton.jit
def pointwise(program, task_ptr, tile, block, BLOCK_M: tl.constexpr, BLOCK: tl.constexpr):
    """Compute a pointwise function of spans on a stack of eight registers with top `a`."""
    table_ptr, _, constants_ptr = program
    base, _, exists, _, _ = tile
    channel = block * BLOCK + tl.arange(0, BLOCK)
    inside = exists[:, None] & (channel < tl.load(task_ptr + 1))[None, :]
    a = tl.full([BLOCK_M, BLOCK], 0.0, tl.float32)
    b, c, d, e, f, g, h = a, a, a, a, a, a, a
    code_ptr = table_ptr + tl.load(task_ptr + 26)
    for number in range(tl.load(task_ptr + 27)):
        opcode = tl.load(code_ptr + 2 * number)
        operand = tl.load(code_ptr + 2 * number + 1)
        if opcode <= CONST:
            b, c, d, e, f, g, h = a, b, c, d, e, f, g
            if opcode == ARG:
                arg_at = base + (span_at(table_ptr + operand, tile)[:, None] + channel[None, :])
                a = tl.load(arg_at, mask=inside, other=0.0)
            else:
                a = tl.full([BLOCK_M, BLOCK], 0.0, tl.float32) + tl.load(constants_ptr + operand)
        elif opcode < ADD:
            a = _unary(opcode, a)
        elif opcode < CLAMP:
            a = _binary(opcode, b, a)
            b, c, d, e, f, g = c, d, e, f, g, h
        else:
            a = _ternary(opcode, c, b, a)
            b, c, d, e, f = d, e, f, g, h
    tl.store(base + (span_at(task_ptr + 6, tile)[:, None] + channel[None, :]), a, mask=inside)
