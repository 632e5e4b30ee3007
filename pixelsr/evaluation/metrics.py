"""Metrics of the similarity between answers and true images.

Each metric returns float64 ``[N]``, one number per image over all of its pixels and colors. Mean
squared errors and similarities use intensities in [0, 1], where 255 is 1.
"""

import math

from torch import Tensor

from pixelsr.data.downsample import area_average

# torchmetrics is imported lazily: it is slow to import, and `pixelsr --help` does not need it.

SSIM_SIDE = 11
"""The minimum side for SSIM, in pixels: the size of its Gaussian window of sigma 1.5."""
MS_SSIM_SIDE = 176
"""The minimum side for MS-SSIM in torchmetrics, in pixels: the window of 11 at the coarsest of five
scales, which is 16 times smaller."""


def psnr(answers: Tensor, truth: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of each image in dB, ``-10 log10(mean squared error)``.

    The ratio of an exact answer would be infinite. It is replaced by the ratio of an error of 1/255
    in a single number, ``20 log10(255) + 10 log10(C H W)``: 83.0 dB at 32x32 in three colors. No
    other 8-bit image exceeds that.

    Args:
        answers, truth: uint8 ``[N, C, H, W]``.
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio

    ceiling = 20 * math.log10(255) + 10 * math.log10(truth[0].numel())
    with answers.device:  # torchmetrics would use the default device
        each = peak_signal_noise_ratio(
            _unit(answers), _unit(truth), data_range=1.0, reduction="none", dim=(1, 2, 3)
        )
    return each.clamp(max=ceiling)


def ssim(answers: Tensor, truth: Tensor) -> Tensor:
    """Return the structural similarity (Wang et al. 2004) of each image; 1 for equal images.

    It is the mean over pixels and colors of
    ``(2 m_a m_t + c1)(2 s_at + c2) / ((m_a^2 + m_t^2 + c1)(s_a^2 + s_t^2 + c2))``, with means m and
    (co)variances s under a Gaussian window of 11 pixels and sigma 1.5, c1 = 0.01^2, c2 = 0.03^2;
    images are mirrored at their borders.

    Args:
        answers, truth: uint8 ``[N, C, H, W]``, at least `SSIM_SIDE` pixels a side.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    with answers.device:
        each = structural_similarity_index_measure(
            _unit(answers), _unit(truth), reduction="none", data_range=1.0
        )
    assert isinstance(each, Tensor)  # a pair is returned only with the map of all pixels
    return each


def ms_ssim(answers: Tensor, truth: Tensor) -> Tensor:
    """Return the multi-scale structural similarity (Wang et al. 2003) of each image; 1 if equal.

    It is ``cs_1^0.0448 cs_2^0.2856 cs_3^0.3001 cs_4^0.2363 ssim_5^0.1333``, where cs_j is the mean
    of SSIM's second factor alone on the images halved j - 1 times, and ssim_j the mean of both
    factors. A negative mean counts as 0.

    Args:
        answers, truth: uint8 ``[N, C, H, W]``, at least `MS_SSIM_SIDE` pixels a side.
    """
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    with answers.device:
        return multiscale_structural_similarity_index_measure(
            _unit(answers), _unit(truth), reduction="none", data_range=1.0
        )


def consistency(answers: Tensor, low_res: Tensor, levels: int) -> Tensor:
    """Return the mean squared error between each downsampled answer and its low_res input.

    It is ``mean((area_average(answers) - low_res)^2) / (levels - 1)^2``, and 0 if both are equal.

    Args:
        answers: uint8 ``[N, C, H, W]``, below `levels`.
        low_res: uint8 ``[N, C, h, w]``, below `levels`.
        levels: number of levels; errors are scaled to intensities in [0, 1].
    """
    smalls = area_average(answers, answers.shape[2] // low_res.shape[2])
    errors = (smalls.double() - low_res.double()) / (levels - 1)
    return errors.square().mean(dim=(1, 2, 3))


def _unit(images: Tensor) -> Tensor:
    return images.double() / 255
