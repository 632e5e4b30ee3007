"""Tests that a loaded model equals the saved one, or that one sentence says why it cannot."""

import json
import random
import time

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import pixelsr
from pixelsr.models import PixelModel
from pixelsr.models import base as models
from pixelsr.training.checkpoint import write_checkpoint
from tests.support.helpers import randomize
from tests.support.mutations import changed, positions

CONFIG, WEIGHTS = "config.json", "model.safetensors"
SIZES = {"channels": 3, "layers": 1, "kernel_size": 3, "first_kernel_size": 3, "head_channels": 4}


def tiny(**options):
    return randomize(pixelsr.GatedPixelCNN(**{**SIZES, "colors": 1, "levels": 2, **options}))


def small_system():
    conditioning = pixelsr.ConditioningNetwork(channels=4, blocks=1, scale_factor=2, levels=4)
    return randomize(pixelsr.PixelRecursiveSR(tiny(colors=3, levels=4), conditioning))


def same(first, second):
    """Return True if two state dicts have the same names, dtypes, shapes and bits."""
    return first.keys() == second.keys() and all(
        tensor.dtype == second[name].dtype and torch.equal(tensor, second[name])
        for name, tensor in first.items()
    )


@pytest.fixture
def folder(tmp_path):
    tiny().save_pretrained(tmp_path)
    return tmp_path


def load(folder):
    """Return the model in a folder, or the sentence that refuses it."""
    try:
        return PixelModel.from_pretrained(folder)
    except ValueError as error:
        return str(error)


def refusal(folder):
    """Return the sentence that refuses the model in a folder, and check that it is one line."""
    sentence = load(folder)
    assert isinstance(sentence, str)
    assert "\n" not in sentence
    assert sentence.encode()
    return sentence


# Dtypes.


