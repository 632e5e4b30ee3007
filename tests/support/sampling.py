"""The draws that tests of sampling compare: requests, masks of known values, expected images."""

import functools
import threading
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

import pixelsr
from pixelsr.sampling.noise import draw, gumbel_noise
from pixelsr.sampling.request import Request, make_request
from tests.support.networks import inputs, network

TEMPERATURE = 0.5  # the past matters: see `tests.support.helpers.randomize`
SIZE = (6, 4)


def random_images(
    model: nn.Module, n: int = 2, size: tuple[int, int] = SIZE, seed: int = 2
) -> Tensor:
    """Return random images, the same each time, on the model's device."""
    generator = torch.Generator().manual_seed(seed)
    shape = (n, model.colors, *size)
    images = torch.randint(model.levels, shape, dtype=torch.uint8, generator=generator)
    return images.to(next(model.parameters()).device)


def masks(shape: tuple[int, ...]) -> dict[str, Tensor]:
    """Return masks of known values, true where a value is given, ``[N, C, H, W]``."""
    nothing = torch.zeros(shape, dtype=torch.bool)
    upper, lower, hole, colors, rows = (nothing.clone() for _ in range(5))
    height, third, half = shape[2], shape[2] // 3, shape[2] // 2
    upper[:, :, :half] = True
    lower[:, :, half:] = True
    hole[:] = True
    hole[:, :, third : 2 * third, 1 : max(2, shape[3] - 1)] = False
    colors[:, 0] = True
    rows[:, :, [*range(third), min(half, height - 1)]] = True
    generator = torch.Generator().manual_seed(0)
    each_its_own = torch.rand(shape, generator=generator) < 0.7
    everything = ~nothing
    return {
        "upper half": upper,
        "lower half": lower,
        "hole": hole,
        "first color": colors,
        "rows": rows,
        "each its own": each_its_own,
        "everything": everything,
    }


MASKS = list(masks((1, 1, *SIZE)))


def sample(model: nn.Module, n: int = 2, **options: object) -> Tensor:
    """Draw images with a model of tests.support.networks; two small images are its inputs."""
    options = {"temperature": TEMPERATURE, **inputs(model, count=2), **options}
    return pixelsr.sample(model, n, **options)


class Draw(NamedTuple):
    """A draw from a network of tests.support.networks, by name.

    Attributes:
        n: number of samples, of each of two small images if the network takes them.
        mask: the name of a mask of `masks`, or None.
        shares: True if all samples have the same known values.
        given: "random" known values, or "drawn": the values that would be drawn.
    """

    name: str
    size: tuple[int, int] = SIZE
    n: int = 2
    mask: str | None = None
    shares: bool = False
    given: str = "random"
    seed: int = 0
    first_index: int = 0
    temperature: float = TEMPERATURE

    def what(self) -> dict[str, object]:
        """Return the arguments that `pixelsr.sample` and `sampling.start` have in common."""
        model = network(self.name)
        what = inputs(model, 2, self.size)
        samples = self.n * len(what.get("low_res", [0]))
        options = {"n": self.n, **what}
        if self.mask:
            shape = (1 if self.shares else samples, model.colors, *self.size)
            options["known_mask"] = masks(shape)[self.mask]
            options["known"] = random_images(model, *shape[:1], self.size)
            if self.given == "drawn":
                options["known"] = ancestral(self._replace(mask=None, given="random"))
        return options

    def options(self) -> dict[str, object]:
        """Return the arguments of `pixelsr.sample`."""
        how = {name: getattr(self, name) for name in ("seed", "first_index", "temperature")}
        return {**self.what(), **how}


@functools.cache
def ancestral(draw: Draw) -> Tensor:
    """Return the images by the whole network in float64, which every engine is compared with."""
    return pixelsr.sample(network(draw.name), method="ancestral", **draw.options())


@torch.no_grad()
def forward(model: nn.Module, images: Tensor) -> Tensor:
    """Return the logits of images by one forward pass of the network itself."""
    size = tuple(images.shape[2:])
    low_res = inputs(model, len(images), size).get("low_res")
    return model(images) if low_res is None else model(images, low_res.to(images.device))


def cached_logits(engine: str, model: nn.Module, images: Tensor) -> Tensor:
    """Return the logits of images by an engine."""
    low_res = inputs(model, len(images), tuple(images.shape[2:])).get("low_res")
    return pixelsr.sampling.logits(model, images, low_res=low_res, engine=engine)


def count_flips(model: nn.Module, images: Tensor, temperature: float, *low_res: Tensor) -> int:
    """Return the number of values that are not the argmax of their own logits plus noise."""
    n, colors, height, width = images.shape
    with torch.inference_mode():
        logits = model(images, *low_res)  # [N, L, C, H, W]
    rows = logits.permute(0, 3, 4, 2, 1).flatten(1, 3)  # [N, positions, L]
    noise = gumbel_noise(0, 0, n, 0, rows.shape[1], rows.shape[2], rows.device)
    drawn = draw(rows, noise, temperature).view(n, height, width, colors).permute(0, 3, 1, 2)
    return int((drawn != images).sum())


def request_of(
    model: nn.Module,
    n: int = 1,
    size: tuple[int, int] | None = (3, 4),
    low_res: Tensor | None = None,
    known: Tensor | None = None,
    known_mask: Tensor | None = None,
    first_index: int = 0,
) -> Request:
    """Return a request, for tests that build an engine themselves."""
    return make_request(
        model,
        n,
        image_size=size,
        low_res=low_res,
        known=known,
        known_mask=known_mask,
        first_index=first_index,
    )


def in_threads(work: Callable[[int], object], count: int = 3) -> list[object]:
    """Return work(0), work(1), ... from Python threads that run at once."""
    found: dict[int, object] = {}

    def run(k: int) -> None:
        found[k] = work(k)

    workers = [threading.Thread(target=run, args=(k,)) for k in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return [found[k] for k in range(count)]
