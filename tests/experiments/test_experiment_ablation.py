"""Tests of the experiment `ablation`: the models that lack a part, and the comparison."""

import copy
import dataclasses

import pytest
import torch
from PIL import Image

from experiments.ablation import experiment as ablation
from experiments.ablation import models as ablated
from experiments.receptive_field import live_parameters
from experiments.support.config import ExperimentConfig
from pixelsr import GatedPixelCNN, PixelRecursiveSR, check_causality
from pixelsr.models import ConditioningNetwork, PixelModel
from pixelsr.training.loss import TrainingLoss, nll_by_term
from tests.support.experiment_cases import read_results, write_faces

SIDE = 8
TINY = {"channels": 6, "layers": 2, "kernel_size": 3, "head_channels": 12}
SUM = {"sum", "conditioning", "prior", "swapped", "seconds"}
PRIOR = {"model", "seconds"}


@pytest.fixture
def small(monkeypatch):
    """Make the models tiny and the images 8x8."""
    tiny = dataclasses.replace(
        ablation.SCALES["small"], side=SIDE, prior=TINY, one_stack=9, blocks=1, turns=1
    )
    monkeypatch.setitem(ablation.SCALES, "small", tiny)
    for name, value in {"SIGHT": 5, "SEEDS": 2, "SHOWN": 2}.items():
        monkeypatch.setattr(ablation, name, value)


def random_images(count=2, side=SIDE):
    return torch.randint(256, (count, 3, side, side), dtype=torch.uint8)


def own_colors(model):
    """Return which colors of its own pixel each color reads, ``[3, 3]``; the network is causal."""
    reads = check_causality(model, (3, 3)).reads
    assert reads[24:, :24].any(1).all()
    return [reads[k : k + 3, k : k + 3] for k in (0, 12, 24)]


def test_without_color_masks_the_colors_of_a_pixel_are_independent():
    torch.manual_seed(0)
    options = {**TINY, "channels": 12, "head_channels": 48, "levels": 4}
    for reads in own_colors(ablated.GatedPixelCNNGrayMasks(**options)):
        assert not reads.any()
    past = torch.ones(3, 3, dtype=torch.bool).tril(-1)
    for reads in own_colors(GatedPixelCNN(**options)):
        assert torch.equal(reads, past)


def test_without_color_masks_loss_and_logits_are_of_one_distribution():
    model, images = ablated.GatedPixelCNNGrayMasks(**TINY), random_images()
    wanted = torch.nn.functional.cross_entropy(model(images), images.long(), reduction="none")
    assert torch.allclose(model.nll(images), wanted.flatten(1).sum(1), rtol=1e-5)
    assert live_parameters(model) == sum(weight.numel() for weight in model.parameters()) - dead(
        model
    )


def dead(model):
    """Return the number of taps of later pixels, in the layers that have them."""
    layers = [m for m in model.modules() if isinstance(m, ablated.MaskedConv2d)]
    return sum(
        layer.in_channels * layer.out_channels * int((~layer.mask()[0, 0]).sum())
        for layer in layers
    )


def test_without_its_second_term_the_loss_is_that_of_the_sum():
    torch.manual_seed(0)
    parts = GatedPixelCNN(**TINY), ConditioningNetwork(channels=4, blocks=1, scale_factor=4)
    whole = PixelRecursiveSR(*parts)
    part = ablated.PixelRecursiveSROneTerm(*map(copy.deepcopy, parts))
    images = random_images()
    both, one = (TrainingLoss(model)(images) for model in (whole, part))
    assert both.shape == (2,)
    assert torch.equal(one, both[:1])
    total = nll_by_term(part, images)["sum"].mean() / images[0].numel()
    assert one.item() == pytest.approx(total.item(), rel=1e-5)
    both[:1].sum().backward()
    one.sum().backward()
    for a, b in zip(whole.parameters(), part.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad)


def test_only_the_prior_with_one_stack_has_a_blind_spot():
    shares = {
        kind: ablated.visible_share(kind, layers=6, kernel_size=3, side=9)
        for kind in (GatedPixelCNN, ablated.OneStackPixelCNN)
    }
    assert shares[GatedPixelCNN] == 1
    # One stack cannot see pixels four or more columns to the right in the row above. The center has
    # four columns to its right, so it misses one pixel.
    assert shares[ablated.OneStackPixelCNN] == pytest.approx(39 / 40)
    torch.manual_seed(0)
    report = check_causality(
        ablated.OneStackPixelCNN(**TINY | {"layers": 4, "channels": 12, "head_channels": 48}),
        (2, 5),
    )
    assert {(output[:2], read[:2]) for output, read in report.blind} == {((1, 0), (0, 4))}


