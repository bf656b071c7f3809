"""How well the outlines of a label map are met.

The boundary F-score (Csurka et al. 2013; per class, Perazzi et al. 2016) and Boundary IoU (Cheng et al. 2021).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from pixelwise.geometry.unknown import UNKNOWN
from pixelwise.metrics.averages import averages, named
from pixelwise.metrics.confusion import confusion, intersection_over_union

BAND = 0.02
"""Width of the band of Boundary IoU as a part of the diagonal, as Cheng et al. 2021."""
LEAST = -(2**15) + 1


def outlines(labels: Tensor, classes: int, *, ignore: int = UNKNOWN) -> Tensor:
    """Return the outline of each class: its pixels with a pixel of another known class above, below, left or right.

    Args:
        labels: Integer `(H, W)`, 0 to C - 1 or `ignore`.
        classes: Number of classes C.
        ignore: The label of unknown pixels: neither outline nor the other side of one. The border of the map is no outline.

    Returns:
        bool `(C, H, W)`.
    """
    beside = functional.pad(labels[None, None].float(), (1, 1, 1, 1), mode="replicate")[0, 0].to(labels.dtype)
    near = torch.stack([beside[:-2, 1:-1], beside[2:, 1:-1], beside[1:-1, :-2], beside[1:-1, 2:]])
    edge = ((near != labels) & (near != ignore)).any(0)
    return (labels == torch.arange(classes, device=labels.device)[:, None, None]) & edge


def widened(mask: Tensor, tolerance: int) -> Tensor:
    """Return which pixels have one of `mask` (bool `(..., H, W)`) at most `tolerance` rows and columns away."""
    size = 2 * tolerance + 1
    return functional.max_pool2d(mask.flatten(0, -3).float(), size, 1, tolerance).bool().view_as(mask)


class BoundaryMetrics:
    """Accumulates how many outline pixels are met, over all images.

    - `boundary_f@<t>px`: mean over the classes of 2 P R / (P + R), where P is the share of the predicted outline pixels of
      a class that have a true one of the same class at most t rows and t columns away, and R the share of the true ones
      that have a predicted one. A class counts if it has an outline in the truth or in the prediction; P or R is 0 if only
      the other exists.
    - `boundary_f@<t>px/<class>`: of each such class.

    Predicted outline pixels at most t away from an unknown pixel have no vote: what is true there is not known.

    Attributes:
        counts: int64 `(C, 4)`: predicted, of these met, true, of these met.
    """

    def __init__(self, classes: Sequence[str], tolerance: int = 1, *, ignore: int = UNKNOWN) -> None:
        """Begin with no outlines of the named `classes`; `tolerance` is in pixels, `ignore` is the label of unknown pixels."""
        self.classes, self.tolerance, self.ignore = tuple(classes), tolerance, ignore
        self.counts = torch.zeros(len(classes), 4, dtype=torch.int64)

    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Take in one image's label maps `(H, W)`: what was predicted, and the truth."""
        ours, true = (outlines(one, len(self.classes), ignore=self.ignore) for one in (predicted, labels))
        votes = ours & ~widened((labels == self.ignore)[None], self.tolerance)
        met = votes & widened(true, self.tolerance), true & widened(ours, self.tolerance)
        self.counts += torch.stack([kind.sum((1, 2)) for kind in (votes, met[0], true, met[1])], 1).cpu()

    def compute(self) -> dict[str, float]:
        """Return the score of every class that has an outline, and their mean."""
        predicted, precise, true, recalled = self.counts.double().unbind(1)
        # 2 P R / (P + R) with P = precise / predicted and R = recalled / true; 0 / 0 only where there is no outline at all
        precision, recall = precise / predicted.clamp(min=1), recalled / true.clamp(min=1)
        score = 2 * precision * recall / (precision + recall).clamp(min=1e-12)
        score = score.masked_fill(predicted + true == 0, torch.nan)
        name = f"boundary_f@{self.tolerance}px"
        return averages({name: score, **named(name, self.classes, score)})


def near_outline(labels: Tensor, distance: int, *, ignore: int = UNKNOWN) -> Tensor:
    """Return which known pixels lose their class when it is eroded with a square of 2 `distance` + 1 pixels.

    They have, at most so many rows and columns away, a pixel of another known class or of what lies outside the map.

    Args:
        labels: Integer `(B, H, W)`, below 2^15.
        distance: At least 1.
        ignore: The label of unknown pixels, which are neither side of an outline.

    Returns:
        bool `(B, H, W)`.
    """
    known, values = labels != ignore, labels.to(torch.int16)
    highest = _highest(values.masked_fill(~known, LEAST), distance)
    lowest = -_highest((-values).masked_fill(~known, LEAST), distance)
    near = (highest != values) | (lowest != values)
    near[:, :distance] = near[:, -distance:] = near[..., :distance] = near[..., -distance:] = True
    return near & known


def _highest(maps: Tensor, distance: int) -> Tensor:
    """Return the highest value at most `distance` rows and columns away, comparing windows of doubled width."""
    wanted = 2 * distance + 1
    for axis in (-1, -2):
        sides = (distance, distance) if axis == -1 else (0, 0, distance, distance)
        maps, width = functional.pad(maps, sides, value=LEAST), 1
        while width < wanted:
            step, rest = min(width, wanted - width), maps.shape[axis]
            maps = torch.maximum(maps.narrow(axis, 0, rest - step), maps.narrow(axis, step, rest - step))
            width += step
    return maps


class BoundaryIou:
    """Accumulates the IoU of the bands along the outlines (Cheng et al. 2021, equation 2), per class over all images.

    - `boundary_miou_present@0.02`: mean over the classes with a band in the truth or in the prediction of
      |G_d and P_d| / |G_d or P_d|. G_d are the pixels of a class at most d rows and columns away from one that is not of it;
      d is 0.02 of the diagonal, at least 1 pixel. The border of the image is an outline, as in their code.
    - `boundary_iou/<class>`: of each such class.

    Unknown pixels have no vote and are neither side of an outline.

    Attributes:
        matrix: int64 `(C + 1, C + 1)` counts of the pixels in true and predicted bands; the last class is in none.
    """

    def __init__(self, classes: Sequence[str], *, ignore: int = UNKNOWN) -> None:
        """Begin with no pixels of the named `classes`; `ignore` is the label of unknown pixels."""
        self.classes, self.ignore = tuple(classes), ignore
        self.matrix = torch.zeros(len(classes) + 1, len(classes) + 1, dtype=torch.int64)

    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Take in label maps `(B, H, W)`: what was predicted, and the truth."""
        unknown = labels == self.ignore
        distance = max(1, round(BAND * math.hypot(*labels.shape[-2:])))

        def band(maps: Tensor) -> Tensor:
            known = maps.to(torch.int16).masked_fill(unknown, -1)
            outside = ~near_outline(known, distance, ignore=-1) & ~unknown
            return known.masked_fill(outside, len(self.classes))

        self.matrix += confusion(band(predicted), band(labels), len(self.matrix), ignore=-1).sum(0).cpu()

    def compute(self) -> dict[str, float]:
        """Return the IoU of every class that has a band, and their mean."""
        iou = intersection_over_union(self.matrix)[:-1]
        return averages({f"boundary_miou_present@{BAND}": iou, **named("boundary_iou", self.classes, iou)})
