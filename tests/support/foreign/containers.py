"""Networks that take dictionaries and return tuples or dictionaries."""

import torch
from torch import Tensor, nn

from .family import Family, Faulty, draw
from .masked_stack import MaskedConv2d

LEVELS = 3


class TupleNet(nn.Module):
    """A network that returns logits, and features that nothing reads; layers return tuples too."""

    def __init__(self, first: str = "A", channels: int = 4) -> None:
        super().__init__()
        self.first = MaskedConv2d(first, 1, channels, 3, padding=1)
        self.hidden = MaskedConv2d("B", channels, 2 * channels, 3, padding=1)
        self.to_logits = nn.Conv2d(2 * channels, LEVELS, 1)

    def encode(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        skips = [torch.tanh(self.first(x))]
        skips.append(torch.sigmoid(self.hidden(skips[0])))
        return skips[-1], skips

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden, skips = self.encode(x)
        return self.to_logits(hidden), skips.pop()


class DictNet(TupleNet):
    """A network that takes a batch ``{"x": images}`` of integers, and returns a dictionary."""

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        x = batch["x"].to(self.to_logits.weight.dtype) / (LEVELS - 1)
        logits, hidden = super().forward(x)
        return {"logits": logits, "hidden": hidden}


@torch.no_grad()
def tuple_loop(net: nn.Module, images: Tensor, noise: Tensor, temperature: float) -> Tensor:
    _, _, height, width = images.shape
    x = images.clamp(min=0)
    for i in range(height):
        for j in range(width):
            logits, _ = net(x.double() / (LEVELS - 1))
            given = images[:, 0, i, j]
            x[:, 0, i, j] = draw(logits[:, :, i, j], noise[:, i * width + j], temperature, given)
    return x


@torch.no_grad()
def dict_loop(net: nn.Module, images: Tensor, noise: Tensor, temperature: float) -> Tensor:
    _, _, height, width = images.shape
    batch = {"x": images.clamp(min=0)}
    for position in range(height * width):
        i, j = divmod(position, width)
        logits = net(batch)["logits"][:, :, i, j]
        batch["x"][:, 0, i, j] = draw(logits, noise[:, position], temperature, images[:, 0, i, j])
    return batch["x"]


def take_batch(images: Tensor) -> tuple[dict[str, Tensor]]:
    """Return the arguments of forward: one, a dictionary."""
    return ({"x": images},)


def take_keyword(images: Tensor) -> dict[str, Tensor]:
    """Return the keyword arguments of forward."""
    return {"x": images.double() / (LEVELS - 1)}


def give_first(out: tuple[Tensor, Tensor]) -> Tensor:
    return out[0].unsqueeze(2)


def give_logits(out: dict[str, Tensor]) -> Tensor:
    return out["logits"].unsqueeze(2)


SIZES = {"colors": 1, "levels": LEVELS}
TUPLES = {**SIZES, "inputs": "unit", "outputs": give_first}
DICTS = {**SIZES, "inputs": take_batch, "outputs": give_logits}

FAMILIES = {
    "takes a keyword": Family(
        lambda size: TupleNet(), {**TUPLES, "inputs": take_keyword}, tuple_loop
    ),
    "returns a tuple": Family(lambda size: TupleNet(), TUPLES, tuple_loop),
    "takes and returns a dictionary": Family(lambda size: DictNet(), DICTS, dict_loop),
}

FAULTY = {
    "returns a tuple, first mask B": Faulty(lambda size: TupleNet(first="B"), TUPLES),
    "takes and returns a dictionary, first mask B": Faulty(lambda size: DictNet(first="B"), DICTS),
}
