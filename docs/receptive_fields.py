"""Draws docs/images/receptive-fields.png: which pixels one output of each prior sees.

.venv/bin/python -m docs.receptive_fields
"""

from pathlib import Path

import matplotlib
import torch

import pixelsr

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

SIZE, POSITION = (11, 19), (8, 9)
SIZES = {"channels": 16, "layers": 3, "first_kernel_size": 3, "head_channels": 32}
FUTURE, UNSEEN, SEEN, OUTPUT = range(4)
COLORS = {
    OUTPUT: ("#d1495b", "the pixel that is drawn"),
    SEEN: ("#30638e", "read"),
    UNSEEN: ("#f2cf87", "past, but not read"),
    FUTURE: ("#f4f4f4", "future"),
}
MODELS = (
    pixelsr.PixelCNN(**SIZES, colors=1, levels=8),
    pixelsr.GatedPixelCNN(**SIZES, kernel_size=3, colors=1, levels=8),
    pixelsr.RowLSTM(**SIZES, colors=1, levels=8),
    pixelsr.DiagonalBiLSTM(**SIZES, colors=1, levels=8),
)


def image(model: torch.nn.Module) -> torch.Tensor:
    """A kind for each pixel."""
    order = torch.arange(SIZE[0] * SIZE[1]).view(SIZE)
    kinds = torch.where(order < order[POSITION], UNSEEN, FUTURE)
    kinds[pixelsr.receptive_field(model, SIZE, position=POSITION)] = SEEN
    kinds[POSITION] = OUTPUT
    return kinds


def main() -> None:
    figure, axes = pyplot.subplots(2, 2, figsize=(9, 6.2), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.1)
    colors = ListedColormap([COLORS[kind][0] for kind in range(4)])
    for model, axis in zip(MODELS, axes.flat, strict=True):
        axis.pcolormesh(image(model), cmap=colors, vmin=0, vmax=3, edgecolors="white", linewidth=1)
        axis.invert_yaxis()
        axis.set_aspect("equal")
        axis.set_axis_off()
        axis.set_title(f"{type(model).__name__}, {SIZES['layers']} layers", fontsize=12)
    legend = [Patch(color=color, label=label) for color, label in COLORS.values()]
    figure.legend(handles=legend, loc="outside lower center", ncols=4, frameon=False, fontsize=11)
    figure.savefig(Path(__file__).parent / "images" / "receptive-fields.png", dpi=110)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
