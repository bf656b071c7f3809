"""A Sample is one example: typed fields that all know how to move under the same homography."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pixelwise.errors import DataError
from pixelwise.geometry.frame import Frame
from pixelwise.geometry.homography import Matrix, Size, area_growth, is_mirror, scaling, transform_points
from pixelwise.geometry.presence import Presence as Presence
from pixelwise.geometry.warp import warp_depth, warp_image, warp_labels, warp_marks, warp_normals

Batch = dict[str, Tensor]


class Field(ABC):
    """One part of a sample: immutable, and aware of the Frame it is in."""

    frame: Frame
    padding: ClassVar[dict[str, float]] = {}
    """Fields with a number of instances: what fills each tensor up to the batch's largest number."""

    @abstractmethod
    def warp(self, matrix: Matrix, size: Size) -> Self:
        """Return the field moved by `matrix` (3x3, here -> there) onto a picture of `size` (height, width)."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Return the field's tensors by suffix; the suffix of the main one is empty."""


@dataclass(frozen=True, eq=False)
class Image(Field):
    """A picture: `pixels` (C, H, W), uint8 [0, 255] (or floating [0, 1]), RGB or grey."""

    pixels: Tensor
    frame: Frame

    def warp(self, matrix: Matrix, size: Size, fill: float | Literal["edge"] = 0.0) -> Image:
        """Return the picture warped once, antialiased where it shrinks; `fill` stands outside the source."""
        return Image(warp_image(self.pixels, matrix, size, fill=fill), self.frame.then(matrix, size))

    def tensors(self) -> dict[str, Tensor]:
        """Return the pixels (C, H, W)."""
        return {"": self.pixels}


@dataclass(frozen=True, eq=False)
class FineImage(Field):
    """A picture on a grid `scale` times as fine as that of the other fields, which its frame is of; moves as they do.

    Attributes:
        pixels: (C, scale H, scale W), uint8 [0, 255] or floating [0, 1].
        frame: Of the coarse grid: its size is (H, W).
        scale: Fine pixels per coarse pixel.
        grey: Whether its file holds one channel, of which the pixels are three copies.
    """

    pixels: Tensor
    frame: Frame
    scale: int
    grey: bool = False

    def warp(self, matrix: Matrix, size: Size) -> FineImage:
        """Return the picture moved by the homography that moves the coarse grid by `matrix` onto `size`."""
        fine = scaling(self.scale, self.scale) @ matrix @ scaling(1 / self.scale, 1 / self.scale)
        pixels = warp_image(self.pixels, fine, (self.scale * size[0], self.scale * size[1]))
        return FineImage(pixels, self.frame.then(matrix, size), self.scale, self.grey)

    def tensors(self) -> dict[str, Tensor]:
        """Return the pixels (C, scale H, scale W)."""
        return {"": self.pixels}


@dataclass(frozen=True, eq=False)
class LabelMap(Field):
    """A class per pixel: `labels` (H, W), uint8 (int16 beyond 254 classes); 255 is unknown."""

    labels: Tensor
    frame: Frame

    def warp(self, matrix: Matrix, size: Size) -> LabelMap:
        """Return the nearest labels; unknown outside the source."""
        return LabelMap(warp_labels(self.labels, matrix, size), self.frame.then(matrix, size))

    def tensors(self) -> dict[str, Tensor]:
        """Return the labels (H, W)."""
        return {"": self.labels}


@dataclass(frozen=True, eq=False)
class Masks(Field):
    """Which of L things, that may overlap, are at a pixel: `masks` (L, H, W) uint8: 1 in it, 0 outside, 255 unknown."""

    masks: Tensor
    frame: Frame

    def warp(self, matrix: Matrix, size: Size) -> Masks:
        """Return the nearest values; unknown outside the source."""
        return Masks(warp_labels(self.masks, matrix, size), self.frame.then(matrix, size))

    def tensors(self) -> dict[str, Tensor]:
        """Return the masks (L, H, W)."""
        return {"": self.masks}


