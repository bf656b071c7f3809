"""Pictures too large for the memory are seen in tiles: which pixels a tile needs, and which of its answers are kept.

A network's answer moves with the picture in steps of its period, the product of its strides, so tiles begin on multiples of
the period. They end whole periods before the picture does, or with it: a network that mirrors its input up to a multiple
then continues the last tile as it would continue the picture, and tiles of the mirrored picture are the mirrored tiles.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from pixelwise.geometry.homography import Size

See = Callable[["Tile"], Tensor]
"""Gives the maps (..., h * scale, w * scale) of the picture's pixels in a tile."""


class Tile(NamedTuple):
    """A rectangle of whole pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, image: Tensor) -> Tensor:
        """Return this part of `image` (..., H, W)."""
        return image[..., self.top : self.top + self.height, self.left : self.left + self.width]

    def within(self, other: Tile) -> Tile:
        """Return the same rectangle in the pixels of `other`."""
        return Tile(self.top - other.top, self.left - other.left, self.height, self.width)

    def scaled(self, scale: float) -> Tile:
        """Return the rectangle in maps of `scale` pixels per pixel; a picture's end between two of them is rounded up."""
        top, left = round(self.top * scale), round(self.left * scale)
        bottom, right = (math.ceil(round(end * scale, 6)) for end in (self.top + self.height, self.left + self.width))
        return Tile(top, left, bottom - top, right - left)


