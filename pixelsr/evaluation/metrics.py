"""How near an answer is to the true image: a figure for each image.

Each metric gives float64 ``[N]``, one figure for each image, taken over all of its values; mean
squared errors and similarities are of intensities in [0, 1], 255 being 1.
"""

import math

from torch import Tensor

from pixelsr.data.downsample import area_average

# torchmetrics is imported where it is used: it takes a moment, and `pixelsr --help` has no need.

SSIM_SIDE = 11
"""Pixels a side that SSIM needs: its window, a Gaussian of sigma 1.5, spans as many."""
MS_SSIM_SIDE = 176
"""Pixels a side that MS-SSIM needs, as torchmetrics has it: 11 windows of 16 pixels, the coarsest
of its five scales being 16 times smaller."""


def psnr(answers: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, ``-10 log10(mean squared error)``, of each image.

    An answer that is the true image has no finite ratio. It counts as one that errs by 1/255 in a
    single value, ``20 log10(255) + 10 log10(C H W)``: 83.0 dB at 32x32 in three colors. No other
    image of 8 bits comes above that.

    Args:
        answers, truth: uint8 ``[N, C, H, W]``.
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio

    ceiling = 20 * math.log10(255) + 10 * math.log10(truth[0].numel())
    with answers.device:  # which torchmetrics would take the default for
        each = peak_signal_noise_ratio(
            _unit(answers), _unit(truth), data_range=1.0, reduction="none", dim=(1, 2, 3)
        )
    return each.clamp(max=ceiling)


def ssim(answers: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004) of each image; 1 where the two are equal.

    The mean over pixels and colors of
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
    assert isinstance(each, Tensor)  # a pair only where the map of all pixels is asked for
    return each


def ms_ssim(answers: Tensor, truth: Tensor) -> Tensor:
    """Multi-scale structural similarity (Wang et al. 2003) of each image; 1 where both are equal.

    ``cs_1^0.0448 cs_2^0.2856 cs_3^0.3001 cs_4^0.2363 ssim_5^0.1333``: of the images halved j - 1
    times, cs_j is the mean of SSIM's second factor alone, ssim_j that of both; a negative mean
    counts as 0.

    Args:
        answers, truth: uint8 ``[N, C, H, W]``, at least `MS_SSIM_SIDE` pixels a side.
    """
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    with answers.device:
        return multiscale_structural_similarity_index_measure(
            _unit(answers), _unit(truth), reduction="none", data_range=1.0
        )


def consistency(answers: Tensor, low_res: Tensor, levels: int) -> Tensor:
    """Mean squared error between an answer, made small again, and the small image it is for.

    ``mean((area_average(answers) - low_res)^2) / (levels - 1)^2``, of each image; 0 where both
    are equal.

    Args:
        answers: uint8 ``[N, C, H, W]``, below `levels`.
        low_res: uint8 ``[N, C, h, w]``, below `levels`.
        levels: of the intensities; they are taken in [0, 1].
    """
    smalls = area_average(answers, answers.shape[2] // low_res.shape[2])
    errors = (smalls.double() - low_res.double()) / (levels - 1)
    return errors.square().mean(dim=(1, 2, 3))


def _unit(images: Tensor) -> Tensor:
    return images.double() / 255
