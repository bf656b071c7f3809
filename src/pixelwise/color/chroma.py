"""Colours without lightness as a class each: the bins of the ab plane that a screen can show (Zhang, Isola and Efros 2016)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelwise.color.spaces import lab_of_srgb

STEP = 10
"""Distance of the bins, in units of a and b."""
FARTHEST = 120
"""Beyond the ab of any colour."""
ALONG = 17
"""Colours on each edge of the sRGB cube: the ab projection of the cube is as wide as that of its edges."""


def in_gamut() -> Tensor:
    """Return the ab of the 313 bins of the paper, float64 `(313, 2)`, in the order of its list: by a, then by b.

    A point of the grid of step 10 is kept if it lies less than one step, in either axis, from the convex hull of the ab of
    all sRGB colours: it is then the corner of a cell that the hull enters. So no list is needed, and none is stored.
    """
    return torch.from_numpy(_in_gamut().copy())


@lru_cache
def _in_gamut() -> NDArray[np.float64]:
    """Find the bins once; as an array, since a tensor would remember whether it was made for inference."""
    from scipy.spatial import ConvexHull

    reach = torch.tensor([[STEP, STEP], [STEP, -STEP], [-STEP, STEP], [-STEP, -STEP]], dtype=torch.float64)
    seen = _edges()
    widened = (seen[:, None] + reach).flatten(0, 1)
    hull = torch.from_numpy(ConvexHull(widened.numpy()).equations)
    axis = torch.arange(-FARTHEST, FARTHEST + 1, STEP, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    return grid[(grid @ hull[:, :2].T + hull[:, 2] < 0).all(1)].numpy()


def _edges() -> Tensor:
    """Return the ab `(N, 2)` of colours along the twelve edges of the sRGB cube."""
    along = torch.linspace(0, 1, ALONG, dtype=torch.float64)
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    colours = torch.cat([torch.cartesian_prod(along, ends, ends).roll(axis, 1) for axis in range(3)])
    return lab_of_srgb(colours.T[..., None])[1:, :, 0].T


@lru_cache
def _nearest_of_grid() -> NDArray[np.int64]:
    """Return the bin nearest to each point of the grid from -120 to 120, `(25, 25)`; a colour's nearest point is a bin."""
    axis = np.arange(-FARTHEST, FARTHEST + 1, STEP)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)
    nearest: NDArray[np.int64] = np.square(grid[:, :, None] - _in_gamut()).sum(-1).argmin(-1)
    return nearest


def nearest_bin(ab: Tensor) -> Tensor:
    """Return the index int64 `(..., H, W)` of the bin nearest to each ab `(..., 2, H, W)` that a screen can show."""
    place = (ab / STEP).round().clamp(-FARTHEST // STEP, FARTHEST // STEP).long() + FARTHEST // STEP
    table = torch.from_numpy(_nearest_of_grid()).to(ab.device)
    return table[place.select(-3, 0), place.select(-3, 1)]


def soft_encoding(ab: Tensor, neighbours: int = 5, sigma: float = 5.0) -> tuple[Tensor, Tensor]:
    """Return the nearest bins of each colour and the weight of each: exp(-d^2 / (2 sigma^2)), summing to 1 (Zhang et al., 2.1).

    Args:
        ab: `(B, 2, H, W)`.
        neighbours: How many bins: 5 in the paper, 10 in its released code.
        sigma: In units of a and b.

    Returns:
        Indices int64 and weights, `(B, neighbours, H, W)` each, nearest first.
    """
    a, b = in_gamut().to(ab).T
    distance = (ab[:, 0, :, :, None] - a).square_() + (ab[:, 1, :, :, None] - b).square_()
    nearest, index = distance.topk(neighbours, largest=False)
    weight = ((nearest[..., :1] - nearest) / (2 * sigma**2)).exp()  # relative to the nearest, since far off all are 0
    return index.movedim(-1, 1), (weight / weight.sum(-1, keepdim=True)).movedim(-1, 1)


def smoothed(counts: Tensor, sigma: float = 5.0) -> Tensor:
    """Return the share of each bin after a Gaussian has spread every count over the bins around it; float64, sums to 1.

    Args:
        counts: `(313,)`, at least one above 0.
        sigma: In units of a and b.
    """
    bins = in_gamut()
    kernel = (-torch.cdist(bins, bins).square() / (2 * sigma**2)).exp()
    spread = counts.double() @ (kernel / kernel.sum(1, keepdim=True))
    return spread / spread.sum()


def rebalancing(prior: Tensor, uniform: float = 0.5) -> Tensor:
    """Return the weight of each bin: 1 / ((1 - uniform) p + uniform / Q) over the Q bins that occur, with E_p[w] = 1.

    Zhang et al. 2016, equation 4. Bins that never occur have the largest weight of all.

    Args:
        prior: p, `(313,)`, sums to 1.
        uniform: Share of the even distribution (lambda), above 0.
    """
    even = (prior > 0) / (prior > 0).sum()
    mixed = (1 - uniform) * prior + uniform * even
    rarest = torch.where(prior > 0, mixed, torch.inf).min()
    weights = 1 / torch.where(prior > 0, mixed, rarest)
    return weights / (prior * weights).sum()


def annealed_mean(logits: Tensor, temperature: float = 0.38) -> Tensor:
    """Return the mean ab `(B, 2, H, W)` of softmax(logits / T): at T = 1 the expectation, towards 0 the likeliest bin.

    Zhang et al. 2016, equation 5.

    Args:
        logits: `(B, 313, H, W)`.
        temperature: T, above 0.
    """
    return torch.einsum("bqhw,qc->bchw", (logits / temperature).softmax(1), in_gamut().to(logits))
