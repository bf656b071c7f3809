"""Object key point similarity and its average precision: cases worked by hand, and figures recorded from pycocotools 2.0.11."""

from __future__ import annotations

import contextlib
import io
import math
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from pixelwise.geometry.presence import Presence
from pixelwise.metrics.oks import OksMetrics, object_keypoint_similarity

SIGMAS = tuple(s / 100 for s in (2.6, 2.5, 2.5, 3.5, 3.5, 7.9, 7.9, 7.2, 7.2, 6.2, 6.2, 10.7, 10.7, 8.7, 8.7, 8.9, 8.9))
NAN = math.nan
RECORDED = {
    "ap_oks": 0.33344918179768085,
    "ap50_oks": 0.5078537428429184,
    "ap75_oks": 0.3155503785672684,
    "ap_medium_oks": 0.5134653465346534,
    "ap_large_oks": 0.15942269038933968,
    "ar_oks": 0.7571428571428572,
    "ar50_oks": 0.8571428571428571,
    "ar75_oks": 0.7857142857142857,
    "ar_medium_oks": 0.8400000000000001,
    "ar_large_oks": 0.72,
}


class Scene(NamedTuple):
    """One image: people found and their scores; people labelled, COCO's visibility, area, crowd or not, box."""

    points: Any
    scores: Any
    truth: Any
    visibility: Any
    areas: Any
    crowd: Any
    boxes: Any


def scenes(seed: int, count: int) -> list[Scene]:
    """Draw images with missed, doubled, invented and unlabelled people, crowds, and scores that are often equal."""
    draw = np.random.RandomState(seed)  # of which the stream never changes
    return [scene(draw) for _ in range(count)]


def scene(draw: np.random.RandomState) -> Scene:
    people = draw.randint(0, 6)
    size = draw.uniform(15, 200, (people, 1, 1))
    truth = draw.uniform(0, 1, (people, 17, 2)) * size + draw.uniform(0, 300, (people, 1, 2))
    visibility = draw.randint(0, 3, (people, 17))
    visibility[draw.uniform(size=people) < 0.2] = 0
    noise = draw.choice([0.01, 0.05, 0.1], (people, 2, 1, 1)) * size[:, None]
    found = truth[:, None] + noise * draw.normal(size=(people, 2, 17, 2))
    found = np.concatenate([found[draw.uniform(size=(people, 2)) < 0.7], draw.uniform(0, 400, (draw.randint(0, 3), 17, 2))])
    scores = draw.uniform(size=len(found)).round(1)
    areas = size[:, 0, 0] ** 2 * draw.uniform(0.3, 0.7, people)
    crowd = draw.uniform(size=people) < 0.2
    boxes = np.concatenate([truth.min(1), truth.max(1)], 1)
    return Scene(found, scores, truth, visibility, areas, crowd, boxes)


def ours(images: list[Scene], **options: Any) -> dict[str, float]:
    metrics = OksMetrics(SIGMAS, **options)
    for one in images:
        points, scores, truth, visibility, areas, crowd, boxes = map(torch.from_numpy, one)
        presence = torch.where(visibility > 0, visibility + 1, Presence.UNKNOWN)
        metrics.update(points, scores, truth, presence, areas, crowd=crowd, boxes=boxes)
    return metrics.compute()


def theirs(images: list[Scene]) -> dict[str, float]:
    """Return what pycocotools says, by our names."""
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    from pycocotools.cocoeval import COCOeval

    truths: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for i, one in enumerate(images):
        for points, seen, area, crowd, box in zip(*one[2:], strict=True):
            numbers = np.concatenate([points, seen[:, None]], 1).ravel().tolist()
            own = {"num_keypoints": int((seen > 0).sum()), "area": area, "iscrowd": int(crowd)}
            sides = [*box[:2], *(box[2:] - box[:2])]
            truths.append({"id": len(truths) + 1, "image_id": i, "category_id": 1, "keypoints": numbers, "bbox": sides, **own})
        for points, score in zip(one.points, one.scores, strict=True):
            numbers = np.concatenate([points, np.ones((17, 1))], 1).ravel().tolist()
            found.append({"image_id": i, "category_id": 1, "keypoints": numbers, "score": score})
    truth = coco.COCO()
    truth.dataset = {"images": [{"id": i} for i in range(len(images))], "annotations": truths, "categories": [{"id": 1}]}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(found), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    sizes = ("{}_oks", "{}50_oks", "{}75_oks", "{}_medium_oks", "{}_large_oks")
    names = [size.format(kind) for kind in ("ap", "ar") for size in sizes]
    return {name: float(value) for name, value in zip(names, evaluation.stats, strict=True) if value > -1}


