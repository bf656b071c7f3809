"""How well a map of boundaries meets what several people drew: ODS, OIS, AP and R50 of the Berkeley benchmark (BSDS).

Martin, Fowlkes and Malik, "Learning to Detect Natural Image Boundaries Using Local Brightness, Color, and Texture Cues" (2004);
Arbelaez, Maire, Fowlkes and Malik, "Contour Detection and Hierarchical Image Segmentation" (2011). The steps are those of
`edgesEvalImg` and `edgesEvalDir` in Dollar's toolbox, with the assignment solved exactly where they solve it nearly. Torch is
not imported, so that a worker process starts quickly.
"""

from __future__ import annotations

import math
import multiprocessing
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixelwise.geometry.lines import Map, Mask, ridges, thin

Counts = NDArray[np.int64]
THRESHOLDS = 99
TOLERANCE = 0.0075
OUTLIER = 100.0
"""What leaving a pixel without a partner costs, in units of the greatest distance, as in the benchmark's `match.cc`."""
STEPS = 100
"""Places between two thresholds at which precision and recall are interpolated."""
PART = 2048
"""Pairs that are assigned together, or those of one connected component."""
ALONE = 2**22
"""Pixels of all pictures together up to which other processes would take longer to start than they save."""


class Matches(NamedTuple):
    """Which pixels have a partner in the other map, bool `(H, W)` each."""

    ours: Mask
    theirs: Mask


class Pairs(NamedTuple):
    """Candidates: pixel number `ours` of our boundary and `theirs` of the other lie `distance` apart; each `(E,)`."""

    ours: NDArray[np.int64]
    theirs: NDArray[np.int64]
    distance: NDArray[np.float64]

    def where(self, kept: NDArray[Any]) -> Pairs:
        """Return some of the pairs."""
        return Pairs(self.ours[kept], self.theirs[kept], self.distance[kept])


def matched(ours: Mask, theirs: Mask, reach: float) -> Matches:
    """Pair the pixels of two maps, each at most once and at most `reach` pixels apart, at the least cost.

    The cost is the sum of the distances and, for each pixel without a partner, 100 times `reach`: so as many pairs as can be.

    Args:
        ours: bool `(H, W)`.
        theirs: bool `(H, W)`.
        reach: In pixels.
    """
    met = Matches(np.zeros_like(ours), np.zeros_like(theirs))
    left, right = np.flatnonzero(ours), np.flatnonzero(theirs)
    pairs = _assigned(_candidates(ours, theirs, reach), reach)
    met.ours.flat[left[pairs.ours]] = True
    met.theirs.flat[right[pairs.theirs]] = True
    return met


def _candidates(ours: Mask, theirs: Mask, reach: float) -> Pairs:
    """Return all pairs of pixels at most `reach` apart, found by looking at every place around each pixel of ours."""
    margin = math.floor(reach)
    number = np.full((theirs.shape[0] + 2 * margin, theirs.shape[1] + 2 * margin), -1, np.int64)
    number[margin : margin + theirs.shape[0], margin : margin + theirs.shape[1]][theirs] = np.arange(theirs.sum())
    rows, columns = np.mgrid[-margin : margin + 1, -margin : margin + 1].reshape(2, -1)
    distance = np.hypot(rows, columns)
    near = distance <= reach
    y, x = np.nonzero(ours)
    start = (y + margin) * number.shape[1] + x + margin
    found = number.ravel()[start[:, None] + (rows * number.shape[1] + columns)[near]]
    left, place = np.nonzero(found >= 0)
    return Pairs(left, found[left, place], distance[near][place])


def _assigned(pairs: Pairs, reach: float) -> Pairs:
    """Return the pairs of the cheapest one-to-one matching."""
    single = (np.bincount(pairs.ours)[pairs.ours] == 1) & (np.bincount(pairs.theirs)[pairs.theirs] == 1)
    certain, contested = pairs.where(single), pairs.where(~single)
    parts = [part.where(_cheapest(part, reach)) for part in _apart(contested)]
    return Pairs(*(np.concatenate(columns) for columns in zip(certain, *parts, strict=True)))


