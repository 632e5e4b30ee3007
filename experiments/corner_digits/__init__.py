"""Does a sum of logits settle on one answer? A digit that may be in either of two corners.

The input does not tell the corner (slides of Dahl, Norouzi, Shlens; 1702.00783). Four models are
trained on one budget: L2 regression, a network of independent pixels, a PixelCNN, and the sum of
the logits of the last two. A program tells what they draw.
"""

from .experiment import run
from .report import section

__all__ = ["run", "section"]