@dataclass(frozen=True, eq=False)
class Depth(Field):
    """Distance along the camera's axis: `metres` (H, W) float32; NaN is unknown.

    A zoom is another lens, not another place: the scene stays where it is, so metres stay as they are, and what follows from
    depth and camera does so with `Intrinsics.moved`. How large a thing looks then tells its distance no longer: a network that
    is to learn metres of one camera should not see its training pictures zoomed.
    """

    metres: Tensor
    frame: Frame

    def warp(self, matrix: Matrix, size: Size) -> Depth:
        """Return the nearest depths; NaN outside the source."""
        return Depth(warp_depth(self.metres, matrix, size), self.frame.then(matrix, size))

    def tensors(self) -> dict[str, Tensor]:
        """Return the depth (H, W)."""
        return {"": self.metres}


@dataclass(frozen=True, eq=False)
class Normals(Field):
    """Surface directions: `vectors` (3, H, W) float32 of length 1; x right, y down, z forward: z < 0; NaN unknown."""

    vectors: Tensor
    frame: Frame

    def warp(self, matrix: Matrix, size: Size) -> Normals:
        """Return the nearest normals, turned and mirrored with the picture; NaN outside the source."""
        return Normals(warp_normals(self.vectors, matrix, size), self.frame.then(matrix, size))

    def tensors(self) -> dict[str, Tensor]:
        """Return the normals (3, H, W)."""
        return {"": self.vectors}


@dataclass(frozen=True, eq=False)
class Boundaries(Field):
    """What A annotators drew: `drawn` (A, H, W) float32, 1 on a boundary, 0 elsewhere, NaN unknown; in between if averaged."""

    drawn: Tensor
    frame: Frame

    def warp(self, matrix: Matrix, size: Size) -> Boundaries:
        """Return each annotator's boundary moved by itself, so that no line is lost where the picture shrinks."""
        return Boundaries(warp_marks(self.drawn, matrix, size), self.frame.then(matrix, size))

    def tensors(self) -> dict[str, Tensor]:
        """Return the share of the annotators that drew a boundary (H, W); NaN where it is unknown."""
        return {"": self.drawn.mean(0)}


@dataclass(frozen=True, eq=False)
class Keypoints(Field):
    """Named points of N instances.

    Attributes:
        points: (N, K, 2) float32, (x, y) in pixels; NaN where there is no coordinate.
        presence: (N, K) uint8 of `Presence`.
        frame: Where the points are.
        swap: Which point takes each point's name in a mirror (left and right exchanged); empty if none does.
        areas: (N,) float32, how many pixels^2 each object covers, as COCO's `area`; NaN where unknown, by default everywhere.
    """

    points: Tensor
    presence: Tensor
    frame: Frame
    swap: tuple[int, ...] = ()
    areas: Tensor = None  # type: ignore[assignment]  # never None after __post_init__
    padding: ClassVar[dict[str, float]] = {"": nan, "presence": Presence.UNKNOWN, "areas": nan}

    def __post_init__(self) -> None:
        if self.areas is None:
            object.__setattr__(self, "areas", torch.full((len(self.points),), nan))

    def warp(self, matrix: Matrix, size: Size) -> Keypoints:
        """Return the moved points; one that left the picture is ABSENT, an unknown one stays UNKNOWN.

        An area grows as pixels do at the mean of the object's points.
        """
        points, presence = transform_points(matrix, self.points), self.presence
        areas = self.areas * area_growth(matrix, self.points.nanmean(1))
        if self.swap and is_mirror(matrix):
            order = list(self.swap)
            points, presence = points[:, order], presence[:, order]
        x, y = points.unbind(-1)
        left = (x < 0) | (x >= size[1]) | (y < 0) | (y >= size[0])
        presence = presence.masked_fill(left & (presence >= Presence.HIDDEN), Presence.ABSENT)
        return Keypoints(points, presence, self.frame.then(matrix, size), self.swap, areas)

    def tensors(self) -> dict[str, Tensor]:
        """Return the points (N, K, 2), their presence (N, K) and the areas (N,)."""
        return {"": self.points, "presence": self.presence, "areas": self.areas}


