"""Readers of key points on tiny files of their format, with coordinates worked by hand from where each format puts pixel 0."""

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from pixelwise.data import video_frames
from pixelwise.data.dataset import Dataset
from pixelwise.data.datasets import (
    keypoints_coco,
    keypoints_csv,
    keypoints_deeplabcut,
    keypoints_dlib,
    keypoints_frames,
    keypoints_json,
    keypoints_lsp,
    keypoints_pts,
    keypoints_sleap,
)
from pixelwise.data.regions import Region, covered, unpacked
from pixelwise.data.sample import Keypoints, LabelMap, Presence
from pixelwise.data.skeletons import COCO17, COCO_SIGMAS, IBUG68, IMM58, LSP14, read_skeleton
from pixelwise.data.video import Shot
from pixelwise.errors import DataError, UsageError
from pixelwise.geometry.skeleton import swap_of

UNKNOWN, ABSENT, HIDDEN, VISIBLE = Presence
NAN = math.nan


def image(path: Path, height: int = 20, width: int = 30, colour: tuple[int, int, int] = (1, 2, 3)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), colour).save(path)
    return path


def write_json(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def keys(dataset: Dataset) -> list[str]:
    return [dataset.key(i) for i in range(len(dataset))]


def points(dataset: Dataset, index: int = 0) -> Keypoints:
    field = dataset.sample(index, ["keypoints"])["keypoints"]
    assert isinstance(field, Keypoints)
    return field


def by_key(config: Any, key: str, *splits: str) -> Keypoints:
    for dataset in (config.open(split) for split in splits or ("train", "val")):
        if key in keys(dataset):
            return points(dataset, keys(dataset).index(key))
    raise KeyError(key)


class TestSkeletons:
    def test_five_lines_of_json(self, tmp_path: Path) -> None:
        stated = {
            "names": ["nose", "a", "b"],
            "limbs": [["nose", "a"], [0, 2]],
            "swap": [["a", "b"]],
            "sigmas": [0.1, 0.2, 0.2],
        }
        skeleton = read_skeleton(write_json(tmp_path / "s.json", stated))
        assert skeleton.limbs == ((0, 1), (0, 2)) and skeleton.swap == (0, 2, 1) and skeleton.sigmas == (0.1, 0.2, 0.2)

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            ({"names": []}, "no list of different names"),
            ({"names": ["a", "a", "b"]}, "no list of different names"),
            ({"limbs": [[0, 9]]}, "beyond the 3 points"),
            ({"limbs": [["nose", "tail"]]}, "'tail' is none of its names"),
            ({"swap": [1, 2, 0]}, "does not pair"),
            ({"sigmas": [0.1]}, "not 3 positive numbers"),
        ],
    )
    def test_mistakes_in_it(self, tmp_path: Path, change: dict[str, Any], why: str) -> None:
        path = write_json(tmp_path / "s.json", {"names": ["nose", "l_eye", "r_eye"]} | change)
        with pytest.raises(DataError, match=why) as caught:
            read_skeleton(path)
        assert str(path) in str(caught.value)

    def test_coco_categories_have_coco_s_sigmas(self, tmp_path: Path) -> None:
        category = {"id": 1, "keypoints": list(COCO17), "skeleton": [[16, 14], [1, 2]]}
        skeleton = read_skeleton(write_json(tmp_path / "c.json", {"categories": [{"id": 2}, category | {"id": 4}]}))
        assert skeleton.category_id == 4
        stated = read_skeleton(write_json(tmp_path / "s.json", {"names": ["a"], "category_id": 3}))
        assert stated.category_id == 3
        assert read_skeleton(write_json(tmp_path / "c.json", {"categories": [category | {"id": "x"}]})).category_id is None
        assert skeleton.limbs == ((15, 13), (0, 1)) and skeleton.swap[:3] == (0, 2, 1)
        # 2 k of a nose is 0.052, of a hip 0.214 (Ronchi & Perona 2017 state k)
        assert skeleton.sigmas == COCO_SIGMAS and COCO_SIGMAS[0] == 0.026 and COCO_SIGMAS[11] == COCO_SIGMAS[12] == 0.107
        assert len(COCO_SIGMAS) == 17

    def test_deeplabcut_configs(self, tmp_path: Path) -> None:
        path = tmp_path / "config.yaml"
        path.write_text(
            "bodyparts:\n- snout\n- leftear\n- rightear\nskeleton:\n- - snout\n  - leftear\n- - bodypart1\n  - snout\n"
        )
        skeleton = read_skeleton(path)
        assert skeleton.names == ("snout", "leftear", "rightear")
        assert skeleton.limbs == ((0, 1),) and skeleton.swap == (0, 2, 1)
        path.write_text(
            "multianimalproject: true\nbodyparts: MULTI!\nmultianimalbodyparts: [a, b]\nuniquebodyparts: [corner]\n"
            "skeleton: [[a, b]]\n"
        )
        assert read_skeleton(path).names == ("a", "b", "corner")
        path.write_text("!!python/object/apply:os.system ['true']")
        with pytest.raises(DataError, match=r"no config\.yaml of DeepLabCut"):
            read_skeleton(path)

    def test_layouts_are_mirrored_about_their_middle(self) -> None:
        assert [len(s.names) for s in (IMM58, IBUG68, LSP14)] == [58, 68, 14]
        assert IBUG68.swap[36] == 45 and IBUG68.swap[39] == 42 and IBUG68.swap[8] == 8 and IBUG68.swap[17] == 26
        middle = [i for i, twin in enumerate(IBUG68.swap) if i == twin]
        assert middle == [8, 27, 28, 29, 30, 33, 51, 57, 62, 66]
        assert LSP14.swap == swap_of(LSP14.names)
        assert swap_of(("head", "wingL", "wingR", "forelegL1", "forelegR1")) == (0, 2, 1, 4, 3)

    def test_a_reader_takes_it_from_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "keypoints.csv").write_text("file,x1,y1,x2,y2\na.png,1,2,3,4\nb.png,1,2,3,4\n")
        for name in "ab":
            image(tmp_path / f"{name}.png")
        skeleton = write_json(tmp_path / "s.json", {"names": ["left", "right"], "limbs": [[0, 1]]})
        config = keypoints_csv.Config(root=str(tmp_path), skeleton=str(skeleton), val_fraction=0.5)
        assert config.open("train").meta.skeleton.swap == (1, 0)
        write_json(skeleton, {"names": ["one"]})
        with pytest.raises(DataError, match="1 names for the 2 points"):
            config.open("train")
        write_json(skeleton, {"names": ["left", "right"], "limbs": [["left", "rihgt"]]})
        with pytest.raises(DataError, match="'rihgt' is none of its names; did you mean 'right'"):
            config.open("train")

    def test_a_folder_of_another_kind_is_pointed_to(self, tmp_path: Path) -> None:
        (tmp_path / "keypoints.csv").write_text("file,x1,y1\na.png,1,2\n")
        for reader in (keypoints_json, keypoints_coco):
            with pytest.raises(DataError) as caught:
                reader.Config(root=str(tmp_path)).open("train")
            assert "data.kind says how the folder is laid out: keypoints_csv" in caught.value.hint


