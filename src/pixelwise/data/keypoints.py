"""What the readers of keypoint files share: records of labelled images, and well-known skeletons."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pixelwise.data.dataset import Dataset, Meta, Source
from pixelwise.data.images import SKIP_HINT, decode_image, image_size
from pixelwise.data.sample import Field, Image, Keypoints, Presence, Sample
from pixelwise.errors import DataError, did_you_mean
from pixelwise.geometry.frame import Frame
from pixelwise.geometry.homography import Size
from pixelwise.geometry.skeleton import Skeleton


def _layout(parts: dict[str, int], mirrored: Iterable[tuple[int, int]]) -> Skeleton:
    names = tuple(f"{part}_{i}" for part, count in parts.items() for i in range(count))
    swap = list(range(len(names)))
    for one, other in mirrored:
        swap[one], swap[other] = other, one
    return Skeleton(names=names, swap=tuple(swap))


IMM58 = _layout(
    {"jaw": 13, "left_eye": 8, "right_eye": 8, "left_brow": 5, "right_brow": 5, "mouth": 8, "nose": 11},
    [(i, 12 - i) for i in range(6)]
    + [(13 + i, 21 + i) for i in range(8)]
    + [(29 + i, 34 + i) for i in range(5)]
    + [(39, 43), (40, 42), (44, 46)]
    + [(47 + i, 57 - i) for i in range(5)],
)
"""The 58 points of the IMM face database (Stegmann, Ersboll & Larsen, 2003)."""


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
    """

    path: Path
    points: Tensor
    presence: Tensor
    group: str
    size: Size | None = None
    relative: bool = False


def record(
    path: Path,
    instances: Sequence[Sequence[Sequence[float]]],
    group: str = "",
    size: Size | None = None,
    relative: bool = False,
) -> Record:
    """Return a Record from rows (x, y) or (x, y, presence); a row with NaN and no presence is UNKNOWN, else VISIBLE."""
    rows = torch.tensor([[[*p, math.nan][:3] for p in points] for points in instances], dtype=torch.float32)
    points, stated = rows[..., :2], rows[..., 2]
    known = points.isfinite().all(-1)
    presence = torch.where(known, Presence.VISIBLE.value, Presence.UNKNOWN.value)
    presence = torch.where(stated.isnan(), presence, stated.nan_to_num().long())
    presence[~known & (presence >= Presence.HIDDEN)] = Presence.UNKNOWN
    points = points.masked_fill(~known[..., None], math.nan)
    return Record(path, points, presence.to(torch.uint8), group or path.stem, size, relative)


class KeypointFiles(Dataset):
    """Images with labelled points: fields "image" and "keypoints"."""

    fields = ("image", "keypoints")

    def __init__(self, root: Path, records: Sequence[Record], meta: Meta) -> None:
        self.root, self.meta = root, meta
        self.records = sorted(records, key=lambda r: r.path)
        self._sizes: dict[Path, Size] = {}
        self._note_strays()

    def __len__(self) -> int:
        return len(self.records)

    def key(self, index: int) -> str:
        """Return the image's path below the root."""
        path = self.records[index].path
        return (path.relative_to(self.root) if path.is_relative_to(self.root) else path).as_posix()

    def sample(self, index: int, fields: Sequence[str]) -> Sample:
        """Return the image and its points; points outside it are ABSENT.

        Raises:
            DataError: The image is missing, damaged, or not of the size that the labels were made for.
        """
        item = self.records[index]
        read: dict[str, Field] = {}
        if "image" in fields:
            pixels = decode_image(item.path, self.notes)
            read["image"] = Image(pixels, Frame.of(pixels.shape[1:]))
        if "keypoints" in fields:
            size = read["image"].frame.size if read else self._size(item.path)
            if size != (item.size or size):
                stated = f"{item.size[1]}x{item.size[0]}" if item.size else ""
                raise DataError(f"{item.path}: {size[1]}x{size[0]}, but its keypoints are for {stated}", SKIP_HINT)
            read["keypoints"] = self._keypoints(item, size)
        return Sample(self.key(index), {name: read[name] for name in fields})

    def source(self, index: int, field: str) -> Source | None:
        """Return the image file."""
        return Source(self.records[index].path, "image") if field == "image" else None

    def _size(self, path: Path) -> Size:
        if path not in self._sizes:
            self._sizes[path] = image_size(path)
        return self._sizes[path]

    def _keypoints(self, item: Record, size: Size) -> Keypoints:
        points = item.points * torch.tensor([size[1], size[0]]) if item.relative else item.points
        presence = item.presence.masked_fill(_stray(points, item.presence, size), Presence.ABSENT)
        return Keypoints(points, presence, Frame.of(size), self.meta.skeleton.swap)

    def _note_strays(self) -> None:
        sized = [(item, (1, 1) if item.relative else item.size) for item in self.records]
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
