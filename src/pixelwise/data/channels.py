"""Pictures of 16 bits or of any number of channels are read as floating pixels: files that Pillow knows, or NumPy arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelwise.color.levels import unit
from pixelwise.data.carried import Part
from pixelwise.data.dataset import Pixels
from pixelwise.data.images import PIXEL_LIMIT, SKIP_HINT, SUFFIXES, decode_image, note
from pixelwise.data.pictures import read_picture
from pixelwise.errors import DataError

ARRAY = ".npy"
BITS: tuple[Part, ...] = ("bits",)
READABLE = SUFFIXES | {ARRAY}
LAYOUT = "expected (H, W) or (H, W, C), of uint8, uint16, or floats in [0, 1]"


def read_pixels(path: Path, notes: list[str], bits: int = 8, *, pixel_limit: int = PIXEL_LIMIT) -> Tensor:
    """Return the pixels of an image file, `(3, H, W)`, or of a `.npy` file, `(C, H, W)`.

    Args:
        path: The file.
        notes: Receives one sentence for each kind of conversion, once.
        bits: 8 for uint8; 16 for float32 in [0, 1] that keeps 16 bits. An array is always floating.
        pixel_limit: Largest accepted width x height.

    Raises:
        DataError: The file is missing, damaged, too large or no image.
    """
    if path.suffix.lower() == ARRAY:
        return torch.from_numpy(_floating(_array(path, pixel_limit), path)).permute(2, 0, 1).contiguous()
    if bits == 8:
        return decode_image(path, notes, pixel_limit=pixel_limit)
    picture = read_picture(path, BITS, pixel_limit=pixel_limit)
    for text in picture.notes:
        note(notes, text)
    return unit(picture.pixels)


def pixels_of(path: Path, bits: int) -> Pixels:
    """Return what the pixels of a file are like, from its header where it is an array.

    Raises:
        DataError: It is no array of pixels.
    """
    if path.suffix.lower() != ARRAY:
        return Pixels(bits=bits)
    array = _array(path)
    return Pixels(channels=array.shape[2], bits=8 if array.dtype == np.uint8 else 16)


def _array(path: Path, pixel_limit: int = PIXEL_LIMIT) -> NDArray[Any]:
    """Map an array from its file; nothing is read yet, and a header that promises more than the file holds is refused."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"no such file: {path}") from None
    except Exception as error:  # numpy raises whatever a damaged header leads to
        raise DataError(f"{path}: not a NumPy array of numbers ({error})", SKIP_HINT) from None
    if not isinstance(array, np.ndarray) or array.ndim not in (2, 3) or not array.size:
        raise DataError(f"{path}: an array of shape {getattr(array, 'shape', ())} is no picture", LAYOUT)
    if array.shape[0] * array.shape[1] > pixel_limit:
        raise DataError(f"{path}: {array.shape[1]}x{array.shape[0]} pixels are more than the limit of {pixel_limit}")
    return array[:, :, None] if array.ndim == 2 else array


def _floating(array: NDArray[Any], path: Path) -> NDArray[np.float32]:
    if array.dtype in (np.uint8, np.uint16):
        return np.asarray(array / np.float32(np.iinfo(array.dtype).max), np.float32)
    values = array.astype(np.float32) if np.issubdtype(array.dtype, np.floating) else None
    if values is None or not (values.min() >= 0 and values.max() <= 1):
        reach = "" if values is None else f" from {values.min():g} to {values.max():g}"
        raise DataError(f"{path}: its values are {array.dtype}{reach}", LAYOUT)
    return values
