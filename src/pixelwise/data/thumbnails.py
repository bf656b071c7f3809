"""Small grey copies of every image: the features of the trivial baselines that a network has to beat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from pixelwise.data.dataset import Dataset
from pixelwise.data.sample import Image, LabelMap, Sample
from pixelwise.geometry.homography import resize
from pixelwise.geometry.warp import warp_image

Summary = TypeVar("Summary")
LIMIT = 1024
SIZE = (24, 32)


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
