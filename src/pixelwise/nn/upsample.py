"""The six ways a decoder can make maps larger, behind one signature, so that they can be compared in the same network.

Every function here takes (maps, factor, indices) and every module (maps, indices); only `unpool` looks at the indices.
All but `bed_of_nails` and `unpool` keep pixel areas aligned: input pixel i becomes output pixels factor i ... factor i +
factor - 1, without any shift.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.errors import UsageError

Upsample = Literal["bed_of_nails", "nearest", "bilinear", "unpool", "transposed", "pixel_shuffle"]


def bed_of_nails(maps: Tensor, factor: int = 2, indices: Tensor | None = None) -> Tensor:
    """Return (B, C, factor H, factor W): each value at the top left of its factor x factor cell, zeros elsewhere.

    A nail stands (factor - 1) / 2 pixels above and to the left of the middle of its cell, and between the nails there is
    nothing. A convolution that follows and reaches over a cell mends both: it learns to fill the gaps from the nails
    around them, from each at its true distance. Together they are a transposed convolution (Dumoulin and Visin 2016).
    """
    gap = (0, factor - 1)
    spaced = functional.pad(maps[..., :, None, :, None], (*gap, 0, 0, *gap))  # (B, C, H, factor, W, factor)
    return spaced.flatten(-4, -3).flatten(-2)


def nearest(maps: Tensor, factor: int = 2, indices: Tensor | None = None) -> Tensor:
    """Return (B, C, factor H, factor W): every pixel of a cell has the cell's value."""
    return functional.interpolate(maps, scale_factor=factor, mode="nearest")


def bilinear(maps: Tensor, factor: int = 2, indices: Tensor | None = None) -> Tensor:
    """Return (B, C, factor H, factor W) by inverse warping: where an output pixel's centre lies, between four inputs.

    Beyond the outermost centres the border's value goes on.
    """
    return functional.interpolate(maps, scale_factor=factor, mode="bilinear", align_corners=False)


def unpool(maps: Tensor, factor: int = 2, indices: Tensor | None = None) -> Tensor:
    """Return (B, C, factor H, factor W): each value where its maximum was, zeros elsewhere (Zeiler and Fergus 2014).

    Args:
        maps: (B, C, H, W).
        factor: Side and stride of the max pooling that is undone.
        indices: (B, C, H, W) its indices, `row * width + column` in an input of exactly (factor H, factor W).

    Raises:
        UsageError: There are no indices.
    """
    if indices is None:
        raise UsageError("unpool needs the indices of the max pooling that it undoes")
    batch, channels, height, width = maps.shape
    # torch's own max_unpool2d has no counterpart in ONNX, and none that torch calls deterministic
    flat = maps.new_zeros(batch, channels, height * width * factor**2)
    flat = flat.scatter(2, indices.flatten(2), maps.flatten(2))
    return flat.view(batch, channels, height * factor, width * factor)


