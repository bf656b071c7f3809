"""A picture as one vector, by which sets of pictures are compared, without anybody's weights: random features, statistics.

Features of a network with random weights tell sets apart where ImageNet's may not apply (Naeem et al. 2020), provided that
every layer is brought to one scale (He et al. 2016).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.color.levels import unit
from pixelwise.geometry.homography import Size
from pixelwise.seeds import torch_generator

WIDTHS = (3, 32, 64, 128, 256)
OCTAVES = 4
REFERENCES, SIDE = 32, 128
"""How many square pictures of noise scales are set on, and their size."""
FAINTEST = 1e-3
"""What is added before a logarithm."""
OPPONENT = ((1 / 3, 1 / 3, 1 / 3), (1.0, -1.0, 0.0), (0.5, 0.5, -1.0))
"""Grey, red against green, yellow against blue."""


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
        return f"{self.name},bicubic{height}" + (f"x{width}" if height != width else "")

    @torch.inference_mode()
    def of(self, picture: Tensor) -> Tensor:
        """Return the vector `(dimension,)` of a picture of any size, as `resized` takes it."""
        vector: Tensor = self(resized(picture, self.size)[None])[0]
        return vector


def resized(picture: Tensor, size: Size) -> Tensor:
    """Return the picture as Pillow resizes channels of floats, by antialiased bicubic: in [0, 1], not rounded to 256 levels.

    Args:
        picture: `(3, H, W)`, or `(1, H, W)` for three equal channels; uint8, uint16 or floating in [0, 1].
        size: Height and width.
    """
    coloured = unit(picture).float().expand(3, -1, -1)
    return functional.interpolate(coloured[None], size, mode="bicubic", antialias=True)[0].clamp(0, 1)


class Standardised(Embedding):
    """What `measure` returns, every number with mean 0 and variance 1 over pictures of noise: no photograph decides."""

    centre: Tensor
    spread: Tensor

    def standardise(self, draw: torch.Generator) -> None:
        """Set the scales."""
        measured = self.measure(references(draw))
        self.dimension = measured.shape[1]
        self.register_buffer("centre", measured.mean(0))
        self.register_buffer("spread", measured.std(0))

    def measure(self, images: Tensor) -> Tensor:
        """Return the numbers (B, dimension) of pictures (B, 3, H, W)."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Return the vectors."""
        return (self.measure(images) - self.centre) / self.spread


class RandomEmbedding(Standardised):
    """Four convolutions with random weights; of the maps of each the logarithm of the mean over the picture.

    Each channel of a convolution has mean 0 and variance 1 over pictures of noise. Half the filters of the first do not see
    the level of brightness, which would drown everything else, and each layer has the same weight, however many channels. A
    seed stands for one network, for ever.

    Args:
        seed: Of the weights and the noise.
        size: Height and width that pictures are resized to.
    """

    def __init__(self, seed: int = 0, size: Size = (256, 256)) -> None:
        super().__init__()
        self.name, self.size = f"random{seed}", size
        with torch.random.fork_rng(devices=[]):
            self.layers = nn.ModuleList(nn.Conv2d(*widths, 3) for widths in pairwise(WIDTHS)).requires_grad_(False)
        draw = torch_generator(seed, "random embedding")
        maps = references(draw)
        for layer in self.layers:
            assert isinstance(layer, nn.Conv2d)
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=draw))
            if layer.in_channels == WIDTHS[0]:
                layer.weight[::2] -= layer.weight[::2].mean((2, 3), keepdim=True)
            maps = _scaled(layer, maps)
        self.standardise(draw)
        shares = [torch.full((width,), width * len(self.layers) / self.dimension) for width in WIDTHS[1:]]
        self.spread *= torch.cat(shares).sqrt()

    def measure(self, images: Tensor) -> Tensor:
        """Return the logarithms of the means of all layers."""
        means, maps = [], images
        for layer in self.layers:
            maps = functional.avg_pool2d(_convolved(layer, maps).relu(), 2)
            means.append(maps.mean((2, 3)))
        return (torch.cat(means, 1) + FAINTEST).log()


def _convolved(layer: nn.Module, maps: Tensor) -> Tensor:
    found: Tensor = layer(functional.pad(maps, (1, 1, 1, 1), mode="reflect"))
    return found


def _scaled(layer: nn.Conv2d, maps: Tensor) -> Tensor:
    """Bring what a layer makes of `maps` to mean 0 and variance 1 per channel, and return what the next one sees."""
    assert layer.bias is not None
    layer.bias.zero_()
    found = _convolved(layer, maps)
    mean, deviation = found.mean((0, 2, 3)), found.std((0, 2, 3))
    layer.weight.div_(deviation[:, None, None, None])
    layer.bias.copy_(-mean / deviation)
    return functional.avg_pool2d(((found - mean[:, None, None]) / deviation[:, None, None]).relu(), 2)


class StatisticsEmbedding(Standardised):
    """Colour and contrast in 18 numbers: of grey and two opponent colours mean, deviation, and mean gradient in four octaves.

    What differs here, one sees at a glance; a network that is no better than this in telling sets apart tells nothing more.
    """

    def __init__(self, size: Size = (256, 256)) -> None:
        super().__init__()
        self.name, self.size = "statistics", size
        self.register_buffer("opponent", torch.tensor(OPPONENT))
        self.standardise(torch_generator(0, "statistics embedding"))

    opponent: Tensor

    def measure(self, images: Tensor) -> Tensor:
        """Return the means, and the logarithms of deviations and gradients."""
        maps = torch.einsum("oc,bchw->bohw", self.opponent, images)
        means, spreads = maps.mean((2, 3)), [maps.std((2, 3))]
        for octave in range(OCTAVES):
            maps = functional.avg_pool2d(maps, 2) if octave else maps
            across, down = maps[..., :-1, 1:] - maps[..., :-1, :-1], maps[..., 1:, :-1] - maps[..., :-1, :-1]
            spreads.append((across.square() + down.square()).sqrt().mean((2, 3)))
        return torch.cat([means, (torch.cat(spreads, 1) + FAINTEST).log()], 1)


def references(draw: torch.Generator) -> Tensor:
    """Return pictures of noise whose amplitude falls with frequency, as that of photographs does (Field 1987).

    How fast it falls, contrast, colour and saturation are drawn for each, as widely as photographs differ in them.

    Returns:
        `(REFERENCES, 3, SIDE, SIDE)` in [0, 1].
    """

    def between(low: float, high: float, channels: int = 1) -> Tensor:
        return low + (high - low) * torch.rand(REFERENCES, channels, 1, 1, generator=draw)

    noise = torch.fft.rfft2(torch.randn(REFERENCES, 3, SIDE, SIDE, generator=draw))
    frequency = torch.hypot(torch.fft.fftfreq(SIDE)[:, None], torch.fft.rfftfreq(SIDE)).mul(SIDE).clamp(min=1)
    patterns = torch.fft.irfft2(noise / frequency ** between(0.7, 1.9), (SIDE, SIDE))
    patterns = patterns / patterns.std((2, 3), keepdim=True)
    grey = patterns.mean(1, keepdim=True)
    colour = 0.5 + between(0, 0.3) * between(-1, 1, 3) + between(-0.25, 0.25)
    contrast, saturation = between(-2.8, -0.8).exp(), between(0, 0.6)
    pictures: Tensor = colour + contrast * (grey + saturation * (patterns - grey))
    return pictures.clamp(0, 1)
