"""Tests of the stateless functions: their definitions, and the arguments that they refuse."""

import pytest
import torch
import torch.nn.functional as F

from pixelsr import functional

LOGITS = torch.randn(2, 8, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
IMAGES = torch.randint(8, (2, 3, 4, 5), dtype=torch.uint8)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_nats_are_the_summed_cross_entropy(layout):
    expected = F.cross_entropy(LOGITS, IMAGES.long(), reduction="none").flatten(1).sum(1)
    logits = LOGITS.contiguous(memory_format=layout)
    torch.testing.assert_close(functional.nll(logits, IMAGES), expected)


def test_nats_of_half_precision_logits_are_summed_in_float32():
    logits = LOGITS.bfloat16()
    assert torch.equal(functional.nll(logits, IMAGES), functional.nll(logits.float(), IMAGES))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (
            lambda: functional.nll(LOGITS[0], IMAGES),
            r"logits \[N, L, C, H, W\].* got \[8, 3, 4, 5\]",
        ),
        (lambda: functional.nll(LOGITS, IMAGES[:1]), r"got \[2, 8, 3, 4, 5\] and \[1, 3, 4, 5\]"),
        (lambda: functional.nll(LOGITS, IMAGES.long()), "float and uint8, got .* torch.int64"),
        (lambda: functional.nll(LOGITS[:, :4], IMAGES + 4), "intensities must be below 4, got"),
        (
            lambda: functional.gate(LOGITS[0, :, :, 0, 0]),
            r"float .* or \[2 p, H, W\], got .* \[8, 3\]",
        ),
        (lambda: functional.gate(IMAGES), r"float \[N, 2 p, H, W\] or .*, got torch.uint8"),
        (lambda: functional.to_logits(LOGITS[0], 3, 2), r"\[N, 3 \* 2, H, W\], got \[8, 3, 4, 5\]"),
        (
            lambda: functional.add_logits(LOGITS[..., :2], LOGITS),
            r"must have the size of the images, got .* \[2, 8, 3, 4, 5\] and \[2, 8, 3, 4, 2\]",
        ),
        (
            lambda: functional.normalize_images(IMAGES.float(), 3, 8, torch.float32),
            r"images must be uint8 \[N, 3, H, W\], got torch.float32 \[2, 3, 4, 5\]",
        ),
        (
            lambda: functional.normalize_images(IMAGES, 1, 8, torch.float32),
            r"images must be uint8 \[N, 1, H, W\], got torch.uint8 \[2, 3, 4, 5\]",
        ),
    ],
)
def test_what_does_not_fit_gets_one_clear_sentence(call, says):
    with pytest.raises(ValueError, match=says):
        call()
