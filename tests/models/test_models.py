import dataclasses
import errno
import inspect
import math
import os

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

import pixelsr
from pixelsr import (
    ConditioningNetwork,
    DiagonalBiLSTM,
    GatedPixelCNN,
    PixelCNN,
    PixelRecursiveSR,
    RowLSTM,
)
from pixelsr.models import PixelModel
from pixelsr.training.loss import bits_per_dimension
from tests.support.helpers import random_images, randomize

PRIORS = [GatedPixelCNN, PixelCNN]
SMALL = {"channels": 6, "layers": 2, "head_channels": 8}


def small_system(colors=3, levels=8, scale_factor=2):
    options = {"colors": colors, "levels": levels}
    conditioning = ConditioningNetwork(channels=4, blocks=1, scale_factor=scale_factor, **options)
    return randomize(PixelRecursiveSR(GatedPixelCNN(**SMALL, **options), conditioning))


@pytest.mark.parametrize("size", [(5, 4), (1, 1), (3, 9)], ids=str)
@pytest.mark.parametrize(("colors", "levels"), [(1, 2), (2, 5), (3, 256), (4, 16)])
@pytest.mark.parametrize("prior", PRIORS)
def test_a_prior_gives_logits_that_cross_entropy_takes(prior, colors, levels, size):
    images = random_images(2, colors, *size, levels)
    logits = prior(**SMALL, colors=colors, levels=levels)(images)
    assert logits.shape == (2, levels, colors, *size)
    F.cross_entropy(logits, images.long())


@pytest.mark.parametrize("scale_factor", [1, 2, 4, 8])
def test_the_conditioning_network_magnifies(scale_factor):
    network = ConditioningNetwork(channels=4, blocks=1, scale_factor=scale_factor, levels=8)
    logits = network(random_images(2, 3, 3, 2, 8))
    assert logits.shape == (2, 8, 3, 3 * scale_factor, 2 * scale_factor)


@pytest.mark.parametrize("scale_factor", [1, 2, 4])
@pytest.mark.parametrize("colors", [1, 3])
def test_super_resolution_adds_the_two_networks_logits(scale_factor, colors):
    model = small_system(colors, 8, scale_factor)
    small = random_images(2, colors, 2, 3, 8)
    large = random_images(2, colors, 2 * scale_factor, 3 * scale_factor, 8)
    expected = model.conditioning(small) + model.prior(large)
    assert torch.equal(model(large, small), expected)
    assert model.scale_factor == scale_factor


@pytest.mark.parametrize("prior", PRIORS)
def test_logits_are_color_major_in_the_output_layers_channels(prior):
    model = randomize(prior(**SMALL, levels=5))
    images = random_images(1, 3, 2, 2, 5)
    before = model(images)
    with torch.no_grad():
        model.head.out.bias[5:10] += 1  # all levels of green
    changed = (model(images) != before).flatten(3).any(3)[0]  # [L, C]
    assert changed.tolist() == [[False, True, False]] * 5


@pytest.mark.parametrize("prior", PRIORS)
def test_intensities_reach_the_network_as_minus_one_to_one(prior):
    model = prior(**SMALL, levels=16)
    seen = []
    first = model.horizontal_first if prior is GatedPixelCNN else model.first
    first.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model(torch.tensor([0, 5, 15], dtype=torch.uint8).view(1, 3, 1, 1))
    torch.testing.assert_close(seen[0].flatten(), torch.tensor([-1.0, -1 / 3, 1.0]))


def shapes(module):
    return [list(parameter.shape) for name, parameter in module.named_parameters()]


def test_the_priors_default_sizes_are_the_super_resolution_papers():
    model = GatedPixelCNN()
    assert model.vertical_first.weight.shape == (64, 3, 7, 7)
    assert model.vertical_first.mask_type == "V-first"
    assert model.horizontal_first.weight.shape == (64, 3, 1, 7)
    assert model.horizontal_first.mask_type == "A"
    assert len(model.layers) == 20
    for layer in model.layers:
        assert layer.vertical.weight.shape == (128, 64, 5, 5)
        assert layer.horizontal.weight.shape == (128, 64, 1, 5)
        assert layer.out.weight.shape == (64, 64, 1, 1)
        assert layer.link.weight.shape == (128, 128, 1, 1)
    assert model.head.hidden.weight.shape == (1024, 64, 1, 1)
    assert model.head.out.weight.shape == (768, 1024, 1, 1)


