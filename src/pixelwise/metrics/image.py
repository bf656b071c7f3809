"""How near images are to their originals: absolute difference, PSNR, structural similarity (Wang et al. 2003, 2004)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from pixelwise.color.spaces import YCBCR_OF_RGB, YCBCR_OFFSET
from pixelwise.metrics.averages import averages

WINDOW = 11
SIGMA = 1.5
K1, K2 = 0.01, 0.03
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales, finest first (Wang et al. 2003, section 3.2)."""
PSNR_LIMIT = 100.0
"""Decibels at which an image counts in the mean at most; equal images would make it infinite."""


def luma(rgb: Tensor) -> Tensor:
    """Return the luma Y of ITU-R BT.601 in studio range, as super-resolution papers score it.

    Args:
        rgb: `(..., 3, H, W)` in [0, 1].

    Returns:
        `(..., 1, H, W)` in [16 / 255, 235 / 255].
    """
    weights = rgb.new_tensor(YCBCR_OF_RGB[0]) / 255
    return (rgb * weights[:, None, None]).sum(-3, keepdim=True) + YCBCR_OFFSET[0] / 255


def psnr(image: Tensor, original: Tensor) -> Tensor:
    """Return the peak signal to noise ratio 10 log10(1 / MSE) of each image in decibels, infinite where they are equal.

    Args:
        image: `(B, C, H, W)` in [0, 1].
        original: The same.

    Returns:
        `(B,)`.
    """
    return -10 * (image - original).square().mean((1, 2, 3)).log10()


def ssim(image: Tensor, original: Tensor) -> Tensor:
    """Return the mean structural similarity of each image (Wang et al. 2004, equation 13).

    A Gaussian window of 11 x 11 with sigma 1.5, only where it lies inside the image; K1 = 0.01, K2 = 0.03, data range
    1; moments of the population; every channel on its own, then the mean. As the authors' MATLAB code without its
    downsampling.

    Args:
        image: `(B, C, H, W)` in [0, 1]; float64 if the last digits matter.
        original: The same.

    Returns:
        `(B,)`; NaN if a side is shorter than the window.
    """
    if min(image.shape[-2:]) < WINDOW:
        return image.new_full((len(image),), torch.nan)
    luminance, contrast = similarities(image, original)
    return (luminance * contrast).mean((1, 2, 3))


def ms_ssim(image: Tensor, original: Tensor) -> Tensor:
    """Return the structural similarity over five scales of each image (Wang et al. 2003, equation 7).

    Contrast and structure at every scale, luminance at the coarsest, each the mean over its map, to the powers `SCALES`,
    multiplied; every channel on its own, then the mean. From scale to scale pixels are averaged two by two, an odd last
    row with itself, as in the authors' MATLAB code. A negative mean, which has no power, counts as 0.

    Args:
        image: `(B, C, H, W)` in [0, 1]; float64 if the last digits matter.
        original: The same.

    Returns:
        `(B,)`; NaN if a side is shorter than 176 pixels, which is 11 at the fifth scale.
    """
    if min(image.shape[-2:]) < WINDOW * 2 ** (len(SCALES) - 1):
        return image.new_full((len(image),), torch.nan)
    product = image.new_ones(image.shape[:2])
    for scale, exponent in enumerate(SCALES):
        image, original = (_halved(image), _halved(original)) if scale else (image, original)
        luminance, contrast = similarities(image, original)
        factor = luminance * contrast if scale == len(SCALES) - 1 else contrast
        product = product * factor.mean((2, 3)).clamp(min=0) ** exponent
    return product.mean(1)


def _halved(image: Tensor) -> Tensor:
    """Average `(B, C, H, W)` two by two."""
    height, width = image.shape[-2:]
    even = functional.pad(image, (0, width % 2, 0, height % 2), mode="replicate")
    return functional.avg_pool2d(even, 2)


def similarities(image: Tensor, original: Tensor) -> tuple[Tensor, Tensor]:
    """Return the luminance of every window, and its contrast and structure, `(B, C, H - 10, W - 10)` each."""
    x, y = _blur(image), _blur(original)
    xx, yy, xy = _blur(image * image) - x * x, _blur(original * original) - y * y, _blur(image * original) - x * y
    c1, c2 = K1**2, K2**2
    return (2 * x * y + c1) / (x * x + y * y + c1), (2 * xy + c2) / (xx + yy + c2)


def _blur(image: Tensor) -> Tensor:
    """Average `(B, C, H, W)` under the window, which is separable."""
    position = torch.arange(WINDOW, device=image.device, dtype=image.dtype) - WINDOW // 2
    weights = (-position.square() / (2 * SIGMA**2)).exp()
    weights = weights / weights.sum()
    planes = image.flatten(0, 1)[:, None]
    blurred = functional.conv2d(functional.conv2d(planes, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
    return blurred.view(*image.shape[:2], *blurred.shape[-2:])


class ImageMetrics:
    """Accumulates one value per image, computed in float64 on the CPU; the result is their mean.

    - `l1`: mean absolute difference, in [0, 1].
    - `psnr_rgb`, `ssim_rgb`, `ms_ssim_rgb`: over the three channels; `_y`: of the BT.601 luma in studio range.
    - `psnr_grey`, `ssim_grey`, `ms_ssim_grey`: of images with one channel, in full range; `_5_channels` and the like of others.

    PSNR is the mean of the images' own values (pooling the squared errors instead gives 1 to 2 dB less), each at most
    100 dB. SSIM has no value for an image with a side below 11 pixels, MS-SSIM below 176. A metric that cannot be measured
    has no key. Borders count.

    Attributes:
        records: The metrics of every image, in order; NaN where not measured.
    """

    def __init__(self) -> None:
        self.records: list[dict[str, float]] = []

    def update(self, image: Tensor, original: Tensor) -> None:
        """Take in images `(B, C, H, W)` or one `(C, H, W)`, uint8, uint16 or floating in [0, 1]: ours, the truth."""
        shape = (-1, *original.shape[-3:])
        image, original = (_unit(i).reshape(shape) for i in (image, original))
        values = {"l1": (image - original).abs().mean((1, 2, 3))}
        for name, ours, theirs in _variants(image, original):
            values[f"psnr_{name}"] = psnr(ours, theirs).clamp(max=PSNR_LIMIT)
            values[f"ssim_{name}"] = ssim(ours, theirs)
            values[f"ms_ssim_{name}"] = ms_ssim(ours, theirs)
        columns = [column.tolist() for column in values.values()]
        self.records += [dict(zip(values, row, strict=True)) for row in zip(*columns, strict=True)]

    def compute(self) -> dict[str, float]:
        """Return the mean of every metric over the images."""
        names = dict.fromkeys(name for record in self.records for name in record)
        columns = {name: [record.get(name, torch.nan) for record in self.records] for name in names}
        return averages({name: torch.tensor(column, dtype=torch.float64) for name, column in columns.items()})


def _unit(image: Tensor) -> Tensor:
    values = image.cpu().double()
    return values if image.is_floating_point() else values / torch.iinfo(image.dtype).max


def _variants(image: Tensor, original: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
    channels = image.shape[1]
    if channels not in (1, 3):
        yield f"{channels}_channels", image, original
    elif channels == 1:
        yield "grey", image, original
    else:
        yield "rgb", image, original
        yield "y", luma(image), luma(original)
