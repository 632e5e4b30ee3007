"""`pixelsr.sample`, for one process and for several."""

import contextlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pixelsr.errors import LogitsError
from pixelsr.functional.autocast import without_autocast
from pixelsr.utils.distributed import Workers

from .engines import choose_engine
from .methods import METHODS, start_engine
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
    """Draw images value by value: ``argmax(logits / temperature + Gumbel noise)``.

    The noise is a pure function of (seed, sample index, position, level). Therefore an image does
    not depend on the method, on its batch, or on the worker that draws it.

    Args:
        model: a prior, or a model that also takes a low-resolution image. Its train/eval mode is
            used as it is: call ``model.eval()`` first.
        n: number of images; with `low_res`, number of samples per low-resolution image.
        image_size: (height, width), for a model that does not derive it from `low_res`.
        low_res: uint8 ``[M, C, h, w]``.
        known, known_mask: uint8 and bool, both of one shape, ``[1, C, H, W]`` or
            ``[M * n, C, H, W]``; the mask is true where a value is given. Given values are
            returned unchanged.
        seed: 0 to 2^64 - 1. Equal seeds draw equal images: change it, or `first_index`, for others.
            PyTorch's random generators are not used.
        first_index: index of the first sample; sample k of input m has index
            first_index + m * n + k.
        temperature: divisor of the logits, 1 / tau in the paper's notation: 0 (the mode at each
            step), or at least 1e-30.
        method: "cached" (each feature is computed once) or "ancestral" (the whole network runs for
            each value).
        engine: "auto", "reference", "cpu", "triton" or "cuda": the engine of the cached method.
        weights: "model" (the parameters' dtype), or "float16" or "bfloat16" to round the weights.
        max_batch: largest number of images drawn at a time; it does not change the images.
        progress: show a progress bar on stderr if that is a terminal.
    Returns:
        uint8 ``[n, C, H, W]`` or ``[M * n, C, H, W]``; the samples of one input are consecutive.
    Raises:
        ValueError, TypeError: an argument is invalid; the message names the value and what was
            expected.
        PlanError: the cached method cannot plan this network; the message names the operation.
        LogitsError: a value cannot be drawn, because one of its logits is NaN or +inf, or all of
            them are -inf. (A logit of -inf forbids its level.) The error names the first such value
            in raster order and the first sample there; with `max_batch`, within the current batch.
    """
    request = make_request(
        model,
        n,
        image_size=image_size,
        low_res=low_res,
        known=known,
        known_mask=known_mask,
        first_index=first_index,
        weights=weights,
    )
    draw = _Draw(request, seed, temperature, method, engine, max_batch, progress)
    return torch.cat([*draw.batches(slice(0, request.samples))])


@dataclass(frozen=True)
class _Draw:
    """A request with the other arguments of `sample`, which are checked when it is made."""

    request: Request
    seed: int
    temperature: float
    method: str
    engine: str
    max_batch: int | None
    progress: bool

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_temperature(self.temperature)
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {list(METHODS)}, got {self.method!r}")
        choose_engine(self.engine, self.request.device)
        if self.max_batch is not None:
            check_positive("max_batch", self.max_batch)

    @torch.no_grad()
    def batches(self, share: slice) -> Generator[Tensor]:
        """Draw the samples of a range, which may be empty, in batches ``[max_batch, C, H, W]``."""
        request = self.request
        count, height = share.stop - share.start, request.image_size[0]
        size = self.max_batch or max(count, 1)
        with _bar(count * height) if self.progress else contextlib.nullcontext() as show:
            for done in range(0, count, size):
                part = request.part(share.start + done, min(size, count - done))
                advance = show and _from(show, done, height)
                sampler = Sampler(self.seed, float(self.temperature), advance, share.start + done)
                yield self._images(part, sampler)

    def _images(self, part: Request, sampler: Sampler) -> Tensor:
        """Draw a part of the request; its engine does not outlive the call, to save memory."""
        run = start_engine(self.engine, part, self.method)
        run.draw(sampler)
        return run.images


def _from(show: Callable[[int], None], done: int, height: int) -> Callable[[int, int], None]:
    """Return a progress callback that adds `done` finished images to its count of rows."""
    return lambda samples, row: show(done * height + samples * row)


@contextlib.contextmanager
def _bar(total: int) -> Iterator[Callable[[int], None] | None]:
    """Show a progress bar on stderr and yield its update function; None without a terminal."""
    from rich.console import Console  # imported here, since sampling works without rich
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
    """Draw the images of `pixelsr.sample`, with the samples divided among the workers by rank.

    This call is collective: every worker makes it, with equal arguments and weights. The noise
    depends on a sample's index, so the images do not depend on the number of workers. There may be
    more workers than samples.

    Args:
        workers: the result of `distributed.workers`; a single worker draws everything.
        model: the network, on this worker's device.
        progress: show a progress bar for the first worker's share.
        keep: called in the first worker as soon as images are drawn, with at most `max_batch`
            images of each worker at a time. Its arguments are the number of the first image,
            counted from 0, and the images, uint8 ``[N, C, H, W]`` on the CPU.
    Returns:
        all samples, uint8 ``[n, C, H, W]`` or ``[M * n, C, H, W]``, on the CPU of every worker.
    Raises:
        ValueError, TypeError, PlanError, LogitsError: as in `pixelsr.sample`, in every worker.
    """
    request = make_request(
        model,
        n,
        image_size=image_size,
        low_res=low_res,
        known=known,
        known_mask=known_mask,
        first_index=first_index,
    )
    samples, show = request.samples, progress and workers.is_first
    draw = _Draw(request, seed, temperature, "cached", engine, max_batch, show)
    batches = draw.batches(workers.share(samples))
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
    """Return the next batch of every worker, with `none` for a worker that has finished.

    Raises:
        LogitsError: a worker raised it. All workers raise it, since the others would otherwise wait
            for that worker's images.
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
