"""The Inception v3 of the Frechet inception distance, for whoever has its weights (Szegedy et al. 2015, Heusel et al. 2017).

It is not torchvision's: average poolings leave out the padding, the last block takes the maximum, and there are 1008 classes.
The state dictionaries of pytorch-fid and of torch-fidelity fit; both are the weights of 2015-12-05.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.nn.embeddings import Embedding
from pixelwise.nn.weight_files import load, read

HINT = "give the state dictionary of the Inception of 2015-12-05, as pytorch-fid and torch-fidelity have it"


class InceptionEmbedding(Embedding):
    """(B, 3, 299, 299) in [0, 1] -> (B, 2048): of the last maps the mean over the picture ("pool3").

    Args:
        weights: The file of the state dictionary.

    Raises:
        ModelError: It cannot be read or does not fit.
    """

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.name, self.size, self.dimension = "inception2015", (299, 299), 2048
        stored = read(weights, HINT)
        with torch.device("meta"):
            self.network = network()
        load(self.network, stored, weights, HINT)
        self.network.fc = nn.Identity()
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return the vectors; a grey level v is shown as (v - 128) / 128."""
        vectors: Tensor = self.network((images * 255 - 128) / 128)
        return vectors


def network() -> nn.Module:
    """Return the network with random weights: (B, 3, 299, 299) in [-1, 1] -> (B, 1008)."""
    theirs = importlib.import_module("torchvision.models.inception")
    a, c = (_pooling(block, _mean) for block in (theirs.InceptionA, theirs.InceptionC))
    first, last = _pooling(theirs.InceptionE, _mean), _pooling(theirs.InceptionE, _maximum)

    def e(channels: int) -> nn.Module:
        block: nn.Module = (first if channels == 1280 else last)(channels)
        return block

    blocks = [theirs.BasicConv2d, a, theirs.InceptionB, c, theirs.InceptionD, e, theirs.InceptionAux]
    built: nn.Module = theirs.Inception3(1008, aux_logits=False, inception_blocks=blocks, init_weights=False)
    return built


def _pooling(block: Any, pool: Callable[[Tensor], Tensor]) -> Any:
    """Return the class of a block whose last branch sees what another pooling makes of its input."""

    def branches(self: Any, maps: Tensor) -> list[Tensor]:
        return [*block._forward(self, maps)[:-1], self.branch_pool(pool(maps))]

    return type(block.__name__, (block,), {"_forward": branches})


def _mean(maps: Tensor) -> Tensor:
    return functional.avg_pool2d(maps, 3, 1, 1, count_include_pad=False)


def _maximum(maps: Tensor) -> Tensor:
    return functional.max_pool2d(maps, 3, 1, 1)
