"""Distances between predicted and labelled points, in pixels and relative to the size of the object.

Percentage of correct key points: Yang and Ramanan 2013; by the head (PCKh): Andriluka et al. 2014 (MPII). Normalised mean
error, its cumulative distribution (CED) and the area under it: Sagonas et al. 2013 (300-W).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from pixelwise.errors import UsageError, did_you_mean
from pixelwise.geometry.presence import Presence
from pixelwise.metrics.averages import averages, named
from pixelwise.metrics.calibration import Bin, Cutoff, calibration, cutoff

THRESHOLDS = {"torso": 0.2, "headbox": 0.5, "head": 0.5}
"""The t that is usual with a norm; with all others it is 0.1."""
MPII_HEAD = 0.6
"""By which MPII multiplies the diagonal of the head's box."""
TORSO = (r"l(eft)?.?shoulder", r"r(ight)?.?hip")
EYES = (r"l(eft)?.?eye.?outer", r"r(ight)?.?eye.?outer")

Length = Callable[[Tensor], Tensor]
"""From true points `(N, K, 2)`, NaN where not labelled, to a length in pixels `(N,)`; NaN where it cannot be known."""


def box_side(points: Tensor) -> Tensor:
    """Return the longer side of the upright box around the labelled points."""
    unknown = points.isnan()
    high = points.masked_fill(unknown, -torch.inf).amax(1)
    low = points.masked_fill(unknown, torch.inf).amin(1)
    return (high - low).amax(-1)


def between(first: int, second: int) -> Length:
    """Return the length between two points, such as the outer corners of the eyes or the ends of the torso."""

    def distance(points: Tensor) -> Tensor:
        apart: Tensor = torch.linalg.vector_norm(points[:, first] - points[:, second], dim=-1)
        return apart

    return distance


def head_length(boxes: Tensor) -> Tensor:
    """Return what MPII divides by, 0.6 times the diagonal of the head's box: `(N,)` from `(N, 4)` x0, y0, x1, y1."""
    diagonal: Tensor = torch.linalg.vector_norm(boxes[:, 2:] - boxes[:, :2], dim=-1)
    return MPII_HEAD * diagonal


def norms_of(
    names: Sequence[str], pair: tuple[str, str] | None = None, head: tuple[str, str] | None = None
) -> dict[str, Length | None]:
    """Return the lengths that the names of K points allow, the first of which others are shown by.

    - `A-B`: the distance of the `pair` of points, if one is given, by name or number.
    - `bbox`: the longer side of the box around the labelled points.
    - `head`: the distance of the two points at the ends of the `head`, if they are given, by name or number.
    - `torso`: from the left shoulder to the right hip. `interocular`: between the outer corners of the eyes.

    Raises:
        UsageError: There is no such point, or one is named twice.
    """
    norms: dict[str, Length | None] = {"bbox": box_side}
    for norm, ends in (("torso", TORSO), ("interocular", EYES)):
        found = [[i for i, name in enumerate(names) if re.fullmatch(end, name, re.IGNORECASE)] for end in ends]
        if all(len(places) == 1 for places in found):
            norms[norm] = between(found[0][0], found[1][0])
    if head:
        norms["head"] = between(*_places(names, head))
    if pair is None:
        return norms
    first, second = _places(names, pair)
    return {f"{names[first]}-{names[second]}": between(first, second), **norms}


def _places(names: Sequence[str], pair: tuple[str, str]) -> tuple[int, int]:
    first, second = (_place(names, end) for end in pair)
    if first == second:
        raise UsageError(f"the point {names[first]!r} has no distance from itself to measure by", "name two points")
    return first, second


def _place(names: Sequence[str], wanted: str) -> int:
    if wanted in names:
        return list(names).index(wanted)
    if wanted.isdecimal() and int(wanted) < len(names):
        return int(wanted)
    raise UsageError(f"no point {wanted!r} to measure a distance from", did_you_mean(wanted, names) or f"0 to {len(names) - 1}")


