"""Pixels move by ONE inverse warp: every destination pixel looks up where it came from, so nothing is blurred twice.

Whole-pixel motions and mirrors copy pixels exactly; a resize onto whole pixels is an antialiased bilinear resample;
everything else is sampled bilinearly, as the mean of several samples per destination pixel where the picture shrinks.
Labels, depth and normals take the nearest source pixel, since a mean of two classes or surfaces is neither.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F
from torch import Tensor

from pixelwise.geometry.homography import Matrix, Size, jacobian, scaling, translation
from pixelwise.geometry.tiles import Tile, bands
from pixelwise.geometry.unknown import UNKNOWN

TRANSPOSED = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
LARGE = 2**25
"""Pixels above which a picture is not turned into floats as a whole."""
MOST_SAMPLES = 16
"""Bound on the samples per destination pixel and axis, reached only near a perspective's horizon."""


class Placement(NamedTuple):
    """A homography that only resizes to whole pixels, mirrors, and moves by whole pixels."""

    size: Size
    mirrored: tuple[bool, bool]
    top: int
    left: int


def warp_image(
    image: Tensor, matrix: Matrix, size: Size, *, fill: float | Literal["edge"] = 0.0, antialias: bool = True
) -> Tensor:
    """Warp a picture.

    Args:
        image: (C, H, W), uint8 or floating.
        matrix: 3x3, source -> destination.
        size: (height, width) of the destination.
        fill: What lies outside the source, in the image's own units; "edge" repeats the border pixels.
        antialias: Average over each destination pixel where the picture shrinks; else one bilinear sample.

    Returns:
        (C, height, width), dtype of `image`; uint8 is rounded to the nearest level.
    """
    image, matrix = _untransposed(image, matrix)
    placed = _placement(matrix, (image.shape[-2], image.shape[-1]))
    if placed is None or math.prod(placed.size) > 4 * (math.prod(size) + image[0].numel()):  # a great zoom is cropped first
        most = math.prod(size) * LARGE // max(LARGE, image[0].numel())
        parts = [
            _as(_sample(image, translation(0, -band.top) @ matrix, (band.height, band.width), fill, antialias), image.dtype)
            for band in bands(Tile(0, 0, *size), most)
        ]
        return torch.cat(parts, 1)
    if placed.size != image.shape[-2:]:
        image = _as(_resample(image, placed.size, antialias), image.dtype)
    return _place(image, placed, size, fill)


def warp_maps(maps: Tensor, matrix: Matrix, size: Size) -> Tensor:
    """Warp network outputs (C, H, W), floating, onto `size`, e.g. back to the original; border values go on outside."""
    return warp_image(maps, matrix, size, fill="edge")


def warp_labels(labels: Tensor, matrix: Matrix, size: Size, *, ignore: int = UNKNOWN) -> Tensor:
    """Warp label maps (..., H, W) onto `size` by their nearest pixels; `ignore` outside the source."""
    return _nearest(labels, matrix, size, ignore)


def warp_depth(depth: Tensor, matrix: Matrix, size: Size) -> Tensor:
    """Warp depth (H, W) in metres onto `size` by its nearest pixels; NaN outside the source."""
    return _nearest(depth, matrix, size, math.nan)


def warp_normals(normals: Tensor, matrix: Matrix, size: Size) -> Tensor:
    """Warp normals by their nearest pixels and turn them as the picture turns.

    Args:
        normals: (3, H, W) of length 1: x right, y down, z forward; NaN is unknown.
        matrix: 3x3, source -> destination. The orthogonal part of its derivative at the destination's centre (polar
            decomposition) turns or mirrors x and y; a zoom or stretch changes the camera, not the surface.
        size: (height, width) of the destination.

    Returns:
        (3, height, width) of length 1; NaN outside the source and where unknown.
    """
    moved = _nearest(normals, matrix, size, math.nan)
    backward = jacobian(np.linalg.inv(matrix), (size[1] / 2, size[0] / 2))
    left, _, right = np.linalg.svd(backward)
    turn = torch.from_numpy((left @ right).T).to(moved)
    turned = torch.cat([torch.einsum("ij,jhw->ihw", turn, moved[:2]), moved[2:]])
    return F.normalize(turned, dim=0)


def warp_marks(marks: Tensor, matrix: Matrix, size: Size) -> Tensor:
    """Warp thin marks (..., H, W), floating: nearest pixels, and where the picture shrinks the largest of those in a pixel.

    So a line that a mean would make faint stays as strong as it was.

    Returns:
        (..., height, width); NaN outside the source, and where a pixel holds anything unknown.
    """
    steps = [np.hypot(*derivative) for derivative in _derivatives(matrix, size)]
    columns, rows = (min(MOST_SAMPLES, math.ceil(step - 1e-6)) for step in np.max(steps, 0))
    fine = _nearest(marks, scaling(columns, rows) @ matrix, (size[0] * rows, size[1] * columns), math.nan)
    return fine.view(*marks.shape[:-2], size[0], rows, size[1], columns).amax((-3, -1))


