"""A sampling rule of your own, applied one color step at a time: top-k.

`pixelsr.sampling.start` returns the logits of one value for all images, and takes the values that
you choose. You can use it for top-k, guidance, scoring, or a mixture of models.

    python examples/own_sampling.py --model faces-8x32 -o top-k.png
"""

from pathlib import Path

import click
import torch
from torch import Tensor

import pixelsr
from pixelsr.data.crop import from_tensor, small_image
from pixelsr.data.image_io import open_image, save_image

SAMPLES = Path(pixelsr.__file__).parent / "samples"


def top_k(logits: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Return one draw per row from its k likeliest levels; ``[N, levels]`` to ``[N]``."""
    values, levels = logits.topk(k, dim=1)
    choice = torch.multinomial(values.softmax(1), 1, generator=generator)
    return levels.gather(1, choice)[:, 0]


@click.command()
@click.option("--model", default="faces-8x32", show_default=True)
@click.option("--photo", default=SAMPLES / "astronaut.png", type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path))
@click.option("-n", default=4, show_default=True)
@click.option("-k", default=20, show_default=True)
def main(model: str, photo: Path, out: Path, n: int, k: int) -> None:
    """Enlarge a photo with top-k draws."""
    network = pixelsr.PixelRecursiveSR.from_pretrained(model)
    small = small_image(open_image(photo), scale_factor=network.scale_factor)
    state = pixelsr.sampling.start(network, n=n, low_res=small.low_res[None])
    generator = torch.Generator().manual_seed(0)
    logits = state.step()  # the logits of the first value
    while logits is not None:
        logits = state.step(top_k(logits, k, generator))
    save_image(from_tensor(torch.cat(list(state.images), dim=2)), out)
    print(f"{n} images in {out}")


if __name__ == "__main__":
    main()
