"""Average precision of people by object key point similarity, as COCO measures it (Lin et al. 2014)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelwise.geometry.presence import Presence

Array = NDArray[Any]

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
DETECTIONS = 20
"""People of an image that are looked at, the most certain first."""
AREAS = {"": (0.0, 1e10), "_medium": (32.0**2, 96.0**2), "_large": (96.0**2, 1e10)}
"""Objects of which areas have a part, in pixels of the image, by what is added to the name of the metric."""
BOX_SHARE = 0.53
"""What stands for an unknown area, as a share of the box around the labelled points, in the metrics `..._boxarea`."""
EPSILON = float(np.spacing(1))
NEARLY_ONE = 1 - 1e-10


def object_keypoint_similarity(
    points: Tensor, truth: Tensor, presence: Tensor, areas: Tensor, sigmas: Sequence[float]
) -> Tensor:
    """Return how well each of N predicted objects fits each of M true ones: float64 `(N, M)` in [0, 1].

    mean over the labelled points of exp(-d^2 / (2 s^2 k^2)), with s^2 the object's area and k = 2 sigma. A labelled point that
    was not predicted (NaN) counts 0; an object without labelled points fits nothing; one of unknown area gives NaN.

    Args:
        points: Predicted `(N, K, 2)` in pixels.
        truth: Labelled `(M, K, 2)`.
        presence: uint8 `(M, K)` of `Presence`; HIDDEN and VISIBLE points are labelled.
        areas: `(M,)` pixels^2; NaN where unknown.
        sigmas: K numbers, relative to the square root of the area.
    """
    labelled = presence >= Presence.HIDDEN
    squared = (points.double()[:, None] - truth.double()).square().sum(-1)
    similar = _fading(squared, areas, sigmas).where(labelled, 0.0)
    return similar.sum(-1) / labelled.sum(-1).clamp(min=1)


def _fading(squared: Tensor, areas: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Return exp(-d^2 / (2 s^2 k^2)) of squared distances `(N, M, K)`, NaN meaning infinitely far."""
    variances = (2 * torch.tensor(sigmas, dtype=torch.float64, device=squared.device)).square()
    return torch.exp(-squared.nan_to_num(torch.inf) / variances / (areas.double()[:, None] + EPSILON) / 2)