def resize_bicubic(image: Tensor, size: Size) -> Tensor:
    """Resize a uint8 picture (C, H, W) to `size` as Pillow's antialiased bicubic does, bit for bit."""
    height, width = size
    bands = "RGB" if len(image) == 3 else "L"
    parts = [image.permute(1, 2, 0)] if bands == "RGB" else list(image)
    pictures = [PIL.Image.fromarray(np.ascontiguousarray(part.numpy())) for part in parts]
    resized = [picture.resize((width, height), PIL.Image.Resampling.BICUBIC) for picture in pictures]
    planes = [np.frombuffer(picture.tobytes("raw", band), np.uint8) for picture in resized for band in bands]
    return torch.from_numpy(np.stack(planes).reshape(-1, height, width))


def resize_nearest(labels: Tensor, size: Size) -> Tensor:
    """Resize uint8 labels (H, W) to `size` as Pillow does, which decides where a centre falls between two pixels."""
    resized = PIL.Image.fromarray(labels.numpy()).resize((size[1], size[0]), PIL.Image.Resampling.NEAREST)
    return torch.from_numpy(np.array(resized))


def _floating(image: Tensor) -> Tensor:
    return image.to(torch.promote_types(image.dtype, torch.float32)) if image.is_floating_point() else image.float()


def _as(values: Tensor, dtype: torch.dtype) -> Tensor:
    return values.to(dtype) if dtype.is_floating_point else values.round_().clamp_(0, 255).to(dtype)


def _untransposed(maps: Tensor, matrix: Matrix) -> tuple[Tensor, Matrix]:
    """Transpose the maps (..., H, W) where the homography swaps the axes, as quarter turns do, so that it keeps them."""
    (a, b, _), (c, d, _), _ = matrix.tolist()
    return (maps.transpose(-1, -2), matrix @ TRANSPOSED) if b and c and not a and not d else (maps, matrix)


def _placement(matrix: Matrix, source: Size) -> Placement | None:
    """Recognise a homography that copies whole pixels after at most a resize to whole pixels."""
    (a, b, x), (c, d, y), (e, f, g) = matrix.tolist()
    if b or c or e or f or g != 1:
        return None
    other_x, other_y = x + a * source[1], y + d * source[0]
    left, right, top, bottom = round(x), round(other_x), round(y), round(other_y)
    if abs(x - left) + abs(other_x - right) + abs(y - top) + abs(other_y - bottom) > 1e-6:
        return None
    size = (abs(bottom - top), abs(right - left))
    return Placement(size, (d < 0, a < 0), min(top, bottom), min(left, right)) if size[0] and size[1] else None


def _place(maps: Tensor, placed: Placement, size: Size, fill: float | Literal["edge"]) -> Tensor:
    """Copy `maps` (..., h, w), mirrored as asked, to where they belong in a picture of `size`."""
    (height, width), top, left = placed.size, placed.top, placed.left
    mirrored = [axis for axis in (-2, -1) if placed.mirrored[axis]]
    if fill == "edge":
        if max(top, left) > 0 or top + height < size[0] or left + width < size[1]:
            rows = (torch.arange(size[0], device=maps.device) - top).clamp(0, height - 1)
            columns = (torch.arange(size[1], device=maps.device) - left).clamp(0, width - 1)
            return maps.flip(mirrored)[..., rows[:, None], columns]
        fill = 0.0  # there is nothing to fill, and a slice costs no memory
    bottom, right = size[0] - top - height, size[1] - left - width
    if min(top, bottom) <= -height or min(left, right) <= -width:
        return maps.new_full((*maps.shape[:-2], *size), fill)
    if placed.mirrored[0]:
        top, bottom = bottom, top
    if placed.mirrored[1]:
        left, right = right, left
    if max(top, bottom, left, right) > 0:
        maps = F.pad(maps, (left, right, top, bottom), value=fill)
    else:
        maps = maps[..., -top : height + bottom, -left : width + right]
    return maps.flip(mirrored) if mirrored else maps


def _resample(image: Tensor, size: Size, antialias: bool) -> Tensor:
    """Resize (C, H, W) bilinearly, with a triangle filter as wide as the shrink; a large uint8 picture rounded in between."""
    values = image if image.dtype == torch.uint8 and image[0].numel() > LARGE else _floating(image)
    return F.interpolate(values[None], size, mode="bilinear", antialias=antialias)[0]


