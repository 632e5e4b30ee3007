"""`pixelsr.adapt`: any causal network as a model that takes images and returns logits."""

import torch
from torch import Tensor, nn

from pixelsr.utils.modules import unwrap

from .diagnosis import NOT_DIAGNOSED, check_values, would_fit
from .interface import Inputs, Interface, Outputs


class AdaptedModel(nn.Module):
    """A network as a model that takes images and returns logits; `adapt` creates it.

    It is in train or eval mode as the network is.

    Attributes:
        net: the network.
        colors, levels: the numbers C of colors and L of levels of an image.
        inputs, outputs: the presets or functions.
    """

    def __init__(
        self, net: nn.Module, *, colors: int, levels: int, inputs: Inputs, outputs: Outputs
    ) -> None:
        super().__init__()
        if not isinstance(net, nn.Module):
            raise TypeError(f"net must be a torch.nn.Module, got {type(net).__name__}")
        self.net: nn.Module = unwrap(net)
        self.colors, self.levels = colors, levels
        self.inputs, self.outputs = inputs, outputs
        self._checked: set[bool] = set()
        self._interface()

    @property
    def training(self) -> bool:
        """True if the network is in train mode."""
        return self.net.training

    @training.setter
    def training(self, mode: bool) -> None:
        """Do nothing, as `train` and `eval` also set the mode of the network."""

    def extra_repr(self) -> str:
        return str(self._interface())

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits ``[N, L, C, H, W]`` of images, uint8 ``[N, C, H, W]``.

        Raises:
            ValueError: the images have another shape or dtype, or a preset does not fit; the
                message names those that would.
        """
        is_image = images.dim() == 4 and images.dtype == torch.uint8
        if not is_image or images.shape[1] != self.colors:
            raise ValueError(
                f"images must be uint8 [N, {self.colors}, H, W], "
                f"got {images.dtype} {list(images.shape)}"
            )
        interface = self._interface()
        try:
            return interface.logits(interface.call(self.net, images), images)
        except NOT_DIAGNOSED:
            raise
        except Exception as error:
            presets = would_fit(self.net, interface, images)
            if not presets:
                raise
            raise ValueError(f"{type(self.net).__name__}: {error}; {presets}") from error

    def check_outputs(self, image_size: tuple[int, int]) -> None:
        """Check on three images that the presets fit; do nothing if they did in the same mode.

        Raises:
            ValueError: as in `forward`, or the values are not those that the preset takes:
                probabilities in place of logits, or the reverse.
        """
        if self.training not in self._checked:
            check_values(self, self.net, self._interface(), image_size)
            self._checked.add(self.training)

    def _interface(self) -> Interface:
        return Interface(self.colors, self.levels, self.inputs, self.outputs)


def adapt(
    net: nn.Module, *, colors: int, levels: int, inputs: Inputs, outputs: Outputs
) -> AdaptedModel:
    """Return a network, unmodified, as a model that `pixelsr.sample` and the others take.

    ::

        model = pixelsr.adapt(net, colors=1, levels=256, inputs="unit", outputs="levels")
        images = pixelsr.sample(model, n=16, image_size=(28, 28), method="ancestral")
        pixelsr.check_causality(model, (6, 6))

    The model is called with images, uint8 ``[N, C, H, W]``, and returns the logits
    ``[N, L, C, H, W]`` of their values v = 0 .. L - 1.

    ============= ===================================================
    inputs        the network's forward gets
    ============= ===================================================
    "integers"    v as int64 ``[N, C, H, W]``
    "codes"       v as int64 ``[N, H, W]``; 1 color
    "unit"        v / (L - 1), floats in [0, 1], ``[N, C, H, W]``
    "symmetric"   2 v / (L - 1) - 1, floats in [-1, 1]
    "values"      v as floats
    a function    what the function of the images returns: an argument, a tuple of arguments or a
                  dictionary of keyword arguments
    ============= ===================================================

    ============= ===================================================
    outputs       the network's forward returns
    ============= ===================================================
    "logits"      logits ``[N, L, C, H, W]``
    "levels"      logits ``[N, L, H, W]``; 1 color
    "level-major" logits ``[N, L * C, H, W]``; channel l * C + c is level l of color c
    "color-major" logits ``[N, C * L, H, W]``; channel c * L + l is level l of color c
    "bernoulli"   z, ``[N, 1, H, W]`` or ``[N, H, W]``; 1 color, 2 levels with the logits (0, z)
    "probability" p of value 1, likewise, with the logits (log(1 - p), log p)
    a function    anything; the function returns logits ``[N, L, C, H, W]`` of it
    ============= ===================================================

    Floats have the dtype of the network's first floating-point parameter (float32 without any), so
    ``model.double()`` computes in float64. The first use of a model in a sampler runs the network
    on three images, and refuses presets that do not fit by shape or range. The two orders of
    channels of color images have equal shapes; the wrong one is usually not causal, as
    `check_causality` shows.

    Args:
        net: any module. `DataParallel`, `torch.compile` and other wrappers are removed. It is not
            copied, and its mode is used as it is: call ``net.eval()`` first.
        colors: the number C of values of a pixel, which are drawn in this order.
        levels: the number L of levels of a value, 2 to 256.
        inputs, outputs: a preset or a function of tensor operations that does not depend on their
            values, such as ``outputs=lambda y: y[0]``. An `nn.Module` is a function too.
    Raises:
        TypeError, ValueError: an argument is invalid, or a preset is not for so many colors or
            levels; the message names the value and what was expected.
    """
    return AdaptedModel(net, colors=colors, levels=levels, inputs=inputs, outputs=outputs)
