"""The experiment `faces`: 8x8 faces enlarged to 32x32 by every method, with scores and samples.

Pixel Recursive Super Resolution (Dahl, Norouzi, Shlens; 1702.00783), section 4. L2 regression, the
conditioning network alone, the prior alone and their sum are trained on one budget, and compared
with a model that was trained for longer.
"""

from .experiment import run as run
