"""Where key points of many people may be, and which two of them may be the ends of one limb (Cao et al. 2017).

All of it is arithmetic on tensors of fixed shape, so that it can stand in an exported graph; who is who is found by `grouping`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pixelwise.codecs import peaks

SAMPLES = (5, 25)
"""Fewest and most points of a limb at which its field is read."""
ALONG = 0.05
"""Least component of the field along the limb that speaks for it; what nearly coincident parts get as their score."""
SHARE = 0.8
"""More than this share of a limb's points must speak for it."""
TINY = 1e-6


class Candidates(NamedTuple):
    """The M best peaks of each sheet and every pair of them that some limb may join.

    Attributes:
        points: `(B, K, M, 2)`, (x, y) in input pixels; 0 where there is no peak.
        confidence: `(B, K, M)`, the belief at the peak, largest first; 0 where there is none.
        limbs: `(B, L, M, M)`, score of the limb from a peak of its first part (rows) to one of its second; 0 where the two
            do not belong together.
    """

    points: Tensor
    confidence: Tensor
    limbs: Tensor


def local_maxima(beliefs: Tensor) -> Tensor:
    """Return where `(B, K, h, w)` is larger than its 8 neighbours, as bool; of equal neighbours the first in reading order."""
    height, width = beliefs.shape[-2:]
    padded = functional.pad(beliefs, (1, 1, 1, 1), value=-torch.inf)
    around = [padded[..., y : y + height, x : x + width] for y in range(3) for x in range(3)]
    is_peak = torch.ones_like(beliefs, dtype=torch.bool)
    for n, neighbour in enumerate(around):
        if n != 4:
            is_peak = is_peak & (beliefs > neighbour if n < 4 else beliefs >= neighbour)
    return is_peak


def best_peaks(beliefs: Tensor, sigma: float, threshold: float, most: int) -> tuple[Tensor, Tensor]:
    """Return the best local maxima above `threshold`, each finer than a pixel by a fit within its 8 neighbours.

    Args:
        beliefs: `(B, K, h, w)`.
        sigma: Expected width of a peak, in pixels of the map.
        threshold: Least belief, above 0.
        most: Peaks per sheet, M.

    Returns:
        Positions `(B, K, M, 2)` in pixels of the map and beliefs `(B, K, M)`, largest first; both 0 where there is no peak.
    """
    found = torch.where(local_maxima(beliefs) & (beliefs > threshold), beliefs, 0).flatten(2)
    belief, index = functional.pad(found, (0, most)).topk(most)
    width = beliefs.shape[-1]
    index = torch.where(belief > 0, index, 0)
    row = index // width
    column = index - row * width  # the remainder by a width that is a symbol cannot be exported
    points = peaks.log_fit_at(beliefs.clamp(min=1e-30).log(), column, row, sigma, radius=1)
    return torch.where((belief > 0)[..., None], points, 0), belief


def sample_count(step: Tensor) -> Tensor:
    """Return at how many points the field is read along `step` `(..., 2)` input pixels, as OpenPose: of 10 px 7."""
    return (5 * step.abs().amax(-1)).sqrt().round().clamp(*SAMPLES)


def limb_scores(fields: Tensor, start: Tensor, end: Tensor, stride: int, size: tuple[int, int]) -> Tensor:
    """Return the score of every limb between every two of its ends: the mean of its field's component along it.

    The field is read by bilinear interpolation at the middles of `sample_count` equal pieces of the limb (Cao et al. 2017,
    eq. 11). To a limb longer than S / 2, S the mean side of the picture, S / (2 length) - 1 is added. Two parts belong
    together if more than `SHARE` of the readings exceed `ALONG` and the score is positive. Closer than one pixel of the map,
    where a field may have no pixel, they belong together anyway, with the score `ALONG`.

    Args:
        fields: `(B, 2L, h, w)`, x and y of each limb in turn.
        start: `(B, L, M, 2)` peaks of the first part, in input pixels.
        end: The same of the second.
        stride: Input pixels per pixel of the fields.
        size: Height and width of the input picture.

    Returns:
        `(B, L, M, M)`, above 0 where the two belong together, else 0.
    """
    step = end[:, :, None] - start[:, :, :, None]
    length = step.square().sum(-1).clamp(min=TINY).sqrt()
    count = sample_count(step)
    piece = torch.arange(SAMPLES[1], device=step.device)
    x, y = _read(fields, start, step, (piece + 0.5) / count[..., None], stride)
    right, down = (step / length[..., None]).unbind(-1)
    along = torch.where(piece < count[..., None], x * right[..., None] + y * down[..., None], 0)
    share = (along > ALONG).sum(-1) / count
    prior = ((size[0] + size[1]) / (4 * length) - 1).clamp(max=0)
    score = along.sum(-1) / count + prior
    near = torch.where(length < stride, ALONG, 0.0)
    return torch.where((share > SHARE) & (score > 0), score, near)


def _read(fields: Tensor, start: Tensor, step: Tensor, share: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Interpolate the x and y of `(B, 2L, h, w)` at start + share * step, shares `(B, L, M, M, S)`: `(B, L, M, M, S)` each."""
    batch, limbs, most, _, samples = share.shape
    height, width = fields.shape[-2:]
    places = [  # in grid_sample's coordinates, that go from -1 to 1
        (2 / (side * stride) * start[..., axis] - 1)[..., None, None]
        + share * (2 / (side * stride) * step[..., axis])[..., None]
        for axis, side in enumerate((width, height))
    ]
    grid = torch.stack(places, -1).view(batch * limbs, most * most, samples, 2)
    sheets = fields.reshape(batch * limbs, 2, height, width)
    read = functional.grid_sample(sheets, grid, padding_mode="border", align_corners=False)
    x, y = read.view(batch, limbs, 2, most, most, samples).unbind(2)
    return x, y
