"""Keypoints in a table: `<split>.csv` or `<split>/keypoints.csv`, or one `keypoints.csv` whose images are parted.

The header tells the form:

- wide, a row per image: `file,nose_x,nose_y,tail_x,tail_y` or `file,x1,y1,x2,y2`
- long, a row per point: `file,name,x,y` and if known `visible`

An empty or NaN cell is an unlabelled point. `visible` is 1 for visible and 0 for hidden, or absent if x and y are empty.
Cells are parted by commas, semicolons or tabs; with the latter two, 12,5 is the number 12.5. Images are in `images` beside
the table or right beside it. Coordinates are ours: the first pixel's centre is 0.5.
"""

from __future__ import annotations

import csv
import re
from math import isnan, nan
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field as Setting

from pixelwise.data.dataset import DataConfig, Dataset, Meta, existing_folder
from pixelwise.data.files import ValFraction, checked, part, within
from pixelwise.data.keypoints import KeypointFiles, image_folder, point_names, record, require_images, require_points
from pixelwise.data.sample import Presence
from pixelwise.data.skeletons import SkeletonFile, made_skeleton, skeleton_for
from pixelwise.errors import DataError

Row = list[float]
Table = tuple[tuple[str, ...], dict[str, list[Row]]]

MISSING: Row = [nan, nan, Presence.UNKNOWN]
"""A point that no row names."""


class Config(DataConfig):
    """Keypoints in a CSV table."""

    kind: Literal["keypoints_csv"] = "keypoints_csv"
    root: Annotated[str, Setting(description="folder with keypoints.csv, or with train.csv or train/keypoints.csv")]
    skeleton: SkeletonFile = ""
    val_fraction: ValFraction = 0.1

    def open(self, split: str) -> Dataset:
        """Return the labelled images of `split`.

        Raises:
            DataError: The table is missing or malformed, or names images that are not there.
        """
        root = existing_folder(self.root)
        path, parted = _table(root, split)
        names, rows = _parse(path)
        records = [record(within(image_folder(path.parent), file), [points]) for file, points in rows.items()]
        require_points(records, path)
        if parted:
            records = [records[i] for i in part(list(rows), split, self.val_fraction, where=str(path))]
        if self.on_error == "stop":
            require_images((item.path for item in records), path)
        own = made_skeleton({"names": point_names(names, len(names), path)}, path)
        meta = Meta(skeleton=skeleton_for(len(names), own, self.skeleton, path))
        return checked(KeypointFiles(root, records, meta), self.on_error)


def _table(root: Path, split: str) -> tuple[Path, bool]:
    for path in (root / f"{split}.csv", root / split / "keypoints.csv"):
        if path.is_file():
            return path, False
    found = sorted(root.glob("*.csv"))
    if len(found) != 1:
        raise DataError(f"{root}: no table for {split!r}", f"expected {split}.csv or keypoints.csv")
    return found[0], True


def _parse(path: Path) -> Table:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            parted = _separator(stream.readline())
            stream.seek(0)
            header, *lines = [[cell.strip() for cell in line] for line in csv.reader(stream, delimiter=parted) if line] or [[]]
        if parted != ",":
            lines = [[line[0], *(re.sub(r"^(-?\d+),(\d+)$", r"\1.\2", cell) for cell in line[1:])] for line in lines]
        if header[1:4] == ["name", "x", "y"]:
            return _long(lines)
        return _wide(header, lines, path)
    except (ValueError, IndexError, csv.Error) as error:
        raise DataError(f"{path}: {error}", "each row has the columns that the header names") from None


def _separator(header: str) -> str:
    """Return what parts the cells of a header: the comma, unless there are more semicolons or tabs."""
    return max((",", ";", "\t"), key=header.count)


def _wide(header: list[str], lines: list[list[str]], path: Path) -> Table:
    names = [re.sub(r"^x[ _.]?|[ _.]?x$", "", column) for column in header[1::2]]
    others = [re.sub(r"^y[ _.]?|[ _.]?y$", "", column) for column in header[2::2]]
    if not names or names != others or header[1::2] == header[2::2]:
        raise DataError(
            f"{path}: the header is neither wide nor long", "expected file,nose_x,nose_y,... or file,name,x,y,visible"
        )
    rows: dict[str, list[Row]] = {}
    for line in lines:
        if line[0] in rows:
            raise DataError(
                f"{path}: two rows for {line[0]}", "an image has one row, for one object; keypoints_json takes several"
            )
        numbers = [_number(cell, line[0]) for cell in line[1:]]
        if len(numbers) != 2 * len(names):
            raise ValueError(f"{line[0]} has {len(numbers)} numbers for {len(names)} points")
        rows[line[0]] = [[x, y] for x, y in zip(numbers[::2], numbers[1::2], strict=True)]
    return tuple(names), rows


def _long(lines: list[list[str]]) -> Table:
    names = tuple(dict.fromkeys(line[1] for line in lines))
    places = {name: i for i, name in enumerate(names)}
    rows: dict[str, list[Row]] = {}
    for file, name, x, y, *visible in lines:
        points = rows.setdefault(file, [MISSING] * len(names))
        if points[places[name]] is not MISSING:
            raise ValueError(f"two rows for {name} of {file}")
        place = [_number(x, file), _number(y, file)]
        points[places[name]] = [*place, _presence(place, visible[0] if visible else "")]
    return names, rows


def _presence(place: Row, visible: str) -> float:
    known = not any(isnan(v) for v in place)
    if visible == "":
        return Presence.VISIBLE if known else Presence.UNKNOWN
    if float(visible) > 0:
        return Presence.VISIBLE
    return Presence.HIDDEN if known else Presence.ABSENT


def _number(cell: str, file: str) -> float:
    try:
        return float(cell) if cell else nan
    except ValueError:
        raise ValueError(f"{file}: {cell!r} is not a number") from None
