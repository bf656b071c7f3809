"""Many people: part affinity fields, who is who, and the task; numbers are worked by hand, or the truth that was encoded."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pixelwise.codecs.candidates import Candidates, best_peaks, limb_scores, local_maxima, sample_count
from pixelwise.codecs.grouping import assemble, best_pairs, greedy_pairs, group, limb_order
from pixelwise.codecs.part_fields import PartFieldsCodec
from pixelwise.data.augment import Augment, View
from pixelwise.data.dataset import Meta
from pixelwise.data.datasets import world
from pixelwise.data.sample import Image, Keypoints, LabelMap, Sample
from pixelwise.data.world.people import BODY
from pixelwise.errors import UsageError
from pixelwise.geometry.frame import Frame
from pixelwise.geometry.presence import Presence
from pixelwise.geometry.skeleton import Skeleton
from pixelwise.metrics.matched_keypoints import MatchedKeypointMetrics
from pixelwise.nn.networks import hourglass, openpose, regressor, unet
from pixelwise.predictions.keypoints import KeypointsPrediction
from pixelwise.tasks.pose import Config, Task

UNKNOWN, ABSENT, HIDDEN, VISIBLE = Presence
NAN = torch.nan
STICK = Skeleton(names=("top", "middle", "bottom"), limbs=((0, 1), (1, 2)))
ROD = Skeleton(names=("a", "b"), limbs=((0, 1),))
PARTS = "nose neck Rsho Relb Rwri Lsho Lelb Lwri Rhip Rkne Rank Lhip Lkne Lank Reye Leye Rear Lear"
COCO18 = Skeleton(
    names=tuple(PARTS.split()),
    limbs=(
        *((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13), (1, 0)),
        *((0, 14), (14, 16), (0, 15), (15, 17), (2, 16), (5, 17)),
    ),
)


def visible(points: Tensor) -> Tensor:
    return torch.full(points.shape[:-1], VISIBLE, dtype=torch.uint8)


def rods(*ends: Sequence[float]) -> Tensor:
    """One image of rods, each x0, y0, x1, y1."""
    return torch.tensor(ends).view(1, -1, 2, 2)


def codec(skeleton: Skeleton = ROD, stride: int = 1, **settings: float) -> PartFieldsCodec:
    return PartFieldsCodec(skeleton, **{"sigma": 1.0 * stride, "thickness": 1.0 * stride, "stride": stride, **settings})  # type: ignore[arg-type]


def fields_of(points: Tensor, size: tuple[int, int], stride: int = 1, **settings: float) -> Tensor:
    """The fields `(2, h, w)` of rods."""
    return codec(stride=stride, **settings).encode(points, visible(points), size)["sheets"][0, 3:]


def crowd(seed: int, size: int = 368, across: int = 3) -> Tensor:
    """Random bodies `(1, N, 14, 2)` that do not touch: each in its own cell of a grid, no two points of it very near."""
    random = np.random.default_rng(seed)
    cell = size / across
    people = []
    for row, column in product(range(across), repeat=2):
        while True:
            points = random.uniform(0.12 * cell, 0.88 * cell, (14, 2))
            apart = np.linalg.norm(points[:, None] - points, axis=-1) + 1e9 * np.eye(14)
            if apart.min() > 10:
                break
        people.append(points + cell * np.array([column, row]))
    return torch.tensor(np.stack(people), dtype=torch.float32)[None]


def distances(found: Tensor, truth: Tensor) -> Tensor:
    """`(N, M)`: the largest distance of a point between people found and true; infinite where a point is missing."""
    return (found[:, None] - truth).norm(dim=-1).nan_to_num(math.inf).amax(-1)


# encoding


def test_a_field_is_the_unit_vector_where_the_projection_falls_on_the_limb() -> None:
    """By hand: from (2, 3) to (6, 3), thickness 1: centres with x in [2, 6] and |y - 3| <= 1, nothing beyond the ends."""
    x, y = fields_of(rods((2.0, 3.0, 6.0, 3.0)), (6, 8))
    expected = torch.zeros(6, 8)
    expected[2:4, 2:6] = 1
    assert torch.equal(x, expected) and torch.equal(y, torch.zeros(6, 8))


def test_a_slanted_field_is_tested_along_and_across() -> None:
    """3-4-5: v = (0.6, 0.8) from (1, 1), 5 long; each centre judged by its own two products."""
    x, y = fields_of(rods((1.0, 1.0, 4.0, 5.0)), (7, 7), thickness=0.8)
    for row, column in product(range(7), repeat=2):
        right, below = column + 0.5 - 1, row + 0.5 - 1
        inside = 0 <= 0.6 * right + 0.8 * below <= 5 and abs(0.6 * below - 0.8 * right) <= 0.8
        assert (x[row, column].item(), y[row, column].item()) == pytest.approx((0.6, 0.8) if inside else (0, 0), abs=1e-6)


def test_thickness_is_in_input_pixels_whatever_the_stride() -> None:
    """From (8, 16) to (56, 16) at stride 4, thickness 8: rows with |4 (i + 0.5) - 16| <= 8 are 2 to 5."""
    x, _ = fields_of(rods((8.0, 16.0, 56.0, 16.0)), (64, 64), stride=4, thickness=8.0)
    assert x.sum(1).tolist() == [0, 0, 12, 12, 12, 12, *[0] * 10]
    assert x[3].tolist() == [0, 0, *[1] * 12, 0, 0]


def test_where_limbs_cross_the_field_is_their_mean() -> None:
    x, y = fields_of(rods((1.0, 4.0, 7.0, 4.0), (4.0, 1.0, 4.0, 7.0)), (8, 8))
    assert x[3:5, 3:5].tolist() == y[3:5, 3:5].tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert (x[4, 1].item(), y[4, 1].item(), x[1, 4].item(), y[1, 4].item()) == (1, 0, 0, 1)


def test_limbs_of_opposite_directions_cancel_and_three_are_averaged_as_three() -> None:
    x, _ = fields_of(rods((1.0, 2.0, 7.0, 2.0), (7.0, 2.0, 1.0, 2.0)), (4, 8))
    assert not x.any()
    x, y = fields_of(rods((1.0, 4.0, 7.0, 4.0), (1.0, 4.0, 7.0, 4.0), (4.0, 1.0, 4.0, 7.0)), (8, 8))
    assert x[4, 4].item() == pytest.approx(2 / 3) and y[4, 4].item() == pytest.approx(1 / 3)


def test_a_limb_of_no_length_has_no_field_and_finite_gradients() -> None:
    points = rods((3.0, 3.0, 3.0, 3.0), (1.0, 1.0, 5.0, 1.0)).requires_grad_()
    sheets = codec().encode(points, visible(points), (6, 6))["sheets"]
    assert sheets.isfinite().all() and not sheets[0, 3:, 2:].any()
    sheets.square().sum().backward()
    assert points.grad is not None and points.grad.isfinite().all()


def test_beliefs_take_the_largest_and_the_background_is_the_rest() -> None:
    points = rods((1.5, 0.5, 1.5, 5.5), (3.5, 0.5, 6.5, 5.5))
    sheets = codec().encode(points, visible(points), (6, 8))["sheets"][0]
    torch.testing.assert_close(sheets[0, 0, :5], torch.tensor([0.606531, 1, 0.606531, 1, 0.606531]), atol=1e-6, rtol=0)
    assert torch.equal(sheets[2], 1 - sheets[:2].amax(0))


# what is unknown


def test_an_unknown_point_is_ignored_around_its_person_only() -> None:
    """Two of three points at (10, 10) and (10, 18): the box grown by 8 is x 2 to 18, y 2 to 26."""
    points = torch.tensor([[[[10.0, 10], [10, 18], [NAN, NAN]], [[40.0, 10], [40, 18], [40, 26]]]])
    presence = visible(points)
    presence[0, 0, 2] = UNKNOWN
    sheets = codec(STICK).encode(points, presence, (48, 48))["sheets"][0]
    near = torch.zeros(48, 48, dtype=torch.bool)
    near[2:26, 2:18] = True
    for n, unknown in enumerate([False, False, True, True, False, False, True, True]):  # 3 beliefs, background, 2 fields
        assert torch.equal(sheets[n].isnan(), near & unknown), n
    assert sheets[2, 25:27, 39:41].amin() > 0.7


def test_of_whom_little_is_known_the_unknown_points_may_be_anywhere() -> None:
    points = torch.full((1, 1, 3, 2), 10.0)
    presence = torch.tensor([[[VISIBLE, UNKNOWN, UNKNOWN]]], dtype=torch.uint8)
    sheets = codec(STICK).encode(points, presence, (16, 16))["sheets"][0]
    assert [bool(sheet.isnan().all()) for sheet in sheets] == [False, True, True, True, True, True, True, True]
    assert not sheets[0].isnan().any()


def test_an_absent_end_draws_nothing_and_forbids_the_limb_even_if_the_other_is_unknown() -> None:
    points = rods((2.0, 2.0, 6.0, 2.0)).expand(1, 2, 2, 2)
    presence = torch.tensor([[[VISIBLE, ABSENT], [ABSENT, UNKNOWN]]], dtype=torch.uint8)
    sheets = codec().encode(points, presence, (8, 8))["sheets"][0]
    assert sheets[1].isnan().all() and not sheets[3:].isnan().any() and not sheets[3:].any()


def test_nobody_is_a_negative_and_padding_changes_nothing() -> None:
    point = codec()
    nobody = point.encode(torch.zeros(1, 0, 2, 2), torch.zeros(1, 0, 2, dtype=torch.uint8), (8, 8))["sheets"]
    assert torch.equal(nobody, torch.tensor([0.0, 0, 1, 0, 0])[None, :, None, None].expand(1, 5, 8, 8))
    one = rods((1.0, 4.0, 7.0, 4.0))
    padded = torch.cat([one, torch.full_like(one, NAN)], 1)
    presence = torch.cat([visible(one), torch.zeros(1, 1, 2, dtype=torch.uint8)], 1)
    expected = point.encode(one, visible(one), (8, 8))["sheets"]
    assert torch.equal(point.encode(padded, presence, (8, 8))["sheets"], expected)


def test_unlabelled_people_and_unknown_points_have_exactly_no_gradient() -> None:
    points = torch.tensor([[[[10.0, 10], [10, 18], [NAN, NAN]], [[40.0, 10], [40, 18], [40, 26]]]])
    presence = visible(points)
    presence[0, 0, 2] = UNKNOWN
    unlabelled = torch.zeros(1, 46, 48, dtype=torch.uint8)
    unlabelled[0, 33:45, 5:9], unlabelled[0, 0, 47] = 1, 255
    person = codec(STICK, stride=4)
    targets = person.encode(points, presence, (46, 48), unlabelled)
    hidden = torch.zeros(12, 12, dtype=torch.bool)
    hidden[8:12, 1:3] = hidden[0, 11] = True
    ignored = targets["sheets"].isnan()
    assert torch.equal(ignored.all(1)[0], hidden)
    outputs = torch.randn(1, person.channels, 12, 12, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = person.loss(outputs, targets)
    (gradient,) = torch.autograd.grad(loss, outputs)
    assert loss.isfinite() and torch.equal(gradient == 0, ignored)


def test_nothing_known_is_no_loss() -> None:
    point = codec()
    one = rods((1.0, 4.0, 7.0, 4.0))
    targets = point.encode(one, visible(one), (8, 8), torch.ones(1, 8, 8, dtype=torch.uint8))
    outputs = torch.zeros(1, 5, 8, 8, requires_grad=True)
    loss = point.loss(outputs, targets)
    loss.backward()
    assert loss.item() == 0 and outputs.grad is not None and not outputs.grad.any()


def test_the_loss_is_the_mean_square_over_what_is_known_in_units_of_a_gaussian() -> None:
    """By hand: 2 of the 4 columns known; every belief is off by 0.5 and every component of the field by 0.2."""
    point = codec(sigma=2.0)
    one = torch.zeros(1, 0, 2, 2)
    unlabelled = torch.zeros(1, 4, 4, dtype=torch.uint8)
    unlabelled[..., 2:] = 1
    targets = point.encode(one, visible(one), (4, 4), unlabelled)
    outputs = targets["sheets"].nan_to_num(7.0) + torch.tensor([0.5, 0.5, 0.5, 0.2, 0.2])[None, :, None, None]
    unit = 16 / (math.pi * 4)
    losses = {name: loss.item() for name, loss in point.losses(outputs, targets).items()}
    assert losses == pytest.approx({"beliefs": 0.25 * unit, "fields": 2 * 0.04 * unit}, rel=1e-5)
    assert point.loss(outputs, targets).item() == pytest.approx((0.25 + 0.08) * unit, rel=1e-5)


def test_the_foreground_counts_more_and_the_background_sheet_does_not() -> None:
    """By hand at one pixel: belief 1 off by 0.5 counts 10 times, belief 0 and the background's once; so do fields."""
    plain, weighted = codec(), codec(foreground=10.0)
    sheets = torch.tensor([1.0, 0.0, 0.5, 0.6, -0.8])[None, :, None, None]
    outputs = sheets + torch.tensor([0.5, 0.5, 0.5, 0.1, 0.3])[None, :, None, None]
    unit = 1 / (math.pi * plain.beliefs.sigma**2)
    expected = {"beliefs": (10 + 1 + 1) * 0.25 / 3 * unit, "fields": 2 * (0.01 + 0.09) / 2 * unit}
    assert {n: v.item() for n, v in weighted.losses(outputs, {"sheets": sheets}).items()} == pytest.approx(expected, rel=1e-5)
    expected = {"beliefs": 0.25 * unit, "fields": 2 * (0.01 + 0.09) / 2 * unit}
    assert {n: v.item() for n, v in plain.losses(outputs, {"sheets": sheets}).items()} == pytest.approx(expected, rel=1e-5)


