"""The .pts files of iBUG (300-W, Sagonas et al. 2013): one per image, with its name.

`version: 1`, `n_points: 68`, then rows of x and y in braces. Of 68 points names and mirror pairs are known (`layout=ibug68`
in other readers). The first pixel's centre is 1, as MATLAB counts: menpo (`pts_importer`) takes off 1 to count from 0, and
so half a pixel is taken off here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field as Setting

from pixelwise.data.dataset import DataConfig, Dataset, Meta, existing_folder
from pixelwise.data.files import ValFraction, checked, part, split_folder
from pixelwise.data.images import SUFFIXES
from pixelwise.data.keypoints import KeypointFiles, Record, record, require_images
from pixelwise.data.skeletons import IBUG68, SkeletonFile, skeleton_for
from pixelwise.errors import DataError
from pixelwise.geometry.skeleton import Skeleton


class Config(DataConfig):
    """Points in .pts files."""

    kind: Literal["keypoints_pts"] = "keypoints_pts"
    root: Annotated[str, Setting(description="folder of .pts files and their images")]
    skeleton: SkeletonFile = ""
    val_fraction: ValFraction = 0.1

    def open(self, split: str) -> Dataset:
        """Return the labelled images of `split`.

        Raises:
            DataError: There is no .pts file, one is malformed, they differ in their number of points, or an image is missing.
        """
        root = existing_folder(self.root)
        folder, parted = split_folder(root, split)
        paths = sorted(folder.rglob("*.pts"))
        if not paths:
            raise DataError(f"no .pts files in {folder}")
        if parted:
            names = [path.relative_to(folder).as_posix() for path in paths]
            paths = [paths[i] for i in part(names, split, self.val_fraction, where=str(root))]
        records = [_read(path) for path in paths]
        count = records[0].points.shape[1]
        other = next((i for i, item in enumerate(records) if item.points.shape[1] != count), None)
        if other is not None:
            counts = f"{records[other].points.shape[1]} points, but {paths[0].name} has {count}"
            raise DataError(f"{paths[other]}: {counts}", "give sets of different points folders of their own")
        if self.on_error == "stop":
            require_images((item.path for item in records), folder)
        own = IBUG68 if count == len(IBUG68.names) else Skeleton(names=tuple(f"point_{i}" for i in range(count)))
        meta = Meta(skeleton=skeleton_for(count, own, self.skeleton, root))
        return checked(KeypointFiles(root, records, meta), self.on_error)


def _read(path: Path) -> Record:
    text = path.read_text("utf-8", "replace")
    count, rows = re.search(r"n_points:\s*(\d+)", text), re.search(r"\{(.*)\}", text, re.DOTALL)
    try:
        points = [[float(number) for number in line.split()] for line in rows[1].strip().splitlines()] if rows else []
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    if count is None or len(points) != int(count[1]) or not points or any(len(row) != 2 for row in points):
        stated = count[1] if count else "no"
        hint = f"{stated} n_points and {len(points)} rows; expected as many rows of x and y"
        raise DataError(f"{path}: not a .pts file", hint)
    return record(_image(path), [points], corner=0.5)


def _image(path: Path) -> Path:
    found = (path.with_suffix(suffix) for suffix in sorted(SUFFIXES) if path.with_suffix(suffix).is_file())
    return next(found, path.with_suffix(".jpg"))
