"""Two collections of pictures that know nothing of each other, as one data set: what unpaired translation learns from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field as Setting

from pixelwise.data.dataset import Dataset, Source
from pixelwise.data.sample import Field, Image, LabelMap, Sample
from pixelwise.errors import DataError, did_you_mean

Order = Annotated[
    Literal["random", "in_order"],
    Setting(description="which B goes with an A in training: one drawn anew each time, or the one at the same place"),
]


class Unpaired(Dataset):
    """Fields "a" and "b", each drawn and moved by itself in training; with `truth` also "truth", which belongs to "a".

    `train` is as long as the longer side, and the shorter begins again; other splits are as long as the shorter, so that no
    picture counts twice where something is measured.
    """

    separate = ("b",)

    def __init__(
        self, a: Dataset, b: Dataset, names: tuple[str, str], split: str, order: Order = "random", truth: str | None = None
    ) -> None:
        """Join two data sets.

        Args:
            a: Where the A pictures are, in order.
            b: Where the B pictures are.
            names: The field of `a` and the field of `b` that are the pictures.
            split: Which split these are of.
            order: Which B goes with an A in training.
            truth: The field of `a` that shows the B picture of the same thing, if there is one.

        Raises:
            DataError: There is no such field, it is no picture, or the label maps of both sides have other classes.
        """
        places = {"a": (a, names[0]), "b": (b, names[1])} | ({"truth": (a, truth)} if truth else {})
        for name, (dataset, field) in places.items():
            if field not in dataset.fields:
                hint = did_you_mean(field, dataset.fields) or f"there are {', '.join(dataset.fields)}"
                raise DataError(f"{name} has no field {field!r}", hint)
        self.places, self.fields, self.order = places, tuple(places), order
        labelled = tuple(name for name in ("a", "b") if isinstance(self._read(name, 0), LabelMap))
        metas = [places[name][0].meta for name in labelled]
        if any(meta.classes != metas[0].classes for meta in metas):
            raise DataError("the label maps of a and b have different classes", "the same number must mean the same everywhere")
        self.meta = (metas or [a.meta])[0].model_copy(update={"labelled": labelled})
        longest = max if split == "train" else min
        self._length = longest(len(a), len(b))

    def __len__(self) -> int:
        return self._length

    def key(self, index: int) -> str:
        """Return the keys of both pictures."""
        return " and ".join(self._dataset(name).key(self._index(name, index)) for name in ("a", "b"))

    def sample(self, index: int, fields: Sequence[str]) -> Sample:
        """Return what both sides hold at `index`.

        Raises:
            DataError: A file is damaged, or what was named is no picture.
        """
        return Sample(self.key(index), {name: self._read(name, index) for name in fields})

    def partner(self, index: int, field: str, draw: Callable[[], np.random.Generator]) -> int:
        """Return the place of the B that an A is trained with."""
        return index if self.order == "in_order" else int(draw().integers(len(self._dataset(field))))

    def source(self, index: int, field: str) -> Source | None:
        """Return the source that the picture's own data set names."""
        return self._dataset(field).source(self._index(field, index), self.places[field][1])

    def _dataset(self, field: str) -> Dataset:
        return self.places[field][0]

    def _index(self, field: str, index: int) -> int:
        return index % len(self._dataset(field))

    def _read(self, name: str, index: int) -> Field:
        dataset, field = self.places[name]
        found = dataset.sample(self._index(name, index), (field,))[field]
        self.notes.extend(note for note in dataset.notes if note not in self.notes)
        if not isinstance(found, Image | LabelMap):
            raise DataError(f"the field {field!r} is no picture", "unpaired translation is between pictures or label maps")
        return found
