"""Can people tell? A page that shows a photo and a sample, and asks which one a camera took.

The study of Pixel Recursive Super Resolution (Dahl, Norouzi, Shlens; 1702.00783), section 4, for
anybody to take: the sample is drawn from the photo made small.
"""

from .experiment import run
from .report import section

__all__ = ["run", "section"]
