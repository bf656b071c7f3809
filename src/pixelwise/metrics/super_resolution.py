"""How near enlarged pictures are to their originals, in the protocol in which super-resolution is published."""

from __future__ import annotations

import torch
from torch import Tensor

from pixelwise.metrics.averages import averages
from pixelwise.metrics.image import PSNR_LIMIT, luma, psnr, ssim


class SuperResolutionMetrics:
    """Accumulates PSNR and SSIM of the luma of 8-bit pictures, without a border of `scale` pixels; the result is their mean.

    `psnr_y_crop2` and `ssim_y_crop2` at scale 2, and so on. Y is that of ITU-R BT.601 in studio range, rounded to 8 bits; a
    picture whose file holds one channel counts by that channel, in full range. PSNR is for a peak of 255, the mean of the
    pictures' own values, at most 100 dB each. SSIM is that of `metrics.image.ssim` (valid windows of 11 x 11). What is too
    small for the border or the window has no value and no vote.

    Attributes:
        records: The metrics of every picture, in order; NaN where not measured.
    """

    def __init__(self, scale: int) -> None:
        self.scale = scale
        self.names = names(scale)
        self.records: list[dict[str, float]] = []

    def update(self, picture: Tensor, original: Tensor, grey: bool = False) -> None:
        """Take in a picture and its original, uint8 (3, H, W) each; `grey`: the original's file holds one channel."""
        ours, theirs = (self._seen(pixels, grey) for pixels in (picture, original))
        none = float("nan")
        values = (none, none)
        if theirs.numel():
            values = (float(psnr(ours, theirs).clamp(max=PSNR_LIMIT)), float(ssim(ours, theirs)))
        self.records.append(dict(zip(self.names, values, strict=True)))

    def _seen(self, pixels: Tensor, grey: bool) -> Tensor:
        """Return what is compared, (1, 1, h, w) in [0, 1]; empty if the border leaves nothing."""
        height, width = pixels.shape[-2:]
        inner = pixels[..., self.scale : max(self.scale, height - self.scale), self.scale : max(self.scale, width - self.scale)]
        unit = inner.double() / 255
        single = unit.mean(0, keepdim=True) if grey else luma(unit)
        return ((single * 255).round() / 255)[None]

    def compute(self) -> dict[str, float]:
        """Return the mean of both metrics over the pictures."""
        columns = {name: torch.tensor([record[name] for record in self.records], dtype=torch.float64) for name in self.names}
        return averages(columns)


def names(scale: int) -> tuple[str, str]:
    """Return what the metrics are called at a scale."""
    return f"psnr_y_crop{scale}", f"ssim_y_crop{scale}"
