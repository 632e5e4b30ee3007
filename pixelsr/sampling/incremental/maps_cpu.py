"""Feature maps in C++, with one operator call for all cells of an edit."""

import dataclasses
import itertools

import numpy as np
import torch
from torch import Tensor

from pixelsr.utils.system import check_memory

from ..engines.cpu.program import write_program
from ..plan.ir import Placed
from .maps import FeatureMaps, Work

operators = torch.ops.pixelsr


class CpuFeatureMaps(FeatureMaps):
    """The feature maps in one block of memory, with the steps of all cells as a program."""

    def allocate(self) -> dict[str, Tensor]:
        rows = self.request.samples * self.padded[0]  # the program treats all images as one
        buffers = {
            name: dataclasses.replace(buffer, rows=rows, left=self.left, right=self.right)
            for name, buffer in self.plan.buffers.items()
        }
        steps = [step for cell in self.cells for step in cell.steps]
        placed = tuple(Placed(step, "row", 0, False) for step in steps)
        plan = dataclasses.replace(self.plan, buffers=buffers, placed=placed)
        self._ends = list(itertools.accumulate((len(cell.steps) for cell in self.cells), initial=0))
        self._program = write_program(plan, self.binding, self.dtype, self.dtype)
        indices = (
            3 * self.positions.nbytes
        )  # of all positions, which `incremental_logits` passes to `run`
        needed = self._program.size * self.dtype.itemsize + indices
        check_memory(needed, self.request.samples, "pass fewer images to incremental_logits")
        self._storage = torch.zeros(self._program.size, dtype=self.dtype, device="cpu")
        return {name: self._map(name, buffer.channels) for name, buffer in buffers.items()}

    def run(self, work: Work) -> None:
        rows, first = [], 0
        for cell, positions in work:
            rows.append([self._ends[cell], self._ends[cell + 1], first, first + len(positions)])
            first += len(positions)
        if first == 0:
            return
        operators.run_cells_(
            self._program.code,
            self._program.constants,
            self._storage,
            torch.tensor(rows, device="cpu"),
            torch.from_numpy(np.concatenate([positions for _, positions in work])),
        )

    def _map(self, name: str, channels: int) -> Tensor:
        shape = self.request.samples, *self.padded, channels
        first = self._program.offsets[name]
        return self._storage[first : first + torch.Size(shape).numel()].view(shape)
