"""Tests of the origins of elements: layouts are found from them, and ambiguous ones are refused."""

import itertools

import numpy as np
import pytest

from pixelsr.sampling.plan.origins import (
    ZERO,
    Unstructured,
    given_parts,
    layout_of,
    of_given,
    of_map,
    parts,
    reads_of,
)

SIZES = [(3, 4, 5), (4, 3, 3), (1, 4, 5), (3, 1, 5), (3, 4, 1), (3, 1, 1), (1, 1, 5), (1, 1, 1)]
"""Channels, height and width."""


def canonical(origins):
    return layout_of(origins).canonical(origins)


def check_layout(moved, expected):
    """Check that the layout of a tensor gives ``[channels, height, width]``, and back."""
    layout = layout_of(moved)
    assert np.array_equal(layout.canonical(moved), expected)
    assert np.array_equal(layout.restored(layout.canonical(moved)), moved)
    assert layout.shape == moved.shape


def test_an_origin_is_a_map_a_channel_and_a_position():
    origins = of_map(7, 3, 4, 5)
    number, channel, row, col = parts(origins)
    assert (number == 7).all()
    assert np.array_equal([channel, row, col], np.indices((3, 4, 5)))
    number, element = given_parts(of_given(2, (3, 4)))
    assert (number == 2).all()
    assert np.array_equal(element, np.arange(12).reshape(3, 4))
    assert given_parts(np.array([ZERO])) == (0, 0)


@pytest.mark.parametrize("size", [(1, 1 << 14, 1), (1, 1, 1 << 14), (1 << 18, 1, 1)])
def test_a_map_that_is_too_large_is_refused(size):
    with pytest.raises(Unstructured, match=r"has \d+ channels of \d+ x \d+, which is too large"):
        of_map(1, *size)


# Layouts.


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_order_of_axes_is_found(order):
    made = of_map(1, 3, 4, 5)
    check_layout(made.transpose(order), made)
    check_layout(made.transpose(order)[None, :, None], made)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("size", [(3, 4, 5), (4, 4, 4)])
def test_flattened_axes_are_found(size, axis, order):
    made = of_map(1, *size)
    moved = made.transpose(order)
    shape = list(moved.shape)
    shape[axis : axis + 2] = [shape[axis] * shape[axis + 1]]
    check_layout(moved.reshape(shape), made)
    check_layout(moved.reshape(-1), made)


def test_split_channels_are_found():
    made = of_map(1, 6, 4, 5)
    check_layout(made.reshape(2, 3, 4, 5), made)
    check_layout(made.reshape(2, 3, 4, 5).transpose(0, 2, 3, 1), made)
    exchanged = made.reshape(2, 3, 4, 5).swapaxes(0, 1)
    check_layout(exchanged, exchanged.reshape(6, 4, 5))


def test_channels_between_rows_and_columns_are_found():
    made = of_map(1, 4, 4, 6)
    shuffled = made.reshape(2, 2, 4, 6).transpose(2, 0, 3, 1).reshape(8, 12)
    check_layout(shuffled, made)


@pytest.mark.parametrize("size", SIZES)
def test_maps_that_are_one_wide_keep_their_axes(size):
    made = of_map(1, *size)
    check_layout(made, made)
    check_layout(made[None], made)


def test_the_layout_is_found_between_zeros_and_constants():
    made = of_map(1, 3, 4, 5)
    padded = np.pad(made, ((0, 0), (1, 2), (3, 0)), constant_values=ZERO)
    check_layout(padded.transpose(1, 2, 0), padded)
    joined = np.concatenate([of_given(1, (2, 4, 5)), made, np.full((1, 4, 5), ZERO)])
    check_layout(joined.transpose(2, 0, 1), joined)


def test_given_elements_alone_have_the_plain_layout():
    given = of_given(1, (2, 3, 4, 5))
    check_layout(given, given.reshape(6, 4, 5))
    check_layout(of_given(1, (3,)), of_given(1, (3, 1, 1)))