@pytest.mark.parametrize("scale", ["small", "paper"])
def test_the_priors_with_and_without_a_blind_spot_have_as_many_live_parameters(scale):
    sizes = ablation.SCALES[scale]
    two, one = (
        live_parameters(ablation.build(name, sizes)) for name in ("prior", "prior-one-stack")
    )
    assert one == pytest.approx(two, rel=0.03)


def test_first_weights_are_the_same_and_models_come_back_from_their_folders(small, tmp_path):
    config, scale = ExperimentConfig(tmp_path), ablation.SCALES["small"]
    models = {name: ablation.make(name, scale, config, 3) for name in ablation.ARMS}
    for a, b in zip(models["sum"].parameters(), models["sum-one-term"].parameters(), strict=True):
        assert torch.equal(a, b)
    images = random_images()
    for name, model in models.items():
        model.save_pretrained(tmp_path / name)
        again = PixelModel.from_pretrained(tmp_path / name)
        assert type(again) is type(model)
        assert all(
            torch.equal(a, b)
            for a, b in zip(
                nll_by_term(again, images).values(),
                nll_by_term(model, images).values(),
                strict=True,
            )
        )


def test_another_small_image_costs_what_the_sum_reads_of_it():
    torch.manual_seed(0)
    model = PixelRecursiveSR(
        GatedPixelCNN(**TINY), ConditioningNetwork(channels=4, blocks=1, scale_factor=4)
    )
    faces = random_images(5)
    swapped = ablation.swapped_bits(model, faces)
    others = model.downsample(faces[[3, 4, 0, 1, 2]])
    nll = ablation.nll(model(faces, others), faces)
    assert swapped == pytest.approx(nll.sum().item() / faces.numel() / 0.693147, rel=1e-5)
    torch.nn.init.zeros_(model.conditioning.out.weight)
    own = ablation.bits_per_dimension(model, faces, 2)["sum"]
    assert ablation.swapped_bits(model, faces) == pytest.approx(own, rel=1e-6)


@pytest.mark.slow
def test_an_interrupted_experiment_continues_to_the_same_results(small, tmp_path):
    data = write_faces(tmp_path / "data", SIDE)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert ablation.run(ExperimentConfig(whole, data, steps=2))
    asked = []
    stop = lambda: asked.append(0) or len(asked) > 13  # noqa: E731
    assert not ablation.run(ExperimentConfig(broken, data, steps=2, stop=stop))
    assert "bits" not in read_results(broken, "ablation")["arms"]["sum"]
    assert ablation.run(ExperimentConfig(broken, data, steps=2))
    found = [read_results(out, "ablation") for out in (whole, broken)]
    for one in found:
        assert list(one["arms"]) == list(ablation.ARMS)
        for name, facts in one["arms"].items():
            assert list(facts["seeds"]) == ["0", "1"]
            for bits in facts["seeds"].values():
                assert bits.keys() == (SUM if name.startswith("sum") else PRIOR)
                assert bits.pop("seconds") >= 0
                assert all(6 < value < 11 for value in bits.values())
    assert found[0] == found[1]
    for name in ("ablation", "ablation-samples", "photos-ablation"):
        with Image.open(whole / f"{name}.png") as plot:
            assert plot.width > 100
    with pytest.raises(ValueError, match="is of another run: steps was 2, now it is 3"):
        ablation.run(ExperimentConfig(broken, data, steps=3))


def test_a_seed_without_two_after_it_is_refused_before_anything_is_trained(small, tmp_path):
    data = write_faces(tmp_path / "data", SIDE)
    with pytest.raises(ValueError, match="seed must be at least 0 and less than"):
        ablation.run(ExperimentConfig(tmp_path / "out", data, steps=2, seed=2**63 - 1))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("train", "val", "message"),
    [(1, 6, "train holds 1 image, expected at least 2"), (12, 1, "holds 1 face in val/")],
)
def test_too_few_faces_are_refused(small, tmp_path, train, val, message):
    data = write_faces(tmp_path / "data", SIDE, train, val)
    with pytest.raises(ValueError, match=message):
        ablation.run(ExperimentConfig(tmp_path / "out", data, steps=2))
