"""Pixels that nobody sees get the colours around them, so that no answer mixes hidden black or white into an edge.

Pull and push (Gortler et al. 1996, section 3.4): means of what is seen, over ever larger squares, fill what is not.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from pixelwise.color.levels import levels, unit
from pixelwise.geometry.tiles import Tile, bands

REACH = 32
"""Rows beyond a band whose colours reach into it."""
BAND = 2**20
"""Pixels that are filled at a time."""


def bleed(pixels: Tensor, alpha: Tensor) -> None:
    """Give wholly transparent pixels the colours of those around them, in place; where none is seen they keep their own.

    Args:
        pixels: `(C, H, W)`, uint8 or floating in [0, 1], not multiplied by alpha.
        alpha: `(H, W)`, uint8 or uint16.
    """
    height, width = alpha.shape
    for band in bands(Tile(0, 0, height, width), BAND):
        hidden = band.of(alpha) == 0
        if not hidden.any():
            continue
        top = max(0, band.top - REACH)
        around = Tile(top, 0, min(height, band.top + band.height + REACH) - top, width)
        colours, seen = unit(around.of(pixels)), (around.of(alpha) != 0)[None].float()
        if not seen.any():
            continue
        filled = band.within(around).of(_filled(colours, seen))
        own = band.of(pixels)
        filled = filled if own.is_floating_point() else levels(filled, own.dtype)
        own.copy_(torch.where(hidden, filled, own))


def _filled(colours: Tensor, seen: Tensor) -> Tensor:
    """Return colours `(C, H, W)` with those where `seen` `(1, H, W)` is 0 replaced by means from coarser levels."""
    if seen.all() or max(seen.shape) == 1:
        return colours
    total, count = (functional.avg_pool2d(part, 2, ceil_mode=True) for part in (colours * seen, seen))
    coarse = _filled(total / count.clamp(min=torch.finfo(count.dtype).tiny), (count > 0).float())
    fine = functional.interpolate(coarse[None], seen.shape[-2:], mode="bilinear")[0]
    return torch.where(seen > 0, colours, fine)
