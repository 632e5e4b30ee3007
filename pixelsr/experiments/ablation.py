"""What does each part buy? Bits per dimension of faces, with the part and without it.

The second term of the loss of Pixel Recursive Super Resolution (1702.00783), the colour masks and
the second stack of the Gated PixelCNN (1606.05328) are left out one at a time. All models are
trained on one budget, with three seeds; what is left out is compared with the whole seed by seed.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..evaluation.progress import track
from ..functional import nats
from ..models import GatedPixelCNN, PixelModel, PixelRecursiveSR
from ..sampling import sample
from ..training.validate import bits_per_dimension
from .ablated import MAGNIFICATION, SCALES, OneStackPixelCNN, Scale, build, visible_share
from .figures import Figures, begin, write_figures
from .plots import COLOURS, canvas, check_installed, tidy, write_plot
from .portraits import Portraits, load_portraits
from .receptive_field import live_parameters
from .sheets import write_sheet
from .task import Task
from .turns import Plan, read_log, train_in_turns, trained
from .words import ALIKE, again, budget, machine, picture, table

NAME = "ablation"
SEEDS = 3
FACES = 8
"""On the sheet of samples."""
BATCH = 32
"""Pictures at once where nothing is trained; no figure depends on it."""
SIGHT = 15
"""The side of the pictures on which the blind spot is measured, at their centre."""
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
    "prior-grey-masks": Arm("prior, without colour masks", "without\ncolour masks", "prior"),
    "prior-one-stack": Arm("prior, one stack: a blind spot", "with a\nblind spot", "prior"),
}
SUMS = ("sum", "sum-one-term")


def run(task: Task) -> bool:
    """Train, measure, draw; see `pixelsr.experiments.run`."""
    check_installed()
    scale = SCALES[task.scale]
    scale = dataclasses.replace(scale, steps=task.steps or scale.steps)
    faces = _load(task, scale.side)
    plan = _plan(scale, faces, task.seed)
    path = task.out / f"{NAME}.json"
    figures = begin(task, NAME, _settings(task, plan, faces))
    figures.setdefault("arms", {name: arm_facts(name, scale) for name in ARMS})
    if "visible" not in figures:
        figures["visible"] = _visible(scale)
        write_figures(path, figures)
    for seed in range(task.seed, task.seed + SEEDS):
        if str(seed) not in figures["arms"]["prior"]["seeds"]:
            if not _train(task, scale, _plan(scale, faces, seed)):
                return False
            _measure(figures, task, seed, faces.val)
            write_figures(path, figures)
    compare(figures)
    write_figures(path, figures)
    write_plot(path.with_suffix(".png"), draw_arms(figures))
    _draw_samples(task, faces.val)
    return True


def _load(task: Task, side: int) -> Portraits:
    """The faces, enough of them to hold some out, and to give each another's small picture."""
    faces = load_portraits(task.pictures(NAME), side)
    if len(faces.train) < 4 or len(faces.val) < 2:
        raise ValueError(
            f"{task.data} holds {len(faces.train)} pictures of {side}x{side} to train on and "
            f"{len(faces.val)} to measure, expected at least 4 and 2"
        )
    return faces


