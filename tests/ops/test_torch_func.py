"""Tests of torch.func transforms over every operator, loss and model."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, vmap

import pixelsr
from pixelsr import functional, masks
from pixelsr.ops import backends
from tests.support.helpers import randomize

SIZES = {"channels": 6, "layers": 1, "head_channels": 9, "levels": 4, "first_kernel_size": 3}
EXACT = {"rtol": 1e-10, "atol": 1e-12}


@pytest.fixture(autouse=True, params=["compiled", "not compiled"])
def compiled(request, monkeypatch):
    """Run plain autograd with the compiled kernels, and without."""
    if request.param == "not compiled":
        monkeypatch.setattr(backends, "WHY_NOT_COMPILED", "this test does without")


def random_images(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 4, shape, generator=generator, dtype=torch.uint8)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def check(loss, parameters, *samples):
    """Check that transforms of ``loss(parameters, *one_sample)`` give autograd's gradients."""
    expected = [by_autograd(loss, parameters, *sample) for sample in zip(*samples, strict=True)]
    one = grad(loss)(parameters, *(sample[0] for sample in samples))
    batched = vmap(grad(loss), (None, *(0 for _ in samples)))(parameters, *samples)
    for name in parameters:
        assert any(each[name].abs().max() > 1e-3 for each in expected), name
        torch.testing.assert_close(one[name], expected[0][name], **EXACT)
        together = torch.stack([each[name] for each in expected])
        torch.testing.assert_close(batched[name], together, **EXACT)


def by_autograd(loss, parameters, *sample):
    leaves = {name: p.detach().clone().requires_grad_() for name, p in parameters.items()}
    loss(leaves, *sample).backward()
    return {name: p.grad for name, p in leaves.items()}


def model_sr():
    sizes = {"channels": 6, "blocks": 1, "scale_factor": 2, "levels": 4}
    prior = pixelsr.GatedPixelCNN(kernel_size=3, **SIZES)
    return pixelsr.PixelRecursiveSR(prior, pixelsr.ConditioningNetwork(**sizes))


MODELS = {
    "GatedPixelCNN": lambda: pixelsr.GatedPixelCNN(kernel_size=3, **SIZES | {"layers": 2}),
    "PixelCNN": lambda: pixelsr.PixelCNN(kernel_size=3, **SIZES | {"layers": 2}),
    "RowLSTM": lambda: pixelsr.RowLSTM(kernel_size=3, **SIZES),
    "DiagonalBiLSTM": lambda: pixelsr.DiagonalBiLSTM(**SIZES),
    "DiagonalBiLSTM-multi-scale": lambda: pixelsr.DiagonalBiLSTM(
        scale_factor=2, skip=True, **SIZES
    ),
    "PixelRecursiveSR": model_sr,
}


class Loss(nn.Module):
    def __init__(self, model: nn.Module, by_logits: bool) -> None:
        super().__init__()
        self.model, self.by_logits = model, by_logits

    def forward(self, *inputs: Tensor) -> Tensor:
        if self.by_logits:
            return functional.nll(self.model(*inputs), inputs[0]).sum()
        if isinstance(self.model, pixelsr.PixelRecursiveSR):
            return self.model.loss(*inputs)
        return self.model.nll(*inputs).sum()


@pytest.mark.parametrize("by_logits", [False, True], ids=["loss", "logits"])
@pytest.mark.parametrize("name", MODELS)
def test_per_sample_gradients_of_a_model_are_those_of_autograd(name, by_logits):
    network = Loss(randomize(MODELS[name]()).double(), by_logits)

    def loss(parameters, *inputs):
        return functional_call(network, parameters, tuple(x[None] for x in inputs))

    inputs = [random_images(3, 3, 4, 6)]
    if "scale_factor" in dir(network.model):
        inputs.append(random_images(3, 3, 2, 3))
    parameters = dict(network.named_parameters())
    if by_logits and name == "PixelRecursiveSR":  # the sum of logits has no term for A alone
        parameters = {key: p for key, p in parameters.items() if "prior" in key}
    check(loss, parameters, *inputs)


def convolution(t, run=functional.masked_conv2d, **options):
    out = run(t["x"], t["weight"], t["bias"], mask_type="B", **options)
    return out if isinstance(out, Tensor) else out[0] + out[1].chunk(2, 1)[0]


def output(t):
    return functional.LogitsHead(t["x"], t["weight"], t["bias"], t["hidden"], t["hidden_bias"])


def conditioning(t):
    return functional.LogitsHead(t["features"], t["conditioning"], t["conditioning_bias"])


CONVOLUTION = {"x": (1, 7, 4, 5), "weight": (8, 7, 3, 3), "bias": (8,)}
LSTM = {"gates": (1, 12, 4, 5), "weight": (12, 3, 3), "initial": (2, 3)}
DIAGONAL = {**LSTM, "weight": (12, 3, 2)}
BOTH = {**DIAGONAL, "gates": (1, 24, 4, 5), "weight_r": (12, 3, 2), "initial_r": (2, 3)}
OUTPUT = {"x": (1, 7, 4, 5), "weight": (12, 9, 1, 1), "bias": (12,)}
OUTPUT |= {"hidden": (9, 7, 1, 1), "hidden_bias": (9,)}
CONDITIONING = {"features": (1, 5, 4, 5), "conditioning": (12, 5, 1, 1), "conditioning_bias": (12,)}
LOGITS = {"logits": (1, 4, 3, 4, 5)}

