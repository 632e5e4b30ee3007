"""Tests of networks with weight norm and similar reparametrizations, old and new."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import pixelsr
from pixelsr import ops, sampling
from pixelsr.models import PixelModel
from pixelsr.nn import MaskedConv2d
from pixelsr.sampling.weights import effective
from pixelsr.training.state import Ema
from tests.support.helpers import randomize

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

NEW = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
}
OLD = {
    "old weight_norm": nn.utils.weight_norm,
    "old spectral_norm": nn.utils.spectral_norm,
    "pruning": lambda layer: prune.random_unstructured(layer, "weight", 0.5),
}
KINDS = NEW | OLD
ENGINES = ["reference"] if ops.WHY_NOT_COMPILED else ["reference", "cpu"]


class TwoLayers(nn.Module):
    """A network that suffices for every engine, and is small enough for emulated ones."""

    colors, levels = 3, 8

    def __init__(self) -> None:
        super().__init__()
        self.first = MaskedConv2d(3, 12, 3, mask_type="A")
        self.out = MaskedConv2d(12, 24, 1, mask_type="B")

    def forward(self, images: Tensor) -> Tensor:
        x = pixelsr.functional.normalize_images(images, 3, 8, next(self.parameters()).dtype)
        return pixelsr.functional.to_logits(self.out(torch.relu(self.first(x))), 3, 8)


def gated():
    sizes = {"channels": 6, "layers": 1, "head_channels": 9, "levels": 8}
    return pixelsr.GatedPixelCNN(kernel_size=3, first_kernel_size=3, **sizes)


def rnn():
    sizes = {"channels": 3, "layers": 1, "head_channels": 9, "levels": 8}
    return pixelsr.RowLSTM(kernel_size=3, first_kernel_size=3, **sizes)


def reparametrized(make, kind):
    model = randomize(make()).double().eval()
    for module in list(model.modules()):
        if isinstance(module, nn.Conv2d):
            KINDS[kind](module)
    with torch.no_grad():  # away from the weights that the norms start with
        for parameter in model.parameters():
            parameter.mul_(1 + 0.3 * torch.rand(parameter.shape, generator=seeded()))
    model(torch.zeros(1, 3, 2, 2, dtype=torch.uint8))  # makes old-style weights non-leaf tensors
    return model


def seeded():
    return torch.Generator().manual_seed(0)


def random_images(n=2):
    return torch.randint(8, (n, 3, 5, 4), generator=seeded(), dtype=torch.uint8)


def refer(model, images=None):
    return model(random_images() if images is None else images).detach()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [gated, rnn])
def test_the_logits_and_the_draws_are_those_of_the_network(make, kind, engine):
    model = reparametrized(make, kind)
    expected = refer(model)
    torch.testing.assert_close(sampling.logits(model, random_images(), engine=engine), expected)
    drawn = pixelsr.sample(model, n=2, image_size=(5, 4), engine=engine)
    assert torch.equal(drawn, pixelsr.sample(model, n=2, image_size=(5, 4), method="ancestral"))
    assert torch.equal(refer(model), expected)  # the model itself is unchanged


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", KINDS)
def test_other_weights_are_drawn_from_at_once(kind, engine):
    model = reparametrized(gated, kind)
    before = sampling.logits(model, random_images(), engine=engine)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + 0.2 * torch.rand(parameter.shape, generator=seeded()))
    after = sampling.logits(model, random_images(), engine=engine)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, refer(model))


@pytest.mark.parametrize("kind", ["weight_norm", "old weight_norm"])
def test_recurrent_weights_may_be_reparametrized(kind):
    model = randomize(rnn()).double().eval()
    for layer in model.layers:
        KINDS[kind](layer, "state_to_state")
    torch.testing.assert_close(sampling.logits(model, random_images()), refer(model))


@pytest.mark.parametrize("weights", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_effective_weights_that_are_rounded(kind, weights):
    model = reparametrized(gated, kind)
    plain = gated().double().eval()
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            module, _, own = name.rpartition(".")
            value = getattr(model.get_submodule(module), own)
            parameter.copy_(value.to(getattr(torch, weights)))
    state = sampling.start(model, image_size=(1, 1), engine="reference", weights=weights)
    expected = refer(plain, torch.zeros(1, 3, 1, 1, dtype=torch.uint8))
    torch.testing.assert_close(state.step(), expected[:, :, 0, 0, 0])
    options = {"n": 3, "image_size": (5, 4), "seed": 1}
    expected = pixelsr.sample(plain, **options, method="ancestral")
    for engine in ENGINES:
        drawn = pixelsr.sample(model, **options, engine=engine, weights=weights)
        assert torch.equal(drawn, expected)
    ancestral = pixelsr.sample(model, **options, method="ancestral", weights=weights)
    assert torch.equal(ancestral, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_train_mode_is_drawn_from_as_the_next_forward_computes(kind):
    model = reparametrized(gated, kind).train()
    logits = sampling.logits(model, random_images())
    torch.testing.assert_close(logits, refer(model))


@pytest.mark.parametrize("kind", KINDS)
def test_edits_and_causality(kind):
    model = reparametrized(gated, kind)
    state = sampling.incremental_logits(model, random_images())
    state.edit(7 - random_images(), torch.ones(2, 3, 5, 4, dtype=torch.bool))
    torch.testing.assert_close(state.logits, refer(model, 7 - random_images()))
    assert pixelsr.check_causality(model).reads.any()
    assert sampling.plan(model, (5, 4)).macs > 0


@pytest.mark.parametrize("kind", KINDS)
def test_saved_weights_are_the_effective_ones(kind, tmp_path):
    model = reparametrized(gated, kind)
    model.save_pretrained(tmp_path)
    loaded = PixelModel.from_pretrained(tmp_path)
    assert type(loaded.head.out) is MaskedConv2d
    torch.testing.assert_close(refer(loaded), refer(model), rtol=1e-12, atol=1e-12)
    assert any("weight_" in name or "original" in name for name in model.state_dict())


@pytest.mark.parametrize("kind", KINDS)
def test_an_average_of_the_weights_follows(kind):
    model = reparametrized(gated, kind)
    average = Ema(model, 0.0)
    with torch.no_grad():
        model.head.out.bias.add_(1)
    average.update(model, 0)
    torch.testing.assert_close(refer(average.model), refer(model))
    torch.testing.assert_close(sampling.logits(average.model, random_images()), refer(model))


@pytest.mark.parametrize("kind", NEW)
def test_a_deep_copy_is_drawn_from_by_itself(kind):
    model = reparametrized(gated, kind)
    copied = copy.deepcopy(model)
    with torch.no_grad():
        copied.head.out.bias.add_(torch.linspace(-1, 1, 24))
    for each in (model, copied):
        torch.testing.assert_close(sampling.logits(each, random_images()), refer(each))
    assert not torch.allclose(refer(model), refer(copied))


def test_weights_that_come_out_as_nan_are_refused():
    model = parametrized_to_nan()
    for method in ("cached", "ancestral"):
        with pytest.raises(ValueError, match=r"logits .* hold NaN"):
            pixelsr.sample(model, image_size=(2, 2), method=method)


def parametrized_to_nan():
    model = randomize(TwoLayers())
    parametrizations.weight_norm(model.first)
    nn.init.zeros_(model.first.parametrizations.weight.original1)  # 0 / 0
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("engine", ENGINES)
def test_other_hooks_run_too(engine, kind):
    model = randomize(TwoLayers()).double().eval()
    KINDS[kind](model.first)
    without = refer(model)
    model.first.register_forward_pre_hook(lambda module, inputs: (-inputs[0],))
    expected = refer(model)
    assert not torch.allclose(expected, without)
    torch.testing.assert_close(sampling.logits(model, random_images(), engine=engine), expected)
    drawn = pixelsr.sample(model, n=2, image_size=(5, 4), engine=engine)
    assert torch.equal(drawn, pixelsr.sample(model, n=2, image_size=(5, 4), method="ancestral"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_plain_copy_is_made_once(kind):
    model = randomize(TwoLayers()).double().eval()
    KINDS[kind](model.first)
    assert effective(model) is effective(model)
    assert sampling.plan(model, (4, 3)) is sampling.plan(model, (4, 3))
