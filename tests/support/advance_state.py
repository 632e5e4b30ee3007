"""Run some training steps in float64 and save the result, for test_training_workers.

The test starts it under `torchrun`.

    python -m tests.support.advance_state OUT
"""

import sys

import torch
from safetensors.torch import save_file

from pixelsr.training.state import State
from pixelsr.utils.distributed import Workers, workers
from tests.support.training_cases import CONFIG, random_images, small_model

PARTS = 4


def advance(team: Workers) -> dict[str, torch.Tensor]:
    """Return the weights after some steps, and the last gradients.

    The gradients are compared because AdamW hides their scale.
    """
    state = State(small_model().double(), CONFIG, team)
    for step in range(3):
        parts = random_images(8, seed=step).chunk(PARTS)
        bits = state.advance(parts[team.rank :: team.count], lr=0.01)
    tensors = {name: tensor.detach() for name, tensor in state.model.named_parameters()}
    gradients = {f"{name}.grad": p.grad for name, p in state.model.named_parameters()}
    return tensors | gradients | {"bits": torch.tensor(bits, dtype=torch.float64)}


if __name__ == "__main__":
    with workers(torch.device("cpu")) as team:
        tensors = {name: tensor.contiguous() for name, tensor in advance(team).items()}
        save_file(tensors, f"{sys.argv[1]}/{team.rank}.safetensors")
