"""What the network sees of a sample: the View fits any picture, the Augment varies it, both in ONE homography."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
import torch
from pydantic import Field as Setting
from pydantic import model_validator
from torch import Tensor

from pixelwise.config import Config
from pixelwise.data.sample import Field, Image, LabelMap, Sample
from pixelwise.errors import DataError, UsageError
from pixelwise.geometry.homography import (
    Matrix,
    Size,
    about,
    compose,
    horizontal_flip,
    letterbox,
    resize,
    rotation,
    scaling,
    translation,
)
from pixelwise.geometry.skeleton import Skeleton, one_sided
from pixelwise.geometry.warp import resize_bicubic, resize_nearest

Fraction = Annotated[float, Setting(ge=0, le=1)]
LUMA = (0.299, 0.587, 0.114)


class View(Config):
    """How pictures of any size come to the network's size."""

    size: Annotated[tuple[int, int], Setting(description="(height, width) the network sees in training")]
    fit: Annotated[
        Literal["stretch", "letterbox", "native"],
        Setting(description="stretch to the size, fit whole inside it, or keep native pixels (training crops)"),
    ] = "stretch"
    load_size: Annotated[
        tuple[int, int] | None, Setting(description="resize to this first (bicubic) and train on random crops of it")
    ] = None

    @model_validator(mode="after")
    def _positive(self) -> Self:
        if min(*self.size, *(self.load_size or self.size)) < 1:
            raise ValueError("a size is (height, width), both at least 1")
        if self.load_size and self.fit != "stretch":
            raise ValueError("load_size goes with fit=stretch")
        return self

    def frame_matrix(self, original_size: Size) -> tuple[Matrix, Size]:
        """Return the homography and size with which evaluation and prediction see a picture of `original_size`."""
        if self.fit == "native":
            return np.eye(3), original_size
        fit = letterbox if self.fit == "letterbox" else resize
        return fit(original_size, self.size), self.size

    def base(self, sample: Sample) -> Sample:
        """Return what augmentation starts from: the original, or with `load_size` the sample resized to it."""
        return sample if self.load_size is None else self.model_copy(update={"size": self.load_size}).fitted(sample)

    def fitted(self, sample: Sample) -> Sample:
        """Return the sample as evaluation and prediction see it; with `load_size` pictures are resized bicubically."""
        return Sample(sample.key, {name: self._fitted(field) for name, field in sample.fields.items()})

    def _fitted(self, field: Field) -> Field:
        matrix, size = self.frame_matrix(field.frame.size)
        if self.load_size and isinstance(field, Image) and field.pixels.dtype == torch.uint8:
            return Image(resize_bicubic(field.pixels, size), field.frame.then(matrix, size))
        if self.load_size and isinstance(field, LabelMap):
            return LabelMap(resize_nearest(field.labels, size), field.frame.then(matrix, size))
        return field.warp(matrix, size)


class Photometric(NamedTuple):
    """Changes of colour: factors of brightness, contrast and saturation, and a turn of the hue (1 is a whole turn)."""

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0

    def __call__(self, image: Tensor) -> Tensor:
        """Return `image` recoloured, clipped to its range.

        All four are one affine map of the colour: the brightness scales it, the contrast its distance from the mean
        luma of the picture, the saturation its distance from its own luma, and the hue turns it about the grey axis
        (Haeberli, "Matrix operations for image processing", 1993). Grey stays grey.

        Args:
            image: (C, H, W) uint8 [0, 255] or floating [0, 1]; saturation and hue act on 3 channels only.

        Returns:
            (C, H, W), dtype of `image`.
        """
        values = image.float()
        channels = len(values)
        luma = values.new_tensor(LUMA if channels == 3 else [1 / channels] * channels)
        colour = values.new_tensor(self._colour()) if channels == 3 else torch.eye(channels)
        mean = luma @ values.mean((1, 2))
        gain, offset = self.brightness * self.contrast, self.brightness * (1 - self.contrast) * mean
        recoloured = torch.addmm(offset, gain * colour, values.flatten(1)).view_as(values)
        if image.dtype == torch.uint8:
            return recoloured.round_().clamp_(0, 255).byte()
        return recoloured.clamp_(0, 1).to(image.dtype)

    def _colour(self) -> list[list[float]]:
        """The 3x3 matrix of saturation, then hue (a rotation about (1, 1, 1), Rodrigues' formula)."""
        cosine, sine = math.cos(2 * math.pi * self.hue), math.sin(2 * math.pi * self.hue) / math.sqrt(3)
        cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
        turn = cosine * np.eye(3) + (1 - cosine) / 3 + sine * cross
        saturate = self.saturation * np.eye(3) + (1 - self.saturation) * np.array(LUMA)
        matrix: list[list[float]] = (turn @ saturate).tolist()
        return matrix


