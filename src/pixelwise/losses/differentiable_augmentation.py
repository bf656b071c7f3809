"""DiffAugment: a discriminator sees true and generated pictures changed alike, so that few suffice (Zhao et al. 2020).

The changes can be differentiated by the pictures, so that the generator learns through them and makes pictures without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Change = Literal["colour", "translation", "cutout"]
SHIFT, CUT = 1 / 8, 1 / 2
"""Largest shift, and side of what is cut out, as shares of the picture's sides."""


class Draw(NamedTuple):
    """What happens to each of B pictures; all `(B,)` in [0, 1), so that a draw suits pictures of any size."""

    brightness: Tensor
    saturation: Tensor
    contrast: Tensor
    shift_y: Tensor
    shift_x: Tensor
    cut_y: Tensor
    cut_x: Tensor


def drawn(count: int, device: torch.device | None = None) -> Draw:
    """Return a draw for `count` pictures, from torch's global generator, which a run seeds in each step."""
    return Draw(*torch.rand(len(Draw._fields), count, device=device).unbind())


def augmented(images: Tensor, policy: Sequence[Change], draw: Draw) -> Tensor:
    """Return the pictures changed, each by its own draw; without a policy the pictures themselves.

    The changes follow one another as named here, whatever the order of `policy`. What belongs together, such as the source and
    the translation of it, stays together when both are given the same draw.

    Args:
        images: (B, C, H, W) in [-1, 1].
        policy: `colour`: adds -0.5 to 0.5 to all values, multiplies the distance from the pixel's mean over the channels by 0
            to 2 and the distance from the picture's mean by 0.5 to 1.5. `translation`: moves by up to 1/8 of each side in whole
            pixels, over zeros. `cutout`: fills a rectangle of half of each side with zeros, its middle anywhere.
        draw: Of as many pictures.
    """
    if "colour" in policy:
        images = _recoloured(images, draw)
    if "translation" in policy:
        images = _moved(images, draw)
    return _cut(images, draw) if "cutout" in policy else images


def _recoloured(images: Tensor, draw: Draw) -> Tensor:
    brightness, saturation, contrast = (one[:, None, None, None].to(images.dtype) for one in draw[:3])
    images = images + (brightness - 0.5)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * (2 * saturation)
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * (contrast + 0.5)


def _moved(images: Tensor, draw: Draw) -> Tensor:
    """Return out[y, x] = in[y - dy, x - dx], and 0 where there is no such pixel."""
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device) - _shift(draw.shift_y, height)[:, None]
    columns = torch.arange(width, device=images.device) - _shift(draw.shift_x, width)[:, None]
    inside = ((rows >= 0) & (rows < height))[:, None, :, None] & ((columns >= 0) & (columns < width))[:, None, None, :]
    picture = torch.arange(len(images), device=images.device)[:, None, None]
    found = images.movedim(1, -1)[picture, rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None, :]]
    return found.movedim(-1, 1) * inside


def _shift(share: Tensor, side: int) -> Tensor:
    """Return whole pixels, each of the possible ones as likely."""
    most = int(SHIFT * side + 0.5)
    return (share * (2 * most + 1)).floor().long() - most


def _cut(images: Tensor, draw: Draw) -> Tensor:
    """Return the pictures with zeros in a rectangle, part of which may lie beyond the border."""
    down, across = (_kept(share, side) for share, side in zip(draw[5:], images.shape[-2:], strict=True))
    return images * (down[:, None, :, None] | across[:, None, None, :])


def _kept(share: Tensor, side: int) -> Tensor:
    """Return (B, side): False where the rectangle is, along one axis."""
    cut = int(CUT * side + 0.5)
    first = (share * (side + 1 - cut % 2)).floor().long() - cut // 2
    place = torch.arange(side, device=share.device)
    return (place < first[:, None]) | (place >= first[:, None] + cut)
