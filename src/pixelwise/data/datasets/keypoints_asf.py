"""The .asf files of the IMM face database (Stegmann, Ersboll & Larsen, 2003): relative points, one file per image.

A file holds, besides comments, the number of points, one row per point (path, type, x, y, number, two neighbours) and
the name of its image. Rows are read by white space, since the widths vary. Persons are held out whole: a file name begins
with its person's number, as in `29-1m.asf`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field as Setting

from pixelwise.data.dataset import DataConfig, Dataset, Meta, existing_folder
from pixelwise.data.files import ValFraction, checked, part, split_folder
from pixelwise.data.keypoints import KeypointFiles, Record, record, require_images
from pixelwise.data.skeletons import IMM58, SkeletonFile, skeleton_for
from pixelwise.errors import DataError
from pixelwise.geometry.skeleton import Skeleton


class Config(DataConfig):
    """Keypoints in .asf files."""

    kind: Literal["keypoints_asf"] = "keypoints_asf"
    root: Annotated[str, Setting(description="folder of .asf files and their images")]
    val_groups: Annotated[tuple[int, ...], Setting(description="persons held out as val, e.g. [33, 34, 35]")] = ()
    skeleton: SkeletonFile = ""
    val_fraction: ValFraction = 0.2

    def open(self, split: str) -> Dataset:
        """Return the labelled images of `split`.

        Raises:
            DataError: There is no .asf file, one is malformed, or an image is missing.
        """
        root = existing_folder(self.root)
        folder, parted = split_folder(root, split)
        paths = sorted(folder.rglob("*.asf"))
        if not paths:
            raise DataError(f"no .asf files in {folder}")
        if parted:
            paths = [paths[i] for i in part([_person(p) for p in paths], split, self.val_fraction, self.val_groups, str(root))]
        records = [_read(path) for path in paths]
        counts = {item.points.shape[1] for item in records}
        if len(counts) != 1:
            raise DataError(f"{folder}: files have {sorted(counts)} points, expected one number")
        if self.on_error == "stop":
            require_images((item.path for item in records), folder)
        return checked(KeypointFiles(root, records, self._meta(counts.pop(), folder)), self.on_error)

    def _meta(self, count: int, folder: Path) -> Meta:
        own = IMM58 if count == len(IMM58.names) else Skeleton(names=tuple(f"point_{i}" for i in range(count)))
        return Meta(skeleton=skeleton_for(count, own, self.skeleton, folder))


def _person(path: Path) -> str:
    number = re.match(r"\d+", path.stem)
    return str(int(number[0])) if number else path.stem


def _read(path: Path) -> Record:
    """Read the count line, then as many rows, then the name of the image."""
    text = path.read_text("utf-8", "replace").splitlines()
    lines = [line.split() for line in text if line.strip() and not line.lstrip().startswith("#")]
    try:
        count = int(lines[0][0])
        points = [[float(row[2]), float(row[3])] for row in lines[1 : count + 1]]
        if len(points) != count:
            raise IndexError
    except (ValueError, IndexError):
        what = "expected the number of points, then one row of at least 4 numbers for each"
        raise DataError(f"{path}: not an .asf file of points", what) from None
    return record(_image(path, [word for row in lines[count + 1 :] for word in row]), [points], _person(path), relative=True)


def _image(path: Path, words: list[str]) -> Path:
    """Return the image that the file names, or else the one with its own name."""
    named = path.parent / Path(words[-1].replace("\\", "/")).name if words else path.with_suffix(".jpg")
    return named if named.is_file() else path.with_suffix(named.suffix or ".jpg")
