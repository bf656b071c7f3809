"""What real low resolution has beside fewer pixels: blur, noise and JPEG, drawn at random (blind super-resolution).

The order is that of taking a picture: the lens blurs, the sensor has fewer pixels and noise, the file is compressed.
"""

from __future__ import annotations

import io
import math
from typing import Annotated, Self

import numpy as np
import torch
from PIL import Image as PillowImage
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional

from pixelwise.config import Config
from pixelwise.geometry.homography import Size
from pixelwise.geometry.resample import bicubic

Amount = Annotated[float, Field(ge=0)]
Quality = Annotated[int, Field(ge=1, le=100)]


class Degradation(Config):
    """Between which bounds each picture's own amount is drawn; by default a picture is only reduced."""

    blur: tuple[Amount, Amount] = Field(default=(0, 0), description="deviation of the Gaussian blur, in pixels of the picture")
    noise: tuple[Amount, Amount] = Field(default=(0, 0), description="deviation of the Gaussian noise, in levels of 255")
    jpeg: tuple[Quality, Quality] | None = Field(default=None, description="quality of JPEG; null: no compression")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for name in ("blur", "noise", "jpeg"):
            low, high = getattr(self, name) or (0, 0)
            if low > high:
                raise ValueError(f"{name} = {low}, {high}: expected the least and the most")
        return self

    @property
    def any(self) -> bool:
        """Whether there is anything to draw."""
        return bool(self.blur[1] or self.noise[1] or self.jpeg)

    def reduced(self, fine: Tensor, scale: int, draw: np.random.Generator | None = None) -> Tensor:
        """Return what is left of a picture at a lower resolution.

        Args:
            fine: uint8 (C, scale H, scale W).
            scale: Its pixels per pixel of the result.
            draw: Source of what is drawn; None: the picture is only reduced, by MATLAB's bicubic, and rounded.

        Returns:
            uint8 (C, H, W).
        """
        size = (fine.shape[-2] // scale, fine.shape[-1] // scale)
        if draw is None:
            return _rounded(bicubic(fine.double(), size))
        blur, noise, quality = draw.uniform(*self.blur), draw.uniform(*self.noise), draw.random()
        small = bicubic(_blurred(fine.double(), blur), size)
        coarse = _rounded(small + noise * torch.from_numpy(draw.standard_normal(small.shape)))
        if self.jpeg is None:
            return coarse
        low, high = self.jpeg
        return _compressed(coarse, low + math.floor(quality * (high - low + 1)), size)


def _rounded(pixels: Tensor) -> Tensor:
    return pixels.round().clamp(0, 255).to(torch.uint8)


def _blurred(image: Tensor, deviation: float) -> Tensor:
    """Return the picture (C, H, W) under a Gaussian of three deviations; the border's pixels go on outside."""
    if not deviation:
        return image
    reach = math.ceil(3 * deviation)
    weights = (-0.5 * (torch.arange(-reach, reach + 1, dtype=image.dtype) / deviation).square()).exp()
    weights = weights / weights.sum()
    continued = functional.pad(image[:, None], (reach, reach, reach, reach), mode="replicate")
    rows = functional.conv2d(continued, weights.view(1, 1, -1, 1))
    return functional.conv2d(rows, weights.view(1, 1, 1, -1))[:, 0]


def _compressed(pixels: Tensor, quality: int, size: Size) -> Tensor:
    file = io.BytesIO()
    PillowImage.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()).save(file, "JPEG", quality=quality)
    with PillowImage.open(file) as image:
        return torch.from_numpy(np.array(image)).view(*size, -1).permute(2, 0, 1).contiguous()
