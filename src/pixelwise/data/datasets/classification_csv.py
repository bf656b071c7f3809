"""Images and what is told of each in a table: `train.csv` and `val.csv`, or one table with a column `split` or to be parted.

- `file,label`: one class per image
- `file,labels`: several, separated by `;` or `|`; `-` says that none applies, `?cat` that it is not known whether `cat` does
- `file,value`: a number

An empty cell is unknown. A table may have several of these columns. Images are in `images` beside it or right beside it.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from math import isinf, isnan, nan
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field as Setting
from torch import Tensor

from pixelwise.data.dataset import DataConfig, Dataset, Meta, Vector, existing_folder
from pixelwise.data.files import ValFraction, checked, part, within
from pixelwise.data.keypoints import image_folder, require_images
from pixelwise.data.vectors import Told, VectorFiles, measured
from pixelwise.errors import DataError, did_you_mean

Row = dict[str, str]
NONE = "-"


class Table(NamedTuple):
    """The rows of one file, and which of them belong to a split."""

    path: Path
    rows: list[Row]
    kept: Sequence[int]


class Config(DataConfig):
    """Images with a class, several labels or a number in a CSV table."""

    kind: Literal["classification_csv"] = "classification_csv"
    root: Annotated[str, Setting(description="folder with train.csv and val.csv, or with one table")]
    file: Annotated[str, Setting(description="column that names the image")] = "file"
    category: Annotated[str, Setting(description="column of the one class")] = "label"
    labels: Annotated[str, Setting(description="column of several labels")] = "labels"
    value: Annotated[str, Setting(description="column of a number")] = "value"
    classes: Annotated[tuple[str, ...], Setting(description="which classes or labels, in this order (default: all)")] = ()
    val_fraction: ValFraction = 0.1

    def open(self, split: str) -> Dataset:
        """Return the images of `split` with those of "category", "labels" and "value" that there are columns of.

        Raises:
            DataError: The table is missing or malformed, lacks a column, or names images that are not there.
        """
        root = existing_folder(self.root)
        table, train = self._share(root, split), self._share(root, "train")
        columns = self._columns(table)
        meant = self._meant(columns, table, train)
        if meant == "category":
            table, train = self._of_classes(table), self._of_classes(train)
        chosen = {field: self.classes if field == meant else () for field in columns}
        vectors = {
            field: _named(field, column, chosen[field], table, train)
            if field != "value"
            else self._spread(column, table, train)
            for field, column in columns.items()
        }
        folder = image_folder(table.path.parent)
        items = []
        for row in (table.rows[i] for i in table.kept):
            truths = {field: _truth(row[column], vectors[field]) for field, column in columns.items()}
            items.append(Told(within(folder, row[self.file]), truths))
        if self.on_error == "stop":
            require_images((item.path for item in items), table.path)
        return checked(VectorFiles(root, items, Meta(vectors=vectors)), self.on_error)

    def _meant(self, columns: dict[str, str], table: Table, train: Table) -> str:
        """Return the field that `classes` are names of: the first in whose column they all are."""
        names = {field: _names(field, column, table, train) for field, column in columns.items() if field != "value"}
        fitting = (field for field, there in names.items() if there.issuperset(self.classes))
        return next(fitting, next(iter(names), ""))

    def _of_classes(self, table: Table) -> Table:
        """With `classes`, leave rows of other classes to no split."""
        allowed = ("", *self.classes) if self.classes else None
        return table._replace(kept=[i for i in table.kept if not allowed or table.rows[i][self.category] in allowed])

    def _share(self, root: Path, split: str) -> Table:
        own = root / f"{split}.csv"
        if own.is_file() and (split != "train" or (root / "val.csv").is_file()):
            rows = self._rows(own)
            return Table(own, rows, range(len(rows)))
        found = [root / "train.csv"] if (root / "train.csv").is_file() else sorted(root.glob("*.csv"))
        if len(found) != 1:
            raise DataError(f"{root}: no table for {split!r}", f"expected {split}.csv, or one table with a column 'split'")
        path, rows = found[0], self._rows(found[0])
        if "split" in rows[0]:
            kept = [i for i, row in enumerate(rows) if row["split"] == split]
            if not kept:
                there = sorted({row["split"] for row in rows} - {""}) or ["none"]
                raise DataError(f"{path}: no split {split!r}", did_you_mean(split, there) or f"there are {', '.join(there)}")
        else:
            kept = part([row[self.file] for row in rows], split, self.val_fraction, where=str(path))
        return Table(path, rows, kept)

    def _rows(self, path: Path) -> list[Row]:
        header, *lines = _cells(path) or [[]]
        if self.file not in header:
            hint = did_you_mean(self.file, header) or "data.file=NAME names the column of the images"
            separated = len(header) == 1 and any(separator in header[0] for separator in ";\t")
            raise DataError(f"{path}: no column {self.file!r}", "separate the cells by commas" if separated else hint)
        (column, times), *_ = Counter(header).most_common(1)
        if times > 1:
            raise DataError(f"{path}: the header has {times} columns {column!r}", "give each column a name of its own")
        for line in lines:
            if len(line) != len(header):
                raise DataError(f"{path}: {line[0]} has {len(line)} cells, the header {len(header)}")
        if not lines:
            raise DataError(f"{path}: no labelled image")
        rows = [dict(zip(header, line, strict=True)) for line in lines]
        for number, row in enumerate(rows, 1):
            if not row[self.file]:
                raise DataError(f"{path}: row {number} after the header names no image: {','.join(row.values())}")
        (file, times), *_ = Counter(row[self.file] for row in rows).most_common(1)
        if times > 1:
            raise DataError(f"{path}: {file} is in {times} rows", "several labels of an image go into one cell: cat;dog")
        return rows

    def _columns(self, table: Table) -> dict[str, str]:
        """Return the column of each field that the table has; one that was named must be there."""
        header = list(table.rows[0])
        columns = {"category": self.category, "labels": self.labels, "value": self.value}
        there = {field: column for field, column in columns.items() if column in header}
        for field, column in columns.items():
            if field not in there and column != type(self).model_fields[field].default:
                hint = did_you_mean(column, header) or f"the header is {','.join(header)}"
                raise DataError(f"{table.path}: no column {column!r}", hint)
        if not there:
            what = f"{table.path}: no column {', '.join(map(repr, columns.values()))}; the header is {','.join(header)}"
            raise DataError(what, "data.category=NAME, data.labels=NAME or data.value=NAME names the column")
        return there

    def _spread(self, column: str, table: Table, train: Table) -> Vector:
        for path, row in ((one.path, row) for one in (table, train) for row in one.rows):
            if not _is_number(row[column]):
                what = f"{path}: {row[self.file]}: {row[column]!r} in column {column!r} is no number"
                raise DataError(what, "an empty cell is unknown")
        values = [_number(train.rows[i][column]) for i in train.kept]
        if all(isnan(value) for value in values):
            raise DataError(f"{train.path}: no value in column {column!r} is known", "an empty cell is unknown")
        return measured(column, values)


def _cells(path: Path) -> list[list[str]]:
    """Return the cells of the lines that are not empty, without blanks around them."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = [[cell.strip() for cell in line] for line in csv.reader(stream) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: it cannot be read as a table: {error}", "save it as CSV in UTF-8") from error
    if any("\0" in cell for line in lines for cell in line):
        raise DataError(f"{path}: a cell contains a NUL character", "save it as CSV in UTF-8")
    return lines


