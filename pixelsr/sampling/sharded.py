"""The same pictures, drawn by several workers."""

import torch
from torch import Tensor, nn

from ..distributed import Workers
from ..errors import LogitsError
from ..functional.autocast import without_autocast
from .request import make_request
from .sample import draw_share


@without_autocast()
def sample_sharded(
    workers: Workers,
    model: nn.Module,
    n: int = 1,
    *,
    image_size: tuple[int, int] | None = None,
    low_res: Tensor | None = None,
    known: Tensor | None = None,
    known_mask: Tensor | None = None,
    seed: int = 0,
    first_index: int = 0,
    temperature: float = 1.0,
    engine: str = "auto",
    max_batch: int | None = None,
    progress: bool = False,
) -> Tensor:
    """What `pixelsr.sample` draws, each worker drawing the share of it that its rank gives it.

    Collective: every worker calls it, with equal arguments and weights. The noise knows a sample by
    its index, so that the pictures do not depend on the number of workers; there may be more
    workers than samples.

    Args:
        workers: of `distributed.workers`; one alone draws everything.
        model: on this worker's device.
        progress: show a progress bar of the first worker's share.
    Returns:
        uint8 ``[n, C, H, W]`` or ``[M * n, C, H, W]``, all samples, on the CPU of every worker.
    Raises:
        ValueError, TypeError, PlanError, LogitsError: as `pixelsr.sample` does, in every worker.
    """
    request = make_request(
        model, n, image_size, low_res, known, known_mask, first_index, weights="model"
    )
    mine: Tensor | LogitsError
    try:
        mine = draw_share(
            request,
            workers.share(request.samples),
            seed,
            temperature,
            "cached",
            engine,
            max_batch,
            progress and workers.is_first,
        ).cpu()
    except LogitsError as error:  # the other workers are told, or they would wait for the images
        mine = error
    shares = workers.gather(mine)
    errors = [share for share in shares if isinstance(share, LogitsError)]
    if errors:
        raise min(errors, key=lambda error: (error.position, error.sample))
    return torch.cat(shares)
