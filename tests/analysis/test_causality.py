import copy
import random

import pytest
import torch
from torch import nn

import pixelsr
from pixelsr import CausalityError, check_causality
from pixelsr.analysis.causality import Position, relation
from tests.support import faulty
from tests.support.helpers import randomize


def positions(height, width, colors=3):
    return [
        Position(row, column, color)
        for row in range(height)
        for column in range(width)
        for color in range(colors)
    ]


def past_pairs(height, width, colors=3):
    every = positions(height, width, colors)
    return [(output, input) for i, output in enumerate(every) for input in every[:i]]


def small_prior(**options):
    sizes = {"channels": 8, "layers": 4, "kernel_size": 3, "first_kernel_size": 3}
    return pixelsr.GatedPixelCNN(**{**sizes, "head_channels": 16, "levels": 4, **options})


@pytest.mark.parametrize("colors", [1, 2, 3, 4])
def test_gated_pixelcnn_reads_all_of_the_past(colors):
    model = randomize(small_prior(channels=13, colors=colors))
    report = check_causality(model)
    values = 20 * colors
    assert torch.equal(report.reads, torch.ones(values, values, dtype=torch.bool).tril(-1))
    assert report.blind == []
    assert "no blind spot" in str(report)


@pytest.mark.parametrize("colors", [1, 2, 3, 4])
def test_pixelcnn_is_blind_above_on_the_right_and_nowhere_else(colors):
    model = pixelsr.PixelCNN(
        channels=17, layers=5, first_kernel_size=3, head_channels=49, colors=colors, levels=4
    )
    report = check_causality(randomize(model))
    assert report.blind == [
        (output, input)
        for output, input in past_pairs(5, 4, colors)
        if input.row < output.row and input.column - output.column > output.row - input.row
    ]
    assert "a row above" in str(report)


def test_super_resolution_is_checked_with_a_random_small_image():
    conditioning = pixelsr.ConditioningNetwork(channels=4, blocks=1, scale_factor=2, levels=4)
    model = randomize(pixelsr.PixelRecursiveSR(small_prior(channels=13, layers=3), conditioning))
    report = check_causality(model, (3, 4))
    assert report.image_size == (4, 4)  # rounded up to a multiple of scale_factor
    assert report.blind == []
    given = torch.zeros(1, 3, 1, 2, dtype=torch.uint8)
    assert check_causality(model, (2, 4), low_res=given).blind == []


def test_a_prior_at_default_initialization_is_seen_to_read_its_past():
    report = check_causality(pixelsr.GatedPixelCNN(layers=3, channels=32, levels=8), (3, 2))
    assert report.blind == []


FUTURE = {
    "halves_grouped_as_one": ("a later color of its own pixel", "eval"),
    "state_to_state_padded_below": ("a row below", "eval"),
    "right_to_left_shifted_up": ("a row below", "eval"),
    "right_to_left_not_shifted": ("a pixel to the right", "eval"),
    "diagonal_bilstm_padded_below": ("a row below", "eval"),
    "diagonal_bilstm_shifted_up": ("a row below", "eval"),
    "diagonal_bilstm_not_shifted": ("a pixel to the right", "eval"),
    "row_lstm_gates_grouped_as_one": ("a later color of its own pixel", "eval"),
    "batch_norm_over_space": ("a row below", "train"),
    "group_norm_over_space": ("a row below", "eval"),
    "instance_norm_over_space": ("a row below", "eval"),
    "first_layer_with_mask_b": ("itself", "eval"),
    "vertical_stack_not_shifted": ("a pixel to the right", "eval"),
}


@pytest.mark.parametrize("name", FUTURE)
def test_a_network_that_reads_the_future_is_refused(name):
    model = randomize(getattr(faulty, name)())
    colors = 1 if isinstance(model, faulty.DiagonalLSTM) else 3
    where, mode = FUTURE[name]
    with pytest.raises(CausalityError, match=f"{where}, in {mode} mode$") as caught:
        check_causality(model, colors=colors, levels=faulty.LEVELS)
    assert caught.value.mode == mode
    assert relation(caught.value.output, caught.value.input) == where


def _own_pixel(output, past):
    return past[:2] == output[:2]


def _color_before_or_last_of_the_left(output, past):
    """Return True for the pairs that a network with two mask-A layers cannot see.

    Group c of the first layer reads only the colors before c, so no group carries the last color to
    the right.
    """
    left = (output.row, output.column - 1)
    last_color = (output.color, past.color) == (0, 2) and past[:2] == left
    return last_color or (_own_pixel(output, past) and past.color == output.color - 1)


def _left_beyond_the_first_layer(output, past):
    return past.row == output.row and past.column < output.column - 1


def _last_value_of_the_row_above(output, past):
    """Return True for the last value of the row above, more than three columns to the right.

    The first layer sees three columns to the right directly.
    """
    return past == (output.row - 1, 5, 2) and output.column < 5 - 3


