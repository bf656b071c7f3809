"""Frames of a video with points: `pose.json` beside `frames/0000.jpg` and so on, the number in a file's name being the frame's.

`{"names": ["head", "tail"], "limbs": [[0, 1]], "fps": 30, "items": [{"frame": 0, "points": [[12.5, 40], null]}]}`; several
objects are `"instances": [{"track": 0, "points": [...]}, ...]`. Val is the last part of the time, since neighbouring frames are
nearly equal. Coordinates are ours: the first pixel's centre is 0.5.
"""

from __future__ import annotations

from math import nan
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field as Setting

from pixelwise.data.dataset import DataConfig, Dataset, Meta, existing_folder
from pixelwise.data.files import MALFORMED, ValFraction, checked, part_in_order, read_json
from pixelwise.data.keypoints import KeypointFiles, Record, nobody, numbered, record, require_images
from pixelwise.data.skeletons import SkeletonFile, made_skeleton, skeleton_for
from pixelwise.errors import DataError


class Config(DataConfig):
    """Points in the frames of a video."""

    kind: Literal["keypoints_frames"] = "keypoints_frames"
    root: Annotated[str, Setting(description="folder with pose.json and frames")]
    negatives: Annotated[bool, Setting(description="keep frames without a labelled point, as images of nobody")] = False
    skeleton: SkeletonFile = ""
    val_fraction: ValFraction = 0.2

    def open(self, split: str) -> Dataset:
        """Return the labelled frames of `split`.

        Raises:
            DataError: The file is missing or malformed, or names frames that are not there.
        """
        root = existing_folder(self.root)
        path = root / "pose.json"
        data = read_json(path)
        if not isinstance(data, dict) or not isinstance(data.get("items"), list):
            raise DataError(f'{path}: no list "items"', 'expected {"names": [...], "items": [{"frame": 0, "points": [...]}]}')
        own = made_skeleton(data, path)
        files = numbered(existing_folder(str(root / "frames")))
        records = [_record(item, files, root / "frames", len(own.names), path) for item in data["items"]]
        records = sorted((item for item in records if len(item.points) or self.negatives), key=lambda item: item.path)
        chosen = part_in_order([item.path.name for item in records], split, self.val_fraction, str(path)) if records else []
        if self.on_error == "stop":
            require_images((item.path for item in records), path)
        meta = Meta(skeleton=skeleton_for(len(own.names), own, self.skeleton, path))
        return checked(KeypointFiles(root, [records[i] for i in chosen], meta), self.on_error)


def _record(item: Any, files: dict[int, Path], folder: Path, count: int, where: Path) -> Record:
    try:
        number = int(item["frame"])
        stated = item["instances"] if "instances" in item else [item["points"]]
        listed = [one["points"] if isinstance(one, dict) else one for one in stated]
        rows = [[[float(point[0]), float(point[1])] if point else [nan, nan] for point in points] for points in listed]
    except MALFORMED as error:
        raise DataError(f"{where}: malformed item {str(item)[:80]} ({error})", "points are [x, y] or null") from None
    wrong = next((len(points) for points in rows if len(points) != count), None)
    if wrong is not None:
        raise DataError(f"{where}: frame {number} has {wrong} points, expected {count}", "use null for a missing point")
    path = files.get(number, folder / f"{number:04d}.jpg")
    rows = [points for points in rows if any(place[0] == place[0] for place in points)]
    return record(path, rows) if rows else nobody(path, count)
