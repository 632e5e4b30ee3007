"""The experiment `ablation`: bits per dimension of faces with each part and without it.

The second term of the loss of Pixel Recursive Super Resolution (1702.00783), the color masks and
the second stack of the Gated PixelCNN (1606.05328) are left out one at a time. All models are
trained on one budget with three seeds, and compared with the complete model seed by seed.
"""

from .experiment import run as run
