"""What the codecs of key points have in common: labelled points go in, points with a confidence come out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from pixelwise.codecs.codec import Codec, Points, at_least_one
from pixelwise.errors import DataError

Targets = dict[str, Tensor]


class PointsCodec(Codec[Targets]):
    """Answers by K points and their confidence.

    Attributes:
        points: Number of points K.
        swap: Which point takes each point's name in a mirror.
        kind: Name of the loss.
    """

    units: ClassVar[Mapping[str, str]] = {"points": "x, y in pixels of the input", "confidence": "0 to 1"}
    points: int
    swap: tuple[int, ...]
    kind: str

    def answers(self, outputs: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
        """Return `points` and `confidence` as `decode` does."""
        decoded: Points = self.decode(outputs, size)
        return decoded._asdict()


class SheetsCodec(PointsCodec):
    """Answers that are read from sheets, one for each point.

    Attributes:
        stride: Input pixels per pixel of the sheets.
    """

    stride: int

    @property
    def channels(self) -> int:
        """One sheet per point."""
        return self.points

    @property
    def scale(self) -> float:
        """One output pixel per `stride` input pixels."""
        return 1 / self.stride


def only_one(points: Tensor, presence: Tensor) -> tuple[Tensor, Tensor]:
    """Return the points `(B, K, 2)` and presence `(B, K)` of the one instance in `(B, N, K, 2)` and `(B, N, K)`.

    Where N = 0 they are UNKNOWN.

    Raises:
        DataError: More than one instance per image.
    """
    points, presence = at_least_one(points, presence)
    if points.shape[1] > 1:
        raise DataError(
            f"{points.shape[1]} objects in one image, but this target can answer for one only",
            "use task.target=heatmaps, or crop the image around each object",
        )
    return points[:, 0], presence[:, 0]