def test_the_conditioning_networks_default_sizes_are_the_papers_for_faces():
    model = ConditioningNetwork()
    block = [[32, 32, 3, 3], [32]] * 2
    doubling = [[32, 32, 3, 3], [32]]
    expected = [[32, 3, 3, 3], [32], *block * 6, *doubling, *block * 6, *doubling, *block * 6]
    assert shapes(model.body) == expected
    assert shapes(model.out) == [[768, 32, 1, 1], [768]]
    assert [m.stride for m in model.body if isinstance(m, torch.nn.ConvTranspose2d)] == [(2, 2)] * 2


def test_the_pixelcnns_default_sizes_are_the_papers_for_cifar():
    model = PixelCNN()
    assert model.first.weight.shape == (256, 3, 7, 7)
    assert model.first.mask_type == "A"
    assert len(model.blocks) == 14  # the 7x7 layer is the first of the 15 layers
    for block in model.blocks:
        assert shapes(block)[::2] == [[128, 256, 1, 1], [128, 128, 3, 3], [256, 128, 1, 1]]
    assert model.head.hidden.weight.shape == (1024, 256, 1, 1)
    assert model.head.out.weight.shape == (768, 1024, 1, 1)


def test_super_resolution_takes_the_papers_networks_by_default_and_any_prior():
    model = PixelRecursiveSR()
    assert isinstance(model.prior, GatedPixelCNN)
    assert model.prior.config == GatedPixelCNN.Config()
    assert model.conditioning.config == ConditioningNetwork.Config()
    assert model.scale_factor == 4
    other = PixelRecursiveSR(PixelCNN(**SMALL), ConditioningNetwork(channels=4, blocks=1))
    assert isinstance(other.prior, PixelCNN)


@pytest.mark.parametrize("make", [lambda: PixelCNN(**SMALL), small_system])
def test_configs_are_frozen(make):
    config = make().config
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, dataclasses.fields(config)[0].name, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GatedPixelCNN(channels=0), "channels must be a positive int, got 0"),
        (lambda: GatedPixelCNN(layers=2.0), "layers must be a positive int, got 2.0"),
        (lambda: GatedPixelCNN(channels=True), "channels must be a positive int, got True"),
        (lambda: GatedPixelCNN(levels=1), "levels must be 2 to 256, got 1"),
        (lambda: PixelCNN(levels=257), "levels must be 2 to 256, got 257"),
        (lambda: GatedPixelCNN(kernel_size=4), "kernel_size must be odd"),
        (lambda: PixelCNN(colors=-1), "colors must be a positive int, got -1"),
        (lambda: ConditioningNetwork(scale_factor=3), "must be a power of two, got 3"),
        (
            lambda: PixelRecursiveSR(PixelCNN(**SMALL, levels=2), ConditioningNetwork()),
            "differ in levels: 256 and 2",
        ),
        (
            lambda: PixelRecursiveSR(PixelCNN(**SMALL, colors=1), ConditioningNetwork()),
            "differ in colors: 3 and 1",
        ),
    ],
)
def test_a_config_that_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_unknown_option_is_refused_by_name():
    with pytest.raises(TypeError, match="chanels"):
        GatedPixelCNN(chanels=3)


