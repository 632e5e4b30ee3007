"""What the documents say of the figures of `ablation`, and their plot."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ..support.plots import COLORS, canvas, tidy
from ..support.report_text import ALIKE, again, budget, image, machine, table
from ..support.results import Results

NAME = "ablation"
SIGHT = 15
"""The side of the images on which the blind spot is measured, at their center."""
IGNORED = 0.1
"""A network is called ignored where another's input costs less than this part of the usual."""


@dataclasses.dataclass(frozen=True)
class Arm:
    """A model in a table, in a plot, and the arm that it is compared with."""

    title: str
    label: str
    base: str | None = None


ARMS = {
    "sum": Arm("sum, both terms of the loss", "both terms"),
    "sum-one-term": Arm("sum, without the second term", "without the\nsecond term", "sum"),
    "prior": Arm("prior", "prior"),
    "prior-gray-masks": Arm("prior, without color masks", "without\ncolor masks", "prior"),
    "prior-one-stack": Arm("prior, one stack: a blind spot", "with a\nblind spot", "prior"),
}
SUMS = ("sum", "sum-one-term")


def draw_arms(results: Results) -> Any:
    """A dot a seed and arm, those of one seed joined; a bar at the mean."""
    arms = results["arms"]
    panels = {
        "bits per dimension, sum": {name: arms[name]["bits"] for name in SUMS},
        "bits that another's small image costs": {name: arms[name]["input"] for name in SUMS},
        "bits per dimension, prior": {
            name: facts["bits"] for name, facts in arms.items() if name not in SUMS
        },
    }
    figure = canvas(10, 3.8)
    ratios = [len(panel) + 0.5 for panel in panels.values()]
    every = figure.subplots(1, len(panels), width_ratios=ratios)
    seeds = list(arms["prior"]["seeds"])
    for axes, (title, panel) in zip(every, panels.items(), strict=True):
        positions = range(len(panel))
        for k, seed in enumerate(seeds):
            values = [one["each"][k] for one in panel.values()]
            color = COLORS[k % len(COLORS)]
            axes.plot(positions, values, "o-", color=color, linewidth=0.8, label=f"seed {seed}")
        means = [one["mean"] for one in panel.values()]
        axes.scatter(positions, means, marker="_", s=500, color="#333333", label="mean")
        tidy(axes, "", title)
        axes.set_xticks(positions, [ARMS[name].label for name in panel])
        axes.set_xlim(-0.5, len(panel) - 0.5)
        axes.grid(visible=False, axis="x")
    every[-1].legend(frameon=False, fontsize=8)
    return figure


def section(results: Mapping[str, Any]) -> str:
    """The paragraphs, table and images of the documents."""
    parts = _method(results), _table(results), _outcome(results), _images(results)
    return "\n\n".join(parts)


def _method(results: Mapping[str, Any]) -> str:
    settings, arms = results["settings"], results["arms"]
    side, small = settings["size"][0], settings["size"][0] // settings["scale_factor"]
    prior = arms["prior"]["model"]
    seconds = [one["seconds"] for facts in arms.values() for one in facts["seeds"].values()]
    sizes = (
        "the paper's sizes"
        if settings["scale"] == "paper"
        else "sizes and budget for two CPU cores"
    )
    return (
        f"Each part is left out once, on faces of {side}x{side} pixels, which the sums draw from "
        f"{small}x{small}. The prior B is a Gated PixelCNN of {prior['layers']} layers of "
        f"{prior['kernel_size']}x{prior['kernel_size']} and {prior['channels']} channels, alone or "
        f"in the sum A + B with the conditioning network A ({sizes}). One budget for all: "
        f"{budget(settings)}{ALIKE} for all models of a seed. Each is trained with "
        f"{settings['seeds']} seeds (first weights, order of the images). "
        "Measured is the average of the weights "
        f"(decay {settings['recipe']['ema']:g}) of the best validation on "
        f"{settings['held_out_images']:,} held-out training images, on all "
        f"{settings['test_images']:,} images of people that are in no training image. "
        f"Training took {sum(seconds) / 60:.0f} minutes in all on {machine(results)}."
    )


def _table(results: Mapping[str, Any]) -> str:
    header = ["", "live parameters", "bits per dimension", "more than the whole"]
    header += ["A alone", "B alone", "another's small image costs"]
    rows = []
    for name, facts in results["arms"].items():
        arm, alone = ARMS[name], ["", "", ""]
        if name in SUMS:
            seeds = list(facts["seeds"].values())
            means = [
                sum(one[key] for one in seeds) / len(seeds) for key in ("conditioning", "prior")
            ]
            alone = [*(f"{mean:.3f}" for mean in means), _plus_minus(facts["input"])]
        more = _plus_minus(facts["more"], "+") if arm.base else ""
        parameters = f"{facts['parameters']:,}"
        rows.append([arm.title, parameters, _plus_minus(facts["bits"]), more, *alone])
    return table(header, rows)


