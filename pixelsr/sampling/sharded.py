"""The same pictures, drawn by several workers."""

import contextlib
from collections.abc import Callable, Generator

import torch
from torch import Tensor, nn

from pixelsr.errors import LogitsError
from pixelsr.functional.autocast import without_autocast
from pixelsr.utils.distributed import Workers

from .request import make_request
from .sample import draw_batches


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
    keep: Callable[[int, Tensor], None] = lambda first, images: None,
) -> Tensor:
    """What `pixelsr.sample` draws, each worker drawing the share of it that its rank gives it.

    Collective: every worker calls it, with equal arguments and weights. The noise knows a sample by
    its index, so that the pictures do not depend on the number of workers; there may be more
    workers than samples.

    Args:
        workers: of `distributed.workers`; one alone draws everything.
        model: on this worker's device.
        progress: show a progress bar of the first worker's share.
        keep: called in the first worker with images as soon as they are drawn, at most `max_batch`
            of each worker at a time: with the number of the first, from 0, and with uint8
            ``[N, C, H, W]`` on the CPU.
    Returns:
        uint8 ``[n, C, H, W]`` or ``[M * n, C, H, W]``, all samples, on the CPU of every worker.
    Raises:
        ValueError, TypeError, PlanError, LogitsError: as `pixelsr.sample` does, in every worker.
    """
    request = make_request(
        model, n, image_size, low_res, known, known_mask, first_index, weights="model"
    )
    samples, show = request.samples, progress and workers.is_first
    share = workers.share(samples)
    batches = draw_batches(request, share, seed, temperature, "cached", engine, max_batch, show)
    largest_share = -(-samples // workers.count)
    size = max_batch or largest_share
    rounds = []
    with contextlib.closing(batches):
        for done in range(0, largest_share, size):
            rounds.append(_gathered(workers, batches, request.known[:0]))
            if workers.is_first:
                for rank, images in enumerate(rounds[-1]):
                    keep(Workers(rank, workers.count).share(samples).start + done, images)
    return torch.cat([images for share in zip(*rounds, strict=True) for images in share])


def _gathered(workers: Workers, batches: Generator[Tensor], none: Tensor) -> list[Tensor]:
    """Return the next batch of every worker; `none` of one that has no more.

    Raises:
        LogitsError: a worker met one. All raise it, or the others would wait for its images.
    """
    mine: Tensor | LogitsError
    try:
        mine = next(batches, none).cpu()
    except LogitsError as error:
        mine = error
    every = workers.gather(mine)
    errors = [one for one in every if isinstance(one, LogitsError)]
    if errors:
        raise min(errors, key=lambda error: (error.position, error.sample))
    return every
