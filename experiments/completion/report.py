"""What the documents say of completions, and the plot of their times."""

import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from ..support.plots import COLORS, canvas, tidy
from ..support.report_text import again, budget, image, machine, table, trained_before
from ..support.results import Results
from .parts import LOWER, WHOLE

NAME = "completion"
DIGITS, FACES, MODEL = "digits", "faces", "model"
"""The ways to complete: priors that are trained for it, and a model that was trained before."""
BUDGET_NOTES = {
    "small": "small models and short budgets, for two CPU cores",
    "paper": "the sizes of the PRSR paper's prior; the budgets are ours",
}
SUM = "PixelRecursiveSR"
SURE = 2
"""Standard errors that a difference has to be of, to be called one."""

Facts = Mapping[str, Any]


def section(results: Mapping[str, Any]) -> str:
    """The paragraph, tables and images of the documents."""
    parts = _method, _scores, _outcome, _times, _cost
    return "\n\n".join((*(part(results) for part in parts), _images(results)))


def _method(results: Mapping[str, Any]) -> str:
    settings, ways = results["settings"], results["ways"]
    minutes = sum(results["seconds"].values()) / 60
    priors = "; ".join(
        f"{name}, in {ways[name]['model']['levels']} levels, by one of "
        f"{ways[name]['model']['layers']} layers and {ways[name]['model']['channels']} channels, "
        f"{budget(settings[name])}"
        for name in (DIGITS, FACES)
    )
    return (
        "A part of each image is kept and the rest drawn, by `pixelsr.sample(known=, "
        "known_mask=)`: the lower half, or a hole made of a disc and a stroke. Two Gated PixelCNNs "
        f'are trained for it, scale "{settings["scale"]}" ({BUDGET_NOTES[settings["scale"]]}): '
        f"{priors}. That took {minutes:.0f} minutes in all on {machine(results)}. "
        f"{_faces(PurePath(settings['model']).name, ways[MODEL])} Test digits and held-out faces "
        f"are completed.\n\n{_measures(settings, ways)}"
    )


def _faces(model: str, way: Facts) -> str:
    """What else completes faces, and what it sees."""
    before = f"trained before{trained_before(model)}"
    if way["model"]["class"] != SUM:
        return f"Faces are completed by `{model}` too, a {way['model']['class']}, {before}."
    return (
        f"Faces are completed by `{model}` too, the sum of a conditioning network and a prior, "
        f"{before}. Its conditioning network sees a small image: with a half hidden, that of the "
        "whole face, hidden pixels included; with a hole, that of the kept pixels."
    )


def _measures(settings: Mapping[str, Any], ways: Mapping[str, Facts]) -> str:
    return (
        f"{settings['samples']} samples are drawn of each of "
        f"{ways[DIGITS]['parts'][LOWER]['images']} digits and "
        f"{ways[FACES]['parts'][LOWER]['images']} faces. Distances are root mean "
        "squares over the hidden values, in intensities from 0 to 1: between the samples of one "
        "image, and from them to the original. Were the model exact, both would be the same for "
        "a lower half, a ratio of 1; in a hole not even then, as a prior does not see what is kept "
        "below it. Bits are -log2 p(lower half | what is seen) of the "
        "original for each hidden value. They are exact, as the lower half is what is drawn last; "
        "for a hole, what is kept below would have to be counted too, and they are left out."
    )


def _scores(results: Mapping[str, Any]) -> str:
    header = ["", "hidden", "share", "between samples", "to the original", "ratio"]
    rows, titles = [], _titles(results)
    for name, way in results["ways"].items():
        for part, score in way["parts"].items():
            exact = way["lower_half_bits"] if part == LOWER else None
            rows.append(
                [
                    titles[name],
                    part,
                    f"{score['hidden']:.0%}",
                    f"{score['apart']:.3f}",
                    f"{score['from_truth']:.3f}",
                    f"{score['ratio']:.2f} ± {score['standard_error']:.2f}",
                    f"{exact['mean']:.3f} ± {exact['standard_error']:.3f}" if exact else "",
                ]
            )
    return table([*header, "bits a hidden value"], rows)


def _outcome(results: Mapping[str, Any]) -> str:
    """Whether kept values came back, how diverse samples are, what the small image is worth."""
    ways, titles = results["ways"], _titles(results)
    verdicts = "; ".join(_diversity(titles[name], way) for name, way in ways.items())
    sentences = [_kept(ways), f"Samples of a lower half are, {verdicts}."]
    if ways[MODEL]["model"]["class"] == SUM:
        sentences.append(_small_image(results))
    return " ".join((*sentences, "± is the standard error over the images."))


def _titles(results: Mapping[str, Any]) -> dict[str, str]:
    """Of the ways, as a sentence names them."""
    model = PurePath(results["settings"]["model"]).name
    return {DIGITS: "digits", FACES: "faces, the prior", MODEL: f"faces, {model}"}


def _kept(ways: Mapping[str, Facts]) -> str:
    changed = sum(
        part["known_values_changed"] for way in ways.values() for part in way["parts"].values()
    )
    if changed:
        return f"{changed:,} kept values came back changed, which must not be."
    return "All kept values came back untouched."


