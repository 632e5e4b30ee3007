"""Images drawn from a conditioning network alone: each value by itself."""

import torch
from torch import Tensor

from pixelsr.models import ConditioningNetwork
from pixelsr.sampling.noise import draw, gumbel_noise

BATCH = 32


@torch.inference_mode()
def draw_independently(
    model: ConditioningNetwork, low_res: Tensor, n: int = 1, seed: int = 0
) -> Tensor:
    """``argmax(A(low_res) + noise)``, with the noise that `pixelsr.sample` has for these samples.

    Args:
        model: in eval mode.
        low_res: uint8 ``[M, C, h, w]``.
        n: samples of each small image.
    Returns:
        uint8 ``[M * n, C, H, W]`` on the CPU, the samples of one input side by side.
    """
    parts, index = [], 0
    for some in low_res.split(BATCH):
        logits = model(some.to(model.device)).repeat_interleave(n, 0)
        levels, colors, height, width = logits.shape[1:]
        values = logits.permute(0, 3, 4, 2, 1).flatten(1, 3)  # [samples, positions, levels]
        noise = gumbel_noise(seed, index, len(values), 0, values.shape[1], levels, values.device)
        drawn = draw(values, noise, 1.0).view(-1, height, width, colors)
        parts.append(drawn.permute(0, 3, 1, 2).to("cpu", torch.uint8))
        index += len(values)
    return torch.cat(parts)