# mirroring


@pytest.mark.parametrize("skeleton", [BODY, Skeleton(names=("left", "right"), limbs=((0, 1),), swap=(1, 0))])
def test_sheets_of_mirrored_people_are_the_mirrored_sheets(skeleton: Skeleton) -> None:
    """The limb from left to right is followed from its other end in a mirror."""
    person = codec(skeleton, stride=4)
    points = torch.rand(1, 3, len(skeleton.names), 2, generator=torch.Generator().manual_seed(3)) * 64
    mirrored = torch.stack([64 - points[..., 0], points[..., 1]], -1)[:, :, list(person.beliefs.swap)]
    plain, other = (person.encode(p, visible(p), (64, 64))["sheets"] for p in (points, mirrored))
    torch.testing.assert_close(person.flip(other), plain, atol=1e-5, rtol=0)
    torch.testing.assert_close(person.flip(person.flip(plain)), plain, atol=0, rtol=0)


def test_a_limb_without_a_mirror_twin_cannot_be_flipped() -> None:
    one_sided = Skeleton(names=("neck", "left", "right"), limbs=((0, 1), (1, 2)), swap=(0, 2, 1))
    with pytest.raises(UsageError, match="none from neck to right"):
        codec(one_sided).flip(torch.zeros(1, 8, 4, 4))


