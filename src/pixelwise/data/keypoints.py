"""What the readers of keypoint files share: records of labelled images, and the data set that reads them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from pixelwise.data.dataset import Dataset, Meta, Source
from pixelwise.data.files import MALFORMED, images_in
from pixelwise.data.images import SKIP_HINT, decode_image, image_size
from pixelwise.data.regions import Region, covered
from pixelwise.data.sample import Field, Image, Keypoints, LabelMap, Presence, Sample
from pixelwise.errors import DataError, did_you_mean
from pixelwise.geometry.frame import Frame
from pixelwise.geometry.homography import Size, translation

MOST_GROWN = 16
"""Area of a crop, as a multiple of its picture's, above which the box must be wrong."""
OTHER_KINDS = "data.kind says how the folder is laid out: keypoints_csv, keypoints_json, keypoints_coco, keypoints_sleap ..."
"""What to say where a reader finds nothing of its kind."""


@dataclass(frozen=True, eq=False)
class Record:
    """One labelled image.

    Attributes:
        path: The image.
        points: (N, K, 2) float32 in pixels, or fractions of the size if `relative`; NaN where unknown.
        presence: (N, K) uint8 of `Presence`.
        group: What the item belongs to, e.g. a person; items of one group stay on one side of a split.
        size: (height, width) as the file of labels states it, if it does.
        relative: Whether points are fractions of width and height.
        areas: (N,) float32 pixels^2 of the objects, NaN where unknown; None if all are.
        unlabelled: Where objects are that have no points here.
        crop: x0, y0, x1, y1: the part of the image that is the sample, if it is not all.
        name: The sample's key, if the image alone does not tell it.
    """

    path: Path
    points: Tensor
    presence: Tensor
    group: str
    size: Size | None = None
    relative: bool = False
    areas: Tensor | None = None
    unlabelled: tuple[Region, ...] = ()
    crop: tuple[int, int, int, int] | None = None
    name: str = ""


def record(
    path: Path,
    instances: Sequence[Sequence[Sequence[float]]],
    group: str = "",
    size: Size | None = None,
    relative: bool = False,
    corner: float = 0.0,
) -> Record:
    """Return a Record from rows (x, y) or (x, y, presence); a row with NaN and no presence is UNKNOWN, else VISIBLE.

    Args:
        path: The image.
        instances: The rows of each object.
        group: What the item belongs to; by default it stands alone.
        size: (height, width) that the labels are for.
        relative: Whether points are fractions of width and height.
        corner: What the file calls the upper left corner of the picture: 0 as we do, -0.5 where the first pixel's centre is
            0, 0.5 where it is 1.
    """
    rows = torch.tensor([[[*p, math.nan][:3] for p in points] for points in instances], dtype=torch.float32)
    points, stated = rows[..., :2] - corner, rows[..., 2]
    if ((stated < Presence.UNKNOWN) | (stated > Presence.VISIBLE)).any():
        raise ValueError("presence is 0, 1, 2 or 3")
    known = points.isfinite().all(-1)
    presence = torch.where(known, Presence.VISIBLE.value, Presence.UNKNOWN.value)
    presence = torch.where(stated.isnan(), presence, stated.nan_to_num().long())
    presence[~known & (presence >= Presence.HIDDEN)] = Presence.UNKNOWN
    points = points.masked_fill(~known[..., None], math.nan)
    return Record(path, points, presence.to(torch.uint8), group or path.stem, size, relative)


def nobody(path: Path, points: int, size: Size | None = None) -> Record:
    """Return the Record of an image without labelled objects, each of which would have so many points."""
    return Record(path, torch.zeros(0, points, 2), torch.zeros(0, points, dtype=torch.uint8), path.stem, size)


