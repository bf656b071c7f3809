"""Arrays in MATLAB 5 files, read only if the file is complete, of types there are, and small when it is decompressed.

SciPy looks up the type of an element without asking whether there is one, and reads beyond its table.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from pathlib import Path
from typing import Any

from pixelwise.errors import DataError

MOST_BYTES = 2**24
"""Of a MATLAB file, before and after decompression; those of BSDS500 and Leeds Sports Pose hold less than 5 MB."""
_HEADER = 128
_DIMENSIONS, _MATRIX, _COMPRESSED = 5, 14, 15
_TYPES = frozenset((*range(1, 8), 9, 12, 13, _MATRIX, 16, 17, 18))
_HOLDING, _NAMES, _COMPLEX = 3, (1, 5), 0x800
_DEEPEST = 20


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
        whole = _unpacked(part) if kind == _COMPRESSED else contents[place : place + 8 + size]
        total += len(whole)
        if total > MOST_BYTES or not _sound(whole, order):
            return False
        place += 8 + size
    return True


def _unpacked(part: bytes) -> bytes:
    """Return what a part decompresses to, at most MOST_BYTES + 1; a type that there is not if it cannot be."""
    try:
        return zlib.decompressobj().decompress(part, MOST_BYTES + 1)
    except zlib.error:
        return bytes(8)


def _sound(elements: bytes, order: str, depth: int = 0) -> bool:
    """Tell whether elements lie within these bytes, have types there are, and no array announces more than MOST_BYTES."""
    place = number = 0
    leaf = False
    while place < len(elements):
        if place + 8 > len(elements) or depth > _DEEPEST:
            return False
        kind, size = struct.unpack_from(f"{order}II", elements, place)
        start, end = place + 8, place + 8 + size + -size % 8
        if kind >> 16:  # a small one: its size is beside its type, its values are in place of the size
            kind, size, start, end = kind & 0xFFFF, kind >> 16, place + 4, place + 8
        values = elements[start : start + size]
        if kind not in _TYPES or len(values) < size or start + size > end:
            return False
        if kind == _MATRIX and (leaf or not _sound(values, order, depth + 1)):
            return False
        if depth and number == 0:  # its class: cells, structures and objects hold others, numbers and text do not
            flags = struct.unpack(f"{order}I", values[:4])[0] if size >= 4 else _COMPLEX
            if flags & _COMPLEX:
                return False
            leaf = flags & 255 > _HOLDING
        if depth and number > 2 and not leaf and kind not in (_MATRIX, *_NAMES):
            return False
        if depth and number == 1 and kind == _DIMENSIONS:
            sides = struct.unpack(f"{order}{size // 4}i", values[: size // 4 * 4])
            if min(sides, default=0) < 0 or math.prod(sides) > MOST_BYTES:
                return False
        place, number = end, number + 1
    return not leaf or number > 3
