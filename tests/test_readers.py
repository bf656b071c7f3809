"""Each reader on a small folder of its layout, with numbers written into the files by the test."""

import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pixelwise.data.dataset import Dataset
from pixelwise.data.datasets import (
    image_folder,
    keypoints_asf,
    keypoints_coco,
    keypoints_csv,
    keypoints_json,
    paired_folder,
    segmentation_folder,
)
from pixelwise.data.files import lettered_folders, part, within
from pixelwise.data.sample import Keypoints, LabelMap, Presence
from pixelwise.data.skeletons import IMM58
from pixelwise.errors import DataError
from pixelwise.geometry.skeleton import swap_of

UNKNOWN, ABSENT, HIDDEN, VISIBLE = Presence
PALETTE = [[1, 2, 3], [200, 0, 0], [0, 0, 200]]


def image(path: Path, height: int = 6, width: int = 8, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (value, value, value)).save(path)
    return path


def label(path: Path, values: list[list[int]], painted: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.array(values, np.uint8))
    if painted:
        picture.putpalette([value for colour in PALETTE for value in colour])
    picture.save(path)
    return path


def write_json(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def keys(dataset: Dataset) -> list[str]:
    return [dataset.key(i) for i in range(len(dataset))]


def keypoints(dataset: Dataset, index: int) -> Keypoints:
    field = dataset.sample(index, ["keypoints"])["keypoints"]
    assert isinstance(field, Keypoints)
    return field


def segmentation(root: Path, split: str = "train", count: int = 3) -> None:
    for i in range(count):
        image(root / split / "images" / f"{i}.png", 2, 3, value=i)
        label(root / split / "labels" / f"{i}.png", [[0, 1, 2], [255, 0, i % 3]])
    write_json(root / "meta.json", {"classes": ["sky", "road", "car"], "palette": PALETTE, "note": "kept"})


class TestSegmentationFolder:
    def test_reads_split_folders(self, tmp_path: Path) -> None:
        segmentation(tmp_path)
        segmentation(tmp_path, "val", 1)
        dataset = segmentation_folder.Config(root=str(tmp_path)).open("train")
        assert keys(dataset) == ["0", "1", "2"]
        assert dataset.meta.classes == ("sky", "road", "car")
        assert dataset.meta.palette[1] == (200, 0, 0)
        sample = dataset.sample(1, dataset.fields)
        assert sample["labels"].tensors()[""].tolist() == [[0, 1, 2], [255, 0, 1]]
        assert sample["image"].tensors()[""].unique().tolist() == [1]
        assert list(dataset.sample(0, ["labels"]).fields) == ["labels"]
        assert len(segmentation_folder.Config(root=str(tmp_path)).open("val")) == 1

    def test_parts_one_folder_the_same_way_every_time(self, tmp_path: Path) -> None:
        segmentation(tmp_path, ".", 10)
        config = segmentation_folder.Config(root=str(tmp_path), val_fraction=0.3)
        train, val = keys(config.open("train")), keys(config.open("val"))
        assert len(val) == 3
        assert sorted(train + val) == [str(i) for i in range(10)]
        assert keys(config.open("val")) == val

    def test_the_void_class_is_ignored_and_no_class(self, tmp_path: Path) -> None:
        segmentation(tmp_path)
        label(tmp_path / "train/labels/0.png", [[0, 1, 2], [2, 1, 0]])
        write_json(tmp_path / "meta.json", {"classes": ["sky", "road", "void"], "palette": PALETTE, "ignore": 2})
        dataset = segmentation_folder.Config(root=str(tmp_path), val_fraction=0.3).open("train")
        assert dataset.meta.classes == ("sky", "road") and len(dataset.meta.palette) == 2
        labels = dataset.sample(0, ["labels"])["labels"].tensors()[""]
        assert labels.tolist() == [[0, 1, 255], [255, 1, 0]]

    def test_mistakes_are_explained(self, tmp_path: Path) -> None:
        segmentation(tmp_path / "data")
        with pytest.raises(DataError, match=r"no such folder: .*dta") as caught:
            segmentation_folder.Config(root=str(tmp_path / "dta")).open("train")
        assert caught.value.hint == "did you mean 'data'?"
        config = segmentation_folder.Config(root=str(tmp_path / "data"))
        with pytest.raises(DataError, match="no split 'test'"):
            config.open("test")
        (tmp_path / "data/train/labels/2.png").unlink()
        with pytest.raises(DataError, match="train: 3 images in images, 2 in labels") as caught:
            config.open("train")
        assert caught.value.hint == "missing in labels: 2.png"
        for path in (tmp_path / "data/train/images").iterdir():
            path.unlink()
        with pytest.raises(DataError, match=r"no images in .*images"):
            config.open("train")
        (tmp_path / "data/meta.json").unlink()
        with pytest.raises(DataError, match="the classes are not known") as caught:
            config.open("train")
        assert "meta.json" in caught.value.hint

    def test_sizes_that_differ_are_an_error(self, tmp_path: Path) -> None:
        segmentation(tmp_path)
        image(tmp_path / "train/images/0.png", 4, 4)
        segmentation(tmp_path, "val", 1)
        dataset = segmentation_folder.Config(root=str(tmp_path)).open("train")
        with pytest.raises(DataError, match=r"0.png: 4x4, but .*0.png is 3x2"):
            dataset.sample(0, dataset.fields)

    def test_bad_files_stop_or_are_skipped(self, tmp_path: Path) -> None:
        segmentation(tmp_path)
        segmentation(tmp_path, "val", 1)
        path = tmp_path / "train/images/1.png"
        path.write_bytes(path.read_bytes()[:50])
        stopping = segmentation_folder.Config(root=str(tmp_path)).open("train")
        assert len(stopping) == 3
        with pytest.raises(DataError, match=r"1\.png"):
            stopping.sample(1, ["image"])
        skipping = segmentation_folder.Config(root=str(tmp_path), on_error="skip").open("train")
        assert keys(skipping) == ["0", "2"]
        assert len(skipping.notes) == 1 and skipping.notes[0].startswith(f"skipped {path}: ")
        assert skipping.sample(1, ["image"])["image"].tensors()[""].unique().tolist() == [2]


class TestPairedFolder:
    def test_side_by_side(self, tmp_path: Path) -> None:
        pixels = np.arange(2 * 6 * 3, dtype=np.uint8).reshape(2, 6, 3)
        for name in ("b", "a"):
            (tmp_path / "train").mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / f"train/{name}.png")
        image(tmp_path / "val/c.png", 2, 6)
        dataset = paired_folder.Config(root=str(tmp_path)).open("train")
        assert keys(dataset) == ["a", "b"]
        sample = dataset.sample(0, ["a", "b"])
        assert np.array_equal(sample["a"].tensors()[""].permute(1, 2, 0), pixels[:, :3])
        assert np.array_equal(sample["b"].tensors()[""].permute(1, 2, 0), pixels[:, 3:])
        assert sample["b"].frame.size == (2, 3)

    @pytest.mark.parametrize(("size", "why"), [((4, 7), "odd width"), ((9, 6), "higher than wide")])
    def test_what_is_no_pair_side_by_side(self, tmp_path: Path, size: tuple[int, int], why: str) -> None:
        image(tmp_path / "train/a.png", *size)
        image(tmp_path / "val/a.png", *size)
        with pytest.raises(DataError, match=f"no pair of images side by side .*{why}"):
            paired_folder.Config(root=str(tmp_path)).open("train")

    def test_lettered_folders_by_themselves(self, tmp_path: Path) -> None:
        assert lettered_folders(tmp_path, "train") is None
        for name in ("trainA", "trainB", "testA"):
            (tmp_path / name).mkdir()
        assert lettered_folders(tmp_path, "val") == ((tmp_path / "trainA", tmp_path / "trainB"), True)
        with pytest.raises(DataError, match=r"no such folder: .*testB"):
            lettered_folders(tmp_path, "test")
        (tmp_path / "valA").mkdir()
        (tmp_path / "valB").mkdir()
        assert lettered_folders(tmp_path, "val") == ((tmp_path / "valA", tmp_path / "valB"), False)
        with pytest.raises(DataError, match="no split 'last'"):
            lettered_folders(tmp_path, "last")

    def test_lettered_folders(self, tmp_path: Path) -> None:
        for name in ("trainA", "trainB", "testA", "testB"):
            for i in range(4):
                image(tmp_path / name / f"{i}.png", value=9 * (name[-1] == "B") + i)
        config = paired_folder.Config(root=str(tmp_path), val_fraction=0.25)
        train, val, test = (config.open(split) for split in ("train", "val", "test"))
        assert (len(train), len(val), len(test)) == (3, 1, 4)
        assert sorted(keys(train) + keys(val)) == ["0", "1", "2", "3"]
        assert test.sample(2, ["b"])["b"].tensors()[""].unique().tolist() == [11]
        image(tmp_path / "trainA/extra.png")
        with pytest.raises(DataError) as caught:
            config.open("train")
        assert str(caught.value) == f"{tmp_path / 'train'}: 5 images in A, 4 in B"
        assert caught.value.hint == "missing in B: extra.png"

    def test_sub_folders_with_labels(self, tmp_path: Path) -> None:
        for split in ("train", "val"):
            image(tmp_path / split / "photos/0.jpg", 2, 3, value=7)
            label(tmp_path / split / "labels/0.png", [[0, 1, 2], [2, 1, 0]], painted=True)
        write_json(tmp_path / "meta.json", {"classes": ["x", "y", "z"], "palette": PALETTE})
        dataset = paired_folder.Config(root=str(tmp_path)).open("train")
        sample = dataset.sample(0, dataset.fields)
        assert isinstance(sample["a"], LabelMap)
        assert sample["a"].labels.tolist() == [[0, 1, 2], [2, 1, 0]]
        assert sample["b"].tensors()[""].shape == (3, 2, 3)
        assert dataset.meta.classes == ("x", "y", "z")
        turned = paired_folder.Config(root=str(tmp_path), a="photos", b="labels").open("train")
        assert isinstance(turned.sample(0, ["b"])["b"], LabelMap)
        with pytest.raises(DataError, match=r"no such folder: .*fotos") as caught:
            paired_folder.Config(root=str(tmp_path), a="fotos", b="labels").open("train")
        assert caught.value.hint == "did you mean 'photos'?"
        (tmp_path / "meta.json").unlink()
        plain = paired_folder.Config(root=str(tmp_path)).open("train")
        assert plain.sample(0, ["a"])["a"].tensors()[""][:, 0, 0].tolist() == PALETTE[0]


