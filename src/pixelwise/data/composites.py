"""People cut out of pictures by a soft mask about their limbs, and pasted over others: crowds from single people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pixelwise.data.regions import filled
from pixelwise.data.sample import Image, Keypoints, Presence, Sample
from pixelwise.errors import DataError
from pixelwise.geometry.homography import Size, scaling, translation
from pixelwise.geometry.skeleton import Skeleton

SOFT = 0.08
"""Width of the mask's soft edge, in torso lengths."""
TORSO = 1.4
"""Length of an upright person's torso in mean lengths of the limbs."""


@dataclass(frozen=True)
class Body:
    """Which points of a skeleton are the torso's corners, in order around it, and which limbs there are."""

    shoulders: tuple[int, int]
    hips: tuple[int, int]
    limbs: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, skeleton: Skeleton) -> Body:
        """Find shoulders and hips by their names.

        Raises:
            DataError: They are not there, or there are no limbs.
        """
        found = {part: [i for i, name in enumerate(skeleton.names) if part in name.lower()] for part in ("shoulder", "hip")}
        if any(len(pair) != 2 for pair in found.values()) or not skeleton.limbs:
            hint = "data.source.layout=lsp14, or a skeleton=FILE with limbs, of which points are called shoulder and hip"
            raise DataError("people can be cut out only by two shoulders, two hips and limbs", hint)
        (a, b), (c, d) = found["shoulder"], found["hip"]
        return cls((a, b), (c, d), skeleton.limbs)

    def torso(self, points: Tensor) -> float:
        """Return the length of the torso of points (K, 2), at least what it usually is for such limbs; NaN if unknown.

        A torso seen from its end looks short; limbs together hardly do.
        """
        length = (points[list(self.shoulders)].mean(0) - points[list(self.hips)].mean(0)).norm()
        bones = torch.stack([(points[a] - points[b]).norm() for a, b in self.limbs]).nanmean()
        return float(torch.maximum(length, TORSO * bones))


def body_mask(points: Tensor, body: Body, size: Size, width: float) -> Tensor:
    """Return a soft mask of one person: capsules about the limbs and the hull of the torso, grown by `width`.

    Args:
        points: (K, 2) in pixels; limbs with a NaN end are left out.
        body: Which points they are.
        size: (height, width) of the picture.
        width: Distance from bones and torso up to which the mask is at least half, in torso lengths.

    Returns:
        (H, W) float32 in [0, 1].
    """
    unit = body.torso(points)
    height, across = size
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(across) + 0.5, indexing="ij")
    pixels = torch.stack([x, y], -1)
    distance = torch.full(size, torch.inf)
    for a, b in (*body.limbs, body.shoulders, body.hips):
        if points[[a, b]].isfinite().all():
            distance = torch.minimum(distance, _to_segment(pixels, points[a], points[b]))
    corners = points[[*body.shoulders, *body.hips]]
    if corners.isfinite().all():
        distance[torch.from_numpy(filled(_around(corners).double().numpy(), size))] = 0
    mask: Tensor = ((width * unit - distance) / (SOFT * unit) + 0.5).clamp(0, 1)
    return mask


def _around(corners: Tensor) -> Tensor:
    """Return corners (N, 2) in their order around their mean."""
    apart = corners - corners.mean(0)
    return corners[torch.atan2(apart[:, 1], apart[:, 0]).argsort()]