@pytest.mark.parametrize(
    "dtype",
    [
        torch.int8,
        torch.int32,
        torch.int64,
        torch.uint8,
        torch.bool,
        torch.complex64,
        torch.float8_e4m3fn,
        torch.float8_e5m2,
    ],
    ids=str,
)
def test_weights_of_another_dtype_are_refused(folder, dtype):
    weights = load_file(folder / WEIGHTS)
    weights["head.out.bias"] = weights["head.out.bias"].to(dtype)
    save_file(weights, folder / WEIGHTS)
    assert refusal(folder) == (
        f"{folder / WEIGHTS}: head.out.bias is {dtype}, "
        "expected torch.float16 or torch.bfloat16 or torch.float32 or torch.float64"
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_weights_of_the_four_floating_point_dtypes_are_loaded_exactly(folder, dtype):
    weights = {name: tensor.to(dtype) for name, tensor in load_file(folder / WEIGHTS).items()}
    save_file(weights, folder / WEIGHTS)
    loaded = PixelModel.from_pretrained(folder).state_dict()
    wanted = torch.promote_types(dtype, torch.float32)
    assert same(loaded, {name: tensor.to(wanted) for name, tensor in weights.items()})


@pytest.fixture
def buffered_class(own_class):
    class WithBuffers(pixelsr.PixelCNN):
        """A model with an integer, a bool, a float16 and a float64 buffer."""

        def __init__(self, **options):
            super().__init__(**options)
            self.register_buffer("count", torch.tensor([3, 2**40]))
            self.register_buffer("live", torch.tensor(True))
            self.register_buffer("narrow", torch.tensor([0.5], dtype=torch.float16))
            self.register_buffer("wide", torch.tensor([1 / 3], dtype=torch.float64))

    return WithBuffers


@pytest.mark.parametrize(
    ("name", "dtype", "expected"),
    [
        ("count", torch.int32, "torch.int64"),
        ("count", torch.float32, "torch.int64"),
        ("live", torch.uint8, "torch.bool"),
        ("narrow", torch.float32, "torch.float16 or torch.float64"),
        ("narrow", torch.bfloat16, "torch.float16 or torch.float64"),
    ],
    ids=str,
)
def test_a_buffer_is_stored_in_a_dtype_that_the_models_own_holds(
    tmp_path, buffered_class, name, dtype, expected
):
    model = randomize(buffered_class(**SIZES))
    model.save_pretrained(tmp_path)
    loaded = PixelModel.from_pretrained(tmp_path)
    assert same(loaded.state_dict(), model.state_dict())
    weights = load_file(tmp_path / WEIGHTS)
    weights[name] = weights[name].to(dtype)
    save_file(weights, tmp_path / WEIGHTS)
    assert f"{WEIGHTS}: {name} is {dtype}, expected {expected}" in refusal(tmp_path)


# Damaged files.


def test_no_flipped_bit_of_the_weights_goes_unnoticed(folder):
    path, saved = folder / WEIGHTS, tiny().state_dict()
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    refused = 0
    for bit in [*range(0, 8 * header, 29), *range(8 * header, 8 * len(whole), 101)]:
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        loaded = load(folder)
        if isinstance(loaded, str):
            assert str(path) in loaded, bit
            refused += 1
        else:
            assert same(loaded.state_dict(), saved), bit
            assert bit < 8 * header
    assert refused > 400


def test_the_checksum_does_not_depend_on_the_order_in_the_file(folder):
    path, saved = folder / WEIGHTS, tiny().state_dict()
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    header, data, at = {"__metadata__": metadata}, b"", 0
    for name, tensor in sorted(load_file(path).items(), reverse=True):
        raw = tensor.numpy().tobytes()
        header[name] = {
            "dtype": "F32",
            "shape": list(tensor.shape),
            "data_offsets": [at, at + len(raw)],
        }
        data, at = data + raw, at + len(raw)
    text = json.dumps(header).encode()
    other = len(text).to_bytes(8, "little") + text + data
    assert other != path.read_bytes()
    path.write_bytes(other)
    assert same(PixelModel.from_pretrained(folder).state_dict(), saved)


@pytest.mark.parametrize(
    "change",
    [
        lambda weights: weights["head.out.bias"].neg_(),
        lambda weights: weights.update(
            {
                "head.out.bias": weights["vertical_first.bias"][:2].clone(),
                "vertical_first.bias": torch.cat(
                    [weights["head.out.bias"], weights["vertical_first.bias"][2:]]
                ),
            }
        ),
        lambda weights: weights.update({k: v.double() for k, v in weights.items()}),
        lambda weights: weights.update(extra=torch.zeros(1)),
        lambda weights: weights.pop("head.out.bias"),
    ],
    ids=["value", "swapped", "dtype", "foreign", "missing"],
)
def test_other_weights_under_the_checksum_are_refused(folder, change):
    path = folder / WEIGHTS
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata)
    assert refusal(folder) == f"{path} is damaged: its contents do not match its checksum"


@pytest.mark.parametrize("view", [lambda t: t.view(torch.bfloat16), lambda t: t.reshape(1, -1)])
def test_the_same_bytes_of_another_dtype_or_shape_are_refused(folder, view):
    path = folder / WEIGHTS
    tiny().half().save_pretrained(folder)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    weights = load_file(path)
    save_file(weights | {"head.out.bias": view(weights["head.out.bias"])}, path, metadata)
    assert refusal(folder) == f"{path} is damaged: its contents do not match its checksum"


def test_weights_beside_another_config_are_refused(folder):
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | {"kernel_size": 5}))
    path = folder / WEIGHTS
    assert refusal(folder) == f"{path} was saved with another config than {folder / CONFIG}"
    (folder / CONFIG).write_text(json.dumps(dict(reversed(config.items()))))
    assert same(PixelModel.from_pretrained(folder).state_dict(), tiny().state_dict())