MODELS = [GatedPixelCNN, PixelCNN, RowLSTM, DiagonalBiLSTM, ConditioningNetwork]


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_the_signature_of_a_model_is_its_config(make):
    signature = inspect.signature(make)
    fields = {field.name: field for field in dataclasses.fields(make.Config)}
    assert signature.parameters.keys() == fields.keys()
    for name, parameter in signature.parameters.items():
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert parameter.default == fields[name].default
        assert parameter.annotation == fields[name].type
        assert f"        {name}: " in make.__doc__ or f", {name}: " in make.__doc__


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_every_option_reaches_the_field_of_its_name(make):
    options = {
        "channels": 6,
        "layers": 2,
        "blocks": 1,
        "kernel_size": 5,
        "first_kernel_size": 3,
        "head_channels": 7,
        "colors": 2,
        "levels": 4,
        "skip": True,
        "scale_factor": 8,
    }
    options = {name: options[name] for name in inspect.signature(make).parameters}
    assert dataclasses.asdict(make(**options).config) == options


def saved(tmp_path):
    model = small_system()
    model.save_pretrained(tmp_path / "model")
    return model, tmp_path / "model"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_saved_model_comes_back_bit_for_bit(tmp_path, dtype):
    model = small_system().to(dtype)
    model.save_pretrained(tmp_path / "new" / "folder")
    for cls in (PixelRecursiveSR, PixelModel):
        loaded = cls.from_pretrained(tmp_path / "new" / "folder")
        assert type(loaded) is PixelRecursiveSR
        assert loaded.config == model.config
        assert not loaded.training
        assert loaded.dtype == dtype
        images, small = random_images(1, 3, 4, 4, 8), random_images(1, 3, 2, 2, 8)
        assert torch.equal(loaded(images, small), model(images, small))
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


def test_half_precision_weights_come_back_as_float32(tmp_path):
    model = small_system().bfloat16()
    model.save_pretrained(tmp_path)
    loaded = PixelRecursiveSR.from_pretrained(tmp_path)
    assert loaded.dtype == torch.float32
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.float())


@pytest.mark.parametrize("prior", PRIORS)
def test_a_prior_alone_is_saved_and_loaded(tmp_path, prior):
    model = randomize(prior(**SMALL, levels=4))
    model.save_pretrained(tmp_path)
    images = random_images(1, 3, 4, 4, 4)
    assert torch.equal(prior.from_pretrained(tmp_path)(images), model(images))


def test_saving_over_a_model_replaces_it(tmp_path):
    _, folder = saved(tmp_path)
    other = randomize(PixelCNN(**SMALL))
    other.save_pretrained(folder)
    loaded = PixelCNN.from_pretrained(folder)
    assert torch.equal(loaded.first.weight, other.first.weight)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no model folder '.*nowhere'"):
        PixelRecursiveSR.from_pretrained(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(tmp_path, name):
    _, folder = saved(tmp_path)
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} is missing"):
        PixelRecursiveSR.from_pretrained(folder)


@pytest.mark.parametrize("keep", [0, 4, 200, -7])
def test_truncated_weights_are_refused(tmp_path, keep):
    _, folder = saved(tmp_path)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"model\.safetensors is not a whole safetensors file"):
        PixelRecursiveSR.from_pretrained(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not the config of a pixelsr model"),
        (b"", "is not the config of a pixelsr model"),
        (b"\xff\xfe\x00", "is not the config of a pixelsr model"),
        (b"[1, 2]", "expected an object, got list"),
        (b"{}", "unknown model class None"),
        (b'{"class": "Pickle"}', "unknown model class 'Pickle'; expected one of"),
        (b'{"class": ["PixelCNN"]}', "unknown model class"),
        (b'{"class": "PixelCNN", "depth": 3}', "depth"),
        (b'{"class": "PixelCNN", "layers": "many"}', "layers must be a positive int, got 'many'"),
        (b'{"class": "PixelRecursiveSR", "prior": 3}', "prior"),
        (b'{"class": "PixelRecursiveSR", "prior": {"class": "X"}}', "unknown model class 'X'"),
    ],
    ids=lambda value: value.decode("latin1")[:40] if isinstance(value, bytes) else "",
)
def test_a_foreign_config_is_refused(tmp_path, content, message):
    _, folder = saved(tmp_path)
    (folder / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        PixelRecursiveSR.from_pretrained(folder)


def test_a_model_of_another_class_is_refused(tmp_path):
    _, folder = saved(tmp_path)
    with pytest.raises(ValueError, match="holds a PixelRecursiveSR, expected a PixelCNN"):
        PixelCNN.from_pretrained(folder)


def _drop(weights):
    weights.pop("prior.head.out.bias")


def _add(weights):
    weights["extra"] = torch.zeros(1)


def _reshape(weights):
    weights["prior.head.out.bias"] = torch.zeros(7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop, "it misses tensor prior.head.out.bias"),
        (_add, "it has an unexpected tensor extra"),
        (_reshape, r"prior.head.out.bias is \[7\], its config expects \[24\]"),
    ],
)
def test_weights_that_do_not_fit_the_config_are_refused(tmp_path, change, message):
    _, folder = saved(tmp_path)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ValueError, match=message):
        PixelRecursiveSR.from_pretrained(folder)


