"""Structural similarity as a loss, at one scale and at several (Wang et al. 2003, 2004), with a gradient everywhere."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from pixelwise.errors import UsageError

WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2
EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the scales, finest first (Wang et al. 2003, section 3.2)."""
FLOOR = 0.01
"""Similarity below which a logarithm goes on as a straight line: pictures may be anticorrelated, powers of that are not."""


def ssim_loss(image: Tensor, target: Tensor) -> Tensor:
    """Return 1 - SSIM of each picture: windows of 11 x 11, sigma 1.5, inside the picture; K1 = 0.01, K2 = 0.03.

    Args:
        image: (B, C, H, W) in [0, 1].
        target: The same.

    Returns:
        (B,), the mean over the channels.

    Raises:
        UsageError: A side is shorter than the window.
    """
    luminance, contrast = _similarities(image, target)
    return 1 - (luminance * contrast).mean((1, 2, 3))


def ms_ssim_loss(image: Tensor, target: Tensor) -> Tensor:
    """Return 1 - MS-SSIM of each picture: contrast and structure at each scale, luminance at the coarsest.

    The five scales need a side of 176. A smaller picture has as many as the window fits into, and their exponents are
    enlarged to the same sum; with one scale it is nearly SSIM, with two or more an odd last row counts at the finest only.

    Args:
        image: (B, C, H, W) in [0, 1].
        target: The same.

    Returns:
        (B,), the mean over the channels.

    Raises:
        UsageError: A side is shorter than the window.
    """
    side = min(image.shape[-2:])
    scales = max(1, sum(side // 2**scale >= WINDOW for scale in range(len(EXPONENTS))))
    exponents = [e * sum(EXPONENTS) / sum(EXPONENTS[:scales]) for e in EXPONENTS[:scales]]
    powers = image.new_zeros(image.shape[:2])
    for exponent in exponents[:-1]:
        _, contrast = _similarities(image, target)
        powers = powers + exponent * _logarithm(contrast.mean((2, 3)))
        image, target = functional.avg_pool2d(image, 2), functional.avg_pool2d(target, 2)
    luminance, contrast = _similarities(image, target)
    return 1 - (powers + exponents[-1] * _logarithm((luminance * contrast).mean((2, 3)))).exp().mean(1)


def _similarities(image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return luminance and contrast-structure of every window."""
    if min(image.shape[-2:]) < WINDOW:
        height, width = image.shape[-2:]
        what = f"structural similarity has windows of {WINDOW} x {WINDOW} pixels, and a picture here is {width}x{height}"
        raise UsageError(what, "train on larger pictures (view.size), or choose another perceptual.kind")
    mean, other = _blurred(image), _blurred(target)
    variance = _blurred(image * image) - mean * mean
    variances = variance + _blurred(target * target) - other * other
    covariance = _blurred(image * target) - mean * other
    luminance = (2 * mean * other + C1) / (mean * mean + other * other + C1)
    return luminance, (2 * covariance + C2) / (variances + C2)


def _blurred(image: Tensor) -> Tensor:
    place = torch.arange(WINDOW, device=image.device, dtype=image.dtype) - WINDOW // 2
    weights = (-place.square() / (2 * SIGMA**2)).exp()
    weights = weights / weights.sum()
    planes = image.flatten(0, 1)[:, None]
    blurred = functional.conv2d(functional.conv2d(planes, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
    return blurred.view(*image.shape[:2], *blurred.shape[-2:])


def _logarithm(similarity: Tensor) -> Tensor:
    """Return log x, from FLOOR down its tangent there."""
    tangent = similarity / FLOOR + (math.log(FLOOR) - 1)
    return torch.where(similarity > FLOOR, similarity.clamp(min=FLOOR).log(), tangent)
