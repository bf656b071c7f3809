"""Crowds pasted from single people: worked by hand on plain pictures, where a person's colour says who owns a pixel."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image as PillowImage

from pixelwise.data.composites import Body, Crowd, body_mask, cut_out
from pixelwise.data.datasets import keypoints_json, people_composites
from pixelwise.data.keypoints import KeypointFiles
from pixelwise.data.sample import Image, Keypoints, Presence, Sample
from pixelwise.errors import DataError
from pixelwise.geometry.frame import Frame
from pixelwise.geometry.skeleton import Skeleton

PERSON = Skeleton(
    names=("left_shoulder", "right_shoulder", "left_hip", "right_hip"), limbs=((0, 2), (1, 3)), swap=(1, 0, 3, 2), sigmas=()
)
UPRIGHT = [[30.0, 10.0], [20.0, 10.0], [30.0, 30.0], [20.0, 30.0]]
"""A torso of 20 pixels, 10 wide; limbs of 20, so that the usual torso of such limbs is 28."""


def sample(value: int, points: list[list[float]], size: tuple[int, int] = (40, 50)) -> Sample:
    presence = torch.full((1, 4), Presence.VISIBLE, dtype=torch.uint8)
    frame = Frame.of(size)
    people = Keypoints(torch.tensor([points]), presence, frame, PERSON.swap)
    return Sample("a", {"image": Image(torch.full((3, *size), value, dtype=torch.uint8), frame), "keypoints": people})


def test_a_body_is_found_by_its_names() -> None:
    body = Body.of(PERSON)
    assert (body.shoulders, body.hips) == ((0, 1), (2, 3))
    assert body.torso(torch.tensor(UPRIGHT)) == pytest.approx(28)
    with pytest.raises(DataError, match="two shoulders"):
        Body.of(Skeleton(names=("nose", "left_hip", "right_hip"), limbs=((0, 1),)))


def test_the_mask_reaches_as_far_as_it_says() -> None:
    mask = body_mask(torch.tensor(UPRIGHT), Body.of(PERSON), (40, 50), 0.1)  # 2.8 pixels beyond the hull, soft over 2.24
    row = mask[20]
    assert row[20:30].tolist() == [1.0] * 10 and row[:15].sum() == 0 and row[35:].sum() == 0
    # pixel 32 has its centre 2.5 beyond the hip: (2.8 - 2.5) / 2.24 + 1/2; pixel 17 mirrors it
    assert row[32].item() == pytest.approx(0.3 / 2.24 + 0.5, abs=1e-5) and row[17] == row[32]
    assert row[33].item() == pytest.approx(-0.7 / 2.24 + 0.5, abs=1e-5)


def test_later_people_hide_earlier_ones() -> None:
    body = Body.of(PERSON)
    crowd = Crowd.begin(sample(10, UPRIGHT), body, 0.1)
    first = int((crowd.owner == 1).sum())
    cutout = cut_out(sample(200, UPRIGHT), body, 0.1, torso=28.0)
    # the newcomer's picture begins at the whole pixel before the lowest point less the margin of (0.1 + 0.08) * 28
    assert cutout.person.points[0, 1].tolist() == [20.0 - 14, 10.0 - 4]
    corner = (14 + 10, 4)  # 10 pixels to the right: its right side lies on the left side of the first
    share = crowd.cover(cutout, *corner)
    crowd.paste(cutout, *corner)
    people = crowd.keypoints()
    assert people.points[1].tolist() == [[40, 10], [30, 10], [40, 30], [30, 30]]
    assert people.presence[0].tolist() == [Presence.HIDDEN, Presence.VISIBLE, Presence.HIDDEN, Presence.VISIBLE]
    assert people.presence[1].tolist() == [Presence.VISIBLE] * 4
    assert people.areas.tolist() == [(crowd.owner == 1).sum(), (crowd.owner == 2).sum()]
    assert people.areas[0].item() == pytest.approx(first * (1 - share), abs=0.5) and 0.2 < share < 0.6
    assert crowd.pixels[:, 20, 35].tolist() == [200] * 3 and crowd.pixels[:, 20, 21].tolist() == [10] * 3


def test_who_is_pasted_beyond_the_border_is_cut_there() -> None:
    body = Body.of(PERSON)
    crowd = Crowd.begin(sample(10, UPRIGHT), body, 0.1)
    cutout = cut_out(sample(200, UPRIGHT), body, 0.1, torso=28.0)
    for corner in ((-16, 4), (45, 30), (-500, 4), (500, 500)):
        assert 0 <= crowd.cover(cutout, *corner) <= 1
        crowd.paste(cutout, *corner)
    presence = crowd.keypoints().presence
    assert presence[1].tolist() == [Presence.VISIBLE, Presence.ABSENT] * 2  # left points at 0, right ones at -10
    assert (presence[3:] == Presence.ABSENT).all() and crowd.keypoints().areas[3:].isnan().all()


def source(root: Path, count: int = 6) -> keypoints_json.Config:
    (root / "images").mkdir(parents=True)
    items: list[dict[str, Any]] = []
    for i in range(count):
        PillowImage.new("RGB", (50, 40), (40 * i, 0, 0)).save(root / "images" / f"{i}.png")
        items.append({"file": f"{i}.png", "points": UPRIGHT})
    stated = {"names": list(PERSON.names), "limbs": [list(limb) for limb in PERSON.limbs], "items": items}
    (root / "keypoints.json").write_text(json.dumps(stated))
    return keypoints_json.Config(root=str(root), val_fraction=0.3)


def test_the_data_set_is_a_function_of_its_settings(tmp_path: Path) -> None:
    config = people_composites.Config(source=source(tmp_path), people=(2, 4), repeats=3)
    train, val = config.open("train"), config.open("val")
    assert (len(train), len(val)) == (12, 2) and len({train.key(i) for i in range(12)}) == 12
    counts, first = [], train.sample(5, train.fields)
    for i in range(12):
        made = train.sample(i, train.fields)
        people = made["keypoints"]
        assert isinstance(people, Keypoints)
        counts.append(len(people.points))
        assert people.areas.shape == (len(people.points),) and not made["unlabelled"].tensors()[""].any()
    assert min(counts) >= 1 and max(counts) in (3, 4)
    again = people_composites.Config(source=config.source, people=(2, 4), repeats=3).open("train").sample(5, ["image"])
    assert torch.equal(again["image"].tensors()[""], first["image"].tensors()[""])
    other = people_composites.Config(source=config.source, people=(2, 4), repeats=3, seed=1).open("train").sample(5, ["image"])
    assert not torch.equal(other["image"].tensors()[""], first["image"].tensors()[""])


def test_who_is_pasted_over_people_without_labels_has_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KeypointFiles, "_unlabelled", lambda self, item, size: torch.ones(size, dtype=torch.uint8))
    data = people_composites.Config(source=source(tmp_path), people=(2, 4)).open("train")
    made = data.sample(0, ["keypoints", "unlabelled"])
    people, there = made["keypoints"], made["unlabelled"].tensors()[""]
    assert isinstance(people, Keypoints) and 0 < there.float().mean() < 1
    x, y = people.points[people.presence == Presence.VISIBLE].long().unbind(-1)
    assert len(x) > 4 and not there[y, x].any()


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected fewest, most"):
        people_composites.Config(source=source(tmp_path), people=(4, 2))
    stated = json.loads((tmp_path / "keypoints.json").read_text()) | {"names": ["a", "b", "c", "d"]}
    (tmp_path / "keypoints.json").write_text(json.dumps(stated))
    with pytest.raises(DataError, match="two shoulders"):
        people_composites.Config(source=keypoints_json.Config(root=str(tmp_path))).open("train")
