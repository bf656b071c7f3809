"""Small grey copies of every image and small maps: what the trivial baselines know that a network has to beat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from pixelwise.data.dataset import Dataset
from pixelwise.data.sample import Field, Image, LabelMap, Sample
from pixelwise.geometry.homography import Size, resize
from pixelwise.geometry.unknown import UNKNOWN
from pixelwise.geometry.warp import warp_image, warp_maps

Summary = TypeVar("Summary")
Kind = TypeVar("Kind", bound=Field)
LIMIT = 1024
SIZE = (24, 32)
GRID = (32, 32)
"""Height and width of the maps that say what is where on average."""


def thumbnail(sample: Sample, field: str) -> Tensor:
    """Return the field as a flat float vector of 24 x 32 grey values (or label indices) in [0, 1]."""
    value = sample[field]
    if isinstance(value, LabelMap):
        pixels = value.labels[None].float() / 255
    else:
        assert isinstance(value, Image)
        pixels = value.pixels.float() / 255
    small = warp_image(pixels, resize(value.frame.size, SIZE), SIZE)
    return small.mean(0).flatten()


@dataclass(frozen=True)
class Bank(Generic[Summary]):
    """At most 1024 training samples, evenly spaced over the data set, by their thumbnails.

    Attributes:
        features: Thumbnails, `(N, 768)`.
        summaries: What the baselines keep of each sample; whole samples are read again when asked for.
    """

    dataset: Dataset
    field: str
    fields: tuple[str, ...]
    indices: list[int]
    features: Tensor
    summaries: list[Summary]

    @classmethod
    def of(cls, dataset: Dataset, field: str, fields: Sequence[str], summary: Callable[[Sample], Summary]) -> Bank[Summary]:
        """Read `fields` of each sample once; keep the thumbnail of `field` and the `summary` of the sample."""
        count = min(len(dataset), LIMIT)
        indices = [i * len(dataset) // count for i in range(count)]
        features, summaries = [], []
        for i in indices:
            sample = dataset.sample(i, fields)
            features.append(thumbnail(sample, field))
            summaries.append(summary(sample))
        return cls(dataset, field, tuple(fields), indices, torch.stack(features), summaries)

    def nearest(self, sample: Sample, count: int = 1) -> list[int]:
        """Return the places in the bank of the `count` nearest thumbnails (L2), nearest first."""
        distance = (self.features - thumbnail(sample, self.field)).square().sum(1)
        return distance.topk(min(count, len(self.indices)), largest=False).indices.tolist()

    def sample(self, place: int) -> Sample:
        """Read the sample at `place` again."""
        return self.dataset.sample(self.indices[place], self.fields)


def stretched(field: Kind, size: Size) -> Kind:
    """Return a field stretched onto a picture of `size`, by its own rules."""
    return field.warp(resize(field.frame.size, size), size)


def stretched_maps(maps: Tensor, size: Size) -> Tensor:
    """Return maps (C, h, w) interpolated to `size`."""
    return warp_maps(maps, resize((maps.shape[-2], maps.shape[-1]), size), size)


def on_grid(sample: Sample, field: str) -> Tensor:
    """Return the field stretched to 32 x 32, which must be one tensor."""
    return stretched(sample[field], GRID).tensors()[""]


@dataclass(frozen=True)
class MapBaselines:
    """The answers per pixel that need no network: one everywhere, a mean at each position, that of the most similar image.

    Attributes:
        bank: Of training samples.
        field: Called so in the samples: what is answered.
        constant: The same everywhere, `(..., h, w)`.
        position: The mean at each position, `(..., h, w)`.
        filling: What the most similar image's answer says where it is unknown, `(..., h, w)`.
        stretch: Brings any of these to a size.
        answer: Makes a prediction for a sample from what was brought to its size.
    """

    bank: Bank[Tensor]
    field: str
    constant: Tensor
    position: Tensor
    filling: Tensor
    stretch: Callable[[Tensor, Size], Tensor]
    answer: Callable[[Sample, Tensor], Any]

    def predictors(self) -> dict[str, Callable[[Sample], Any]]:
        """Return the predictors by name."""
        return {"constant": self._everywhere, "position": self._in_place, "nearest_neighbour": self._nearest}

    def _everywhere(self, sample: Sample) -> Any:
        return self.answer(sample, self.stretch(self.constant, sample["image"].frame.size))

    def _in_place(self, sample: Sample) -> Any:
        return self.answer(sample, self.stretch(self.position, sample["image"].frame.size))

    def _nearest(self, sample: Sample) -> Any:
        size = sample["image"].frame.size
        own = stretched(self.bank.sample(self.bank.nearest(sample)[0])[self.field], size).tensors()[""]
        known = own.isfinite() if own.is_floating_point() else own != UNKNOWN
        return self.answer(sample, torch.where(known, own, self.stretch(self.filling, size)))


def ridge(features: Tensor, targets: Tensor, penalty: float) -> Tensor:
    """Fit `targets ~ [features, 1] W` by ridge regression; the constant is not penalised.

    Args:
        features: `(N, D)`.
        targets: `(N, M)`.
        penalty: Weight of the squared coefficients.

    Returns:
        `W`, `(D + 1, M)`, float64.
    """
    mean, centre = features.double().mean(0), targets.double().mean(0)
    x, y = features.double() - mean, targets.double() - centre
    if len(x) > x.shape[1]:
        gram = x.T @ x + penalty * torch.eye(x.shape[1], dtype=torch.float64)
        weight = torch.linalg.solve(gram, x.T @ y)
    else:
        weight = x.T @ torch.linalg.solve(x @ x.T + penalty * torch.eye(len(x), dtype=torch.float64), y)
    return torch.cat([weight, (centre - mean @ weight)[None]])