def transposed(maps: Tensor, factor: int = 2, indices: Tensor | None = None) -> Tensor:
    """Return (B, C, factor H, factor W) by a transposed convolution of each channel with the bilinear kernel.

    Equals `bilinear` from factor / 2 pixels off the border on; nearer to it values fade, since outside there are zeros.
    """
    channels = maps.shape[1]
    kernel = bilinear_kernel(factor).to(maps).expand(channels, 1, -1, -1)
    return functional.conv_transpose2d(maps, kernel, stride=factor, padding=factor // 2, groups=channels)


def pixel_shuffle(maps: Tensor, factor: int = 2, indices: Tensor | None = None) -> Tensor:
    """Return (B, C / factor^2, factor H, factor W): each cell is filled from factor^2 channels (Shi et al. 2016)."""
    return functional.pixel_shuffle(maps, factor)


FUNCTIONS: dict[str, Callable[[Tensor, int, Tensor | None], Tensor]] = {
    "bed_of_nails": bed_of_nails,
    "nearest": nearest,
    "bilinear": bilinear,
    "unpool": unpool,
    "transposed": transposed,
    "pixel_shuffle": pixel_shuffle,
}


def bilinear_kernel(factor: int) -> Tensor:
    """Return the float64 (size, size) kernel, size 2 factor - factor % 2, that enlarges bilinearly (Long et al. 2015)."""
    size = 2 * factor - factor % 2
    ramp = 1 - (torch.arange(size, dtype=torch.float64) - (size - 1) / 2).abs() / factor
    return ramp[:, None] * ramp


class Enlarge(nn.Module):
    """One of FUNCTIONS as a module without weights."""

    def __init__(self, kind: Upsample, factor: int) -> None:
        super().__init__()
        self.kind, self.factor = kind, factor

    def forward(self, maps: Tensor, indices: Tensor | None = None) -> Tensor:
        """Return the larger maps."""
        return FUNCTIONS[self.kind](maps, self.factor, indices)

    def extra_repr(self) -> str:
        """Return what printing the module shows."""
        return f"{self.kind}, factor={self.factor}"


class Projected(nn.Sequential):
    """A 1x1 convolution, then an enlargement of its result."""

    def forward(self, maps: Tensor, indices: Tensor | None = None) -> Tensor:
        """Return the larger maps."""
        projection, enlarge = self
        larger: Tensor = enlarge(projection(maps), indices)
        return larger


class Transposed(nn.ConvTranspose2d):
    """A transposed convolution that can be given indices like every other module here."""

    def forward(self, maps: Tensor, indices: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Return the larger maps."""
        return super().forward(maps)


def upsample(kind: Upsample, in_channels: int, out_channels: int | None = None, factor: int = 2) -> nn.Module:
    """Return a module (maps (B, in_channels, H, W), indices=None) -> (B, out_channels, factor H, factor W).

    `transposed` is the "up-convolution" of U-Net (Ronneberger et al. 2015): its kernel equals its stride, so every output
    pixel has the same number of contributions and no checkerboard is built in (Odena et al. 2016). `pixel_shuffle`
    starts as `nearest` (ICNR; Aitken et al. 2017). The others have no weights and enlarge the result of a 1x1
    convolution; the two commute but for the bias between nails, and this order computes on the small map.

    Args:
        kind: Which of the six.
        in_channels: Channels of the small maps.
        out_channels: Channels of the large maps; if None as many as come in, and kinds without weights do no convolution.
        factor: How many times larger each side becomes, any whole number.

    Returns:
        The module. `unpool` needs the (B, out_channels, H, W) indices of the max pooling that it undoes.
    """
    channels = out_channels or in_channels
    if kind == "transposed":
        return Transposed(in_channels, channels, factor, stride=factor)
    enlarge = Enlarge(kind, factor)
    if kind == "pixel_shuffle":
        return Projected(_icnr(nn.Conv2d(in_channels, channels * factor**2, 1), factor), enlarge)
    return enlarge if out_channels is None else Projected(nn.Conv2d(in_channels, channels, 1), enlarge)


def initialise_icnr(network: nn.Module) -> None:
    """Let every pixel shuffle of `network` start as `nearest` again, after its weights were drawn anew."""
    for module in network.modules():
        if isinstance(module, Projected):
            projection, enlarge = module
            assert isinstance(projection, nn.Conv2d) and isinstance(enlarge, Enlarge)
            if enlarge.kind == "pixel_shuffle":
                _icnr(projection, enlarge.factor)


@torch.no_grad()
def transposed_bilinear(channels: int, factor: int = 2) -> nn.Module:
    """Return a transposed convolution, without bias, that starts as `transposed`: each channel enlarged by itself.

    Its (channels, channels, size, size) weights can learn to mix channels (Long, Shelhamer and Darrell 2015, section 3.3).
    """
    kernel = bilinear_kernel(factor)
    layer = Transposed(channels, channels, len(kernel), stride=factor, padding=factor // 2, bias=False)
    layer.weight.copy_(torch.eye(channels)[:, :, None, None] * kernel)
    return layer


@torch.no_grad()
def _icnr(projection: nn.Conv2d, factor: int) -> nn.Conv2d:
    """Make the factor^2 channels that fill one cell alike, so that the network starts without a checkerboard."""
    for parameter in projection.parameters():
        parameter.copy_(parameter[:: factor**2].repeat_interleave(factor**2, 0))
    return projection
