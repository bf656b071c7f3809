"""Keypoints in our own JSON: `<split>/keypoints.json`, or one `keypoints.json` whose items are parted.

`{"names": ["nose", "left_eye", "right_eye"], "swap": [0, 2, 1], "limbs": [[0, 1]], "items": [{"file": "a.jpg",
"width": 640, "height": 480, "points": [[12.5, 40], null, [3, 4]], "presence": [3, 0, 2]}]}`, with the images in `images`
beside it or right beside it. `points_rel` are fractions of width and height; `instances` is a list of `points`, one per
object. `swap` is read from left and right in the names where it is not stated; `limbs` (or `edges`) and `sigmas` may be
there too. `presence` is 0 unknown, 1 absent, 2 hidden, 3 visible. Coordinates are ours: the first pixel's centre is 0.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field as Setting

from pixelwise.data.dataset import DataConfig, Dataset, Meta, existing_folder
from pixelwise.data.files import MALFORMED, ValFraction, checked, part, read_json, split_folder, within
from pixelwise.data.keypoints import (
    OTHER_KINDS,
    KeypointFiles,
    Record,
    image_folder,
    point_names,
    record,
    require_images,
)
from pixelwise.data.skeletons import LAYOUTS, Layout, SkeletonFile, made_skeleton, skeleton_for
from pixelwise.errors import DataError


class Config(DataConfig):
    """Keypoints in a JSON file."""

    kind: Literal["keypoints_json"] = "keypoints_json"
    root: Annotated[str, Setting(description="folder with keypoints.json, or with train/keypoints.json")]
    group: Annotated[str, Setting(description="item key, e.g. person, whose items stay on one side of a split")] = ""
    val_groups: Annotated[tuple[int | str, ...], Setting(description="groups held out as val, e.g. [29, 30]")] = ()
    layout: Annotated[Layout | None, Setting(description="well-known names and mirror pairs, if the file has none")] = None
    skeleton: SkeletonFile = ""
    val_fraction: ValFraction = 0.1

    def open(self, split: str) -> Dataset:
        """Return the labelled images of `split`.

        Raises:
            DataError: The file is missing or malformed, or names images that are not there.
        """
        root = existing_folder(self.root)
        folder, parted = split_folder(root, split)
        path = folder / "keypoints.json"
        if not any(folder.glob("*.json")):
            raise DataError(f"no such file: {path}", OTHER_KINDS)
        data = read_json(path)
        records = [_record(item, image_folder(folder), self.group, path) for item in _items(data, path)]
        meta = self._meta(data, records, path)
        if parted:
            groups = [item.group for item in records]
            records = [records[i] for i in part(groups, split, self.val_fraction, self.val_groups, str(path))]
        if self.on_error == "stop":
            require_images((item.path for item in records), path)
        return checked(KeypointFiles(root, records, meta), self.on_error)

    def _meta(self, data: dict[str, Any], records: Sequence[Record], path: Path) -> Meta:
        counts = sorted({item.points.shape[1] for item in records})
        if len(counts) != 1:
            raise DataError(f"{path}: items have {counts} points, expected one number", "use null for a missing point")
        if self.layout:
            own = LAYOUTS[self.layout]
            point_names(own.names, counts[0], path)
        else:
            own = made_skeleton({**data, "names": point_names(data.get("names"), counts[0], path)}, path)
        return Meta(skeleton=skeleton_for(counts[0], own, self.skeleton, path))


def _items(data: Any, path: Path) -> list[Any]:
    items = data.get("items") if isinstance(data, dict) else None
    if not isinstance(items, list) or not items:
        raise DataError(f'{path}: no list "items"', 'expected {"names": [...], "items": [{"file": ..., "points": [...]}]}')
    return items


def _record(item: Any, images: Path, group: str, where: Path) -> Record:
    try:
        size = (int(item["height"]), int(item["width"])) if "height" in item else None
        relative = "points_rel" in item
        instances = item.get("instances") or [item["points_rel" if relative else "points"]]
        stated = item.get("presence")
        rows = [_rows(points, stated) for points in instances]
        name = str(item[group]) if group else ""
        return record(within(images, item["file"]), rows, name, size, relative)
    except KeyError as error:
        keys = ", ".join(item) if isinstance(item, dict) else ""
        raise DataError(f"{where}: an item has no key {error}", f"it has {keys}") from None
    except MALFORMED:
        raise DataError(f"{where}: malformed item {str(item)[:80]}", "points are [x, y] or null") from None


def _rows(points: Sequence[Any], presence: Sequence[float] | None) -> list[list[float]]:
    places = [[float(point[0]), float(point[1])] if point else [nan, nan] for point in points]
    if presence is None:
        return places
    return [[*place, float(state)] for place, state in zip(places, presence, strict=True)]
