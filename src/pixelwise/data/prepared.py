"""What augmentation starts from, decoded and resized once: later epochs only map it from the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from pixelwise.data.augment import View
from pixelwise.data.cache import Cache, Picture
from pixelwise.data.dataset import Dataset
from pixelwise.data.sample import Depth, Field, Image, LabelMap, Normals, Sample
from pixelwise.geometry.frame import Frame
from pixelwise.geometry.homography import Size, resize

_MAPS: dict[tuple[int, torch.dtype], Callable[[Tensor, Frame], Field]] = {
    (3, torch.uint8): Image,
    (2, torch.uint8): LabelMap,
    (2, torch.float32): Depth,
    (3, torch.float32): Normals,
}


class Prepared(Dataset):
    """Another dataset's samples as `view.base` gives them; fields with a source come from the cache if there is one."""

    def __init__(self, dataset: Dataset, fields: Sequence[str], view: View, cache: Cache | None) -> None:
        self.dataset, self.fields, self.view, self.cache = dataset, tuple(fields), view, cache
        self.meta, self.notes, self.separate = dataset.meta, dataset.notes, dataset.separate

    def __len__(self) -> int:
        return len(self.dataset)

    def key(self, index: int) -> str:
        """Return the sample's key in the other dataset."""
        return self.dataset.key(index)

    def sample(self, index: int, fields: Sequence[str]) -> Sample:
        """Return sample `index`, resized to `view.load_size` if that is set: images bicubically, labels to the nearest.

        Raises:
            DataError: A file of the sample is missing or damaged.
        """
        if self.cache is None:
            return self.view.base(self.dataset.sample(index, fields))
        cached = {name: source for name in fields if (source := self.dataset.source(index, name))}
        read: dict[str, Field] = {}
        rest = [name for name in fields if name not in cached]
        if rest:
            read |= self.view.base(self.dataset.sample(index, rest)).fields
        built: dict[str, Field] = {}

        def build() -> Picture:
            if not built:
                built.update(self.view.base(self.dataset.sample(index, tuple(cached))).fields)
            field = built[name]
            return Picture(field.tensors()[""], field.frame.original_size)

        for name, source in cached.items():
            read[name] = _field(self.cache.get(source.path, f"{source.reading} {self.view.load_size}", build))
        return Sample(self.key(index), {name: read[name] for name in fields})

    def varied(self, sample: Sample, draw: Callable[[], np.random.Generator]) -> Sample:
        """Return the sample as the other dataset varies it."""
        return self.dataset.varied(sample, draw)

    def partner(self, index: int, field: str, draw: Callable[[], np.random.Generator]) -> int:
        """Return the partner that the other dataset chooses."""
        return self.dataset.partner(index, field, draw)


def prepared(dataset: Dataset, fields: Sequence[str], view: View) -> Prepared:
    """Return `dataset` as training reads it, its decoded pictures kept in the user's cache folder."""
    return Prepared(dataset, fields, view, Cache())


def _field(picture: Picture) -> Field:
    """Return the field whose tensor this is: its number of axes and dtype tell which."""
    values, original = picture
    size = (values.shape[-2], values.shape[-1])
    return _MAPS[values.dim(), values.dtype](values, _frame(original, size))


@lru_cache(maxsize=1024)
def _frame(original: Size, size: Size) -> Frame:
    return Frame.of(size) if size == original else Frame(resize(original, size), original, size)