class TestRegions:
    def test_run_lengths_go_down_the_columns(self) -> None:
        # 3 high, 4 wide: 4 outside, 2 inside, 1 outside, 3 inside, 2 outside
        drawn = covered(Region({"size": [3, 4], "counts": [4, 2, 1, 3, 2]}), (3, 4))
        assert drawn.astype(int).tolist() == [[0, 0, 0, 1], [0, 1, 1, 0], [0, 1, 1, 0]]
        with pytest.raises(ValueError, match="do not fill 4x4"):
            covered(Region({"size": [3, 4], "counts": [4, 2, 1, 3, 2]}), (4, 4))

    def test_packed_run_lengths(self) -> None:
        # pycocotools packs [44, 2, 41, 2, 41, 2, 126] into this; 44 = 12 + 32, the fourth is stored as its difference 0
        assert unpacked(r"\12Y1000e2") == [44, 2, 41, 2, 41, 2, 126]
        with pytest.raises(ValueError, match="end within"):
            unpacked("\\")

    @pytest.mark.parametrize(
        "counts",
        [[2**62, 2**62, 2**62, 2**62 + 12], [13, -1], [2**70], "o" * 100_000 + "0", [math.inf]],
        ids=["sum that wraps to 12", "negative", "beyond 64 bits", "a number of half a million bits", "infinite"],
    )
    def test_run_lengths_that_are_no_part_of_a_picture(self, counts: Any) -> None:
        with pytest.raises((ValueError, OverflowError)):
            covered(Region({"size": [3, 4], "counts": counts}), (3, 4))

    def test_polygons_and_boxes(self) -> None:
        # a triangle (0, 0), (4, 0), (0, 4) holds the centres with x + y < 4; 0.5 + 3.5 lies on the border
        triangle = covered(Region([[0, 0, 4, 0, 0, 4.01]]), (4, 5))
        assert triangle.sum(1).tolist() == [4, 3, 2, 1] and triangle[0, :4].all()
        square = covered(Region([[1, 1, 4, 1, 4, 3, 1, 3]]), (5, 6))
        assert square[1:3, 1:4].all() and not square[0].any() and not square[:, 0].any() and not square[:, 5].any()
        assert square.sum() == 6 and np.argwhere(covered(Region(None, (2, 1, 2, 1)), (5, 6))).tolist() == [[1, 2], [1, 3]]
        with pytest.raises(ValueError, match="no number"):
            covered(Region([[0, 0, NAN, 0, 0, 4]]), (4, 5))
        assert covered(Region([[1, 1, 3, 1, 3, 3, 1, 3], [-9, 4, 20, 4, 20, 9, -9, 9]]), (5, 6)).sum() == 4 + 6


def coco(root: Path, annotations: list[dict[str, Any]], images: int = 3) -> None:
    listed = [{"id": i, "file_name": f"{i}.png", "height": 20, "width": 30} for i in range(images)]
    category = {"id": 1, "keypoints": ["nose", "left_ear"], "skeleton": [[1, 2]]}
    write_json(root / "train.json", {"images": listed, "categories": [category], "annotations": annotations})
    for i in range(images):
        image(root / "images" / f"{i}.png")


PERSON = {"category_id": 1, "image_id": 0, "keypoints": [3, 4, 2, 5, 6, 1], "area": 77.5, "iscrowd": 0}