def _last_value_above_but_for_its_neighbors(output, past):
    """Return True for the last value of the row above, more than one column to the right.

    The first layer sees one column to the right directly.
    """
    return past == (output.row - 1, 3, 2) and output.column < 3 - 1


BLIND = {
    "mask_a_twice": ((5, 4), _color_before_or_last_of_the_left),
    "rgb_mask_left_out": ((5, 4), _own_pixel),
    "mask_b_zeroes_the_center_row": ((5, 4), _left_beyond_the_first_layer),
    "shared_first_layer": ((3, 6), _last_value_of_the_row_above),
    "diagonal_bilstm_without_a_column_of_zeros": ((5, 4), _last_value_above_but_for_its_neighbors),
}


@pytest.mark.parametrize("name", BLIND)
def test_a_network_that_misses_some_of_the_past_is_shown_blind_there(name):
    size, missing = BLIND[name]
    report = check_causality(randomize(getattr(faulty, name)()), size)
    assert report.blind == [pair for pair in past_pairs(*size) if missing(*pair)]


def test_the_sound_counterparts_of_the_faulty_networks_pass():
    assert check_causality(randomize(faulty.gated())).blind == []
    assert check_causality(randomize(faulty.diagonal_bilstm())).blind == []
    check_causality(randomize(faulty.row_lstm()))
    diagonal = randomize(faulty.DiagonalLSTM())
    assert check_causality(diagonal, colors=1, levels=faulty.LEVELS).blind == []


@pytest.mark.parametrize(
    ("offset", "where", "output", "input", "message"),
    [
        ((0, 0, 0), "itself", (0, 0, 0), (0, 0, 0), "red at (0, 0) reads itself, in eval mode"),
        (
            (0, 0, 1),
            "a later color of its own pixel",
            (0, 0, 0),
            (0, 0, 1),
            "red at (0, 0) reads green at (0, 0), a later color of its own pixel, in eval mode",
        ),
        (
            (0, 2, -1),
            "a pixel to the right",
            (0, 0, 1),
            (0, 2, 0),
            "green at (0, 0) reads red at (0, 2), a pixel to the right, in eval mode",
        ),
        (
            (1, -2, 0),
            "a row below",
            (0, 2, 0),
            (1, 0, 0),
            "red at (0, 2) reads red at (1, 0), a row below, in eval mode",
        ),
    ],
    ids=["itself", "later_color", "right", "below"],
)
def test_the_error_names_output_input_relation_and_mode(offset, where, output, input, message):
    with pytest.raises(CausalityError) as caught:
        check_causality(faulty.Reader(*offset), image_size=(2, 3))
    assert str(caught.value) == message
    assert (caught.value.output, caught.value.input, caught.value.mode) == (output, input, "eval")
    assert relation(caught.value.output, caught.value.input) == where


def test_reads_are_in_raster_order_and_no_more_than_there_are():
    report = check_causality(faulty.Reader(-1, 1, 1), image_size=(3, 4))
    every = positions(3, 4)
    expected = {
        (out, past)
        for out in every
        for past in every
        if past == (out.row - 1, out.column + 1, out.color + 1)
    }
    seen = {(every[i], every[j]) for i, j in report.reads.nonzero().tolist()}
    assert seen == expected
    assert set(report.blind) == set(past_pairs(3, 4)) - expected


def test_a_read_that_shows_in_some_images_only_is_found():
    class Gated(nn.Module):  # like a ReLU: reads the left pixel only below a bright one
        def forward(self, images):
            left = nn.functional.pad(images, (1, 0))[..., :-1]
            above = nn.functional.pad(left, (0, 0, 1, 0))[:, :, :-1]
            read = torch.where(above < 4, torch.zeros_like(left), left)
            return read.double().unsqueeze(1).expand(-1, 8, -1, -1, -1)

    report = check_causality(Gated(), colors=1, levels=8)
    seen = {pair for pair in past_pairs(5, 4, 1) if pair not in report.blind}
    for row in range(1, 5):
        for column in range(1, 4):
            output = Position(row, column, 0)
            assert (output, Position(row, column - 1, 0)) in seen
            assert (output, Position(row - 1, column - 1, 0)) in seen


def test_the_summary_groups_the_blind_pairs_by_relation():
    lines = str(check_causality(randomize(faulty.rgb_mask_left_out()))).splitlines()
    assert lines == [
        "causal in train and eval mode, on 5x4 pixels of 3 colors; "
        "blind to 60 of 1770 pairs of an output and its past:",
        "  an earlier color of its own pixel: 60 pairs, "
        "as green at (0, 0) never reads red of its own pixel",
    ]


