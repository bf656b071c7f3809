"""Tables of numbers that pandas wrote, read without pandas: CSV with several header rows, and HDF5 of the layout "fixed"."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixelwise.data.files import MALFORMED
from pixelwise.data.hdf5 import MOST_BYTES, opened, text_of, values_of
from pixelwise.errors import DataError


class Table(NamedTuple):
    """A table: the header of every column from the outermost level on, the label of every row, and the values."""

    columns: list[tuple[str, ...]]
    rows: list[tuple[str, ...]]
    values: NDArray[np.float64]


def read_csv(path: Path) -> Table:
    """Return a CSV whose header ends with a row that begins with `coords`; rows are labelled by one cell or by several.

    Raises:
        DataError: The file is missing or malformed.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = [line for line in csv.reader(stream) if any(line)]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: {error}") from None
    last = next((i for i, line in enumerate(lines) if line[0] == "coords"), None)
    if last is None:
        raise DataError(f"{path}: no header row `coords`", "a CSV of DeepLabCut begins with scorer, bodyparts and coords")
    labels = next((i for i, cell in enumerate(lines[last]) if i and cell), 1)
    width = len(lines[last])
    wrong = next((i for i, line in enumerate(lines) if len(line) != width), None)
    if wrong is not None:
        raise DataError(f"{path}: line {wrong + 1} has {len(lines[wrong])} cells, expected {width}")
    try:
        values = [[float(cell) if cell else np.nan for cell in line[labels:]] for line in lines[last + 1 :]]
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    columns = list(zip(*(line[labels:] for line in lines[: last + 1]), strict=True))
    rows = [tuple(line[:labels]) for line in lines[last + 1 :]]
    return Table(columns, rows, np.array(values, np.float64).reshape(len(rows), len(columns)))


def read_hdf(path: Path) -> Table:
    """Return the one table of an HDF5 file in the layout "fixed" of pandas, in which nothing is pickled.

    Raises:
        DataError: The file is missing or damaged, or of the layout "table", whose columns are pickled.
        UsageError: h5py is not installed.
    """
    with opened(path) as file:
        try:
            group = next(iter(file.values()))
            if text_of(group.attrs.get("pandas_type", b"")) != "frame":
                hint = "use the .csv beside it: delete or rename the .h5"
                raise DataError(f"{path}: only pandas' layout `fixed` can be read without unpickling", hint)
            columns = _axis(group, "axis0")
            rows = _axis(group, "axis1")
            if 8 * len(rows) * len(columns) > MOST_BYTES:
                raise ValueError(f"{len(rows)} rows of {len(columns)} columns are too many")
            values = np.full((len(rows), len(columns)), np.nan)
            places = {column: i for i, column in enumerate(columns)}
            for number in range(int(group.attrs["nblocks"])):
                at = [places[column] for column in _axis(group, f"block{number}_items")]
                values[:, at] = np.asarray(values_of(group, f"block{number}_values"), np.float64)
            return Table(columns, rows, values)
        except (*MALFORMED, OSError) as error:
            raise DataError(f"{path}: no table of pandas ({type(error).__name__}: {error})") from None


def _axis(group: Any, name: str) -> list[tuple[str, ...]]:
    """Return the labels of an axis; one of several levels is kept as the labels of each level and who has which."""
    if name in group:
        return [(text_of(label),) for label in values_of(group, name)]
    count = int(group.attrs[f"{name}_nlevels"])
    levels = [[text_of(label) for label in values_of(group, f"{name}_level{i}")] for i in range(count)]
    codes = [values_of(group, f"{name}_label{i}") for i in range(count)]
    return list(zip(*([level[code] for code in chosen] for level, chosen in zip(levels, codes, strict=True)), strict=True))
