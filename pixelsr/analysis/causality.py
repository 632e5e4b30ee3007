"""A check by perturbation of the inputs that each output of a network reads."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pixelsr.config.models import check_level_count
from pixelsr.errors import CausalityError
from pixelsr.functional.autocast import without_autocast
from pixelsr.utils.modules import copy_model, unwrap

_MODES = ("eval", "train")
_TRIALS = 12  # most base images; one is not enough, as a dead ReLU hides what it would have read
_PATIENCE = 4  # stop after this many base images in a row without a new read
_BATCH_PIXELS = 2048  # pixels of one forward pass in eval mode; bounds the memory


class Position(NamedTuple):
    """The position of a value in an image."""

    row: int
    column: int
    color: int


@dataclasses.dataclass(frozen=True, eq=False)
class CausalityReport:
    """A report of the inputs that each output of a causal network reads.

    Attributes:
        reads: bool ``[outputs, inputs]``, both in raster order, index
            ``(row * W + column) * C + color``; true where a change of the input changed any
            level's logit of the output, in either mode.
        image_size: ``(H, W)``.
        colors: C.
    """

    reads: Tensor
    image_size: tuple[int, int]
    colors: int

    @property
    def blind(self) -> list[tuple[Position, Position]]:
        """The past inputs that are never read, as (output, input) pairs in raster order."""
        past = torch.ones_like(self.reads).tril(-1)
        pairs = (past & ~self.reads).nonzero().tolist()
        return [(self._position(output), self._position(input)) for output, input in pairs]

    def _position(self, index: int) -> Position:
        return _position(index, self.image_size[1], self.colors)

    def __str__(self) -> str:
        height, width = self.image_size
        blind, total = self.blind, len(self.reads) * (len(self.reads) - 1) // 2
        head = f"causal in train and eval mode, on {height}x{width} pixels of {self.colors} color"
        head += "" if self.colors == 1 else "s"
        if not blind:
            return f"{head}; no blind spot: every output reads all of its past"
        groups: dict[str, list[tuple[Position, Position]]] = {}
        for output, input in blind:
            groups.setdefault(relation(output, input), []).append((output, input))
        lines = [f"{head}; blind to {len(blind)} of {total} pairs of an output and its past:"]
        for name, pairs in groups.items():
            noun = "pair" if len(pairs) == 1 else "pairs"
            lines.append(f"  {name}: {len(pairs)} {noun}, as {self._example(*pairs[0])}")
        return "\n".join(lines)

    def _example(self, output: Position, input: Position) -> str:
        same = output[:2] == input[:2]
        what = _color(input, self.colors) if same else _name(input, self.colors)
        where = " of its own pixel" if same else ""
        return f"{_name(output, self.colors)} never reads {what}{where}"


def relation(output: Position, input: Position) -> str:
    """Describe the position of `input` relative to `output`."""
    if output == input:
        return "itself"
    if output[:2] == input[:2]:
        when = "a later" if input.color > output.color else "an earlier"
        return f"{when} color of its own pixel"
    if output.row == input.row:
        return f"a pixel to the {'right' if input.column > output.column else 'left'}"
    return f"a row {'below' if input.row > output.row else 'above'}"


@without_autocast()
def check_causality(
    model: nn.Module,
    image_size: tuple[int, int] = (5, 4),
    low_res: Tensor | None = None,
    *,
    colors: int = 3,
    levels: int = 256,
) -> CausalityReport:
    """Check by perturbation that no output of a network reads itself or a value drawn later.

    The check changes each value of random images in turn, in train and in eval mode, and compares
    the logits before and after bit for bit. It runs on a deep copy, in float64 on the CPU if the
    network can run so, otherwise in its own dtype and on its own device. The network, its mode and
    the random number generators are left unchanged. In train mode each image is a batch of one, so
    that a normalization over space is detected; both passes use the same dropout mask. Zero weights
    hide what they multiply, so check a network with random parameters.

    Args:
        model: any module, called as ``model(images)`` or ``model(images, low_res)`` with uint8
            images ``[N, C, H, W]``, that returns logits ``[N, L, C, H, W]``.
        image_size: ``(H, W)``; rounded up to multiples of ``model.scale_factor``, if it has one.
        low_res: uint8 ``[1, C, h, w]``; None for random ones if the model has a ``scale_factor``.
        colors, levels: C and L, used if neither the model nor its ``config`` has attributes of
            these names.
    Returns:
        the report, with `reads`, `blind`, and a summary as its `str`.
    Raises:
        CausalityError: an output reads the future; the error names the first such output and the
            latest input that it reads.
        TypeError: `model` is not a module.
        ValueError: `image_size`, `low_res` or the shape of the logits is wrong, or the logits are
            NaN or differ from call to call.
    """
    model = unwrap(model)
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    colors, levels = _sizes(model, colors, levels)
    height, width = _image_size(model, image_size, low_res)
    probe = _Probe(model, (colors, height, width), levels, low_res)
    values = colors * height * width
    reads = torch.zeros(values, values, dtype=torch.bool, device="cpu")
    for mode in _MODES:
        stale = trial = 0
        while stale < _patience(mode, reads) and trial < _TRIALS:
            before = int(reads.sum())
            for inputs, changed in probe.changes(mode, trial):  # changed: [inputs, outputs]
                reads[:, inputs] |= changed.T
            _refuse_future(reads, width, colors, mode)
            stale = stale + 1 if int(reads.sum()) == before else 0
            trial += 1
    return CausalityReport(reads, (height, width), colors)


def _patience(mode: str, reads: Tensor) -> int:
    """Return after how many images in a row without a new read to stop.

    One image is enough in train mode, or once all of the past has been seen to be read.
    """
    missing = not bool((reads | torch.ones_like(reads).triu()).all())
    return _PATIENCE if missing and mode == "eval" else 1


class _Probe:
    """A private copy of the network, run on pairs of images that differ in one value."""

    def __init__(
        self, model: nn.Module, shape: tuple[int, int, int], levels: int, low_res: Tensor | None
    ) -> None:
        self.shape, self.levels, self.low_res = shape, levels, low_res
        self.scale_factor = getattr(model, "scale_factor", None)
        self.model, self.device = copy_model(model), torch.device("cpu")
        try:
            self.model.to("cpu", torch.float64)
            self._base("eval")
        except (RuntimeError, TypeError, ValueError):  # it requires its own dtype or device
            self.model = copy_model(model)
            self.device = next(self.model.parameters(), torch.empty(0, device="cpu")).device
        for mode in _MODES:
            if not torch.equal(self._base(mode), self._base(mode)):
                raise ValueError(f"the logits differ from call to call in {mode} mode")

    def changes(self, mode: str, trial: int) -> Iterator[tuple[slice, Tensor]]:
        """Yield chunks of inputs, each with the outputs that every input of it changes."""
        image, low_res, shifts = self._draw(trial)
        chunk = max(1, _BATCH_PIXELS // image[0].numel()) if mode == "eval" else 1
        same = _to_raster(image).repeat(chunk, 1)  # [chunk, values]
        base = self._logits(mode, trial, _from_raster(same, self.shape), low_res)
        for start in range(0, shifts.numel(), chunk):
            inputs = slice(start, min(start + chunk, shifts.numel()))
            flat = same.clone()
            for k, j in enumerate(range(inputs.start, inputs.stop)):
                flat[k, j] = (int(flat[k, j]) + int(shifts[j])) % self.levels
            logits = self._logits(mode, trial, _from_raster(flat, self.shape), low_res)
            differs = (logits != base).any(1)  # [chunk, C, H, W]
            yield inputs, _to_raster(differs)[: inputs.stop - inputs.start]

    def _base(self, mode: str) -> Tensor:
        image, low_res, _ = self._draw(0)
        return self._logits(mode, 0, image, low_res)

    def _draw(self, trial: int) -> tuple[Tensor, Tensor | None, Tensor]:
        """Return a random image, a small image, and the nonzero change of each value."""
        random = torch.Generator().manual_seed(trial)
        colors, height, width = self.shape
        image = _random_image((1, *self.shape), self.levels, random)
        count = (image.numel(),)
        shifts = torch.randint(1, self.levels, count, generator=random, device="cpu")
        if self.low_res is not None or self.scale_factor is None:
            return image, self.low_res, shifts
        small = (1, colors, height // self.scale_factor, width // self.scale_factor)
        return image, _random_image(small, self.levels, random), shifts

    @torch.no_grad()
    def _logits(self, mode: str, seed: int, images: Tensor, low_res: Tensor | None) -> Tensor:
        self.model.train(mode == "train")
        buffers = [(buffer, buffer.clone()) for buffer in self.model.buffers()]
        given = [images]
        if low_res is not None:
            given.append(low_res.expand(images.shape[0], -1, -1, -1))
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(seed)
            logits = self.model(*(tensor.contiguous().to(self.device) for tensor in given))
        for buffer, before in buffers:  # train mode updates running statistics
            buffer.copy_(before)
        self._check(logits, images)
        return logits.cpu()

    def _check(self, logits: Tensor, images: Tensor) -> None:
        colors, height, width = self.shape
        expected = [images.shape[0], self.levels, colors, height, width]
        if not isinstance(logits, Tensor):
            raise ValueError(f"model must return a tensor of logits, got {type(logits).__name__}")
        if list(logits.shape) != expected:
            raise ValueError(
                f"model must give logits [N, L, C, H, W] = {expected}, got {list(logits.shape)}"
            )
        if logits.isnan().any():
            raise ValueError("model gives NaN logits, which cannot be compared; expected numbers")


def _sizes(model: nn.Module, colors: int, levels: int) -> tuple[int, int]:
    """Return C and L from the model's attributes, else from its config, else as given."""
    for owner in (getattr(model, "config", None), model):
        colors = getattr(owner, "colors", colors)
        levels = getattr(owner, "levels", levels)
    if not isinstance(colors, int) or colors < 1:
        raise ValueError(f"colors must be a positive int, got {colors}")
    check_level_count(levels)
    return colors, levels