class TestCoco:
    def test_areas_and_half_a_pixel(self, tmp_path: Path) -> None:
        coco(tmp_path, [PERSON, {**PERSON, "area": None}])
        field = points(keypoints_coco.Config(root=str(tmp_path)).open("train"))
        assert field.points[0].tolist() == [[3.5, 4.5], [5.5, 6.5]] and field.presence[0].tolist() == [VISIBLE, HIDDEN]
        assert field.areas[0] == 77.5 and field.areas[1].isnan()

    def test_people_without_points_are_unlabelled(self, tmp_path: Path) -> None:
        crowd = {"image_id": 0, "category_id": 1, "iscrowd": 1, "keypoints": [1, 1, 2, 1, 1, 2], "bbox": [0, 0, 30, 20]}
        crowd["segmentation"] = {"size": [20, 30], "counts": [0, 40, 560]}
        nobody = {"image_id": 0, "category_id": 1, "keypoints": [0] * 6, "bbox": [10, 5, 4, 6]}
        coco(tmp_path, [PERSON, crowd, nobody, {**nobody, "image_id": 1}])
        dataset = keypoints_coco.Config(root=str(tmp_path)).open("train")
        assert keys(dataset) == ["images/0.png"] and len(points(dataset).points) == 1
        there = dataset.sample(0, ["unlabelled"])["unlabelled"]
        assert isinstance(there, LabelMap) and there.labels.dtype == torch.uint8
        assert there.labels[:, :2].all() and there.labels[5:11, 10:14].all()
        assert int(there.labels.sum()) == 40 + 24
        with_negatives = keypoints_coco.Config(root=str(tmp_path), negatives=True).open("train")
        assert keys(with_negatives) == [f"images/{i}.png" for i in range(3)]
        empty = with_negatives.sample(1, ["image", "keypoints", "unlabelled"])
        assert points(with_negatives, 1).points.shape == (0, 2, 2)
        assert (
            empty["unlabelled"].tensors()[""].any() and not with_negatives.sample(2, ["unlabelled"])["unlabelled"].labels.any()
        )

    def test_annotations_of_no_image_are_counted(self, tmp_path: Path) -> None:
        coco(tmp_path, [PERSON, {**PERSON, "image_id": 7}, {**PERSON, "image_id": "0"}])
        dataset = keypoints_coco.Config(root=str(tmp_path)).open("train")
        said = "train.json: 2 annotations are of images that it does not list, and are left out"
        assert len(points(dataset).points) == 1 and said in dataset.notes

    def test_a_malformed_outline_is_named(self, tmp_path: Path) -> None:
        bad = {"image_id": 0, "category_id": 1, "iscrowd": 1, "segmentation": {"size": [20, 30], "counts": [1, 2]}}
        coco(tmp_path, [PERSON, bad])
        with pytest.raises(DataError, match=r"0.png: the outline of someone .* malformed"):
            keypoints_coco.Config(root=str(tmp_path)).open("train").sample(0, ["unlabelled"])


ROWS = ([1, 2, 3, 4, 9, 8, 7, 6], [5, 6, *[""] * 6], [""] * 8)
"""Of two animals with two points; the first four columns are those of one."""


def deeplabcut(root: Path, several: bool = False, one_cell: bool = False) -> Path:
    folder, width = root / "labeled-data" / "video", 8 if several else 4
    levels = {"scorer": ["me"] * 8, "individuals": ["m1"] * 4 + ["m2"] * 4, "bodyparts": ["snout", "snout", "tail", "tail"] * 2}
    levels["coords"] = ["x", "y"] * 4
    if not several:
        del levels["individuals"]
    blank = [] if one_cell else ["", ""]
    rows: list[list[Any]] = [[name, *blank, *level[:width]] for name, level in levels.items()]
    for number, values in enumerate(ROWS):
        label = [f"labeled-data/video/img{number}.png"] if one_cell else ["labeled-data", "video", f"img{number}.png"]
        rows.append([*label, *values[:width]])
        image(folder / f"img{number}.png")
    path = folder / "CollectedData_me.csv"
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return path


