"""How near images are to their originals: absolute difference, PSNR, structural similarity (Wang et al. 2003, 2004)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

from pixelwise.color.spaces import YCBCR_OF_RGB, YCBCR_OFFSET
from pixelwise.geometry.tiles import Tile, bands
from pixelwise.metrics.averages import averages

WINDOW = 11
SIGMA = 1.5
K1, K2 = 0.01, 0.03
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales, finest first (Wang et al. 2003, section 3.2)."""
BAND = 2**18
"""Pixels that are compared at a time: all of a large picture in float64 would take many times its memory."""
Seen = Callable[[Tensor], Tensor]
"""From pixels as they are held, (B, any, h, w), to what is compared, floating (B, C, h, w)."""
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


def as_it_is(pixels: Tensor) -> Tensor:
    """Return `pixels`."""
    return pixels


def psnr(image: Tensor, original: Tensor, seen: Seen = as_it_is) -> Tensor:
    """Return the peak signal to noise ratio 10 log10(1 / MSE) of each image in decibels, infinite where they are equal.

    Args:
        image: `(B, C, H, W)` in [0, 1].
        original: The same.
        seen: Applied to every band of both first.

    Returns:
        `(B,)`.
    """
    return -10 * _mean(image, original, seen, torch.square).log10()


def _mean(image: Tensor, original: Tensor, seen: Seen, of: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the mean of a function of the difference of each image, `(B,)`."""
    total, count = torch.zeros((), dtype=torch.float64), 0
    for band in _bands(image):
        difference = seen(band.of(image)) - seen(band.of(original))
        total, count = total.to(difference) + of(difference).sum((1, 2, 3)), count + difference[0].numel()
    return total / count


def _bands(image: Tensor, height: int | None = None, step: int = 1) -> Iterator[Tile]:
    """Cut `height` rows of the image, or all, into bands of a multiple of `step` rows, but the last."""
    whole = Tile(0, 0, image.shape[-2] if height is None else height, image.shape[-1])
    return bands(whole, max(1, BAND // whole.width // step) * step * whole.width)


def ssim(image: Tensor, original: Tensor, seen: Seen = as_it_is) -> Tensor:
    """Return the mean structural similarity of each image (Wang et al. 2004, equation 13).

    A Gaussian window of 11 x 11 with sigma 1.5, only where it lies inside the image; K1 = 0.01, K2 = 0.03, data range
    1; moments of the population; every channel on its own, then the mean. As the authors' MATLAB code without its
    downsampling.

    Args:
        image: `(B, C, H, W)` in [0, 1]; float64 if the last digits matter.
        original: The same.
        seen: Applied to every band of both first.

    Returns:
        `(B,)`; NaN if a side is shorter than the window.
    """
    if min(image.shape[-2:]) < WINDOW:
        return torch.full((len(image),), torch.nan)
    return _similar(image, original, seen)[0].mean(1)


def ms_ssim(image: Tensor, original: Tensor, seen: Seen = as_it_is) -> Tensor:
    """Return the structural similarity over five scales of each image (Wang et al. 2003, equation 7).

    Contrast and structure at every scale, luminance at the coarsest, each the mean over its map, to the powers `SCALES`,
    multiplied; every channel on its own, then the mean. From scale to scale pixels are averaged two by two, an odd last
    row with itself, as in the authors' MATLAB code. A negative mean, which has no power, counts as 0.

    Args:
        image: `(B, C, H, W)` in [0, 1]; float64 if the last digits matter.
        original: The same.
        seen: Applied to every band of both first.

    Returns:
        `(B,)`; NaN if a side is shorter than 176 pixels, which is 11 at the fifth scale.
    """
    if min(image.shape[-2:]) < WINDOW * 2 ** (len(SCALES) - 1):
        return torch.full((len(image),), torch.nan)
    product = torch.ones(())
    for scale, exponent in enumerate(SCALES):
        if scale:
            image, original, seen = _halved(image, seen), _halved(original, seen), as_it_is
        both, contrast = _similar(image, original, seen)
        factor = both if scale == len(SCALES) - 1 else contrast
        product = product * factor.clamp(min=0) ** exponent
    return product.mean(1)


def _similar(image: Tensor, original: Tensor, seen: Seen) -> tuple[Tensor, Tensor]:
    """Return the means over all windows of luminance times contrast and structure, and of these alone, `(B, C)` each."""
    total, count = torch.zeros((), dtype=torch.float64), 0
    for band in _bands(image, image.shape[-2] - WINDOW + 1):
        around = band._replace(height=band.height + WINDOW - 1)
        luminance, contrast = similarities(seen(around.of(image)), seen(around.of(original)))
        total = total.to(contrast) + torch.stack([luminance * contrast, contrast]).sum((3, 4))
        count += contrast[0, 0].numel()
    both, alone = total / count
    return both, alone


def _halved(image: Tensor, seen: Seen) -> Tensor:
    """Average what is seen of `image` two by two, `(B, C, H / 2, W / 2)`."""
    return torch.cat([_two_by_two(seen(band.of(image))) for band in _bands(image, step=2)], -2)


def _two_by_two(image: Tensor) -> Tensor:
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
        image, original = (one.cpu().reshape(shape) for one in (image, original))
        values = {"l1": _mean(image, original, _unit, torch.abs)}
        for name, seen in _variants(image.shape[1]).items():
            values[f"psnr_{name}"] = psnr(image, original, seen).clamp(max=PSNR_LIMIT)
            values[f"ssim_{name}"] = ssim(image, original, seen)
            values[f"ms_ssim_{name}"] = ms_ssim(image, original, seen)
        columns = [column.tolist() for column in values.values()]
        self.records += [dict(zip(values, row, strict=True)) for row in zip(*columns, strict=True)]

    def compute(self) -> dict[str, float]:
        """Return the mean of every metric over the images."""
        names = dict.fromkeys(name for record in self.records for name in record)
        columns = {name: [record.get(name, torch.nan) for record in self.records] for name in names}
        return averages({name: torch.tensor(column, dtype=torch.float64) for name, column in columns.items()})


def _unit(image: Tensor) -> Tensor:
    values = image.double()
    return values if image.is_floating_point() else values / torch.iinfo(image.dtype).max


def _luma(image: Tensor) -> Tensor:
    return luma(_unit(image))


def _variants(channels: int) -> dict[str, Callable[[Tensor], Tensor]]:
    if channels == 3:
        return {"rgb": _unit, "y": _luma}
    return {"grey" if channels == 1 else f"{channels}_channels": _unit}
