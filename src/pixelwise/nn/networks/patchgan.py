"""The discriminator of pix2pix: a verdict on every patch, not on the picture (Isola et al. 2017, section 3.2.2).

Several of them may judge the picture at several sizes (pix2pixHD; Wang et al. 2018, section 3.2).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d
from torch.nn.utils.parametrizations import spectral_norm

from pixelwise.nn.blocks import Norm, norm
from pixelwise.nn.initialisation import initialise
from pixelwise.nn.network import NetworkConfig
from pixelwise.nn.padding import mirror_to_multiple


class Config(NetworkConfig):
    """Settings of the PatchGAN; the defaults are the published 70x70 discriminator."""

    kind: Literal["patchgan"] = "patchgan"
    width: int = Field(64, ge=1, description="channels after the first convolution (ndf), at most 8 times later")
    layers: int = Field(
        3, ge=0, le=6, description="convolutions of stride 2; 0, 1, 2, 3, 4, 5 see patches of 1, 16, 34, 70, 142, 286"
    )
    norm: Norm = Field("batch", description="normalisation; none on the first level")
    spectral_norm: bool = Field(
        False, description="divide every weight by its largest singular value (Miyato et al. 2018), usually with norm=none"
    )
    scales: int = Field(
        1,
        ge=1,
        le=4,
        description="how many discriminators; each further one sees the picture at half the size (pix2pixHD: 2 or 3)",
    )

    def build(self, in_channels: int, out_channels: int = 1) -> PatchGAN | MultiScalePatchGAN:
        """Return the network with weights from N(0, 0.02)."""
        kind = PatchGAN if self.scales == 1 else MultiScalePatchGAN
        network = kind(self, in_channels, out_channels)
        initialise(network)
        if self.spectral_norm:
            for module in [module for module in network.modules() if isinstance(module, nn.Conv2d)]:
                spectral_norm(module)
        return network


class PatchGAN(nn.Module):
    """(B, in_channels, H, W) -> (B, out_channels, H', W') logits, positive for real; 30x30 at 256x256 with 3 layers.

    With n layers H' = floor(H / 2^n) - 2 (0 layers: H' = H); an image below 3 * 2^n pixels is continued to that size
    by mirroring. `stride` is 2^n.
    """

    def __init__(self, config: Config, in_channels: int, out_channels: int = 1) -> None:
        super().__init__()
        self.stride = 2**config.layers
        self.multiple = 1
        self.least = 3 * self.stride if config.layers else 1
        self.layers = nn.Sequential(*(_patch if config.layers else _pixel)(config, in_channels, out_channels))

    def forward(self, image: Tensor, every: bool = False) -> Tensor | list[Tensor]:
        """Return the logits of `image`; with `every` the maps after each activation, first to last, and then the logits."""
        maps = mirror_to_multiple(image, self.multiple, self.least)
        inside = []
        for layer in self.layers:
            maps = layer(maps)
            if isinstance(layer, nn.LeakyReLU):
                inside.append(maps)
        return [*inside, maps] if every else maps


class MultiScalePatchGAN(nn.Module):
    """(B, in_channels, H, W) -> a list of what each discriminator says of the picture, the one of the full size first."""

    multiple = 1

    def __init__(self, config: Config, in_channels: int, out_channels: int = 1) -> None:
        super().__init__()
        self.stride = 2**config.layers
        self.scales = nn.ModuleList(PatchGAN(config, in_channels, out_channels) for _ in range(config.scales))

    def forward(self, image: Tensor, every: bool = False) -> list[Tensor | list[Tensor]]:
        """Return the logits of each, or with `every` its maps and logits."""
        answers = []
        for scale, judge in enumerate(self.scales):
            if scale:
                image = avg_pool2d(image, 3, 2, 1, count_include_pad=False)
            answers.append(judge(image, every))
        return answers


def _patch(config: Config, in_channels: int, out_channels: int) -> list[nn.Module]:
    modules: list[nn.Module] = [nn.Conv2d(in_channels, config.width, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
    before = config.width
    for layer in range(1, config.layers + 1):
        after = config.width * min(2**layer, 8)
        stride = 2 if layer < config.layers else 1
        convolution = nn.Conv2d(before, after, 4, stride, 1, bias=config.norm != "batch")
        modules += [convolution, norm(config.norm, after), nn.LeakyReLU(0.2, inplace=True)]
        before = after
    return [*modules, nn.Conv2d(before, out_channels, 4, 1, 1)]


def _pixel(config: Config, in_channels: int, out_channels: int) -> list[nn.Module]:
    width, bias = config.width, config.norm != "batch"
    return [
        nn.Conv2d(in_channels, width, 1),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(width, 2 * width, 1, bias=bias),
        norm(config.norm, 2 * width),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(2 * width, out_channels, 1, bias=bias),
    ]
