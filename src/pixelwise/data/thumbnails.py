"""Small grey copies of every image: the features of the trivial baselines that a network has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pixelwise.data.dataset import Dataset
from pixelwise.data.sample import Image, LabelMap, Sample
from pixelwise.geometry.homography import resize
from pixelwise.geometry.warp import warp_image

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
class Bank:
    """Training samples and their thumbnails.

    Attributes:
        samples: At most 1024 of them, evenly spaced over the data set.
        features: `(N, 768)`.
    """

    samples: Sequence[Sample]
    features: Tensor
    field: str

    @classmethod
    def of(cls, dataset: Dataset, field: str, fields: Sequence[str]) -> Bank:
        """Read the samples and make their thumbnails of `field`."""
        count = min(len(dataset), LIMIT)
        samples = [dataset.sample(i * len(dataset) // count, fields) for i in range(count)]
        return cls(samples, torch.stack([thumbnail(s, field) for s in samples]), field)

    def nearest(self, sample: Sample, count: int = 1) -> list[int]:
        """Return the indices of the `count` samples with the nearest thumbnails (L2), nearest first."""
        distance = (self.features - thumbnail(sample, self.field)).square().sum(1)
        return distance.topk(min(count, len(self.samples)), largest=False).indices.tolist()


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
