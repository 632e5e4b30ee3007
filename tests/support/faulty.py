"""Small networks, each correct except for one mistake that published implementations have made."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelsr import DiagonalBiLSTM, GatedPixelCNN, RowLSTM, functional
from pixelsr.masks import causal_mask
from pixelsr.nn import DiagonalBiLSTMLayer, GatedMaskedConv2d, MaskedConv2d

LEVELS = 4
CHANNELS = 14  # not divisible by 3 colors


def gated(layers: int = 4, first_kernel_size: int = 3) -> GatedPixelCNN:
    """Return the correct network that the mistakes are added to: no blind spot on 5x4 pixels."""
    return GatedPixelCNN(
        channels=CHANNELS,
        layers=layers,
        kernel_size=3,
        first_kernel_size=first_kernel_size,
        head_channels=25,
        levels=LEVELS,
    )


def halves_grouped_as_one() -> nn.Module:
    """Return a network that splits the tanh and sigmoid halves into color groups together."""
    model = gated()
    for layer in model.layers:
        layer.horizontal.out_parts = 1
    return model


def mask_a_twice() -> nn.Module:
    model = gated()
    again = MaskedConv2d(CHANNELS, CHANNELS, (1, 3), mask_type="A")
    model.horizontal_first = nn.Sequential(model.horizontal_first, again)
    return model


def rgb_mask_left_out() -> nn.Module:
    """Return a network whose center tap is all dead in mask A and all live in mask B."""
    model = gated()
    for module in model.modules():
        if isinstance(module, MaskedConv2d):
            module.colors = 1
    return model


class CenterRowZeroed(GatedMaskedConv2d):
    """A layer whose mask B zeroes the taps to the left together with those to the right."""

    def forward(self, x: Tensor, add: Tensor) -> tuple[Tensor, Tensor]:
        mask = causal_mask(
            self.in_channels,
            self.out_channels,
            self.kernel_size,
            mask_type="B",
            out_parts=self.out_parts,
        ).clone()
        mask[:, :, self.kernel_size[0] // 2, : self.kernel_size[1] // 2] = False
        y = F.conv2d(x, self.weight * mask, self.bias, padding=self.padding) + add
        return functional.gate(y), y


def mask_b_zeroes_the_center_row() -> nn.Module:
    model = gated()
    for layer in model.layers:
        layer.horizontal = CenterRowZeroed(
            CHANNELS, 2 * CHANNELS, (1, 3), mask_type="B", out_parts=2
        )
    return model


class SharedFirstLayer(GatedPixelCNN):
    """A network whose stacks share one masked 7x7 layer, and shift only the vertical stack."""

    def __init__(self) -> None:
        super().__init__(
            channels=CHANNELS, layers=3, kernel_size=5, head_channels=25, levels=LEVELS
        )
        self.vertical_first = nn.Identity()
        self.horizontal_first = MaskedConv2d(3, CHANNELS, 7, mask_type="A")
        self.layers[0].vertical = GatedMaskedConv2d(CHANNELS, 2 * CHANNELS, 5, mask_type="V-first")

    def forward(self, images: Tensor) -> Tensor:
        x = functional.normalize_images(images, 3, LEVELS, self.dtype)
        vertical = horizontal = self.horizontal_first(x)
        for layer in self.layers:
            vertical, horizontal = layer(vertical, horizontal)
        return self.head(F.relu(horizontal))


def shared_first_layer() -> nn.Module:
    return SharedFirstLayer()


class DiagonalLSTM(nn.Module):
    """A mask-A layer and a small bidirectional diagonal recurrence over the skewed map.

    Args:
        padded: "above" is correct: the two taps of the state-to-state convolution read the previous
            column in the same row and in the row above. "below" reads the row below instead.
        shifted: "down" is correct: the right-to-left map is shifted down by one row. "up" shifts it
            the wrong way, "not" leaves it unshifted.
    """

    def __init__(self, padded: str = "above", shifted: str = "down") -> None:
        super().__init__()
        self.padded, self.shifted = padded, shifted
        self.first = MaskedConv2d(1, CHANNELS, 3, mask_type="A", colors=1)
        self.recurrent = nn.ModuleList(nn.Conv1d(CHANNELS, CHANNELS, 2) for _ in range(2))
        self.out = nn.Conv2d(CHANNELS, LEVELS, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = images.to(self.first.weight.dtype) / (LEVELS - 1)
        x = self.first(F.pad(x, (0, 1)))  # one more column, or the last pixel never reaches down
        left_to_right = self.scan(x, self.recurrent[0])
        right_to_left = self.scan(x.flip(3), self.recurrent[1]).flip(3)
        if self.shifted == "down":
            right_to_left = F.pad(right_to_left, (0, 0, 1, 0))[:, :, :-1]
        elif self.shifted == "up":
            right_to_left = F.pad(right_to_left, (0, 0, 0, 1))[:, :, 1:]
        logits = self.out(left_to_right + right_to_left)[..., :-1]
        return logits.unsqueeze(2)  # [N, L, 1, H, W]

    def scan(self, x: Tensor, state_to_state: nn.Conv1d) -> Tensor:
        height, width = x.shape[2:]
        skewed = torch.stack(
            [F.pad(x[:, :, r], (r, height - 1 - r)) for r in range(height)], 2
        )  # [N, C, H, W + H - 1]
        state, states = torch.zeros_like(skewed[..., 0]), []
        padding = (1, 0) if self.padded == "above" else (0, 1)
        for column in skewed.unbind(3):
            state = torch.tanh(column + state_to_state(F.pad(state, padding)))
            states.append(state)
        out = torch.stack(states, 3)
        return torch.stack([out[:, :, r, r : r + width] for r in range(height)], 2)


def state_to_state_padded_below() -> nn.Module:
    return DiagonalLSTM(padded="below")


def right_to_left_shifted_up() -> nn.Module:
    return DiagonalLSTM(shifted="up")


def right_to_left_not_shifted() -> nn.Module:
    return DiagonalLSTM(shifted="not")


SIZES = {"channels": CHANNELS, "first_kernel_size": 3, "head_channels": 25, "levels": LEVELS}


def diagonal_bilstm() -> DiagonalBiLSTM:
    """Return the correct network of three colors that the mistakes below are added to."""
    return DiagonalBiLSTM(layers=2, **SIZES)


class NotShiftedDown(DiagonalBiLSTMLayer):
    """A layer that adds the right-to-left map unshifted or, with `up`, one row higher."""

    def __init__(self, up: bool) -> None:
        super().__init__(CHANNELS)
        self.up = up

    def forward(self, x: Tensor, conditioning: Tensor | None = None) -> Tensor:
        a, b = self.input_to_state(x).chunk(2, 1)
        left = functional.diagonal_lstm(a, self.state_to_state, self.initial_state)
        states = self.state_to_state_reverse, self.initial_state_reverse
        right = functional.diagonal_lstm(b, *states, reverse=True)
        if self.up:
            right = F.pad(right, (0, 0, 0, 1))[:, :, 1:]
        return self.out(left + right, add=x)


def diagonal_bilstm_not_shifted() -> nn.Module:
    model = diagonal_bilstm()
    model.layers[1] = NotShiftedDown(up=False)
    return model


def diagonal_bilstm_shifted_up() -> nn.Module:
    model = diagonal_bilstm()
    model.layers[1] = NotShiftedDown(up=True)
    return model


class PaddedBelow(DiagonalBiLSTMLayer):
    """A left-to-right recurrence whose tap for the row above reads the row below instead.

    Row r of the skewed map is shifted right by r: one row down and one column back in it are one
    row down and two columns back in the image.
    """

    def forward(self, x: Tensor, conditioning: Tensor | None = None) -> Tensor:
        gates, _ = self.input_to_state(x).chunk(2, 1)
        n, _, height, width = gates.shape
        hidden, cell = self.initial_state[:, None, :, None].expand(-1, n, -1, height)
        out = gates.new_zeros(n, CHANNELS, height, width)
        for column in range(height + width - 1):
            rows = range(max(0, column - width + 1), min(column + 1, height))
            below = F.pad(hidden, (0, 1))
            sums = F.conv1d(below, self.state_to_state.flip(2))  # the same row and the row below
            hidden, cell = hidden.clone(), cell.clone()
            for r in rows:
                o, f, i, g = (gates[:, :, r, column - r] + sums[:, :, r]).chunk(4, 1)
                cell[:, :, r] = torch.sigmoid(f) * cell[:, :, r] + torch.sigmoid(i) * torch.tanh(g)
                hidden[:, :, r] = torch.sigmoid(o) * torch.tanh(cell[:, :, r])
                out[:, :, r, column - r] = hidden[:, :, r]
        return self.out(out, add=x)


def diagonal_bilstm_padded_below() -> nn.Module:
    model = diagonal_bilstm()
    model.layers[1] = PaddedBelow(CHANNELS)
    return model


class NoColumnOfZeros(DiagonalBiLSTM):
    """A network without the added column of zeros.

    After mask A, no feature of a row knows the row's last value.
    """

    def features(self, images: Tensor, low_res: Tensor | None = None) -> Tensor:
        x = self.first(functional.normalize_images(images, 3, LEVELS, self.dtype))
        for layer in self.layers:
            x = layer(x)
        return F.relu(x)


def diagonal_bilstm_without_a_column_of_zeros() -> nn.Module:
    return NoColumnOfZeros(layers=2, **SIZES)


def row_lstm() -> RowLSTM:
    """Return the correct network that the mistake below is added to."""
    return RowLSTM(layers=2, **SIZES)


def row_lstm_gates_grouped_as_one() -> nn.Module:
    """Return a network that splits the four parts of the gates into color groups together."""
    model = row_lstm()
    for layer in model.layers:
        layer.input_to_state.out_parts = 1
    return model


def _normalized(norm: nn.Module) -> nn.Module:
    model = gated()
    model.horizontal_first = nn.Sequential(model.horizontal_first, norm)
    return model


def batch_norm_over_space() -> nn.Module:
    return _normalized(nn.BatchNorm2d(CHANNELS))


def group_norm_over_space() -> nn.Module:
    return _normalized(nn.GroupNorm(2, CHANNELS))


def instance_norm_over_space() -> nn.Module:
    return _normalized(nn.InstanceNorm2d(CHANNELS))


def first_layer_with_mask_b() -> nn.Module:
    model = gated()
    model.horizontal_first.mask_type = "B"
    return model


def vertical_stack_not_shifted() -> nn.Module:
    """Return a network whose vertical first layer also reads the whole current row."""
    model = gated()
    model.vertical_first.mask_type = "V"
    return model


class WeightDataMasked(MaskedConv2d):
    """A layer that masks by writing to `weight.data`, which autograd does not see."""

    def forward(self, x: Tensor) -> Tensor:
        mask = causal_mask(
            self.in_channels, self.out_channels, self.kernel_size, mask_type=self.mask_type
        )
        self.weight.data *= mask
        return F.conv2d(x, self.weight, self.bias, padding=self.padding)


class Reader(nn.Module):
    """A network whose logits are the image at a fixed offset: the smallest possible leak."""

    def __init__(self, row: int, column: int, color: int, colors: int = 3) -> None:
        super().__init__()
        self.offset, self.colors = (color, row, column), colors

    def forward(self, images: Tensor) -> Tensor:
        shape = images.shape[1:]
        x = images.double()
        for dim, (offset, size) in enumerate(zip(self.offset, shape, strict=True), 1):
            padding = [0, 0] * (3 - dim) + [max(0, -offset), max(0, offset)]
            x = F.pad(x, padding).narrow(dim, max(0, offset), size)
        return x.unsqueeze(1) * torch.arange(1.0, 257).view(1, -1, 1, 1, 1)