def test_figures_recorded_from_pycocotools() -> None:
    found = ours(scenes(5, 12))
    assert found.keys() == RECORDED.keys()
    assert found == pytest.approx(RECORDED, abs=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_pycocotools_where_it_is_installed(seed: int) -> None:
    images = scenes(seed, 1 + 2 * seed)
    expected, found = theirs(images), ours(images)
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, abs=1e-9)


def visible(people: int, points: int) -> Tensor:
    return torch.full((people, points), Presence.VISIBLE, dtype=torch.uint8)


def test_similarity_worked_by_hand() -> None:
    """k = 2 sigma = 0.2, area 100: at distance 2, exp(-4 / (2 * 100 * 0.04)) = exp(-0.5); at distance 4, exp(-2)."""
    truth = torch.tensor([[[10.0, 10], [20, 10], [30, 30]]])
    points = torch.tensor([[[12.0, 10], [20, 14], [0, 0]], [[10, 10], [NAN, NAN], [30, 30]]])
    presence = torch.tensor([[Presence.VISIBLE, Presence.HIDDEN, Presence.UNKNOWN]], dtype=torch.uint8)
    found = object_keypoint_similarity(points, truth, presence, torch.tensor([100.0]), (0.1, 0.1, 0.1))
    assert found[:, 0].tolist() == pytest.approx([(math.exp(-0.5) + math.exp(-2)) / 2, 0.5], abs=1e-12)


def test_similarity_of_a_point_that_is_known_to_be_absent_is_not_asked() -> None:
    truth = torch.tensor([[[10.0, 10], [NAN, NAN]]])
    presence = torch.tensor([[Presence.VISIBLE, Presence.ABSENT]], dtype=torch.uint8)
    points = torch.tensor([[[10.0, 10], [5, 5]]])
    assert object_keypoint_similarity(points, truth, presence, torch.tensor([50.0]), (0.1, 0.1)).tolist() == [[1.0]]


def test_similarity_without_people_labels_or_area() -> None:
    nobody, two = torch.zeros(0, 2, 2), torch.rand(2, 2, 2)
    assert object_keypoint_similarity(nobody, two, visible(2, 2), torch.ones(2), (0.1, 0.1)).shape == (0, 2)
    assert object_keypoint_similarity(two, nobody, visible(0, 2), torch.ones(0), (0.1, 0.1)).shape == (2, 0)
    presence = visible(2, 2)
    presence[0] = Presence.UNKNOWN
    found = object_keypoint_similarity(two, two, presence, torch.tensor([1.0, NAN]), (0.1, 0.1))
    assert found[:, 0].tolist() == [0, 0] and found[:, 1].isnan().all()


def one_image(
    points: list[float], scores: list[float], truth: list[float], area: list[float], box_areas: bool = False, **options: Tensor
) -> dict[str, float]:
    """Measure objects of two points, of which the first is at (x, 0) and the second at (x + 20, 40); k = 0.2."""

    def placed(places: list[float]) -> Tensor:
        return torch.tensor(places).view(-1, 1, 1) * torch.tensor([1.0, 0]) + torch.tensor([[0.0, 0], [20, 40]])

    metrics = OksMetrics((0.1, 0.1), box_areas=box_areas)
    metrics.update(placed(points), torch.tensor(scores), placed(truth), visible(len(truth), 2), torch.tensor(area), **options)
    return metrics.compute()