class KeypointFiles(Dataset):
    """Images with labelled points: fields "image", "keypoints", and "unlabelled": 1 where objects are that have no points."""

    fields = ("image", "keypoints", "unlabelled")

    def __init__(self, root: Path, records: Sequence[Record], meta: Meta) -> None:
        self.root, self.meta = root, meta
        self.records = sorted(records, key=lambda r: (r.path, r.name))
        self._sizes: dict[Path, Size] = {}
        self._note_strays()

    def __len__(self) -> int:
        return len(self.records)

    def key(self, index: int) -> str:
        """Return the image's path below the root, or the record's own name."""
        item = self.records[index]
        path = item.path
        return item.name or (path.relative_to(self.root) if path.is_relative_to(self.root) else path).as_posix()

    def sample(self, index: int, fields: Sequence[str]) -> Sample:
        """Return the image and its points; points outside it are ABSENT.

        Raises:
            DataError: The image is missing, damaged, or not of the size that the labels were made for; its box is not in it.
        """
        item = self.records[index]
        pixels = self.pixels(item) if "image" in fields else None
        size = self.size(item) if pixels is None else (pixels.shape[1], pixels.shape[2])
        if size != (item.size or size):
            stated = f"{item.size[1]}x{item.size[0]}" if item.size else ""
            raise DataError(f"{item.path}: {size[1]}x{size[0]}, but its keypoints are for {stated}", SKIP_HINT)
        x, y, right, below = item.crop or (0, 0, size[1], size[0])
        if min(right, below) <= 0 or x >= size[1] or y >= size[0] or (right - x) * (below - y) > MOST_GROWN * size[0] * size[1]:
            raise DataError(f"{item.path}: a box from {x}, {y} to {right}, {below} is beside or far larger than it", SKIP_HINT)
        frame = Frame.of((below - y, right - x))
        read: dict[str, Field] = {}
        if pixels is not None:
            read["image"] = Image(pad(pixels, (-x, right - size[1], -y, below - size[0])) if item.crop else pixels, frame)
        if "keypoints" in fields:
            read["keypoints"] = self._keypoints(item, size, frame)
        if "unlabelled" in fields:
            read["unlabelled"] = LabelMap(self._unlabelled(item, size), Frame.of(size)).warp(translation(-x, -y), frame.size)
        return Sample(self.key(index), {name: read[name] for name in fields})

    def source(self, index: int, field: str) -> Source | None:
        """Return the image file."""
        item = self.records[index]
        return Source(item.path, f"image {item.crop}" if item.crop else "image") if field == "image" else None

    def pixels(self, item: Record) -> Tensor:
        """Return the image of a record, uint8 (3, H, W), uncropped."""
        return decode_image(item.path, self.notes)

    def size(self, item: Record) -> Size:
        """Return height and width of the image of a record, uncropped."""
        if item.path not in self._sizes:
            self._sizes[item.path] = image_size(item.path)
        return self._sizes[item.path]

    def _keypoints(self, item: Record, size: Size, frame: Frame) -> Keypoints:
        points = item.points * torch.tensor([size[1], size[0]]) if item.relative else item.points
        points = points - torch.tensor(item.crop[:2]) if item.crop else points
        presence = item.presence.masked_fill(_stray(points, item.presence, frame.size), Presence.ABSENT)
        areas = torch.full((len(points),), math.nan) if item.areas is None else item.areas
        return Keypoints(points, presence, frame, self.meta.skeleton.swap, areas)

    def _unlabelled(self, item: Record, size: Size) -> Tensor:
        there = torch.zeros(size, dtype=torch.uint8)
        for region in item.unlabelled:
            try:
                there |= torch.from_numpy(covered(region, size).astype("uint8"))
            except MALFORMED as error:
                raise DataError(f"{item.path}: the outline of someone without key points is malformed: {error}") from None
        return there

    def _note_strays(self) -> None:
        sized = [(item, (1, 1) if item.relative else item.size) for item in self.records if not item.crop]
        strays = sum(int(_stray(r.points, r.presence, size).sum()) for r, size in sized if size)
        unknown = sum(int((r.presence == Presence.UNKNOWN).sum()) for r in self.records)
        total = sum(r.presence.numel() for r in self.records)
        if strays:
            self.notes.append(f"{strays} of {total} keypoints lie outside their image and count as absent")
        if unknown:
            self.notes.append(f"{unknown} of {total} keypoints are not labelled and count as unknown")
        if len(self.meta.skeleton.names) > 1 and not self.meta.skeleton.swap:
            self.notes.append("no keypoint has a left or right name, so a mirrored image keeps every name")


def _stray(points: Tensor, presence: Tensor, size: Size) -> Tensor:
    x, y = points.unbind(-1)
    inside = (x >= 0) & (x < size[1]) & (y >= 0) & (y < size[0])
    return ~inside & (presence >= Presence.HIDDEN)


def image_folder(folder: Path) -> Path:
    """Return where the images named in a file of `folder` are: `images` below it if there is one, else beside it."""
    return folder / "images" if (folder / "images").is_dir() else folder


def require_points(records: Iterable[Record], labels: Path) -> None:
    """Check that there is a point to learn from.

    Raises:
        DataError: No point of any image has a place.
    """
    if not any((item.presence >= Presence.HIDDEN).any() for item in records):
        raise DataError(f"{labels}: no image has a labelled keypoint")


def require_images(paths: Iterable[Path], labels: Path) -> None:
    """Check that the labelled images exist.

    Raises:
        DataError: Some do not; the first is named.
    """
    paths = list(paths)
    missing = [path for path in paths if not path.is_file()]
    if not paths:
        raise DataError(f"{labels}: no labelled image")
    if missing:
        near = did_you_mean(missing[0].name, (p.name for p in missing[0].parent.glob("*")))
        what = f"{len(missing)} of {len(paths)} labelled images are missing, first {missing[0]}"
        raise DataError(f"{labels}: {what}", near or SKIP_HINT)


def point_names(stated: object, count: int, where: Path) -> tuple[str, ...]:
    """Return the names as stated, or numbers where the file has none.

    Raises:
        DataError: There are more or fewer names than points, or one name stands for two.
    """
    if not isinstance(stated, list | tuple) or not stated:
        return tuple(f"point_{i}" for i in range(count))
    if len(stated) != count:
        raise DataError(f"{where}: {len(stated)} names for {count} points")
    if len(set(map(str, stated))) < count:
        raise DataError(f"{where}: two keypoints have the same name")
    return tuple(str(name) for name in stated)


def numbered(folder: Path) -> dict[int, Path]:
    """Return the images below `folder` by the last number in their names, which is the number of a frame.

    Raises:
        DataError: There is none, or two have one number.
    """
    found: dict[int, Path] = {}
    for path in images_in(folder).values():
        digits = re.findall(r"\d+", path.stem)
        if not digits:
            continue
        other = found.setdefault(int(digits[-1]), path)
        if other != path:
            raise DataError(f"{path} and {other.name} are both frame {int(digits[-1])}", "one folder holds one video")
    return found
