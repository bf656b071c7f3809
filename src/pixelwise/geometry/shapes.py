"""How alike two shapes are whatever their place, size and turn: full Procrustes distance (Kendall 1984), all pairs at once."""

from __future__ import annotations

import torch
from torch import Tensor


def shape_distances(points: Tensor, others: Tensor) -> Tensor:
    """Return the full Procrustes distance of every shape to every other, over the points that both have.

    As complex numbers, shapes z and w about their means differ by 1 - |<z, w>|^2 / (|z|^2 |w|^2) once w is moved, scaled and
    turned onto z as well as can be; a mirrored shape is another shape.

    Args:
        points: (N, K, 2) floating, NaN where a shape lacks a point.
        others: (M, K, 2) likewise.

    Returns:
        (N, M) float64 in [0, 1]: the square root of that share; NaN where two shapes share fewer than 3 different points.
    """
    (z, have), (w, there) = (_complex(shape) for shape in (points, others))
    count = have @ there.T
    cross = (z.conj() @ w.T) - (z.conj() @ there.T.to(z.dtype)) * (have.to(w.dtype) @ w.T) / count
    own = (z.abs() ** 2) @ there.T - (z @ there.T.to(z.dtype)).abs() ** 2 / count
    other = have @ (w.abs() ** 2).T - (have.to(w.dtype) @ w.T).abs() ** 2 / count
    share = 1 - cross.abs() ** 2 / (own * other)
    extent = torch.minimum(own, other) > 1e-9 * count
    return share.clamp(0, 1).sqrt().masked_fill((count < 3) | ~extent, torch.nan)


def _complex(points: Tensor) -> tuple[Tensor, Tensor]:
    """Return shapes (N, K) as complex numbers of size about 1, 0 where a point is lacking, and which there are (N, K)."""
    centred = points.double() - points.double().nanmean(1, keepdim=True)
    known = centred.isfinite().all(-1)
    centred = centred.masked_fill(~known[..., None], 0)
    scale = (centred.square().sum((1, 2)) / known.sum(1).clamp(min=1)).sqrt().clamp(min=1e-12)
    return torch.view_as_complex((centred / scale[:, None, None]).contiguous()), known.double()
