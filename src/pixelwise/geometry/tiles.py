"""Pictures too large for the memory are seen in overlapping tiles, blended where they meet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from pixelwise.geometry.homography import Size


class Tile(NamedTuple):
    """A rectangle of whole pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, image: Tensor) -> Tensor:
        """Return this part of `image` (..., H, W)."""
        return image[..., self.top : self.top + self.height, self.left : self.left + self.width]


def tiles(size: Size, tile: Size, overlap: int) -> Iterator[Tile]:
    """Cover a picture with tiles of one size, row by row.

    If `size`, `tile` and `overlap` are multiples of a network's stride, so is every tile's place.

    Args:
        size: (height, width) of the picture.
        tile: (height, width) of a tile; a smaller picture gives a smaller tile.
        overlap: Pixels that neighbours share, less than a tile; the last ones of a row or column may share more.
    """
    height, width = min(tile[0], size[0]), min(tile[1], size[1])
    for top in _starts(size[0], height, overlap):
        for left in _starts(size[1], width, overlap):
            yield Tile(top, left, height, width)


def blend(network: Callable[[Tensor], Tensor], image: Tensor, tile: Size, overlap: int, margin: int = 0) -> Tensor:
    """Run a network tile by tile and blend its maps where tiles overlap.

    The weights of the tiles are linear ramps across the overlap and are divided by their sum in every pixel. With
    `margin` at least the network's receptive radius, and sizes that are multiples of its stride, the result equals that
    of the whole picture; a network with global statistics (instance normalisation, attention) is approximated.

    Args:
        network: (B, C, h, w) -> (B, D, h * scale, w * scale), for one scale.
        image: (B, C, H, W).
        tile: (height, width) of a tile.
        overlap: Pixels that neighbours share, at least 2 * `margin`.
        margin: Pixels inside a tile's border that are not used, except at the picture's own border.

    Returns:
        (B, D, H * scale, W * scale).
    """
    assert overlap >= 2 * margin, "the margins of two neighbours must lie in their overlap"
    total: Tensor | None = None
    size = (image.shape[-2], image.shape[-1])
    for place in tiles(size, tile, overlap):
        maps = network(place.of(image))
        scale = maps.shape[-1] / place.width
        there = Tile(*(round(n * scale) for n in place))
        weights = tile_weights(size, place, overlap, margin, (there.height, there.width)).to(maps)
        if total is None:
            grown = [round(n * scale) for n in size]
            total, covered = maps.new_zeros((*maps.shape[:2], *grown)), maps.new_zeros(grown)
        there.of(total).add_(maps * weights)
        there.of(covered).add_(weights)
    assert total is not None
    return total.div_(covered)


def tile_weights(size: Size, place: Tile, overlap: int, margin: int, resolution: Size) -> Tensor:
    """Return how much a tile counts, (h, w) float32 in [0, 1], at `resolution` = (h, w) map pixels.

    It is 0 within `margin` of the tile's border, then rises linearly to 1 over the rest of the overlap; towards the
    picture's own border, where there is no neighbour, it stays 1.
    """
    rows, columns = (
        _ramp(start, length, whole, overlap, margin, count)
        for start, length, whole, count in zip(place[:2], place[2:], size, resolution, strict=True)
    )
    return rows[:, None] * columns


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    assert overlap < tile or tile == length, "tiles must be larger than their overlap"
    return [*range(0, length - tile, tile - overlap), length - tile]


def _ramp(start: int, length: int, whole: int, overlap: int, margin: int, count: int) -> Tensor:
    centres = (torch.arange(count) + 0.5) * (length / count)
    before = centres if start > 0 else torch.full_like(centres, torch.inf)
    after = length - centres if start + length < whole else torch.full_like(centres, torch.inf)
    return ((torch.minimum(before, after) - margin) / max(1, overlap - 2 * margin)).clamp(0, 1)
