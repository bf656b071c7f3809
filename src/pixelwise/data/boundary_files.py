"""Files of boundaries become one map per annotator: bits or grey values in a picture, or MATLAB files as BSDS500 has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from pixelwise.data.images import SKIP_HINT, decode_image, decode_values
from pixelwise.data.matlab_files import matlab_variable
from pixelwise.errors import DataError

Reading = Literal["grey", "bits"]
MOST_ANNOTATORS = 64


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
    values = decode_values(path)
    if values.min() < 0:
        raise DataError(f"{path}: negative values are no bits of annotators", "set data.reading=grey if these are grey values")
    bits = np.arange(max(1, int(values.max()).bit_length()))[:, None, None]
    return torch.from_numpy(((values >> bits) & 1).astype(np.float32))


def _from_matlab(path: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    try:
        cells = matlab_variable(path, "groundTruth").ravel()
        maps = [np.asarray(cell["Boundaries"][0, 0], np.float32) for cell in cells[: MOST_ANNOTATORS + 1]]
        drawn = np.stack(maps)
    except DataError:
        raise
    except Exception as error:  # scipy raises whatever the damage leads to
        raise DataError(f"{path}: not a groundTruth of BSDS500 ({type(error).__name__})", SKIP_HINT) from None
    if drawn.ndim != 3 or not drawn.size or len(drawn) > MOST_ANNOTATORS or not ((drawn == 0) | (drawn == 1)).all():
        raise DataError(f"{path}: boundaries are not maps of 0 and 1 of one size", SKIP_HINT)
    return drawn