class Troubled(nn.Module):
    """A network that changes its surroundings in many ways, in front of a correct one."""

    def __init__(self):
        super().__init__()
        self.model = faulty.gated()
        self.dropout = nn.Dropout(0.3)
        self.norm = nn.BatchNorm2d(3)  # moves its statistics in every forward pass
        self.register_buffer("calls", torch.zeros(()))
        self.model.layers[0].horizontal.eval()

    def forward(self, images):
        self.calls += 1
        self.norm(torch.rand(2, 3, 2, 2, dtype=self.norm.weight.dtype))
        logits = self.model(images)
        return self.dropout(logits) + self.calls


def test_the_model_and_the_random_generators_are_left_as_they_were():
    model = randomize(Troubled())
    before = copy.deepcopy(model)
    state = torch.get_rng_state()
    check_causality(model, levels=faulty.LEVELS)
    assert torch.equal(torch.get_rng_state(), state)
    after = model.state_dict()
    for name, tensor in before.state_dict().items():
        assert torch.equal(tensor, after[name]), name
        assert tensor.dtype == after[name].dtype
    assert [m.training for m in model.modules()] == [m.training for m in before.modules()]
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_random_numbers_of_a_network_are_its_own_and_differ_between_images():
    drawn = []

    class Sampler(faulty.Reader):
        def forward(self, images):
            drawn.append(torch.rand(()).item())
            return super().forward(images)

    torch.manual_seed(1)
    check_causality(Sampler(0, -1, 0), (2, 2))
    first, calls = set(drawn), len(drawn)
    torch.manual_seed(2)
    check_causality(Sampler(0, -1, 0), (2, 2))
    assert drawn[:calls] == drawn[calls:]
    assert len(first) > 1


def test_dropout_and_moving_buffers_are_not_taken_for_leaks():
    assert check_causality(randomize(Troubled()), levels=faulty.LEVELS).blind == []


def test_a_foreign_module_that_insists_on_float32_is_checked_as_it_is():
    class Float32(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 8, (1, 3))

        def forward(self, images):
            x = nn.functional.pad(images.float(), (3, -1))
            return self.conv(x).unsqueeze(2)

    report = check_causality(randomize(Float32()), (2, 5), colors=1, levels=8)
    assert all(past.row < out.row or past.column < out.column - 3 for out, past in report.blind)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_module_that_keeps_a_computed_weight_can_be_checked():
    model = randomize(faulty.gated())
    nn.utils.weight_norm(model.layers[0].link)
    model(torch.zeros(1, 3, 2, 2, dtype=torch.uint8))
    with pytest.raises(RuntimeError):
        copy.deepcopy(model)
    assert check_causality(model).blind == []


class Constant(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, images):
        n, colors, height, width = images.shape
        return self.make(torch.zeros(n, 256, colors, height, width))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: x.transpose(1, 2), r"logits \[N, L, C, H, W\] = \[1, 256, 3, 5, 4\], got"),
        (lambda x: x[..., :-1], r"got \[1, 256, 3, 5, 3\]"),
        (lambda x: x.log() * 0, "NaN logits"),
        (lambda x: [x], "must return a tensor of logits, got list"),
        (lambda x: x + random.random(), "differ from call to call in eval mode"),
    ],
    ids=["layout", "size", "nan", "type", "unrepeatable"],
)
def test_outputs_of_which_nothing_can_be_told_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        check_causality(Constant(make))


@pytest.mark.parametrize("size", [(0, 4), (5,), 5, (5, 4, 3), (5.0, 4)])
def test_a_wrong_image_size_is_refused(size):
    with pytest.raises(ValueError, match="image_size must be two positive ints"):
        check_causality(Constant(lambda x: x), size)


def test_a_small_image_of_another_size_is_refused():
    conditioning = pixelsr.ConditioningNetwork(channels=4, blocks=1, scale_factor=2, levels=4)
    model = pixelsr.PixelRecursiveSR(small_prior(), conditioning)
    with pytest.raises(ValueError, match="2 times the size of low_res"):
        check_causality(model, low_res=torch.zeros(1, 3, 2, 2, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"low_res must be \[1, C, h, w\]"):
        check_causality(model, low_res=torch.zeros(2, 3, 3, 2, dtype=torch.uint8))


def test_colors_and_levels_are_those_of_the_model():
    class Own(nn.Module):
        """A prior whose attributes are correct, unlike its config."""

        colors, levels = 2, 4

        def __init__(self):
            super().__init__()
            self.net = randomize(small_prior(colors=2))
            self.config = {"unlike": "ours"}

        def forward(self, images):
            return self.net(images)

    model = Own()
    assert check_causality(model, (2, 2)).colors == 2
    model.config = pixelsr.GatedPixelCNN.Config(colors=3, levels=8)
    assert check_causality(model, (2, 2)).colors == 2
    model.levels = 4.0
    with pytest.raises(ValueError, match=r"levels must be 2 to 256, got 4\.0"):
        check_causality(model, (2, 2))


def test_something_else_than_a_module_is_refused():
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got function"):
        check_causality(lambda images: images)
