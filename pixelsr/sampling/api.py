"""`pixelsr.sample`, in one process and over several."""

import contextlib
from collections.abc import Callable, Generator, Iterator

import torch
from torch import Tensor, nn

from pixelsr.errors import LogitsError
from pixelsr.functional.autocast import without_autocast
from pixelsr.utils.distributed import Workers

from .engines import choose_engine
from .methods import METHODS
from .noise import check_seed, check_temperature
from .request import Request, check_positive, make_request
from .sampler import Sampler


@without_autocast()
def sample(
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
    method: str = "cached",
    engine: str = "auto",
    weights: str = "model",
    max_batch: int | None = None,
    progress: bool = False,
) -> Tensor:
    """Draw images, value by value: ``argmax(logits / temperature + Gumbel noise)``.

    The noise is a pure function of (seed, sample index, position, level), so that an image does
    not depend on the method, the batch that it is in, or the worker that draws it.

    Args:
        model: a prior, or a model that takes a small image too. Used in the mode it is in: call
            ``model.eval()`` first.
        n: images; with `low_res`, samples of each small image.
        image_size: (height, width), for a model that does not take it from `low_res`.
        low_res: uint8 ``[M, C, h, w]``.
        known, known_mask: uint8 and bool, ``[1 or M * n, C, H, W]``; true where the value is given.
            Given values come back untouched.
        seed: 0 to 2^64 - 1.
        first_index: index of the first sample; sample k of input m has first_index + m * n + k.
        temperature: divides the logits; the paper's tau is 1 / temperature; 0 is the mode at each
            step, else it is at least 1e-30.
        method: "cached" (each feature computed once) or "ancestral" (the whole network for each
            value).
        engine: "auto", "reference", "cpu", "triton" or "cuda": what executes the cached method.
        weights: "model" (the parameters' dtype), or "float16", "bfloat16": rounded so.
        max_batch: draw at most so many at a time; the images are the same.
        progress: show a progress bar on stderr, where that is a terminal.
    Returns:
        uint8 ``[n, C, H, W]`` or ``[M * n, C, H, W]``, the samples of one input side by side.
    Raises:
        ValueError, TypeError: an argument that does not fit; the message names the value and what
            was expected.
        PlanError: the cached method cannot plan this network; the message names the operation.
        LogitsError: a logit of a value that has to be drawn is NaN or +inf, or all of them are
            -inf. (-inf at some levels forbids these.) It names the first such value in raster
            order, and the first sample there; with `max_batch`, of the batch that is being drawn.
    """
    request = make_request(model, n, image_size, low_res, known, known_mask, first_index, weights)
    share = slice(0, request.samples)
    batches = draw_batches(request, share, seed, temperature, method, engine, max_batch, progress)
    return torch.cat([*batches])


def draw_batches(
    request: Request,
    share: slice,
    seed: int,
    temperature: float,
    method: str,
    engine: str,
    max_batch: int | None,
    progress: bool,
) -> Generator[Tensor]:
    """Check the arguments, and return the samples of a share batch by batch, drawn on demand.

    Args:
        share: numbers of the first sample and the one after the last; may be empty.
        seed, temperature, method, engine, max_batch, progress: as of `sample`.
    Returns:
        batches uint8 ``[max_batch, C, H, W]``, of which the last one may be smaller.
    """
    check_seed(seed)
    temperature = check_temperature(temperature)
    if method not in METHODS:
        raise ValueError(f"method must be one of {list(METHODS)}, got {method!r}")
    choose_engine(engine, request.device)
    if max_batch is not None:
        check_positive("max_batch", max_batch)
    return _draw(request, share, seed, temperature, METHODS[method], engine, max_batch, progress)


def _draw(
    request: Request,
    share: slice,
    seed: int,
    temperature: float,
    method: Callable[[Request, Sampler, str], Tensor],
    engine: str,
    max_batch: int | None,
    progress: bool,
) -> Generator[Tensor]:
    count, height = share.stop - share.start, request.image_size[0]
    size = max_batch or max(count, 1)
    with _bar(count * height) if progress else contextlib.nullcontext() as show:
        for done in range(0, count, size):
            part = request.part(share.start + done, min(size, count - done))
            advance = show and _from(show, done, height)
            sampler = Sampler(seed, temperature, advance, share.start + done)
            yield method(part, sampler, engine)


def _from(show: Callable[[int], None], done: int, height: int) -> Callable[[int, int], None]:
    """Return what tells of rows that are drawn after `done` whole images."""
    return lambda samples, row: show(done * height + samples * row)


@contextlib.contextmanager
def _bar(total: int) -> Iterator[Callable[[int], None] | None]:
    """Show a progress bar on stderr, and give what moves it; None where that is no terminal."""
    from rich.console import Console  # here, for machines that sample without it
    from rich.progress import Progress

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("sampling", total=total)
        yield lambda completed: bar.update(task, completed=completed)


@without_autocast()
def sample_distributed(
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
    its index, so that the images do not depend on the number of workers; there may be more
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
