"""Every field of a sample moves under one homography, and unknown, absent and present stay three things."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import tensor

from pixelwise.data.dataset import Meta, existing_folder
from pixelwise.data.sample import (
    Boxes,
    Category,
    Depth,
    Image,
    Keypoints,
    LabelMap,
    Normals,
    Presence,
    Sample,
    collate,
)
from pixelwise.errors import DataError
from pixelwise.geometry.frame import Frame
from pixelwise.geometry.homography import about, compose, horizontal_flip, rotation, scaling, translation
from pixelwise.geometry.skeleton import Skeleton

NAN = math.nan
FRAME = Frame.of((20, 10))
UNKNOWN, ABSENT, HIDDEN, VISIBLE = Presence


def keypoints(points: list[list[float]], presence: list[Presence], swap: tuple[int, ...] = ()) -> Keypoints:
    return Keypoints(tensor([points]), tensor([presence], dtype=torch.uint8), FRAME, swap)


def test_presence_is_ordered_so_that_from_hidden_on_there_is_a_coordinate() -> None:
    assert (int(UNKNOWN), int(ABSENT), int(HIDDEN), int(VISIBLE)) == (0, 1, 2, 3)


def test_a_point_that_left_is_absent_and_an_unknown_one_stays_unknown() -> None:
    points = [[1.0, 1.0], [9.0, 1.0], [9.0, 1.0], [NAN, NAN], [9.0, 1.0], [1.0, 1.0]]
    moved = keypoints(points, [VISIBLE, VISIBLE, HIDDEN, UNKNOWN, UNKNOWN, ABSENT]).warp(translation(2, 0), (20, 10))
    assert moved.presence.tolist() == [[VISIBLE, ABSENT, ABSENT, UNKNOWN, UNKNOWN, ABSENT]]
    assert moved.presence.dtype == torch.uint8
    assert moved.points[0, 0].tolist() == [3.0, 1.0] and moved.points[0, 3].isnan().all()


@pytest.mark.parametrize(
    ("point", "presence"),
    [
        ([0, 0], VISIBLE),
        ([-0.01, 0], ABSENT),
        ([0, -0.01], ABSENT),
        ([10, 5], ABSENT),
        ([9.99, 19.99], VISIBLE),
        ([5, 20], ABSENT),
    ],
)
def test_the_picture_covers_0_to_its_size(point: list[float], presence: Presence) -> None:
    moved = keypoints([[float(v) for v in point]], [VISIBLE]).warp(np.eye(3), (20, 10))
    assert moved.presence.tolist() == [[presence]]


def test_a_mirror_exchanges_left_and_right() -> None:
    # left eye, right eye, nose; the flip must give the left eye's place, 10 - 7 = 3, to what was called the right eye
    face = keypoints([[2.0, 5.0], [7.0, 5.0], [4.0, 8.0]], [HIDDEN, VISIBLE, UNKNOWN], (1, 0, 2))
    flipped = face.warp(horizontal_flip(10), (20, 10))
    assert flipped.points.tolist() == [[[3.0, 5.0], [8.0, 5.0], [6.0, 8.0]]]
    assert flipped.presence.tolist() == [[VISIBLE, HIDDEN, UNKNOWN]]
    back = flipped.warp(horizontal_flip(10), (20, 10))
    assert torch.equal(back.points, face.points) and torch.equal(back.presence, face.presence)
    turned = face.warp(about(rotation(180), (5, 10)), (20, 10))
    assert turned.presence.tolist() == [[HIDDEN, VISIBLE, UNKNOWN]]


def test_an_area_grows_with_the_pixels_where_the_object_is() -> None:
    one = Keypoints(tensor([[[1.0, 5.0], [3.0, 5.0]]]), torch.full((1, 2), 3, dtype=torch.uint8), FRAME, areas=tensor([8.0]))
    assert one.warp(scaling(2, 3), (60, 20)).areas.tolist() == [48.0]
    assert one.warp(about(rotation(30), (2, 5)), (20, 10)).areas.tolist() == pytest.approx([8.0])
    # x' = 2x / (1 + x / 2), y' = y / (1 + x / 2): at (2, 5), w = 2, so |det J| = 2 / 2^3
    assert one.warp(np.array([[2.0, 0, 0], [0, 1, 0], [0.5, 0, 1]]), (20, 10)).areas.tolist() == [2.0]
    unknown = keypoints([[math.nan, math.nan]], [UNKNOWN])
    assert unknown.areas.isnan().all() and unknown.warp(scaling(2, 2), (40, 20)).areas.isnan().all()
    batch = collate([Sample("a", {"k": one}), Sample("b", {"k": unknown.warp(np.eye(3), (20, 10))})][:1])
    assert batch["k.areas"].tolist() == [[8.0]]


def test_without_swap_a_mirror_keeps_the_names() -> None:
    assert keypoints([[2.0, 5.0], [7.0, 5.0]], [HIDDEN, VISIBLE]).warp(horizontal_flip(10), (20, 10)).points.tolist() == [
        [[8.0, 5.0], [3.0, 5.0]]
    ]


def test_boxes_become_upright_hulls_clipped_to_the_picture() -> None:
    boxes = Boxes(tensor([[2.0, 4.0, 6.0, 8.0], [8.0, 2.0, 10.0, 5.0], [9.0, 0.0, 10.0, 1.0]]), tensor([3, 1, 2]), FRAME)
    flipped = boxes.warp(horizontal_flip(10), (20, 10))
    assert flipped.boxes.tolist() == [[4, 4, 8, 8], [0, 2, 2, 5], [0, 0, 1, 1]]
    shifted = boxes.warp(translation(1, -3), (20, 10))  # the third box is above the picture now
    assert shifted.boxes.tolist() == [[3, 1, 7, 5], [9, 0, 10, 2]] and shifted.categories.tolist() == [3, 1]
    diamond = boxes.warp(about(rotation(45), (4, 6)), (20, 10)).boxes[0]
    half = 2 * math.sqrt(2)
    assert diamond.tolist() == pytest.approx([4 - half, 6 - half, 4 + half, 6 + half], abs=1e-5)


def test_no_boxes_and_no_people_are_fine() -> None:
    boxes = Boxes(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), FRAME).warp(scaling(2, 2), (40, 20))
    people = Keypoints(torch.zeros(0, 3, 2), torch.zeros(0, 3, dtype=torch.uint8), FRAME, (1, 0, 2))
    assert boxes.boxes.shape == (0, 4) and people.warp(horizontal_flip(10), (20, 10)).points.shape == (0, 3, 2)


def whole_sample(key: str = "a", people: int = 1) -> Sample:
    generator = torch.Generator().manual_seed(people)
    return Sample(
        key,
        {
            "image": Image(torch.randint(0, 256, (3, 20, 10), dtype=torch.uint8, generator=generator), FRAME),
            "labels": LabelMap(torch.randint(0, 5, (20, 10), dtype=torch.uint8, generator=generator), FRAME),
            "depth": Depth(torch.rand(20, 10, generator=generator), FRAME),
            "normals": Normals(tensor([0.6, 0, -0.8])[:, None, None].repeat(1, 20, 10), FRAME),
            "keypoints": Keypoints(torch.rand(people, 2, 2), torch.full((people, 2), 3, dtype=torch.uint8), FRAME, (1, 0)),
            "boxes": Boxes(tensor([[0.0, 0, 2, 2]] * people), torch.arange(people), FRAME),
            "category": Category(people, FRAME),
        },
    )


def test_a_sample_warps_every_field_and_remembers_the_way_back() -> None:
    sample = whole_sample()
    matrix = compose(translation(-2, -3), horizontal_flip(6))
    moved = sample.warp(matrix, (12, 6))
    assert moved.key == "a" and list(moved.fields) == list(sample.fields)
    for field in moved.fields.values():
        assert field.frame.size == (12, 6) and field.frame.original_size == (20, 10)
        assert np.array_equal(field.frame.matrix, matrix)
    crop = (slice(3, 15), slice(2, 8))
    assert torch.equal(moved["image"].tensors()[""], sample["image"].tensors()[""][:, *crop].flip(-1))
    for name in ("labels", "depth"):
        assert torch.equal(moved[name].tensors()[""], sample[name].tensors()[""][crop].flip(-1))
    assert moved["normals"].tensors()[""][:, 0, 0].tolist() == pytest.approx([-0.6, 0, -0.8])
    assert moved["category"].tensors()[""].item() == 1


def test_frames_compose_over_several_warps() -> None:
    moved = whole_sample().warp(scaling(2, 2), (40, 20)).warp(translation(-5, 0), (40, 10))
    assert np.array_equal(moved["image"].frame.matrix, [[2, 0, -5], [0, 2, 0], [0, 0, 1]])


def test_collate_names_and_stacks_every_tensor() -> None:
    batch = collate([whole_sample("a"), whole_sample("b")])
    assert {name: tuple(value.shape) for name, value in batch.items()} == {
        "image": (2, 3, 20, 10),
        "labels": (2, 20, 10),
        "depth": (2, 20, 10),
        "normals": (2, 3, 20, 10),
        "keypoints": (2, 1, 2, 2),
        "keypoints.presence": (2, 1, 2),
        "keypoints.areas": (2, 1),
        "boxes": (2, 1, 4),
        "boxes.categories": (2, 1),
        "category": (2,),
    }
    assert batch["image"].dtype == torch.uint8 and batch["category"].dtype == torch.int64


def test_collate_pads_instances_as_unknown() -> None:
    batch = collate([whole_sample("a", 1), whole_sample("b", 3)])
    assert batch["keypoints"].shape == (2, 3, 2, 2) and batch["boxes"].shape == (2, 3, 4)
    assert batch["keypoints"][0, 1:].isnan().all() and not batch["keypoints"][1].isnan().any()
    assert batch["keypoints.presence"][:, :, 0].tolist() == [[3, 0, 0], [3, 3, 3]]
    assert batch["keypoints.presence"].dtype == torch.uint8
    assert batch["boxes"][0, 1:].isnan().all() and batch["boxes.categories"].tolist() == [[0, -1, -1], [0, 1, 2]]


def test_collate_refuses_pictures_of_different_sizes() -> None:
    other = whole_sample().warp(scaling(2, 2), (40, 20))
    with pytest.raises(DataError, match=r"'image' of different shapes: \(3, 20, 10\) and \(3, 40, 20\)"):
        collate([whole_sample(), other])


@pytest.mark.parametrize(
    "wrong",
    [
        {"classes": ("a", "b"), "palette": ((0, 0, 0),)},
        {"skeleton": {"names": ("a", "b"), "swap": (1, 1)}},
        {"skeleton": {"names": ("a", "b"), "limbs": ((0, 2),)}},
        {"skeleton": {"names": ("a", "b"), "sigmas": (0.1,)}},
    ],
)
def test_meta_refuses_what_does_not_fit_together(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Meta.model_validate(wrong)
    pair = Skeleton(names=("l", "r"), swap=(1, 0), limbs=((0, 1),), sigmas=(0.1, 0.2))
    assert Meta(classes=("a",), palette=((0, 0, 0),), skeleton=pair).skeleton.swap == (1, 0)


def test_a_missing_folder_names_its_nearest_neighbour(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "facades").mkdir()
    assert existing_folder(str(tmp_path / "facades")) == tmp_path / "facades"
    with pytest.raises(DataError) as caught:
        existing_folder(str(tmp_path / "facade"))
    assert caught.value.hint == "did you mean 'facades'?"
