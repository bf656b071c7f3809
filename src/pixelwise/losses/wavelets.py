"""HaarPSI: where two pictures' edges, found by Haar wavelets, are alike (Reisenhofer, Bosse, Kutyniok and Wiegand 2018)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from pixelwise.errors import UsageError

YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))
"""Luma and chroma of the NTSC, to the digits of the authors' code."""
C, ALPHA = 30.0, 4.2
"""Constants of the similarity and of the logistic function, fitted by the authors to what people said (their section 3)."""
SIDES = (2, 4, 8)
"""Of the filters: the first two find edges, the last says where edges count."""
LEAST = 2 * SIDES[-1]


def haarpsi_loss(image: Tensor, target: Tensor) -> Tensor:
    """Return 1 - HaarPSI of each picture, 0 where edges and local colours are equal.

    Blind to the brightness of a whole picture and to the sign of its colours: use it beside a pixel loss.

    Args:
        image: (B, 3, H, W) in [0, 1].
        target: The same.

    Returns:
        (B,).

    Raises:
        UsageError: A side is below 16 pixels.
    """
    if min(image.shape[-2:]) < LEAST:
        what = f"HaarPSI needs {LEAST} pixels a side, and a picture here is {image.shape[-1]}x{image.shape[-2]}"
        raise UsageError(what, "train on larger pictures (view.size), or choose another perceptual.kind")
    ours, theirs = _yiq(image), _yiq(target)
    edges, others = _edges(ours[:, :1]), _edges(theirs[:, :1])
    weights = torch.maximum(edges[:, :, 2], others[:, :, 2])
    alike = [_similarity(edges[:, :, scale], others[:, :, scale]) for scale in (0, 1)]
    chroma = [_similarity(a, b) for a, b in zip(*(_local(one).unbind(1) for one in (ours, theirs)), strict=True)]
    similarities = torch.cat([(alike[0] + alike[1]) / 2, ((chroma[0] + chroma[1]) / 2)[:, None]], 1)
    weights = torch.cat([weights, weights.mean(1, keepdim=True)], 1)
    least = torch.finfo(weights.dtype).eps  # two pictures without any edge are alike
    perfect = torch.sigmoid(weights.new_tensor(ALPHA))
    total = ((similarities * ALPHA).sigmoid() * weights).sum((1, 2, 3)) + least * perfect
    return 1 - (torch.logit(total / (weights.sum((1, 2, 3)) + least)) / ALPHA).square()


def _yiq(image: Tensor) -> Tensor:
    """Return YIQ in [0, 255] at half the size: at the distance people look from, neighbours run together."""
    image = functional.avg_pool2d(image * 255, 2)
    return torch.einsum("ij,bjhw->bihw", image.new_tensor(YIQ), image)


def _edges(luma: Tensor) -> Tensor:
    """Return how strongly (B, 2, scales, H, W) the luma changes downwards and to the right at each scale."""
    answers = []
    for side in SIDES:
        down = luma.new_full((side, side), 1 / side)
        down[side // 2 :] = -1 / side
        before, after = side // 2 - 1, side // 2
        padded = functional.pad(luma, (before, after, before, after))
        answers.append(functional.conv2d(padded, torch.stack([down, down.T])[:, None]).abs())
    return torch.stack(answers, 2)


def _local(yiq: Tensor) -> Tensor:
    """Return the size of I and Q, averaged over 2 x 2 pixels."""
    return functional.avg_pool2d(functional.pad(yiq[:, 1:], (0, 1, 0, 1)), 2, 1).abs()


def _similarity(ours: Tensor, theirs: Tensor) -> Tensor:
    return (2 * ours * theirs + C) / (ours.square() + theirs.square() + C)