def _image_size(
    model: nn.Module, image_size: tuple[int, int], low_res: Tensor | None
) -> tuple[int, int]:
    sizes = tuple(image_size) if isinstance(image_size, tuple | list) else ()
    if len(sizes) != 2 or any(type(size) is not int or size < 1 for size in sizes):
        raise ValueError(f"image_size must be two positive ints (H, W), got {image_size!r}")
    if low_res is not None and (low_res.dim() != 4 or low_res.shape[0] != 1):
        raise ValueError(f"low_res must be [1, C, h, w], got {list(low_res.shape)}")
    times = getattr(model, "scale_factor", None)
    if times is None:
        return sizes[0], sizes[1]
    height, width = (-(-size // times) * times for size in sizes)
    if low_res is not None and (height, width) != tuple(times * n for n in low_res.shape[2:]):
        raise ValueError(
            f"image_size must be {times} times the size of low_res, {list(low_res.shape[2:])}, "
            f"got {list(sizes)}"
        )
    return height, width


def _refuse_future(reads: Tensor, width: int, colors: int, mode: str) -> None:
    """Raise CausalityError for the first output that reads the future, with its latest input."""
    future = reads.triu()
    if not future.any():
        return
    first = int(future.any(1).nonzero()[0])
    latest = int(future[first].nonzero()[-1])
    output, input = (_position(index, width, colors) for index in (first, latest))
    where = relation(output, input)
    target = "" if where == "itself" else f"{_name(input, colors)}, "
    raise CausalityError(
        f"{_name(output, colors)} reads {target}{where}, in {mode} mode", output, input, mode
    )


def _position(index: int, width: int, colors: int) -> Position:
    return Position(index // (width * colors), index // colors % width, index % colors)


def _color(position: Position, colors: int) -> str:
    if colors == 1:
        return "gray"
    names = ("red", "green", "blue")
    return names[position.color] if colors == 3 else f"color {position.color}"


def _name(position: Position, colors: int) -> str:
    return f"{_color(position, colors)} at ({position.row}, {position.column})"


def _random_image(shape: tuple[int, ...], levels: int, random: torch.Generator) -> Tensor:
    return torch.randint(0, levels, shape, generator=random, dtype=torch.uint8, device="cpu")


def _to_raster(images: Tensor) -> Tensor:
    """Convert ``[N, C, H, W]`` to ``[N, H * W * C]``, values in raster order."""
    return images.permute(0, 2, 3, 1).flatten(1)


def _from_raster(flat: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Invert `_to_raster`."""
    colors, height, width = shape
    return flat.view(-1, height, width, colors).permute(0, 3, 1, 2)
