"""The check and the time of the Triton engine with 16-bit weights."""

import pixelsr
from pixelsr.bench import make_batch

from . import REHEARSES
from .engine import draw
from .setting import BATCHES, batch_of, make_model


def run() -> None:
    if REHEARSES:  # Triton's interpreter is slow
        small = pixelsr.PixelCNN(channels=4, layers=1, head_channels=4, colors=1, levels=2)
        draw(make_batch(small, 1, (1, 2)), "triton")
        return
    model = make_model()
    for count in BATCHES:
        draw(batch_of(model, count), "triton")