def _apart(pairs: Pairs) -> Iterator[Pairs]:
    """Part the pairs so that no pixel is in two parts; the solver takes time with the square of the pixels."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    if not len(pairs.ours):
        return
    ours, theirs = pairs.ours.max() + 1, pairs.theirs.max() + 1
    graph = csr_array((np.ones(len(pairs.ours)), (pairs.ours, ours + pairs.theirs)), shape=(ours + theirs, ours + theirs))
    component = connected_components(graph, directed=False)[1][pairs.ours]
    sizes = np.bincount(component)
    part = ((np.cumsum(sizes) - sizes) // PART)[component]
    order = np.argsort(part, kind="stable")
    for one in np.split(order, np.flatnonzero(np.diff(part[order])) + 1):
        yield pairs.where(one)


def _cheapest(pairs: Pairs, reach: float) -> NDArray[np.intp]:
    """Return which pairs a matching of least cost takes; each pixel of the smaller side may instead take a partner of its own.

    The number of pairs decides how many pixels of both sides are left alone, so it is enough to let one side pay for both.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    left, right = (np.unique(side, return_inverse=True)[1] for side in (pairs.ours, pairs.theirs))
    rows, columns = (left, right) if left.max() <= right.max() else (right, left)
    count, width = rows.max() + 1, columns.max() + 1
    alone = np.arange(count)
    cost = np.concatenate([1 + pairs.distance, np.full(count, 1 + 2 * OUTLIER * reach)])  # a stored 0 would be no pair
    places = np.concatenate([rows, alone]), np.concatenate([columns, width + alone])
    chosen_rows, chosen = min_weight_full_bipartite_matching(csr_array((cost, places), shape=(count, width + count)))
    partner = np.empty(count, np.int64)
    partner[chosen_rows] = chosen
    return np.flatnonzero(partner[rows] == columns)


def counted(
    values: Map, drawings: Mask, *, known: Mask | None = None, tolerance: float = TOLERANCE, thresholds: int = THRESHOLDS
) -> Counts:
    """Count how many boundary pixels of a map and of several drawings are matched, at each threshold.

    Args:
        values: `(H, W)` in [0, 1], thin (`ridges`); at threshold k / (thresholds + 1) what is at least that is a boundary.
        drawings: bool `(A, H, W)`, the boundary that each of A annotators drew.
        known: bool `(H, W)`; pixels of the map elsewhere have no vote. None means everywhere.
        tolerance: Greatest distance of a pair, as a fraction of the picture's diagonal.
        thresholds: Their number.

    Returns:
        int64 `(thresholds, 4)`: pixels of the drawings matched, of all; pixels of the map matched in any drawing, of all.
    """
    reach = tolerance * math.hypot(*values.shape)
    rows: list[tuple[int, int, int, int]] = []
    before: Mask | None = None
    for number in range(1, thresholds + 1):
        above = values >= number / (thresholds + 1)
        if before is None or not np.array_equal(above, before):
            before, lines = above, thin(above)
            counts = _matches(lines if known is None else lines & known, drawings, reach)
        rows.append(counts)
    return np.array(rows, np.int64)


def _matches(lines: Mask, drawings: Mask, reach: float) -> tuple[int, int, int, int]:
    recalled, precise = 0, np.zeros_like(lines)
    for drawing in drawings:
        met = matched(lines, drawing, reach)
        recalled += int(met.theirs.sum())
        precise |= met.ours
    return recalled, int(drawings.sum()), int(precise.sum()), int(lines.sum())


class Job(NamedTuple):
    """One picture to be evaluated; arguments as for `counted`, but `values` is not thin yet."""

    values: Map
    drawings: Mask
    known: Mask | None


def evaluated(job: Job, tolerance: float, thresholds: int) -> Counts:
    """Make the map of one picture thin and count (`counted`)."""
    return counted(ridges(job.values), job.drawings, known=job.known, tolerance=tolerance, thresholds=thresholds)


def evaluated_all(jobs: Sequence[Job], tolerance: float, thresholds: int, processes: int | None = None) -> list[Counts]:
    """Evaluate pictures (`evaluated`), many of them in several processes.

    Args:
        jobs: The pictures.
        tolerance: As for `counted`.
        thresholds: As for `counted`.
        processes: None means one for each core.
    """
    one = partial(evaluated, tolerance=tolerance, thresholds=thresholds)
    cores = processes or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else processes or os.cpu_count() or 1
    if cores == 1 or sum(job.values.size for job in jobs) <= ALONE:
        return [one(job) for job in jobs]
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(min(cores, len(jobs)), context) as pool:
            return list(pool.map(one, jobs))
    except BrokenProcessPool:  # a new process runs the main script again, and stops where that is not guarded
        return [one(job) for job in jobs]