# peaks and limbs


def test_of_equal_neighbours_one_is_the_peak() -> None:
    sheet = torch.tensor([[1.0, 1, 0, 2, 0], [1, 1, 0, 2, 0], [0, 0, 0, 0, 3]])[None, None]
    assert local_maxima(sheet)[0, 0].nonzero().tolist() == [[0, 0], [0, 3], [2, 4]]


def test_peaks_are_exact_sorted_and_padded() -> None:
    points = torch.tensor([[[[9.3, 20.1], [30.0, 8.0]], [[40.7, 33.2], [12.1, 40.9]]]])
    person = codec(stride=4)
    sheets = person.encode(points, visible(points), (48, 48))["sheets"]
    sheets[0, 0, :, :6] *= 0.8  # the right one is surer
    found, belief = best_peaks(sheets[:, :1], 1.0, 0.1, 4)
    assert torch.dist(found[0, 0, 0] * 4, points[0, 1, 0]) < 0.05 and torch.dist(found[0, 0, 1] * 4, points[0, 0, 0]) < 0.05
    assert belief[0, 0, 0] > belief[0, 0, 1] > 0.1
    assert not belief[0, 0, 2:].any() and not found[0, 0, 2:].any()


def test_more_peaks_may_be_asked_for_than_there_are_pixels() -> None:
    found, belief = best_peaks(torch.full((1, 1, 1, 2), 0.5), 1.0, 0.1, 5)
    assert found.shape == (1, 1, 5, 2) and (belief[0, 0] > 0).tolist() == [True, False, False, False, False]