def _sample(image: Tensor, matrix: Matrix, size: Size, fill: float | Literal["edge"], antialias: bool) -> Tensor:
    """Sample (C, H, W) bilinearly, as the mean of as many samples per destination pixel as it covers source pixels."""
    block = _block(matrix, size) if antialias else 1
    image, matrix = _crop(image, matrix, size, block)
    outside, padding = (0.0, "border") if fill == "edge" else (fill, "zeros")
    values, rows, columns = _floating(image) - outside, 1, 1
    if antialias:
        values, matrix = _shrink(values, matrix, block, "replicate" if fill == "edge" else "constant")
        steps = [np.hypot(*derivative) for derivative in _derivatives(matrix, size)]
        columns, rows = (min(MOST_SAMPLES, math.ceil(step - 1e-6)) for step in np.max(steps, 0))
    x, y = _origins(scaling(columns, rows) @ matrix, (size[0] * rows, size[1] * columns), values.device)
    height, width = values.shape[-2:]
    grid = torch.stack([x * (2 / width) - 1, y * (2 / height) - 1], -1).to(values.dtype)
    sampled = F.grid_sample(values[None], grid[None], padding_mode=padding, align_corners=False)
    return F.avg_pool2d(sampled, (rows, columns))[0] + outside


def _crop(image: Tensor, matrix: Matrix, size: Size, block: int) -> tuple[Tensor, Matrix]:
    """Keep the blocks of pixels of `image` that the destination sees, with a margin of 2 for the interpolation."""
    height, width = size
    x, y, w = np.linalg.inv(matrix) @ [[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]]
    if w.min() <= 0:
        return image, matrix
    spans = []
    for v, n in ((x / w, image.shape[-1]), (y / w, image.shape[-2])):
        first = min(max(math.floor(v.min() / block) - 2, 0), (n - 1) // block)
        last = max(math.ceil(v.max() / block) + 2, first + 1)
        spans.append((first * block, min(last * block, n)))
    (left, right), (top, bottom) = spans
    return image[:, top:bottom, left:right], matrix @ translation(left, top)


def _block(matrix: Matrix, size: Size) -> int:
    """Return the side of blocks of source pixels at least twice smaller than any destination pixel."""
    smallest = min(np.linalg.svd(derivative, compute_uv=False)[-1] for derivative in _derivatives(matrix, size))
    return max(1, int(smallest / 2 + 1e-6))


def _shrink(values: Tensor, matrix: Matrix, block: int, mode: str) -> tuple[Tensor, Matrix]:
    """Average blocks of source pixels, so that few samples do."""
    if block == 1:
        return values, matrix
    height, width = values.shape[-2:]
    padded = F.pad(values, (0, -width % block, 0, -height % block), mode=mode)
    return F.avg_pool2d(padded, block), matrix @ scaling(block, block)


def _derivatives(matrix: Matrix, size: Size) -> list[Matrix]:
    """Return the 2x2 derivatives of the way back (source per destination pixel) at the corners and the centre."""
    back, (height, width) = np.linalg.inv(matrix), size
    probes = ((0, 0), (width, 0), (0, height), (width, height), (width / 2, height / 2))
    return [jacobian(back, probe) for probe in probes]


def _nearest(maps: Tensor, matrix: Matrix, size: Size, fill: float) -> Tensor:
    """Take the source pixel (..., H, W) that each destination pixel's centre falls into."""
    maps, matrix = _untransposed(maps, matrix)
    placed = _placement(matrix, (maps.shape[-2], maps.shape[-1]))
    if placed and placed.size == maps.shape[-2:]:
        return _place(maps, placed, size, fill)
    x, y = (v.floor() for v in _origins(matrix, size, maps.device))
    height, width = maps.shape[-2:]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    found = maps[..., y.clamp(0, height - 1).long(), x.clamp(0, width - 1).long()]
    return torch.where(inside, found, torch.tensor(fill, dtype=maps.dtype, device=maps.device))


def _origins(matrix: Matrix, size: Size, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the source x and y, (height, width) float64 each, of every destination pixel's centre."""
    back = np.linalg.inv(matrix).tolist()
    x = torch.arange(size[1], dtype=torch.float64, device=device) + 0.5
    y = (torch.arange(size[0], dtype=torch.float64, device=device) + 0.5)[:, None]
    top, middle, bottom = (a * x + (b * y + c) for a, b, c in back)
    if back[2] == [0, 0, 1]:
        return top, middle
    bottom = bottom.clamp(min=1e-12)  # behind the horizon: sent far outside the source
    return top / bottom, middle / bottom
