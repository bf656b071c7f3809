"""8 and 16 bits are whole steps of one range, black 0 to white 1: floating where it is computed with, whole in a file."""

from __future__ import annotations

import torch
from torch import Tensor


def unit(pixels: Tensor) -> Tensor:
    """Return uint8 or uint16 pixels as floats in [0, 1], floating ones as they are."""
    return pixels if pixels.is_floating_point() else pixels.float() / torch.iinfo(pixels.dtype).max


def levels(pixels: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the nearest levels of `dtype`, uint8 or uint16, to floats in [0, 1], which are clipped to it."""
    return (pixels.clamp(0, 1) * torch.iinfo(dtype).max).round().to(dtype)


def depth_of(pixels: Tensor) -> torch.dtype:
    """Return the levels in which an answer to `pixels` is stored: 16 bits to floating pixels, as they were read from such."""
    return torch.uint16 if pixels.is_floating_point() else pixels.dtype


def eight_bits(pixels: Tensor) -> Tensor:
    """Return uint8, uint16 or floating pixels as uint8, rounded to the nearest level."""
    return pixels if pixels.dtype == torch.uint8 else levels(unit(pixels), torch.uint8)