def bands(place: Tile, most: int) -> Iterator[Tile]:
    """Cut a rectangle into bands of at most `most` pixels, or of one row, from top to bottom."""
    rows = max(1, most // place.width)
    for top in range(place.top, place.top + place.height, rows):
        yield place._replace(top=top, height=min(rows, place.top + place.height - top))


class Part(NamedTuple):
    """What the network sees at once, and the rectangle in it whose answer is that of the whole picture."""

    seen: Tile
    kept: Tile


class Axis(NamedTuple):
    """One side of a picture and how a network looks along it.

    Attributes:
        length: Pixels.
        before: How far an output pixel looks beyond its own input pixels, towards 0.
        after: ... and towards the end.
        period: Input pixels after which the network repeats itself.
    """

    length: int
    before: int
    after: int
    period: int

    @property
    def lead(self) -> int:
        """Pixels that a tile sees before those it keeps, at least as many as are mirrored beyond the picture's end."""
        return _up(max(self.before, -self.length % self.period), self.period)

    @property
    def trail(self) -> int:
        """Pixels that a tile sees after those it keeps, so that it ends whole periods before the picture does."""
        return self.after + (self.length - self.after) % self.period

    def side(self, step: int) -> int:
        """Return the pixels of the longest tile where each keeps `step` pixels, as the network grows it to its period."""
        return _up(max(len(seen) for seen, _ in self.spans(step)), self.period)

    def even(self, count: int) -> int:
        """Return how many pixels each of at most `count` parts keeps, a multiple of the period."""
        return _up(-(-self.length // count), self.period)

    def work(self, step: int) -> int:
        """Return the pixels of all tiles together."""
        return sum(len(seen) for seen, _ in self.spans(step))

    def ways(self) -> list[tuple[int, int, int]]:
        """Return all ways to share the pixels out evenly: the pixels of all tiles, of the longest, and what each keeps."""
        steps = sorted({self.even(count) for count in range(1, -(-self.length // self.period) + 1)})
        return [(self.work(step), self.side(step), step) for step in steps]

    def spans(self, step: int) -> Iterator[tuple[range, range]]:
        """Yield the pixels that each tile sees and those it keeps; `step` is a multiple of the period."""
        for first in range(0, self.length, step):
            last = min(first + step, self.length)
            yield range(max(0, first - self.lead), min(last + self.trail, self.length)), range(first, last)


class Cut(NamedTuple):
    """A picture cut into parts: its two axes, and the pixels that a part keeps along them."""

    rows: Axis
    columns: Axis
    steps: Size

    @property
    def tile(self) -> Size:
        """(height, width) of the largest tile that the network sees."""
        return self.rows.side(self.steps[0]), self.columns.side(self.steps[1])

    @property
    def work(self) -> int:
        """Pixels of all tiles together."""
        return self.rows.work(self.steps[0]) * self.columns.work(self.steps[1])

    def parts(self) -> Iterator[Part]:
        """Yield the parts row by row."""
        for seen_rows, kept_rows in self.rows.spans(self.steps[0]):
            for seen_columns, kept_columns in self.columns.spans(self.steps[1]):
                yield Part(_tile(seen_rows, seen_columns), _tile(kept_rows, kept_columns))


def cheapest(rows: Axis, columns: Axis, most: int) -> Cut | None:
    """Return the even cut that computes the fewest pixels with tiles of at most `most` pixels; None if no tile is so small.

    Strips across the whole picture have a halo on two sides only, so they often win over squares.
    """
    pairs = itertools.product(rows.ways(), columns.ways())
    fitting = [
        (down * across, (row, column)) for (down, height, row), (across, width, column) in pairs if height * width <= most
    ]
    return Cut(rows, columns, min(fitting)[1]) if fitting else None


def exact(see: See, cut: Cut, scale: float = 1) -> Iterator[tuple[Tile, Tensor]]:
    """Yield rectangles that cover the picture and the maps of each, equal to those of the whole picture."""
    for seen, kept in cut.parts():
        yield kept, kept.within(seen).scaled(scale).of(see(seen))


def blended(see: See, size: Size, tile: Size, overlap: Size, period: Size, scale: float = 1) -> Iterator[tuple[Tile, Tensor]]:
    """Yield strips that cover the picture, from top to bottom, in which the maps of overlapping tiles are blended.

    It approximates networks whose every output depends on the whole picture. The weights of the tiles are linear ramps across
    the overlap and are divided by their sum in every pixel.

    Args:
        see: Gives the maps of a tile.
        size: (height, width) of the picture.
        tile: (height, width) of a tile, multiples of the period.
        overlap: Rows and columns that neighbours share, less than a tile; the last ones may share more.
        period: The grid on which tiles begin.
        scale: Map pixels per pixel.
    """
    rows, columns = (_places(*axis) for axis in zip(size, tile, overlap, period, strict=True))
    across, down = (_weights(places, scale) for places in (columns, rows))
    rest: Tensor | None = None
    for (top, bottom), weight, end in zip(rows, down, [*(top for top, _ in rows[1:]), size[0]], strict=True):
        strip = _strip(see, range(top, bottom), columns, across, scale).mul_(weight[:, None])
        if rest is not None:
            strip[..., : rest.shape[-2], :] += rest
        done = Tile(top, 0, end - top, size[1])
        height = done.scaled(scale).height
        yield done, strip[..., :height, :]
        rest = strip[..., height:, :].clone()


def _strip(see: See, rows: range, columns: list[tuple[int, int]], weights: list[Tensor], scale: float) -> Tensor:
    """Return the maps of a row of tiles, blended from left to right."""
    strip: Tensor | None = None
    for (left, right), weight in zip(columns, weights, strict=True):
        tile = Tile(rows.start, left, len(rows), right - left)
        maps = see(tile)
        if strip is None:
            whole = tile._replace(left=0, width=columns[-1][1]).scaled(scale)
            strip = maps.new_zeros((*maps.shape[:-1], whole.width))
        tile._replace(top=0).scaled(scale).of(strip).add_(maps * weight.to(maps))
    assert strip is not None
    return strip


def _places(length: int, tile: int, overlap: int, period: int) -> list[tuple[int, int]]:
    """Return where the tiles begin and end along one axis."""
    if tile >= length:
        return [(0, length)]
    step, last = (tile - overlap) // period * period, _up(length - tile, period)
    assert step > 0, "a tile must be a period larger than its overlap"
    return [*((start, start + tile) for start in range(0, last, step)), (last, length)]


def _weights(places: list[tuple[int, int]], scale: float) -> list[Tensor]:
    """Return how much each tile counts along one axis, in its map pixels; the weights of all tiles sum to 1 everywhere."""
    scaled = [Tile(0, start, 1, end - start).scaled(scale) for start, end in places]
    total = torch.zeros(scaled[-1].left + scaled[-1].width)
    ramps = []
    for i, tile in enumerate(scaled):
        before, after = torch.arange(tile.width) + 0.5, tile.width - torch.arange(tile.width) - 0.5
        ones = torch.full_like(before, tile.width)
        ramps.append(torch.minimum(before if i else ones, after if i + 1 < len(scaled) else ones))
        total[tile.left : tile.left + tile.width] += ramps[-1]
    return [ramp / total[tile.left : tile.left + tile.width] for ramp, tile in zip(ramps, scaled, strict=True)]


def _up(pixels: int, period: int) -> int:
    return -(-pixels // period) * period


def _tile(rows: range, columns: range) -> Tile:
    return Tile(rows.start, columns.start, len(rows), len(columns))
