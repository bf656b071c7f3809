"""What a generator learns from: the middle square of every picture at one size, and noise beside it.

A sample's noise is a function of its key, so that whoever measures or shows a sample makes the same picture of it; training
draws it anew each time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from pixelwise.data.dataset import Dataset, Source
from pixelwise.data.sample import Category, Field, Image, Sample, Values
from pixelwise.errors import UsageError
from pixelwise.geometry.frame import Frame
from pixelwise.geometry.homography import compose, scaling, translation
from pixelwise.geometry.warp import warp_image
from pixelwise.seeds import torch_generator

NOISE = "noise"


class Noisy(Dataset):
    """Another data set's picture as "image", `side` pixels high and wide, its field of the class, and "noise"."""

    def __init__(self, dataset: Dataset, picture: str, category: str | None, side: int, noise: int) -> None:
        """Look at a data set.

        Args:
            dataset: Where the pictures are.
            picture: The field that shows them.
            category: The field of the class, if there is one.
            side: Of the pictures, in pixels.
            noise: How many numbers of noise a sample has.

        Raises:
            UsageError: There is no such field.
        """
        for name in (picture, *([category] if category else [])):
            if name not in dataset.fields:
                raise UsageError(f"the data has no field {name!r}", f"it has {', '.join(dataset.fields)}")
        self.dataset, self.picture, self.category, self.side, self.noise = dataset, picture, category, side, noise
        self.meta, self.notes = dataset.meta, dataset.notes
        self.missing = dict(dataset.missing)  # a view of it could not be sent to a worker
        self.fields = ("image", *([category] if category else []), NOISE)

    def __len__(self) -> int:
        return len(self.dataset)

    def key(self, index: int) -> str:
        """Return the other data set's key."""
        return self.dataset.key(index)

    def sample(self, index: int, fields: Sequence[str]) -> Sample:
        """Return the picture, its class and its noise.

        Raises:
            DataError: The picture is missing or damaged.
        """
        frame = Frame.of((self.side, self.side))
        asked = {name: self.picture if name == "image" else name for name in fields if name != NOISE}
        inner = self.dataset.sample(index, list(asked.values())).fields if asked else {}
        read: dict[str, Field] = {NOISE: Values(noise_of(0, self.key(index), self.noise), frame)}
        for name, there in asked.items():
            read[name] = self._square(inner[there]) if name == "image" else _category(inner[there], frame)
        return Sample(self.key(index), {name: read[name] for name in fields})

    def _square(self, field: Field) -> Image:
        """Return the middle square, brought to the size: nothing is stretched, and no bars are learned."""
        if not isinstance(field, Image):
            raise UsageError(f"the field {self.picture!r} is no picture", "task.picture names a field that is one")
        height, width = field.pixels.shape[-2:]
        if (height, width) == (self.side, self.side):
            return Image(field.pixels, Frame.of((height, width)))
        scale = self.side / min(height, width)
        corner = translation((self.side - width * scale) / 2, (self.side - height * scale) / 2)
        size = (self.side, self.side)
        return Image(warp_image(field.pixels, compose(scaling(scale, scale), corner), size, fill="edge"), Frame.of(size))

    def varied(self, sample: Sample, draw: Callable[[], np.random.Generator]) -> Sample:
        """Return the sample with noise of its own."""
        if NOISE not in sample.fields:
            return sample
        fresh = torch.from_numpy(draw().standard_normal(self.noise, np.float32))
        return Sample(sample.key, sample.fields | {NOISE: Values(fresh, sample[NOISE].frame)})

    def source(self, index: int, field: str) -> Source | None:
        """Return where the picture comes from, if decoding it is worth caching."""
        found = self.dataset.source(index, self.picture) if field == "image" else None
        return found and Source(found.path, f"{found.reading} square {self.side}")


def _category(field: Field, frame: Frame) -> Category:
    if not isinstance(field, Category):
        raise UsageError("task.category must name a field with one class for each picture", "data.kind=class_folder has one")
    return Category(field.index, frame)


def noise_of(seed: int, key: str, count: int) -> Tensor:
    """Return `count` numbers of N(0, 1), a function of seed and key."""
    return torch.randn(count, generator=torch_generator(seed, "noise", key))
