"""Networks that others wrote, as models that take images and return logits."""

from .model import AdaptedModel, adapt

__all__ = ["AdaptedModel", "adapt"]
