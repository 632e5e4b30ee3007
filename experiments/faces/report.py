"""What the documents say of the figures of `faces`, and their plot."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from ..support.plots import COLORS, canvas, tidy
from ..support.report_text import ALIKE, again, budget, image, machine, table, trained_before
from ..support.results import Results

NAME = "faces"
FIRST = 1.0
"""The tau that the outcome speaks of."""
SURE = 2
"""Standard errors that a difference has to be of, to be called one."""


def section(results: Mapping[str, Any]) -> str:
    """The paragraphs, table and images of the documents."""
    return "\n\n".join((_method(results), _table(results), _outcome(results), _images(results)))


def _method(results: Mapping[str, Any]) -> str:
    settings, models = results["settings"], results["models"]
    minutes = sum(facts["seconds"] or 0 for facts in models.values()) / 60
    sizes = {name: f"{facts['parameters'] / 1000:,.0f} thousand" for name, facts in models.items()}
    other = PurePath(settings["model"]).name
    return (
        f"All {settings['images']} held-out faces, of people who are not in the training "
        "images, made 8x8 by area averages and enlarged to 32x32 in every way. Trained here, "
        f'scale "{settings["scale"]}", each on one budget: L2 regression, A alone (every value by '
        f"itself, cross-entropy; {sizes['conditioning']} parameters), B alone (a Gated PixelCNN "
        f"that sees no input; {sizes['prior']}) and their sum ({sizes['sum']}): "
        f"{budget(settings)}{ALIKE}. That took {minutes:.0f} minutes in all on {machine(results)}. "
        f"Beside them stands `{other}` ({sizes['other']} parameters), trained before"
        f"{trained_before(other)}. What draws has drawn twice for each face, seed "
        f"{settings['recipe']['seed']}, nothing picked.\n\n"
        "pSNR, SSIM and MS-SSIM against the photo are torchmetrics', consistency is the mean "
        "squared error between the 8x8 input and the answer made small again, intensities in [0, "
        "1]. The last columns compare two draws for one input with each other: draws from the "
        "true distribution are to each other as each is to the photo, so that a larger figure than "
        "in the column of the photo means draws that vary too little, a smaller one too much."
    )


def _table(results: Mapping[str, Any]) -> str:
    mean = results["methods"]["L2 regression"]["consistency"]
    multi_scale = any(scores["ms_ssim"] is not None for scores in results["methods"].values())
    header = ["", "bits per dimension", "pSNR, dB", "SSIM", *(["MS-SSIM"] if multi_scale else [])]
    header += ["consistency", "of that of L2", "pSNR of two draws", "SSIM of two draws"]
    rows = []
    for title, scores in results["methods"].items():
        model = results["models"][scores["model"]] if scores["model"] else {}
        bits = model.get("bits_per_dimension")
        row = [title, _number(bits, 3), _number(scores["psnr"], 2), _number(scores["ssim"], 3)]
        row += [_number(scores["ms_ssim"], 3)] if multi_scale else []
        row += [_number(scores["consistency"], 5), f"{scores['consistency'] / mean:.2f}"]
        row.append(_number(scores.get("psnr_between_draws"), 2))
        row.append(_number(scores.get("ssim_between_draws"), 3))
        rows.append(row)
    note = "" if multi_scale else "\n\nMS-SSIM is not defined for images as small as these."
    return table(header, rows) + note


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _outcome(results: Mapping[str, Any]) -> str:
    """What the figures say of the claims."""
    models, scores = results["models"], results["methods"]
    bits = {name: models[name]["bits_per_dimension"] for name in ("sum", "prior", "conditioning")}
    better = bits["sum"] < min(bits["prior"], bits["conditioning"])
    drawn = scores[f"A + B, tau {FIRST}"]
    mean = scores["L2 regression"]
    noise = drawn["consistency"] / mean["consistency"]
    nearest = max(scores, key=lambda title: scores[title]["psnr"])
    faithful = min(scores, key=lambda title: scores[title]["consistency"])
    return (
        f"The sum of logits needs {bits['sum']:.3f} bits per dimension, B alone "
        f"{bits['prior']:.3f}, A alone {bits['conditioning']:.3f}: "
        + ("it beats both of its parts" if better else "it does not beat both of its parts")
        + f". The best pSNR has {nearest}: it rewards the average of all faces that fit, which no "
        f"draw is. The best consistency has {faithful}, where the photos themselves would have 0. "
        "What is drawn value by value strays: a draw of the sum has "
        f"{noise:.1f} times the consistency error of L2 regression (root mean squares: "
        f"{_gray(drawn)} and {_gray(mean)} gray levels of 255; of B alone, which is blind to the "
        f"input, {_gray(scores['B alone'])}) and {_less(mean, drawn)} in pSNR. {_variety(drawn)}"
    )


def _gray(scores: Mapping[str, Any]) -> str:
    return f"{255 * scores['consistency'] ** 0.5:.1f}"


def _less(mean: Mapping[str, Any], drawn: Mapping[str, Any]) -> str:
    difference = mean["psnr"] - drawn["psnr"]
    return f"{abs(difference):.1f} dB {'less' if difference > 0 else 'more'}"


def _variety(drawn: Mapping[str, Any]) -> str:
    excess, error = drawn["excess"]
    if abs(excess) <= SURE * error:
        verdict = "as much as they should, as far as these faces tell"
    else:
        verdict = "too little" if excess > 0 else "too much"
    return (
        f"Two of its draws for one input have a pSNR of {drawn['psnr_between_draws']:.2f} dB to "
        f"each other, and {drawn['psnr']:.2f} dB to the photo: they vary {verdict} ({excess:+.2f} "
        f"± {error:.2f} dB)."
    )


def _images(results: Mapping[str, Any]) -> str:
    return "\n\n".join(
        (
            image(NAME, "Consistency against pSNR, a point a method"),
            image(f"{NAME}-portraits", "Two portraits enlarged in every way"),
            image(f"{NAME}-draws", "The same held-out faces by every method that makes images"),
            "The photos of these faces, their nearest neighbors and bicubic enlargements, "
            f"which are not ours to show, stand beside the draws in `photos-{NAME}.png`, which the "
            "command writes too. " + again(results),
        )
    )


def draw_scores(results: Results) -> Any:
    """Consistency against pSNR: a point a method, a line through one at several tau."""
    figure = canvas(8, 5)
    axes = figure.add_subplot()
    series: dict[str, list[Results]] = {}
    for title, scores in results["methods"].items():
        series.setdefault(title.split(",")[0], []).append(scores)
    for title, points in series.items():
        x, y = ([scores[key] for scores in points] for key in ("psnr", "consistency"))
        draws = "psnr_between_draws" in points[0]
        axes.plot(x, y, "o-", color=COLORS[0 if draws else 1], markersize=5)
        axes.annotate(title, (x[0], y[0]), (6, 4), textcoords="offset points", fontsize=9)
    axes.set_yscale("log")
    axes.margins(x=0.2)
    tidy(axes, "pSNR against the photo, dB", "consistency: squared error of the small image")
    axes.set_title(
        "Right and down is nearer to the photo; blue draws, orange has one answer",
        fontsize=10,
        loc="left",
    )
    return figure
