"""HDF5 files are read by h5py, an extra; nothing in them is ever unpickled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pixelwise.errors import DataError, UsageError, did_you_mean

MOST_BYTES = 2**30
"""Of an array that is read: the tables of some million points."""


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open an HDF5 file for reading.

    Raises:
        UsageError: h5py is not installed.
        DataError: The file is missing or damaged.
    """
    try:
        import h5py
    except ImportError:
        raise UsageError(f"reading {path.name} needs h5py", "pip install 'pixelwise[pose-files]'") from None
    if not path.is_file():
        raise DataError(f"no such file: {path}", did_you_mean(path.name, (p.name for p in path.parent.glob("*"))))
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path}: no HDF5 file, or a damaged one ({str(error).partition('(')[2] or error})") from None
    with file:
        yield file


def values_of(file: Any, name: str, row: int | None = None) -> Any:
    """Return the array of this name, or one row of it, if it is in this file itself and small enough.

    HDF5 lets a file point to others, of which nothing is read here, and announce what would fill any memory.

    Raises:
        KeyError: There is none.
        ValueError: It is elsewhere, or too large.
    """
    stored = file[name]
    if not hasattr(stored, "nbytes"):
        raise KeyError(f"{name} is no array")
    if stored.is_virtual or stored.external or stored.file.filename != file.file.filename:
        raise ValueError(f"{name} is in another file")
    size = stored.nbytes if row is None else stored.nbytes // max(1, len(stored))
    if size > MOST_BYTES:
        raise ValueError(f"{name} has {size >> 20} MB, expected at most {MOST_BYTES >> 20}")
    return stored[() if row is None else row]


def text_of(value: Any) -> str:
    """Return the text of an attribute or a cell, which h5py gives as bytes or as text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
