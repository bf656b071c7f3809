"""Casting one ray per sample through a scene: what is seen there, how far, and which way it faces.

Rays are (x, y, 1) from the camera, so their parameter is the depth. Each solid is tried only where its box projects to, all
solids of a kind at once; a depth buffer keeps the nearest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from pixelwise.data.world.noise import noise
from pixelwise.data.world.solids import (
    BOX,
    LEAFY,
    NEAR,
    Array,
    box_hit,
    capsule_hit,
    extents,
    inverse_axes,
)

_BLOCK = 1 << 18
_FAR = np.uint64(np.iinfo(np.uint64).max)
_CELLS_PER_METRE = 22.0
_RAGGED = 0.7
_TAPERED = 3
# both ways along each edge of a box, its corners counted as `extents` does
_EDGES = np.array([(i, i ^ axis) for i in range(8) for axis in (1, 2, 4)]).T


@dataclass(frozen=True)
class Rays:
    """A lattice of rays: slopes x (columns,) to the right and y (rows,) down, from a camera at `height` over the ground."""

    x: Array
    y: Array
    height: float

    @property
    def count(self) -> int:
        """Return the number of rays."""
        return len(self.x) * len(self.y)

    @cached_property
    def grid(self) -> tuple[Array, Array]:
        """The slopes x and y of every ray, two arrays (rows * columns,)."""
        return np.tile(self.x, len(self.y)), np.repeat(self.y, len(self.x))


class _Fragments(NamedTuple):
    """Rays to be tried: for each run of neighbours its solid and row, for each ray its run, column and pixel."""

    solid: Array
    row: Array
    run: Array
    column: Array
    pixel: Array


def _blocks(bounds: Array, columns: int) -> Iterator[_Fragments]:
    """Cut the rectangles `bounds` (n, 4: x0 x1 y0 y1) into rays, about _BLOCK at a time."""
    x0, x1, y0, y1 = bounds.T
    area = (x1 - x0) * (y1 - y0)
    block = np.cumsum(area) // _BLOCK
    for number in np.unique(block[area > 0]):
        chosen = np.flatnonzero((block == number) & (area > 0))
        solid, row = _ranges(chosen, y0, y1)
        run, column = _ranges(np.arange(len(solid)), x0[solid], x1[solid])
        yield _Fragments(solid, row, run, column, (row * columns)[run] + column)


def _ranges(names: Array, first: Array, last: Array) -> tuple[Array, Array]:
    """Return every (name, i) with first[name] <= i < last[name]."""
    counts = last[names] - first[names]
    which = np.repeat(np.arange(len(names)), counts)
    offset = first[names] - (np.cumsum(counts) - counts)
    return names[which], np.arange(len(which)) + offset[which]


def _bounds(corners: Array, rays: Rays) -> Array:
    """Return the rectangles of rays (n, 4: x0 x1 y0 y1) that cover boxes with `corners` (n, 8, 3) seen from the camera."""
    start, end = corners[:, _EDGES[0]], corners[:, _EDGES[1]]
    share = (NEAR - start[..., 2]) / np.where(start[..., 2] == end[..., 2], np.float32(1), end[..., 2] - start[..., 2])
    points = np.where((start[..., 2] < NEAR)[..., None], start + share[..., None] * (end - start), start)
    x, y = points[..., 0] / points[..., 2], points[..., 1] / points[..., 2]
    seen = (start[..., 2] >= NEAR) | (end[..., 2] >= NEAR)
    low = [np.where(seen, slope, np.inf).min(-1) for slope in (x, y)]
    high = [np.where(seen, slope, -np.inf).max(-1) for slope in (x, y)]
    first = [np.searchsorted(axis, slope) for axis, slope in zip((rays.x, rays.y), low, strict=True)]
    last = [np.searchsorted(axis, slope, "right") for axis, slope in zip((rays.x, rays.y), high, strict=True)]
    return np.stack([first[0], np.maximum(first[0], last[0]), first[1], np.maximum(first[1], last[1])], -1)


def _camera(rays_height: float) -> Array:
    return np.array([0, -rays_height, 0], np.float32)


def cast(solid: Array, rays: Rays) -> tuple[Array, Array]:
    """Return the depth (rays,) and the index (rays,) of the nearest solid: inf and -1 where there is none.

    Args:
        solid: The scene's solids (n,), dtype SOLID.
        rays: The rays.
    """
    nearest = np.full(rays.count, _FAR, np.uint64)
    inverse = inverse_axes(solid)
    camera = _camera(rays.height)
    origin = np.einsum("nij,nj->ni", inverse, camera - solid["centre"])
    bounds = _bounds(extents(solid) - camera, rays)
    kinds = np.where((solid["kind"] == BOX) & (solid["shape"] > 0), _TAPERED, solid["kind"])
    for kind in np.unique(kinds):
        only = np.where((kinds == kind)[:, None], bounds, 0)
        for part in _blocks(only, len(rays.x)):
            row_part = inverse[part.solid, :, 1] * rays.y[part.row, None] + inverse[part.solid, :, 2]
            x = rays.x[part.column]
            direction = np.stack([inverse[part.solid, i, 0][part.run] * x + row_part[:, i][part.run] for i in range(3)])
            start = origin[part.solid].T[:, part.run]
            shape = solid["shape"][part.solid][part.run]
            if kind == BOX:
                depth = box_hit(start, direction)
            elif kind == _TAPERED:
                depth = box_hit(start, direction, shape)
            elif kind == LEAFY:
                aside, _, cells = solid["centre"][part.solid].T * np.float32(_CELLS_PER_METRE)
                leaves = noise(x * cells[part.run] - aside[part.run], (rays.y[part.row] * cells)[part.run])
                depth = capsule_hit(start, direction, shape, 1 - np.float32(_RAGGED) * leaves)
            else:
                depth = capsule_hit(start, direction, shape)
            _keep(nearest, part, depth)
    missed = nearest == _FAR
    depth = (nearest >> np.uint64(32)).astype(np.uint32).view(np.float32)
    index = (nearest & np.uint64(0xFFFFFFFF)).astype(np.int64)
    return np.where(missed, np.float32(np.inf), depth), np.where(missed, -1, index)


def _keep(nearest: Array, part: _Fragments, depth: Array) -> None:
    """Lower the depth buffer; positive floats sort like their bits, so depth and solid share one word."""
    hit = np.flatnonzero(np.isfinite(depth))
    key = depth[hit].view(np.uint32).astype(np.uint64) << np.uint64(32)
    np.minimum.at(nearest, part.pixel[hit], key | part.solid[part.run[hit]].astype(np.uint64))


def shadows(solid: Array, rays: Rays, sun: Array) -> Array:
    """Return which of the rays (rays,) meet the ground in the shadow of a solid.

    Args:
        solid: The scene's solids (n,).
        rays: The rays; those that look up are never in shadow.
        sun: (3,) unit vector to the sun.
    """
    dark = np.zeros(rays.count, bool)
    camera = _camera(rays.height)
    corners = extents(solid)
    foot = corners - sun * np.minimum(corners[..., 1:2], 0) / sun[1]
    below = int(np.searchsorted(rays.y, rays.height / 120))
    bounds = _bounds(foot - camera, rays)
    bounds[:, 2:] = np.maximum(bounds[:, 2:], below)
    depth = rays.height / np.maximum(rays.y, 1e-4)
    inverse = inverse_axes(solid)
    origin = np.einsum("nij,nj->ni", inverse, camera - solid["centre"])
    towards = np.einsum("nij,j->ni", inverse, sun)
    for kind in (False, True):
        only = np.where(((solid["kind"] == BOX) == kind)[:, None], bounds, 0)
        hit: Callable[..., Array] = box_hit if kind else capsule_hit
        for part in _blocks(only, len(rays.x)):
            far = depth[part.row, None].astype(np.float32)
            row_part = origin[part.solid] + far * (
                inverse[part.solid, :, 1] * rays.y[part.row, None] + inverse[part.solid, :, 2]
            )
            slope = far * inverse[part.solid, :, 0]
            x = rays.x[part.column]
            start = np.stack([slope[:, i][part.run] * x + row_part[:, i][part.run] for i in range(3)])
            direction = towards[part.solid].T[:, part.run]
            # a ray that starts in the shade of something it stands in starts one unit back
            distance = hit(start - direction, direction, solid["shape"][part.solid][part.run])
            dark[part.pixel[np.isfinite(distance)]] = True
    return dark
