import itertools

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from pixelsr import masks
from pixelsr.masks import causal_mask, channel_groups, group_sizes, live_rectangle

TYPES = ["A", "B", "V-first", "V"]
KERNELS = [(3, 3), (5, 5), (7, 3), (3, 7)]
ROWS = [(1, 1), (1, 5), (5, 1)]
EVERY = [
    (kernel, kind)
    for kernel, kind in itertools.product(KERNELS + ROWS, TYPES)
    if kind != "V-first" or kernel[0] > 1
]


@pytest.mark.parametrize("colors", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", range(14))
def test_groups_share_the_channels_and_the_first_ones_take_what_is_left_over(channels, colors):
    sizes = group_sizes(channels, colors)
    assert sizes == [channels // colors + (g < channels % colors) for g in range(colors)]
    assert sum(sizes) == channels
    assert max(sizes) - min(sizes) <= 1


def test_fewer_channels_than_colors_leave_the_last_groups_empty():
    assert group_sizes(2, 3) == [1, 1, 0]
    assert channel_groups(2, 3) == (0, 1)


def test_each_part_is_grouped_by_itself():
    assert channel_groups(8, 3) == (0, 0, 0, 1, 1, 1, 2, 2)
    assert channel_groups(8, 3, parts=2) == (0, 0, 1, 2) * 2
    assert channel_groups(8, 3, parts=4) == (0, 1) * 4


def _is_live(kind, row, column, reads, own):
    """Return True if output group `own` may read input group `reads` at this offset."""
    if row != 0:
        return row < 0
    if kind in ("V", "V-first"):
        return kind == "V"
    if column != 0:
        return column < 0
    return reads < own if kind == "A" else reads <= own


@pytest.mark.parametrize(("kernel", "kind"), EVERY, ids=str)
@pytest.mark.parametrize(
    ("out_channels", "in_channels", "colors", "in_parts", "out_parts"),
    [(7, 3, 3, 1, 1), (8, 4, 3, 1, 2), (4, 12, 2, 3, 1), (2, 2, 4, 1, 1), (3, 5, 1, 1, 1)],
)
def test_a_mask_is_what_its_definition_says(
    kernel, kind, out_channels, in_channels, colors, in_parts, out_parts
):
    mask = causal_mask(
        in_channels,
        out_channels,
        kernel,
        mask_type=kind,
        colors=colors,
        in_parts=in_parts,
        out_parts=out_parts,
    )
    assert mask.dtype == torch.bool
    assert mask.shape == (out_channels, in_channels, *kernel)
    own, reads = (
        channel_groups(out_channels, colors, out_parts),
        channel_groups(in_channels, colors, in_parts),
    )
    for o, i, row, column in itertools.product(*map(range, mask.shape)):
        offset = (row - kernel[0] // 2, column - kernel[1] // 2)
        expected = _is_live(kind, *offset, reads[i], own[o])
        assert bool(mask[o, i, row, column]) == expected, (o, i, row, column)


@pytest.mark.parametrize(("kernel", "kind"), EVERY, ids=str)
def test_the_live_rectangle_holds_exactly_the_live_taps(kernel, kind):
    live = causal_mask(6, 6, kernel, mask_type=kind).any(0).any(0)
    rows, columns = live.any(1).nonzero(), live.any(0).nonzero()
    assert live_rectangle(kernel, kind) == (int(rows.max()) + 1, int(columns.max()) + 1)


def test_mask_b_is_mask_a_and_the_own_group():
    a, b = (causal_mask(9, 9, (3, 3), mask_type=kind) for kind in "AB")
    same_group = torch.block_diag(*[torch.ones(3, 3)] * 3).bool()
    assert torch.equal(b[..., 1, 1] & ~a[..., 1, 1], same_group)
    a, b = a.clone(), b.clone()
    a[..., 1, 1] = b[..., 1, 1] = False
    assert torch.equal(a, b)


def test_a_mask_made_while_tracing_or_in_inference_mode_is_not_kept_for_later():
    masks._cached_mask.cache_clear()
    with FakeTensorMode():
        causal_mask(7, 5, (3, 3), mask_type="A")
    assert type(causal_mask(7, 5, (3, 3), mask_type="A")) is torch.Tensor
    masks._cached_mask.cache_clear()
    with torch.inference_mode():
        causal_mask(7, 5, (3, 3), mask_type="A")
    assert not causal_mask(7, 5, (3, 3), mask_type="A").is_inference()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, 6, (3, 3), "C", {}), r"mask_type must be one of .*, got 'C'"),
        ((3, 6, (4, 3), "A", {}), r"kernel_size must be odd and positive, got \(4, 3\)"),
        ((3, 6, (3, 0), "A", {}), r"kernel_size must be odd and positive, got \(3, 0\)"),
        ((3, 6, (1, 3), "V-first", {}), r"needs a kernel of 3 rows or more, got \(1, 3\)"),
        ((3, 6, (3, 3), "A", {"colors": 0}), "colors must be positive, got 0"),
        ((3, 6, (3, 3), "A", {"in_parts": 2}), "3 channels cannot be cut into 2 equal parts"),
        ((3, 6, (3, 3), "A", {"out_parts": 0}), "6 channels cannot be cut into 0 equal parts"),
    ],
)
def test_a_mask_that_cannot_be_is_refused(arguments, message):
    *sizes, mask_type, options = arguments
    with pytest.raises(ValueError, match=message):
        causal_mask(*sizes, mask_type=mask_type, **options)