MADE = of_map(1, 4, 4, 6)
REARRANGED = {
    "rows reversed": MADE[:, ::-1],
    "columns reversed": MADE[..., ::-1],
    "every second row": MADE[:, ::2],
    "every second column": MADE[..., ::2],
    "a row repeated": MADE[:, [0, 0, 1, 2]],
    "rows rolled": np.roll(MADE, 1, 1),
    "columns rolled": np.roll(MADE, 1, 2),
    "blocks": MADE.reshape(4, 2, 2, 6).swapaxes(1, 2),
    "a diagonal": MADE[:, np.arange(4), np.arange(4)],
    "skewed": np.stack([np.roll(MADE[:, row], row, axis=-1) for row in range(4)], 1),
    "channels by row": np.stack([np.roll(MADE[:, row], row, axis=0) for row in range(4)], 1),
    "maps by column": np.where(np.arange(6) < 4, MADE, of_map(2, 4, 4, 6)),
    "maps by row": np.where(np.arange(4) % 2, MADE.swapaxes(1, 2), of_map(2, 4, 6, 4)),
    "shifted by row": np.stack([np.roll(MADE[:, 0], row, axis=-1) for row in range(4)], 1),
}


@pytest.mark.parametrize("origins", REARRANGED.values(), ids=REARRANGED.keys())
def test_rearranged_positions_are_refused(origins):
    with pytest.raises(Unstructured, match="rearranges positions"):
        reads_of(canonical(origins))


# What channels read.


def check_reads(origins, expected, inside=None):
    """Check the (map, channel, row, column) that each channel reads."""
    reads, found = reads_of(origins)
    assert list(zip(reads.map, reads.channel, reads.dr, reads.dc, strict=True)) == expected
    assert np.array_equal(found, origins >= 0 if inside is None else inside)


def test_padding_and_cropping_are_offsets():
    made = of_map(3, 2, 4, 5)
    check_reads(made, [(3, 0, 0, 0), (3, 1, 0, 0)])
    check_reads(made[:, 1:, 2:], [(3, 0, 1, 2), (3, 1, 1, 2)])
    check_reads(made[:, :-1, :-2], [(3, 0, 0, 0), (3, 1, 0, 0)])
    padded = np.pad(made, ((0, 0), (1, 0), (2, 3)), constant_values=ZERO)
    check_reads(padded, [(3, 0, -1, -2), (3, 1, -1, -2)])
    check_reads(padded[:, :-1, 1:], [(3, 0, -1, -1), (3, 1, -1, -1)])


def test_channels_may_come_from_several_maps():
    first, second = of_map(1, 2, 4, 5), of_map(2, 1, 4, 5)
    shifted = np.pad(second, ((0, 0), (1, 0), (0, 0)), constant_values=ZERO)[:, :-1]
    joined = np.concatenate([first[::-1], of_given(1, (1, 4, 5)), shifted])
    check_reads(joined, [(1, 1, 0, 0), (1, 0, 0, 0), (-1, 0, 0, 0), (2, 0, -1, 0)])
    reads, _ = reads_of(joined)
    assert reads.distinct() == [(1, 0, 0), (-1, 0, 0), (2, -1, 0)]
    assert len(reads[[0, 3]]) == 2


def test_a_channel_of_two_offsets_is_refused():
    made = of_map(1, 2, 4, 5)
    two = made.copy()
    two[1, 2:] = made[1, 1:-1]
    with pytest.raises(Unstructured, match="rearranges positions or mixes feature maps"):
        reads_of(two)
    with pytest.raises(Unstructured, match="rearranges positions or mixes feature maps"):
        reads_of(of_map(1, 2, 4, 4).swapaxes(1, 2))


def test_a_whole_map_is_told_from_its_parts():
    made = of_map(3, 2, 4, 5)

    def is_whole(origins, number=3, channels=2):
        return reads_of(origins)[0].is_whole(number, channels)

    assert is_whole(made)
    assert not is_whole(made, number=2)
    assert not is_whole(made, channels=3)
    assert not is_whole(made[:1])
    assert not is_whole(made[::-1])
    assert not is_whole(made[:, 1:])
    assert not is_whole(made[..., 1:])
