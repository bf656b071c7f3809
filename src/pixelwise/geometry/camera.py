"""The pinhole camera: from depth to points in space and to the directions of surfaces (Hartley and Zisserman 2004, chapter 6).

Axes are the camera's own: x right, y down, z forward. A pixel's centre is its index + 0.5, as everywhere; intrinsics stated for
centres at whole numbers become ours when 0.5 is added to cx and cy.
"""

from __future__ import annotations

import math
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pixelwise.errors import DataError
from pixelwise.geometry.homography import Matrix, Size, resize

SAME_PROPORTIONS = 0.02
"""Relative difference of width / height up to which two pictures are taken to be of one camera."""


class Intrinsics(NamedTuple):
    """Focal lengths and principal point of a pinhole camera, in pixels: (X, Y, Z) is seen at (fx X/Z + cx, fy Y/Z + cy)."""

    fx: float
    fy: float
    cx: float
    cy: float

    def moved(self, matrix: Matrix) -> Intrinsics:
        """Return the camera that sees the picture after a homography, with the scene turned or mirrored as `warp_normals` does.

        A zoom is another focal length, a shift another principal point; a turn rolls the scene about the camera's axis and
        a mirror mirrors it. Depth stays as it is in all of them.

        Args:
            matrix: 3x3, from the picture's pixels to the pixels there, such as `Frame.matrix`.

        Raises:
            DataError: No pinhole camera without skew sees that: the homography is a perspective or shears.
        """
        if np.abs(matrix[2, :2]).max() > 1e-12:
            raise DataError("a perspective warp is not seen by any camera with the same depth", "leave perspective out")
        rows = matrix[:2, :2] / matrix[2, 2] @ np.diag([self.fx, self.fy])
        fx, fy = (math.hypot(*row) for row in rows.tolist())
        if abs(rows[0] @ rows[1]) > 1e-6 * fx * fy:
            raise DataError("a sheared picture is not seen by any camera without skew", "turn by quarters, or shear nothing")
        cx, cy, w = (matrix @ (self.cx, self.cy, 1.0)).tolist()
        return Intrinsics(fx, fy, cx / w, cy / w)


class Camera(NamedTuple):
    """The camera of a set of pictures: its intrinsics, and the (height, width) of the pictures they are for."""

    intrinsics: Intrinsics
    size: Size

    def of(self, size: Size) -> Intrinsics | None:
        """Return the intrinsics for pictures resized to `size`; None if their proportions are not this camera's."""
        if size == self.size:
            return self.intrinsics
        ratio = size[1] / size[0] * self.size[0] / self.size[1]
        return self.intrinsics.moved(resize(self.size, size)) if abs(math.log(ratio)) < SAME_PROPORTIONS else None


def assumed_intrinsics(size: Size, degrees: float = 60.0) -> Intrinsics:
    """Return a camera for a picture of `size` of which nothing is known: `degrees` across its longer side, centred."""
    height, width = size
    focal = max(size) / 2 / math.tan(math.radians(degrees / 2))
    return Intrinsics(focal, focal, width / 2, height / 2)


def unproject(depth: Tensor, intrinsics: Intrinsics) -> Tensor:
    """Return the points (..., 3, H, W) in metres that are seen at the pixel centres; NaN where the depth is.

    Args:
        depth: (..., H, W), metres along the camera's axis; NaN is unknown.
        intrinsics: For pictures of this size.
    """
    x, y = _slopes(depth, intrinsics)
    return torch.stack([x * depth, y * depth, depth], -3)


def normals_from_depth(
    depth: Tensor, intrinsics: Intrinsics, window: int = 7, *, least: float = 0.5, residual: float = 0.01
) -> Tensor:
    """Fit a plane around every pixel by least squares and return its normal.

    A plane seen by a pinhole camera is linear in the inverse depth, 1/Z = a x + b y + c with (x, y, 1) the ray, so the fit is a
    linear one and exact for planes at any slant; and since the error of stereo and structured light is even in 1/Z, it weighs
    the readings as they deserve. All sums over windows are separable.

    Args:
        depth: (H, W), metres; what is not finite and positive is no reading.
        intrinsics: For pictures of this size.
        window: Side of the window in pixels, odd, at least 3.
        least: Share of the window that must be readings.
        residual: Largest root mean square of the residuals, as a share of the mean inverse depth. Beyond it no plane fits: the
            window holds two surfaces. A jump in depth along the middle of a window is found from 4 % at 0.01.

    Returns:
        (3, H, W), dtype of `depth`, of length 1, facing the camera (z < 0 but for grazing views); NaN where there is no
        reading, too few in the window, or no plane.
    """
    assert window >= 3 and window % 2 == 1, "the window has a middle"
    known = depth.isfinite() & (depth > 0)
    inverse = torch.where(known, depth.double(), 1).reciprocal() * known
    (mask, q, squares) = _moments(torch.stack([known.double(), inverse, inverse.square()]), window)
    count = mask[0, 0].clamp(min=1)
    x, y, mean = mask[1, 0] / count, mask[0, 1] / count, q[0, 0] / count
    xx, yy, xy = mask[2, 0] - count * x * x, mask[0, 2] - count * y * y, mask[1, 1] - count * x * y
    xq, yq, qq = q[1, 0] - count * x * mean, q[0, 1] - count * y * mean, squares[0, 0] - count * mean * mean
    determinant = xx * yy - xy * xy
    solvable = determinant > 1e-9
    divisor = torch.where(solvable, determinant, 1)
    right, down = (yy * xq - xy * yq) / divisor, (xx * yq - xy * xq) / divisor
    error = (qq - right * xq - down * yq).clamp(min=0) / count
    flat = known & solvable & (count >= least * window**2) & (error <= (residual * mean).square())
    across, along = _slopes(inverse, intrinsics)
    a, b, here = right * intrinsics.fx, down * intrinsics.fy, mean - right * x - down * y
    normals = -functional.normalize(torch.stack([a, b, here - a * across - b * along]), dim=0)
    return torch.where(flat, normals, math.nan).to(depth.dtype)


def _slopes(depth: Tensor, intrinsics: Intrinsics) -> tuple[Tensor, Tensor]:
    """Return x (W,) and y (H, 1) of the ray (x, y, 1) through each pixel's centre."""
    height, width = depth.shape[-2:]
    x = torch.arange(width, dtype=torch.float64, device=depth.device) + 0.5
    y = torch.arange(height, dtype=torch.float64, device=depth.device)[:, None] + 0.5
    slopes = (x - intrinsics.cx) / intrinsics.fx, (y - intrinsics.cy) / intrinsics.fy
    return slopes[0].to(depth.dtype), slopes[1].to(depth.dtype)


def _moments(values: Tensor, window: int) -> Tensor:
    """Return (N, 3, 3, H, W): entry [n, i, j] sums x^i y^j times values[n] over the window, x and y from its middle."""
    half = window // 2
    height, width = values.shape[-2:]
    padded = functional.pad(values, (half,) * 4)
    across = values.new_zeros(len(values), 3, height + 2 * half, width)
    down = values.new_zeros(len(values), 3, 3, height, width)
    for step, power in product(range(-half, half + 1), range(3)):
        across[:, power].add_(padded[..., half + step : half + step + width], alpha=step**power)
    for step, power in product(range(-half, half + 1), range(3)):
        down[:, :, power].add_(across[..., half + step : half + step + height, :], alpha=step**power)
    return down
