"""Colours without lightness as a class each: the bins of the ab plane that a screen can show (Zhang, Isola and Efros 2016)."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from pixelwise.color.spaces import lab_of_srgb

STEP = 10
"""Distance of the bins, in units of a and b."""
ALONG = 17
"""Colours on each edge of the sRGB cube: the ab projection of the cube is as wide as that of its edges."""


@lru_cache
def in_gamut() -> Tensor:
    """Return the ab of the 313 bins of the paper, float64 `(313, 2)`, in the order of its list: by a, then by b.

    A point of the grid of step 10 is kept if it lies less than one step, in either axis, from the convex hull of the ab of
    all sRGB colours: it is then the corner of a cell that the hull enters. So no list is needed, and none is stored.
    """
    from scipy.spatial import ConvexHull

    reach = torch.tensor([[STEP, STEP], [STEP, -STEP], [-STEP, STEP], [-STEP, -STEP]], dtype=torch.float64)
    seen = _edges()
    widened = (seen[:, None] + reach).flatten(0, 1)
    hull = torch.from_numpy(ConvexHull(widened.numpy()).equations)
    axis = torch.arange(-120, 121, STEP, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    return grid[(grid @ hull[:, :2].T + hull[:, 2] < 0).all(1)]


def _edges() -> Tensor:
    """Return the ab `(N, 2)` of colours along the twelve edges of the sRGB cube."""
    along = torch.linspace(0, 1, ALONG, dtype=torch.float64)
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    colours = torch.cat([torch.cartesian_prod(along, ends, ends).roll(axis, 1) for axis in range(3)])
    return lab_of_srgb(colours.T[..., None])[1:, :, 0].T
