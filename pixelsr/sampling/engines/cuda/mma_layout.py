"""The order of weights for the lanes of a warp, see csrc/cuda/intrinsics.h."""

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelsr.sampling.binding import Binding
from pixelsr.sampling.plan import Product

from ..fusion import Task
from ..packing import bias_of, block_of
from .memory_layout import BLOCK

FRAGMENT = 32 * 8
"""The number of weights in one product of 16 outputs and 16 inputs."""


def outputs_of(task: Task) -> list[int]:
    """Return the output, or -1, for each row of a task's tiles of 16.

    A tile of a gate has 8 results: first their tanh halves, then their sigmoid halves.
    """
    count = task.step.out.count
    if task.function != "gate":
        return [*range(count), *[-1] * (-count % 16)]
    half = count // 2
    padded = [*range(half), *[-1] * (-half % 8)]
    tiles = [padded[first : first + 8] for first in range(0, len(padded), 8)]
    return [
        output for tile in tiles for output in (*tile, *(half + k if k >= 0 else -1 for k in tile))
    ]


def first_block(product: Product) -> int:
    assert product.src is not None
    return product.src.first // BLOCK


def input_blocks(product: Product) -> int:
    """Return how many blocks of 16 channels contain the inputs."""
    if product.src is None:
        return 0
    return -(-(product.src.first + product.src.count) // BLOCK) - first_block(product)


def fragments(task: Task, binding: Binding) -> Tensor:
    """Return padded weights of a product, ``[rows, blocks, columns, tiles, FRAGMENT]``."""
    product, outputs = task.step, outputs_of(task)
    assert isinstance(product, Product)
    if product.weight is None or product.src is None:
        return torch.zeros(0, 0, 0, len(outputs) // 16, FRAGMENT, dtype=torch.float32, device="cpu")
    weight = block_of(binding, product.weight).cpu()
    before = product.src.first % BLOCK
    after = input_blocks(product) * BLOCK - before - product.src.count
    padded = F.pad(weight, (0, 0, 0, 0, before, after, 0, 1))  # the last output, -1, is zeros
    tiles = padded[outputs].unflatten(1, (-1, 4, 2, 2)).unflatten(0, (-1, 2, 8))
    # [tile, half, g, block, lane % 4, pair, input, row, column]
    lanes = tiles.permute(7, 3, 8, 0, 2, 4, 5, 1, 6)
    return lanes.flatten(4)


def biases(task: Task, binding: Binding) -> Tensor:
    """Return the biases, float32, one for each row of a task's tiles."""
    product, outputs = task.step, outputs_of(task)
    assert isinstance(product, Product)
    return F.pad(bias_of(binding, product, torch.float32).cpu(), (0, 1))[outputs]
