"""Tests of models in DataParallel, DistributedDataParallel, AveragedModel and torch.compile."""

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.optim.swa_utils import AveragedModel

import pixelsr
from pixelsr import evaluation, sampling
from pixelsr.sampling.api import sample_distributed
from pixelsr.utils.distributed import Workers
from pixelsr.utils.modules import unwrap
from tests.support.helpers import randomize
from tests.support.sampling import random_images


@pytest.fixture(scope="module", autouse=True)
def group(tmp_path_factory):
    """Create a process group of one process, for DistributedDataParallel."""
    path = tmp_path_factory.mktemp("group") / "store"
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def compiled(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")


def distributed(model: nn.Module) -> nn.Module:
    return nn.parallel.DistributedDataParallel(model)


WRAPPERS = {
    "DataParallel": nn.DataParallel,
    "DistributedDataParallel": distributed,
    "AveragedModel": AveragedModel,
    "compiled": compiled,
    "compiled DistributedDataParallel": lambda model: compiled(distributed(model)),
    "DistributedDataParallel of compiled": lambda model: distributed(compiled(model)),
    "average of DataParallel of compiled": lambda model: AveragedModel(
        nn.DataParallel(compiled(model))
    ),
}


def network() -> pixelsr.GatedPixelCNN:
    sizes = {"channels": 6, "layers": 1, "head_channels": 9, "levels": 4}
    model = pixelsr.GatedPixelCNN(kernel_size=3, first_kernel_size=3, **sizes)
    return randomize(model).double().eval()


@pytest.mark.parametrize("name", WRAPPERS)
def test_every_face_takes_the_model_inside(name):
    model = network()
    wrapped, images, options = (
        WRAPPERS[name](model),
        random_images(model, 2, (5, 4)),
        {"n": 2, "image_size": (5, 4)},
    )
    inner = unwrap(wrapped)
    assert type(inner) is pixelsr.GatedPixelCNN
    assert unwrap(model) is model
    expected, drawn = model(images), pixelsr.sample(model, **options)
    for method in ("cached", "ancestral"):
        assert torch.equal(pixelsr.sample(wrapped, **options, method=method), drawn)
    assert torch.equal(sample_distributed(Workers(), wrapped, **options), drawn)
    rounded = pixelsr.sample(model, **options, weights="bfloat16")
    assert torch.equal(pixelsr.sample(wrapped, **options, weights="bfloat16"), rounded)
    first = sampling.start(wrapped, image_size=(5, 4)).step()
    assert torch.equal(first, sampling.start(model, image_size=(5, 4)).step())
    torch.testing.assert_close(sampling.logits(wrapped, images), expected)
    torch.testing.assert_close(sampling.incremental_logits(wrapped, images).logits, expected)
    assert sampling.plan(wrapped, (5, 4)) is sampling.plan(inner, (5, 4))
    reads = pixelsr.check_causality(wrapped, (2, 3)).reads
    assert torch.equal(reads, pixelsr.check_causality(model, (2, 3)).reads)
    field = pixelsr.receptive_field(wrapped, (3, 3))
    assert torch.equal(field, pixelsr.receptive_field(model, (3, 3)))
    images = images * 64
    assert evaluation.evaluate(wrapped, images) == evaluation.evaluate(model, images)


def test_a_model_with_a_part_called_module_is_no_wrapper():
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = network()

    model = Own()
    assert unwrap(model) is model
    assert unwrap("no model") == "no model"