def test_weights_without_a_checksum_are_loaded(folder):
    weights = load_file(folder / WEIGHTS)
    save_file(weights, folder / WEIGHTS, {"format": "pt"})
    assert same(PixelModel.from_pretrained(folder).state_dict(), tiny().state_dict())


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("{", "its entry 'pixelsr' is not JSON"),
        ("[1]", "its entry 'pixelsr' is not a checksum and facts"),
        ('{"step": 3}', "its entry 'pixelsr' is not a checksum and facts"),
        ('{"sha256": "00", "facts": 3}', "its contents do not match"),
        ('{"sha256": null, "facts": {}}', "its contents do not match"),
    ],
)
def test_an_odd_entry_beside_the_weights_is_refused(folder, entry, reason):
    weights = load_file(folder / WEIGHTS)
    save_file(weights, folder / WEIGHTS, {"pixelsr": entry})
    assert refusal(folder).startswith(f"{folder / WEIGHTS} is damaged: {reason}")


def test_a_checkpoint_is_no_models_weights(folder):
    write_checkpoint(folder / WEIGHTS, load_file(folder / WEIGHTS), {"step": 1})
    assert "was saved with another config" in refusal(folder)


def test_the_bundled_weights_have_a_checksum():
    for path in models.BUNDLED.glob(f"*/{WEIGHTS}"):
        with safe_open(path, "pt") as file:
            assert "sha256" in file.metadata()["pixelsr"]


# Configs.


HUGE = [10**6, 10**9, 2**63, 10**99, 10**200]
ODD = [None, True, 0, -1, 2.5, 1e300, "3", "", [], [3], {}, {"class": "PixelCNN"}, "\ud800"]
SHAPELESS = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe{\x00}\x00",
    b"\xef\xbb\xbf{}",
    b'{"class": "PixelRNN"}',
    b'{"class": "PixelModel"}',
    b'{"class": NaN}',
    b'{"class": "PixelCNN", "class": "PixelCNN"}',
    b'{"class": "PixelCNN", "layers": 1e999}',
    b'{"class": "PixelCNN", "layers": ' + b"9" * 10_000 + b"}",
    b"[" * 100_000,
    b'{"prior":' * 500 + b"1" + b"}" * 500,
    b'{"class": "PixelRecursiveSR", "prior":' * 20 + b"{}" + b"}" * 20,
    b'{"class": "PixelRecursiveSR", "prior": {"class": "PixelRecursiveSR"}}',
    b'{"class": "PixelRecursiveSR", "conditioning": {"class": "PixelRecursiveSR"}}',
    b" " * 100_000 + b"{}",
]


def mutated_configs(text):
    description = json.loads(text)
    for at in positions(description):
        for value in (*HUGE, *ODD, ...):
            yield json.dumps(changed(description, at, value)).encode()
    draw = random.Random(0)
    for _ in range(100):
        damaged = bytearray(text)
        damaged[draw.randrange(len(text))] ^= 1 << draw.randrange(8)
        yield bytes(damaged)
        yield bytes(text[: draw.randrange(len(text))])
    yield from SHAPELESS


@pytest.mark.parametrize("checked", [True, False], ids=["checksum", "none"])
def test_a_mutated_config_is_refused_with_its_name(tmp_path, checked):
    model = small_system()
    model.save_pretrained(tmp_path)
    if not checked:
        save_file(load_file(tmp_path / WEIGHTS), tmp_path / WEIGHTS)
    whole = (tmp_path / CONFIG).read_bytes()
    for config in mutated_configs(whole):
        (tmp_path / CONFIG).write_bytes(config)
        start = time.perf_counter()
        loaded = load(tmp_path)
        if isinstance(loaded, str):
            assert str(tmp_path) in refusal(tmp_path), config
        else:
            assert loaded.describe() == model.describe(), config
            assert same(loaded.state_dict(), model.state_dict()), config
        assert time.perf_counter() - start < 10, config


