"""Cases of the pixel cross-entropy, and the checks that every backend must pass."""

import dataclasses

import torch

from pixelsr import functional
from pixelsr.functional import LogitsHead
from pixelsr.ops.masked_conv2d.reference import masked_conv2d_ref
from tests.support.helpers import normal, random_images


@dataclasses.dataclass(frozen=True)
class Case:
    """The sizes of the two output layers; 0 for a missing one."""

    colors: int = 3
    levels: int = 7
    channels: int = 5
    hidden: int = 0
    conditioning: int = 4
    bias: bool = True
    scale: float = 1.5
    size: tuple = (3, 4, 5)
    layout: torch.memory_format = torch.contiguous_format
    sliced: bool = False

    def __str__(self):
        odd = [
            f"{field.name}={getattr(self, field.name)}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        ]
        return " ".join(odd) or "plain"

    def outputs(self, tensors):
        """Return the prior's and the conditioning network's LogitsHead, built from `tensors`."""
        given = iter(tensors)
        bias = (lambda: next(given)) if self.bias else (lambda: None)
        prior = LogitsHead(next(given), next(given), bias())
        if self.hidden:
            prior = prior._replace(hidden_weight=next(given), hidden_bias=bias())
        if not self.conditioning:
            return prior, None
        return prior, LogitsHead(next(given), next(given), bias())

    def logits(self, tensors):
        """Return the logits of B and A."""
        prior, conditioning = self.outputs(tensors)
        x = prior.features
        if self.hidden:
            x = torch.relu(
                masked_conv2d_ref(x, prior.hidden_weight, prior.hidden_bias, "B", self.colors)
            )
        b = masked_conv2d_ref(x, prior.weight, prior.bias, "B", self.colors)
        b = functional.to_logits(b, self.colors, self.levels)
        if conditioning is None:
            return b, None
        a = torch.nn.functional.conv2d(*conditioning[:3])
        return b, functional.to_logits(a, self.colors, self.levels)


CASES = [
    Case(),
    Case(hidden=7),
    Case(hidden=8, layout=torch.channels_last),
    Case(hidden=7, sliced=True),
    Case(sliced=True, layout=torch.channels_last),
    Case(conditioning=0),
    Case(conditioning=0, hidden=4, bias=False),
    Case(bias=False, scale=1.0),
    Case(colors=1, levels=2, channels=1),
    Case(colors=1, levels=256, layout=torch.channels_last),
    Case(levels=2, hidden=3, size=(5, 2, 3)),
    Case(levels=256, channels=70, conditioning=33, size=(1, 5, 4)),
    Case(channels=2),
    Case(colors=4, levels=16, hidden=2, size=(1, 1, 1)),
]


def _placed(x, case):
    """Return `x` in the case's layout; with `sliced`, as the middle of a larger buffer of NaN."""
    if not case.sliced:
        return x.contiguous(memory_format=case.layout)
    larger = torch.nn.functional.pad(x, (1, 2, 2, 1, 1, 3, 1, 0), value=torch.nan)
    larger = larger.contiguous(memory_format=case.layout)
    return larger[1:, 1:-3, 2:-1, 1:-2]


def leaves(case, dtype, device="cpu"):
    """Return images, and the tensors of both outputs, which require gradients."""
    n, height, width = case.size
    outputs, k = case.colors * case.levels, case.hidden or case.channels
    made = [_placed(2 * normal(n, case.channels, height, width), case)]
    made += _layer(outputs, k, case, 1)
    if case.hidden:
        made += _layer(case.hidden, case.channels, case, 2)
    if case.conditioning:
        made.append(_placed(2 * normal(n, case.conditioning, height, width, seed=3), case))
        made += _layer(outputs, case.conditioning, case, 4)
    images = random_images(n, case.colors, height, width, case.levels).to(device)
    images = images.contiguous(memory_format=case.layout)
    return images, [tensor.to(device, dtype).requires_grad_() for tensor in made]


def _layer(outputs, inputs, case, seed):
    weight = 2 * normal(outputs, inputs, 1, 1, seed=seed) / max(inputs, 1) ** 0.5
    return [weight, normal(outputs, seed=seed)] if case.bias else [weight]


def make(case, dtype, device="cpu"):
    """Return images and both outputs, without gradients."""
    images, tensors = leaves(case, dtype, device)
    return images, *case.outputs([tensor.detach() for tensor in tensors])


def from_features(case, images, tensors, backend):
    prior, conditioning = case.outputs(tensors)
    return functional.pixel_cross_entropy(
        prior, images, conditioning, conditioning_scale=case.scale, backend=backend
    )


def from_logits(case, images, tensors, backend):
    b, a = case.logits(tensors)
    return functional.pixel_cross_entropy_with_logits(
        b, images, a, conditioning_scale=case.scale, backend=backend
    )


def results(call, case, images, tensors, backend):
    """Return both terms, and the gradients of a loss that weighs each image differently."""
    nll = call(case, images, tensors, backend)
    weights = torch.arange(1, 1 + len(images), device=images.device, dtype=nll[0].dtype)
    loss = sum((some * weights * (term + 1)).sum() for term, some in enumerate(nll))
    return [*nll, *torch.autograd.grad(loss, tensors)]


def close(call, case, backend, dtype, device="cpu"):
    """Compare a backend with the reference: forward and all gradients."""
    images, tensors = leaves(case, dtype, device)
    exact = [tensor.detach().double().requires_grad_() for tensor in tensors]
    expected = results(call, case, images, exact, "reference")
    got = results(call, case, images, tensors, backend)
    tolerance = 1e-12 if dtype == torch.float64 else 3e-6
    for ours, theirs in zip(got, expected, strict=True):
        bound = tolerance * max(1.0, theirs.abs().max().item())
        torch.testing.assert_close(ours.double(), theirs, rtol=tolerance, atol=bound)
    return images, tensors


def no_worse_than_pytorch(call, case, backend, dtype, device="cpu"):
    """Check in half precision that errors against float64 are at most twice the reference's."""
    images, tensors = leaves(case, dtype, device)
    exact = [tensor.detach().double().requires_grad_() for tensor in tensors]
    expected = results(call, case, images, exact, "reference")
    ours = results(call, case, images, tensors, backend)
    theirs = results(call, case, images, tensors, "reference")
    for mine, other, right in zip(ours, theirs, expected, strict=True):
        errors = [(some.double() - right).norm().item() for some in (mine, other)]
        assert errors[0] <= 2 * errors[1], (tuple(right.shape), errors)