def scores(counts: Counts | NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return recall, precision and F = 2 P R / (P + R) of counts `(..., 4)`; 0 / 0 is 0, as in the benchmark."""
    recalled, drawn, precise, found = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    recall, precision = recalled / np.maximum(drawn, 1e-12), precise / np.maximum(found, 1e-12)
    return recall, precision, 2 * precision * recall / np.maximum(precision + recall, 1e-12)


def best_f(counts: Counts) -> tuple[float, float]:
    """Return the greatest F over all thresholds, and the threshold; recall and precision are interpolated linearly between two.

    Args:
        counts: int64 `(thresholds, 4)` of a whole data set.
    """
    recall, precision, _ = scores(counts)
    places = np.arange((len(counts) - 1) * (STEPS - 1) + 1) / (STEPS - 1)
    r, p = (np.interp(places, np.arange(len(counts)), curve) for curve in (recall, precision))
    f = 2 * p * r / np.maximum(p + r, 1e-12)
    return float(f.max()), float((1 + places[f.argmax()]) / (len(counts) + 1))


def average_precision(counts: Counts) -> float:
    """Return the sum of the precision at the recalls 0, 0.01, ..., 1 that are reached, divided by 100 as the benchmark does."""
    recall, precision, _ = scores(counts)
    reached, first = np.unique(recall, return_index=True)
    if len(reached) < 2:
        return 0.0
    wanted = np.arange(101) / 100
    wanted = wanted[(wanted >= reached[0]) & (wanted <= reached[-1])]
    return float(np.interp(wanted, reached, precision[first]).sum() / 100)


def recall_at_half(counts: Counts) -> float:
    """Return the recall at precision 0.5, or at the least precision if that is more."""
    recall, precision, _ = scores(counts)
    ordered, first = np.unique(precision, return_index=True)
    return float(np.interp(max(ordered[0], 0.5), ordered, recall[first]))


def named_at(name: str, tolerance: float, thresholds: int) -> str:
    """Return the name of a metric with its convention: the tolerance, and the number of thresholds unless it is 99."""
    return f"{name}@{tolerance:g}" + (f",{thresholds}thr" if thresholds != THRESHOLDS else "")


class BoundaryDetectionMetrics:
    """Gathers maps and drawings; all are evaluated together when the metrics are asked for.

    With the tolerance t as a fraction of the diagonal (0.0075 for BSDS500, 0.011 for NYUD):

    - `ods@<t>`: the greatest F of all pictures together at one threshold; F is the harmonic mean of the share of the drawn
      pixels that are matched (each annotator counts) and the share of ours matched with any annotator's.
    - `ois@<t>`: F of all pictures together, each at its own best threshold.
    - `ap@<t>`: mean precision over recall; recalls that no threshold reaches count 0.
    - `r50@<t>`: recall where the precision is 0.5.
    - `ods_threshold`: the threshold of the first.

    Fewer thresholds than the benchmark's 99 find lower figures, so their number follows: `ods@0.0075,24thr`.

    Where nobody drew anything in any picture, there is no metric.

    Attributes:
        counts: int64 `(thresholds, 4)` of every picture evaluated, in order.
    """

    def __init__(self, tolerance: float = TOLERANCE, thresholds: int = THRESHOLDS, processes: int | None = None) -> None:
        """Begin with no pictures; `processes` None means one for each core, where there is enough to do."""
        self.tolerance, self.thresholds, self.processes = tolerance, thresholds, processes
        self.counts: list[Counts] = []
        self._waiting: list[Job] = []

    def update(self, values: Map, drawings: Iterable[Mask], known: Mask | None = None) -> None:
        """Take in one picture's map `(H, W)` in [0, 1], not thin, and drawings, bool `(A, H, W)`; `known` as `counted`."""
        self._waiting.append(Job(np.asarray(values, np.float32), np.asarray(drawings, bool), known))

    def compute(self) -> dict[str, float]:
        """Return every metric over everything taken in."""
        self.counts += evaluated_all(self._waiting, self.tolerance, self.thresholds, self.processes)
        self._waiting.clear()
        total = sum(self.counts, np.zeros((self.thresholds, 4), np.int64))
        if not total[0, 1]:
            return {}
        own = sum((counts[scores(counts)[2].argmax()] for counts in self.counts), np.zeros(4, np.int64))
        ods, threshold = best_f(total)
        named = {"ods": ods, "ois": float(scores(own)[2]), "ap": average_precision(total), "r50": recall_at_half(total)}
        return {named_at(name, self.tolerance, self.thresholds): value for name, value in named.items()} | {
            "ods_threshold": threshold
        }
