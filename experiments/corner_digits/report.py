"""What the documents say of a digit in one of two corners."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..support.plots import COLORS, canvas, tidy
from ..support.report_text import ALIKE, again, budget, image, machine, table
from .classifier import BRIGHTEST, NOTHING, TAIL, VERDICTS
from .models import TITLES

NAME = "corner-digits"
SMALL = 0.01
"""A p below tells a coin that is not fair."""
ONE, NONE, TWO, BLEND, MISSHAPEN = VERDICTS
SHADES = (COLORS[2], "#999999", COLORS[3], COLORS[1], COLORS[0])
"""Of the verdicts."""
BLIND, SEQUENTIAL = ("regression", "independent"), ("prior", "sum")
"""Models whose pixels do not know of each other, and those that draw one after the other."""


def draw_verdicts(results: Mapping[str, Any]) -> Any:
    """A bar for each model, of the shares of the verdicts."""
    bars = {TITLES[name]: facts["counts"] for name, facts in results["models"].items()}
    bars["real images"] = results["judge"]["real images"]["counts"]
    samples = results["settings"]["samples"]
    figure = canvas(7, 2.9)
    axes = figure.subplots()
    left = [0] * len(bars)
    for verdict, shade in zip(VERDICTS, SHADES, strict=True):
        counts = [bar[verdict] for bar in bars.values()]
        axes.barh(list(bars), counts, 0.7, left, color=shade, label=verdict)
        for row, count in enumerate(counts):
            if count >= samples / 20:
                middle = left[row] + count / 2
                axes.text(middle, row, f"{count:,}", color="white", ha="center", va="center")
        left = [start + count for start, count in zip(left, counts, strict=True)]
    tidy(axes, f"of {samples:,} images", "")
    axes.set_xlim(0, samples)
    axes.invert_yaxis()
    figure.legend(frameon=False, fontsize=9, ncols=len(VERDICTS), loc="outside upper center")
    return figure


def section(results: Mapping[str, Any]) -> str:
    """The paragraphs, tables and images of the documents."""
    parts = (_method, _outcome, _verdicts, _corners, _judge)
    images = (
        image(NAME, "Verdicts by model"),
        image(f"{NAME}-samples", "Twelve inputs, what each model answers, the true images"),
        again(results),
    )
    return "\n\n".join((*(part(results) for part in parts), *images))


def _method(results: Mapping[str, Any]) -> str:
    settings, models = results["settings"], results["models"]
    side = settings["size"][0]
    parameters = ", ".join(
        f"{TITLES[name]} {facts['parameters']:,}" for name, facts in models.items()
    )
    minutes = sum(facts["seconds"] for facts in models.values()) / 60
    return (
        f"A digit of MNIST, {side // 2}x{side // 2} pixels of {settings['levels']} levels, is in "
        f"the top left or the bottom right corner of a black {side}x{side} image; a coin "
        "decided. The input is an image with the digit in both corners, halved by area average "
        f"to {side // 2}x{side // 2}: it tells the digit, but not the corner. Four models are "
        "asked for the image: the conditioning network with one number for each pixel (L2 "
        "regression); the same with a distribution for each pixel, drawn from independently (A); a "
        "PixelCNN, which is told nothing (B); and the sum of the logits, Pixel Recursive Super "
        "Resolution (A + B). The claim, of the authors' slides: independent pixels never make "
        "exactly one digit, a PixelCNN always does.\n\n"
        f"The budget of each model, at {settings['scale']} scale: {budget(settings)}{ALIKE}. "
        f"Parameters: {parameters}. Asked is the average of the weights (decay "
        f"{settings['recipe']['ema']:g}) "
        f"of the best validation. Training took {minutes:.0f} minutes in all on {machine(results)}."
    )


def _outcome(results: Mapping[str, Any]) -> str:
    """Whether the claim holds, in words."""
    models, samples = results["models"], results["settings"]["samples"]
    one = {name: facts["counts"][ONE] for name, facts in models.items()}
    found = "; ".join(f"{TITLES[name]} {_how_often(one[name], samples)}" for name in TITLES)
    intervals = {name: models[name]["intervals"][ONE] for name in models}
    to_the_letter = all(one[name] == 0 for name in BLIND) and all(
        one[name] == samples for name in SEQUENTIAL
    )
    apart = max(intervals[name][1] for name in BLIND) < min(
        intervals[name][0] for name in SEQUENTIAL
    )
    if to_the_letter:
        verdict = "The claim holds to the letter."
    elif apart and min(one[name] for name in SEQUENTIAL) > samples / 2:
        verdict = (
            "The claim holds in kind, though not to the letter: the models that draw pixel by "
            "pixel settle on one corner far more often than those whose pixels are independent."
        )
    else:
        verdict = "The claim does not reproduce here."
    real = results["judge"]["real images"]["counts"]
    return (
        f"Exactly one digit: {found}; of as many real images the judge finds {real[ONE]:,} to "
        f"be so. {verdict}"
    )


def _how_often(count: int, samples: int) -> str:
    if count in (0, samples):
        return f"{'always' if count else 'never'} ({count:,} of {samples:,})"
    return f"{count:,} of {samples:,}"


def _verdicts(results: Mapping[str, Any]) -> str:
    models = results["models"]
    header = ["", *VERDICTS, f"{ONE}, 95%", "bits/dim", "misfit"]
    rows = []
    for name, facts in models.items():
        counts = [f"{facts['counts'][verdict]:,}" for verdict in VERDICTS]
        bits = facts.get("bits_per_dimension")
        misfit = facts.get("misfit")
        ends = [
            _percent(facts["intervals"][ONE]),
            "" if bits is None else f"{bits:.4f}",
            "" if misfit is None else f"{100 * misfit:.1f}%",
        ]
        rows.append([TITLES[name], *counts, *ends])
    held_out = results["settings"]["held_out_images"]
    return (
        table(header, rows) + "\n\n"
        f"A blend has ink in both corners, or outside them, and is not two digits; a misshapen "
        "image has ink in one corner alone that does not pass for a digit. The 95% are Wilson's "
        f"interval, bits per dimension are of {held_out:,} held-out images, and the misfit is "
        "the mean difference between what a model was told and the same made of its answer, from "
        "black to white 100%."
    )


def _corners(results: Mapping[str, Any]) -> str:
    """How the images of one digit are split between the corners."""
    splits, unfair = [], []
    for name, facts in results["models"].items():
        if split := facts["first_corner"]:
            unfair += [TITLES[name]] if split["p"] < SMALL else []
            splits.append(
                f"{TITLES[name]} {split['count']:,} of {split['of']:,} times "
                f"({_percent(split['interval'])}; p = {split['p']:.2g})"
            )
    if not splits:
        return "No model drew exactly one digit, so that there is no choice of corners to test."
    verdict = (
        f"{' and '.join(unfair)} did not learn a fair coin" if unfair else "None is called unfair"
    )
    return (
        f"Where exactly one digit was drawn, it is in the top left corner: {'; '.join(splits)}. "
        "The p are those of an exact two-sided binomial test against the fair coin that placed the "
        f"digits of the data. {verdict}, at p < {SMALL}."
    )


def _judge(results: Mapping[str, Any]) -> str:
    limits, known = results["thresholds"], results["judge"]
    header = ["images", *VERDICTS, "right"]
    rows = []
    for name, facts in known.items():
        counts = facts["counts"]
        right = counts[facts["expected"]] / sum(counts.values())
        rows.append([name, *(f"{counts[verdict]:,}" for verdict in VERDICTS), f"{right:.1%}"])
    return (
        f"The verdicts are a program's. A corner holds a digit if its {BRIGHTEST} brightest "
        f"pixels average at least {limits['dimmest']:.2f} (intensities are from 0 to 1), its "
        "roughness, squared differences of neighbors over squared intensities, is at most "
        f"{limits['roughest']:.2f}, and its distance to the nearest training digit at most "
        f"{limits['farthest']:.2f} of its own length. It is empty if its intensities sum to less "
        f"than {limits['nothing']:.2f}. Each threshold is what all but {TAIL:.1%} of the held-out "
        f"training digits keep to, and for an empty corner {NOTHING:.0%} of the least sum; "
        "no model's image took part. On images of which the truth is known, it says:\n\n"
        + table(header, rows)
    )


def _percent(interval: Sequence[float]) -> str:
    low, high = (100 * end for end in interval)
    return f"{low:.1f}% to {high:.1f}%"
