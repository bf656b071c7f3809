"""Homographies: every motion of a picture is one 3x3 matrix, so that pixels, points and labels move alike.

Coordinates are continuous: pixel i covers [i, i+1), its centre is i + 0.5; x to the right, y down. A matrix is float64
and maps column vectors (x, y, 1) from the source picture to the destination. Sizes are (height, width).
"""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Matrix = npt.NDArray[np.floating[Any]]
Size = tuple[int, int]


def translation(x: float, y: float) -> Matrix:
    """Return the 3x3 matrix that moves by (x, y) pixels."""
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def scaling(x: float, y: float) -> Matrix:
    """Return the 3x3 matrix that scales about the origin, the outer corner of the first pixel."""
    return np.array([[x, 0.0, 0.0], [0.0, y, 0.0], [0.0, 0.0, 1.0]])


def rotation(degrees: float) -> Matrix:
    """Return the 3x3 rotation about the origin; positive degrees turn clockwise on the screen, since y points down."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])


def shear(x: float, y: float) -> Matrix:
    """Return the 3x3 matrix of x' = x + `x` * y and y' = y + `y` * x."""
    return np.array([[1.0, x, 0.0], [y, 1.0, 0.0], [0.0, 0.0, 1.0]])


def horizontal_flip(width: float) -> Matrix:
    """Return the 3x3 mirror x' = width - x of a picture `width` pixels wide."""
    return np.array([[-1.0, 0.0, width], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


def about(matrix: Matrix, centre: tuple[float, float]) -> Matrix:
    """Return `matrix` done about `centre` (x, y) in place of the origin."""
    x, y = centre
    return translation(x, y) @ matrix @ translation(-x, -y)


def resize(from_size: Size, to_size: Size) -> Matrix:
    """Return the 3x3 matrix that stretches a picture of `from_size` onto one of `to_size`."""
    return scaling(to_size[1] / from_size[1], to_size[0] / from_size[0])


def letterbox(from_size: Size, to_size: Size) -> Matrix:
    """Return the 3x3 matrix that fits a picture whole and centred into `to_size`, keeping its proportions.

    The fitted picture is rounded to whole pixels and placed at a whole pixel, so that its border is sharp; its
    proportions are exact to half a pixel.
    """
    scale = min(to / of for to, of in zip(to_size, from_size, strict=True))
    height, width = (max(1, round(n * scale)) for n in from_size)
    return translation((to_size[1] - width) // 2, (to_size[0] - height) // 2) @ resize(from_size, (height, width))


def compose(*matrices: Matrix) -> Matrix:
    """Return the one 3x3 matrix that does all `matrices`; the FIRST argument is done first."""
    return reduce(lambda first, then: then @ first, matrices, np.eye(3))


def transform_points(matrix: Matrix, points: Tensor) -> Tensor:
    """Move points forward.

    Args:
        matrix: 3x3, source -> destination.
        points: (..., 2) floating, (x, y) in source pixels; NaN stays NaN.

    Returns:
        (..., 2) in destination pixels, dtype and device of `points`; computed in float64.
    """
    forward = torch.from_numpy(matrix).to(points.device)
    moved = points.double() @ forward[:, :2].T + forward[:, 2]
    return (moved[..., :2] / moved[..., 2:]).to(points.dtype)


def jacobian(matrix: Matrix, point: tuple[float, float]) -> Matrix:
    """Return the 2x2 derivative of the homography at `point` (x, y): how it scales, turns and mirrors there."""
    x, y, w = matrix @ (*point, 1.0)
    derivative: Matrix = (matrix[:2, :2] - np.outer((x / w, y / w), matrix[2, :2])) / w
    return derivative


def area_growth(matrix: Matrix, points: Tensor) -> Tensor:
    """Return how many destination pixels a source pixel covers at each point: |det J| = |det H| / |w|^3.

    Args:
        matrix: 3x3, source -> destination.
        points: (..., 2) floating, (x, y) in source pixels.

    Returns:
        (...,) of the dtype of `points`; without perspective the same everywhere, NaN points included.
    """
    bottom = torch.from_numpy(np.asarray(matrix[2]))
    w = bottom[2].expand(points.shape[:-1])
    if matrix[2, :2].any():
        w = points.double() @ bottom[:2] + bottom[2]
    growth: Tensor = float(abs(np.linalg.det(matrix))) / w.abs() ** 3
    return growth.to(points.dtype)


def is_mirror(matrix: Matrix) -> bool:
    """Tell whether the homography exchanges left and right, so that a left hand becomes a right hand.

    The sign of the 3x3 determinant is that of the Jacobian wherever the picture is in front of the horizon; without
    perspective it is the sign of the linear part's determinant.
    """
    return bool(np.linalg.det(matrix) * matrix[2, 2] < 0)
