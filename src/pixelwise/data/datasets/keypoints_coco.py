"""COCO keypoints: one JSON per split with images, annotations and a category that names points and skeleton.

Visibility 0, 1, 2 becomes unknown, hidden, visible. An image holds as many instances as have a labelled point, with COCO's
`area` of each. Crowds, and people without a labelled point, are 1 in the field "unlabelled": in their outline, or else in
their box. Images without a labelled point are left out, unless `negatives` keeps them as images of nobody.

COCO's key points count pixels from 0 (its outlines and boxes are continuous), so that half a pixel is added, as Detectron2
does (`detectron2/data/datasets/coco.py` and `detection_utils.py`). COCO's 17 points have COCO's sigmas.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field as Setting

from pixelwise.data.dataset import DataConfig, Dataset, Meta, existing_folder
from pixelwise.data.files import MALFORMED, ValFraction, checked, no_split, part, read_json, within
from pixelwise.data.keypoints import OTHER_KINDS, KeypointFiles, Record, nobody, record, require_images
from pixelwise.data.regions import Region
from pixelwise.data.sample import Presence
from pixelwise.data.skeletons import SkeletonFile, of_category, skeleton_for
from pixelwise.errors import DataError, did_you_mean

PRESENCE = (Presence.UNKNOWN, Presence.HIDDEN, Presence.VISIBLE)


class Config(DataConfig):
    """Keypoints in COCO's JSON."""

    kind: Literal["keypoints_coco"] = "keypoints_coco"
    root: Annotated[str, Setting(description="folder with annotations/*keypoints_train*.json, or one JSON")]
    images: Annotated[str, Setting(description="folder of the images below the root (default: looked for)")] = ""
    negatives: Annotated[bool, Setting(description="keep images without a labelled point, as images of nobody")] = False
    skeleton: SkeletonFile = ""
    val_fraction: ValFraction = 0.1

    def open(self, split: str) -> Dataset:
        """Return the images of `split` that have labelled instances.

        Raises:
            DataError: The file is missing or malformed, or names images that are not there.
        """
        root = existing_folder(self.root)
        path, parted = _annotations(root, split)
        try:
            records, category, strays = _parse(read_json(path), path, self.negatives)
        except MALFORMED as error:
            raise DataError(f"{path}: not COCO keypoints ({type(error).__name__}: {error})") from None
        skeleton = skeleton_for(len(category["keypoints"]), of_category(category, path), self.skeleton, path)
        if parted:
            kept = part([str(item.path) for item in records], split, self.val_fraction, where=str(path))
            records = [records[i] for i in kept]
        folder = existing_folder(str(root / self.images)) if self.images else _images(root, split, records)
        records = [replace(item, path=within(folder, str(item.path))) for item in records]
        if self.on_error == "stop":
            require_images((item.path for item in records), path)
        dataset = KeypointFiles(root, records, Meta(skeleton=skeleton))
        if strays:
            dataset.notes.append(f"{path.name}: {strays} annotations are of images that it does not list, and are left out")
        return checked(dataset, self.on_error)


def _annotations(root: Path, split: str) -> tuple[Path, bool]:
    """Return the JSON of `split`, and whether it holds train and val together."""
    for pattern in (
        f"annotations/*keypoints*{split}*.json",
        f"annotations/{split}.json",
        f"{split}.json",
        f"{split}/*.json",
    ):
        found = sorted(root.glob(pattern))
        if found:
            return found[0], False
    single = sorted(root.glob("*.json"))
    if len(single) != 1 or split not in ("train", "val"):
        raise no_split(root, split) if single else DataError(f"{root}: no JSON of annotations for {split!r}", OTHER_KINDS)
    return single[0], True


def _images(root: Path, split: str, records: list[Record]) -> Path:
    if not records:
        return root
    first = records[0].path
    places = [root / name for name in (f"{split}2017", f"images/{split}2017", f"images/{split}", split, "images", ".")]
    for place in places:
        if (place / first).is_file():
            return place
    folders = [path.name for path in root.iterdir() if path.is_dir()]
    hint = did_you_mean(split, folders) or f"set data.images to one of {', '.join(sorted(folders))}"
    raise DataError(f"{root}: image {first} is in none of the usual folders", hint)


def _parse(data: Any, path: Path, negatives: bool) -> tuple[list[Record], dict[str, Any], int]:
    """Return the labelled images, the category that they show, and how many annotations are of no image."""
    category = next((c for c in data["categories"] if c.get("keypoints")), None)
    if category is None:
        raise DataError(f"{path}: no category names keypoints")
    count = len(category["keypoints"])
    people: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for one in data["annotations"]:
        if one["category_id"] == category["id"]:
            people[one["image_id"]].append(one)
    records = [_record(image, people[image["id"]], count) for image in data["images"]]
    if not any(len(item.points) for item in records):
        raise DataError(f"{path}: no image has a labelled keypoint")
    strays = sum(map(len, people.values())) - sum(len(people[image["id"]]) for image in data["images"])
    return [item for item in records if negatives or len(item.points)], category, strays


def _record(image: dict[str, Any], people: list[dict[str, Any]], count: int) -> Record:
    """Return the record of an image: its labelled people, and where the others are."""
    path, size = Path(image["file_name"]), (int(image["height"]), int(image["width"]))
    labelled, others = [], []
    for one in people:
        rows = [] if one.get("iscrowd") else _rows(one.get("keypoints") or [0] * (3 * count), count, path)
        if any(presence for _, _, presence in rows):
            labelled.append((rows, float(one.get("area") or nan)))
        else:
            others.append(Region(one.get("segmentation"), tuple(map(float, one.get("bbox", ())))))
    if not labelled:
        return replace(nobody(path, count, size), unlabelled=tuple(others))
    made = record(path, [rows for rows, _ in labelled], size=size, corner=-0.5)
    return replace(made, areas=torch.tensor([area for _, area in labelled]), unlabelled=tuple(others))


def _rows(flat: list[float], count: int, image: Path) -> list[list[float]]:
    if len(flat) != 3 * count:
        raise ValueError(f"{image}: {len(flat)} numbers for {count} points; three each are x, y, visibility")
    if min(flat[2::3]) < 0:
        raise ValueError(f"{image}: a visibility below 0")
    return [[x, y, PRESENCE[int(v)]] if v else [nan, nan, 0] for x, y, v in zip(flat[::3], flat[1::3], flat[2::3], strict=True)]
