"""Arrays in MATLAB 5 files, read only if the file is complete and stays small when it is decompressed."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

from pixelwise.errors import DataError

MOST_BYTES = 2**24
"""Of a MATLAB file, before and after decompression; those of BSDS500 and Leeds Sports Pose hold less than 5 MB."""
_HEADER = 128
_COMPRESSED = 15


def matlab_variable(path: Path, name: str) -> Any:
    """Return the variable of this name as scipy reads it.

    Raises:
        DataError: The file cannot be read, is no MATLAB 5 file, or too large.
        Exception: Whatever scipy raises for what is damaged inside; a KeyError if there is no such variable.
    """
    from scipy.io import loadmat

    try:
        contents = path.read_bytes() if path.stat().st_size <= MOST_BYTES else b""
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    if not _small(contents):
        raise DataError(f"{path}: no MATLAB 5 file of at most {MOST_BYTES >> 20} MB", "save it with: save -v7")
    return loadmat(io.BytesIO(contents), variable_names=[name])[name]


def _small(contents: bytes) -> bool:
    """Tell whether this is a MATLAB 5 file whose parts are complete and decompress to no more than MOST_BYTES."""
    order = {b"IM": "<", b"MI": ">"}.get(contents[126:_HEADER])
    place, total = _HEADER, 0
    if order is None or len(contents) == _HEADER:
        return False
    while place < len(contents):
        if place + 8 > len(contents):
            return False
        kind, size = struct.unpack_from(f"{order}II", contents, place)
        part = contents[place + 8 : place + 8 + size]
        if len(part) < size:
            return False
        total += _unpacked(part) if kind == _COMPRESSED else size
        if total > MOST_BYTES:
            return False
        place += 8 + size
    return True


def _unpacked(part: bytes) -> int:
    """Return the bytes that a part decompresses to, or more than MOST_BYTES if it cannot be."""
    try:
        return len(zlib.decompressobj().decompress(part, MOST_BYTES + 1))
    except zlib.error:
        return MOST_BYTES + 1