def test_nothing_half_written_is_left_where_saving_fails(tmp_path, monkeypatch):
    model, folder = saved(tmp_path)
    config = (folder / "config.json").read_text()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        model.save_pretrained(folder)
    assert (folder / "config.json").read_text() == config
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def losses_gradients(model, images, small):
    """Return the logits of A and B, and the gradients of the loss into them."""
    logits = []
    for network in (model.conditioning, model.prior):
        network.register_forward_hook(lambda *hook: hook[2].retain_grad() or logits.append(hook[2]))
    model.loss(images, small).backward()
    return logits, [each.grad for each in logits]


def test_the_losss_first_term_moves_both_networks_alike_and_the_second_a_alone():
    model = small_system().double()
    images, small = random_images(2, 3, 4, 4, 8), random_images(2, 3, 2, 2, 8)
    (a, b), (grad_a, grad_b) = losses_gradients(model, images, small)
    onehot = F.one_hot(images.long(), 8).movedim(-1, 1)
    first = (torch.softmax(a + b, 1) - onehot) / 2  # mean over N = 2
    second = (torch.softmax(a, 1) - onehot) / 2
    torch.testing.assert_close(grad_b, first, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(grad_a, first + second, rtol=1e-12, atol=1e-12)
    assert second.abs().max() > 0.1


def test_the_first_term_alone_has_equal_gradients_into_both_networks():
    model = small_system().double()
    images, small = random_images(2, 3, 4, 4, 8), random_images(2, 3, 2, 2, 8)
    logits = [model.conditioning(small), model.prior(images)]
    grads = torch.autograd.grad(pixelsr.functional.nll(sum(logits), images).sum(), logits)
    assert torch.equal(*grads)


def test_the_loss_is_in_nats_per_image():
    model = small_system(levels=8).double()
    images, small = random_images(2, 3, 4, 4, 8), random_images(2, 3, 2, 2, 8)
    a, b = model.conditioning(small), model.prior(images)
    log_a, log_ab = torch.log_softmax(a, 1), torch.log_softmax(a + b, 1)
    index = images.long().unsqueeze(1)
    expected = -(log_a + log_ab).gather(1, index).sum() / 2
    torch.testing.assert_close(model.loss(images, small), expected, rtol=1e-12, atol=0)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    uniform = 2 * 3 * 16 * math.log(8)
    assert model.loss(images, small).item() == pytest.approx(uniform, rel=1e-12)


LOSSES = {
    "PixelCNN": lambda: PixelCNN(**SMALL, levels=8),
    "GatedPixelCNN": lambda: GatedPixelCNN(**SMALL, levels=8),
    "RowLSTM": lambda: RowLSTM(**SMALL, levels=8),
    "DiagonalBiLSTM": lambda: DiagonalBiLSTM(**SMALL, levels=8),
    "multi-scale RowLSTM": lambda: RowLSTM(**SMALL, levels=8, scale_factor=2),
    "ConditioningNetwork": lambda: small_system(levels=8).conditioning,
    "PixelRecursiveSR": lambda: small_system(levels=8),
}


@pytest.mark.parametrize("name", LOSSES)
def test_nll_is_of_the_models_own_distribution_and_loss_is_its_mean(name):
    """Check also that the small images are the downsampled ones unless they are given."""
    model = randomize(LOSSES[name]()).double()
    images, low_res = random_images(2, 3, 4, 4, 8), random_images(2, 3, 2, 2, 8)
    conditions = [low_res] if hasattr(model, "scale_factor") else []
    inputs = conditions if name == "ConditioningNetwork" else [images, *conditions]
    nll = model.nll(images, *conditions)
    expected = F.cross_entropy(model(*inputs), images.long(), reduction="none").flatten(1).sum(1)
    torch.testing.assert_close(nll, expected, rtol=1e-12, atol=0)
    if name != "PixelRecursiveSR":  # its loss has a second term
        assert torch.equal(model.loss(images, *conditions), nll.mean())
    for call in (model.nll, model.loss) if conditions else ():
        assert torch.equal(call(images), call(images, model.downsample(images)))
        assert not torch.equal(call(images), call(images, low_res))
    bits = bits_per_dimension(model, images, batch=2)
    in_bits = model.nll(images).detach().mean().item() / (3 * 4 * 4 * math.log(2))
    assert next(iter(bits.values())) == pytest.approx(in_bits, rel=1e-12)


@pytest.mark.parametrize("call", ["nll", "loss"])
@pytest.mark.parametrize("name", ["PixelCNN", "RowLSTM"])
def test_a_prior_alone_has_no_loss_given_a_small_image(name, call):
    images = random_images(1, 3, 4, 4, 8)
    with pytest.raises(ValueError, match=f"{name} has no scale_factor, so it takes no low_res"):
        getattr(LOSSES[name](), call)(images, images)


@pytest.mark.parametrize(
    ("images", "small", "message"),
    [
        (
            random_images(1, 3, 4, 4).float(),
            random_images(1, 3, 2, 2),
            r"uint8 \[N, 3, H, W\], got",
        ),
        (random_images(1, 1, 4, 4), random_images(1, 3, 2, 2), r"got torch.uint8 \[1, 1, 4, 4\]"),
        (random_images(1, 3, 4, 4)[0], random_images(1, 3, 2, 2), r"got torch.uint8 \[3, 4, 4\]"),
        (random_images(1, 3, 4, 4), random_images(1, 3, 2, 2).long(), "got torch.int64"),
        (random_images(1, 3, 4, 5), random_images(1, 3, 2, 2), "must have the size of the images"),
        (random_images(2, 3, 4, 4), random_images(1, 3, 2, 2), "must have the size of the images"),
    ],
    ids=["float", "colors", "rank", "small_dtype", "size", "batch"],
)
@pytest.mark.parametrize("call", ["forward", "loss"])
def test_images_of_another_kind_are_refused(call, images, small, message):
    with pytest.raises(ValueError, match=message):
        getattr(small_system(), call)(images % 8, small % 8)


def test_an_intensity_beyond_the_levels_is_refused_by_the_loss():
    images, small = random_images(1, 3, 4, 4, 8), random_images(1, 3, 2, 2, 8)
    images[0, 1, 2, 3] = 8
    with pytest.raises(ValueError, match="intensities must be below 8, got 8"):
        small_system().loss(images, small)


@pytest.mark.parametrize("small", [torch.zeros(1, 3, 2, 2), torch.zeros(3, 2, 2).byte()])
def test_a_small_image_of_another_kind_is_refused_by_its_name(small):
    model = small_system()
    for network in (
        model.conditioning,
        lambda low_res: model(random_images(1, 3, 4, 4, 8), low_res),
    ):
        with pytest.raises(ValueError, match=r"low_res must be uint8 \[N, 3, H, W\], got"):
            network(small)


def test_a_save_that_fails_on_its_second_file_leaves_the_older_model_whole(tmp_path, monkeypatch):
    older = small_system(levels=8)
    older.save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    count, sync = iter(range(9)), os.fsync

    def full(descriptor):
        if next(count) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"cannot be written: No space left on device"):
        small_system(levels=4).save_pretrained(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_layer_can_be_made_without_memory():
    with torch.device("meta"):
        assert PixelCNN(**SMALL).device.type == "meta"