def _box_similarity(points: Tensor, boxes: Tensor, areas: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Return the same for objects without points, by distances to their boxes `(M, 4)`, doubled about their middle."""
    low, high = boxes.double()[:, None, :2], boxes.double()[:, None, 2:]
    low, high = 2 * low - high, 2 * high - low
    beyond = (low - points.double()[:, None]).clamp(min=0) + (points.double()[:, None] - high).clamp(min=0)
    return _fading(beyond.square().sum(-1), areas, sigmas).mean(-1)


def _box_areas(points: Tensor, known: Tensor) -> Tensor:
    """Return the area of the upright box around the points `(N, K, 2)` that are `known` `(N, K)`; NaN where there is none."""
    high = points.double().masked_fill(~known[..., None], -torch.inf).amax(1)
    low = points.double().masked_fill(~known[..., None], torch.inf).amin(1)
    return (high - low).prod(-1).where(known.any(1), torch.nan)


class _Image(NamedTuple):
    """What the thresholds and ranges of area are asked about in one image, the D detections by falling score."""

    scores: Array
    similarity: Array
    detected_areas: Array
    excused: Array
    areas: Array
    ignored: Array
    crowd: Array


class _Outcome(NamedTuple):
    """Which of the D detections met an object, and which do not count, at each of the T thresholds; how many objects do."""

    scores: Array
    met: Array
    ignored: Array
    objects: int


def _matched(image: _Image, low: float, high: float) -> _Outcome:
    """Give each detection, the most certain first, the best object that is left and fits at least as the threshold says.

    One that counts is preferred to one that does not; of equal ones the last is taken; a crowd can be met many times.
    """
    ignored = image.ignored | (image.areas < low) | (image.areas > high)
    thresholds = np.minimum(THRESHOLDS, NEARLY_ONE)[:, None]
    free = np.ones((len(thresholds), len(ignored)), bool)
    met = np.zeros((len(thresholds), len(image.scores)), bool)
    set_aside = np.zeros_like(met)
    rows = np.arange(len(thresholds))
    for d, similarity in enumerate(image.similarity if len(ignored) else ()):
        fits = free & (similarity >= thresholds)
        counting = fits & ~ignored
        fits = np.where(counting.any(1, keepdims=True), counting, fits)
        best = len(ignored) - 1 - np.where(fits, similarity, -1.0)[:, ::-1].argmax(1)
        met[:, d] = fits.any(1)
        set_aside[:, d] = met[:, d] & ignored[best]
        taken = met[:, d] & ~image.crowd[best]
        free[rows[taken], best[taken]] = False
    outside = (image.detected_areas < low) | (image.detected_areas > high)
    return _Outcome(image.scores, met, set_aside | (~met & (outside | image.excused)), int((~ignored).sum()))


def _precision_and_recall(outcomes: Sequence[_Outcome]) -> tuple[Array, Array]:
    """Return precision, interpolated at 101 recalls and averaged, and the greatest recall: `(T,)` each."""
    order = np.argsort(-np.concatenate([o.scores for o in outcomes]), kind="stable")
    met = np.concatenate([o.met for o in outcomes], axis=1)[:, order]
    counts = ~np.concatenate([o.ignored for o in outcomes], axis=1)[:, order]
    right, wrong = np.cumsum(met & counts, axis=1), np.cumsum(~met & counts, axis=1)
    recall = right / sum(o.objects for o in outcomes)
    precision = right / np.maximum(right + wrong, 1)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    reached = [np.append(p, 0.0)[np.searchsorted(r, RECALLS)] for p, r in zip(precision, recall, strict=True)]
    return np.mean(reached, axis=1), np.max(recall, axis=1, initial=0.0)


class OksMetrics:
    """Accumulates people found and people labelled, image by image.

    - `ap_oks`: precision over 101 recalls, averaged over the similarities 0.50, 0.55 ... 0.95; `ap50_oks`, `ap75_oks` at one.
    - `ar_oks`, `ar50_oks`, `ar75_oks`: the recall of all detections, of which at most 20 of an image are looked at.
    - `ap_medium_oks`, `ar_medium_oks`, `ap_large_oks`, `ar_large_oks`: of objects of 32^2 to 96^2 pixels, and larger.

    Ignored (neither right nor wrong, nor are those who meet them) are crowds, objects without labelled points, and objects of
    unknown area. With `box_areas` an unknown area is 0.53 times that of the box around the labelled points, and every name says
    so: `ap_oks_boxarea`. A metric of no object has no key.
    """

    def __init__(self, sigmas: Sequence[float], *, box_areas: bool = False) -> None:
        """Begin with no image.

        Args:
            sigmas: K numbers: the skeleton's.
            box_areas: Let boxes stand for unknown areas.
        """
        self.sigmas = tuple(sigmas)
        self.box_areas = box_areas
        self._outcomes: dict[str, list[_Outcome]] = {name: [] for name in AREAS}

    def update(
        self,
        points: Tensor,
        scores: Tensor,
        truth: Tensor,
        presence: Tensor,
        areas: Tensor,
        *,
        crowd: Tensor | None = None,
        boxes: Tensor | None = None,
        excused: Tensor | None = None,
    ) -> None:
        """Take in one image.

        Args:
            points: Predicted `(N, K, 2)` in the image's own pixels; NaN where there is none.
            scores: `(N,)`, the greater the more certain.
            truth: Labelled `(M, K, 2)`.
            presence: uint8 `(M, K)` of `Presence`.
            areas: `(M,)` pixels^2; NaN where unknown.
            crowd: bool `(M,)`: objects that stand for many; by default none does.
            boxes: `(M, 4)` x0, y0, x1, y1, by which objects without labelled points are met; without them they are not.
            excused: bool `(N,)`: predicted objects that are not wrong if they meet nobody; by default all are.
        """
        order = scores.double().argsort(descending=True, stable=True)[:DETECTIONS]
        points = points[order]
        labelled = presence >= Presence.HIDDEN
        boxed = _box_areas(truth, labelled) * BOX_SHARE
        known = areas.double().where(~areas.isnan(), boxed.where(boxed > 0, torch.nan))
        similarity = object_keypoint_similarity(points, truth, presence, known, self.sigmas)
        if boxes is not None:
            similarity = similarity.where(labelled.any(1), _box_similarity(points, boxes, known, self.sigmas))
        ignored = ~labelled.any(1) | (known if self.box_areas else areas).isnan()
        image = _Image(
            scores[order].double().cpu().numpy(),
            similarity.nan_to_num(0.0).cpu().numpy(),
            _box_areas(points, points.isfinite().all(-1)).cpu().numpy(),
            np.zeros(len(points), bool) if excused is None else excused[order].cpu().numpy(),
            known.cpu().numpy(),
            (ignored if crowd is None else ignored | crowd.bool()).cpu().numpy(),
            np.zeros(len(truth), bool) if crowd is None else crowd.bool().cpu().numpy(),
        )
        for name, (low, high) in AREAS.items():
            self._outcomes[name].append(_matched(image, low, high))

    def compute(self) -> dict[str, float]:
        """Return every metric over everything taken in."""
        found: dict[str, float] = {}
        for area, outcomes in self._outcomes.items():
            if not any(o.objects for o in outcomes):
                continue
            precision, recall = _precision_and_recall(outcomes)
            for name, values in (("ap", precision), ("ar", recall)):
                found[f"{name}{area}_oks"] = float(values.mean())
                if not area:
                    found |= {f"{name}50_oks": float(values[0]), f"{name}75_oks": float(values[5])}
        return {f"{name}_boxarea": value for name, value in found.items()} if self.box_areas else found
