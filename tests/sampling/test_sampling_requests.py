"""Tests of sampling requests and refused ones: one clear sentence each."""

import math

import pytest
import torch
from torch import Tensor, nn

import pixelsr
from pixelsr import sampling
from pixelsr.data.quantize import from_levels, to_levels
from tests.support.networks import Network, network
from tests.support.sampling import sample

BAD = {
    "n": ({"n": 0}, "n must be a positive int, got 0"),
    "no size": ({"image_size": None}, "PixelCNN needs image_size"),
    "size": ({"image_size": (4, 0)}, r"image_size\[1\] must be a positive int, got 0"),
    "low_res": ({"low_res": torch.zeros(1, 3, 2, 2, dtype=torch.uint8)}, "takes no low_res"),
    "seed": ({"seed": -1}, "seed must be an int from 0 to .*, got -1"),
    "first_index": ({"first_index": -1}, "first_index must be an int .* got -1"),
    "temperature": ({"temperature": -0.5}, "temperature must be 0 or more and finite, got -0.5"),
    "nan": ({"temperature": math.nan}, "temperature must be 0 or more and finite, got nan"),
    "tiny": (
        {"temperature": 1e-31},
        "temperature 1e-31 is too small to divide by, expected at least 1e-30, or 0 for the mode",
    ),
    "huge": ({"temperature": 10**400}, "temperature must be 0 or more and finite, got 1000"),
    "three sizes": (
        {"image_size": (3, 6, 4)},
        r"image_size must be two ints, \(height, width\), got \(3, 6, 4\)",
    ),
    "float size": ({"image_size": 6.0}, r"image_size must be two ints, .* got 6\.0"),
    "float sizes": ({"image_size": (6.0, 4)}, r"image_size\[0\] must be a positive int, got 6\.0"),
    "last index": (
        {"first_index": 2**63 - 2},
        r"first_index \+ samples must be at most 2\^63 - 1, got 9223372036854775806 \+ 2",
    ),
    "method": ({"method": "fast"}, r"method must be one of \['cached', 'ancestral'\], got 'fast'"),
    "engine": ({"engine": "tpu"}, "engine must be auto or one of .*, got 'tpu'"),
    "absent": ({"engine": "cuda"}, "engine 'cuda' cannot run: its kernels need a GPU, got cpu"),
    "weights": ({"weights": "int8"}, "weights must be model, float16 or bfloat16, got 'int8'"),
    "max_batch": ({"max_batch": 0}, "max_batch must be a positive int, got 0"),
    "mask alone": ({"known_mask": torch.ones(1, 3, 6, 4).bool()}, "known and known_mask go"),
    "mask dtype": (
        {"known": torch.zeros(1, 3, 6, 4).byte(), "known_mask": torch.ones(1, 3, 6, 4)},
        r"known_mask must be bool \[1, 3, 6, 4\], got torch.float32",
    ),
    "known shape": (
        {"known": torch.zeros(1, 3, 6, 5).byte(), "known_mask": torch.ones(1, 3, 6, 5).bool()},
        r"known must be uint8 \[N, 3, 6, 4\], got torch.uint8 \[1, 3, 6, 5\]",
    ),
    "known dtype": (
        {"known": torch.zeros(1, 3, 6, 4), "known_mask": torch.ones(1, 3, 6, 4).bool()},
        r"known must be uint8 .*, got torch.float32",
    ),
    "known count": (
        {"known": torch.zeros(3, 3, 6, 4).byte(), "known_mask": torch.ones(3, 3, 6, 4).bool()},
        "known must hold 1 or 2 images, got 3",
    ),
    "known level": (
        {"known": torch.full((1, 3, 6, 4), 9).byte(), "known_mask": torch.ones(1, 3, 6, 4).bool()},
        "known holds the value 9; the model has 8 levels",
    ),
    "given level": (
        {
            "known": torch.tensor([8, 9]).byte().repeat(1, 3, 6, 2),
            "known_mask": torch.tensor([True, False]).repeat(1, 3, 6, 2),
        },
        "known holds the value 8; the model has 8 levels",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_sentence(case):
    options, says = BAD[case]
    arguments = {"n": 2, "image_size": (6, 4), **options}
    with pytest.raises(ValueError, match=says) as raised:
        pixelsr.sample(network("PixelCNN"), **arguments)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("temperature", ["1", None, True, 1j, torch.ones(())], ids=repr)
def test_a_temperature_that_is_no_number_is_refused(temperature):
    with pytest.raises(TypeError, match="temperature must be a real number, got"):
        sample(network("PixelCNN"), temperature=temperature)


def test_a_mask_that_is_no_tensor_is_refused():
    known = torch.zeros(1, 3, 6, 4, dtype=torch.uint8)
    with pytest.raises(TypeError, match="known_mask must be a bool tensor, got list"):
        sample(network("PixelCNN"), known=known, known_mask=known.bool().tolist())


@pytest.mark.parametrize(
    ("low_res", "says"),
    [
        (None, "PixelRecursiveSR needs low_res"),
        (torch.zeros(1, 3, 2, 2), r"low_res must be uint8 \[N, 3, h, w\], got torch.float32"),
        (torch.zeros(3, 2, 2).byte(), r"low_res must be uint8 \[N, 3, h, w\], got .* \[3, 2, 2\]"),
        (torch.zeros(0, 3, 2, 2).byte(), r"low_res must be uint8 .* got .* \[0, 3, 2, 2\]"),
        (torch.zeros(1, 1, 2, 2).byte(), r"low_res must be uint8 .* got .* \[1, 1, 2, 2\]"),
    ],
)
def test_bad_low_res_gets_one_clear_sentence(low_res, says):
    with pytest.raises(ValueError, match=says):
        pixelsr.sample(network("PixelRecursiveSR-gated"), low_res=low_res)


def test_a_size_that_low_res_contradicts_is_refused():
    model = network("PixelRecursiveSR-gated")
    with pytest.raises(ValueError, match=r"image_size is \(6, 6\), expected .* for low_res"):
        sample(model, image_size=(6, 6))


@pytest.mark.parametrize("method", ["cached", "ancestral"])
def test_nan_weights_are_refused_by_name(method):
    model = network("PixelCNN")
    with torch.no_grad():
        model.head.out.weight[0, 0] = math.nan
    with pytest.raises(ValueError, match=r"parameter head\.out\.weight holds NaN or infinity"):
        sample(model, method=method)


@pytest.mark.parametrize(
    ("weights", "value", "most"), [("float16", 1e6, "65504"), ("bfloat16", 1e300, "3.3895e\\+38")]
)
def test_weights_that_are_too_large_for_16_bits_are_refused_by_name(weights, value, most):
    model = network("PixelCNN")
    with torch.no_grad():
        model.head.out.weight[0, 0] = value
    says = rf"head\.out\.weight does not fit weights='{weights}': .* beyond {most}"
    with pytest.raises(ValueError, match=says):
        sample(model, weights=weights)


def test_a_nan_in_a_buffer_is_refused_and_an_infinity_is_not():
    model = network("PixelCNN")
    model.register_buffer("count", torch.tensor(3))
    model.register_buffer("shift", torch.tensor([0, -math.inf]))
    expected = sample(network("PixelCNN"))
    assert torch.equal(sample(model), expected)
    model.shift[0] = math.nan
    with pytest.raises(ValueError, match="the buffer shift holds NaN"):
        sample(model)


def test_a_model_without_parameters_is_refused():
    class Constant(Network):
        def forward(self, images: Tensor) -> Tensor:
            return torch.zeros(len(images), 8, *images.shape[1:])

    with pytest.raises(ValueError, match="Constant has no parameters"):
        pixelsr.sample(Constant(), image_size=(2, 2))


def test_something_else_than_a_model_is_refused():
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got str"):
        pixelsr.sample("faces-8x32")
    images = torch.zeros(1, 3, 6, 4, dtype=torch.uint8)
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got str"):
        sampling.logits("faces-8x32", images)


def test_logits_refuse_images_that_do_not_fit():
    model = network("PixelRecursiveSR-gated")
    images = torch.zeros(2, 3, 6, 4, dtype=torch.uint8)
    low_res = torch.zeros(1, 3, 3, 2, dtype=torch.uint8)
    with pytest.raises(ValueError, match="low_res must hold 2 images, got 1"):
        sampling.logits(model, images, low_res=low_res)
    with pytest.raises(ValueError, match="images must be uint8"):
        sampling.logits(model, images.float(), low_res=low_res)
    with pytest.raises(ValueError, match=r"uint8 \[N, 3, h, w\], got torch.uint8 \[2, 1, 6, 4\]"):
        sampling.logits(model, images[:, :1], low_res=low_res)
    with pytest.raises(ValueError, match=r"image_size is \(5, 4\), expected .* for low_res"):
        sampling.logits(model, images[:, :, :5], low_res=low_res.expand(2, -1, -1, -1))
    with pytest.raises(ValueError, match="images holds the value 8; the model has 8 levels"):
        sampling.logits(model, images + 8, low_res=low_res)
    with pytest.raises(TypeError, match="images must be a uint8 tensor, got ndarray"):
        sampling.logits(model, images.numpy(), low_res=low_res)


@pytest.mark.parametrize("levels", [257, 512, 2**16, 1])
def test_levels_that_uint8_cannot_hold_are_refused_everywhere(levels):
    model = network("GatedPixelCNN")
    images = torch.zeros(1, 3, 6, 4, dtype=torch.uint8)
    says = f"levels must be 2 to 256, got {levels}"
    other = nn.Conv2d(3, 3, 1)
    other.colors, other.levels = 3, levels
    for call in (
        lambda: pixelsr.sample(other, image_size=(6, 4)),
        lambda: pixelsr.sample(other, image_size=(6, 4), method="ancestral"),
        lambda: pixelsr.sampling.start(other, image_size=(6, 4)),
        lambda: pixelsr.sampling.logits(other, images),
        lambda: pixelsr.sampling.incremental_logits(other, images),
        lambda: pixelsr.check_causality(other),
        lambda: pixelsr.receptive_field(other),
        lambda: pixelsr.GatedPixelCNN(levels=levels),
        lambda: pixelsr.functional.normalize_images(images, 3, levels, torch.float32),
        lambda: pixelsr.functional.to_logits(model(images).flatten(1, 2), 3, levels),
        lambda: to_levels(images, levels),
        lambda: from_levels(images, levels),
    ):
        with pytest.raises(ValueError, match=says):
            call()


@pytest.mark.parametrize("method", ["cached", "ancestral"])
def test_a_small_image_beyond_the_levels_is_refused(method):
    model = network("PixelRecursiveSR-gated")
    low_res = torch.full((1, 3, 3, 2), 8, dtype=torch.uint8)
    with pytest.raises(ValueError, match="low_res holds the value 8; the model has 8 levels"):
        pixelsr.sample(model, low_res=low_res, method=method)