def _to_segment(pixels: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Return the distance (H, W) of pixels (H, W, 2) to a segment."""
    along = end - start
    share = ((pixels - start) @ along / along.square().sum().clamp(min=1e-6)).clamp(0, 1)
    distance: Tensor = (pixels - start - share[..., None] * along).norm(dim=-1)
    return distance


class Cutout(NamedTuple):
    """A person on a picture just large enough: pixels (3, h, w) uint8, soft mask (h, w), and the points there."""

    pixels: Tensor
    mask: Tensor
    person: Keypoints


@dataclass
class Crowd:
    """A picture while people are pasted into it; later ones hide earlier ones.

    Attributes:
        pixels: (3, H, W) uint8.
        people: Points (1, K, 2) and presence of each person, in the picture's pixels.
        owner: (H, W) int64: 0 for nobody, n for the n-th person.
        whole: How many pixels each person covered before others came.
    """

    pixels: Tensor
    people: list[Keypoints]
    owner: Tensor
    whole: list[int]

    @classmethod
    def begin(cls, sample: Sample, body: Body, width: float) -> Crowd:
        """Begin with a picture and its own person."""
        image, person = sample["image"], sample["keypoints"]
        assert isinstance(image, Image) and isinstance(person, Keypoints)
        mine = body_mask(_placed(person), body, image.frame.size, width) > 0.5
        return cls(image.pixels.clone(), [person], mine.long(), [int(mine.sum())])

    def cover(self, cutout: Cutout, left: int, top: int) -> float:
        """Return the largest share of anybody that a newcomer would hide, of what they covered at first."""
        here, there = _overlap(cutout.mask, self.owner, left, top)
        owners = self.owner[here][cutout.mask[there] > 0.5]
        counts = torch.bincount(owners, minlength=len(self.people) + 1)[1:].tolist()
        return max(float(count) / max(1, whole) for count, whole in zip(counts, self.whole, strict=True))

    def paste(self, cutout: Cutout, left: int, top: int) -> None:
        """Lay a person over everybody, the corner of its picture at whole pixels (left, top)."""
        here, there = _overlap(cutout.mask, self.owner, left, top)
        mask, pixels = cutout.mask[there], cutout.pixels[:, *there].float()
        mixed = pixels * mask + self.pixels[:, *here].float() * (1 - mask)
        self.pixels[:, *here] = mixed.round().to(torch.uint8)
        size = (self.owner.shape[0], self.owner.shape[1])
        moved = cutout.person.warp(translation(left, top), size)
        self.people.append(Keypoints(moved.points, moved.presence, self.people[0].frame, moved.swap))
        self.owner[here] = self.owner[here].masked_fill(mask > 0.5, len(self.people))
        self.whole.append(int((mask > 0.5).sum()))

    def keypoints(self) -> Keypoints:
        """Return everybody's points; those that a later person covers are HIDDEN, areas are what is still seen."""
        first = self.people[0]
        points, presence = torch.cat([p.points for p in self.people]), torch.cat([p.presence for p in self.people])
        height, width = self.owner.shape
        column = points[..., 0].nan_to_num(0).long().clamp(0, width - 1)
        row = points[..., 1].nan_to_num(0).long().clamp(0, height - 1)
        numbers = torch.arange(len(points))[:, None] + 1
        covered = (self.owner[row, column] > numbers) & (presence == Presence.VISIBLE)
        areas = torch.bincount(self.owner.flatten(), minlength=len(points) + 1)[1:].float()
        areas = areas.masked_fill(areas == 0, torch.nan)
        return Keypoints(points, presence.masked_fill(covered, Presence.HIDDEN), first.frame, first.swap, areas)


def cut_out(sample: Sample, body: Body, width: float, torso: float) -> Cutout:
    """Return a sample's person with a torso of this many pixels; what the picture does not show of it is not in the mask."""
    image, person = sample["image"], sample["keypoints"]
    assert isinstance(image, Image) and isinstance(person, Keypoints)
    known = _placed(person)
    factor = torso / body.torso(known)
    margin = (width + SOFT) * torso
    known = known[known.isfinite().all(-1)] * factor
    low, high = known.amin(0) - margin, known.amax(0) + margin
    matrix = translation(*(-low.floor()).tolist()) @ scaling(factor, factor)
    size = (int(high[1].ceil() - low[1].floor()), int(high[0].ceil() - low[0].floor()))
    moved = person.warp(matrix, size)
    mask = body_mask(_placed(person, moved.points), body, size, width)
    there = Image(torch.full((1, *image.frame.size), 255, dtype=torch.uint8), image.frame).warp(matrix, size)
    return Cutout(image.warp(matrix, size, fill="edge").pixels, mask * (there.pixels[0] > 127), moved)


def _overlap(mask: Tensor, owner: Tensor, left: int, top: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the part of the picture that a mask put at (left, top) lies on, and that part of the mask."""
    here, there = [], []
    for at, own, most in zip((top, left), mask.shape, owner.shape, strict=True):
        start = min(max(0, at), most)
        stop = max(start, min(most, at + own))
        here.append(slice(start, stop))
        there.append(slice(start - at, stop - at))
    return (here[0], here[1]), (there[0], there[1])


def _placed(person: Keypoints, points: Tensor | None = None) -> Tensor:
    """Return the points (K, 2) of a sample's first person, NaN where none is in the picture it comes from."""
    found = person.points if points is None else points
    return found[0].masked_fill((person.presence[0] < Presence.HIDDEN)[:, None], torch.nan)


def suited(sample: Sample, body: Body) -> bool:
    """Tell whether a sample shows one person whose torso is known."""
    person = sample["keypoints"]
    return isinstance(person, Keypoints) and len(person.points) == 1 and body.torso(_placed(person)) > 1
