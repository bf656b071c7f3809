"""Files of boundaries become one map per annotator: bits or grey values in a picture, or MATLAB files as BSDS500 has them."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from pixelwise.data.images import SKIP_HINT, decode_image, decode_values
from pixelwise.data.sample import Boundaries
from pixelwise.errors import DataError
from pixelwise.geometry.frame import Frame

BITS = "boundaries are nowhere as bright as half of white, which looks like bits of annotators: set data.reading=bits"
Reading = Literal["grey", "bits"]
MOST_BYTES = 2**24
"""Of a MATLAB file, before and after decompression; those of BSDS500 hold less than 5 MB."""
MOST_ANNOTATORS = 64
_HEADER = 128
_COMPRESSED = 15


def decode_boundaries(path: Path, reading: Reading) -> Tensor:
    """Return what annotators drew, float32 `(A, H, W)` in [0, 1].

    Args:
        path: A picture or a `.mat` file.
        reading: Of a picture: `grey`, from black (no boundary) to white, as one annotator's; or `bits`, where bit i of a pixel
            says that annotator i drew a boundary there, and the highest bit that occurs is the last annotator.

    Raises:
        DataError: The file is missing or damaged, or is not what `reading` says.
    """
    if path.suffix.lower() == ".mat":
        return torch.from_numpy(_from_matlab(path))
    if reading == "grey":
        return decode_image(path).float().mean(0, keepdim=True) / 255
    values = decode_values(path, indexed=True)
    if values.min() < 0:
        raise DataError(f"{path}: negative values are no bits of annotators", "set data.reading=grey if these are grey values")
    bits = np.arange(max(1, int(values.max()).bit_length()))[:, None, None]
    return torch.from_numpy(((values >> bits) & 1).astype(np.float32))


def read_boundaries(path: Path, reading: Reading, notes: list[str]) -> Boundaries:
    """Return what annotators drew in a file; `notes` receives a sentence if it looks like another `reading`.

    Raises:
        DataError: As `decode_boundaries`.
    """
    drawn = decode_boundaries(path, reading)
    dim = reading == "grey" and path.suffix.lower() != ".mat" and 0 < drawn.max() < 0.5
    if dim and BITS not in notes:
        notes.append(BITS)
    return Boundaries(drawn, Frame.of(drawn.shape[1:]))


def _from_matlab(path: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    from scipy.io import loadmat

    try:
        contents = path.read_bytes() if path.stat().st_size <= MOST_BYTES else b""
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    if not _small(contents):
        raise DataError(f"{path}: no MATLAB 5 file of at most {MOST_BYTES >> 20} MB", "save it with: save -v7")
    try:
        cells = loadmat(io.BytesIO(contents), variable_names=["groundTruth"])["groundTruth"].ravel()
        maps = [np.asarray(cell["Boundaries"][0, 0], np.float32) for cell in cells[: MOST_ANNOTATORS + 1]]
        drawn = np.stack(maps)
    except Exception as error:  # scipy raises whatever the damage leads to
        raise DataError(f"{path}: not a groundTruth of BSDS500 ({type(error).__name__})", SKIP_HINT) from None
    if drawn.ndim != 3 or not drawn.size or len(drawn) > MOST_ANNOTATORS or not ((drawn == 0) | (drawn == 1)).all():
        raise DataError(f"{path}: boundaries are not maps of 0 and 1 of one size", SKIP_HINT)
    return drawn


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