@pytest.mark.parametrize(("pixels", "count"), [(3, 5), (10, 7), (20, 10), (50, 16), (100, 22), (200, 25), (900, 25)])
def test_how_often_a_field_is_read_along_a_limb(pixels: float, count: int) -> None:
    """OpenPose: max(5, min(25, round(sqrt(5 max(|dx|, |dy|)))))."""
    assert sample_count(torch.tensor([pixels, -2.0])) == sample_count(torch.tensor([1.0, -pixels])) == count


def scored(field: Tensor, start: Sequence[float], end: Sequence[float], stride: int = 1) -> float:
    height, width = field.shape[-2:]
    ends = (torch.tensor(point).view(1, 1, 1, 2) for point in (start, end))
    return limb_scores(field[None], *ends, stride, (height * stride, width * stride)).item()


def test_the_score_is_the_mean_component_along_the_limb() -> None:
    """A field of (0.6, 0.3) everywhere: along x 0.6, along the 3-4-5 slant 0.6 * 0.6 + 0.3 * 0.8."""
    field = torch.tensor([0.6, 0.3])[:, None, None].expand(2, 40, 40)
    assert scored(field, (10.0, 10.0), (20.0, 10.0)) == pytest.approx(0.6, abs=1e-5)
    assert scored(field, (10.0, 10.0), (19.0, 22.0)) == pytest.approx(0.6, abs=1e-5)
    assert scored(field, (5.0, 5.0), (8.0, 9.0), stride=2) == pytest.approx(0.6, abs=1e-5)


def test_the_field_is_read_between_its_pixels() -> None:
    """By hand: 10 px along a ramp (i + 0.5) / 20, which bilinear interpolation gives back: the mean is that in the middle."""
    field = torch.stack([((torch.arange(20) + 0.5) / 20).expand(20, 20), torch.zeros(20, 20)])
    assert scored(field, (5.0, 2.0), (15.0, 2.0)) == pytest.approx(0.5, abs=1e-6)
    assert scored(field, (5.3, 2.2), (15.3, 2.2)) == pytest.approx(0.515, abs=1e-6)


def test_wrong_directions_and_gaps_do_not_connect() -> None:
    field = torch.tensor([1.0, 0.0])[:, None, None].repeat(1, 40, 40)
    assert scored(field, (20.0, 10.0), (10.0, 10.0)) == 0
    assert scored(field, (10.0, 10.0), (10.0, 20.0)) == 0
    field[:, :, 14:17] = 0  # 3 of 10 px: beyond what SHARE forgives
    assert scored(field, (10.0, 10.0), (20.0, 10.0)) == 0
    field[:, :, 15:] = 1  # 1 of 10 px
    assert scored(field, (10.0, 10.0), (20.0, 10.0)) > 0.8


def test_long_limbs_need_a_better_field() -> None:
    """Over 80 px of a picture of 100 x 100, 50 / 80 - 1 is added."""
    field = torch.tensor([0.9, 0.0])[:, None, None].expand(2, 100, 100)
    assert scored(field, (10.0, 50.0), (90.0, 50.0)) == pytest.approx(0.9 + 50 / 80 - 1, abs=1e-5)
    assert scored(field, (10.0, 50.0), (60.0, 50.0)) == pytest.approx(0.9, abs=1e-5)


def test_nearly_coincident_parts_connect_without_a_field() -> None:
    nothing = torch.zeros(2, 10, 10)
    assert scored(nothing, (20.0, 20.0), (22.0, 22.0), stride=4) == scored(nothing, (20.0, 20.0), (20.0, 20.0), 4) > 0
    assert scored(nothing, (20.0, 20.0), (24.5, 20.0), stride=4) == 0


# who is who


def test_the_price_of_greed() -> None:
    scores = np.array([[0.9, 0.8], [0.85, 0.1]])
    greedy, best = greedy_pairs(scores), best_pairs(scores)
    assert greedy == [(0, 0, 0.9), (1, 1, 0.1)] and sorted(best) == [(0, 1, 0.8), (1, 0, 0.85)]
    assert sum(p[2] for p in greedy) == pytest.approx(1.0) and sum(p[2] for p in best) == pytest.approx(1.65)


@pytest.mark.parametrize("pair", [greedy_pairs, best_pairs])
def test_what_does_not_belong_together_is_no_pair(pair) -> None:  # type: ignore[no-untyped-def]
    assert pair(np.array([[0.0, 0.5, 0.0], [0.0, 0.4, 0.0]])) == [(0, 1, 0.5)]
    assert pair(np.zeros((3, 2))) == [] and pair(np.zeros((0, 2))) == []


def test_every_limb_of_the_tree_touches_a_part_that_is_placed() -> None:
    order = limb_order(((4, 3), (0, 1), (2, 1), (3, 2), (0, 4)), "abcde")
    assert order.tree == (0, 3, 2, 1) and order.redundant == (4,)
    assert limb_order(COCO18.limbs, COCO18.names).redundant == (17, 18)
    assert limb_order(BODY.limbs, BODY.names) == (tuple(range(13)), ())


