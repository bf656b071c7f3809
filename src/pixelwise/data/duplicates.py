"""Finds pictures that are nearly the same among many, without holding every one against every other.

A signature of a few slow waves of the thumbnail lies at most as far from another's as the thumbnails do. So the nearest
signatures, found by a tree, are all that need be compared in full.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.fft import dctn
from scipy.spatial import cKDTree
from torch import Tensor

from pixelwise.data.thumbnails import SIZE

WAVES = (4, 5)
"""Down and across; all but the mean make up the signature, 19 numbers."""
NEAREST = 16
"""Signatures of each group that a picture's is held against: a copy lies nearer than pictures that only resemble it."""
FLAT = 0.01
"""Standard deviation of grey values in [0, 1] below which a picture shows nothing that it could be known by."""


class Alike(NamedTuple):
    """Pictures that are nearly the same."""

    pairs: list[tuple[int, int]]
    """The later and the earlier picture, in order."""
    compared: int
    """How many pairs were compared in full."""


def nearly_same(thumbnails: Tensor, groups: Sequence[str], least: float) -> Alike:
    """Return the pairs of pictures whose thumbnails correlate by more than `least`.

    Of each group, such as a split, only the nearest signatures of a picture are looked at, so that a thousand copies of one
    are a few thousand pairs. Flat pictures are like nothing.

    Args:
        thumbnails: `(N, 768)` grey values in [0, 1].
        groups: Of each picture.
        least: Correlation, above 0.
    """
    centred = thumbnails.double() - thumbnails.double().mean(1, keepdim=True)
    size = centred.norm(dim=1)
    known = (size >= FLAT * thumbnails.shape[1] ** 0.5).nonzero()[:, 0].numpy()
    unit = (centred / size.clamp(min=1e-6)[:, None])[known]
    if not len(known):
        return Alike([], 0)
    pairs = near_pairs(signatures(unit), [groups[i] for i in known], (2 - 2 * least) ** 0.5)
    alike = (unit[pairs[:, 0]] * unit[pairs[:, 1]]).sum(1).numpy() > least
    return Alike([(int(i), int(j)) for i, j in known[pairs[alike]]], len(pairs))


def signatures(unit: Tensor) -> np.ndarray:
    """Return the slowest waves `(N, 19)` of thumbnails `(N, 768)` of mean 0 and length 1."""
    waves = dctn(unit.view(-1, *SIZE).numpy(), axes=(1, 2), norm="ortho")
    return np.ascontiguousarray(waves[:, : WAVES[0], : WAVES[1]].reshape(len(unit), -1)[:, 1:])


def near_pairs(points: np.ndarray, groups: Sequence[str], farthest: float) -> np.ndarray:
    """Return the pairs `(P, 2)`, the later first, of points `(N, D)` of which one is among a group's nearest of the other.

    Nothing farther apart than `farthest` is a pair.
    """
    found, named = [np.zeros((0, 2), dtype=np.int64)], np.array(groups)
    for group in dict.fromkeys(groups):
        members = np.flatnonzero(named == group)
        tree = cKDTree(points[members], balanced_tree=False)
        _, nearest = tree.query(points, k=[*range(1, NEAREST + 2)], distance_upper_bound=farthest + 1e-9)
        i, place = np.nonzero(nearest < len(members))
        j = members[nearest[i, place]]
        found.append(np.stack([np.maximum(i, j), np.minimum(i, j)], 1)[i != j])
    return np.unique(np.concatenate(found), axis=0)
