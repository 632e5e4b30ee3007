"""What is trained and measured: a model's distributions over the values of a picture."""

from torch import Tensor

from .. import functional
from ..data.area import area_average
from ..models import PixelModel, PixelRecursiveSR


def distributions(model: PixelModel, images: Tensor) -> dict[str, Tensor]:
    """Logits ``[N, L, C, H, W]`` of each distribution that a model gives, its own first.

    For `PixelRecursiveSR` "sum", A + B, "conditioning", A alone, and "prior", B alone; for any
    other model "model".

    Args:
        images: uint8 ``[N, C, H, W]``; the small pictures are their area averages.
    """
    if not isinstance(model, PixelRecursiveSR):
        return {"model": model(images)}
    conditioning = model.conditioning(area_average(images, model.magnification))
    prior = model.prior(images)
    total = functional.add_logits(conditioning, prior)
    return {"sum": total, "conditioning": conditioning, "prior": prior}


def loss_terms(model: PixelModel, images: Tensor) -> list[Tensor]:
    """The terms of the loss, nats per value; the first is that of the model's own distribution.

    Their sum is, for `PixelRecursiveSR`, its ``loss`` divided by the number of values of a picture,
    so that the learning rate does not depend on the size; B alone has no term.
    """
    return [
        functional.nats(logits, images).mean() / images[0].numel()
        for name, logits in distributions(model, images).items()
        if name != "prior"
    ]