@pytest.mark.parametrize(
    ("limbs", "message"),
    [((), "no limbs"), (((0, 1),), "c cannot be reached"), (((0, 1), (2, 2)), "c cannot be reached")],
)
def test_limbs_that_connect_nobody_are_refused_with_an_example(limbs: tuple[tuple[int, int], ...], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        limb_order(limbs, "abc")
    assert '"limbs": [[1, 0]' in caught.value.hint


def test_assembly_attaches_merges_and_never_gives_a_part_twice() -> None:
    """Parts 0 1 2 3 in a chain with 3-0 redundant; peaks by hand."""
    limbs = ((0, 1), (1, 2), (2, 3), (3, 0))
    order = limb_order(limbs, "abcd")
    assert (order.tree, order.redundant) == ((0, 1, 2), (3,))
    whole = assemble([[(0, 0, 0.9)], [(0, 1, 0.8)], [(1, 0, 0.7)], [(0, 0, 0.6)]], limbs, order)
    assert [person.parts for person in whole] == [{0: 0, 1: 0, 2: 1, 3: 0}]
    assert sorted(whole[0].limbs) == [0.6, 0.7, 0.8, 0.9]
    halves = assemble([[(0, 0, 0.9)], [], [(1, 0, 0.7)], [(0, 0, 0.6)]], limbs, order)
    assert [person.parts for person in halves] == [{0: 0, 1: 0, 2: 1, 3: 0}]
    assert sorted(halves[0].limbs) == [0.6, 0.7, 0.9]
    apart = assemble([[(0, 0, 0.9), (1, 1, 0.9)], [(1, 0, 0.8)], [(0, 0, 0.7)], [(0, 0, 0.6)]], limbs, order)
    assert sorted(sorted(person.parts.items()) for person in apart) == [[(0, 0), (1, 0)], [(0, 1), (1, 1), (2, 0), (3, 0)]]


def test_a_redundant_limb_attaches_but_never_creates() -> None:
    order = limb_order(COCO18.limbs, COCO18.names)
    pairs: list[list[tuple[int, int, float]]] = [[] for _ in COCO18.limbs]
    pairs[17] = [(0, 0, 0.9)]  # right shoulder to right ear
    assert assemble(pairs, COCO18.limbs, order) == []
    pairs[0] = [(0, 0, 0.9)]  # neck to right shoulder
    (person,) = assemble(pairs, COCO18.limbs, order)
    assert person.parts == {1: 0, 2: 0, 16: 0}


def test_the_score_of_a_person_counts_parts_and_limbs_and_filters() -> None:
    """(0.9 + 0.6 + 0.3 + 0.8 + 0.5) / 5 = 0.62; the other has two of three parts and one limb: (0.4 + 0.2 + 0.3) / 3 * 2/3."""
    order = limb_order(STICK.limbs, STICK.names)
    points = torch.arange(12.0).view(1, 3, 2, 2)
    confidence = torch.tensor([[[0.9, 0.4], [0.6, 0.2], [0.3, 0.0]]])
    limbs = torch.tensor([[[[0.8, 0], [0, 0.3]], [[0.5, 0], [0, 0]]]])
    found = Candidates(points, confidence, limbs)
    (people,) = group(found, STICK.limbs, order, least_parts=2)
    assert people.scores.tolist() == pytest.approx([0.62, 0.2])
    torch.testing.assert_close(people.points[1], torch.tensor([[2.0, 3], [6, 7], [NAN, NAN]]), equal_nan=True)
    assert people.confidence[1].tolist() == pytest.approx([0.4, 0.2, 0])
    assert len(group(found, STICK.limbs, order, least_parts=3)[0].scores) == 1
    assert len(group(found, STICK.limbs, order, least_parts=2, least_score=0.31)[0].scores) == 1
    (nobody,) = group(found, STICK.limbs, order, least_score=0.7)
    assert nobody.points.shape == (0, 3, 2) and nobody.confidence.shape == (0, 3) and nobody.scores.shape == (0,)


# encode and decode


@pytest.mark.parametrize("matching", ["greedy", "hungarian"])
@pytest.mark.parametrize("seed", range(4))
def test_people_who_do_not_touch_come_back_as_they_were(seed: int, matching: str) -> None:
    people = crowd(seed)
    person = PartFieldsCodec(BODY, sigma=7, thickness=8, stride=8, matching=matching)  # type: ignore[arg-type]
    (found,) = person.decode(person.encode(people, visible(people), (368, 368))["sheets"], (368, 368))
    apart = distances(found.points, people[0])
    assert found.points.shape == (9, 14, 2)
    assert sorted(apart.argmin(1).tolist()) == list(range(9)) and apart.amin(1).max() < 0.05
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True) and found.scores.min() > 0.7


def test_a_batch_is_decoded_image_by_image() -> None:
    person = PartFieldsCodec(BODY, sigma=7, thickness=8, stride=8)
    people = torch.cat([crowd(0), crowd(1)])
    presence = visible(people)
    presence[1] = ABSENT
    both = person.decode(person.encode(people, presence, (368, 368))["sheets"], (368, 368))
    assert [len(found.scores) for found in both] == [9, 0]


