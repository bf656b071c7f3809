"""MDSI: how unevenly two pictures' edges and colours are alike (Nafchi, Shahkolaei, Hedjam and Cheriet 2016)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

LHM = ((0.2989, 0.587, 0.114), (0.3, 0.04, -0.35), (0.34, -0.6, 0.17))
"""Luminance and two opponent colours (section II-B)."""
EDGES, JOINT_EDGES, COLOURS = 140.0, 55.0, 550.0
"""C1, C2 and C3 of the similarities of gradients, of gradients with those of the mean picture, and of colours."""
SHARE, ROOT = 0.6, 0.25
"""alpha, how much gradients count beside colours, and q."""
SIDE = 256
"""Pictures are averaged down so that their shorter side has about so many pixels."""
FAINTEST = 1e-4
"""Similarity below which the root, which is infinitely steep at 0, goes no further."""


def mdsi_loss(image: Tensor, target: Tensor) -> Tensor:
    """Return the mean deviation of each picture, MDSI^4: published is its fourth root, infinitely steep at equality.

    An even error, such as another brightness of the whole picture, deviates nowhere: use it beside a pixel loss.

    Args:
        image: (B, 3, H, W) in [0, 1].
        target: The same.

    Returns:
        (B,).
    """
    reduce = max(1, round(min(image.shape[-2:]) / SIDE))
    ours, theirs = (_lhm(functional.avg_pool2d(one * 255, reduce)) for one in (image, target))
    similarity = SHARE * _edges_alike(ours[:, :1], theirs[:, :1]) + (1 - SHARE) * _colours_alike(ours[:, 1:], theirs[:, 1:])
    size = similarity.abs().clamp(min=FAINTEST) ** ROOT
    angle = math.pi * ROOT  # the root of a negative similarity is complex
    root = torch.cat(
        [
            torch.where(similarity < 0, part * size, other * size)
            for part, other in ((math.cos(angle), 1), (math.sin(angle), 0))
        ],
        1,
    )
    return _length(root - root.mean((2, 3), keepdim=True)).mean((1, 2, 3))


def _lhm(image: Tensor) -> Tensor:
    return torch.einsum("ij,bjhw->bihw", image.new_tensor(LHM), image)


def _edges_alike(ours: Tensor, theirs: Tensor) -> Tensor:
    """Return the similarity of gradients, corrected by whose are like those of the mean of both (equation 4)."""
    a, b, joint = _gradient(ours), _gradient(theirs), _gradient((ours + theirs) / 2)
    return _similarity(a, b, EDGES) + _similarity(a, joint, JOINT_EDGES) - _similarity(b, joint, JOINT_EDGES)


def _colours_alike(ours: Tensor, theirs: Tensor) -> Tensor:
    both = ours.square() + theirs.square()
    return (2 * (ours * theirs).sum(1, keepdim=True) + COLOURS) / (both.sum(1, keepdim=True) + COLOURS)


def _gradient(luminance: Tensor) -> Tensor:
    """Return the length of the Prewitt gradient; beyond the border all is black."""
    across = luminance.new_tensor([[-1, 0, 1]] * 3) / 3
    return _length(functional.conv2d(luminance, torch.stack([across, across.T])[:, None], padding=1))


def _length(vectors: Tensor) -> Tensor:
    """Return the length over the channels, with a gradient of 0 at 0."""
    return vectors.square().sum(1, keepdim=True).clamp(min=1e-12).sqrt()


def _similarity(ours: Tensor, theirs: Tensor, constant: float) -> Tensor:
    return (2 * ours * theirs + constant) / (ours.square() + theirs.square() + constant)