def _diversity(title: str, way: Facts) -> str:
    score = way["parts"][LOWER]
    excess = score["ratio"] - 1
    if abs(excess) <= SURE * score["standard_error"]:
        verdict = "as far from one another as from the original, within two standard errors"
    elif excess < 0:
        verdict = "nearer to one another than to the original, which is not diverse enough"
    else:
        verdict = "further from one another than from the original, which is too diverse"
    return f"for {title}, {verdict}"


def _small_image(results: Mapping[str, Any]) -> str:
    """The prior beside the sum, in bits of the lower half; face by face."""
    both, prior = (results["ways"][name] for name in (MODEL, FACES))
    told, alone = (way["lower_half_bits"]["mean"] for way in (both, prior))
    saved = results["bits_saved_by_model"]
    if abs(saved["mean"]) <= SURE * saved["standard_error"]:
        worth = "makes no difference in bits beyond two standard errors"
    else:
        word = "saves" if saved["mean"] > 0 else "costs"
        worth = (
            f"{word} {abs(saved['mean']):.2f} ± {saved['standard_error']:.2f} bits a hidden value "
            "of a face"
        )
    even = math.log2(prior["model"]["levels"])
    if alone > even:
        beside = f"worse than guessing evenly, {even:g} bits"
    else:
        beside = f"where guessing evenly takes {even:g}"
    off = [way["parts"][LOWER]["from_truth"] for way in (prior, both)]
    return (
        f"The sum, told the small image of the whole, {worth}: "
        f"{told:.2f} against {alone:.2f} by the prior, {beside}. Bits are measured "
        "with the original before each value, while a sample goes on from its own: those of the "
        f"prior are {off[0] / off[1]:.1f} times as far from the original as those of the sum."
    )


def _times(results: Mapping[str, Any]) -> str:
    header = ["", "drawn", "share of the values", "multiply-adds", "time"]
    rows, titles = [], _titles(results)
    for name, way in results["ways"].items():
        for part, side in way["times"]["sides"].items():
            ratios = [f"{side['macs']:.2f}", f"{side['time']:.2f}"]
            rows.append([titles[name], part, f"{side['hidden']:.0%}", *ratios])
    return table(header, rows)


def _cost(results: Mapping[str, Any]) -> str:
    """Whether a completion takes less than a whole image."""
    titles = _titles(results)
    timed = {titles[name]: way["times"] for name, way in results["ways"].items()}
    first = next(iter(timed.values()))
    rounds = len(first["sides"][WHOLE]["seconds"])
    engines = " and ".join(dict.fromkeys(times["engine"] for times in timed.values()))
    lower = " and ".join(
        f"{times['sides'][LOWER]['time']:.2f} ({title})" for title, times in timed.items()
    )
    dear = [
        f"{part} of {title}"
        for title, times in timed.items()
        for part, side in times["sides"].items()
        if part != WHOLE and side["time"] >= 1
    ]
    if dear:
        pays = f"do not always save time: not in the {', nor in the '.join(dear)}"
    else:
        pays = "save time: each completion takes less than a whole image"
    is_sum = results["ways"][MODEL]["model"]["class"] == SUM
    small = "; a small image's network runs as for the whole" if is_sum else ""
    return (
        f"Times are those of a batch of {first['batch']} by the engine {engines}, all four drawn "
        f"in turns, {rounds} rounds after one to warm up; a whole image is 1, and the median of "
        "the rounds' ratios is given. Multiply-adds are what the plan predicts for the C++ engine: "
        "kept rows are not drawn, but features of them that lead to a drawn value are computed"
        f"{small}. A lower half takes {lower} of the time of "
        f"a whole image. Known pixels {pays}."
    )


def _images(results: Mapping[str, Any]) -> str:
    return "\n\n".join(
        (
            image(NAME, "The time of completions, a whole image being 1"),
            image(f"{NAME}-digits", "Lower halves of digits: kept, eight samples, original"),
            image(f"{NAME}-portraits", "Lower halves of two portraits, by both models"),
            image(f"{NAME}-holes", "A hole in digits and portraits"),
            f"The held-out faces, which are not ours to show, are in `photos-{NAME}.png`, which "
            f"the command writes too. {again(results)}",
        )
    )


def draw_times(results: Results) -> Any:
    """A bar for each completion, and a mark at its multiply-adds."""
    titles = _titles(results)
    sides = {
        f"{titles[name]}: {part}": side
        for name, way in results["ways"].items()
        for part, side in way["times"]["sides"].items()
        if part != WHOLE
    }
    figure = canvas(8, 0.8 + 0.32 * len(sides))
    axes = figure.add_subplot()
    positions = range(len(sides))
    axes.barh(positions, [side["time"] for side in sides.values()], color=COLORS[0], label="time")
    macs = [side["macs"] for side in sides.values()]
    axes.plot(macs, positions, "|", color=COLORS[1], ms=16, mew=3, label="multiply-adds")
    axes.set_yticks(positions, list(sides))
    axes.invert_yaxis()
    axes.axvline(1, color="#333333", linewidth=0.8)
    tidy(axes, "a whole image is 1", "")
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    return figure
