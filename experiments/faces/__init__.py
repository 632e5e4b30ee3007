"""8x8 faces to 32x32 in every way there is, side by side: scores, and the same faces on one sheet.

Pixel Recursive Super Resolution (Dahl, Norouzi, Shlens; 1702.00783), section 4. L2 regression, the
conditioning network alone, the prior alone and their sum are trained on one budget; a model that
was trained for longer stands beside them.
"""

from .experiment import run
from .report import section

__all__ = ["run", "section"]
