"""A picture as one vector, by which sets of pictures are compared, without weights from elsewhere: random features, statistics.

Features of a network with random weights tell sets of pictures apart where ImageNet's may not apply (Naeem et al. 2020), provided
that every layer is brought to one scale (He et al. 2016).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.geometry.homography import Size
from pixelwise.seeds import torch_generator

WIDTHS = (3, 32, 64, 128, 256)
REFERENCES = 32
"""Pictures of noise on which the scale of random layers is set."""


class Embedding(nn.Module):
    """(B, 3, H, W) in [0, 1] of `size` -> (B, dimension).

    Attributes:
        name: What the features are; part of the name of every metric that is made of them.
        size: Height and width that pictures are resized to before.
        dimension: Numbers per picture.
    """

    name: str
    size: Size
    dimension: int

    @property
    def protocol(self) -> str:
        """Return name and resizing as metrics carry them."""
        height, width = self.size
        return f"{self.name},bicubic{width}" + (f"x{height}" if height != width else "")

    @torch.inference_mode()
    def of(self, picture: Tensor) -> Tensor:
        """Return the vector `(dimension,)` of a picture `(3, H, W)` of any size, uint8 or floating in [0, 1]."""
        vector: Tensor = self(resized(picture, self.size)[None])[0]
        return vector


def resized(picture: Tensor, size: Size) -> Tensor:
    """Return the picture as Pillow resizes channels of floats, by antialiased bicubic: in [0, 1], not rounded to 256 levels.

    Args:
        picture: `(3, H, W)`, uint8 or floating in [0, 1].
        size: Height and width.
    """
    unit = picture.float() / 255 if picture.dtype == torch.uint8 else picture.float()
    return functional.interpolate(unit[None], size, mode="bicubic", antialias=True)[0].clamp(0, 1)


class RandomFeatures(Embedding):
    """Four convolutions with random weights; of the maps of each the mean over the picture.

    Every channel of every convolution, and every mean, has mean 0 and variance 1 over pictures of noise with a natural
    spectrum, so that no layer drowns another. A seed stands for one network, for ever.

    Args:
        seed: Of the weights and the noise.
        size: Height and width that pictures are resized to.
    """

    def __init__(self, seed: int = 0, size: Size = (128, 128)) -> None:
        super().__init__()
        self.name, self.size, self.dimension = f"random{seed}", size, sum(WIDTHS[1:])
        self.layers = nn.ModuleList(nn.Conv2d(*widths, 3) for widths in pairwise(WIDTHS))
        draw = torch_generator(seed, "random features")
        self.register_buffer("centre", torch.zeros(self.dimension))
        self.register_buffer("spread", torch.ones(self.dimension))
        with torch.inference_mode():
            maps = references(draw, size)
            for layer in self.layers:
                maps = _scaled(layer, maps, draw)
            means = self(references(draw, size))
            self.centre, self.spread = means.mean(0), means.std(0)
        self.requires_grad_(False)

    centre: Tensor
    spread: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """Return the vectors."""
        means, maps = [], images
        for layer in self.layers:
            maps = _seen(layer, maps)
            means.append(maps.mean((2, 3)))
        return (torch.cat(means, 1) - self.centre) / self.spread


def _seen(layer: nn.Module, maps: Tensor) -> Tensor:
    found: Tensor = layer(functional.pad(maps, (1, 1, 1, 1), mode="reflect"))
    return functional.avg_pool2d(found.relu(), 2)


def _scaled(layer: nn.Module, maps: Tensor, draw: torch.Generator) -> Tensor:
    """Draw the weights of a layer, bring what it makes of `maps` to mean 0 and variance 1 per channel, and return that."""
    assert isinstance(layer, nn.Conv2d) and layer.bias is not None
    layer.weight.copy_(torch.randn(layer.weight.shape, generator=draw))
    layer.bias.zero_()
    found = layer(functional.pad(maps, (1, 1, 1, 1), mode="reflect"))
    mean, deviation = found.mean((0, 2, 3)), found.std((0, 2, 3))
    layer.weight.div_(deviation[:, None, None, None])
    layer.bias.copy_(-mean / deviation)
    return _seen(layer, maps)


def references(draw: torch.Generator, size: Size) -> Tensor:
    """Return pictures of noise whose amplitude falls as 1 / frequency, as that of photographs does (Field 1987).

    Returns:
        `(REFERENCES, 3, H, W)` in [0, 1], each with a mean colour of its own.
    """
    height, width = size
    noise = torch.fft.rfft2(torch.randn(REFERENCES, 3, height, width, generator=draw))
    frequency = torch.hypot(torch.fft.fftfreq(height)[:, None] * height, torch.fft.rfftfreq(width) * width).clamp(min=1)
    spectral = torch.fft.irfft2(noise / frequency, (height, width))
    spectral = spectral / spectral.std((2, 3), keepdim=True)
    grey = spectral.mean(1, keepdim=True)
    colour = torch.rand(REFERENCES, 3, 1, 1, generator=draw)
    return (0.3 + 0.4 * colour + 0.2 * (grey + 0.3 * (spectral - grey))).clamp(0, 1)
