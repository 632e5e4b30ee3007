"""Stepwise sampling, in which the caller chooses the value at each position."""

import torch
from torch import Tensor, nn

from pixelsr.functional.autocast import without_autocast

from .methods import start_engine
from .request import Request, make_request, request_for


class State:
    """The state of images that are being drawn; `start` creates it.

    Attributes:
        images: uint8 ``[samples, C, H, W]``, the values chosen so far; other values are known or
            zero.
        position: (row, column, color) of the most recent logits; None before the first step and
            after the last.
    """

    def __init__(self, request: Request, engine: str) -> None:
        self._request = request
        run = start_engine(engine, request)
        self._positions = run.positions()
        self.images = run.images
        self.position: tuple[int, int, int] | None = None
        self._started = False

    @without_autocast()
    @torch.no_grad()
    def step(self, values: Tensor | None = None) -> Tensor | None:
        """Write the values of the current position, and return the logits of the next.

        Args:
            values: ints ``[samples]`` for the current position (known values are never
                overwritten); None in the first call.
        Returns:
            logits ``[samples, levels]`` of the next unknown position in raster order, or None when
            every value is drawn. They are not checked for NaN and infinities.
        Raises:
            ValueError, TypeError: `values` is missing or unexpected, or has the wrong type, shape,
                dtype or range.
        """
        self._check(values)
        self._started = True
        try:
            if values is None:
                self.position, logits = next(self._positions)
            else:
                self.position, logits = self._positions.send(values)
        except StopIteration:
            self.position = None
            return None
        return logits.clone()

    def _check(self, values: Tensor | None) -> None:
        if values is None:
            if self.position is not None:
                raise ValueError(f"step needs the values of position {self.position}")
            return
        if self.position is None:
            when = "after the last position" if self._started else "in the first step"
            raise ValueError(f"step takes no values {when}")
        samples, levels = self._request.samples, self._request.levels
        if not isinstance(values, Tensor):
            raise TypeError(
                f"values must be an int tensor [{samples}], got {type(values).__name__}"
            )
        if values.shape != (samples,) or values.is_floating_point() or values.is_complex():
            raise ValueError(
                f"values must be ints [{samples}], got {values.dtype} {list(values.shape)}"
            )
        if int(values.min()) < 0 or int(values.max()) >= levels:
            raise ValueError(f"values must be 0 to {levels - 1}, got {values.tolist()}")


@without_autocast()
def start(
    model: nn.Module,
    n: int = 1,
    *,
    image_size: tuple[int, int] | None = None,
    low_res: Tensor | None = None,
    known: Tensor | None = None,
    known_mask: Tensor | None = None,
    engine: str = "auto",
    weights: str = "model",
) -> State:
    """Start to draw images whose values the caller chooses (top-k, guidance, scoring).

    ::

        state = pixelsr.sampling.start(model, n=4, image_size=(32, 32))
        logits = state.step()
        while logits is not None:
            logits = state.step(logits.argmax(-1))
        state.images

    The arguments are the same as in `pixelsr.sample`.
    """
    request = make_request(
        model,
        n,
        image_size=image_size,
        low_res=low_res,
        known=known,
        known_mask=known_mask,
        weights=weights,
    )
    return State(request, engine)


@torch.no_grad()
@without_autocast()
def logits(
    model: nn.Module, images: Tensor, *, low_res: Tensor | None = None, engine: str = "auto"
) -> Tensor:
    """Return the logits that the cached sampler computes while it draws the given images.

    The result equals ``model(images)`` (or ``model(images, low_res)``) up to rounding.

    Args:
        images: uint8 ``[N, C, H, W]``.
        low_res: uint8 ``[N, C, h, w]``, for a model that takes it.
    Returns:
        ``[N, L, C, H, W]``, float64 for a float64 model, else float32.
    """
    return start_engine(engine, request_for(model, images, low_res)).record(images)