def items(root: Path, count: int = 6) -> list[dict[str, object]]:
    for i in range(count):
        image(root / "images" / f"{i}.png")
    return [
        {"file": f"{i}.png", "width": 8, "height": 6, "person": i // 2, "points": [[1.5, 2], None, [8.0, 3]]}
        for i in range(count)
    ]


class TestKeypointsJson:
    def test_points_presence_and_notes(self, tmp_path: Path) -> None:
        names = ["nose", "left_eye", "right_eye"]
        write_json(tmp_path / "keypoints.json", {"names": names, "edges": [[0, 1]], "items": items(tmp_path)})
        config = keypoints_json.Config(root=str(tmp_path), group="person", val_groups=(2,))
        train, val = config.open("train"), config.open("val")
        assert keys(train) == [f"images/{i}.png" for i in range(4)]
        assert keys(val) == ["images/4.png", "images/5.png"]
        field = keypoints(train, 0)
        assert field.points.shape == (1, 3, 2)
        assert field.points[0, 0].tolist() == [1.5, 2.0]
        assert field.points[0, 1].isnan().all()
        assert field.presence.tolist() == [[VISIBLE, UNKNOWN, ABSENT]]  # x = 8 is the edge of 8 pixels: outside
        assert field.swap == train.meta.skeleton.swap == (0, 2, 1)
        assert train.meta.skeleton.limbs == ((0, 1),)
        assert train.notes == [
            "4 of 12 keypoints lie outside their image and count as absent",
            "4 of 12 keypoints are not labelled and count as unknown",
        ]
        assert train.sample(0, ["image", "keypoints"])["image"].frame.size == (6, 8)

    def test_relative_points_stated_presence_and_instances(self, tmp_path: Path) -> None:
        listed = items(tmp_path, 3)
        listed[0] = {"file": "0.png", "points_rel": [[0.5, 0.5], [0.25, 1.0]]}
        listed[1] = {"file": "1.png", "points": [[1, 2], None], "presence": [2, 1]}
        listed[2] = {"file": "2.png", "instances": [[[1, 1], [2, 2]], [[3, 3], None]]}
        for split in ("train", "val"):
            write_json(tmp_path / split / "keypoints.json", {"items": listed})
            for i in range(3):
                image(tmp_path / split / f"{i}.png")
        dataset = keypoints_json.Config(root=str(tmp_path)).open("train")
        assert keypoints(dataset, 0).points.tolist() == [[[4, 3], [2, 6]]]
        assert keypoints(dataset, 0).presence.tolist() == [[VISIBLE, ABSENT]]
        assert keypoints(dataset, 1).presence.tolist() == [[HIDDEN, ABSENT]]
        assert keypoints(dataset, 2).points.shape == (2, 2, 2)
        assert dataset.meta.skeleton.names == ("point_0", "point_1") and dataset.meta.skeleton.swap == ()

    def test_the_imm_layout(self, tmp_path: Path) -> None:
        listed = items(tmp_path, 4)
        for item in listed:
            item["points"] = [[1, 1]] * 58
        write_json(tmp_path / "keypoints.json", {"names": "58 points", "items": listed})
        config = keypoints_json.Config(root=str(tmp_path), layout="imm58", val_fraction=0.25)
        assert config.open("train").meta.skeleton.swap == IMM58.swap
        assert (len(config.open("train")), len(config.open("val"))) == (3, 1)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda item: item.pop("file"), "no key 'file'"),
            (lambda item: item.update(points=[1, 2]), "malformed item"),
            (lambda item: item.update(points=[[1, 2]]), r"items have \[1, 3\] points"),
            (lambda item: item.update(file="9.png"), "1 of 5 labelled images are missing, first .*9.png"),
        ],
    )
    def test_mistakes_are_explained(self, tmp_path: Path, change: Callable[[dict[str, object]], object], message: str) -> None:
        listed = items(tmp_path)
        change(listed[3])
        write_json(tmp_path / "keypoints.json", {"items": listed})
        with pytest.raises(DataError, match=message):
            keypoints_json.Config(root=str(tmp_path)).open("train")

    def test_a_wrong_size_or_group_is_an_error(self, tmp_path: Path) -> None:
        listed = items(tmp_path)
        listed[0]["width"] = 80
        write_json(tmp_path / "keypoints.json", {"items": listed})
        with pytest.raises(DataError, match="no group '7'"):
            keypoints_json.Config(root=str(tmp_path), group="person", val_groups=(7,)).open("val")
        dataset = keypoints_json.Config(root=str(tmp_path), group="person", val_groups=(2,)).open("train")
        with pytest.raises(DataError, match=r"0.png: 8x6, but its keypoints are for 80x6"):
            dataset.sample(0, dataset.fields)
        skipping = keypoints_json.Config(root=str(tmp_path), group="person", val_groups=(2,), on_error="skip")
        assert keys(skipping.open("train")) == ["images/1.png", "images/2.png", "images/3.png"]