@pytest.mark.parametrize(
    ("sizes", "named"),
    [
        ({"layers": 10**6}, f"{CONFIG} .*layers must be at most 1,024, got 1,000,000"),
        ({"channels": 60_000, "head_channels": 60_000}, f"{WEIGHTS}: .* its config expects"),
        ({"layers": 1024, "channels": 60_000}, f"{WEIGHTS} does not fit its config"),
        ({"kernel_size": 255, "channels": 60_000}, f"{WEIGHTS}: .* its config expects"),
        ({"colors": 60_000, "channels": 60_000}, f"{WEIGHTS}: .* its config expects"),
    ],
    ids=str,
)
def test_a_model_that_no_memory_holds_is_refused_before_it_is_made(folder, sizes, named):
    save_file(load_file(folder / WEIGHTS), folder / WEIGHTS)
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | sizes))
    with pytest.raises(ValueError, match=named):
        PixelModel.from_pretrained(folder)


def test_a_class_whose_constructor_looks_at_numbers_is_loaded(tmp_path, own_class):
    class Dropping(pixelsr.PixelCNN):
        """A model whose constructor reads numbers, so it fails on the meta device."""

        def __init__(self, **options):
            super().__init__(**options)
            self.rates = torch.linspace(0, 1, 3).tolist()

    model = randomize(Dropping(**SIZES))
    model.save_pretrained(tmp_path)
    loaded = Dropping.from_pretrained(tmp_path)
    assert loaded.rates == [0, 0.5, 1]
    assert same(loaded.state_dict(), model.state_dict())


# Tied weights and wrappers.


@pytest.fixture
def tied_class(own_class):
    class Tied(pixelsr.GatedPixelCNN):
        """A model with one parameter under two names, and a buffer that is a part of another."""

        def __init__(self, **options):
            super().__init__(**options)
            self.layers[1].link.weight = self.layers[0].link.weight
            self.register_buffer("table", torch.arange(6.0))
            self.register_buffer("part", self.table[1:4])

    return Tied


def test_tied_weights_are_saved_and_load_back_tied(tmp_path, tied_class):
    model = randomize(tied_class(**{**SIZES, "layers": 2}))
    model.save_pretrained(tmp_path)
    loaded = tied_class.from_pretrained(tmp_path)
    assert same(loaded.state_dict(), model.state_dict())
    assert loaded.layers[0].link.weight is loaded.layers[1].link.weight
    assert loaded.part.data_ptr() == loaded.table[1:].data_ptr()


@pytest.mark.parametrize("name", ["layers.1.link.weight", "part"])
def test_tied_weights_that_differ_in_the_file_are_refused(tmp_path, tied_class, name):
    randomize(tied_class(**{**SIZES, "layers": 2})).save_pretrained(tmp_path)
    weights = load_file(tmp_path / WEIGHTS)
    weights[name] = weights[name] + 1
    save_file(weights, tmp_path / WEIGHTS)
    said = refusal(tmp_path)
    assert f"{name} share memory in the model but differ in the file" in said
    assert WEIGHTS in said


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."]
)
def test_the_prefix_of_a_wrapper_is_dropped(folder, prefix):
    weights = load_file(folder / WEIGHTS)
    save_file({prefix + k: v for k, v in weights.items()}, folder / WEIGHTS)
    assert same(PixelModel.from_pretrained(folder).state_dict(), tiny().state_dict())
    save_file({f"modul{k}": v for k, v in weights.items()}, folder / WEIGHTS)
    assert "does not fit its config" in refusal(folder)


def test_a_models_own_child_named_module_keeps_its_name(tmp_path, own_class):
    class Wrapping(PixelModel):
        """A model with all its weights below `module`."""

        Config = pixelsr.PixelCNN.Config

        def __init__(self, **options):
            super().__init__()
            self.config = self.Config(**options)
            self.module = nn.Linear(2, 3)

    model = Wrapping(**SIZES)
    model.save_pretrained(tmp_path)
    assert same(Wrapping.from_pretrained(tmp_path).state_dict(), model.state_dict())