def test_average_precision_worked_by_hand() -> None:
    """The most certain is wrong, the next is exact: precision 1/2 up to recall 1/2 (51 of 101 places), nothing beyond."""
    found = one_image([500, 0], [0.9, 0.8], [0, 100], [2000.0, 2000.0])
    expected = 51 / 101 / 2
    assert [found[f"{name}_oks"] for name in ("ap", "ap50", "ap75")] == pytest.approx([expected] * 3, abs=1e-12)
    assert found["ar_oks"] == 0.5 and found["ap_medium_oks"] == pytest.approx(51 / 101, abs=1e-12)
    assert "ap_large_oks" not in found, "the detections are of 20 x 40 pixels: those without an object do not count as medium"


def test_thresholds_that_a_similarity_reaches() -> None:
    """Shifted by d with k^2 s^2 = 40: exp(-d^2 / 80) = 0.72 at d^2 = 26.3, which reaches 0.50 to 0.70: 5 of 10."""
    found = one_image([math.sqrt(-80 * math.log(0.72))], [1.0], [0], [1000.0])
    assert found["ap_oks"] == pytest.approx(0.5, abs=1e-9) and found["ap50_oks"] == 1 and found["ap75_oks"] == 0


def test_a_second_prediction_of_the_same_person_is_wrong_but_a_crowd_is_met_many_times() -> None:
    assert one_image([0, 0, 100], [0.9, 0.8, 0.7], [0, 100], [1e3, 1e3])["ap_oks"] == pytest.approx(
        (51 + 50 * 2 / 3) / 101, abs=1e-12
    )
    crowd = torch.tensor([False, True])
    found = one_image([100, 100, 0], [0.9, 0.8, 0.7], [0, 100], [1e3, 1e3], crowd=crowd)
    assert found["ap_oks"] == 1 and found["ar_oks"] == 1


def test_at_most_20_people_of_an_image_are_looked_at() -> None:
    lost = one_image([500.0] * 20 + [0], [0.9] * 20 + [0.1], [0], [1e3])
    kept = one_image([500.0] * 19 + [0], [0.9] * 19 + [0.1], [0], [1e3])
    assert lost["ar_oks"] == lost["ap_oks"] == 0
    assert kept["ar_oks"] == 1 and kept["ap_oks"] == pytest.approx(1 / 20)


def test_unknown_areas_are_ignored_or_taken_from_the_box_and_then_every_name_says_so() -> None:
    found = one_image([0, 100], [0.9, 0.8], [0, 100], [NAN, 1000.0])
    assert found["ap_oks"] == found["ar_oks"] == 1, "who meets one of unknown area is neither right nor wrong"
    d = math.sqrt(-2 * 0.53 * 800 * 0.04 * math.log(0.72))  # the box is 20 x 40
    boxed = one_image([d], [0.9], [0], [NAN], box_areas=True)
    assert boxed["ap_oks_boxarea"] == pytest.approx(0.5, abs=1e-9)
    assert all(name.endswith("_boxarea") for name in boxed)
    assert one_image([0], [0.9], [0], [NAN]) == {}


def test_nobody_found_is_0_and_nobody_there_is_nothing() -> None:
    found = one_image([], [], [0], [5000.0])
    assert found == dict.fromkeys(found, 0.0) and len(found) == 8
    assert one_image([0], [0.9], [], []) == {} and OksMetrics((0.1, 0.1)).compute() == {}


def test_a_false_alarm_in_an_image_without_people_counts() -> None:
    metrics = OksMetrics((0.1,))
    nobody, one = torch.zeros(0, 1, 2), torch.zeros(1, 1, 2)
    metrics.update(one, torch.tensor([0.9]), nobody, visible(0, 1), torch.zeros(0))
    metrics.update(one, torch.tensor([0.8]), one, visible(1, 1), torch.tensor([2000.0]))
    assert metrics.compute()["ap_oks"] == pytest.approx(0.5)