@dataclass(frozen=True, eq=False)
class Draw:
    """One draw of the augmentation: a homography onto `size`, and changes of colour if any."""

    matrix: Matrix
    size: Size
    photometric: Photometric | None

    def apply(self, sample: Sample, inputs: Sequence[str]) -> Sample:
        """Return `sample` warped once; the pictures named in `inputs` are recoloured, targets keep their colours."""
        warped = sample.warp(self.matrix, self.size)
        if self.photometric is None:
            return warped
        fields = dict(warped.fields)
        for name in inputs:
            field = fields.get(name)
            if isinstance(field, Image):
                fields[name] = Image(self.photometric(field.pixels), field.frame)
        return Sample(warped.key, fields)


class Augment(Config):
    """How much training samples are varied; each number is the largest change, 0 is none."""

    flip: Annotated[Fraction, Setting(description="probability of a horizontal mirror")] = 0.0
    quarter_turns: Annotated[
        Fraction,
        Setting(description="probability of turning by 0, 90, 180 or 270 degrees, each as likely; exact"),
    ] = 0.0
    rotate: Annotated[float, Setting(ge=0, le=180, description="degrees, either way")] = 0.0
    scale: Annotated[tuple[float, float], Setting(description="smallest and largest zoom, log-uniform")] = (1.0, 1.0)
    translate: Annotated[Fraction, Setting(description="shift as a fraction of the size, in whole pixels")] = 0.0
    brightness: Annotated[Fraction, Setting(description="factor 1 +- this")] = 0.0
    contrast: Annotated[Fraction, Setting(description="factor 1 +- this")] = 0.0
    saturation: Annotated[Fraction, Setting(description="factor 1 +- this")] = 0.0
    hue: Annotated[float, Setting(ge=0, le=0.5, description="turn of the colour circle, either way")] = 0.0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError("scale is (smallest, largest), both above 0")
        return self

    def draw(self, rng: np.random.Generator, base_size: Size, view: View) -> Draw:
        """Draw one augmentation; every setting has its own random number, so changing one leaves the others alone.

        Args:
            rng: Source of exactly 12 uniform numbers.
            base_size: (height, width) of `view.base(sample)`.
            view: What the network sees.

        Returns:
            The homography from the base to `view.size`: the fit or a random whole-pixel crop, then zoom and rotation
            about the centre, shift, mirror and quarter turns. A crop without zoom and rotation copies pixels exactly.
        """
        u = rng.random(12).tolist()
        turns = int(u[11] / self.quarter_turns * 4) if u[11] < self.quarter_turns else 0
        upright = view.model_copy(update={"size": view.size[::-1]}) if turns % 2 else view
        matrix = _quarter_turns(turns, upright.size) @ self._turn(u[:5], _fit(u[5:7], base_size, upright), upright.size)
        limits = (self.brightness, self.contrast, self.saturation, self.hue)
        changes = [limit * (2 * v - 1) for limit, v in zip(limits, u[7:11], strict=True)]
        brightness, contrast, saturation, hue = changes
        colour = Photometric(1 + brightness, 1 + contrast, 1 + saturation, hue) if any(limits) else None
        return Draw(matrix, view.size, colour)

    def _turn(self, u: list[float], matrix: Matrix, size: Size) -> Matrix:
        height, width = size
        if self.rotate or self.scale != (1.0, 1.0):
            low, high = self.scale
            zoom, degrees = low * (high / low) ** u[0], self.rotate * (2 * u[1] - 1)
            matrix = compose(matrix, about(scaling(zoom, zoom) @ rotation(degrees), (width / 2, height / 2)))
        if self.translate:
            x, y = (round(self.translate * n * (2 * v - 1)) for n, v in ((width, u[2]), (height, u[3])))
            matrix = translation(x, y) @ matrix
        return horizontal_flip(width) @ matrix if u[4] < self.flip else matrix


