"""Images with a category, labels or a value each: what the readers of such sets share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pixelwise.data.dataset import Dataset, Meta, Source, Vector
from pixelwise.data.images import decode_image, image_size
from pixelwise.data.sample import Category, Field, Image, Sample, Values
from pixelwise.geometry.frame import Frame
from pixelwise.geometry.homography import Size


class Told(NamedTuple):
    """An image and what is told of it by field: an int is a category (-1 unknown), a tensor is values (N,) (NaN unknown)."""

    path: Path
    truths: dict[str, int | Tensor]


class VectorFiles(Dataset):
    """Images with their vectors: the field "image", and one for each in `meta.vectors`."""

    def __init__(self, root: Path, items: Iterable[Told], meta: Meta) -> None:
        self.root, self.meta = root, meta
        self.items = sorted(items, key=lambda item: item.path)
        self.fields = ("image", *meta.vectors)
        self._sizes: dict[Path, Size] = {}

    def __len__(self) -> int:
        return len(self.items)

    def key(self, index: int) -> str:
        """Return the image's path below the root."""
        return self.items[index].path.relative_to(self.root).as_posix()

    def sample(self, index: int, fields: Sequence[str]) -> Sample:
        """Return the image and what is told of it.

        Raises:
            DataError: The image is missing or damaged.
        """
        path, truths = self.items[index]
        read: dict[str, Field] = {}
        if "image" in fields:
            pixels = decode_image(path, self.notes)
            read["image"] = Image(pixels, Frame.of(pixels.shape[1:]))
        frame = read["image"].frame if read else Frame.of(self._size(path))
        for name in fields:
            if name != "image":
                truth = truths[name]
                read[name] = Category(truth, frame) if isinstance(truth, int) else Values(truth, frame)
        return Sample(self.key(index), {name: read[name] for name in fields})

    def source(self, index: int, field: str) -> Source | None:
        """Return the image file."""
        return Source(self.items[index].path, "image") if field == "image" else None

    def _size(self, path: Path) -> Size:
        if path not in self._sizes:
            self._sizes[path] = image_size(path)
        return self._sizes[path]


def measured(name: str, values: Sequence[float]) -> Vector:
    """Return what a value means, with mean and standard deviation of its known `values`; a deviation of 0 becomes 1."""
    numbers = torch.tensor(values, dtype=torch.float64)
    known = numbers[numbers.isfinite()]
    if not len(known):
        return Vector(kind="value", names=(name,))
    return Vector(kind="value", names=(name,), mean=known.mean().item(), deviation=known.std(correction=0).item() or 1.0)
