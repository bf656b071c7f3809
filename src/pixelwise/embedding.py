"""Embeddings by name: how the sets of pictures are seen that a kernel or Frechet distance compares."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from pixelwise.config import config_class
from pixelwise.errors import UsageError, did_you_mean
from pixelwise.geometry.homography import Size
from pixelwise.nn.embeddings import Embedding, RandomEmbedding, StatisticsEmbedding
from pixelwise.nn.features import Features, FeaturesConfig, Tapped
from pixelwise.nn.inception import InceptionEmbedding

FORMS = (
    "random or randomSEED, statistics, a run (runs/NAME or runs/NAME:LAYER), inception=FILE, torchvision/NAME or timm/NAME "
    "(=FILE, unless downloaded before)"
)
DEFAULT = ("random", "statistics")
"""What needs no weights."""
SIZE = (256, 256)
"""To which pictures are resized for networks that take any size."""


class TappedEmbedding(Embedding):
    """Of a trained network's coarsest maps, or of those of one layer, the mean over the picture.

    Args:
        name: What to call it.
        features: The network that looks.
        size: Height and width that pictures are resized to.
    """

    def __init__(self, name: str, features: Features, size: Size = SIZE) -> None:
        super().__init__()
        self.name, self.size, self.features = name, size, features.eval()
        self.dimension = len(self.of(torch.zeros(3, *size)))

    def forward(self, images: Tensor) -> Tensor:
        """Return the vectors."""
        maps: Tensor = self.features(images)[-1]
        return maps.float().mean((2, 3))


def find(name: str) -> Embedding:
    """Return the embedding called `name`.

    Args:
        name: One of `FORMS`.

    Raises:
        UsageError: There is none.
        ModelError: Its weights are not there or do not fit.
    """
    what, _, file = name.partition("=")
    if what == "statistics":
        return StatisticsEmbedding()
    if what.startswith("random") and (what == "random" or what.removeprefix("random").isdecimal()):
        return RandomEmbedding(int(what.removeprefix("random") or 0))
    if what == "inception":
        if not file:
            raise UsageError(
                "features=inception needs its weights", f"features=inception=FILE; without them: {' or '.join(DEFAULT)}"
            )
        return InceptionEmbedding(Path(file))
    library, slash, model = what.partition("/")
    if slash and library in ("torchvision", "timm"):
        return _pretrained(library, model, file)
    return _run(name)


def _pretrained(library: str, model: str, file: str) -> Embedding:
    settings = {"library": library, "model": model, "weights": file or None}
    return TappedEmbedding(f"{library}-{model}", _built("pretrained", settings))


def _run(name: str) -> Embedding:
    folder, colon, layer = (name, "", "") if Path(name).is_dir() else name.rpartition(":")
    if not folder or not Path(folder).is_dir() or (colon and not layer):
        hint = did_you_mean(name, [*DEFAULT, "inception"]) or f"it takes {FORMS}"
        raise UsageError(f"no features {name!r}", hint)
    features = _built("run", {"folder": folder, "layers": [layer] if layer else []})
    assert isinstance(features, Tapped)
    return TappedEmbedding(f"{Path(folder).resolve().name}:{features.layers[-1]}", features)


def _built(kind: str, settings: Mapping[str, object]) -> Features:
    config = config_class("pixelwise.features", kind).checked({"kind": kind, **settings})
    assert isinstance(config, FeaturesConfig)
    return config.build()
