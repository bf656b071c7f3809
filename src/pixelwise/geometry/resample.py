"""Bicubic resizing as MATLAB's imresize, in which the published figures of super-resolution are measured (Keys 1981)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pixelwise.geometry.homography import Size


def bicubic(image: Tensor, size: Size, scale: float | None = None) -> Tensor:
    """Return the picture resized; where it shrinks, the kernel is as many times wider, so that nothing aliases.

    Pixels beyond the border are those mirrored at it. Other libraries differ: torch without `antialias` takes another cubic
    (a = -0.75) that aliases, Pillow and torch with `antialias` leave out what lies beyond the border instead.

    Args:
        image: floating `(..., H, W)`.
        size: Height and width of the result.
        scale: Of both axes, where it is not exactly the ratio of the sizes, as of a height that is no multiple of it.
    """
    down, across = (scale or after / before for after, before in zip(size, image.shape[-2:], strict=True))
    rows = _resized(image.transpose(-1, -2), size[0], down).transpose(-1, -2)
    return _resized(rows, size[1], across)


def _resized(image: Tensor, length: int, scale: float) -> Tensor:
    """Return the picture with its last axis resized, tap by tap, so that no more than one copy of it is held."""
    taps, weights = _taps(image.shape[-1], length, scale)
    weights = weights.to(image)
    result = image.new_zeros((*image.shape[:-1], length))
    for index, weight in zip(taps.to(image.device), weights, strict=True):
        result += image.index_select(-1, index) * weight
    return result


def _taps(before: int, after: int, scale: float) -> tuple[Tensor, Tensor]:
    """Return which pixels `(P, after)` make each pixel, and their weights of sum 1."""
    shrink = min(scale, 1.0)
    place = (torch.arange(after, dtype=torch.float64) + 0.5) / scale - 0.5
    first = (place - 2 / shrink).floor().long()
    taps = first + torch.arange(math.ceil(4 / shrink) + 2)[:, None]
    weights = keys((place - taps) * shrink)
    mirrored = taps.remainder(2 * before)
    return torch.minimum(mirrored, 2 * before - 1 - mirrored), weights / weights.sum(0)


def keys(distance: Tensor) -> Tensor:
    """Return Keys' cubic with a = -1/2: 1 at 0, 0 at 1 and from 2 on."""
    x = distance.abs()
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return torch.where(x <= 1, near, torch.where(x < 2, far, 0))
