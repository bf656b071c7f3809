"""One folder of images with several maps each gives what the readers of one kind give of the same files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from pixelwise.checking import check_data
from pixelwise.data.datasets import boundary_folder, dense_folder, depth_folder, segmentation_folder
from pixelwise.errors import DataError, UsageError
from pixelwise.recipe import find_recipe
from pixelwise.run import Data, train

META = {"classes": ["ground", "wall"], "depth_unit": 0.001, "fx": 20, "fy": 20, "cx": 16, "cy": 12, "normals_axes": "RUB"}
SIZE = (24, 32)


def folder(root: Path, *maps: str, count: int = 6, size: tuple[int, int] = SIZE) -> Path:
    """Write pictures of a floor and a wall, and the maps that are asked for."""
    rng, (height, width) = np.random.default_rng(0), size
    rows = np.arange(height)[:, None] + np.zeros((1, width), int)
    floor = rows >= height // 2
    drawn = {
        "images": rng.integers(0, 256, (count, height, width, 3), np.uint8),
        "labels": np.stack([np.where(floor, 0, 1).astype(np.uint8)] * count),
        "depth": np.stack([np.where(floor, 3000 - 40 * rows, 2000).astype(np.uint16)] * count),
        "normals": np.full((count, height, width, 3), (128, 128, 255), np.uint8),
        "boundaries": np.stack([np.where(rows == height // 2, 255, 0).astype(np.uint8)] * count),
    }
    for name in ("images", *maps):
        (root / name).mkdir(parents=True)
        for i in range(count):
            PillowImage.fromarray(drawn[name][i]).save(root / name / f"{i:03}.png")
    (root / "meta.json").write_text(json.dumps(META))
    return root


def test_it_reads_what_each_reader_reads(tmp_path: Path) -> None:
    root = str(folder(tmp_path, "labels", "depth", "normals", "boundaries"))
    for split in ("train", "val"):
        data = dense_folder.Config(root=root).open(split)
        assert data.fields == ("image", "labels", "depth", "normals", "boundaries") and data.notes == [] and not data.missing
        alone = (depth_folder.Config(root=root), segmentation_folder.Config(root=root), boundary_folder.Config(root=root))
        for other in (config.open(split) for config in alone):
            assert [data.key(i) for i in range(len(data))] == [other.key(i) for i in range(len(other))]
            for i in range(len(data)):
                sample, expected = data.sample(i, other.fields), other.sample(i, other.fields)
                for field in other.fields:
                    ours, theirs = sample[field].tensors()[""], expected[field].tensors()[""]
                    assert torch.equal(ours, theirs) and ours.isfinite().any()
                    assert data.source(i, field) == other.source(i, field)
            assert other.meta.classes in ((), data.meta.classes) and other.meta.camera in (None, data.meta.camera)
    assert data.meta.classes == ("ground", "wall") and data.meta.camera


def test_normals_follow_from_depth_in_whatever_order_they_are_asked_for(tmp_path: Path) -> None:
    root = str(folder(tmp_path, "depth"))
    data, other = dense_folder.Config(root=root).open("train"), depth_folder.Config(root=root).open("train")
    assert data.fields == ("image", "depth", "normals")
    for fields in (("normals",), ("normals", "depth"), ("depth", "normals")):
        one, two = data.sample(0, fields), other.sample(0, fields)
        assert tuple(one.fields) == fields
        for field in fields:
            torch.testing.assert_close(one[field].tensors()[""], two[field].tensors()[""], equal_nan=True, rtol=0, atol=0)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no folder labels or depth or normals or boundaries"):
        dense_folder.Config(root=str(folder(tmp_path / "none"))).open("train")
    root = folder(tmp_path / "labels", "labels")
    data = dense_folder.Config(root=str(root)).open("train")
    assert data.fields == ("image", "labels") and data.missing["depth"] == "put a folder depth beside images"
    made = find_recipe("multitask").override([f"data.root={root}"])
    with pytest.raises(UsageError, match="needs the field 'depth'; dense_folder has image, labels") as refused:
        Data.of(made)
    assert (
        refused.value.hint == "put a folder depth beside images; or leave out the part that needs depth: task.parts.depth=null"
    )
    (root / "labels" / "003.png").unlink()
    with pytest.raises(DataError, match="6 images in images, 5 in labels"):
        dense_folder.Config(root=str(root)).open("train")


def test_maps_of_another_size_are_refused(tmp_path: Path) -> None:
    root = folder(tmp_path / "a", "labels", "boundaries")
    shutil.rmtree(root / "boundaries")
    shutil.move(folder(tmp_path / "b", "boundaries", size=(24, 33)) / "boundaries", root / "boundaries")
    data = dense_folder.Config(root=str(root)).open("train")
    data.sample(0, ("image", "labels"))
    with pytest.raises(DataError, match=r"32x24, but .* is 33x24"):
        data.sample(0, ("image", "labels", "boundaries"))


def test_one_folder_trains_one_network_for_all_its_maps(tmp_path: Path) -> None:
    root = folder(tmp_path / "data", "labels", "depth", "boundaries")
    small = ["steps=2", "batch_size=2", "view.size=32,32", "network.width=2", "network.depth=2", "task.features=2"]
    model = train(find_recipe("multitask").override([f"data.root={root}", *small]), tmp_path / "run")
    found = model(torch.zeros(3, *SIZE, dtype=torch.uint8)).to_json()
    assert set(found["parts"]) == {"labels", "depth", "normals", "boundaries"}
    alone = find_recipe("multitask").override([f"data.root={root}", *small, "task.parts.normals=null", "task.parts.depth=null"])
    assert Data.of(alone).task.fields == ("image", "labels", "boundaries")


def test_what_is_there_is_looked_at(tmp_path: Path) -> None:
    root = folder(tmp_path / "data", "labels")
    looked = check_data(find_recipe("multitask").override([f"data.root={root}"]))
    assert len(looked.tiles) == sum(looked.counts.values()) > 0


@pytest.mark.parametrize("kind", ["segmentation_folder", "dense_folder"])
def test_files_that_paint_one_index_in_two_colours_are_noted(tmp_path: Path, kind: str) -> None:
    root = folder(tmp_path, "labels")
    painted = {"001": (10, 20, 30, 200, 0, 0), "002": (10, 20, 30, 200, 0, 0, 7, 7, 7), "004": (10, 20, 30, 200, 9, 0)}
    for name, colours in painted.items():
        with PillowImage.open(root / "labels" / f"{name}.png") as file:
            image = PillowImage.fromarray(np.asarray(file))
        image.putpalette(colours)
        image.save(root / "labels" / f"{name}.png")
    config = {"segmentation_folder": segmentation_folder, "dense_folder": dense_folder}[kind].Config(root=str(root))
    data = config.open("train")
    places = {data.key(i): i for i in range(len(data))}
    for name in ("003", "001", "002"):  # of grey files and of colours beyond the classes nothing is said
        data.sample(places[name], ("labels",))
    assert data.notes == []
    for name in ("004", "001", "004"):
        data.sample(places[name], ("labels",))
    (note,) = data.notes
    assert "001.png and " in note and "004.png have different colours for the same index" in note
