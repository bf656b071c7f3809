"""Boundary evaluation: hand-worked matchings and curves, and the assignment against trying every matching."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pixelwise.metrics.boundary_detection import (
    BoundaryDetectionMetrics,
    Job,
    average_precision,
    best_f,
    counted,
    evaluated_all,
    matched,
    named_at,
    recall_at_half,
    scores,
)

Mask = NDArray[np.bool_]


def blank(height: int = 40, width: int = 30) -> Mask:
    return np.zeros((height, width), bool)


def column(*places: int, height: int = 40, width: int = 30) -> Mask:
    mask = blank(height, width)
    mask[:, places] = True
    return mask


@pytest.mark.parametrize(("shift", "met"), [(0, 40), (1, 40), (2, 40), (3, 0)])
def test_a_shifted_line_is_met_up_to_the_tolerance(shift: int, met: int) -> None:
    found = matched(column(10 + shift), column(10), reach=2.5)
    assert int(found.ours.sum()) == int(found.theirs.sum()) == met


def test_a_distance_of_exactly_the_tolerance_is_met() -> None:
    assert matched(column(12), column(10), reach=2.0).ours.sum() == 40
    assert matched(column(12), column(10), reach=1.999).ours.sum() == 0


def test_a_line_drawn_twice_is_met_once() -> None:
    """80 pixels of ours beside 40 of theirs: each of theirs has one partner, so half of ours have none."""
    found = matched(column(9, 11), column(10), reach=2.5)
    assert int(found.ours.sum()) == int(found.theirs.sum()) == 40
    # the nearest pixels are the cheapest partners: on the very line rather than beside it
    nearest = matched(column(10, 12), column(10), reach=2.5)
    assert np.array_equal(nearest.ours, column(10))


def test_more_pairs_are_better_than_nearer_ones() -> None:
    """b lies on y and near x, a only near y: pairing b with y would leave a and x alone."""
    ours, theirs = blank(1, 8), blank(1, 8)
    ours[0, [2, 4]] = True  # a, b
    theirs[0, [4, 6]] = True  # y, x
    found = matched(ours, theirs, reach=2.0)
    assert int(found.ours.sum()) == int(found.theirs.sum()) == 2


def test_empty_maps() -> None:
    for ours, theirs in ((blank(), blank()), (blank(), column(3)), (column(3), blank())):
        found = matched(ours, theirs, reach=3.0)
        assert not found.ours.any() and not found.theirs.any()


def cheapest(ours: Mask, theirs: Mask, reach: float) -> tuple[int, float]:
    """Return number of pairs and sum of distances of the best matching, by trying all of them."""
    a, b = np.argwhere(ours), np.argwhere(theirs)
    for size in range(min(len(a), len(b)), 0, -1):
        costs = []
        for chosen in combinations(a.tolist(), size):
            for order in permutations(b.tolist(), size):
                distances = [math.dist(p, q) for p, q in zip(chosen, order, strict=True)]
                if max(distances) <= reach:
                    costs.append(sum(distances))
        if costs:
            return size, min(costs)
    return 0, 0.0


@pytest.mark.parametrize("seed", range(40))
def test_the_assignment_is_the_best_of_all(seed: int) -> None:
    random = np.random.default_rng(seed)
    ours, theirs = (random.random((5, 5)) < 0.18 for _ in range(2))
    ours.flat[np.flatnonzero(ours)[5:]] = False
    theirs.flat[np.flatnonzero(theirs)[5:]] = False
    reach = float(random.choice([1.0, 1.5, 2.3, 3.1]))
    found = matched(ours, theirs, reach)
    size, cost = cheapest(ours, theirs, reach)
    assert int(found.ours.sum()) == int(found.theirs.sum()) == size
    # among the matched pixels the best pairing costs no more than the best of all
    assert cheapest(found.ours, found.theirs, reach) == (size, pytest.approx(cost, abs=1e-12))


def test_counts_by_hand() -> None:
    """Two annotators: one drew our line, the other a line 3 pixels off; the diagonal is 50, so 0.05 of it is 2.5 pixels."""
    values = np.where(column(10), 0.6, 0.0) + np.where(column(20), 0.3, 0.0)
    drawings = np.stack([column(11), column(13)])
    counts = counted(values, drawings, tolerance=0.05, thresholds=3)
    # at 1/4 both lines, at 1/2 the first, at 3/4 none; theirs are 80 pixels
    assert counts.tolist() == [[40, 80, 40, 80], [40, 80, 40, 40], [0, 80, 0, 0]]
    recall, precision, f = scores(counts)
    assert recall.tolist() == [0.5, 0.5, 0] and precision.tolist() == [0.5, 1, 0]
    assert f == pytest.approx([0.5, 2 / 3, 0], abs=1e-15)
    assert best_f(counts) == (pytest.approx(2 / 3, abs=1e-12), pytest.approx(0.5, abs=1e-12))


def test_a_pixel_that_any_annotator_drew_is_precise() -> None:
    values = np.where(column(10, 20), 0.9, 0.0)
    counts = counted(values, np.stack([column(10), column(20)]), tolerance=0.01, thresholds=1)
    assert counts.tolist() == [[80, 80, 80, 80]]


def test_what_is_not_known_has_no_vote() -> None:
    values = np.where(column(10, 20), 0.9, 0.0)
    known = blank()
    known[:, :15] = True
    assert counted(values, column(10)[None], known=known, thresholds=1).tolist() == [[40, 40, 40, 40]]
    assert counted(values, column(10)[None], thresholds=1).tolist() == [[40, 40, 40, 80]]


def test_a_thick_line_is_thinned_first() -> None:
    counts = counted(column(9, 10, 11) * 0.9, column(10)[None], tolerance=0.05, thresholds=1)
    assert counts[0, 3] <= 40 and counts[0, 0] >= 38


def test_f_is_interpolated_between_thresholds() -> None:
    """From (R, P) = (1, 0.2) to (0.2, 1) straight: R = P = 0.6 halfway, where F is 0.6; both ends have 1/3."""
    counts = np.array([[10, 10, 10, 50], [2, 10, 10, 10]])
    f, threshold = best_f(counts)
    assert f == pytest.approx(0.6, abs=1e-4)
    assert threshold == pytest.approx(0.5, abs=0.005)


def test_average_precision_by_hand() -> None:
    """P = 1 at recalls from 0.2 to 0.5, so 31 of the recalls 0, 0.01, ... are reached, each with precision 1: 31 / 100."""
    counts = np.array([[50, 100, 7, 7], [20, 100, 3, 3]])
    assert average_precision(counts) == pytest.approx(0.31, abs=1e-12)
    # from (R, P) = (0, 1) to (1, 0.5): the mean is 0.75 over 101 recalls
    slope = np.array([[100, 100, 50, 100], [0, 100, 5, 5]])
    assert average_precision(slope) == pytest.approx(0.75 * 1.01, abs=1e-12)
    assert recall_at_half(slope) == pytest.approx(1.0, abs=1e-12)
    # P from 0.25 at R = 1 to 0.75 at R = 0.5: P = 0.5 halfway
    assert recall_at_half(np.array([[100, 100, 25, 100], [50, 100, 75, 100]])) == pytest.approx(0.75, abs=1e-12)


def test_ois_takes_each_pictures_own_threshold() -> None:
    """Faint lines in one picture, strong noise in the other: no threshold serves both."""
    metrics = BoundaryDetectionMetrics(thresholds=3)
    metrics.counts = [
        np.array([[10, 10, 10, 10], [0, 10, 0, 0], [0, 10, 0, 0]]),
        np.array([[10, 10, 10, 90], [10, 10, 10, 90], [10, 10, 10, 10]]),
    ]
    found = metrics.compute()
    assert found["ois@0.0075,3thr"] == 1.0
    assert found["ods@0.0075,3thr"] == pytest.approx(2 / 3, abs=1e-3)  # at the last: R = 10 / 20, P = 10 / 10
    assert found["ods_threshold"] == pytest.approx(0.75, abs=1e-12)


def test_nothing_drawn_has_no_metric() -> None:
    metrics = BoundaryDetectionMetrics()
    assert metrics.compute() == {}
    metrics.update(np.full((20, 20), 0.5), np.zeros((2, 20, 20), bool))
    assert metrics.compute() == {}


def test_a_map_of_nothing_scores_zero() -> None:
    metrics = BoundaryDetectionMetrics()
    metrics.update(np.zeros((40, 30)), column(10)[None])
    found = metrics.compute()
    assert found["ods@0.0075"] == found["ois@0.0075"] == found["ap@0.0075"] == 0.0


def test_a_soft_line_is_a_perfect_one() -> None:
    """A blurred line of a constant height is a ridge of one pixel, faded only where the benchmark fades it: at the border."""
    x = np.arange(100)
    values = np.tile(np.exp(-(((x - 50) / 3.0) ** 2)), (80, 1))
    drawing = np.zeros((80, 100), bool)
    drawing[:, 50] = True
    metrics = BoundaryDetectionMetrics()
    metrics.update(values, drawing[None])
    found = metrics.compute()
    # the first and the last row fade to 0: 78 of 80 are found, and nothing else
    assert found["ods@0.0075"] == pytest.approx(2 * 78 / (78 + 80), abs=1e-9)


def test_processes_do_not_change_the_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    jobs = [Job(random.random((24, 24)).astype(np.float32), random.random((2, 24, 24)) < 0.1, None) for _ in range(3)]
    alone = evaluated_all(jobs, 0.05, 5)
    monkeypatch.setattr("pixelwise.metrics.boundary_detection.ALONE", 0)
    together = evaluated_all(jobs, 0.05, 5, processes=2)
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_a_script_without_a_guard_is_answered_too(tmp_path: Path) -> None:
    """Each new process runs the script again and may not start its own: what is left is counted by the first."""
    script = tmp_path / "plain.py"
    script.write_text(
        "import numpy as np\n"
        "from pixelwise.metrics import boundary_detection as metrics\n"
        "metrics.ALONE = 0\n"
        "line = np.eye(24, dtype=bool)\n"
        "jobs = [metrics.Job(line.astype(np.float32), line[None], None)] * 2\n"
        "print(np.array_equal(*metrics.evaluated_all(jobs, 0.05, 3, processes=2)))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, str(script)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert (done.returncode, done.stdout.split()[-1:]) == (0, ["True"]), done.stderr


def test_the_number_of_thresholds_is_in_the_name_unless_it_is_that_of_the_benchmark() -> None:
    assert named_at("ods", 0.0075, 99) == "ods@0.0075" and named_at("ap", 0.011, 24) == "ap@0.011,24thr"