def test_points_left_out_are_nan_and_the_rest_is_kept() -> None:
    people = crowd(5, across=2)
    presence = visible(people)
    presence[0, 0, 7], presence[0, 1, 0] = ABSENT, HIDDEN  # a wrist is not there; a hidden head is as good as a visible one
    person = PartFieldsCodec(BODY, sigma=7, thickness=8, stride=8)
    (found,) = person.decode(person.encode(people, presence, (368, 368))["sheets"], (368, 368))
    expected = people[0].masked_fill((presence[0] < HIDDEN)[..., None], NAN)
    order = (found.points[:, None] - expected).norm(dim=-1).nanmean(-1).argmin(1)
    assert sorted(order.tolist()) == [0, 1, 2, 3]
    torch.testing.assert_close(found.points, expected[order], atol=0.05, rtol=0, equal_nan=True)


def test_parts_in_one_place_are_still_one_person() -> None:
    points = torch.tensor([[[[20.0, 20.0], [20.0, 20.0], [20.0, 44.0]]]])
    person = codec(STICK, stride=4)
    (found,) = person.decode(person.encode(points, visible(points), (64, 64))["sheets"], (64, 64))
    torch.testing.assert_close(found.points, points[0], atol=0.05, rtol=0)


def test_of_a_skeleton_of_two_points_two_are_enough_and_needed() -> None:
    points = torch.tensor([[[[20.0, 20.0], [20.0, 44.0]], [[50.0, 10.0], [50.0, 30.0]]]])
    presence = visible(points)
    presence[0, 1, 1] = ABSENT
    rods = codec(ROD, stride=4)
    (found,) = rods.decode(rods.encode(points, presence, (64, 64))["sheets"], (64, 64))
    torch.testing.assert_close(found.points, points[0, :1], atol=0.05, rtol=0)


def test_fields_and_peaks_too_narrow_for_the_stride_are_refused() -> None:
    with pytest.raises(UsageError, match="thickness = 3"):
        codec(stride=8, thickness=3)
    with pytest.raises(UsageError, match="sigma"):
        codec(stride=8, sigma=2)


# the task


def people_in(picture: Tensor, points: Tensor, scores: Tensor) -> KeypointsPrediction:
    return KeypointsPrediction(picture, points, torch.full(points.shape[:2], 0.5), STICK, scores=scores)


def test_people_are_saved_as_coco_results_and_as_openpose_writes_them(tmp_path: Path) -> None:
    points = torch.tensor([[[1.0, 2.0], [3.5, 4.25], [NAN, NAN]]])
    prediction = people_in(torch.zeros(3, 8, 8, dtype=torch.uint8), points, torch.tensor([0.75]))
    row = [1.0, 2.0, 0.5, 3.5, 4.25, 0.5, 0.0, 0.0, 0.0]
    coco = json.loads(prediction.save(tmp_path / "000000000785.coco.json").read_text())
    from_zero = [0.5, 1.5, 0.5, 3.0, 3.75, 0.5, 0.0, 0.0, 0.0]
    assert coco == [{"image_id": 785, "category_id": 1, "keypoints": from_zero, "score": 0.75}]
    assert json.loads(prediction.save(tmp_path / "a.coco.json").read_text())[0]["image_id"] == "a"
    openpose = json.loads(prediction.save(tmp_path / "a.openpose.json").read_text())
    (person,) = openpose["people"]
    assert person["pose_keypoints_2d"] == row and person["person_id"] == [-1] and person["hand_left_keypoints_2d"] == []
    ours = json.loads(prediction.save(tmp_path / "a.json").read_text())
    assert ours["scores"] == [0.75] and ours["instances"][0] == {"top": [1, 2, 0.5], "middle": [3.5, 4.25, 0.5], "bottom": None}


def test_coco_results_name_the_category_that_the_data_stated() -> None:
    points = torch.zeros(1, 3, 2)
    mouse = replace(
        people_in(torch.zeros(3, 8, 8), points, torch.ones(1)), skeleton=STICK.model_copy(update={"category_id": 7})
    )
    assert [result["category_id"] for result in mouse.to_coco("1")] == [7]


def test_drawn_points_are_as_large_a_share_of_any_picture() -> None:
    def share(side: int) -> float:
        points = torch.full((1, len(STICK.names), 2), torch.nan)
        points[0, 0] = side / 2
        drawn = people_in(torch.zeros(3, side, side, dtype=torch.uint8), points, torch.ones(1)).render()
        return float((np.asarray(drawn).max(-1) > 0).mean())

    assert share(3200) == pytest.approx(np.pi / 160**2, rel=0.06) and share(6400) == pytest.approx(share(3200), rel=0.06)


def test_identities_are_written_and_coloured() -> None:
    points = torch.tensor([[[4.0, 24.0], [28.0, 24.0], [NAN, NAN]]]).expand(2, 3, 2)
    picture = torch.zeros(3, 32, 32, dtype=torch.uint8)
    tracked = replace(people_in(picture, points, torch.ones(2)), identities=torch.tensor([7, 3]))
    assert [person["person_id"] for person in tracked.to_openpose()["people"]] == [[7], [3]]
    assert tracked.to_json()["identities"] == [7, 3]
    others = [replace(tracked, identities=torch.tensor(numbers)) for numbers in ([1, 3], [1, 4])]
    seen = [tuple(np.asarray(one.render())[23:25, 16].max(0)) for one in (tracked, *others)]  # the last one is drawn on top
    assert seen[0] == seen[1] != seen[2]


def test_the_number_of_somebody_at_the_border_is_within_the_picture() -> None:
    """A point in the very first row: the number above it would be outside."""
    picture = torch.zeros(3, 40, 40, dtype=torch.uint8)
    points = torch.full((1, len(STICK.names), 2), torch.nan)
    points[0, 0] = torch.tensor([20.5, 0.5])
    drawn = people_in(picture, points, torch.ones(1))
    numbered = replace(drawn, identities=torch.tensor([8])).render()
    added = np.asarray(numbered).astype(int).sum(-1) > 0
    assert added[3:12, 14:27].sum() > 10