def cumulative_error(errors: Tensor, thresholds: Tensor) -> Tensor:
    """Return the share of `errors` (any shape, NaN not counted) that is at most each of the `thresholds` `(T,)`."""
    errors = errors[~errors.isnan()]
    return (errors <= thresholds[:, None]).double().mean(1)


class KeypointMetrics:
    """Accumulates distances of the HIDDEN and VISIBLE points; UNKNOWN and ABSENT ones are not measured.

    - `mean_error_px`, `median_error_px`: over all points. The mean may be carried by few gross errors: look at both.
    - `rmse_px`: the root of the mean squared distance. (What DeepLabCut calls RMSE is `mean_error_px`.)
    - `pck@<t>_<norm>`: share of all points with distance / norm <= t (MPII and HRNet); `pck@<<t>_<norm>` with < (mmpose).
      `pck@0.5_headbox` is PCKh; `pck@0.5_head` divides by the distance of two points of the head instead.
    - `nme_<norm>`: distance / norm, averaged over the points of an instance, then over instances; `median_nme_<norm>`: of
      the instances.
    - `auc@<t>_<norm>`: area under the cumulative distribution of the instances' errors from 0 to t, divided by t;
      exact.
    - `failure@<t>_<norm>`: share of the instances with an error > t.
    - `trusted_from@<t>_<norm>`, `trusted_share@<t>_<norm>`: the least confidence such that 95 % of the points with at least
      that are within t of the first norm, and the share of all points that have it; a point that is ABSENT is never within.
    - `mean_error_px/<name>`, `median_error_px/<name>`, `pck@<t>_<norm>/<name>`: of one point, by the first norm.

    A labelled point without a prediction (NaN) is infinitely far away. A metric that cannot be measured, or is
    infinite, has no key; an instance whose norm is 0 or unknown has no part in the metrics of that norm.

    Attributes:
        distances: `(K,)` pixels of every instance, in order; NaN where not measured.
    """

    def __init__(
        self,
        norms: Mapping[str, Length | None] | None = None,
        *,
        threshold: float | None = None,
        strict: bool = False,
        names: Sequence[str] = (),
    ) -> None:
        """Begin with no points.

        Args:
            norms: Lengths by name that distances are divided by; None means `bbox`, the `box_side`. A length that is None is
                told at each update.
            threshold: The t in the names of the metrics; None means what is usual: 0.1, of the torso 0.2, of the head 0.5.
            strict: Count points as correct only below t, not at t; the names say so.
            names: Of the K points, if each shall have metrics of its own.
        """
        self.norms: dict[str, Length | None] = {"bbox": box_side} if norms is None else dict(norms)
        self.thresholds = {norm: THRESHOLDS.get(norm, 0.1) if threshold is None else threshold for norm in self.norms}
        self.strict = strict
        self.names = tuple(names)
        self.distances: list[Tensor] = []
        self._lengths: dict[str, list[Tensor]] = {name: [] for name in self.norms}
        self._confidence: list[Tensor] = []
        self._absent: list[Tensor] = []

    def update(
        self,
        points: Tensor,
        truth: Tensor,
        presence: Tensor,
        confidence: Tensor | None = None,
        lengths: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Take in N instances in the image's own pixels.

        Args:
            points: Predicted `(N, K, 2)`.
            truth: Labelled `(N, K, 2)`.
            presence: uint8 `(N, K)` of `Presence`.
            confidence: `(N, K)` of the predictions, if it shall be held against the errors.
            lengths: `(N,)` pixels by name, of the norms that points do not tell, such as `head_length`.
        """
        labelled = (presence >= Presence.HIDDEN)[..., None]
        truth = truth.double().masked_fill(~labelled, torch.nan)
        distance = (points.double() - truth).norm(dim=-1).nan_to_num(torch.inf)
        self.distances += distance.masked_fill(~labelled[..., 0], torch.nan).cpu().unbind()
        for name, length in self.norms.items():
            told = (lengths or {})[name] if length is None else length(truth)
            self._lengths[name] += told.double().cpu().unbind()
        sure = torch.full(presence.shape, torch.nan) if confidence is None else confidence
        self._confidence += sure.double().cpu().unbind()
        self._absent += (presence == Presence.ABSENT).cpu().unbind()

    def compute(self) -> dict[str, float]:
        """Return every metric over everything taken in."""
        if not self.distances:
            return {}
        distances = torch.stack(self.distances)
        values = {"mean_error_px": distances, "median_error_px": distances.flatten().nanquantile(0.5)}
        values["rmse_px"] = distances.square().nanmean().sqrt()
        for name in self.norms:
            values |= self._by_norm(name)
        if self.names:
            values |= named("mean_error_px", self.names, distances.nanmean(0))
            values |= named("median_error_px", self.names, distances.nanquantile(0.5, 0))
        return averages(values) | self._trusted()

    def relative(self, norm: str) -> Tensor:
        """Return distance / norm of the instances that have a norm, `(N, K)`; NaN where not measured."""
        lengths = torch.stack(self._lengths[norm])
        usable = lengths.isfinite() & (lengths > 0)
        return torch.stack(self.distances)[usable] / lengths[usable, None]

    def _by_norm(self, norm: str) -> dict[str, Tensor]:
        relative, threshold = self.relative(norm), self.thresholds[norm]
        errors = relative.nanmean(1)
        errors = errors[~errors.isnan()]
        at = f"@{threshold:g}_{norm}"
        pck = f"pck@{'<' if self.strict else ''}{threshold:g}_{norm}"
        correct = (relative < threshold if self.strict else relative <= threshold).double().where(~relative.isnan(), torch.nan)
        first = norm == next(iter(self.norms))
        return {
            pck: correct,
            f"nme_{norm}": errors,
            f"median_nme_{norm}": errors.nanquantile(0.5) if len(errors) else errors,
            f"auc{at}": (1 - errors / threshold).clamp(min=0),
            f"failure{at}": (errors > threshold).double(),
            **(named(pck, self.names, correct.nanmean(0)) if first and self.names else {}),
        }

    def curve(self, norm: str, points: int = 101) -> list[tuple[float, float]]:
        """Return the CED from 0 to twice the threshold: (t, the share of instances with an error of at most t)."""
        thresholds = torch.linspace(0, 2 * self.thresholds[norm], points, dtype=torch.float64)
        shares = cumulative_error(self.relative(norm).nanmean(1), thresholds)
        return list(zip(thresholds.tolist(), shares.tolist(), strict=True))

    def _sure(self) -> tuple[Tensor, Tensor]:
        """Return the confidence and the error by the first norm of every point that is labelled or ABSENT, `(P,)` each."""
        lengths = torch.stack(self._lengths[next(iter(self.norms))])[:, None]
        confidence, absent = torch.stack(self._confidence), torch.stack(self._absent)
        errors = (torch.stack(self.distances) / lengths.where(lengths > 0, torch.nan)).masked_fill(absent, torch.inf)
        kept = ~confidence.isnan() & ~errors.isnan()
        return confidence[kept], errors[kept]

    def calibration(self) -> list[Bin]:
        """Return the errors by the first norm where confidence is low, and where it is high; empty if it is not known."""
        confidence, errors = self._sure() if self.distances else (torch.zeros(0), torch.zeros(0))
        return calibration(confidence, errors, self.thresholds[next(iter(self.norms))]) if len(confidence) else []

    def cutoff(self) -> Cutoff | None:
        """Return from which confidence on 95 % of the points are within the threshold of the first norm; None if there is none.

        Nor is there one where the confidence is always the same.
        """
        confidence, errors = self._sure() if self.distances else (torch.zeros(0), torch.zeros(0))
        if not len(confidence) or confidence.min() == confidence.max():
            return None
        return cutoff(confidence, errors, self.thresholds[next(iter(self.norms))])

    def _trusted(self) -> dict[str, float]:
        found, (norm, threshold) = self.cutoff(), next(iter(self.thresholds.items()))
        at = f"@{threshold:g}_{norm}"
        return {f"trusted_from{at}": found.confidence, f"trusted_share{at}": found.kept} if found else {}
