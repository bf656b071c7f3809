"""Norms, thresholds, medians, single points, and what a confidence is worth; every number is worked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from pixelwise.data.skeletons import LSP14
from pixelwise.errors import UsageError
from pixelwise.geometry.presence import Presence
from pixelwise.metrics.calibration import Bin, Cutoff, calibration, cutoff
from pixelwise.metrics.keypoint_pictures import keypoint_pictures
from pixelwise.metrics.keypoints import KeypointMetrics, Length, head_length, norms_of
from pixelwise.recipe import find_recipe

NAN, INF = math.nan, math.inf
VISIBLE, ABSENT, UNKNOWN = Presence.VISIBLE, Presence.ABSENT, Presence.UNKNOWN


def of(length: float) -> Length:
    return lambda truth: torch.full((len(truth),), length)


def shifted(
    metrics: KeypointMetrics,
    errors: list[list[float]],
    presence: list[list[int]] | None = None,
    sure: torch.Tensor | None = None,
) -> KeypointMetrics:
    """Take in instances of which each point is wrong by so many pixels to the right."""
    apart = torch.tensor(errors)
    truth = torch.arange(apart.numel()).view(*apart.shape, 1) * torch.tensor([3.0, 5.0])
    points = truth + torch.stack([apart, torch.zeros_like(apart)], -1)
    seen = torch.full(apart.shape, VISIBLE) if presence is None else torch.tensor(presence)
    metrics.update(points, truth, seen.to(torch.uint8), sure)
    return metrics


def test_mmposes_example_point_by_point() -> None:
    """Errors 0, 14.1, masked, 0, 0 and 0, 0, masked, 0, 0 with norm 10: mmpose says [1, 0.5, -1, 1, 1]."""
    points = torch.tensor([[[10.0, 0], [20, 20], [0, 0], [30, 30], [0, 10]], [[0.0, 0]] * 5])
    truth = torch.tensor([[[10.0, 0], [10, 10], [-1, 0], [30, 30], [0, 10]], [[0.0, 0]] * 5])
    presence = torch.tensor([[VISIBLE, VISIBLE, UNKNOWN, VISIBLE, VISIBLE]] * 2, dtype=torch.uint8)
    metrics = KeypointMetrics({"ten": of(10)}, threshold=0.5, strict=True, names="abcde")
    metrics.update(points, truth, presence)
    found = metrics.compute()
    assert found["pck@<0.5_ten"] == 0.875
    single = {name: value for name, value in found.items() if name.startswith("pck@<0.5_ten/")}
    assert single == {f"pck@<0.5_ten/{point}": value for point, value in zip("abde", [1, 0.5, 1, 1], strict=True)}
    assert found["mean_error_px/b"] == pytest.approx(math.sqrt(200) / 2) and "mean_error_px/c" not in found


def test_a_distance_of_exactly_the_threshold_counts_unless_the_name_says_otherwise() -> None:
    errors = [[0.0, 5.0, 5.0, 6.0]]
    assert shifted(KeypointMetrics({"ten": of(10)}, threshold=0.5), errors).compute()["pck@0.5_ten"] == 0.75
    assert shifted(KeypointMetrics({"ten": of(10)}, threshold=0.5, strict=True), errors).compute()["pck@<0.5_ten"] == 0.25


def test_root_of_the_mean_square_beside_mean_and_median() -> None:
    found = shifted(KeypointMetrics(), [[0.0, 1, 2, 7]]).compute()
    assert found["mean_error_px"] == 2.5 and found["median_error_px"] == 1.5
    assert found["rmse_px"] == pytest.approx(math.sqrt(54 / 4))


def test_median_of_the_instances_beside_their_mean() -> None:
    found = shifted(KeypointMetrics({"ten": of(10)}), [[1.0, 1], [2, 2], [9, 15]]).compute()
    assert found["nme_ten"] == pytest.approx((0.1 + 0.2 + 1.2) / 3) and found["median_nme_ten"] == pytest.approx(0.2)
    assert found["failure@0.1_ten"] == pytest.approx(2 / 3)


def test_norms_that_the_names_tell() -> None:
    names = ("nose", "left_shoulder", "Left Eye Outer", "right_hip", "right_eye_outer")
    points = torch.tensor([[[0.0, 0], [0, 0], [10, 10], [30, 40], [10, 18]]])
    norms = norms_of(names, ("nose", "3"))
    assert list(norms) == ["nose-right_hip", "bbox", "torso", "interocular"]
    lengths = {name: length(points).item() for name, length in norms.items() if length}
    assert lengths == {"nose-right_hip": 50, "bbox": 40, "torso": 50, "interocular": 8}
    assert list(norms_of(("left_shoulder", "nose"))) == ["bbox"]
    torso = norms_of(LSP14.names)["torso"]  # l_shoulder, point 9, and r_hip, point 2
    ends = torch.zeros(1, 14, 2)
    ends[0, 9], ends[0, 2] = torch.tensor([1.0, 2]), torch.tensor([4.0, 6])
    assert torso is not None and torso(ends).item() == 5
    found = shifted(KeypointMetrics({"torso": of(10), "bbox": of(20)}), [[2.0, 3]]).compute()
    assert found["pck@0.2_torso"] == 0.5 and found["pck@0.1_bbox"] == 0.5


def test_a_pair_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="no point 'noze'") as refused:
        norms_of(("nose", "tail"), ("noze", "tail"))
    assert refused.value.hint == "did you mean 'nose'?"
    with pytest.raises(UsageError, match="no point '2'"):
        norms_of(("nose", "tail"), ("0", "2"))


def test_pckh_divides_by_six_tenths_of_the_diagonal_of_the_heads_box() -> None:
    """A box of 30 x 40 has a diagonal of 50, hence 30 pixels; half of that is 15."""
    length = head_length(torch.tensor([[10.0, 10, 40, 50]]))
    assert length.tolist() == pytest.approx([30], abs=1e-5)
    metrics = KeypointMetrics({"headbox": None})
    points = torch.tensor([[[14.99, 0], [15.01, 0]]])
    metrics.update(points, torch.zeros(1, 2, 2), torch.full((1, 2), VISIBLE, dtype=torch.uint8), lengths={"headbox": length})
    assert metrics.compute()["pck@0.5_headbox"] == 0.5


def test_pckh_by_two_points_of_the_head() -> None:
    """Head top and neck are 3 and 4 px apart, hence 5; half of that is 2.5, and a point exactly there counts."""
    norms = norms_of(("neck", "top", "hand", "foot"), head=("top", "0"))
    assert list(norms) == ["bbox", "head"]
    metrics = KeypointMetrics(norms)
    truth = torch.tensor([[[10.0, 10], [13, 6], [50, 50], [60, 60]]])
    points = truth + torch.tensor([[0.0, 0], [2.5, 0], [0, 2.51], [90, 0]])
    metrics.update(points, truth, torch.full((1, 4), VISIBLE, dtype=torch.uint8))
    assert metrics.compute()["pck@0.5_head"] == 0.5
    with pytest.raises(UsageError, match="'top' has no distance from itself"):
        norms_of(("neck", "top"), head=("top", "1"))


def test_the_cumulative_distribution_reaches_twice_the_threshold() -> None:
    metrics = shifted(KeypointMetrics({"ten": of(10)}), [[0.5, 0.5], [1.0, 1.0], [1.5, 1.5], [9, 9]])
    thresholds, shares = zip(*metrics.curve("ten", points=5), strict=True)
    assert thresholds == pytest.approx((0, 0.05, 0.1, 0.15, 0.2)) and shares == (0, 0.25, 0.5, 0.75, 0.75)


def test_bins_hold_equally_many_and_equal_confidences_stay_together() -> None:
    confidence = torch.tensor([0.9, 0.1, 0.5, 0.5, 0.5, 0.8])
    errors = torch.tensor([0.0, 3, 1, INF, 2, 1])
    assert calibration(confidence, errors, 1.5, bins=3) == [
        Bin(pytest.approx(0.1), 0.5, 4, 2.5, 0.75),
        Bin(pytest.approx(0.8), pytest.approx(0.9), 2, 0.5, 0),
    ]


def test_the_cutoff_is_the_smallest_confidence_from_which_on_enough_points_are_right() -> None:
    confidence, errors = torch.arange(1, 101) / 100, torch.zeros(100)
    errors[[3, 7, 9, 11, 19, 29, 39]] = 9  # 0.04, 0.08, 0.10, 0.12, 0.20, 0.30 and 0.40 are wrong
    # from 0.09 on 5 of 92 are wrong, from 0.11 on 4 of 90, from 0.10 on 5 of 91 (0.9451)
    assert cutoff(confidence, errors, 1) == Cutoff(pytest.approx(0.11), 0.9)
    assert cutoff(confidence, torch.full((100,), 9.0), 1) is None
    assert cutoff(confidence, torch.ones(100), 1) == Cutoff(pytest.approx(0.01), 1), "at the threshold is within it"
    assert cutoff(confidence, torch.zeros(100), 1) == Cutoff(pytest.approx(0.01), 1)
    halves = torch.tensor([0.5, 0.5, 0.5])
    assert cutoff(halves, torch.tensor([0.0, 0, 9]), 1) is None, "points of one confidence are kept or dropped together"


def test_absent_points_are_never_right_and_unknown_ones_have_no_vote() -> None:
    metrics = KeypointMetrics({"ten": of(10)})
    sure = torch.tensor([[0.9, 0.8, 0.2, 0.7]])
    shifted(metrics, [[0.0, 0.0, 0.0, 0.0]], [[VISIBLE, UNKNOWN, ABSENT, VISIBLE]], sure)
    assert metrics.cutoff() == Cutoff(pytest.approx(0.7), pytest.approx(2 / 3))
    found = metrics.compute()
    assert found["trusted_from@0.1_ten"] == pytest.approx(0.7) and found["trusted_share@0.1_ten"] == pytest.approx(2 / 3)
    assert [one.points for one in metrics.calibration()] == [1, 1, 1]
    assert metrics.calibration()[0].gross == 1 and found["pck@0.1_ten"] == 1


def test_a_confidence_that_never_varies_suggests_nothing() -> None:
    metrics = shifted(KeypointMetrics({"ten": of(10)}), [[0.0, 1]], sure=torch.ones(1, 2))
    assert metrics.cutoff() is None and not any("trusted" in name for name in metrics.compute())
    assert list(keypoint_pictures(metrics)) == ["the cumulative distribution of the errors (CED)"]
    assert keypoint_pictures(KeypointMetrics()) == {} and KeypointMetrics().calibration() == []


def test_pictures_show_the_curves_and_say_the_cutoff() -> None:
    sure = torch.rand(40, 4, generator=torch.Generator().manual_seed(0))
    metrics = shifted(KeypointMetrics({"ten": of(10)}), (5 * (1 - sure) ** 3).tolist(), sure=sure)
    pictures = keypoint_pictures(metrics)
    assert len(pictures) == 2 and any("suggested cut-off 0." in caption for caption in pictures)
    assert all(picture.size == (640, 350) and len(picture.getcolors(100_000)) > 10 for picture in pictures.values())


def test_the_task_measures_by_what_the_names_tell_and_by_the_pair_that_is_set() -> None:
    made = find_recipe("world_keypoints").override(["task.norm=head,1", "data.scenes=4"])
    data = made.data.open("train")
    task = made.task.build(data.meta)
    metrics = task.metrics()
    sample = data.sample(0, task.fields)
    task.score(metrics, task.truth(sample), sample)
    found = metrics.compute()
    assert {"pck@0.1_head-neck", "pck@0.1_bbox", "pck@0.2_torso", "mean_error_px/neck"} <= found.keys()
    assert found["pck@0.2_torso"] == 1 and len(task.pictures(metrics)) == 1, "a truth is sure of every point"
    with pytest.raises(UsageError, match="no point 'hed'"):
        made.override(["task.norm=hed,neck"]).task.build(data.meta)