def test_each_person_has_a_colour() -> None:
    points = torch.tensor([[[4.0, 4.0], [28.0, 4.0], [NAN, NAN]], [[4.0, 24.0], [28.0, 24.0], [NAN, NAN]]])
    drawn = np.asarray(people_in(torch.zeros(3, 32, 32, dtype=torch.uint8), points, torch.ones(2)).render())
    first, second = (tuple(drawn[row - 1 : row + 1, 16].max(0)) for row in (4, 24))
    assert any(first) and any(second) and first != second and not drawn[14].any()


def test_nobody_is_an_answer_too(tmp_path: Path) -> None:
    nobody = people_in(torch.zeros(3, 8, 8, dtype=torch.uint8), torch.zeros(0, 3, 2), torch.zeros(0))
    assert nobody.to_json()["instances"] == [] and nobody.to_json()["scores"] == []
    assert not np.asarray(nobody.render()).any()
    assert nobody.to_coco("1") == [] and nobody.to_openpose()["people"] == []


def test_errors_are_those_of_the_matched() -> None:
    """By hand: the true people are 10 px tall; the first is found 3 and 4 px off and without its third point, the second not at
    all; a found one far away is nobody's."""
    truth = torch.tensor([[[10.0, 10], [10, 15], [10, 20]], [[60.0, 10], [60, 15], [60, 20]], [[0.0, 0], [0, 0], [0, 0]]])
    presence = visible(truth)
    presence[1, 2], presence[2] = UNKNOWN, ABSENT
    found = torch.tensor([[[200.0, 200], [201, 200], [202, 200]], [[13.0, 10], [10, 19], [NAN, NAN]]])
    metrics = MatchedKeypointMetrics()
    assert metrics.compute() == {}
    metrics.update(found, truth, presence)
    metrics.update(torch.zeros(0, 3, 2), torch.zeros(0, 3, 2), torch.zeros(0, 3, dtype=torch.uint8))
    assert metrics.compute() == pytest.approx(
        {
            "mean_error_px_matched": 3.5,
            "median_error_px_matched": 3.5,
            "points_matched": 2 / 5,
            "people_matched": 1 / 2,
            "people_extra": 1 / 2,
        }
    )


def test_nobody_found_has_no_error() -> None:
    metrics = MatchedKeypointMetrics()
    truth = torch.tensor([[[10.0, 10], [10, 15], [10, 20]]])
    metrics.update(torch.zeros(0, 3, 2), truth, visible(truth))
    assert metrics.compute() == {"points_matched": 0.0, "people_matched": 0.0}


def task_of(skeleton: Skeleton = BODY, **settings: Any) -> Task:
    return Task(Config(**settings), Meta(skeleton=skeleton))