def test_coco(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        image(tmp_path / "val2017" / name)
    data = {
        "images": [{"id": i, "file_name": f"{n}.png", "height": 6, "width": 8} for i, n in enumerate("abc")],
        "categories": [
            {"id": 9, "name": "cat"},
            {"id": 1, "keypoints": ["nose", "left_ear", "right_ear"], "skeleton": [[1, 2], [1, 3]]},
        ],
        "annotations": [
            {"image_id": 0, "category_id": 1, "keypoints": [1, 2, 2, 3, 4, 1, 0, 0, 0]},
            {"image_id": 0, "category_id": 1, "keypoints": [5, 5, 2, 0, 0, 0, 0, 0, 0], "iscrowd": 0},
            {"image_id": 0, "category_id": 1, "keypoints": [0] * 9},
            {"image_id": 1, "category_id": 1, "keypoints": [1, 1, 2] * 3, "iscrowd": 1},
            {"image_id": 2, "category_id": 1, "keypoints": [2, 2, 2, 0, 0, 0, 1, 1, 2]},
        ],
    }
    write_json(tmp_path / "annotations/person_keypoints_val2017.json", data)
    dataset = keypoints_coco.Config(root=str(tmp_path)).open("val")
    assert keys(dataset) == ["val2017/a.png", "val2017/c.png"]
    assert dataset.meta.skeleton.names == ("nose", "left_ear", "right_ear")
    assert dataset.meta.skeleton.swap == (0, 2, 1) and dataset.meta.skeleton.limbs == ((0, 1), (0, 2))
    field = keypoints(dataset, 0)
    assert field.presence.tolist() == [[VISIBLE, HIDDEN, UNKNOWN], [VISIBLE, UNKNOWN, UNKNOWN]]
    assert field.points[0, :2].tolist() == [[1.5, 2.5], [3.5, 4.5]] and field.points[0, 2].isnan().all()
    with pytest.raises(DataError, match="no JSON of annotations for 'train'"):
        keypoints_coco.Config(root=str(tmp_path)).open("train")
    data["annotations"][0]["keypoints"] = [1, 2]  # type: ignore[index]
    write_json(tmp_path / "annotations/person_keypoints_val2017.json", data)
    with pytest.raises(DataError, match="2 numbers for 3 points"):
        keypoints_coco.Config(root=str(tmp_path)).open("val")


def asf(path: Path, count: int, image_name: str, separator: str) -> None:
    rows = [separator.join(f"0 0 {0.01 * i:.8f} 0.5 {i} {i} {i}".split()) for i in range(count)]
    head = ["#####", "# comment", "", "# number of model points", f"{count} ", "# model points", ""]
    path.write_text("\r\n".join([*head, *rows, "", "# host image", image_name, ""]))


def test_asf(tmp_path: Path) -> None:
    for person, separator in ((1, " \t"), (2, "\t"), (11, "   ")):
        asf(tmp_path / f"{person:02}-1m.asf", 58, f"{person:02}-1m.png", separator)
        image(tmp_path / f"{person:02}-1m.png", 10, 100)
    config = keypoints_asf.Config(root=str(tmp_path), val_groups=(11,))
    train, val = config.open("train"), config.open("val")
    assert keys(train) == ["01-1m.png", "02-1m.png"] and keys(val) == ["11-1m.png"]
    points = keypoints(train, 1).points
    assert torch.allclose(points[0], torch.stack([torch.arange(58.0), torch.full((58,), 5.0)], 1), atol=1e-4)
    (tmp_path / "02-1m.asf").write_text("58\n0 0 0.5\n")
    with pytest.raises(DataError, match=r"02-1m\.asf: not an \.asf file"):
        config.open("train")


def test_the_mirror_of_the_imm_face() -> None:
    swap = IMM58.swap
    assert len(IMM58.names) == len(swap) == 58
    assert all(swap[swap[i]] == i for i in range(58))
    assert [swap[i] for i in (0, 6, 12, 13, 20, 29, 33)] == [12, 6, 0, 21, 28, 34, 38]
    assert [swap[i] for i in (39, 40, 41, 44, 45, 47, 51, 52)] == [43, 42, 41, 46, 45, 57, 53, 52]
    mirrored = [name.replace("left", "?").replace("right", "left").replace("?", "right") for name in IMM58.names]
    assert all(IMM58.names[swap[i]] == mirrored[i] for i in range(13, 39))


def test_names_tell_the_mirror() -> None:
    assert swap_of(["nose", "left_eye", "right_eye"]) == (0, 2, 1)
    assert swap_of(["leftear", "rightear", "tail"]) == (1, 0, 2)
    assert swap_of(["l_hip", "r_hip", "ankle_R", "ankle_L"]) == (1, 0, 3, 2)
    assert swap_of(["bright", "left_only"]) == ()
    assert swap_of(["RShoulder", "LShoulder", "lHip", "rHip"]) == (1, 0, 3, 2)  # as OpenPose says it
    assert swap_of(["Rwri", "Lwri", "Neck", "legl", "legr"]) == (1, 0, 2, 4, 3)
    assert swap_of(["Lear", "Leg_left", "Leg_right", "l_heel", "r_heel"]) == (0, 2, 1, 4, 3)


class TestKeypointsCsv:
    def open(self, root: Path, text: str) -> Dataset:
        for i in range(2):
            image(root / "images" / f"{i}.png")
        (root / "keypoints.csv").write_text(text)
        train, val = (keypoints_csv.Config(root=str(root), val_fraction=0.5).open(s) for s in ("train", "val"))
        assert sorted(keys(train) + keys(val)) == ["images/0.png", "images/1.png"]
        return train if keys(train) == ["images/0.png"] else val

    @pytest.mark.parametrize("parted", [";", "\t"])
    @pytest.mark.parametrize("long", [True, False])
    def test_other_separators_and_decimal_commas(self, tmp_path: Path, parted: str, long: bool) -> None:
        wide = "file,a_x,a_y,b_x,b_y|0.png,1^5,2,,|1.png,1,2,3,nan"
        rows = "file,name,x,y|0.png,a,1^5,2|0.png,b,,|1.png,a,1,2|1.png,b,3,nan" if long else wide
        dataset = self.open(tmp_path, rows.replace(",", parted).replace("^", ",").replace("|", "\n"))
        field: Any = dataset.sample(0, ["keypoints"])["keypoints"]
        assert field.points[0, 0].tolist() == [1.5, 2.0] and field.presence.tolist() == [[3, 0]]
        with pytest.raises(DataError, match=r"'1,234\.5' is not a number"):
            self.open(tmp_path, f"file{parted}x1{parted}y1\n0.png{parted}1,234.5{parted}2\n")

    def test_wide(self, tmp_path: Path) -> None:
        text = "file,left_x,left_y,right_x,right_y\n0.png,1,2,,\n1.png,1,2,3,nan\n"
        dataset = self.open(tmp_path, text)
        assert dataset.meta.skeleton.names == ("left", "right") and dataset.meta.skeleton.swap == (1, 0)
        field = keypoints(dataset, 0)
        assert field.points[0, 0].tolist() == [1, 2]
        assert field.presence.tolist() == [[VISIBLE, UNKNOWN]]
        assert self.open(tmp_path, "file,x1,y1\n0.png,1,2\n1.png,1,2\n").meta.skeleton.names == ("1",)

    def test_long(self, tmp_path: Path) -> None:
        rows = ["0.png,a,1,2,1", "0.png,b,3,4,0", "0.png,c,,,0", "0.png,d,,,", "1.png,e,1,1,1"]
        dataset = self.open(tmp_path, "\n".join(["file,name,x,y,visible", *rows]))
        assert dataset.meta.skeleton.names == ("a", "b", "c", "d", "e")
        field = keypoints(dataset, 0)
        assert field.presence.tolist() == [[VISIBLE, HIDDEN, ABSENT, UNKNOWN, UNKNOWN]]
        assert field.points[0, 1].tolist() == [3, 4] and math.isnan(field.points[0, 2, 0])

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("file,a,b\n0.png,1,2\n", "neither wide nor long"),
            ("file,a_x,a_y\n0.png,1\n", "0.png has 1 numbers for 1 points"),
            ("file,a_x,a_y\n0.png,1,high\n", "0.png: 'high' is not a number"),
            ("file,a_x,a_y\n0.png,1,2\n0.png,1,3\n", "two rows for 0.png"),
            ("file,name,x,y\n0.png,nose,1,2\n0.png,nose,1,3\n", "two rows for nose of 0.png"),
            ("file,a_x,a_y\n0.png,,\n1.png,nan,nan\n", "no image has a labelled keypoint"),
            ("file,name,x,y\n0.png,nose\n", "not enough values"),
            ("", "neither wide nor long"),
        ],
    )
    def test_mistakes_are_explained(self, tmp_path: Path, text: str, message: str) -> None:
        (tmp_path / "keypoints.csv").write_text(text)
        with pytest.raises(DataError, match=message):
            keypoints_csv.Config(root=str(tmp_path)).open("train")