def _plus_minus(summary: Mapping[str, Any], sign: str = "") -> str:
    return f"{summary['mean']:{sign}.3f} ± {summary['deviation']:.3f}"


def _outcome(results: Mapping[str, Any]) -> str:
    seeds = results["settings"]["seeds"]
    spread = (
        f"± is the standard deviation over the {seeds} seeds, of the differences that of the "
        "differences seed by seed; one that is no larger than its own deviation, or has not the "
        "same sign with every seed, is called undecided."
    )
    return "\n\n".join((spread, _terms(results), _masks(results), _blind_spot(results)))


def _is_decided(summary: Mapping[str, Any]) -> bool:
    signs = {value < 0 for value in summary["each"]}
    return len(signs) == 1 and abs(summary["mean"]) > summary["deviation"]


def _verdict(summary: Mapping[str, Any], seeds: int) -> str:
    """How many bits more or fewer, or that the seeds do not tell, as the object of "takes"."""
    if not _is_decided(summary):
        return f"as many bits as far as {seeds} seeds tell ({_plus_minus(summary, '+')}): undecided"
    word = "fewer" if summary["mean"] < 0 else "more"
    return f"{abs(summary['mean']):.3f} bits {word}, with each of the {seeds} seeds"


def _terms(results: Mapping[str, Any]) -> str:
    """Whether A is ignored without its own term."""
    seeds, arms = results["settings"]["seeds"], results["arms"]
    whole, part = (arms[name]["input"]["mean"] for name in SUMS)
    change = _verdict(arms["sum-one-term"]["more_input"], seeds)
    if whole <= arms["sum"]["input"]["deviation"]:
        claim = "That the sum heeds its input at all is not shown here"
    elif part < IGNORED * whole:
        claim = "A is ignored, as the paper says"
    else:
        claim = (
            "The claim does not reproduce here: A is not ignored, its input still counts for "
            f"{part / whole:.0%} of what it does with both"
        )
    return (
        "**The second term of the loss**, -log softmax(A)[y]. The paper: without it the sum would "
        "be explained by B alone, and A ignored. How much the sum heeds its input is what it costs "
        f"to give each face the small image of another: {whole:.3f} bits with both terms, "
        f"{part:.3f} without the second, which is {change}. {claim}. The sum itself takes "
        f"{_verdict(arms['sum-one-term']['more'], seeds)}, when the term is left out; A alone is "
        "then no distribution that was trained, and its bits only say so."
    )


def _masks(results: Mapping[str, Any]) -> str:
    seeds, arms = results["settings"]["seeds"], results["arms"]
    lacking = arms["prior-gray-masks"]
    return (
        "**Color masks.** Without them green does not know the red of its own pixel, nor blue "
        f"red and green; the prior takes {_verdict(lacking['more'], seeds)}. It has "
        f"{lacking['parameters'] / arms['prior']['parameters'] - 1:+.0%} live parameters, as no "
        "tap between colors is shut."
    )


def _blind_spot(results: Mapping[str, Any]) -> str:
    seeds, arms = results["settings"]["seeds"], results["arms"]
    lacking, visible = arms["prior-one-stack"], results["visible"]
    ratio = lacking["parameters"] / arms["prior"]["parameters"] - 1
    return (
        "**The blind spot.** One stack of the same gates, residuals, kernels and depth, "
        f"{lacking['model']['channels']} channels wide for as many live parameters "
        f"({ratio:+.1%}), instead of two. At the center of {SIGHT}x{SIGHT} pixels the two stacks "
        f"read {visible['prior']:.0%} of the pixels before, the one "
        f"{visible['prior-one-stack']:.1%}; the rest, above on the right, is its blind spot. It "
        f"takes {_verdict(lacking['more'], seeds)}. That two stacks do better, the claim of "
        f"1606.05328, {_reproduces(lacking['more'])}."
    )


def _reproduces(more: Mapping[str, Any]) -> str:
    """Of the claim that what is left out saves bits."""
    if not _is_decided(more):
        return "is neither shown nor refuted here"
    return "reproduces" if more["mean"] > 0 else "does not reproduce at this size and budget"


def _images(results: Mapping[str, Any]) -> str:
    seed = results["settings"]["recipe"]["seed"]
    return "\n\n".join(
        (
            image(NAME, "Bits per dimension of each seed, with the part and without it"),
            image(
                f"{NAME}-samples",
                f"Samples of the sums from the same small images and noise, seed {seed}",
            ),
            again(results),
        )
    )