@dataclass(frozen=True, eq=False)
class Boxes(Field):
    """Upright rectangles: `boxes` (N, 4) float32 of x0, y0, x1, y1 in pixels and `categories` (N,) int64."""

    boxes: Tensor
    categories: Tensor
    frame: Frame
    padding: ClassVar[dict[str, float]] = {"": nan, "categories": -1}

    def warp(self, matrix: Matrix, size: Size) -> Boxes:
        """Return the upright hulls of the moved boxes, clipped to the picture; those wholly outside are dropped."""
        corners = transform_points(matrix, self.boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2))
        border = corners.new_tensor([size[1], size[0]])
        low, high = (torch.minimum(c.clamp(min=0), border) for c in (corners.amin(1), corners.amax(1)))
        inside = (low < high).all(-1)
        boxes = torch.cat([low, high], -1)[inside]
        return Boxes(boxes, self.categories[inside], self.frame.then(matrix, size))

    def tensors(self) -> dict[str, Tensor]:
        """Return the boxes (N, 4) and their categories (N,)."""
        return {"": self.boxes, "categories": self.categories}


@dataclass(frozen=True, eq=False)
class Category(Field):
    """One class for the whole picture, -1 if it is unknown; no homography changes it."""

    index: int
    frame: Frame

    def warp(self, matrix: Matrix, size: Size) -> Category:
        """Return the same category in the moved frame."""
        return Category(self.index, self.frame.then(matrix, size))

    def tensors(self) -> dict[str, Tensor]:
        """Return the index, () int64."""
        return {"": torch.tensor(self.index)}


@dataclass(frozen=True, eq=False)
class Values(Field):
    """Numbers for the whole picture; no homography changes them.

    Attributes:
        values: (N,) float32 measures, or for labels 1 where one applies and 0 where it does not; NaN is unknown.
        frame: Of the picture.
    """

    values: Tensor
    frame: Frame

    def warp(self, matrix: Matrix, size: Size) -> Values:
        """Return the same values in the moved frame."""
        return Values(self.values, self.frame.then(matrix, size))

    def tensors(self) -> dict[str, Tensor]:
        """Return the values (N,)."""
        return {"": self.values}


@dataclass(frozen=True, eq=False)
class Sample:
    """One example: its key (unique in the dataset) and its fields by name."""

    key: str
    fields: dict[str, Field]

    def __getitem__(self, name: str) -> Field:
        return self.fields[name]

    def warp(self, matrix: Matrix, size: Size) -> Sample:
        """Return the sample with every field moved by `matrix` (3x3) onto a picture of `size` (height, width)."""
        return Sample(self.key, {name: field.warp(matrix, size) for name, field in self.fields.items()})


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples into one batch.

    Args:
        samples: At least one, all with the same fields; maps of one field have one size.

    Returns:
        Tensors by "field" or "field.suffix" with a leading batch axis. Keypoints and Boxes are padded to the largest
        number of instances (points, areas and boxes NaN, presence UNKNOWN, category -1).

    Raises:
        DataError: The maps of a field differ in shape.
    """
    batch = {}
    for name, field in samples[0].fields.items():
        columns = [sample.fields[name].tensors() for sample in samples]
        for suffix in columns[0]:
            key = f"{name}.{suffix}" if suffix else name
            batch[key] = _stack(key, [column[suffix] for column in columns], field.padding.get(suffix))
    return batch


def _stack(key: str, tensors: list[Tensor], padding: float | None) -> Tensor:
    shapes = {tensor.shape for tensor in tensors}
    if len(tensors) == 1:
        return tensors[0][None].contiguous()  # what is not a view of the cache need not be copied again
    if len(shapes) == 1:
        return torch.stack(tensors)
    if padding is None:
        found = " and ".join(str(tuple(shape)) for shape in sorted(shapes))
        raise DataError(f"one batch holds {key!r} of different shapes: {found}", "set data.view to give all one size")
    return pad_sequence(tensors, batch_first=True, padding_value=padding)
