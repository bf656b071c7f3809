"""How far off the points are of those who were found, and how many points that is, where there are several in an image."""

from __future__ import annotations

import torch
from torch import Tensor

from pixelwise.geometry.presence import Presence
from pixelwise.metrics.averages import averages
from pixelwise.metrics.keypoints import box_side


class MatchedKeypointMetrics:
    """Accumulates distances between the points of people found and of those labelled, once it is settled who is whom.

    A person found and one labelled differ by the mean, over the labelled points, of distance / longer side of the labelled
    box, at most 1 each, and 1 where no point was found. The one-to-one match of least total difference counts (Hungarian
    method), without pairs that differ by 1.

    - `mean_error_px_matched`, `median_error_px_matched`: over all labelled points that the matched person has, however far off.
    - `points_matched`: those points as a share of all labelled points, of people who were not found too.
    - `people_matched`: labelled people who were found, as a share. `people_extra`: found ones whom nobody labelled, as a share
      of all found. Who is excused and matches nobody is not counted.
    """

    def __init__(self) -> None:
        self._distances: list[Tensor] = []
        self._labelled: list[Tensor] = []
        self._found: list[Tensor] = []

    def update(self, points: Tensor, truth: Tensor, presence: Tensor, excused: Tensor | None = None) -> None:
        """Take in one image.

        Args:
            points: Predicted `(N, K, 2)` in the image's own pixels; NaN where there is none.
            truth: Labelled `(M, K, 2)`.
            presence: uint8 `(M, K)` of `Presence`; people without labelled points are not measured.
            excused: bool `(N,)`: people found where people may be whom nobody labelled; by default none is.
        """
        from scipy.optimize import linear_sum_assignment

        labelled = presence >= Presence.HIDDEN
        somebody = labelled.any(1)
        truth, labelled = truth[somebody].double(), labelled[somebody]
        distances = (points.double()[:, None] - truth).norm(dim=-1).masked_fill(~labelled, torch.nan)
        difference = _difference(distances, labelled, box_side(truth.masked_fill(~labelled[..., None], torch.nan)))
        first, second = (torch.from_numpy(side) for side in linear_sum_assignment(difference.numpy()))
        matched = difference[first, second] < 1
        found = distances[first[matched], second[matched]]
        self._distances.append(found[~found.isnan()])
        self._labelled.append(torch.tensor([len(self._distances[-1]), int(labelled.sum())]))
        counted = torch.ones(len(points), dtype=torch.bool) if excused is None else ~excused
        counted[first[matched]] = True
        self._found.append(torch.tensor([int(matched.sum()), len(truth), int(counted.sum())]))

    def compute(self) -> dict[str, float]:
        """Return every metric over everything taken in."""
        if not self._found:
            return {}
        distances = torch.cat(self._distances)
        matched, labelled = torch.stack(self._labelled).sum(0).double()
        people, true, found = torch.stack(self._found).sum(0).double()
        return averages(
            {
                "mean_error_px_matched": distances,
                "median_error_px_matched": distances.nanquantile(0.5) if len(distances) else distances,
                "points_matched": matched / labelled,
                "people_matched": people / true,
                "people_extra": 1 - people / found,
            }
        )


def _difference(distances: Tensor, labelled: Tensor, sides: Tensor) -> Tensor:
    """Return how much N people found differ from M labelled ones, `(N, M)` from 0 to 1, by distances `(N, M, K)`."""
    relative = (distances / sides[:, None].clamp(min=1)).clamp(max=1).nan_to_num(1.0)
    return relative.where(labelled, 0.0).sum(-1) / labelled.sum(-1)