def require_twins(skeleton: Skeleton, augment: Augment, flip_test: bool) -> None:
    """Check that no picture is mirrored in which a point would take the name of the other side and there is no such name.

    Raises:
        UsageError: A point has a side and no twin.
    """
    alone = one_sided(skeleton)
    if alone and (augment.flip or flip_test):
        setting = "augment.flip" if augment.flip else "task.flip_test"
        what = f"{setting} mirrors pictures, but {', '.join(alone[:3])} has a side and no twin that takes its name"
        hint = "set augment.flip=0 and task.flip_test=false, or pair the points with swap in the data"
        raise UsageError(what, hint)


def require_no_fill(view: View, augment: Augment) -> None:
    """Check that no fill is seen where a picture ends, because a network that paints pictures would learn to paint it.

    Raises:
        UsageError: Pictures are turned, moved or shrunken.
    """
    if augment.rotate or augment.translate or augment.scale[0] < 1 or view.fit == "letterbox":
        raise UsageError(
            "translation would learn the fill around turned, moved or shrunken pictures",
            "leave augment.rotate and augment.translate at 0, augment.scale at 1 or more, view.fit at stretch or native",
        )
    if view.load_size and any(here < there for here, there in zip(view.load_size, view.size, strict=True)):
        (height, width), (down, across) = view.load_size, view.size
        what = f"view.load_size={height}x{width} is smaller than the crop view.size={down}x{across}"
        raise UsageError(what, "crops are cut from pictures of load_size; as published it is 286x286 for 256x256")


def require_filled(where: str, base_size: Size, view: View) -> None:
    """Check that a picture of `base_size` (height, width), as `view.base` gives it, is no smaller than the crops of training.

    Raises:
        DataError: It is; `where` says which picture.
    """
    cropped = view.fit == "native" or view.load_size is not None
    if cropped and any(here < there for here, there in zip(base_size, view.size, strict=True)):
        (height, width), (down, across) = base_size, view.size
        hint = f"enlarge all pictures first with view.fit=stretch view.load_size={down}x{across}, or set a smaller view.size"
        raise DataError(f"{where}: {width}x{height} pixels are smaller than the crop of {across}x{down}", hint)


def _quarter_turns(count: int, size: Size) -> Matrix:
    """Return so many clockwise quarter turns of a picture of `size` (height, width) onto its own place or its transposed."""
    height, width = size
    turns = {
        0: [[1, 0, 0], [0, 1, 0]],
        1: [[0, -1, height], [1, 0, 0]],
        2: [[-1, 0, width], [0, -1, height]],
        3: [[0, 1, 0], [-1, 0, width]],
    }
    return np.array([*turns[count], [0, 0, 1]], np.float64)


def _fit(u: list[float], base_size: Size, view: View) -> Matrix:
    """Place the base in the view: fitted as in evaluation, or a random whole-pixel crop (a smaller base fits in)."""
    if view.load_size is None and view.fit != "native":
        return view.frame_matrix(base_size)[0]
    y, x = (math.floor(v * (abs(there - here) + 1)) for v, here, there in zip(u, base_size, view.size, strict=True))
    down, right = (1 if there > here else -1 for here, there in zip(base_size, view.size, strict=True))
    return translation(right * x, down * y)
