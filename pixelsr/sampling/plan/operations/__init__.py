"""The effect of each recorded operation on feature maps.

An operation either moves elements (it is then run on their origins), or it makes a feature map: a
pointwise expression, or a sum over taps and channels. Each module has a table of operations by
name, without the underscores of ATen's variants: "relu" for ``relu_``, "softmax" for ``_softmax``.
"""

from .dispatch import build

__all__ = ["build"]
