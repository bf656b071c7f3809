"""Features without any training: convolutions with random weights, each scaled so that no level drowns the others.

He, Wang and Hopcroft 2016 ("A Powerful Generative Model Using Random Weights for the Deep Image Representation") transfer
style with a random VGG once its layers are scaled; Liu et al. 2021 ("Generic Perceptual Loss for Modeling Structured Output
Dependencies") train with random features. A new draw in every step keeps a network from learning to please one draw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.nn import functional

from pixelwise.nn.features import Features, FeaturesConfig
from pixelwise.seeds import torch_generator

CONVOLUTIONS = (2, 2, 3, 3, 3)
"""Of the levels of VGG-16 (Simonyan and Zisserman 2015)."""
FAINTEST = 0.1
"""A channel that strays less than this share of what its layer answers, as on an even picture, is not enlarged further."""


class Config(FeaturesConfig):
    """Settings of random features."""

    kind: Literal["random"] = "random"
    width: int = Field(32, ge=1, description="channels of the first level, doubled at each of the next three (VGG-16: 64)")
    levels: int = Field(4, ge=1, le=5, description="levels, each half as fine as the one before")
    redraw: bool = Field(True, description="new weights in every training step; false: the same from first to last")

    def build(self) -> RandomFeatures:
        """Return the network, with the weights of the seed 0."""
        return RandomFeatures(self)


class Size(NamedTuple):
    """What a convolution answers to the reference on average, and how far it strays: (1, C, 1, 1) each."""

    mean: Tensor
    deviation: Tensor


class RandomFeatures(Features):
    """The convolutions of VGG-16 with weights from a normal distribution, average pooling between the levels.

    Weights are drawn by `renewed`, which also finds the size of what each channel answers to the reference. Answers are
    brought to mean 0 and deviation 1 by it: else most channels would tell little but how bright a picture is.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.redraws = config.redraw
        widths = [config.width * 2 ** min(level, 3) for level in range(config.levels)]
        self.levels = nn.ModuleList()
        for before, after, count in zip([3, *widths], widths, CONVOLUTIONS, strict=False):
            channels = [before, *[after] * count]
            self.levels.append(nn.ModuleList(nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in pairwise(channels)))
        self.requires_grad_(False)
        self.sizes: list[Size] = []
        self._draw(0)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the maps at the end of each level."""
        return self._maps(image, self.sizes)

    @torch.no_grad()
    def renewed(self, reference: Tensor, seed: int) -> list[Tensor]:
        """Draw the weights of `seed`, scale them to the reference and return its maps."""
        if seed != self.seed:
            self._draw(seed)
        self.sizes = []
        return self._maps(reference, [])

    def trim(self, levels: int) -> None:
        """Leave out what comes after so many levels."""
        self.levels = self.levels[:levels]

    def _draw(self, seed: int) -> None:
        self.seed, generator = seed, torch_generator(seed, "random features")
        with torch.no_grad(), unset_fake_temporarily():  # also while a step is rehearsed on tensors without values
            for layer in self.modules():
                if isinstance(layer, nn.Conv2d):
                    drawn = torch.randn(layer.weight.shape, generator=generator)
                    layer.weight.copy_(drawn * math.sqrt(2 / layer.weight[0].numel()))

    def _maps(self, image: Tensor, sizes: Sequence[Size]) -> list[Tensor]:
        """Return the maps; sizes that are not given are those of this image, and kept."""
        maps, found, known = image * 2 - 1, [], iter(sizes)
        for number, level in enumerate(self.levels):
            # a picture too small to be halved once more has its last level repeated
            maps = functional.avg_pool2d(maps, 2) if number and min(maps.shape[-2:]) > 1 else maps
            for layer in level:  # type: ignore[attr-defined]
                answer = layer(maps)
                size = next(known, None) or _size(answer.detach().float())
                maps = functional.relu((answer - size.mean) / size.deviation)
                if not sizes:
                    self.sizes.append(size)
            found.append(maps)
        return found


def _size(answer: Tensor) -> Size:
    mean = answer.mean((0, 2, 3), keepdim=True)
    deviation = (answer - mean).square().mean((0, 2, 3), keepdim=True).sqrt()
    least = FAINTEST * answer.square().mean().sqrt() + 1e-6
    return Size(mean, torch.maximum(deviation, least))
