"""What the sections of all experiments say alike."""

from collections.abc import Mapping, Sequence
from typing import Any

OPTIMIZERS = {"adamw": "AdamW", "rmsprop": "RMSProp"}
ALIKE = "; the same images in the same order"
"""Said after the budget of several models."""
TRAINED_BEFORE = {
    "faces-8x32": ", for some three hours on two CPU cores, on all training images, those held "
    "out included; its best step, the last, was told by the faces that are measured here",
}
"""How bundled models were, by name."""


def budget(settings: Mapping[str, Any]) -> str:
    """How each model was trained, from the "steps", "recipe" and "training_images"."""
    recipe = settings["recipe"]
    passes = settings["steps"] * recipe["batch"] / settings["training_images"]
    return (
        f"{settings['steps']:,} steps of {recipe['batch']} images, {passes:.1f} passes over "
        f"{settings['training_images']:,} training images; {OPTIMIZERS[recipe['optimizer']]}, "
        f"learning rate {recipe['lr']:g} after {recipe['warmup']} steps of warm-up, then "
        f"{_decay(recipe)}; gradients clipped at {recipe['clip']:g}"
    )


def _decay(recipe: Mapping[str, Any]) -> str:
    if recipe["schedule"] == "halving":
        return f"halved every {recipe['halve_every']:,} steps"
    end = f"{100 * recipe['floor']:g}% of it" if recipe["floor"] else "zero"
    return f"down to {end} by a cosine"


def machine(results: Mapping[str, Any]) -> str:
    """The machine that made the figures."""
    facts = results["machine"]
    threads = f"{facts['threads']} thread{'s' * (facts['threads'] != 1)}"
    return f"{facts['device']} ({threads}, torch {facts['torch']})"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "|" + "".join(f" {cell} |" if cell else " |" for cell in line) for line in lines
    )


def image(file: str, caption: str) -> str:
    """An image that lies with the figures."""
    return f"![{caption}](results/{file}.png)"


def again(results: Mapping[str, Any]) -> str:
    """The command, and where all figures are."""
    name = results["experiment"]
    command = results.get("command", f"python -m experiments {name} --data data --out out")
    return f"`{command}` does it again, [{name}.json](results/{name}.json) has all figures."


def trained_before(model: str) -> str:
    """What the documents know of a model that was trained before, after its name."""
    return TRAINED_BEFORE.get(model, ", as it is")
