"""Tests of docs/results.md: its numbers are the numbers of the JSON files, rounded as written.

Two functions for each section return the expected numbers of its prose, in order, and the expected
rows of its tables. Numbers that are in no JSON file are literals.
"""

import json
import re
from pathlib import Path

import pytest

from experiments import EXPERIMENTS
from experiments.ablation.experiment import SIGHT
from experiments.ablation.models import ARMS, SUMS
from experiments.completion.parts import HOLE, LOWER, WHOLE, titles
from experiments.corner_digits.classifier import BRIGHTEST, CLASSES, NOTHING, TAIL
from experiments.corner_digits.models import TITLES

DOCS = Path(__file__).parents[2] / "docs"
NUMBER = re.compile(r"(?:(?<![\w.,+-])|(?<=\dx))[+-]?\d+(?:,\d{3})*(?:\.\d+)*(?:e-?\d+)?%?")
NOT_PROSE = re.compile(r"^[#|!].*$|`[^`]*`|\]\([^)]*\)|arXiv \d{4}\.\d{5}", re.MULTILINE)
"""The parts that are not searched: headings, tables, images, code, link targets, paper numbers."""
ONE = CLASSES[0]
PAPER_NLL = {"PixelCNN": "81.30", "RowLSTM": "80.54", "DiagonalBiLSTM": "79.20"}
"""The test nll that arXiv 1601.06759 reports."""
PAPER_FOOLED = {"L2 regression": "4.0", "GAN": "8.5", "PixelRecursiveSR, tau 1": "11.0"}
"""The percentages fooled in arXiv 1702.00783, as others quote them."""


def read(name):
    return json.loads((DOCS / "results" / f"{name}.json").read_text())


def section(name):
    """Return the section that links to the JSON file of an experiment."""
    sections = re.split(r"^## ", (DOCS / "results.md").read_text(), flags=re.MULTILINE)
    (found,) = [text for text in sections if f"(results/{name}.json)" in text]
    return found.partition("\n")[2]


def numbers(text):
    """Return the numbers of the prose, in their order."""
    return NUMBER.findall(NOT_PROSE.sub("", text))


