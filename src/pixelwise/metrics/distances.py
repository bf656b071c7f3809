"""How far two sets of pictures are apart, by their features: Frechet distance (Heusel 2017), kernel distance (Binkowski 2018).

Features are vectors `(N, D)`; everything is computed in float64.
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from pixelwise.seeds import generator

ROWS = 1024
"""Rows of a matrix of kernels or distances that are held at a time."""


class Moments:
    """Accumulates number, mean and covariance of vectors batch by batch (Chan et al. 1979), so that none has to be kept.

    Attributes:
        count: How many vectors there were.
        mean: `(D,)`.
    """

    def __init__(self, dimension: int) -> None:
        self.count = 0
        self.mean = torch.zeros(dimension, dtype=torch.float64)
        self._scatter = torch.zeros(dimension, dimension, dtype=torch.float64)

    def update(self, features: Tensor) -> None:
        """Take in vectors `(B, D)`."""
        batch = features.detach().cpu().double()
        centre, before = batch.mean(0), self.count
        self.count += len(batch)
        apart, centred = centre - self.mean, batch - centre
        self._scatter += centred.T @ centred + apart.outer(apart) * (before * len(batch) / self.count)
        self.mean = self.mean + apart * (len(batch) / self.count)

    @property
    def covariance(self) -> Tensor:
        """`(D, D)`, the unbiased one, which divides by N - 1."""
        return self._scatter / (self.count - 1)


def frechet(mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor) -> float:
    """Return the squared Frechet distance of two Gaussians, |m_a - m_b|^2 + Tr(A + B - 2 (A B)^(1/2)) (Dowson & Landau 1982).

    The trace of the root is the sum of the singular values of A^(1/2) B^(1/2), whose factors are symmetric: no root of a
    product that is not, so nothing becomes complex where a covariance is singular. Equal Gaussians are at 0 exactly.

    Args:
        mean_a: `(D,)`, float64.
        covariance_a: `(D, D)`, float64.
        mean_b: As `mean_a`.
        covariance_b: As `covariance_a`.
    """
    if torch.equal(mean_a, mean_b) and torch.equal(covariance_a, covariance_b):
        return 0.0
    overlap = torch.linalg.svdvals(_root(covariance_a) @ _root(covariance_b)).sum()
    distance = (mean_a - mean_b).square().sum() + covariance_a.trace() + covariance_b.trace() - 2 * overlap
    return max(0.0, float(distance))


def _root(covariance: Tensor) -> Tensor:
    """Return the symmetric square root; eigenvalues that rounding made negative are 0."""
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root


class KernelDistance(NamedTuple):
    """The kernel distance over subsets.

    Attributes:
        mean: Over the subsets; an unbiased estimate, which may be negative.
        deviation: Standard deviation of the subsets' values; NaN of one.
        subsets: How many there were.
        size: Vectors of each side in each of them.
    """

    mean: float
    deviation: float
    subsets: int
    size: int


def kernel_distance(a: Tensor, b: Tensor, subsets: int = 100, size: int = 1000, seed: int = 0) -> KernelDistance:
    """Return the mean over random subsets of the squared maximum mean discrepancy (Binkowski et al. 2018, section 4).

    A subset never holds more vectors than there are. Where it would hold all of both sides, there is only one.

    Args:
        a: `(N, D)`, N at least 2.
        b: `(M, D)`, M at least 2.
        subsets: How many to draw.
        size: Vectors of each side in each, drawn without repetition.
        seed: Of the draws.
    """
    size = min(size, len(a), len(b))
    subsets = 1 if size == len(a) == len(b) else subsets
    draw = generator(seed, "kernel distance")

    def some(vectors: Tensor) -> Tensor:
        return vectors[torch.from_numpy(draw.permutation(len(vectors))[:size])]

    found = torch.tensor([discrepancy(some(a), some(b)) for _ in range(subsets)], dtype=torch.float64)
    return KernelDistance(float(found.mean()), float(found.std()) if subsets > 1 else torch.nan, subsets, size)


def discrepancy(a: Tensor, b: Tensor) -> float:
    """Return the unbiased squared maximum mean discrepancy under k(x, y) = (x.y / D + 1)^3 (Gretton et al. 2012, equation 3).

    Args:
        a: `(N, D)`, N at least 2.
        b: `(M, D)`, M at least 2.

    Returns:
        The mean of k within `a` and within `b`, without a vector beside itself, less twice the mean between them.
    """
    a, b = a.double(), b.double()
    n, m = len(a), len(b)
    within = (
        _summed(a, a) - _kernel((a * a).sum(1), a.shape[1]).sum(),
        _summed(b, b) - _kernel((b * b).sum(1), b.shape[1]).sum(),
    )
    return float(within[0] / (n * (n - 1)) + within[1] / (m * (m - 1)) - 2 * _summed(a, b) / (n * m))


def mean_distance(vectors: Tensor, norm: float) -> float:
    """Return the mean distance, by the norm of that order, of two of the vectors `(N, D)`, N at least 2, over all pairs."""
    blocks, exact = torch.split(vectors, ROWS), "donot_use_mm_for_euclid_dist"
    within = [torch.pdist(block.double(), norm).sum() for block in blocks]
    between = [torch.cdist(a.double(), b.double(), norm, exact).sum() for a, b in combinations(blocks, 2)]
    return float(torch.stack(within + between).sum()) / (len(vectors) * (len(vectors) - 1) / 2)


def _summed(a: Tensor, b: Tensor) -> Tensor:
    blocks = [_kernel(a[start : start + ROWS] @ b.T, a.shape[1]).sum() for start in range(0, len(a), ROWS)]
    return torch.stack(blocks).sum()


def _kernel(products: Tensor, dimension: int) -> Tensor:
    return (products / dimension + 1) ** 3
