"""A Dataset is a sized, indexable source of Samples at their original resolution; a DataConfig says which to open."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from pixelwise.config import Config
from pixelwise.data.sample import Sample
from pixelwise.errors import DataError, did_you_mean
from pixelwise.geometry.camera import Camera
from pixelwise.geometry.skeleton import Skeleton
from pixelwise.geometry.unknown import UNKNOWN


class Vector(Config):
    """What the numbers of a field that lies on no pixel mean."""

    kind: Literal["category", "labels", "value"]
    """One of several classes, which of several labels apply, or a number."""
    names: tuple[str, ...]
    """Of the categories, of the labels, or of the one value."""
    mean: float = 0.0
    """Of a value, over the training samples where it is known."""
    deviation: float = Field(default=1.0, gt=0)
    """Standard deviation of the same."""


class Pixels(Config):
    """What the pixels of a picture are like."""

    channels: int = Field(default=3, ge=1)
    bits: Literal[8, 16] = 8
    """Of a file of the answer; 16 are computed with as floating numbers."""


class Meta(Config):
    """What the numbers of an answer mean; saved with the model."""

    classes: tuple[str, ...] = ()
    """Name of each class of a label map or box."""
    palette: tuple[tuple[int, int, int], ...] = ()
    """RGB colour of each class, 0 to 255."""
    ignore: int = UNKNOWN
    """The value of unlabelled pixels in label files; inside pixelwise it is 255."""
    masks: tuple[str, ...] = ()
    """Name of each of the masks, which may overlap."""
    skeleton: Skeleton = Skeleton()
    """The key points of an object."""
    vectors: dict[str, Vector] = Field(default={})
    """By field: the categories, labels or value of whole pictures."""
    labelled: tuple[str, ...] = ()
    """Which of several pictures are label maps, where they do not pair up."""
    pictures: dict[str, Pixels] = Field(default={})
    """By field: what pictures are like that are not RGB of 8 bits."""
    camera: Camera | None = None
    """The one camera that took all pictures, if it is known."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.palette and len(self.palette) != len(self.classes):
            raise ValueError(f"{len(self.palette)} colours for {len(self.classes)} classes")
        return self


class Source(NamedTuple):
    """The file that holds the pixels of a field, and how they are taken from it: enough to cache what was decoded."""

    path: Path
    reading: str


class Dataset(ABC):
    """A sized, indexable source of Samples.

    Attributes:
        meta: What the numbers in the fields mean.
        fields: Names of the fields on offer.
        missing: By the name of a field that is not on offer but could be: what to do about it.
        separate: Fields that are pictures of their own: training draws and moves each of them apart from all others.
    """

    meta: Meta
    fields: tuple[str, ...]
    separate: tuple[str, ...] = ()
    missing: Mapping[str, str] = MappingProxyType({})

    @cached_property
    def notes(self) -> list[str]:
        """What the user should know about the data, one sentence each; grows as samples are read."""
        return []

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def key(self, index: int) -> str:
        """Return the unique, stable name of sample `index`, e.g. its path below the root."""

    @abstractmethod
    def sample(self, index: int, fields: Sequence[str]) -> Sample:
        """Return sample `index` at its ORIGINAL resolution with only `fields` read.

        Raises:
            DataError: A file of the sample is missing or damaged.
        """

    def varied(self, sample: Sample, draw: Callable[[], np.random.Generator]) -> Sample:
        """Return a sample of training, as it was drawn, changed at random in what only this data set knows; by default not."""
        return sample

    def partner(self, index: int, field: str, draw: Callable[[], np.random.Generator]) -> int:
        """Return the sample of which training takes a `separate` field beside the others of sample `index`; by default it."""
        return index

    def source(self, index: int, field: str) -> Source | None:
        """Return where the pixels of `field` come from if decoding them is worth caching."""
        return None


class DataConfig(Config):
    """Which dataset to read; each file of `data.datasets` extends it with a `kind` and its settings."""

    kind: str
    on_error: Literal["stop", "skip"] = "stop"
    """What a damaged sample does: stop the run, or be skipped with a warning."""

    @abstractmethod
    def open(self, split: str) -> Dataset:
        """Return the dataset of `split`: "train", "val" or, where there is one, "test".

        Raises:
            DataError: The data is missing or not laid out as expected, or there is no such split.
        """


def existing_folder(root: str) -> Path:
    """Return `root` as a path.

    Raises:
        DataError: It is no folder; the hint names the nearest one beside it, if one is near.
    """
    path = Path(root).expanduser()
    if not path.is_dir():
        parent = path.parent
        beside = [p.name for p in parent.iterdir() if p.is_dir()] if parent.is_dir() else []
        raise DataError(f"no such folder: {root}", did_you_mean(path.name, beside) or "data.root=FOLDER says where the data is")
    return path