class TestDeepLabCut:
    @pytest.mark.parametrize("one_cell", [True, False])
    def test_one_animal(self, tmp_path: Path, one_cell: bool) -> None:
        deeplabcut(tmp_path, one_cell=one_cell)
        (tmp_path / "config.yaml").write_text("bodyparts: [tail, snout]\nskeleton: [[tail, snout]]\n")
        config = keypoints_deeplabcut.Config(root=str(tmp_path), val_fraction=0.5)
        first, second = (by_key(config, f"labeled-data/video/img{i}.png") for i in (0, 1))
        assert first.points.tolist() == [[[1.5, 2.5], [3.5, 4.5]]]
        assert second.presence.tolist() == [[VISIBLE, UNKNOWN]] and second.points[0, 0].tolist() == [5.5, 6.5]
        assert len(config.open("train")) + len(config.open("val")) == 2  # the third frame has no label
        skeleton = config.open("train").meta.skeleton
        assert skeleton.names == ("snout", "tail") and skeleton.limbs == ((1, 0),)

    def test_limbs_of_the_template_are_told_of(self, tmp_path: Path) -> None:
        deeplabcut(tmp_path)
        (tmp_path / "config.yaml").write_text("bodyparts: [tail, snout]\nskeleton: [[tail, snout], [bodypart1, snout]]\n")
        dataset = keypoints_deeplabcut.Config(root=str(tmp_path), val_fraction=0.5).open("train")
        left_out = "config.yaml: the limb bodypart1 to snout is left out, as it names no labelled point"
        assert [note for note in dataset.notes if "limb" in note] == [left_out]

    def test_several_animals(self, tmp_path: Path) -> None:
        deeplabcut(tmp_path, several=True)
        config = keypoints_deeplabcut.Config(root=str(tmp_path), val_fraction=0.5)
        assert by_key(config, "labeled-data/video/img0.png").points.tolist() == [
            [[1.5, 2.5], [3.5, 4.5]],
            [[9.5, 8.5], [7.5, 6.5]],
        ]
        assert len(by_key(config, "labeled-data/video/img1.png").points) == 1

    def test_hdf5_of_the_layout_fixed(self, tmp_path: Path) -> None:
        h5py = pytest.importorskip("h5py", reason="h5py is not installed")
        path = deeplabcut(tmp_path)
        levels = ([b"me"], [b"snout", b"tail"], [b"x", b"y"])
        codes = {"axis0": [[0] * 4, [0, 0, 1, 1], [0, 1, 0, 1]], "block0_items": [[0] * 4, [1, 1, 0, 0], [0, 1, 0, 1]]}
        with h5py.File(path.with_suffix(".h5"), "w") as file:  # as pandas writes it, the block's columns in another order
            group = file.create_group("df_with_missing")
            group.attrs.update({"pandas_type": np.bytes_(b"frame"), "nblocks": 1})
            for axis, of_axis in codes.items():
                group.attrs[f"{axis}_nlevels"] = 3
                for level, (names, code) in enumerate(zip(levels, of_axis, strict=True)):
                    group[f"{axis}_level{level}"], group[f"{axis}_label{level}"] = names, np.array(code, np.int8)
            group["axis1"] = [b"labeled-data/video/img0.png", b"labeled-data/video/img1.png"]
            group["block0_values"] = [[3.0, 4.0, 1.0, 2.0], [NAN, NAN, 5.0, 6.0]]
        path.unlink()
        config = keypoints_deeplabcut.Config(root=str(tmp_path), val_fraction=0.5)
        assert by_key(config, "labeled-data/video/img0.png").points.tolist() == [[[1.5, 2.5], [3.5, 4.5]]]
        assert by_key(config, "labeled-data/video/img1.png").presence.tolist() == [[VISIBLE, UNKNOWN]]
        with h5py.File(path.with_suffix(".h5"), "r+") as file:
            file["df_with_missing"].attrs["pandas_type"] = np.bytes_(b"frame_table")
        with pytest.raises(DataError, match="only pandas' layout `fixed`") as caught:
            config.open("train")
        assert ".csv" in caught.value.hint
        path.with_suffix(".h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"0" * 50)
        with pytest.raises(DataError, match="no HDF5 file, or a damaged one"):
            config.open("train")

    def test_mistakes(self, tmp_path: Path) -> None:
        path = deeplabcut(tmp_path)
        config = keypoints_deeplabcut.Config(root=str(tmp_path), val_fraction=0.5)
        lines = path.read_text().splitlines()
        path.write_text("\n".join([*lines[:3], lines[3] + ",1"]))
        with pytest.raises(DataError, match="line 4 has 8 cells, expected 7"):
            config.open("train")
        path.write_text("\n".join(line for line in lines if not line.startswith("coords")))
        with pytest.raises(DataError, match="no header row `coords`"):
            config.open("train")
        path.write_text("\n".join([*lines[:3], lines[3].replace("4", "four")]))
        with pytest.raises(DataError, match="could not convert"):
            config.open("train")
        path.write_text("\n".join(lines))
        (path.parent / "img0.png").unlink()
        (path.parent / "img1.png").unlink()
        with pytest.raises(DataError, match="1 of 1 labelled images are missing"):
            config.open("train")
        path.unlink()
        with pytest.raises(DataError, match="no labels of DeepLabCut"):
            config.open("train")


FRAME = np.dtype([(n, "u8") for n in ("frame_id", "video", "frame_idx", "instance_id_start", "instance_id_end")])
INSTANCE = np.dtype(
    [
        ("instance_id", "i8"), ("instance_type", "u1"), ("frame_id", "u8"), ("skeleton", "u4"), ("track", "i4"),
        ("from_predicted", "i8"), ("score", "f4"), ("point_id_start", "u8"), ("point_id_end", "u8"),
    ]
)  # fmt: skip
POINT = np.dtype([("x", "f8"), ("y", "f8"), ("visible", "?"), ("complete", "?")])


def sleap(path: Path, backend: dict[str, Any], version: float = 1.2, embedded: bool = False) -> Path:
    """Write two frames (0 and 7): one labelled by hand beside a prediction, one predicted only."""
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    edge = {"py/reduce": [{"py/type": "sleap.skeleton.EdgeType"}, {"py/tuple": [1]}]}
    symmetry = {"py/reduce": [{"py/type": "sleap.skeleton.EdgeType"}, {"py/tuple": [2]}, None]}
    links = [(2, 0, edge), (2, 1, {"py/id": 1}), (0, 1, symmetry), (1, 0, {"py/id": 2})]
    skeleton = {
        "nodes": [{"id": 2}, {"id": 0}, {"id": 1}],
        "links": [{"source": a, "target": b, "type": kind} for a, b, kind in links],
    }
    metadata = {"skeletons": [skeleton], "nodes": [{"name": "east"}, {"name": "west"}, {"name": "head"}]}
    with h5py.File(path, "w") as file:
        group = file.create_group("metadata")
        group.attrs["format_id"], group.attrs["json"] = version, np.bytes_(json.dumps(metadata))
        file["videos_json"] = [np.bytes_(json.dumps({"filename": backend.get("filename"), "backend": backend}))]
        file["frames"] = np.array([(0, 0, 0, 0, 2), (1, 0, 7, 2, 3)], FRAME)
        rows = [(0, 0, 0, 0, -1, -1, 0, 0, 3), (1, 1, 0, 0, -1, -1, 1, 0, 3), (2, 1, 1, 0, -1, -1, 1, 3, 6)]
        file["instances"] = np.array(rows, INSTANCE)
        file["points"] = np.array([(1, 2, True, True), (3, 4, True, True), (9, 9, False, True)], POINT)
        file["pred_points"] = np.array([(i, i, True, True) for i in range(6)], POINT)
        if embedded:
            stored = file.create_dataset("video0/video", (2,), dtype=h5py.vlen_dtype(np.int8))
            for i in range(2):
                png = image(path.parent / "frame.png", colour=(200, 10 * i, 0))
                stored[i] = np.frombuffer(png.read_bytes(), np.int8)
            stored.attrs["format"] = "png"
            file["video0/frame_numbers"] = [0, 7]
    return path


class TestSleap:
    def test_embedded_images(self, tmp_path: Path) -> None:
        path = sleap(tmp_path / "a.pkg.slp", {"filename": ".", "dataset": "video0/video"}, embedded=True)
        config = keypoints_sleap.Config(root=str(path), predicted=True, val_fraction=0.5)
        labelled = by_key(config, "video0/video#0")
        assert labelled.points[:, :2].tolist() == [[[1.5, 2.5], [3.5, 4.5]]]
        assert labelled.presence.tolist() == [[VISIBLE, VISIBLE, UNKNOWN]]
        assert by_key(config, "video0/video#7").points.tolist() == [[[3.5, 3.5], [4.5, 4.5], [5.5, 5.5]]]
        train = config.open("train")
        assert train.meta.skeleton.names == ("head", "east", "west")
        assert train.meta.skeleton.limbs == ((0, 1), (0, 2)) and train.meta.skeleton.swap == (0, 2, 1)
        sample = train.sample(0, ["image"])  # stored by OpenCV from RGB: blue and red have changed places
        red, green, blue = sample["image"].tensors()[""][:, 3, 3].tolist()
        assert (red, blue) == (0, 200) and green == (10 if keys(train) == ["video0/video#7"] else 0)

    def test_only_what_people_labelled_unless_asked(self, tmp_path: Path) -> None:
        path = sleap(tmp_path / "a.slp", {"filename": "x.png", "filenames": [f"there/{i}.png" for i in range(8)]})
        for i in (0, 7):
            image(tmp_path / "there" / f"{i}.png")
        with pytest.raises(DataError, match="leaves nothing to train on"):
            keypoints_sleap.Config(root=str(path)).open("train")
        both = keypoints_sleap.Config(root=str(tmp_path), predicted=True, val_fraction=0.5)
        assert len(both.open("train")) == len(both.open("val")) == 1
        assert both.open("train").sample(0, ["image"])["image"].tensors()[""].shape == (3, 20, 30)

    def test_older_files_count_from_the_corner(self, tmp_path: Path) -> None:
        path = sleap(tmp_path / "a.slp", {"filename": "movie.mp4"}, version=1.0)
        for i in (0, 7):
            image(tmp_path / "frames" / f"f{i:04}.png")
        config = keypoints_sleap.Config(root=str(path), frames=str(tmp_path / "frames"), predicted=True, val_fraction=0.5)
        assert by_key(config, "video0/000000").points[:, :2].tolist() == [[[1.0, 2.0], [3.0, 4.0]]]

    def test_frames_of_a_video_are_read_exactly(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Frame n has the grey 20 + 20 n; the file keeps frames out of order (B frames), and the labels name another folder."""
        av = pytest.importorskip("av", reason="av is not installed")
        monkeypatch.setenv("PIXELWISE_CACHE", str(tmp_path / "cache"))
        with av.open(str(tmp_path / "movie.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"crf": "5", "g": "4", "bf": "2"})
            stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
            for number in range(10):
                frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), 20 + 20 * number, np.uint8), "rgb24")
                container.mux(stream.encode(frame.reformat(format="yuv420p")))
            container.mux(stream.encode(None))
        path = sleap(tmp_path / "a.slp", {"filename": "C:\\lab\\movie.mp4"})
        config = keypoints_sleap.Config(root=str(path), predicted=True, val_fraction=0.5)
        greys = {}
        for split in ("train", "val"):
            dataset = config.open(split)
            greys[dataset.key(0)] = float(dataset.sample(0, ["image"])["image"].tensors()[""].float().mean())
        assert greys == {"video0/000000": pytest.approx(20, abs=4), "video0/000007": pytest.approx(160, abs=4)}
        assert len([*(tmp_path / "cache").rglob("*.png")]) == 2, "only what is labelled is kept"
        monkeypatch.setattr(video_frames, "VideoFile", None)
        assert len(config.open("train")) == 1, "frames in the cache are not decoded again"
        monkeypatch.setattr(keypoints_sleap, "find_spec", lambda name: None)
        with pytest.raises(DataError, match=r"in the video C:") as caught:
            config.open("train")
        assert "pixelwise[video]" in caught.value.hint and "ffmpeg -i movie.mp4 -start_number 0" in caught.value.hint

    def test_a_damaged_video_is_no_source_of_numbered_frames(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PIXELWISE_CACHE", str(tmp_path / "cache"))

        class Damaged:
            flaws = ("1 of 9 frames are damaged",)

            def __init__(self, path: Path) -> None: ...

            def __iter__(self) -> Iterator[Shot]:
                yield Shot(0, 0.0, torch.zeros(3, 4, 4, dtype=torch.uint8), 0)

        monkeypatch.setattr(video_frames, "VideoFile", Damaged)
        (tmp_path / "movie.mp4").write_bytes(b"x")
        with pytest.raises(DataError, match="1 of 9 frames are damaged"):
            video_frames.extracted(tmp_path / "movie.mp4", [0])
        assert not [*(tmp_path / "cache").rglob("*.png")]

    def test_mistakes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = sleap(tmp_path / "a.slp", {"filename": "movie.mp4"})
        with pytest.raises(DataError, match=r"in the video movie\.mp4, which is not there") as caught:
            keypoints_sleap.Config(root=str(path)).open("train")
        assert "data.frames" in caught.value.hint
        damaged = tmp_path / "b.slp"
        damaged.write_bytes(path.read_bytes()[:300])
        with pytest.raises(DataError, match="damaged"):
            keypoints_sleap.Config(root=str(damaged)).open("train")
        monkeypatch.setitem(__import__("sys").modules, "h5py", None)
        with pytest.raises(UsageError, match="needs h5py") as missing:
            keypoints_sleap.Config(root=str(path)).open("train")
        assert "pip install" in missing.value.hint


class TestHostileSleap:
    """Files that point elsewhere, announce what would fill any memory, or nest without end."""

    def refused(self, path: Path, match: str) -> None:
        with pytest.raises(DataError, match=match):
            keypoints_sleap.Config(root=str(path), predicted=True, val_fraction=0.5).open("train").sample(0, ["image"])

    @pytest.mark.parametrize("way", ["raw bytes of another file", "link", "virtual"])
    def test_pixels_of_other_files(self, tmp_path: Path, way: str) -> None:
        path = sleap(tmp_path / "a.slp", {"filename": ".", "dataset": "video0/video"})
        h5py = pytest.importorskip("h5py")
        secret, shape = tmp_path / "secret.h5", (8, 4, 4, 1)
        with h5py.File(secret, "w") as other:
            other["pixels"] = np.full(shape, 77, np.uint8)
        with h5py.File(path, "r+") as file:
            group = file.create_group("video0")
            if way == "link":
                group["video"] = h5py.ExternalLink(str(secret), "pixels")
            elif way == "virtual":
                layout = h5py.VirtualLayout(shape, np.uint8)
                layout[:] = h5py.VirtualSource(str(secret), "pixels", shape)
                group.create_virtual_dataset("video", layout)
            else:
                group.create_dataset("video", shape, np.uint8, external=[(str(secret), 0, 128)])
        self.refused(path, "video0/video is in another file")

    def test_counts_that_fill_any_memory(self, tmp_path: Path) -> None:
        path = sleap(tmp_path / "a.slp", {"filename": ".", "dataset": "video0/video"})
        with pytest.importorskip("h5py").File(path, "r+") as file:
            file.create_dataset("video0/video", (8, 10**5, 10**5, 3), "u1", chunks=(1, 9, 9, 3))
        self.refused(path, "has 28610 MB, expected at most 1024")
        with pytest.importorskip("h5py").File(path, "r+") as file:
            del file["frames"]
            file.create_dataset("frames", (10**12,), FRAME, chunks=(9,))
        self.refused(path, "frames has")

    @pytest.mark.parametrize("video", ["[]", '{"backend": [1]}', "[" * 50_000])
    def test_videos_that_are_none(self, tmp_path: Path, video: str) -> None:
        path = sleap(tmp_path / "a.slp", {"filename": "."})
        with pytest.importorskip("h5py").File(path, "r+") as file:
            del file["videos_json"]
            file["videos_json"] = [np.bytes_(video)]
        self.refused(path, "no SLEAP file")


class TestLeedsSportsPose:
    def write(self, root: Path, joints: np.ndarray, digits: int) -> keypoints_lsp.Config:
        savemat(root / "joints.mat", {"joints": joints})
        for i in range(joints.shape[2]):
            image(root / "images" / f"im{i + 1:0{digits}d}.jpg")
        return keypoints_lsp.Config(root=str(root), val_fraction=0.5)

    @pytest.mark.parametrize("kind", [0, 8, 97, 216, 14 * 256 + 9])
    def test_types_that_there_are_not(self, tmp_path: Path, kind: int) -> None:
        """The type of the values is at 192; what SciPy reads at such places of its table ends the process."""
        config = self.write(tmp_path, np.zeros((14, 3, 2)), 5)
        whole = bytearray((tmp_path / "joints.mat").read_bytes())
        assert whole[192:194] == b"\x09\x00"
        whole[192:194] = kind.to_bytes(2, "little")
        (tmp_path / "joints.mat").write_bytes(bytes(whole))
        with pytest.raises(DataError, match="no MATLAB 5 file"):
            config.open("train")

    def test_more_cells_than_any_memory_holds(self, tmp_path: Path) -> None:
        savemat(tmp_path / "joints.mat", {"joints": np.array([[1, "a"]], object)})
        whole = bytearray((tmp_path / "joints.mat").read_bytes())
        at = whole.index(bytes([1, 0, 0, 0, 2, 0, 0, 0]))
        whole[at : at + 8] = (2**15).to_bytes(4, "little") * 2
        (tmp_path / "joints.mat").write_bytes(bytes(whole))
        with pytest.raises(DataError, match="no MATLAB 5 file"):
            keypoints_lsp.Config(root=str(tmp_path)).open("train")

    def test_lsp_says_what_is_occluded(self, tmp_path: Path) -> None:
        joints = np.zeros((3, 14, 2))
        joints[0], joints[1] = np.arange(14)[:, None] + 1, 5
        joints[2, 3] = 1
        field = by_key(self.write(tmp_path, joints, 4), "images/im0001.jpg")
        assert field.points[0, :2].tolist() == [[0.5, 4.5], [1.5, 4.5]]
        assert field.presence[0].tolist() == [HIDDEN if i == 3 else VISIBLE for i in range(14)]
        assert field.swap == LSP14.swap

    def test_the_extended_set_says_what_is_labelled(self, tmp_path: Path) -> None:
        joints = np.ones((14, 3, 2)) * 7
        joints[:, 2] = 1
        joints[5, :, 0] = [-30, -30, 0]
        field = by_key(self.write(tmp_path, joints, 5), "images/im00001.jpg")
        assert field.presence[0].tolist() == [UNKNOWN if i == 5 else VISIBLE for i in range(14)]
        assert field.points[0, 0].tolist() == [6.5, 6.5] and field.points[0, 5].isnan().all()

    def test_mistakes(self, tmp_path: Path) -> None:
        config = self.write(tmp_path, np.zeros((3, 13, 2)), 4)
        with pytest.raises(DataError, match="joints are 3 x 13 x 2"):
            config.open("train")
        savemat(tmp_path / "joints.mat", {"other": np.zeros(3)})
        with pytest.raises(DataError, match="no joints of Leeds Sports Pose"):
            config.open("train")
        (tmp_path / "joints.mat").write_bytes(b"no")
        with pytest.raises(DataError, match="no MATLAB 5 file"):
            config.open("train")


class TestPoints:
    def test_pts_count_from_one(self, tmp_path: Path) -> None:
        for name in "ab":
            image(tmp_path / f"{name}.png")
            (tmp_path / f"{name}.pts").write_text("version: 1\nn_points:  2\n{\n1 1\n10.25 20\n}\n")
        config = keypoints_pts.Config(root=str(tmp_path), val_fraction=0.5)
        assert by_key(config, "a.png").points.tolist() == [[[0.5, 0.5], [9.75, 19.5]]]
        (tmp_path / "b.pts").write_text("version: 1\nn_points: 3\n{\n1 1\n2 2\n}\n")
        with pytest.raises(DataError, match=r"b.pts: not a .pts file") as caught:
            config.open("val"), config.open("train")
        assert caught.value.hint.startswith("3 n_points and 2 rows")

    def test_dlib(self, tmp_path: Path) -> None:
        part = "<part name='{}' x='{}' y='{}'/>"
        first = f"<box left='4' top='2' width='10' height='6'>{part.format('b', 6, 3)}{part.format('a', 5, 4)}</box>"
        second = f"<box left='20' top='10' width='8' height='8'>{part.format('a', 21, 11)}</box>"
        ignored = "<box left='0' top='15' width='5' height='5' ignore='1'/>"
        images = "".join(f"<image file='{n}.png'>{first}{second}{ignored}</image>" for n in "xy")
        path = tmp_path / "labels.xml"
        path.write_text(f"<?xml version='1.0' encoding='ISO-8859-1'?><dataset><images>{images}</images></dataset>")
        for n in "xy":
            image(tmp_path / f"{n}.png")
        config = keypoints_dlib.Config(root=str(tmp_path), val_fraction=0.5)
        field = by_key(config, "x.png")
        assert config.open("train").meta.skeleton.names == ("a", "b")
        assert field.points[0].tolist() == [[5.5, 4.5], [6.5, 3.5]] and field.points[1, 0].tolist() == [21.5, 11.5]
        assert field.presence[1].tolist() == [VISIBLE, UNKNOWN] and field.areas.tolist() == [60, 64]
        there = config.open("train").sample(0, ["unlabelled"])["unlabelled"].tensors()[""]
        assert there[15:20, :5].all() and not there[:10].any()

        cropped = keypoints_dlib.Config(root=str(tmp_path), val_fraction=0.5, crop=1.5)
        assert len(cropped.open("train")) == 2
        # 4..14 grown by 1.5 about 9 is 1.5..16.5, rounded to 2..16; 2..8 about 5 is 0.5..9.5, rounded to 0..10
        one = by_key(cropped, "x.png#0")
        assert one.frame.size == (10, 14) and one.points[0].tolist() == [[3.5, 4.5], [4.5, 3.5]]
        # 20..28 becomes 18..30, 10..18 becomes 8..20
        assert by_key(cropped, "x.png#1").points[0, 0].tolist() == [3.5, 3.5]
        sample = cropped.open("train").sample(0, ["image"])
        assert sample["image"].tensors()[""].shape == (3, 10, 14)

    def test_xml_with_entities_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "labels.xml"
        path.write_text("<!DOCTYPE d [<!ENTITY a 'aaaa'>]><dataset><images/></dataset>")
        with pytest.raises(DataError, match="document type"):
            keypoints_dlib.Config(root=str(tmp_path)).open("train")
        path.write_text("<dataset><images>")
        with pytest.raises(DataError, match="not XML"):
            keypoints_dlib.Config(root=str(tmp_path)).open("train")
        box = "<box left='1'><part name='a' x='1' y='2'/></box>"
        path.write_text(f"<dataset><images><image file='a.png'>{box}</image></images></dataset>")
        with pytest.raises(DataError, match=r"malformed box of 'a.png' \(no number 'top'\)"):
            keypoints_dlib.Config(root=str(tmp_path)).open("train")

    def test_a_crop_that_leaves_the_image_is_black_there(self, tmp_path: Path) -> None:
        (tmp_path / "a.xml").write_text(
            "<dataset><images>"
            + "".join(
                f"<image file='{n}.png'><box left='0' top='0' width='10' height='10'><part name='p' x='0' y='0'/></box></image>"
                for n in "xy"
            )
            + "</images></dataset>"
        )
        for n in "xy":
            image(tmp_path / f"{n}.png", colour=(9, 9, 9))
        dataset = keypoints_dlib.Config(root=str(tmp_path), crop=2, val_fraction=0.5).open("train")
        sample = dataset.sample(0, dataset.fields)
        pixels = sample["image"].tensors()[""]
        assert pixels.shape == (3, 20, 20) and not pixels[:, :5].any() and (pixels[:, 5:, 5:] == 9).all()
        assert points(dataset).points.tolist() == [[[5.5, 5.5]]]
        assert sample["unlabelled"].tensors()[""][0, 0] == 255


class TestFrames:
    def write(self, root: Path, items: list[dict[str, Any]], numbers: range = range(10)) -> keypoints_frames.Config:
        stated = {"names": ["head", "left", "right"], "edges": [[0, 1], [0, 2]], "fps": 30, "items": items}
        write_json(root / "pose.json", stated)
        for number in numbers:
            image(root / "frames" / f"{number:04d}.png")
        return keypoints_frames.Config(root=str(root))

    def test_the_end_is_held_out(self, tmp_path: Path) -> None:
        config = self.write(tmp_path, [{"frame": i, "points": [[i, 1], None, [2, 3]]} for i in range(10)])
        train, val = config.open("train"), config.open("val")
        assert keys(val) == ["frames/0008.png", "frames/0009.png"] and len(train) == 8
        assert points(val).points[0, 0].tolist() == [8, 1] and points(val).presence.tolist() == [[VISIBLE, UNKNOWN, VISIBLE]]
        assert train.meta.skeleton.limbs == ((0, 1), (0, 2)) and train.meta.skeleton.swap == (0, 2, 1)

    def test_several_in_a_frame_and_none(self, tmp_path: Path) -> None:
        one = {"track": 0, "points": [[1, 1], [2, 2], None]}
        items: list[dict[str, Any]] = [{"frame": i, "instances": [one, one]} for i in range(5)]
        items[2]["instances"] = []
        config = self.write(tmp_path, items)
        assert len(config.open("train")) == 3 and points(config.open("train")).points.shape == (2, 3, 2)
        kept = config.model_copy(update={"negatives": True}).open("train")
        assert points(kept, 2).points.shape == (0, 3, 2)

    def test_mistakes(self, tmp_path: Path) -> None:
        good = {"points": [[1, 1], [2, 2], [3, 3]]}
        for items, why in (
            ([{"frame": 0, "points": [[1, 1]]}], "frame 0 has 1 points, expected 3"),
            ([{"points": []}], "malformed item"),
            ([{"frame": i, **good} for i in range(11)], r"labelled images are missing, first .*0010.jpg"),
        ):
            config = self.write(tmp_path, items)
            with pytest.raises(DataError, match=why):
                config.open("train"), config.open("val")


def test_our_json_takes_limbs_sigmas_and_layouts(tmp_path: Path) -> None:
    items = [{"file": f"{i}.png", "points": [[1, 2], [3, 4]]} for i in range(4)]
    for i in range(4):
        image(tmp_path / f"{i}.png")
    write_json(tmp_path / "keypoints.json", {"names": ["a", "b"], "limbs": [["a", "b"]], "sigmas": [0.1, 0.2], "items": items})
    skeleton = keypoints_json.Config(root=str(tmp_path)).open("train").meta.skeleton
    assert skeleton.limbs == ((0, 1),) and skeleton.sigmas == (0.1, 0.2) and skeleton.swap == ()
    with pytest.raises(DataError, match="68 names for 2 points"):
        keypoints_json.Config(root=str(tmp_path), layout="ibug68").open("train")


def test_labels_nested_without_end(tmp_path: Path) -> None:
    for name, config in (
        ("keypoints.json", keypoints_json.Config(root=str(tmp_path))),
        ("pose.json", keypoints_frames.Config(root=str(tmp_path))),
        ("train.json", keypoints_coco.Config(root=str(tmp_path))),
    ):
        (tmp_path / name).write_text("[" * 100_000)
        with pytest.raises(DataError, match="not JSON"):
            config.open("train")
        (tmp_path / name).unlink()


@pytest.mark.parametrize("state", [-1, 4, 9])
def test_presence_is_one_of_four(tmp_path: Path, state: int) -> None:
    item = {"file": "a.png", "points": [[1, 2]], "presence": [state]}
    write_json(tmp_path / "keypoints.json", {"names": ["a"], "items": [item, item]})
    with pytest.raises(DataError, match="malformed item"):
        keypoints_json.Config(root=str(tmp_path)).open("train")


@pytest.mark.parametrize(
    "text",
    [
        "bodyparts: 5",
        "bodyparts: [a, b]\nskeleton: [1, 2]",
        "bodyparts: " + "[" * 20_000,
        "a: &a [x, x, x, x, x, x, x, x]\n"
        + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 8)}]\n" for a, b in zip("abcdefghijk", "bcdefghijkl", strict=True))
        + "bodyparts: *l",
    ],
    ids=["a number", "limbs of numbers", "nested", "nested by names to 8^12 words"],
)
def test_hostile_config_of_deeplabcut(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(DataError, match=r"no config\.yaml of DeepLabCut"):
        read_skeleton(tmp_path / "config.yaml")


@pytest.mark.parametrize("limbs", [5, [["x"]], [[1, None]]])
def test_limbs_of_a_category_that_are_none(tmp_path: Path, limbs: Any) -> None:
    path = write_json(tmp_path / "a.json", {"categories": [{"keypoints": ["nose", "ear"], "skeleton": limbs}]})
    with pytest.raises(DataError, match="no skeleton"):
        read_skeleton(path)


@pytest.mark.parametrize(
    "box", [(1, 1, 1e6, 1e6), (0, 0, 1e300, 1e300), (1e18, 1, 9, 9), (1, 1e30, 9, 9), (-50, 1, 9, 9), (1, 1, -9, 9)]
)
def test_boxes_that_are_not_in_the_picture(tmp_path: Path, box: tuple[float, ...]) -> None:
    left, top, width, height = box
    boxed = f"<box left='{left}' top='{top}' width='{width}' height='{height}'><part name='a' x='1' y='2'/></box>"
    files = "".join(f"<image file='{i}.png'>{boxed}</image>" for i in range(2))
    (tmp_path / "a.xml").write_text(f"<dataset><images>{files}</images></dataset>")
    for i in range(2):
        image(tmp_path / f"{i}.png")
    with pytest.raises(DataError, match=r"a box from|malformed box"):
        keypoints_dlib.Config(root=str(tmp_path), crop=1.2, val_fraction=0.5).open("train").sample(0, ["image"])


def test_a_cell_longer_than_any_number(tmp_path: Path) -> None:
    (tmp_path / "keypoints.csv").write_text(f"file,n_x,n_y\na.png,{'9' * 200_000},1\n")
    with pytest.raises(DataError, match="field larger than"):
        keypoints_csv.Config(root=str(tmp_path)).open("train")


def test_axes_whose_product_fills_any_memory(tmp_path: Path) -> None:
    path = deeplabcut(tmp_path).with_suffix(".h5")
    with pytest.importorskip("h5py").File(path, "w") as file:
        group = file.create_group("df")
        group.attrs.update({"pandas_type": np.bytes_(b"frame"), "nblocks": 1})
        for axis in ("axis0", "axis1"):
            group.create_dataset(axis, (10**5,), "i1", chunks=(1000,))
    path.with_suffix(".csv").unlink()
    with pytest.raises(DataError, match="100000 rows of 100000 columns are too many"):
        keypoints_deeplabcut.Config(root=str(tmp_path)).open("train")
