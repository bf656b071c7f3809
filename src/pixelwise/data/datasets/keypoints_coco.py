"""COCO keypoints: one JSON per split with images, annotations and a category that names points and skeleton.

Visibility 0, 1, 2 becomes unknown, hidden, visible. An image holds as many instances as have a labelled point; images
without one, and crowds, are left out.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field as Setting

from pixelwise.data.dataset import DataConfig, Dataset, Meta, existing_folder
from pixelwise.data.files import ValFraction, checked, no_split, part, read_json
from pixelwise.data.keypoints import KeypointFiles, Record, record, require_images
from pixelwise.data.sample import Presence
from pixelwise.errors import DataError, did_you_mean
from pixelwise.geometry.skeleton import Skeleton, swap_of

PRESENCE = (Presence.UNKNOWN, Presence.HIDDEN, Presence.VISIBLE)


class Config(DataConfig):
    """Keypoints in COCO's JSON."""

    kind: Literal["keypoints_coco"] = "keypoints_coco"
    root: Annotated[str, Setting(description="folder with annotations/*keypoints_train*.json, or one JSON")]
    images: Annotated[str, Setting(description="folder of the images below the root (default: looked for)")] = ""
    val_fraction: ValFraction = 0.1

    def open(self, split: str) -> Dataset:
        """Return the images of `split` that have labelled instances.

        Raises:
            DataError: The file is missing or malformed, or names images that are not there.
        """
        root = existing_folder(self.root)
        path, parted = _annotations(root, split)
        try:
            records, meta = _parse(read_json(path), path)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(f"{path}: not COCO keypoints ({type(error).__name__}: {error})") from None
        if parted:
            kept = part([str(item.path) for item in records], split, self.val_fraction, where=str(path))
            records = [records[i] for i in kept]
        folder = existing_folder(str(root / self.images)) if self.images else _images(root, split, records)
        records = [replace(item, path=folder / item.path) for item in records]
        if self.on_error == "stop":
            require_images((item.path for item in records), path)
        return checked(KeypointFiles(root, records, meta), self.on_error)


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
        raise no_split(root, split) if single else DataError(f"{root}: no JSON of annotations for {split!r}")
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


def _parse(data: Any, path: Path) -> tuple[list[Record], Meta]:
    category = next((c for c in data["categories"] if c.get("keypoints")), None)
    if category is None:
        raise DataError(f"{path}: no category names keypoints")
    names = tuple(category["keypoints"])
    limbs = tuple((int(a) - 1, int(b) - 1) for a, b in category.get("skeleton", ()))
    instances: dict[Any, list[list[list[float]]]] = defaultdict(list)
    for one in data["annotations"]:
        if one["category_id"] == category["id"] and not one.get("iscrowd") and "keypoints" in one:
            rows = _rows(one["keypoints"], len(names))
            if any(presence for _, _, presence in rows):
                instances[one["image_id"]].append(rows)
    records = [
        record(Path(image["file_name"]), instances[image["id"]], size=(int(image["height"]), int(image["width"])))
        for image in data["images"]
        if image["id"] in instances
    ]
    if not records:
        raise DataError(f"{path}: no image has a labelled keypoint")
    return records, Meta(skeleton=Skeleton(names=names, swap=swap_of(names), limbs=limbs))


def _rows(flat: list[float], count: int) -> list[list[float]]:
    if len(flat) != 3 * count:
        raise ValueError(f"{len(flat)} numbers for {count} points")
    return [[x, y, PRESENCE[int(v)]] if v else [nan, nan, 0] for x, y, v in zip(flat[::3], flat[1::3], flat[2::3], strict=True)]
