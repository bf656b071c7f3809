"""The boundary F-score, worked out by hand and against distances computed by SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_cdt

from pixelwise.metrics.outlines import BoundaryMetrics, outlines, widened

LEFT = torch.tensor([[0, 0, 0, 1, 1, 1]] * 4)
MOVED = torch.tensor([[0, 1, 1, 1, 1, 1]] * 4)


def score(predicted: torch.Tensor, labels: torch.Tensor, tolerance: int, classes: str = "ab") -> dict[str, float]:
    metrics = BoundaryMetrics(classes, tolerance)
    metrics.update(predicted, labels)
    return metrics.compute()


def test_outlines_are_the_pixels_beside_another_class() -> None:
    found = outlines(torch.tensor([[0, 0, 1], [0, 255, 1], [2, 2, 1]]), 3)
    assert found[0].tolist() == [[False, True, False], [True, False, False], [False, False, False]]
    assert found[1].tolist() == [[False, False, True], [False, False, False], [False, False, True]]
    assert found[2].tolist() == [[False, False, False], [False, False, False], [True, True, False]]


def test_the_border_is_no_outline() -> None:
    assert not outlines(torch.zeros(5, 4, dtype=torch.uint8), 2).any()


def test_an_edge_two_pixels_off() -> None:
    """The outlines lie in columns 2 | 3 and, predicted, 0 | 1: two columns apart each."""
    assert score(LEFT, LEFT, 0) == {"boundary_f@0px": 1, "boundary_f@0px/a": 1, "boundary_f@0px/b": 1}
    assert score(MOVED, LEFT, 1) == {"boundary_f@1px": 0, "boundary_f@1px/a": 0, "boundary_f@1px/b": 0}
    assert score(MOVED, LEFT, 2) == {"boundary_f@2px": 1, "boundary_f@2px/a": 1, "boundary_f@2px/b": 1}


def test_precision_and_recall() -> None:
    """One of two predicted stripes is true: P = 1/2 and R = 1 for each class, so F = 2/3."""
    labels = torch.tensor([[0] * 4 + [1] * 12] * 3)
    predicted = torch.tensor([[0] * 4 + [1] * 4 + [0] * 8] * 3)
    assert score(predicted, labels, 1)["boundary_f@1px"] == pytest.approx(2 / 3)
    assert score(labels, predicted, 1)["boundary_f@1px"] == pytest.approx(2 / 3), "P = 1 and R = 1/2"


def test_a_class_of_one_side_only_is_zero_and_of_none_has_no_key() -> None:
    found = score(torch.where(MOVED == 1, 2, 0), LEFT, 2, "abcd")
    assert found.pop("boundary_f@2px") == pytest.approx(1 / 3)
    assert found == {"boundary_f@2px/a": 1, "boundary_f@2px/b": 0, "boundary_f@2px/c": 0}
    assert score(torch.zeros(4, 4, dtype=torch.int64), torch.zeros(4, 4, dtype=torch.int64), 1) == {}


def test_what_is_predicted_beside_the_unknown_has_no_vote() -> None:
    """The truth is unknown in columns 2 and 3, so there is no true outline, and none of the predicted ones counts."""
    labels = LEFT.clone()
    labels[:, 2:4] = 255
    assert score(LEFT, labels, 1) == {}
    assert score(MOVED, labels, 0)["boundary_f@0px"] == 0, "a whole pixel away it does"


def test_counts_are_accumulated_over_images() -> None:
    metrics = BoundaryMetrics("ab", 1)
    metrics.update(LEFT, LEFT)
    metrics.update(MOVED, LEFT)
    assert metrics.counts.tolist() == [[8, 4, 8, 4], [8, 4, 8, 4]]
    assert metrics.compute()["boundary_f@1px"] == 0.5


@pytest.mark.parametrize("tolerance", [0, 1, 3])
def test_widened_is_the_chessboard_distance(tolerance: int) -> None:
    mask = torch.from_numpy(np.random.default_rng(tolerance).random((2, 20, 30)) < 0.02)
    expected = np.stack([distance_transform_cdt(~one, "chessboard") <= tolerance for one in mask.numpy()])
    assert np.array_equal(widened(mask, tolerance).numpy(), expected)
