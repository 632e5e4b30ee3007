"""What fits the other half? Digits and faces completed, and what it costs.

An image is drawn value by value, each from those before it; values that are given are not drawn
but read. So one model completes whatever is hidden. A prior of digits and one of faces are trained
here; faces are completed by a model that was trained before too.
"""

from .experiment import run
from .report import section

__all__ = ["run", "section"]