OPERATORS = {
    "masked_conv2d": (CONVOLUTION, lambda t, y: convolution(t)),
    "masked_conv2d-no-bias": (CONVOLUTION, lambda t, y: convolution({**t, "bias": None})),
    "masked_conv2d-add": (
        {**CONVOLUTION, "add": (1, 8, 4, 5)},
        lambda t, y: convolution(t, add=t["add"]).square(),
    ),
    "masked_conv2d_gate": (
        CONVOLUTION,
        lambda t, y: convolution(t, functional.masked_conv2d_gate, out_parts=2),
    ),
    "gate": ({"x": (1, 8, 4, 5)}, lambda t, y: functional.gate(t["x"])),
    "row_lstm": (LSTM, lambda t, y: functional.row_lstm(*t.values())),
    "diagonal_lstm": (DIAGONAL, lambda t, y: functional.diagonal_lstm(*t.values())),
    "diagonal_lstm-reverse": (
        DIAGONAL,
        lambda t, y: functional.diagonal_lstm(*t.values(), reverse=True),
    ),
    "diagonal_bilstm": (BOTH, lambda t, y: functional.diagonal_bilstm(*t.values())),
    "to_logits": (
        {"x": (1, 12, 4, 5)},
        lambda t, y: functional.nll(functional.to_logits(t["x"], 3, 4), y),
    ),
    "add_logits": (
        {**LOGITS, "other": (1, 4, 3, 4, 5)},
        lambda t, y: functional.add_logits(t["logits"], t["other"]).exp(),
    ),
    "nats": (LOGITS, lambda t, y: functional.nll(t["logits"], y)),
    "pixel_cross_entropy": (
        OUTPUT,
        lambda t, y: functional.pixel_cross_entropy(output(t), y)[0],
    ),
    "pixel_cross_entropy-both": (
        {**OUTPUT, **CONDITIONING},
        lambda t, y: sum(
            functional.pixel_cross_entropy(output(t), y, conditioning(t), conditioning_scale=2.0)
        ),
    ),
    "pixel_cross_entropy_with_logits": (
        {**LOGITS, "other": (1, 4, 3, 4, 5)},
        lambda t, y: sum(
            functional.pixel_cross_entropy_with_logits(
                t["logits"], y, t["other"], conditioning_scale=2.0
            )
        ),
    ),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_per_sample_gradients_of_an_operator_are_those_of_autograd(name):
    shapes, run = OPERATORS[name]
    tensors = {key: numbers(*shape, seed=i) for i, (key, shape) in enumerate(shapes.items())}
    if name == "masked_conv2d-no-bias":
        del tensors["bias"]
    first = next(iter(tensors))  # samples differ in it; it is added to shared tensors
    shape = shapes[first]

    def loss(parameters, x, y):
        given = {**parameters, first: parameters[first] + x}
        return (run(given, y[None]) * 1.5).sin().sum()

    check(loss, tensors, numbers(3, *shape, seed=99), random_images(3, 3, 4, 5))


def test_every_tensor_may_be_mapped_over():
    tensors = {key: numbers(4, *shape) for key, shape in BOTH.items()}
    together = vmap(functional.diagonal_bilstm)(*tensors.values())
    for each, one in zip(together, zip(*tensors.values(), strict=True), strict=True):
        torch.testing.assert_close(each, functional.diagonal_bilstm(*one), **EXACT)


def test_images_are_scaled_under_vmap():
    images = random_images(3, 2, 3, 4, 5)
    scaled = vmap(lambda x: functional.normalize_images(x, 3, 4, torch.float64))(images)
    flat = functional.normalize_images(images.flatten(0, 1), 3, 4, torch.float64)
    assert torch.equal(scaled.flatten(0, 1), flat)


def test_an_operator_has_second_derivatives_inside_transforms():
    gates, weight, initial = (numbers(*shape) for shape in LSTM.values())

    def loss(weight):
        return functional.row_lstm(gates, weight, initial).square().sum()

    def reference(weight):
        return functional.row_lstm(gates, weight, initial, backend="reference").square().sum()

    expected = torch.autograd.functional.hessian(reference, weight)
    torch.testing.assert_close(hessian(loss)(weight), expected, **EXACT)


@pytest.mark.slow
def test_per_sample_gradients_compile_as_one_graph():
    network = Loss(randomize(MODELS["GatedPixelCNN"]()).double(), by_logits=True)
    parameters, images = dict(network.named_parameters()), random_images(2, 3, 4, 5)

    def loss(parameters, image):
        return functional_call(network, parameters, (image[None],))

    gradients = vmap(grad(loss), (None, 0))
    compiled = torch.compile(gradients, fullgraph=True, backend="aot_eager")
    expected = gradients(parameters, images)
    for name, found in compiled(parameters, images).items():
        torch.testing.assert_close(found, expected[name], **EXACT)


def test_a_kernel_that_is_asked_for_by_name_is_refused_inside_transforms():
    x = numbers(1, 8, 4, 5)
    weight, initial = numbers(8, 2, 3), numbers(2, 2)

    def loss(x):
        return functional.row_lstm(x, weight, initial, backend="scan").sum()

    with pytest.raises(ValueError, match=r"'scan' cannot run inside torch\.func transforms"):
        grad(loss)(x)


def test_values_are_checked_where_they_can_be_read():
    images, logits = random_images(1, 3, 4, 5) + 1, numbers(*LOGITS["logits"])
    with pytest.raises(ValueError, match="intensities must be below 4, got 4"):
        grad(lambda logits: functional.nll(logits, images).sum())(logits)


def test_a_mask_that_was_made_in_a_transform_is_not_shared():
    masks._cached_mask.cache_clear()
    layer = randomize(pixelsr.nn.MaskedConv2d(3, 6, 3, mask_type="A")).double()
    x = numbers(2, 3, 4, 5)
    grad(lambda weight: functional_call(layer, {"weight": weight}, (x,)).sum())(layer.weight)
    assert not torch._C._functorch.is_functorch_wrapped_tensor(layer.mask())
