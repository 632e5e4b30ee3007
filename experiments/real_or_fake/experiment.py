"""The samples of the study and its page."""

import base64
import io
import json
from pathlib import Path

import torch
from torch import Tensor

from pixelsr.data.crop import from_tensor
from pixelsr.data.load import load_images
from pixelsr.data.quantize import from_levels, to_levels
from pixelsr.models import PixelRecursiveSR
from pixelsr.models.sizes import small_side
from pixelsr.sampling import sample
from pixelsr.utils.atomic_write import write_whole

from ..support.config import ExperimentConfig
from ..support.faces import find_folder, free_portraits
from ..support.image_split import checksum
from ..support.plots import write_sheet
from ..support.results import Results, begin

NAME = "real-or-fake"
PAIRS = {"small": 40, "paper": 200}
"""The number of pairs on the page at each scale."""
TEMPERATURE = 1.0
BATCH = 40
"""The number of images that are drawn at once; no image depends on it."""
PAGE = Path(__file__).with_name("page.html")
PLACEHOLDER = '{"pairs": []}'
"""The text of the page that the study replaces."""


def run(config: ExperimentConfig) -> bool:
    """Draw the samples and write the page; see `experiments.run`."""
    model = _load(config.model)
    side = small_side(config.model, model) * model.scale_factor
    held_out = load_images(find_folder(config.images(NAME)) / "val", side, lambda sentence: None)
    portraits = free_portraits(side)
    count = min(PAIRS[config.scale], len(held_out))
    chosen = torch.arange(count) * len(held_out) // count
    settings = {
        "scale": config.scale,
        "model": Path(config.model).name,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "size": side,
        "small_size": side // model.scale_factor,
        "temperature": TEMPERATURE,
        "seed": config.seed,
        "held_out_images": len(held_out),
        "checksum": checksum(held_out),
        "images": chosen.tolist(),
    }
    results = begin(config, NAME, settings)
    free = torch.stack(list(portraits.values()))
    photos = to_levels(torch.cat((held_out[chosen], free)), model.levels)
    low_res = model.downsample(photos)
    drawn = sample(
        model.to(config.device),
        low_res=low_res,
        seed=config.seed,
        temperature=TEMPERATURE,
        max_batch=BATCH,
        progress=True,
    )
    shown = [from_levels(images.cpu(), model.levels) for images in (low_res, drawn, photos)]
    page = make_page(results, *(images[:count] for images in shown))
    write_whole(config.out / f"{NAME}.html", page.encode())
    small, *large = (images[count:] for images in shown)
    columns = [torch.nn.functional.interpolate(small, scale_factor=model.scale_factor), *large]
    captions = [f"{settings['small_size']}x{settings['small_size']} input", "sample", "photo"]
    rows = dict(zip(portraits, torch.stack(columns, 1), strict=True))
    write_sheet(config.out / f"{NAME}.png", rows, captions, max(1, 192 // side))
    return True


def _load(name: str) -> PixelRecursiveSR:
    model = PixelRecursiveSR.from_pretrained(name)
    if model.colors != 3:
        raise ValueError(f"--model {name} has {model.colors} colors, expected 3, as a photo has")
    return model


def make_page(results: Results, low_res: Tensor, drawn: Tensor, photos: Tensor) -> str:
    """Return the study as one HTML file that needs nothing else.

    Args:
        low_res: 8-bit small images, uint8 ``[K, 3, h, w]``.
        drawn, photos: 8-bit images, uint8 ``[K, 3, H, W]``.
    """
    settings = results["settings"]
    names = "image", "input", "sample", "photo"
    columns = settings["images"], *(map(_data_uri, images) for images in (low_res, drawn, photos))
    shown = "model", "size", "small_size", "temperature", "seed", "held_out_images", "checksum"
    study = {name: settings[name] for name in shown}
    study["pairs"] = [dict(zip(names, pair, strict=True)) for pair in zip(*columns, strict=True)]
    text = json.dumps(study).replace("<", "\\u003c")  # so that no name can end the script
    before, found, after = PAGE.read_text(encoding="utf-8").partition(PLACEHOLDER)
    assert found
    return before + text + after


def _data_uri(image: Tensor) -> str:
    file = io.BytesIO()
    from_tensor(image).save(file, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