def test_parting_keeps_groups_whole_and_moves_few_when_data_grows() -> None:
    groups = [str(i // 5) for i in range(100)]
    train, val = (part(groups, split, 0.25) for split in ("train", "val"))
    assert len(val) == 25 and sorted(train + val) == list(range(100))
    assert not {groups[i] for i in train} & {groups[i] for i in val}
    assert part(groups, "val", 0.25) == val
    grown = {([*groups, "20"])[i] for i in part([*groups, "20"], "val", 0.25)}
    assert len(grown & {groups[i] for i in val}) >= 4
    with pytest.raises(DataError, match="leaves nothing to train on"):
        part(["a"], "train", 0.5)


def test_datasets_travel_to_workers(tmp_path: Path) -> None:
    segmentation(tmp_path)
    dataset = segmentation_folder.Config(root=str(tmp_path), val_fraction=0.3).open("train")
    copy = pickle.loads(pickle.dumps(dataset))
    assert keys(copy) == keys(dataset)
    assert torch.equal(copy.sample(0, ["image"])["image"].pixels, dataset.sample(0, ["image"])["image"].pixels)


@pytest.mark.parametrize("name", ["../secret.png", "a/../../secret.png", "/etc/passwd.png"])
def test_labels_do_not_lead_out_of_their_folder(tmp_path: Path, name: str) -> None:
    assert within(tmp_path, "a/b.png") == tmp_path / "a" / "b.png"
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "keypoints.json").write_text(json.dumps({"items": [{"file": name, "points": [[1, 2]]}]}))
    with pytest.raises(DataError, match="is not below"):
        keypoints_json.Config(root=str(tmp_path / "set")).open("train")


class TestImageFolder:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        for name in ("a/0", "a/deep/1", "b/0", "c/7"):
            image(tmp_path / f"{name}.png", value=len(name))
        return tmp_path

    def test_a_folder_of_anything_is_parted_by_name(self, root: Path) -> None:
        config = image_folder.Config(root=str(root), val_fraction=0.25)
        train, val = config.open("train"), config.open("val")
        assert sorted(keys(train) + keys(val)) == ["a/0.png", "a/deep/1.png", "b/0.png", "c/7.png"]
        assert len(val) == 1 and train.fields == ("image", "grey", "lines")
        sample = val.sample(0, ("image",))
        assert sample["image"].tensors()[""].shape == (3, 6, 8) and sample["image"].frame.size == (6, 8)
        source = val.source(0, "image")
        assert source is not None and source.path == root / val.key(0)

    def test_entries_name_folders_at_any_depth_and_single_files(self, root: Path) -> None:
        config = image_folder.Config(root=str(root), train=("a/deep", "b", "a/deep/1.png"), val=("a/0.png",), test=("c",))
        assert keys(config.open("train")) == ["a/deep/1.png", "b/0.png"]
        assert keys(config.open("val")) == ["a/0.png"] and keys(config.open("test")) == ["c/7.png"]

    def test_val_is_a_share_of_the_train_entries_where_none_is_named(self, root: Path) -> None:
        config = image_folder.Config(root=str(root), train=("a",), val_fraction=0.5)
        assert sorted(keys(config.open("train")) + keys(config.open("val"))) == ["a/0.png", "a/deep/1.png"]
        assert len(config.open("train")) == 1

    def test_splits_of_their_own(self, tmp_path: Path) -> None:
        for name in ("train/x/0", "train/y/0", "val/0"):
            image(tmp_path / f"{name}.png")
        config = image_folder.Config(root=str(tmp_path))
        assert keys(config.open("train")) == ["train/x/0.png", "train/y/0.png"] and keys(config.open("val")) == ["val/0.png"]
        with pytest.raises(DataError, match="no split 'test'"):
            config.open("test")

    def test_mistakes_are_explained(self, root: Path) -> None:
        cases: dict[str, dict[str, tuple[str, ...]]] = {
            "no such folder or picture": {"train": ("a", "depe")},
            "is in train and in val": {"train": ("a",), "val": ("b", "a/deep")},
            "not below": {"train": ("../elsewhere",)},
            "nothing to train on": {"val": ("a",)},
        }
        for message, entries in cases.items():
            with pytest.raises(DataError, match=message):
                image_folder.Config(root=str(root), **entries).open("train")
        with pytest.raises(DataError) as caught:
            image_folder.Config(root=str(root), train=("a/depe",)).open("train")
        assert caught.value.hint == "did you mean 'deep'?"
        (root / "empty").mkdir()
        with pytest.raises(DataError, match=r"no images in .*empty"):
            image_folder.Config(root=str(root), train=("empty",)).open("train")
