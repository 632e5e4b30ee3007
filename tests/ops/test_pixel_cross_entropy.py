"""Tests of the pixel cross-entropy from features and from logits: results, memory and bad input."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

import pixelsr
from pixelsr import functional
from pixelsr.functional import LogitsHead, pixel_cross_entropy, pixel_cross_entropy_with_logits
from pixelsr.ops.cross_entropy import fused_linear
from tests.support.helpers import random_images
from tests.support.pixel_cross_entropy_cases import (
    CASES,
    Case,
    close,
    from_features,
    from_logits,
    leaves,
    make,
    no_worse_than_pytorch,
)

OURS = torch.ops.pixelsr


small_chunks = pytest.mark.usefixtures("_small_chunks")


@pytest.fixture
def _small_chunks(monkeypatch):
    """Split the work into chunks, the last one partial.

    A chunk is 3 of the 4 rows of an image, or 2 of 3 small images.
    """
    monkeypatch.setattr(fused_linear, "CPU_CHUNK", 16)


def test_the_reference_is_the_cross_entropy_of_masked_convolutions():
    case = Case(hidden=7)
    images, prior, conditioning = make(case, torch.float64)
    hidden = functional.masked_conv2d(
        prior.features, prior.hidden_weight, prior.hidden_bias, mask_type="B"
    )
    out = functional.masked_conv2d(F.relu(hidden), prior.weight, prior.bias, mask_type="B")
    b = functional.to_logits(out, 3, 7)
    a = functional.to_logits(F.conv2d(*conditioning[:3]), 3, 7)
    expected = [
        F.cross_entropy(logits, images.long(), reduction="none").flatten(1).sum(1)
        for logits in (a + b, a / 2.5)
    ]
    got = pixel_cross_entropy(
        prior, images, conditioning, conditioning_scale=2.5, backend="reference"
    )
    torch.testing.assert_close(list(got), expected)


@small_chunks
@pytest.mark.parametrize("backend", ["reference", "chunked"])
@pytest.mark.parametrize("call", [from_features, from_logits])
def test_gradients_are_those_of_finite_differences(call, backend):
    case = Case(hidden=4, levels=3, channels=5, conditioning=2, size=(2, 3, 2))
    images, tensors = leaves(case, torch.float64)
    assert torch.autograd.gradcheck(
        lambda *given: call(case, images, given, backend), tensors, fast_mode=True
    )


@small_chunks
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("call", [from_features, from_logits])
def test_chunks_equal_the_reference(call, case):
    close(call, case, "chunked", torch.float64)


@pytest.mark.parametrize("chunk", [1, 5, 20, 39, 1000])
def test_the_result_does_not_depend_on_the_chunks(chunk, monkeypatch):
    monkeypatch.setattr(fused_linear, "CPU_CHUNK", chunk)
    images = random_images(3, 2, 4, 5, 9)
    seen = torch.zeros(3, 1, 4, 5)
    for images_of, lines in fused_linear.chunks(images):
        seen[images_of, :, lines] += 1
    assert torch.equal(seen, torch.ones_like(seen))
    close(from_features, Case(hidden=7), "chunked", torch.float64)


@small_chunks
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("hidden", [0, 40], ids=["", "hidden"])
@pytest.mark.parametrize("call", [from_features, from_logits])
def test_half_precision_is_no_worse_than_twice_pytorchs(call, hidden, dtype):
    no_worse_than_pytorch(call, Case(hidden=hidden, channels=60, levels=64), "chunked", dtype)


def test_what_is_dead_is_not_read():
    """Check that NaN in dead weights is not read."""
    images, prior, _ = make(Case(channels=9, conditioning=0), torch.float64)
    expected = pixel_cross_entropy(prior, images)[0]
    weight = prior.weight.clone()
    weight[:7, 3:], weight[7:14, 6:] = math.nan, math.nan  # red reads 3 channels, green 6
    assert torch.equal(
        pixel_cross_entropy(LogitsHead(prior[0], weight, prior[2]), images)[0], expected
    )


def test_only_gradients_that_are_needed_are_made():
    images, tensors = leaves(Case(hidden=7), torch.float64)
    for needed in range(len(tensors)):
        given = [tensor.detach().requires_grad_(k == needed) for k, tensor in enumerate(tensors)]
        whole = torch.autograd.grad(
            sum(from_features(Case(hidden=7), images, tensors, "chunked")).sum(), tensors[needed]
        )
        alone = torch.autograd.grad(
            sum(from_features(Case(hidden=7), images, given, "chunked")).sum(), given[needed]
        )
        assert torch.equal(whole[0], alone[0])


@pytest.mark.parametrize("size", [(0, 4, 4), (2, 0, 4), (2, 4, 0)], ids=str)
def test_nothing_costs_nothing(size):
    case = Case(hidden=4, size=size)
    images, tensors = leaves(case, torch.float32)
    nll = from_features(case, images, tensors, "chunked")
    assert [some.tolist() for some in nll] == [[0.0] * size[0]] * 2
    for tensor, grad in zip(tensors, torch.autograd.grad(sum(nll).sum(), tensors), strict=True):
        assert torch.equal(grad, torch.zeros_like(tensor))
    logits = torch.zeros(size[0], 7, 3, *size[1:], requires_grad=True)
    nll = pixel_cross_entropy_with_logits(logits, images, logits)
    assert [some.tolist() for some in nll] == [[0.0] * size[0]] * 2
    assert torch.autograd.grad(sum(nll).sum(), logits)[0].shape == logits.shape


def test_an_empty_batch_is_nothing_to_the_reference_too():
    case = Case(hidden=4, size=(0, 4, 4))
    images, tensors = leaves(case, torch.float32)
    for call in (from_features, from_logits):
        assert [nll.shape for nll in call(case, images, tensors, "reference")] == [(0,)] * 2


@pytest.mark.parametrize("call", [from_features, from_logits])
def test_a_second_derivative_is_refused(call):
    images, tensors = leaves(Case(), torch.float64)
    nll = call(Case(), images, tensors, "chunked")[0].square().sum()
    (grad,) = torch.autograd.grad(nll, tensors[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="second derivatives need another backend"):
        grad.sum().backward()


# Operators.


@pytest.mark.parametrize(
    "case",
    [Case(hidden=7, layout=torch.channels_last), Case(conditioning=0, bias=False)],
    ids=str,
)
def test_the_operators_pass_opcheck(case):
    images, tensors = leaves(case, torch.float32)
    prior, conditioning = case.outputs(tensors)
    alone = conditioning[:3] if conditioning else (None, None, None)
    given = (images, *prior, *alone, 1.5)
    torch.library.opcheck(OURS.pixel_cross_entropy.default, given)
    terms = 2 if conditioning else 1
    needs = [tensor is not None for tensor in (*prior, *alone)]
    fixed = [None if tensor is None else tensor.detach() for tensor in (*prior, *alone)]
    grad = (torch.ones(terms, len(images)), torch.empty(0), images, *fixed, 1.5, needs)
    torch.library.opcheck(OURS.pixel_cross_entropy_grad.default, grad)
    needs[0] = False
    torch.library.opcheck(OURS.pixel_cross_entropy_grad.default, grad)
    b, a = case.logits(tensors)
    for needs_grad in (True, False):
        given = images, b.detach(), None if a is None else a.detach(), 1.5, needs_grad
        torch.library.opcheck(OURS.pixel_cross_entropy_with_logits.default, given)
    b = b.detach().requires_grad_()
    torch.library.opcheck(OURS.pixel_cross_entropy_with_logits.default, (images, b, a, 1.5, True))
    grad = torch.ones(terms, len(images)), b.detach(), (b if a is not None else b[:0]).detach()
    torch.library.opcheck(OURS.pixel_cross_entropy_with_logits_grad.default, grad)


@pytest.mark.parametrize("call", [from_features, from_logits])
def test_it_compiles_as_one_graph(call):
    case = Case(hidden=7)
    images, tensors = leaves(case, torch.float64)

    def loss(*given):
        return call(case, images, given, "auto")

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    grads = [torch.autograd.grad(sum(run(*tensors)).sum(), tensors) for run in (loss, compiled)]
    torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-12)


class Loss(torch.nn.Module):
    def forward(self, images, features, weight, logits):
        (nll,) = pixel_cross_entropy(LogitsHead(features, weight), images)
        (more,) = pixel_cross_entropy_with_logits(logits, images)
        return nll + more


def test_it_exports():
    case = Case(conditioning=0, bias=False)
    images, tensors = leaves(case, torch.float64)
    given = images, *tensors, case.logits(tensors)[0].detach()
    program = torch.export.export(Loss(), given)
    names = {str(node.target) for node in program.graph.nodes}
    assert "pixelsr.pixel_cross_entropy.default" in names
    torch.testing.assert_close(program.module()(*given), Loss()(*given))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_computes_in_its_dtype_and_sums_in_float32(dtype):
    case = Case(hidden=7)
    images, tensors = leaves(case, torch.float32)
    with torch.autocast("cpu", dtype):
        nll = from_features(case, images, tensors, "auto")
    low = [tensor.to(dtype) for tensor in tensors]
    expected = from_features(case, images, low, "auto")
    assert all(torch.equal(*pair) for pair in zip(nll, expected, strict=True))
    assert nll[0].dtype == torch.float32
    grads = torch.autograd.grad(sum(nll).sum(), tensors)
    assert {grad.dtype for grad in grads} == {torch.float32}
    assert all(grad.isfinite().all() for grad in grads)


# Memory.


def peak(run):
    """Return the peak bytes that `run` allocates beyond what was allocated before."""
    with torch.profiler.profile(profile_memory=True) as profile:
        run()
    changes = [
        (event.start_ns(), event.nbytes())
        for event in profile.profiler.kineto_results.events()
        if event.name() == "[memory]"
    ]
    return max(itertools.accumulate(nbytes for _, nbytes in sorted(changes)))


@pytest.mark.parametrize("call", ["hidden", "features"])
def test_training_takes_a_tenth_of_the_references_memory(call):
    """Check the memory beyond inputs and gradients, for 16 images of 32x32 and 256 levels."""
    hidden = 256 if call == "hidden" else 0
    case = Case(hidden=hidden, channels=64, conditioning=32, levels=256, size=(16, 32, 32))
    images, tensors = leaves(case, torch.float32)
    of_gradients = sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def train(backend):
        nll = from_features(case, images, tensors, backend)
        torch.autograd.grad(sum(nll).sum(), tensors)

    ours, theirs = (peak(lambda b=b: train(b)) - of_gradients for b in ("chunked", "reference"))
    assert theirs > 300e6
    assert 0 < ours < theirs / 10


# Bad input.

IMAGES, PRIOR, CONDITIONING = make(Case(hidden=7), torch.float32)
PLAIN = PRIOR._replace(weight=PRIOR.weight[:, :5], hidden_weight=None, hidden_bias=None)


def call(images=IMAGES, prior=PRIOR, conditioning=CONDITIONING, **options):
    return pixel_cross_entropy(prior, images, conditioning, **options)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: call(IMAGES.long()), r"images must be uint8 \[N, C, H, W\], got torch.int64"),
        (lambda: call(IMAGES[0]), r"images must be uint8 .* got torch.uint8 \[3, 4, 5\]"),
        (lambda: call(IMAGES + 7), "intensities must be below 7, got"),
        (
            lambda: call(IMAGES[..., 1:]),
            r"features of the prior must have the size .* \[3, K, 4, 4\], got \[3, 5, 4, 5\]",
        ),
        (
            lambda: call(conditioning=LogitsHead(CONDITIONING[0][:2], *CONDITIONING[1:])),
            r"features of the conditioning must have the size of the images, .* got \[2, 4, 4, 5\]",
        ),
        (
            lambda: call(prior=PLAIN._replace(features=PLAIN.features[:, 1:])),
            r"weight of the prior must be \[out, 4, 1, 1\], got \[21, 5, 1, 1\]",
        ),
        (
            lambda: call(prior=PRIOR._replace(hidden_weight=PRIOR.hidden_weight[:, 1:])),
            r"hidden weight of the prior must be \[out, 5, 1, 1\], got \[7, 4, 1, 1\]",
        ),
        (
            lambda: call(prior=PRIOR._replace(bias=PRIOR.bias[1:])),
            r"bias of the prior must be \[21\], got \[20\]",
        ),
        (
            lambda: call(prior=PRIOR._replace(hidden_bias=PRIOR.bias)),
            r"hidden bias of the prior must be \[7\], got \[21\]",
        ),
        (
            lambda: call(prior=PRIOR._replace(hidden_weight=None, weight=PLAIN.weight)),
            "prior has a hidden bias but no hidden weight",
        ),
        (
            lambda: call(prior=PLAIN._replace(weight=PLAIN.weight[1:], bias=None)),
            "2 to 256 outputs for each of 3 colors, got 20",
        ),
        (
            lambda: call(IMAGES * 0, PLAIN._replace(weight=PLAIN.weight[:3], bias=None)),
            "2 to 256 outputs for each of 3 colors, got 3",
        ),
        (
            lambda: call(prior=PRIOR._replace(bias=PRIOR.bias.double())),
            "tensors of the prior must have one float dtype, got .*float64",
        ),
        (
            lambda: call(prior=PRIOR._replace(bias=PRIOR.bias.to("meta"))),
            "images and prior must be on one device, got .*meta",
        ),
        (lambda: call(conditioning=PRIOR), "conditioning must not have a hidden layer"),
        (
            lambda: call(conditioning=LogitsHead(CONDITIONING[0], CONDITIONING[1][:6])),
            r"prior and conditioning must have one number of outputs, got \[21, 6\]",
        ),
        (
            lambda: call(conditioning=LogitsHead(*(x.half() for x in CONDITIONING[:3]))),
            "prior and conditioning must have one dtype, got .*float16",
        ),
        (lambda: call(conditioning_scale=0), "conditioning_scale must be positive .* got 0"),
        (lambda: call(conditioning_scale=math.nan), "conditioning_scale must be .* got nan"),
        (lambda: call(backend="cudnn"), "backend must be auto or one of .*'chunked'.* got 'cudnn'"),
        (
            lambda: pixel_cross_entropy_with_logits(torch.zeros(2, 3, 4), IMAGES),
            r"takes logits \[N, L, C, H, W\] and images .* got \[2, 3, 4\] and \[3, 3, 4, 5\]",
        ),
        (
            lambda: pixel_cross_entropy_with_logits(torch.zeros(3, 7, 3, 4, 5), IMAGES + 7),
            "intensities must be below 7, got",
        ),
        (
            lambda: pixel_cross_entropy_with_logits(
                torch.zeros(3, 7, 3, 4, 5), IMAGES, torch.zeros(3, 7, 3, 4, 4)
            ),
            r"must have the size of the images, got .* \[3, 7, 3, 4, 4\] and \[3, 7, 3, 4, 5\]",
        ),
        (
            lambda: pixel_cross_entropy_with_logits(
                torch.zeros(3, 7, 3, 4, 5), IMAGES, conditioning_scale=-1
            ),
            "conditioning_scale must be positive and finite, got -1",
        ),
    ],
)
def test_what_does_not_fit_gets_one_clear_sentence(call, says):
    with pytest.raises(ValueError, match=says):
        call()


# Models.

SIZES = {"channels": 6, "layers": 2, "head_channels": 9, "levels": 8}


def system(prior=None):
    torch.manual_seed(0)
    conditioning = pixelsr.ConditioningNetwork(channels=4, blocks=1, scale_factor=2, levels=8)
    return pixelsr.PixelRecursiveSR(prior or pixelsr.GatedPixelCNN(**SIZES), conditioning).double()


def seen_by(model, monkeypatch):
    """Return which of the two functions the loss of a model calls."""
    calls = []
    for name in ("pixel_cross_entropy", "pixel_cross_entropy_with_logits"):
        whole = getattr(functional, name)
        spy = lambda *a, _whole=whole, _name=name, **k: calls.append(_name) or _whole(*a, **k)  # noqa: E731
        monkeypatch.setattr(functional, name, spy)
    model.loss(random_images(2, 3, 4, 4, 8), random_images(2, 3, 2, 2, 8))
    return calls


@pytest.mark.parametrize("prior", [pixelsr.GatedPixelCNN, pixelsr.PixelCNN])
def test_the_loss_of_the_papers_models_makes_no_logits(prior, monkeypatch):
    assert seen_by(system(prior(**SIZES)), monkeypatch) == ["pixel_cross_entropy"]


class Sharper(pixelsr.GatedPixelCNN):
    def forward(self, images):
        return 3 * super().forward(images)


def sharper(model):
    return system(Sharper(**SIZES))


def with_a_hook(model):
    model.prior.head.out.register_forward_hook(lambda module, inputs, out: 3 * out)
    return model


def with_another_layer(model):
    model.conditioning.out = torch.nn.Sequential(model.conditioning.out)
    return model


@pytest.mark.parametrize("change", [sharper, with_a_hook, with_another_layer])
def test_a_network_that_does_more_than_its_layers_is_called(change, monkeypatch):
    model = change(system())
    large, small = random_images(2, 3, 4, 4, 8), random_images(2, 3, 2, 2, 8)
    a, b = model.conditioning(small), model.prior(large)
    expected = (functional.nll(a + b, large) + functional.nll(a, large)).mean()
    torch.testing.assert_close(model.loss(large, small), expected, rtol=1e-12, atol=0)
    assert seen_by(model, monkeypatch) == ["pixel_cross_entropy_with_logits"]


@pytest.mark.parametrize("make", [system, lambda: pixelsr.GatedPixelCNN(**SIZES).double()])
def test_gradients_of_a_model_are_those_of_its_logits(make):
    model, large, small = make(), random_images(2, 3, 4, 4, 8), random_images(2, 3, 2, 2, 8)
    if isinstance(model, pixelsr.PixelRecursiveSR):
        a, b = model.conditioning(small), model.prior(large)
        losses = (
            model.loss(large, small),
            (functional.nll(a + b, large) + functional.nll(a, large)).mean(),
        )
    else:
        losses = model.nll(large).mean(), functional.nll(model(large), large).mean()
    grads = [torch.autograd.grad(loss, list(model.parameters())) for loss in losses]
    torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-9)
