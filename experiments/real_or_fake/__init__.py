"""The experiment `real-or-fake`: a page on which people tell samples from photos.

It is the study of Pixel Recursive Super Resolution (Dahl, Norouzi, Shlens; 1702.00783), section 4,
for anybody to take: the page shows a photo and a sample drawn from the photo made small, and asks
which one a camera took.
"""

from .experiment import run as run
