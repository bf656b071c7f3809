"""Distances between predicted and labelled points, in pixels and relative to the size of the object.

Percentage of correct key points: Yang and Ramanan 2013. Normalised mean error, its cumulative distribution and the area
under it: Sagonas et al. 2013 (300-W).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from pixelwise.geometry.presence import Presence
from pixelwise.metrics.averages import averages

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


def cumulative_error(errors: Tensor, thresholds: Tensor) -> Tensor:
    """Return the share of `errors` (any shape, NaN not counted) that is at most each of the `thresholds` `(T,)`."""
    errors = errors[~errors.isnan()]
    return (errors <= thresholds[:, None]).double().mean(1)


class KeypointMetrics:
    """Accumulates distances of the HIDDEN and VISIBLE points; UNKNOWN and ABSENT ones are not measured.

    - `mean_error_px`, `median_error_px`: over all points. The mean may be carried by few gross errors: look at both.
    - `pck@<t>_<norm>`: share of all points with distance / norm <= t (MPII and HRNet; mmpose takes <).
    - `nme_<norm>`: distance / norm, averaged over the points of an instance, then over instances.
    - `auc@<t>_<norm>`: area under the cumulative distribution of the instances' errors from 0 to t, divided by t;
      exact.
    - `failure@<t>_<norm>`: share of the instances with an error > t.

    A labelled point without a prediction (NaN) is infinitely far away. A metric that cannot be measured, or is
    infinite, has no key; an instance whose norm is 0 or unknown has no part in the metrics of that norm.

    Attributes:
        distances: `(K,)` pixels of every instance, in order; NaN where not measured.
    """

    def __init__(self, norms: Mapping[str, Length] | None = None, *, threshold: float = 0.1) -> None:
        """Begin with no points.

        Args:
            norms: Lengths by name that distances are divided by; None means `bbox`, the `box_side`.
            threshold: The t in the names of the metrics.
        """
        self.norms = {"bbox": box_side} if norms is None else dict(norms)
        self.threshold = threshold
        self.distances: list[Tensor] = []
        self._lengths: dict[str, list[Tensor]] = {name: [] for name in self.norms}

    def update(self, points: Tensor, truth: Tensor, presence: Tensor) -> None:
        """Take in N instances in the image's own pixels.

        Args:
            points: Predicted `(N, K, 2)`.
            truth: Labelled `(N, K, 2)`.
            presence: uint8 `(N, K)` of `Presence`.
        """
        labelled = (presence >= Presence.HIDDEN)[..., None]
        truth = truth.double().masked_fill(~labelled, torch.nan)
        distance = (points.double() - truth).norm(dim=-1).nan_to_num(torch.inf)
        self.distances += distance.masked_fill(~labelled[..., 0], torch.nan).cpu().unbind()
        for name, length in self.norms.items():
            self._lengths[name] += length(truth).cpu().unbind()

    def compute(self) -> dict[str, float]:
        """Return every metric over everything taken in."""
        if not self.distances:
            return {}
        distances = torch.stack(self.distances)
        values = {"mean_error_px": distances, "median_error_px": distances.flatten().nanquantile(0.5)}
        for name in self.norms:
            values |= self._relative(distances, name)
        return averages(values)

    def _relative(self, distances: Tensor, norm: str) -> dict[str, Tensor]:
        lengths = torch.stack(self._lengths[norm])
        usable = lengths.isfinite() & (lengths > 0)
        relative = distances[usable] / lengths[usable, None]
        errors = relative.nanmean(1)
        errors, measured = errors[~errors.isnan()], relative[~relative.isnan()]
        at = f"@{self.threshold:g}_{norm}"
        return {
            f"pck{at}": (measured <= self.threshold).double(),
            f"nme_{norm}": errors,
            f"auc{at}": (1 - errors / self.threshold).clamp(min=0),
            f"failure{at}": (errors > self.threshold).double(),
        }
