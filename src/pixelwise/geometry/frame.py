"""The Frame remembers how a picture got here from the original, so that every answer can go back to its pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pixelwise.geometry.homography import Matrix, Size, scaling


@dataclass(frozen=True, eq=False)
class Frame:
    """A homography from an original picture's pixels to the pixels here.

    Attributes:
        matrix: 3x3 float64, original -> here.
        original_size: (height, width) of the original.
        size: (height, width) here.
    """

    matrix: Matrix
    original_size: Size
    size: Size

    @classmethod
    def of(cls, size: Sequence[int]) -> Frame:
        """Return the Frame of an original picture of `size` (height, width): nothing moved yet."""
        height, width = size
        return cls(np.eye(3), (height, width), (height, width))

    def then(self, matrix: Matrix, size: Size) -> Frame:
        """Return this Frame followed by `matrix` (3x3, here -> there) onto a picture of `size`."""
        return Frame(matrix @ self.matrix, self.original_size, size)

    @property
    def inverse(self) -> Matrix:
        """The 3x3 matrix from the pixels here back to the original's pixels."""
        return np.linalg.inv(self.matrix)

    def scaled(self, scale: float) -> Frame:
        """Return the Frame of maps with `scale` pixels per pixel here, e.g. 1/stride, or 4 for super-resolution.

        A size that does not divide is rounded up, as strided convolutions do.
        """
        height, width = (math.ceil(round(n * scale, 6)) for n in self.size)
        return self.then(scaling(scale, scale), (height, width))
