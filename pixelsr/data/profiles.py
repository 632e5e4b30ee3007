"""Colour profiles: what a picture file says that its numbers mean, and the same colours in sRGB."""

import functools
import io

import numpy as np
from PIL import Image, ImageCms

_GREYS = "L", "I;16"
_STEPS = np.arange(0, 256, 15, dtype=np.uint8)  # of each colour; black and white are among them
_NEAR = 1  # levels of 255 that the rounding of an sRGB profile moves a colour by, at most


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image | None:
    """Convert a picture from its ICC profile to sRGB.

    Args:
        image: of mode L, I;16, RGB or CMYK.
        profile: the bytes of the profile that came with the picture, None for none.
    Returns:
        The picture as RGB of 8 bits; None where its numbers are to be taken for sRGB: there is no
        profile, it is an sRGB profile itself, or it is damaged or made for another kind of picture.
    """
    transform = _transform(profile, image.mode) if profile else None
    return None if transform is None else transform.apply(image)


@functools.lru_cache(maxsize=16)  # the pictures of one camera all have the same profile
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    srgb = ImageCms.createProfile("sRGB")
    # Its tables of greys would be wrong by up to 10 levels in the dark.
    flags = ImageCms.Flags.NOOPTIMIZE if mode in _GREYS else ImageCms.Flags.NONE
    try:
        transform = ImageCms.buildTransform(io.BytesIO(profile), srgb, mode, "RGB", flags=flags)
    except ImageCms.PyCMSError:
        return None
    return None if _changes_nothing(transform, mode) else transform


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Return True where no colour moves by more than the rounding of a profile."""
    if mode == "CMYK":
        return False
    if mode in _GREYS:
        greys = np.arange(256, dtype=np.uint8)[None]
        before = greys[..., None].repeat(3, -1)
        probe = greys if mode == "L" else greys * np.uint16(257)
    else:  # colours from all over the cube
        before = probe = np.stack(np.meshgrid(_STEPS, _STEPS, _STEPS), -1).reshape(1, -1, 3)
    after = np.asarray(transform.apply(Image.fromarray(probe)))
    return int(np.abs(after.astype(int) - before).max()) <= _NEAR
