"""Looking at data: each kind of mistake is put into small data by hand and must be named with its sample."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial import procrustes

from pixelwise.checking import Checked, check_data
from pixelwise.checking_report import as_text
from pixelwise.cli import main
from pixelwise.data.duplicates import nearly_same, signatures
from pixelwise.errors import UsageError
from pixelwise.geometry.shapes import shape_distances
from pixelwise.index import recipe_for
from pixelwise.recipe import find_recipe

NAMES = ["nose", "left_eye", "right_eye", "left_ear", "right_ear", "chin"]
FACE = np.array([[0, 0], [1.2, -1.0], [-1.2, -1.0], [2.2, -0.4], [-2.2, -0.4], [0.0, 2.2]])
COUNT = 40


def faces(root: Path) -> list[dict[str, Any]]:
    """Write 40 noisy pictures of faces that face the viewer, turned and sized at random, and return their items."""
    draw = np.random.default_rng(3)
    items = []
    (root / "images").mkdir(parents=True)
    for i in range(COUNT):
        angle, scale = draw.uniform(-0.5, 0.5), draw.uniform(6, 10)
        turn = scale * np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        points = (FACE + draw.normal(0, 0.06, FACE.shape)) @ turn + 32
        Image.fromarray(draw.integers(0, 255, (64, 64, 3), np.uint8)).save(root / "images" / f"{i:02}.png")
        items.append({"file": f"{i:02}.png", "points": points.tolist()})
    return items


def checked(root: Path, items: list[dict[str, Any]], **more: Any) -> Checked:
    (root / "keypoints.json").write_text(json.dumps({"names": NAMES, "items": items} | more))
    return check_data(find_recipe("keypoints").override([f"data.root={root}"]))


def found(result: Checked, reason: str) -> list[str]:
    return sorted(finding.key for finding in result.findings if reason in finding.reason)


def test_sound_data_has_no_findings(tmp_path: Path) -> None:
    result = checked(tmp_path, faces(tmp_path))
    assert result.findings == [] and result.broken == [] and result.counts == {"train": 36, "val": 4}
    assert result.shares["points not labelled"] == dict.fromkeys(NAMES, 0.0)


def test_swapped_sides_and_strange_shapes(tmp_path: Path) -> None:
    items = faces(tmp_path)
    for i in (4, 17):
        items[i]["points"] = [items[i]["points"][k] for k in (0, 2, 1, 4, 3, 5)]
    items[9]["points"][5] = [2, 2]
    result = checked(tmp_path, items)
    assert found(result, "left and right") == ["images/04.png", "images/17.png"]
    assert "images/09.png" in found(result, "far from the rest")


def test_shapes_that_are_nearly_their_own_mirror_are_not_called_swapped(tmp_path: Path) -> None:
    """A row of points along the middle, with the sides a hair apart: exchanged, half of them fit their neighbours better."""
    draw = np.random.default_rng(0)
    items = faces(tmp_path)
    for item in items:
        middle = np.array([[32, 8], [32.2, 16], [31.8, 16], [32.2, 32], [31.8, 32], [32, 56]])
        item["points"] = (middle + draw.normal(0, 0.5, middle.shape)).tolist()
    assert found(checked(tmp_path, items), "left and right") == []


def test_points_outside_and_images_without_any(tmp_path: Path) -> None:
    items = faces(tmp_path)
    items[3]["points"][1] = [80, 5]
    items[5]["points"] = [None] * 6
    for item in items:
        item["points"][3] = None
    result = checked(tmp_path, items)
    assert found(result, "outside") == ["images/03.png"]
    assert next(f.detail for f in result.findings if "outside" in f.reason) == "left_eye"
    assert found(result, "no point is there") == ["images/05.png"]
    assert [f.detail for f in result.findings if "mostly unlabelled" in f.reason] == ["left_ear: 100% unknown"]
    assert result.shares["points not labelled"]["nose"] == pytest.approx(1 / COUNT)
    assert result.shares["points absent"]["left_eye"] == pytest.approx(1 / COUNT)


def test_duplicates_within_and_across_splits(tmp_path: Path) -> None:
    items = faces(tmp_path)
    held = {key for split, _, key in _keys(checked(tmp_path, items)) if split == "val"}
    val, train = sorted(held)[0], [i for i in range(COUNT) if f"images/{i:02}.png" not in held]
    pictures = tmp_path / "images"
    (pictures / f"{train[1]:02}.png").write_bytes((pictures / f"{train[0]:02}.png").read_bytes())
    (tmp_path / val).write_bytes((pictures / f"{train[5]:02}.png").read_bytes())
    brighter = np.asarray(Image.open(pictures / f"{train[8]:02}.png")).astype(float) * 0.9 + 20
    Image.fromarray(brighter.astype(np.uint8)).save(pictures / f"{train[9]:02}.png")
    result = checked(tmp_path, items)
    assert found(result, "the same image in the same split") == [f"images/{train[1]:02}.png", f"images/{train[9]:02}.png"]
    reasons = {finding.key: (finding.reason, finding.detail) for finding in result.findings}
    assert reasons[f"images/{train[9]:02}.png"] == (
        "nearly the same image in the same split",
        f"as images/{train[8]:02}.png in train",
    )
    assert reasons[val] == ("the same image in another split", f"as images/{train[5]:02}.png in train")


def _keys(result: Checked) -> list[tuple[str, int, str]]:
    return [(label.split(": ")[0], 0, label.split(": ")[1]) for _, label in result.tiles]


def test_one_object_labelled_twice(tmp_path: Path) -> None:
    items = faces(tmp_path)
    for i, item in enumerate(items):
        points = np.array(item.pop("points"))
        item["instances"] = [points.tolist(), (points + (0.3 if i == 6 else 25)).tolist()]
    assert found(checked(tmp_path, items), "on top of each other") == ["images/06.png"]


def test_unreadable_files_are_listed_and_the_exit_code_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items = faces(tmp_path / "data")
    (tmp_path / "data/images/07.png").write_bytes(b"\x89PNG no")
    (tmp_path / "data/keypoints.json").write_text(json.dumps({"names": NAMES, "items": items}))
    words = ["check", "data.kind=keypoints_json", f"data.root={tmp_path / 'data'}", f"out={tmp_path / 'out'}"]
    assert main([*words, "--json"]) == 1
    stated = json.loads(capsys.readouterr().out)
    assert len(stated["broken"]) == 1 and "07.png" in stated["broken"][0] and sum(stated["samples"].values()) == COUNT - 1
    page = (tmp_path / "out/index.html").read_text()
    assert "07.png" in page and page.count("<img") == COUNT - 1
    with Image.open(tmp_path / "out/sheet.png") as sheet:
        assert sheet.size == (8 * 192, 5 * 192)
    Image.new("RGB", (64, 64)).save(tmp_path / "data/images/07.png")
    assert main(words) == 0
    assert "0 files that cannot be read" in capsys.readouterr().out


def test_label_maps(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for i in range(3):
            for folder in ("images", "labels"):
                (tmp_path / split / folder).mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(i + 9 * (split == "val")).integers(0, 255, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / split / "images" / f"{i}.png")
            labels = np.full((8, 8), 255 if (i, split) == (1, "train") else 0, np.uint8)
            labels[:, :4] = np.where(labels[:, :4] == 255, 255, 1)
            Image.fromarray(labels).save(tmp_path / split / "labels" / f"{i}.png")
    result = check_data(find_recipe("segmentation").override([f"data.root={tmp_path}", "data.classes=sky,road,car"]))
    assert [(f.split, f.key, f.reason) for f in result.findings if f.key] == [("train", "1", "nothing is labelled")]
    assert [f.detail for f in result.findings if not f.key] == ["labels: car"]
    assert result.shares["labels"] == pytest.approx({"sky": 5 / 12, "road": 5 / 12, "car": 0, "unknown": 1 / 6})


def test_what_is_strange_about_a_skeleton(tmp_path: Path) -> None:
    names = ["nose", "left_eye", "right_eye", "left_ear", "chin", "chin_left"]
    items = faces(tmp_path)
    result = checked(tmp_path, items, names=names, limbs=[["nose", "left_eye"], ["left_eye", "left_ear"], ["nose", "nose"]])
    assert [(f.split, f.reason, f.detail) for f in result.findings if f.key == "" and f.split == "skeleton"] == [
        ("skeleton", "a limb has one point twice", "nose"),
        ("skeleton", "a limb is missing", "nose to right_eye, as nose to left_eye is there"),
        ("skeleton", "a point has no limb", "right_eye"),
        ("skeleton", "a point has no limb", "chin"),
        ("skeleton", "a point has no limb", "chin_left"),
        ("skeleton", "a side without its twin", "left_ear"),
        ("skeleton", "a side without its twin", "chin_left"),
    ]
    assert "skeleton" in as_text(result) and "left_ear" in as_text(result)


def test_a_skeleton_without_limbs_is_a_note(tmp_path: Path) -> None:
    result = checked(tmp_path, faces(tmp_path))
    assert result.notes == ["the skeleton has no limbs: no lines are drawn, and `pose` cannot be trained"]
    assert result.notes[0] in as_text(result)


def test_a_limb_to_an_unknown_point_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items = faces(tmp_path)
    (tmp_path / "keypoints.json").write_text(json.dumps({"names": NAMES, "limbs": [["nose", "left_ey"]], "items": items}))
    assert main(["check", "data.kind=keypoints_json", f"data.root={tmp_path}", f"out={tmp_path / 'out'}"]) == 1
    assert "'left_ey' is none of its names; did you mean 'left_eye'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["world_depth", "world_normals", "world_multilabel", "world_classification", "world_translation"]
)
def test_every_kind_of_truth_is_drawn(name: str) -> None:
    result = check_data(find_recipe(name).override(["data.scenes=8", "data.size=32x32"]))
    assert sum(result.counts.values()) == 12 and len(result.tiles) == 12
    assert as_text(result).startswith("12 samples (8 in train, 2 in val, 2 in test), 0 files")


def test_which_recipe_reads_a_kind() -> None:
    assert recipe_for(["data.kind=keypoints_csv", "data.root=x"]) == "keypoints"
    assert recipe_for(["data=paired_folder"]) == "translation"
    with pytest.raises(UsageError, match="name a recipe"):
        recipe_for(["data.root=x"])
    with pytest.raises(UsageError, match="no recipe reads data of kind 'keypoint_csv'"):
        recipe_for(["data.kind=keypoint_csv"])


def test_a_second_recipe_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "keypoints", "imm_faces"]) == 2
    assert "one recipe" in capsys.readouterr().err


def test_a_folder_alone_does_not_say_how_it_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "how is" in told and f"check data.kind=keypoints_json data.root={tmp_path}" in told


def waves(count: int, seed: int) -> torch.Tensor:
    """Return thumbnails `(count, 768)` of random slow waves, as pictures of different things have them."""
    draw = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(24) / 24, torch.arange(32) / 32, indexing="ij")
    pictures = torch.zeros(count, 24, 32)
    for down, across in [(down, across) for down in range(4) for across in range(4)]:
        size = torch.randn(count, 1, 1, generator=draw) / (1 + down + across)
        pictures += size * torch.cos(torch.pi * (down * (y + 0.5 / 24))) * torch.cos(torch.pi * (across * (x + 0.5 / 32)))
    return (0.5 + 0.15 * pictures + 0.01 * torch.randn(pictures.shape, generator=draw)).flatten(1)


class TestNearlySame:
    def test_few_comparisons_find_what_all_find(self) -> None:
        """Six pictures of each of 500 things: comparisons grow with the pictures, not with their square, and none is missed."""
        groups = ["train"] * 2700 + ["val"] * 300
        pictures = waves(500, 0).repeat(6, 1) + 0.12 * (waves(3000, 1) - 0.5)
        unit = pictures.double() - pictures.double().mean(1, keepdim=True)
        unit /= unit.norm(dim=1, keepdim=True)
        found = nearly_same(pictures, groups, 0.995)
        assert (
            found.pairs == [(i, j) for i, j in (unit @ unit.T > 0.995).tril(-1).nonzero().tolist()] and len(found.pairs) > 800
        )
        fewer = nearly_same(pictures.view(6, 500, -1)[:, :125].flatten(0, 1), ["train"] * 750, 0.995)
        assert len(found.pairs) > 800 and 150 < fewer.compared < found.compared < 6 * fewer.compared, (
            "all pairs would be 16 times as many"
        )

    def test_copies_of_one_picture_are_not_held_against_each_other_all(self) -> None:
        same = waves(1, 1).expand(1000, -1)
        found = nearly_same(same, ["train"] * 1000, 0.995)
        assert found.compared <= 17 * 1000 and {i for i, _ in found.pairs} >= set(range(17, 1000))

    def test_a_copy_in_another_split_is_found_among_many_in_the_same(self) -> None:
        pictures = waves(1, 2).expand(101, -1)
        found = nearly_same(pictures, ["train"] * 100 + ["val"], 0.995)
        assert [j for i, j in found.pairs if i == 100]

    def test_flat_pictures_are_like_nothing(self) -> None:
        assert nearly_same(torch.full((3, 768), 0.5), ["train"] * 3, 0.995) == ([], 0)

    def test_signatures_are_no_farther_apart_than_pictures(self) -> None:
        unit = torch.randn(40, 768, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        small = torch.from_numpy(signatures(unit))
        assert small.shape == (40, 19) and (torch.cdist(small, small) <= torch.cdist(unit, unit) + 1e-6).all()


class TestShapes:
    def test_distances_are_those_of_scipy(self) -> None:
        draw = torch.Generator().manual_seed(0)
        shapes, others = torch.randn(5, 7, 2, generator=draw), torch.randn(4, 7, 2, generator=draw)
        ours = shape_distances(shapes, others)
        for i in range(5):
            for j in range(4):
                # scipy may mirror; it does so only where that is nearer, and says the squared distance
                z, w = (torch.view_as_complex((s - s.mean(0)).double().contiguous()) for s in (shapes[i], others[j]))
                mirrored = (z * w).sum().abs() > (z.conj() * w).sum().abs()
                square = procrustes(shapes[i].double().numpy(), others[j].double().numpy())[2]
                flipped = shape_distances(shapes[i : i + 1], others[j : j + 1] * torch.tensor([-1.0, 1.0]))
                assert float(flipped if mirrored else ours[i, j]) ** 2 == pytest.approx(square, abs=1e-9)

    def test_place_size_and_turn_do_not_matter_but_sides_do(self) -> None:
        face = torch.tensor(FACE)
        turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
        same = shape_distances(face[None], (3 * face @ turn + 100)[None])
        assert same.item() < 1e-6
        swapped = face[[0, 2, 1, 4, 3, 5]]
        assert shape_distances(face[None], swapped[None]).item() > 0.5

    def test_missing_points_are_left_out(self) -> None:
        face = torch.tensor(FACE)
        partly = face.clone() * 2 + 5
        partly[[0, 4]] = torch.nan
        assert shape_distances(face[None], partly[None]).item() < 1e-6
        partly[:4] = torch.nan
        assert shape_distances(face[None], partly[None]).isnan().item()