@pytest.mark.parametrize(
    ("skeleton", "message"),
    [(Skeleton(names=("a", "b")), "no limbs"), (Skeleton(names=("a", "b", "c"), limbs=((0, 1),)), "c cannot be reached")],
)
def test_a_skeleton_that_does_not_hold_together_is_refused(skeleton: Skeleton, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        task_of(skeleton)


def test_a_network_without_maps_is_refused() -> None:
    with pytest.raises(UsageError, match="regressor"):
        task_of().networks(regressor.Config())


def test_flip_test_needs_limbs_that_can_be_mirrored() -> None:
    one_sided = Skeleton(names=("neck", "left", "right"), limbs=((0, 1), (1, 2)), swap=(0, 2, 1))
    task_of(one_sided).networks(unet.Config(width=2, depth=1))
    with pytest.raises(UsageError, match="none from neck to right"):
        task_of(one_sided, flip_test=True).networks(unet.Config(width=2, depth=1))


def test_every_stage_has_its_loss_and_the_last_one_answers() -> None:
    torch.manual_seed(0)
    task = task_of(STICK)
    networks = task.networks(hourglass.Config(width=4, stacks=2, depth=1))
    points = torch.tensor([[[[10.0, 10], [10, 18], [10, 26]]]])
    batch = {"image": torch.zeros(1, 3, 32, 32, dtype=torch.uint8), "keypoints": points, "keypoints.presence": visible(points)}
    encoded = task.encode(batch)
    outputs = task.forward(networks, encoded)
    assert outputs["sheets"].shape == (1, 2, task.codec.channels, 8, 8)
    losses = task.loss("train", networks, encoded, outputs)
    each = [task.codec.losses(outputs["sheets"][:, n], encoded) for n in range(2)]
    assert {n: v.item() for n, v in losses.items()} == pytest.approx({n: (each[0][n] + each[1][n]).item() for n in each[0]})
    networks.eval()
    answer = task.respond(networks, encoded)["sheets"]
    torch.testing.assert_close(answer, task.forward(networks, encoded)["sheets"][:, -1])


def test_the_flip_test_is_the_mean_of_both_answers() -> None:
    """By a network of one weight that answers only in the left half: 1 there, so that the mean of both is 1/2 everywhere."""
    task = task_of(STICK, flip_test=True)
    left = (torch.arange(8.0) < 4).float().expand(1, task.codec.channels, 8, 8)
    beliefs = task.codec.beliefs.channels
    answer = task.respond({"network": lambda image: left}, {"image": torch.zeros(1, 3, 8, 8)})["sheets"]  # type: ignore[dict-item]
    assert answer[:, :beliefs].unique().tolist() == [0.5]
    # of x and y, by column: the x of the mirrored are negative
    signs = answer[:, beliefs:].unflatten(1, (-1, 2)).mean((0, 1, 3))
    assert signs.tolist() == [[0.5] * 4 + [-0.5] * 4, [0.5] * 8]


def test_people_without_labels_are_masked_where_the_data_knows_them() -> None:
    data = world.Config(scenes=4, size=(32, 32)).open("train")
    assert Config().settled(data).unlabelled == "unlabelled"
    assert "unlabelled" in Task(Config().settled(data), data.meta).fields
    points = torch.zeros(1, 0, 14, 2)
    hidden = torch.zeros(1, 32, 32, dtype=torch.uint8)
    hidden[0, :, :16] = 1
    batch = {"image": torch.zeros(1, 3, 32, 32, dtype=torch.uint8), "keypoints": points, "unlabelled": hidden}
    batch["keypoints.presence"] = torch.zeros(1, 0, 14, dtype=torch.uint8)
    sheets = task_of(unlabelled="unlabelled").encode(batch)["sheets"]
    assert sheets[..., :16].isnan().all() and not sheets[..., 16:].isnan().any()


def test_metrics_say_which_sigma_they_assumed() -> None:
    assert task_of().primary == "ap_oks_boxarea"
    task = task_of(STICK)
    points = torch.tensor([[[4.0, 4.0], [4.0, 14.0], [10.0, 24.0]]])
    frame = Frame.of((32, 32))
    image = Image(torch.zeros(3, 32, 32, dtype=torch.uint8), frame)
    sample = Sample("a", {"image": image, "keypoints": Keypoints(points, visible(points), frame)})
    metrics = task.metrics()
    task.score(metrics, task.truth(sample), sample)
    found = metrics.compute()
    assert found[task.primary] == found["ap_oks_sigma0.05_boxarea"] == 1 and "ap_oks_sigma0.05" not in found


def test_who_is_found_where_nobody_was_labelled_is_not_wrong() -> None:
    """Three are found: the labelled one, one in the crowd and, with a lower score, one whom nobody labelled."""
    people = torch.tensor([[[4.0, 4.0], [4.0, 14.0], [10.0, 24.0]]]) + torch.tensor([0.0, 16.0, 8.0])[:, None, None]
    truth = Keypoints(people[:1], visible(people[:1]), Frame.of((48, 48)))
    people[1, 2] = torch.nan
    crowd = torch.zeros(48, 48, dtype=torch.uint8)
    crowd[24:, 20:] = 1  # one of the two points of the second is there: not most
    prediction = KeypointsPrediction(
        torch.zeros(3, 48, 48, dtype=torch.uint8), people, torch.ones(3, 3), STICK, scores=torch.tensor([0.5, 0.9, 0.1])
    )
    metrics = task_of(STICK).metrics()
    metrics.update(prediction, truth, crowd)
    found = metrics.compute()
    assert (found["ap_oks_sigma0.05_boxarea"], found["people_extra"]) == pytest.approx((0.5, 2 / 3))
    crowd[:] = 0
    crowd[16:, 16:] = 1
    metrics = task_of(STICK).metrics()
    metrics.update(prediction, truth, crowd)
    found = metrics.compute()
    assert (found["ap_oks_sigma0.05_boxarea"], found["people_extra"]) == pytest.approx((1, 1 / 2))
    task = task_of(STICK, unlabelled="hidden")
    metrics = task.metrics()
    everywhere = LabelMap(torch.ones_like(crowd), truth.frame)
    task.score(metrics, prediction, Sample("a", {"keypoints": truth, "hidden": everywhere}))
    assert metrics.compute()["people_matched"] == 1 and metrics.compute()["people_extra"] == 0


def test_the_mean_pose_stands_in_the_middle() -> None:
    """By hand: two rods, 0.2 and 0.4 of the width long, become one of 0.3 about the middle."""
    pose = task_of(ROD)._mean_pose(torch.tensor([[[0.1, 0.5], [0.3, 0.5]], [[0.5, 0.1], [0.9, 0.1]]]))
    torch.testing.assert_close(pose, torch.tensor([[[0.35, 0.5], [0.65, 0.5]]]))
    nobody = task_of(ROD)._mean_pose(torch.zeros(0, 2, 2))
    assert torch.equal(nobody, torch.full((1, 2, 2), 0.5))


def test_mirrored_pictures_of_a_side_without_a_twin_are_refused() -> None:
    arm = Skeleton(names=("left_shoulder", "left_elbow"), limbs=((0, 1),))
    view = View(size=(32, 32))
    task_of(arm).check(view, Augment())
    task_of(BODY, flip_test=True).check(view, Augment(flip=0.5))
    with pytest.raises(UsageError, match=r"augment\.flip mirrors pictures, but left_shoulder, left_elbow"):
        task_of(arm).check(view, Augment(flip=0.5))
    with pytest.raises(UsageError, match=r"task\.flip_test"):
        task_of(arm, flip_test=True).check(view, Augment())


def test_openpose_gets_a_head_for_beliefs_and_one_for_fields() -> None:
    task = task_of(STICK, sigma=7, thickness=8)
    (network,) = task.networks(openpose.Config(width=8, encoder_width=4)).values()
    assert task.stages == 2 and network(torch.zeros(1, 3, 32, 32)).shape == (1, 3 + 1 + 4, 4, 4)
    assert [head[-1].out_channels for head in network.first.heads] == [4, 4]
