"""What augmentation starts from, decoded and resized once: later epochs only map it from the cache."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pixelwise.data.augment import View
from pixelwise.data.cache import MOST_OPEN, Cache
from pixelwise.data.dataset import Dataset, Source
from pixelwise.data.sample import Depth, Field, Image, LabelMap, Normals, Sample
from pixelwise.geometry.frame import Frame

_MAPS = {(3, torch.uint8): Image, (2, torch.uint8): LabelMap, (2, torch.float32): Depth, (3, torch.float32): Normals}


def prepared(dataset: Dataset, fields: Sequence[str], view: View, cache: Cache | None = None) -> Prepared:
    """Return `dataset` as training reads it, its decoded pixels kept in `cache` (default: the user's cache folder)."""
    return Prepared(dataset, fields, view, cache or Cache())
