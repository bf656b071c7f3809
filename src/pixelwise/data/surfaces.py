"""What the numbers in files of depth and surface normals mean, as `meta.json` says: their unit, their axes, and the camera.

`{"depth_unit": 0.001, "fx": 525.0, "fy": 525.0, "cx": 320.0, "cy": 240.0, "normals_axes": "RUB"}`: metres per count of an
integer file, the camera in pixels of the stored pictures (the centre of pixel 0 is 0.5), and where the three channels of a
normal point: R right or L left, D down or U up, F forward or B backward. "RDF" is ours, "RUB" the usual one of renderings, in
which what faces the camera is blue.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelwise.data.files import read_json
from pixelwise.data.images import PIXEL_LIMIT, SKIP_HINT, decode_image, decode_values
from pixelwise.data.sample import Depth, Normals
from pixelwise.errors import DataError
from pixelwise.geometry.camera import Intrinsics, normals_from_depth
from pixelwise.geometry.frame import Frame

DEPTH_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".pgm", ".npy"})
NORMALS_SUFFIXES = frozenset({".png", ".bmp", ".tif", ".tiff", ".npy"})
PLAUSIBLE = (0.05, 200.0)
"""Metres between which the median of a depth map lies unless its unit is wrong."""
UNITS = {
    0.001: "millimetres",
    0.01: "centimetres",
    1 / 256: "units of KITTI",
    1 / 5000: "units of TUM RGB-D",
    1.0: "metres",
}
"""Metres per count, the commonest first."""
AXES = {"R": (0, 1), "L": (0, -1), "D": (1, 1), "U": (1, -1), "F": (2, 1), "B": (2, -1)}
"""Which of our axes (x right, y down, z forward) a letter is, and its sign."""
CODES = frozenset("".join(order) for letters in product("RL", "DU", "FB") for order in permutations(letters))
UNIT_LENGTH = (0.9, 1.1)
"""Lengths that are brought to 1; 8 bits per channel put a length of 1 within 0.99 and 1.01."""
NO_LENGTH = 0.1
"""Length up to which a vector says that nothing is known."""
CAMERA_HINT = "normals follow from depth where the camera is known: set data.intrinsics=fx,fy,cx,cy, or all four in meta.json"
KEYS = ("fx", "fy", "cx", "cy")


class SurfaceScheme:
    """What the numbers in files of depth and normals mean.

    Attributes:
        unit: Metres per count of an integer file, or None.
        intrinsics: The camera, in pixels of the stored pictures, or None.
        axes: Where the channels of normals point, or None.
        notes: Receives a sentence about depth that cannot be right.
    """

    def __init__(self, unit: float | None, intrinsics: Intrinsics | None, axes: str | None, where: str) -> None:
        self.unit, self.intrinsics, self.axes, self.where = unit, intrinsics, axes, where
        self.notes: list[str] = []
        self._weighed = False
        if unit is not None and not 0 < unit < math.inf:
            raise DataError(f"{where}: depth_unit = {unit} is no number of metres per count", "millimetres are 0.001")
        if intrinsics and not (min(intrinsics[:2]) > 0 and all(map(math.isfinite, intrinsics))):
            raise DataError(f"{where}: {intrinsics} is no camera", "fx and fy are above 0")
        if axes is not None and axes not in CODES:
            hint = "three letters, of R or L, D or U, F or B one each: RDF is x right, y down, z forward"
            raise DataError(f"{where}: normals_axes = {axes!r} names no axes", hint)

    @classmethod
    def read(cls, root: Path, unit: float | None, intrinsics: Intrinsics | None, beside: Collection[str] = ()) -> SurfaceScheme:
        """Read `root/meta.json` if it is there; a `unit` or `intrinsics` that are given stand in for what it says.

        Args:
            root: Folder of the data.
            unit: Metres per count of an integer file.
            intrinsics: The camera.
            beside: Keys that mean something to another reader of the same file.

        Raises:
            DataError: What it says means nothing.
        """
        path = root / "meta.json"
        stated = read_json(path) if path.is_file() else {}
        if not isinstance(stated, dict):
            raise DataError(f"{path}: expected an object", 'such as {"depth_unit": 0.001, "fx": 525.0, ...}')
        given = [name for name in KEYS if name in stated]
        if given and len(given) < len(KEYS):
            raise DataError(f"{path}: {', '.join(given)} without {', '.join(n for n in KEYS if n not in given)}")
        try:
            unit = unit if unit is not None or "depth_unit" not in stated else float(stated["depth_unit"])
            intrinsics = intrinsics or (Intrinsics(*(float(stated[name]) for name in KEYS)) if given else None)
        except (TypeError, ValueError) as error:
            raise DataError(f"{path}: {error}", "depth_unit, fx, fy, cx and cy are numbers") from None
        scheme = cls(unit, intrinsics, _text(stated, "normals_axes"), str(path))
        known = ("depth_unit", *KEYS, "normals_axes")
        if strange := [key for key in stated if key not in (*known, *beside)]:
            scheme.notes.append(f"{path}: {', '.join(strange)} mean nothing here; what is read is {', '.join(known)}")
        return scheme

    def decode_depth(self, path: Path) -> Depth:
        """Return the depth in `path`, counts by `unit`, floats as metres; 0, negative, infinite and NaN are no readings.

        Raises:
            DataError: The file is damaged or no depth, or holds counts whose unit is not known.
        """
        values = _array(path, 1)[..., 0] if path.suffix.lower() == ".npy" else decode_values(path)
        factor = 1.0
        if np.issubdtype(values.dtype, np.integer):
            if self.unit is None:
                hint = "set data.depth_unit, or depth_unit in meta.json: 0.001 for millimetres"
                raise DataError(f"{path} holds counts, and it is not known how many metres one is", hint)
            factor = self.unit
        metres = values.astype(np.float32) * np.float32(factor)
        metres[~(np.isfinite(metres) & (metres > 0))] = np.nan
        self._weigh(metres, factor, path)
        return Depth(torch.from_numpy(metres), Frame.of(metres.shape))

    def _weigh(self, metres: NDArray[np.float32], factor: float, path: Path) -> None:
        """Note once a depth that nobody measures, and the unit that would make it plausible."""
        readings = metres[::4, ::4][np.isfinite(metres[::4, ::4])]
        if self._weighed or not readings.size or PLAUSIBLE[0] <= (median := float(np.median(readings))) <= PLAUSIBLE[1]:
            return
        self._weighed = True
        guess = next((u for u in UNITS if PLAUSIBLE[0] <= median / factor * u <= PLAUSIBLE[1]), None)
        meant = f"; in {UNITS[guess]} (depth_unit {guess:g}) it would be {median / factor * guess:.3g} m" if guess else ""
        self.notes.append(f"{path}: the median depth is {median:.4g} m, so the unit is probably wrong{meant}")

    def decode_normals(self, path: Path) -> Normals:
        """Return the normals in `path`, of length 1 and in our axes; what has next to no length, or is black, is unknown.

        An image holds (n + 1) / 2 of 8 bits per channel, a `.npy` file n itself as (H, W, 3).

        Raises:
            DataError: The file is damaged, a length is not 1, the axes are not known, or most normals face away.
        """
        if self.axes is None:
            hint = 'write {"normals_axes": "RDF"} (x right, y down, z forward) or "RUB" (right, up, backward: blue) into it'
            raise DataError(f"{self.where} does not say where the channels of {path} point", hint)
        if path.suffix.lower() == ".npy":
            stored = torch.from_numpy(_array(path, 3).astype(np.float32)).permute(2, 0, 1)
        else:
            pixels = decode_image(path)
            stored = torch.where((pixels == 0).all(0), math.nan, pixels.float() / 127.5 - 1)
        vectors = _in_our_axes(_unit(stored, path), self.axes)
        if (vectors[2] > 0).sum() > (vectors[2] < 0).sum():
            raise DataError(f"{path}: most normals face away from the camera", f"normals_axes is probably not {self.axes!r}")
        return Normals(vectors, Frame.of(vectors.shape[1:]))

    def normals(self, depth: Depth, path: Path) -> Normals:
        """Return the normals of a depth map, by plane fits (see `normals_from_depth`).

        Raises:
            DataError: The camera is not known.
        """
        if self.intrinsics is None:
            raise DataError(f"normals from {path} need the camera", CAMERA_HINT)
        return Normals(normals_from_depth(depth.metres, self.intrinsics), depth.frame)


def _text(stated: dict[str, Any], key: str) -> str | None:
    return str(stated[key]) if key in stated else None


def _array(path: Path, channels: int) -> NDArray[Any]:
    """Return the numbers of a `.npy` file as (H, W, channels).

    Raises:
        DataError: It is damaged, too large, of another shape, or of no numbers.
    """
    try:
        # mapped, so that a header that promises more than there is takes no memory; unlike numpy.load it opens no archives
        values: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise DataError(f"no such file: {path}") from None
    except Exception as error:  # a hostile header fails in many ways: ValueError, SyntaxError, TokenError, OverflowError
        raise DataError(f"{path}: no readable .npy file ({error})", SKIP_HINT) from None
    if values.size > PIXEL_LIMIT * channels:
        raise DataError(f"{path}: shape {values.shape} is larger than {PIXEL_LIMIT} pixels", SKIP_HINT)
    if values.ndim == 2 and channels == 1:
        values = values[..., None]
    if values.ndim != 3 or values.shape[-1] != channels or 0 in values.shape or values.dtype.kind not in "fiu":
        raise DataError(f"{path}: expected (H, W, {channels}) numbers, found {values.dtype} of shape {values.shape}", SKIP_HINT)
    return values


def _unit(vectors: Tensor, path: Path) -> Tensor:
    """Return vectors (3, H, W) at length 1, NaN where they have none."""
    length = torch.linalg.vector_norm(vectors, dim=0)
    unknown = ~length.isfinite() | (length <= NO_LENGTH)
    wrong = ~unknown & ((length < UNIT_LENGTH[0]) | (length > UNIT_LENGTH[1]))
    if wrong.any():
        y, x = wrong.nonzero()[0].tolist()
        what = f"the normal at (x={x}, y={y}) has length {float(length[y, x]):.3g}, not 1"
        raise DataError(f"{path}: {what}", f"lengths from {UNIT_LENGTH[0]} to {UNIT_LENGTH[1]} are brought to 1; 0 is unknown")
    return torch.where(unknown, math.nan, vectors / length)


def _in_our_axes(vectors: Tensor, axes: str) -> Tensor:
    ours = torch.empty_like(vectors)
    for channel, (axis, sign) in zip(vectors, (AXES[letter] for letter in axes), strict=True):
        ours[axis] = sign * channel
    return ours