def _plan(scale: Scale, faces: Portraits, seed: int) -> Plan:
    """The last training pictures choose the best step, as many as there are in val."""
    held_out = min(len(faces.val), len(faces.train) // 4)
    train, validation = faces.train.split([len(faces.train) - held_out, held_out])
    return Plan(
        images=train,
        validation=validation,
        recipe=dataclasses.replace(scale.recipe, seed=seed),
        steps=scale.steps,
        turn=max(1, scale.steps // scale.turns),
    )


def _settings(task: Task, plan: Plan, faces: Portraits) -> Figures:
    """All that the figures depend on, beside the machine and the models."""
    return {
        "scale": task.scale,
        "steps": plan.steps,
        "turn": plan.turn,
        "recipe": dataclasses.asdict(plan.recipe),
        "seeds": SEEDS,
        "training_pictures": len(plan.images),
        "held_out_pictures": len(plan.validation),
        "test_pictures": len(faces.val),
        "size": list(faces.val.shape[2:]),
        "magnification": MAGNIFICATION,
        "checksum": faces.checksum,
    }


def make(name: str, scale: Scale, task: Task, seed: int) -> PixelModel:
    """An untrained model."""
    torch.manual_seed(seed)
    return build(name, scale).to(task.device)


def arm_facts(name: str, scale: Scale) -> Figures:
    """What the figures say of an arm before it is trained."""
    model = build(name, scale)
    return {"model": model.describe(), "parameters": live_parameters(model), "seeds": {}}


def _visible(scale: Scale) -> Figures:
    """How much of the past the priors of two stacks and of one can see."""
    kinds = {"prior": GatedPixelCNN, "prior-one-stack": OneStackPixelCNN}
    sizes = scale.prior["layers"], scale.prior["kernel_size"], SIGHT
    shown = track(list(kinds.items()), "what a pixel sees", True)
    return {name: round(visible_share(kind, *sizes), 4) for name, kind in shown}


def _train(task: Task, scale: Scale, plan: Plan) -> bool:
    """All arms with one seed; true where they are finished."""
    makers: dict[str, Callable[[], PixelModel]] = {
        name: functools.partial(make, name, scale, task, plan.recipe.seed) for name in ARMS
    }
    rounds = train_in_turns(makers, plan, _folder(task, plan.recipe.seed), task.stop)
    return plan.steps in list(rounds)


def _folder(task: Task, seed: int) -> Path:
    return task.out / f"seed-{seed}"


def _measure(figures: Figures, task: Task, seed: int, faces: Tensor) -> None:
    """Bits per dimension of the faces, and what another face's small picture costs."""
    for name in track(list(ARMS), f"bits per dimension, seed {seed}", True):
        out = _folder(task, seed) / name
        model = trained(out, task.device)
        bits = bits_per_dimension(model, faces, BATCH)
        if name in SUMS:
            bits["swapped"] = swapped_bits(model, faces)
        facts = {key: round(value, 5) for key, value in bits.items()}
        figures["arms"][name]["seeds"][str(seed)] = facts | {
            "seconds": read_log(out)[-1]["seconds"]
        }


@torch.inference_mode()
def swapped_bits(model: PixelRecursiveSR, faces: Tensor) -> float:
    """Bits of the sum where each face has another's small picture, that of one half a list away."""
    total, others = 0.0, faces.roll(len(faces) // 2, 0)
    for face, other in zip(faces.split(BATCH), others.split(BATCH), strict=True):
        images = face.to(model.device)
        logits = model(images, model.shrink(other.to(model.device)))
        total += nats(logits, images).double().sum().item()
    return total / (faces.numel() * math.log(2))


def compare(figures: Figures) -> None:
    """Mean and deviation over the seeds: of each arm, and of its difference from its base."""
    arms = figures["arms"]
    for facts in arms.values():
        facts["bits"] = _summary([_own(one) for one in facts["seeds"].values()])
    for name in SUMS:
        seeds = arms[name]["seeds"].values()
        arms[name]["input"] = _summary([one["swapped"] - one["sum"] for one in seeds])
    for name, arm in ARMS.items():
        if arm.base is not None:
            arms[name]["more"] = _differences(arms[name]["bits"], arms[arm.base]["bits"])
    one_term = arms["sum-one-term"]
    one_term["more_input"] = _differences(one_term["input"], arms["sum"]["input"])


def _own(bits: Mapping[str, float]) -> float:
    """Of the distribution that a model stands for."""
    return bits["sum"] if "sum" in bits else bits["model"]


def _summary(values: Sequence[float]) -> Figures:
    found = torch.tensor(values, dtype=torch.float64)
    return {
        "each": [round(value, 5) for value in values],
        "mean": round(found.mean().item(), 5),
        "deviation": round(found.std().item(), 5),
    }


def _differences(ours: Figures, base: Figures) -> Figures:
    """Seed by seed: first weights and pictures are the same in both."""
    return _summary([a - b for a, b in zip(ours["each"], base["each"], strict=True)])


def _draw_samples(task: Task, faces: Tensor) -> None:
    """A few faces, their small pictures, and what the two sums make of them."""
    chosen = faces[:: max(1, len(faces) // FACES)][:FACES]
    rows = {"held-out faces": chosen}
    for name in SUMS:
        model = trained(_folder(task, task.seed) / name, task.device)
        small = model.shrink(chosen.to(model.device))
        large = small.repeat_interleave(MAGNIFICATION, 2).repeat_interleave(MAGNIFICATION, 3)
        rows["their small pictures"] = large.cpu()
        rows[ARMS[name].title] = sample(model, low_res=small, seed=task.seed, progress=True).cpu()
    write_sheet(task.out / f"{NAME}-samples.png", rows, scale=6)


def draw_arms(figures: Figures) -> Any:
    """A dot a seed and arm, those of one seed joined; a bar at the mean."""
    arms = figures["arms"]
    panels = {
        "bits per dimension, sum": {name: arms[name]["bits"] for name in SUMS},
        "bits that another's small picture costs": {name: arms[name]["input"] for name in SUMS},
        "bits per dimension, prior": {
            name: facts["bits"] for name, facts in arms.items() if name not in SUMS
        },
    }
    figure = canvas(10, 3.8)
    ratios = [len(panel) + 0.5 for panel in panels.values()]
    every = figure.subplots(1, len(panels), width_ratios=ratios)
    seeds = list(arms["prior"]["seeds"])
    for axes, (title, panel) in zip(every, panels.items(), strict=True):
        places = range(len(panel))
        for k, seed in enumerate(seeds):
            values = [one["each"][k] for one in panel.values()]
            colour = COLOURS[k % len(COLOURS)]
            axes.plot(places, values, "o-", color=colour, linewidth=0.8, label=f"seed {seed}")
        means = [one["mean"] for one in panel.values()]
        axes.scatter(places, means, marker="_", s=500, color="#333333", label="mean")
        tidy(axes, "", title)
        axes.set_xticks(places, [ARMS[name].label for name in panel])
        axes.set_xlim(-0.5, len(panel) - 0.5)
        axes.grid(visible=False, axis="x")
    every[-1].legend(frameon=False, fontsize=8)
    return figure


def section(figures: Mapping[str, Any]) -> str:
    """The paragraphs, table and pictures of the documents."""
    parts = _method(figures), _table(figures), _outcome(figures), _pictures(figures)
    return "\n\n".join(parts)


def _method(figures: Mapping[str, Any]) -> str:
    settings, arms = figures["settings"], figures["arms"]
    side, small = settings["size"][0], settings["size"][0] // settings["magnification"]
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
        f"{settings['seeds']} seeds (first weights, order of the pictures). "
        "Measured is the average of the weights "
        f"(decay {settings['recipe']['ema']:g}) of the best validation on "
        f"{settings['held_out_pictures']:,} held-out training pictures, on all "
        f"{settings['test_pictures']:,} pictures of people that are in no training picture. "
        f"Training took {sum(seconds) / 60:.0f} minutes in all on {machine(figures)}."
    )


def _table(figures: Mapping[str, Any]) -> str:
    header = ["", "live parameters", "bits per dimension", "more than the whole"]
    header += ["A alone", "B alone", "another's small picture costs"]
    rows = []
    for name, facts in figures["arms"].items():
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


def _outcome(figures: Mapping[str, Any]) -> str:
    seeds = figures["settings"]["seeds"]
    spread = (
        f"± is the standard deviation over the {seeds} seeds, of the differences that of the "
        "differences seed by seed; one that is no larger than its own deviation, or has not the "
        "same sign with every seed, is called undecided."
    )
    return "\n\n".join((spread, _terms(figures), _masks(figures), _blind_spot(figures)))


def _verdict(summary: Mapping[str, Any], seeds: int) -> str:
    """How many bits more or fewer, or that the seeds do not tell, as the object of "takes"."""
    less = {value < 0 for value in summary["each"]}
    if len(less) > 1 or abs(summary["mean"]) <= summary["deviation"]:
        return f"as many bits as far as {seeds} seeds tell ({_plus_minus(summary, '+')}): undecided"
    word = "fewer" if less.pop() else "more"
    return f"{abs(summary['mean']):.3f} bits {word}, with each of the {seeds} seeds"


def _terms(figures: Mapping[str, Any]) -> str:
    """Whether A is ignored without its own term."""
    seeds, arms = figures["settings"]["seeds"], figures["arms"]
    whole, part = (arms[name]["input"]["mean"] for name in SUMS)
    change = _verdict(arms["sum-one-term"]["more_input"], seeds)
    if part < IGNORED * whole:
        claim = "A is ignored, as the paper says"
    else:
        claim = (
            f"A is not ignored here: its input still counts for {part / whole:.0%} of what it does "
            "with both"
        )
    return (
        "**The second term of the loss**, -log softmax(A)[y]. The paper: without it the sum would "
        "be explained by B alone, and A ignored. How much the sum heeds its input is what it costs "
        f"to give each face the small picture of another: {whole:.3f} bits with both terms, "
        f"{part:.3f} without the second, which is {change}. {claim}. The sum itself takes "
        f"{_verdict(arms['sum-one-term']['more'], seeds)}, when the term is left out; A alone is "
        "then no distribution that was trained, and its bits only say so."
    )


def _masks(figures: Mapping[str, Any]) -> str:
    seeds, arms = figures["settings"]["seeds"], figures["arms"]
    lacking = arms["prior-grey-masks"]
    return (
        "**Colour masks.** Without them green does not know the red of its own pixel, nor blue "
        f"red and green; the prior takes {_verdict(lacking['more'], seeds)}. It has "
        f"{lacking['parameters'] / arms['prior']['parameters'] - 1:+.0%} live parameters, as no "
        "tap between colours is shut."
    )


def _blind_spot(figures: Mapping[str, Any]) -> str:
    seeds, arms = figures["settings"]["seeds"], figures["arms"]
    lacking, visible = arms["prior-one-stack"], figures["visible"]
    ratio = lacking["parameters"] / arms["prior"]["parameters"] - 1
    return (
        "**The blind spot.** One stack of the same gates, residuals, kernels and depth, "
        f"{lacking['model']['channels']} channels wide for as many live parameters "
        f"({ratio:+.1%}), instead of two. At the centre of {SIGHT}x{SIGHT} pixels the two stacks "
        f"read {visible['prior']:.0%} of the pixels before, the one "
        f"{visible['prior-one-stack']:.1%}; the rest, above on the right, is its blind spot. It "
        f"takes {_verdict(lacking['more'], seeds)}."
    )


def _pictures(figures: Mapping[str, Any]) -> str:
    seed = figures["settings"]["recipe"]["seed"]
    return "\n\n".join(
        (
            picture(NAME, "Bits per dimension of each seed, with the part and without it"),
            picture(
                f"{NAME}-samples",
                f"Samples of the sums from the same small pictures and noise, seed {seed}",
            ),
            again(NAME),
        )
    )
