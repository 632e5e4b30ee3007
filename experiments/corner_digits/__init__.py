"""The experiment `corner-digits`: a digit that may be in either of two corners.

The input does not determine the corner (slides of Dahl, Norouzi, Shlens; 1702.00783). Four models
are trained on one budget: L2 regression, a network of independent pixels, a PixelCNN, and the sum
of the logits of the last two. A program classifies what they draw.
"""

from .experiment import run as run