def rows(text):
    """Return the cells of the rows of all tables, without headers."""
    tables = re.findall(r"^\|.*\n\|[ |-]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    lines = [line for table in tables for line in table.splitlines()]
    return [[cell.strip().replace("`", "") for cell in line.split("|")[1:-1]] for line in lines]


def budget(settings):
    """Return steps, batch size, passes and training images."""
    steps, batch = settings["steps"], settings["config"]["batch"]
    count = settings["training_images"]
    return [f"{steps:,}", f"{batch}", f"{steps * batch / count:.1f}", f"{count:,}"]


def optimizer(settings):
    """Return the learning rate, the steps of warm-up and the norm of clipping."""
    config = settings["config"]
    assert (config["optimizer"], config["schedule"], config["floor"]) == ("adamw", "cosine", 0)
    return [f"{config['lr']:g}", f"{config['warmup']}", f"{config['clip']:g}"]


def machine(results):
    facts = results["machine"]
    device = NUMBER.findall(facts["device"])
    return [*device, f"{facts['threads']}", NUMBER.match(facts["torch"])[0]]


def minutes(seconds):
    return f"{sum(seconds) / 60:.0f}"


def percent(interval):
    low, high = (f"{end:.1%}" for end in interval)
    return f"{low} to {high}"


def optional(value, style):
    return "" if value is None else format(value, style)


def corner_digits(results):
    settings, models = results["settings"], results["models"]
    samples, side = f"{settings['samples']}", f"{settings['size'][0]}"
    half = f"{settings['size'][0] // 2}"
    one = {name: facts["counts"][ONE] for name, facts in models.items()}
    assert one["regression"] == one["independent"]
    corner = [models[name]["first_corner"] for name in ("prior", "sum")]
    limits = {name: f"{value:.2f}" for name, value in results["thresholds"].items()}
    return [
        *(half, half, f"{settings['levels']}", side, side, half, half),
        *(*budget(settings), *optimizer(settings)),
        *(f"{facts['parameters']:,}" for facts in models.values()),
        f"{settings['config']['ema']:g}",
        minutes(facts["seconds"] for facts in models.values()),
        *machine(results),
        *(f"{one['regression']}", samples, f"{one['prior']}", f"{one['sum']}", samples),
        *(f"{results['classifier']['real images']['counts'][ONE]}", samples),
        *("95%", f"{settings['held_out_images']}", "100%"),
        *(
            text
            for split in corner
            for text in (
                *(f"{split['count']}", f"{split['of']}"),
                *percent(split["interval"]).split(" to "),
                f"{split['p']:.2g}",
            )
        ),
        "0.01",
        *(f"{BRIGHTEST}", limits["dimmest"], "0", "1", limits["roughest"], limits["farthest"]),
        *(limits["nothing"], f"{TAIL:.1%}", f"{NOTHING:.0%}", f"{TAIL:.1%}"),
    ]


def corner_digits_rows(results):
    for name, facts in results["models"].items():
        yield [
            TITLES[name],
            *(f"{facts['counts'][kind]}" for kind in CLASSES),
            percent(facts["intervals"][ONE]),
            optional(facts.get("bits_per_dimension"), ".4f"),
            optional(facts.get("misfit"), ".1%"),
        ]
    for name, facts in results["classifier"].items():
        counts = facts["counts"]
        correct = counts[facts["expected"]] / sum(counts.values())
        yield [name, *(f"{counts[kind]}" for kind in CLASSES), f"{correct:.1%}"]


def faces(results):
    settings, models, methods = results["settings"], results["models"], results["methods"]
    thousands = {name: f"{facts['parameters'] / 1000:.0f}" for name, facts in models.items()}
    bits = {name: optional(facts["bits_per_dimension"], ".3f") for name, facts in models.items()}
    drawn, mean = methods["A + B, tau 1.0"], methods["L2 regression"]
    gray = [255 * scores["consistency"] ** 0.5 for scores in (drawn, mean, methods["B alone"])]
    return [
        *(f"{settings['images']}", "8", "8", "32", "32"),
        *(thousands[name] for name in ("conditioning", "prior", "sum")),
        *(*budget(settings), *optimizer(settings)),
        minutes(facts["seconds"] or 0 for facts in models.values()),
        *machine(results),
        *(thousands["other"], f"{settings['config']['seed']}", "8", "8", "0", "1"),
        *(bits["sum"], bits["prior"], bits["conditioning"], "0", "1.0"),
        f"{drawn['consistency'] / mean['consistency']:.1f}",
        *(f"{gray[0]:.1f}", "255", f"{gray[1]:.1f}", f"{gray[2]:.1f}"),
        f"{mean['psnr'] - drawn['psnr']:.1f}",
        *(f"{drawn['psnr_between_draws']:.2f}", f"{drawn['psnr']:.2f}"),
        *(f"{value:.2f}" for value in drawn["excess"]),
    ]


def faces_rows(results):
    methods = results["methods"]
    assert all(scores["ms_ssim"] is None for scores in methods.values())
    for title, scores in methods.items():
        model = results["models"].get(scores["model"], {})
        yield [
            title,
            optional(model.get("bits_per_dimension"), ".3f"),
            f"{scores['psnr']:.2f}",
            f"{scores['ssim']:.3f}",
            f"{scores['consistency']:.5f}",
            f"{scores['consistency'] / methods['L2 regression']['consistency']:.2f}",
            optional(scores.get("psnr_between_draws"), ".2f"),
            optional(scores.get("ssim_between_draws"), ".3f"),
        ]


def completion(results):
    settings, ways = results["settings"], results["ways"]
    priors = []
    for name in ("digits", "faces"):
        model, shared = ways[name]["model"], settings[name]
        priors += [f"{model[key]}" for key in ("levels", "layers", "channels")]
        priors += [*budget(shared), optimizer(shared)[0]]
    (warmup, clip), faces_too = (optimizer(settings[name])[1:] for name in ("digits", "faces"))
    assert [warmup, clip] == faces_too
    assert not any(
        part["known_values_changed"] for way in ways.values() for part in way["parts"].values()
    )
    saved = results["bits_saved_by_model"]
    lower = {name: way["parts"][LOWER] for name, way in ways.items()}
    times = {name: way["times"] for name, way in ways.items()}
    (batch,) = {facts["batch"] for facts in times.values()}
    assert {facts["engine"] for facts in times.values()} == {"cpu"}
    return [
        *(*priors, warmup, clip, minutes(results["seconds"].values()), *machine(results)),
        f"{settings['samples']}",
        *(f"{lower[name]['images']}" for name in ("digits", "faces")),
        *("0", "1", "1"),
        *(f"{saved['mean']:.2f}", f"{saved['standard_error']:.2f}"),
        *(f"{ways[name]['lower_half_bits']['mean']:.2f}" for name in ("model", "faces")),
        f"{ways['faces']['model']['levels'].bit_length() - 1}",
        f"{lower['faces']['from_truth'] / lower['model']['from_truth']:.1f}",
        *(f"{batch}", f"{len(times['digits']['sides'][WHOLE]['seconds'])}"),
        *(f"{facts['sides'][LOWER]['time']:.2f}" for facts in times.values()),
    ]


def completion_rows(results):
    names = titles(results)
    for name, way in results["ways"].items():
        for part in (LOWER, HOLE):
            score, bits = way["parts"][part], way["lower_half_bits"]
            yield [
                *(names[name], part, f"{score['hidden']:.0%}"),
                *(f"{score['apart']:.3f}", f"{score['from_truth']:.3f}"),
                f"{score['ratio']:.2f} ± {score['standard_error']:.2f}",
                f"{bits['mean']:.3f} ± {bits['standard_error']:.3f}" if part == LOWER else "",
            ]
    for name, way in results["ways"].items():
        for part, side in way["times"]["sides"].items():
            shares = f"{side['hidden']:.0%}", f"{side['macs']:.2f}", f"{side['time']:.2f}"
            yield [names[name], part, *shares]


def ablation(results):
    settings, arms, longer = results["settings"], results["arms"], read("longer-ablation")
    side, small = settings["size"][0], settings["size"][0] // settings["scale_factor"]
    prior, gray, one_stack = (arms[f"prior{k}"] for k in ("", "-gray-masks", "-one-stack"))
    costs = [arms[name]["input"]["mean"] for name in SUMS]
    seconds = (one["seconds"] for facts in arms.values() for one in facts["seeds"].values())
    more = {name: abs(arms[name]["more"]["mean"]) for name, arm in ARMS.items() if arm.base}
    seeds = f"{settings['seeds']}"
    kernel = f"{prior['model']['kernel_size']}"
    for summary in (*(arms[name]["more"] for name in more), arms["sum-one-term"]["more_input"]):
        assert len({value < 0 for value in summary["each"]}) == 1
        assert abs(summary["mean"]) > summary["deviation"]
    long = longer["arms"]
    long_costs = [long[name]["swapped"] - long[name]["sum"] for name in SUMS[::-1]]
    return [
        *(f"{side}", f"{side}", f"{small}", f"{small}"),
        *(f"{prior['model']['layers']}", kernel, kernel, f"{prior['model']['channels']}"),
        *(*budget(settings), *optimizer(settings), seeds, f"{settings['config']['ema']:g}"),
        *(f"{settings['held_out_images']}", f"{settings['test_images']}"),
        *(minutes(seconds), *machine(results), seeds),
        *(f"{cost:.3f}" for cost in costs),
        f"{abs(arms['sum-one-term']['more_input']['mean']):.3f}",
        *(f"{costs[1] / costs[0]:.0%}", f"{more['sum-one-term']:.3f}"),
        f"{more['prior-gray-masks']:.3f}",
        f"{gray['parameters'] / prior['parameters'] - 1:+.0%}",
        f"{one_stack['model']['channels']}",
        f"{one_stack['parameters'] / prior['parameters'] - 1:+.1%}",
        *(f"{SIGHT}", f"{SIGHT}", f"{results['visible']['prior']:.0%}"),
        *(f"{results['visible']['prior-one-stack']:.1%}", f"{more['prior-one-stack']:.3f}"),
        *(f"{longer['settings']['steps']:,}", f"{longer['settings']['config']['seed']}"),
        *(f"{long[name]['model']:.3f}" for name in ("prior", "prior-one-stack")),
        *(f"{long[name]['sum']:.3f}" for name in SUMS[::-1]),
        *(f"{cost:.3f}" for cost in long_costs),
        f"{long_costs[0] / long_costs[1]:.0%}",
    ]


def ablation_rows(results):
    for name, facts in results["arms"].items():
        yield [
            *(ARMS[name].title, f"{facts['parameters']:,}", plus_minus(facts["bits"])),
            plus_minus(facts["more"], "+") if ARMS[name].base else "",
            *(mean_over_seeds(facts, key) for key in ("conditioning", "prior")),
            plus_minus(facts["input"]) if name in SUMS else "",
        ]


def plus_minus(summary, sign=""):
    return f"{summary['mean']:{sign}.3f} ± {summary['deviation']:.3f}"


def mean_over_seeds(facts, key):
    values = [one[key] for one in facts["seeds"].values() if key in one]
    return f"{sum(values) / len(values):.3f}" if values else ""


def real_or_fake(results):
    settings = results["settings"]
    small, side = f"{settings['small_size']}", f"{settings['size']}"
    return [
        f"{settings['parameters']:,}",
        *(f"{settings['temperature']:g}", f"{settings['seed']}", small, small),
        *("0.5", "95%", "50%"),
        *(f"{len(settings['images'])}", f"{settings['held_out_images']}", side, side),
        *machine(results),
        *("8", "8", "32", "32"),  # the sizes in the paper
        *(small, small),
    ]


def real_or_fake_rows(results):
    return [list(row) for row in PAPER_FOOLED.items()]


def receptive_field(results):
    settings, models = results["settings"], results["models"]
    parameters = sorted(facts["parameters"] for facts in models.values())
    row, diagonal = (models[name]["model"] for name in ("RowLSTM", "DiagonalBiLSTM"))
    assert row["layers"] == diagonal["layers"]
    return [
        *(f"{parameters[0]:,}", f"{parameters[-1]:,}"),
        *(*budget(settings), *optimizer(settings)),
        *(f"{diagonal['layers']}", f"{diagonal['channels']}", f"{row['channels']}"),
        *(minutes(facts["seconds"] for facts in models.values()), *machine(results)),
        *(f"{settings['config']['ema']:g}", f"{settings['held_out_images']:,}"),
        f"{settings['test_images']:,}",
        *NUMBER.findall(settings["binarization"]),
        "50",  # training steps between two log entries
    ]


def receptive_field_rows(results):
    seen = "a cone, with a blind spot", "a triangle above", "all of the past"
    names = "PixelCNN", "Row LSTM", "Diagonal BiLSTM"
    for k, (name, facts) in enumerate(results["models"].items()):
        less = f"{facts['less_than_first']:.2f} ± {facts['standard_error']:.2f}" if k else ""
        yield [
            *(names[k], seen[k], f"{facts['parameters']:,}", f"{facts['test']:.2f}"),
            *(less, PAPER_NLL[name]),
            *(f"{facts['seconds'] / 60:.0f}", f"{facts['images_per_second']:.0f}"),
        ]


EXPECTED = {
    "corner-digits": (corner_digits, corner_digits_rows),
    "faces": (faces, faces_rows),
    "completion": (completion, completion_rows),
    "ablation": (ablation, ablation_rows),
    "real-or-fake": (real_or_fake, real_or_fake_rows),
    "receptive-field": (receptive_field, receptive_field_rows),
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_numbers_of_the_prose_are_those_of_the_results(name):
    assert numbers(section(name)) == EXPECTED[name][0](read(name))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_tables_are_those_of_the_results(name):
    assert rows(section(name)) == list(EXPECTED[name][1](read(name)))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_section_names_the_command_and_the_model_of_its_results(name):
    results = read(name)
    default = f"python -m experiments {name} --data data --out out"
    assert f"`{results.get('command', default)}`" in section(name)
    if "checksum `" in section(name):
        assert f"checksum `{results['settings']['checksum']}`" in section(name)
    if model := results["settings"].get("model"):
        assert f"`{model}`" in section(name)


def test_the_page_has_no_other_sections():
    text = (DOCS / "results.md").read_text()
    assert text.count("\n## ") == len(EXPERIMENTS)
    assert numbers(text.partition("\n## ")[0]) == []
