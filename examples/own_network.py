"""A network of your own, built from pixelsr.nn layers: checked, trained, saved and sampled.

The network is in no paper: two branches of masked convolutions, one of them dilated, are
concatenated and gated by a swish. The sampler has never seen it, and still computes each feature
only once.

    python examples/own_network.py IMAGES -o run --steps 500
"""

import dataclasses
from pathlib import Path

import click
import torch
from torch import Tensor, nn

import pixelsr
from pixelsr import functional
from pixelsr.data.crop import from_tensor
from pixelsr.data.image_io import save_image
from pixelsr.data.load import load_images
from pixelsr.models import Config, PixelModel
from pixelsr.nn import MaskedConv2d
from pixelsr.training import Budget, Intervals, RunDir, Trainer, TrainingConfig
from pixelsr.training.progress import Display


@dataclasses.dataclass(frozen=True)
class DilatedConfig(Config):
    """The sizes of a `DilatedPixelCNN`; the base class checks that each is a positive int."""

    channels: int = 24
    layers: int = 4
    colors: int = 3
    levels: int = 256


class Branches(nn.Module):
    """``x + out(swish(near(x), far(x)))``: two masked convolutions, one of them dilated."""

    def __init__(self, channels: int, colors: int) -> None:
        super().__init__()
        self.near = MaskedConv2d(channels, channels, 3, mask_type="B", colors=colors)
        self.far = MaskedConv2d(channels, channels, 3, mask_type="B", colors=colors, dilation=3)
        # The input is two concatenated maps; each part is split into color groups on its own.
        self.out = MaskedConv2d(2 * channels, channels, 1, mask_type="B", colors=colors, in_parts=2)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([self.near(x), self.far(x)], dim=1)
        return x + self.out(both * torch.sigmoid(both))


class DilatedPixelCNN(PixelModel):
    """A network that begins with mask A and continues with mask B, which makes it causal."""

    Config = DilatedConfig
    config: DilatedConfig

    def __init__(self, **options: int) -> None:
        super().__init__()
        self.config = c = DilatedConfig(**options)
        self.first = MaskedConv2d(c.colors, c.channels, 5, mask_type="A", colors=c.colors)
        self.branches = nn.Sequential(*(Branches(c.channels, c.colors) for _ in range(c.layers)))
        self.out = MaskedConv2d(c.channels, c.colors * c.levels, 1, mask_type="B", colors=c.colors)

    def forward(self, images: Tensor) -> Tensor:
        c = self.config
        x = self.first(functional.normalize_images(images, c.colors, c.levels, self.dtype))
        return functional.to_logits(self.out(self.branches(x)), c.colors, c.levels)


@click.command()
@click.argument("folder")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path))
@click.option("--steps", default=500, show_default=True)
@click.option("--size", default=16, show_default=True)
def main(folder: str, out: Path, steps: int, size: int) -> None:
    """Train a DilatedPixelCNN on the images of FOLDER, and draw from it."""
    torch.manual_seed(0)
    model = DilatedPixelCNN()
    pixelsr.check_causality(model)  # raises an error if an output reads the future
    plan = pixelsr.sampling.plan(model, (size, size))
    print(f"{plan.macs / 1e6:.0f} million multiply-adds draw a {size}x{size} image")

    images = load_images(folder, size, print)
    config, budget = TrainingConfig(batch=16, lr=3e-3, warmup=20), Budget(steps=steps)
    files = RunDir(out)
    Trainer(model, images, None, files, config, budget, Intervals(), Display()).run()

    model = DilatedPixelCNN.from_pretrained(out / "model")
    drawn = pixelsr.sample(model, n=4, image_size=(size, size), seed=0)
    save_image(from_tensor(torch.cat(list(drawn), dim=2)), out / "drawn.png")
    print(f"four images in {out / 'drawn.png'}")


if __name__ == "__main__":
    main()
