"""Structural similarity as a loss, at one scale and at several (Wang et al. 2003, 2004), with a gradient everywhere."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from pixelwise.errors import UsageError
from pixelwise.metrics.image import SCALES, WINDOW, similarities

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
    scales = max(1, sum(side // 2**scale >= WINDOW for scale in range(len(SCALES))))
    exponents = [e * sum(SCALES) / sum(SCALES[:scales]) for e in SCALES[:scales]]
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
    return similarities(image, target)


def _logarithm(similarity: Tensor) -> Tensor:
    """Return log x, from FLOOR down its tangent there."""
    tangent = similarity / FLOOR + (math.log(FLOOR) - 1)
    return torch.where(similarity > FLOOR, similarity.clamp(min=FLOOR).log(), tangent)