def _names(field: str, column: str, table: Table, train: Table) -> set[str]:
    """Return the classes or labels in both tables."""
    cells = [row[column] for row in (*table.rows, *train.rows)]
    return set(cells) - {""} if field == "category" else {name.lstrip("?") for cell in cells for name in _split(cell)}


def _named(field: str, column: str, classes: tuple[str, ...], table: Table, train: Table) -> Vector:
    """Return what the numbers of a field mean: the names chosen, or all."""
    names = _names(field, column, table, train)
    for name in classes:
        if name not in names:
            raise DataError(f"{table.path}: no {name!r} in column {column!r}", did_you_mean(name, names))
    chosen = classes or tuple(sorted(names))
    if len(chosen) < (2 if field == "category" else 1):
        raise DataError(f"{table.path}: too few names in column {column!r}: {', '.join(chosen) or 'none'}")
    return Vector(kind=field, names=chosen)


def _truth(cell: str, vector: Vector) -> int | Tensor:
    """Return a cell as a category, -1 if unknown, or as values (N,), NaN where unknown."""
    if vector.kind == "value":
        return torch.tensor([_number(cell)])
    if vector.kind == "category":
        return vector.names.index(cell) if cell else -1
    told = _split(cell)
    return torch.tensor([nan if not cell or f"?{name}" in told else float(name in told) for name in vector.names])


def _split(cell: str) -> list[str]:
    """Return the labels of a cell; those of which it is unknown begin with a question mark."""
    return [name for name in map(str.strip, re.split(r"[;|]", cell)) if name not in ("", NONE)]


def _number(cell: str) -> float:
    return float(cell) if cell else nan


def _is_number(cell: str) -> bool:
    try:
        return not isinf(_number(cell))
    except ValueError:
        return False
