"""From sRGB to linear light, Lab and YCbCr and back, differentiable everywhere, in numbers that agree with scikit-image.

Channels are the third dimension from the end, `(..., 3, H, W)`. sRGB is in [0, 1] and encoded, as in a file; Lab has L in
[0, 100] and a, b of about -110 to 110 (D65, two degrees). Gradients are finite also where a power is infinitely steep: at
black, and beyond the ends of the range.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

XYZ_OF_RGB = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
"""ITU-R BT.709 primaries and the white point D65, to the digits of scikit-image."""
WHITE = (0.95047, 1.0, 1.08883)
"""XYZ of D65 for the observer of two degrees."""
EPSILON, KAPPA = 0.008856, 7.787
"""Where CIELAB's cube root becomes a line, and that line's slope."""
BAND = 2**18
"""Values of a large picture that are converted at a time."""
HALF_STEP = 0.5 / 255
"""How far beyond its end a channel rounds to the same 8 bits."""
BISECTIONS = 10
"""Which settle a chroma of 100 to a tenth."""
YCBCR_OF_RGB = ((65.481, 128.553, 24.966), (-37.797, -74.203, 112.0), (112.0, -93.786, -18.214))
YCBCR_OFFSET = (16.0, 128.0, 128.0)
"""ITU-R BT.601, studio range, to the digits of MATLAB's rgb2ycbcr: Y from 16 to 235."""


def _mixed(channels: Tensor, matrix: Tensor) -> Tensor:
    """Return the 3 x 3 matrix applied to the channels at every pixel."""
    return torch.einsum("ij,...jhw->...ihw", matrix.to(channels), channels)


def _column(values: tuple[float, float, float], like: Tensor) -> Tensor:
    return like.new_tensor(values)[:, None, None]


def _inverse(matrix: tuple[tuple[float, ...], ...]) -> Tensor:
    return torch.tensor(matrix, dtype=torch.float64).inverse()


def _joined(below: Tensor, above: Tensor, values: Tensor, kink: float) -> Tensor:
    """Return `above` where `values` > `kink`, else `below`, both finite; several times as fast as `torch.where` on a CPU."""
    return torch.lerp(below, above, (values > kink).to(below))


def _in_bands(convert: Callable[[Tensor], Tensor], picture: Tensor) -> Tensor:
    """Convert a large picture `(..., 3, H, W)` band by band: what stays in the cache is several times as fast."""
    if torch.compiler.is_exporting() or picture.requires_grad or picture.numel() <= BAND:
        return convert(picture)
    rows = max(1, BAND * picture.shape[-2] // picture.numel())
    converted = torch.empty_like(picture, dtype=picture.dtype if picture.is_floating_point() else torch.float32)
    for band, place in zip(torch.split(picture, rows, -2), torch.split(converted, rows, -2), strict=True):
        place.copy_(convert(band))
    return converted


def linear_of_srgb(srgb: Tensor) -> Tensor:
    """Return linear light in [0, 1] of encoded sRGB (IEC 61966-2-1), floating in [0, 1] or uint8; below 0 the line goes on."""
    if srgb.dtype == torch.uint8:
        table = linear_of_srgb(torch.arange(256, dtype=torch.float64, device=srgb.device) / 255).float()
        return table.index_select(0, srgb.flatten().int()).view(srgb.shape)
    return _joined(srgb / 12.92, ((srgb + 0.055) / 1.055).clamp(min=0).pow(2.4), srgb, 0.04045)


def srgb_of_linear(linear: Tensor) -> Tensor:
    """Return encoded sRGB of linear light, the inverse of `linear_of_srgb`; nothing is clipped."""
    curve = 1.055 * linear.clamp(min=0.0031308).pow(1 / 2.4) - 0.055
    return _joined(12.92 * linear, curve, linear, 0.0031308)


def lab_of_srgb(srgb: Tensor) -> Tensor:
    """Return CIELAB `(..., 3, H, W)` of sRGB `(..., 3, H, W)`, floating in [0, 1] or uint8, which gives float32."""
    return _in_bands(_lab_of_srgb, srgb)


def _lab_of_srgb(srgb: Tensor) -> Tensor:
    relative = _mixed(linear_of_srgb(srgb), _of_white(XYZ_OF_RGB))
    curve = relative.clamp(min=EPSILON).pow(1 / 3)
    x, y, z = _joined(KAPPA * relative + 16 / 116, curve, relative, EPSILON).unbind(-3)
    return torch.stack([116 * y - 16, (x - y).mul_(500), (y - z).mul_(200)], -3)


def srgb_of_lab(lab: Tensor) -> Tensor:
    """Return sRGB `(..., 3, H, W)` of CIELAB; beyond [0, 1] where the screen has no such colour (clip it for a picture)."""
    return _in_bands(_srgb_of_lab, lab)


def _srgb_of_lab(lab: Tensor) -> Tensor:
    lightness, a, b = lab.unbind(-3)
    y = (lightness + 16) / 116
    roots = torch.stack([y + a / 500, y, y - b / 200], -3)
    relative = _joined((roots - 16 / 116) / KAPPA, roots * roots * roots, roots, 0.2068966)
    return srgb_of_linear(_mixed(relative, _of_white(XYZ_OF_RGB).inverse()))


def _of_white(matrix: tuple[tuple[float, ...], ...]) -> Tensor:
    """Return the matrix that gives X, Y and Z relative to those of white."""
    return torch.tensor(matrix, dtype=torch.float64) / torch.tensor(WHITE, dtype=torch.float64)[:, None]


def ycbcr_of_srgb(srgb: Tensor) -> Tensor:
    """Return Y in [16, 235], Cb and Cr in [16, 240] of sRGB in [0, 1] (ITU-R BT.601 as MATLAB's rgb2ycbcr, not rounded)."""
    return _mixed(srgb, torch.tensor(YCBCR_OF_RGB, dtype=torch.float64)) + _column(YCBCR_OFFSET, srgb)


def srgb_of_ycbcr(ycbcr: Tensor) -> Tensor:
    """Return sRGB in [0, 1] of BT.601 YCbCr, the inverse of `ycbcr_of_srgb`; nothing is clipped."""
    return _mixed(ycbcr - _column(YCBCR_OFFSET, ycbcr), _inverse(YCBCR_OF_RGB))


def srgb_of_lightness(lab: Tensor) -> Tensor:
    """Return sRGB in [0, 1] of the lightness and hue of CIELAB `(3, H, W)`; what no screen shows loses chroma until one does.

    Clipping each channel instead, as is usual, would change how light a pixel is.
    """
    srgb = srgb_of_lab(lab)
    beyond = ((srgb < -HALF_STEP) | (srgb > 1 + HALF_STEP)).any(-3)
    if beyond.any():
        srgb[:, beyond] = _desaturated(lab[:, beyond][:, None])[:, 0]
    return srgb.clamp_(0, 1)


def _desaturated(lab: Tensor) -> Tensor:
    """Return sRGB of the most colourful colours `(3, 1, N)` of the same lightness and hue that a screen shows, by bisection."""
    low, high = torch.zeros_like(lab[0]), torch.ones_like(lab[0])
    for _ in range(BISECTIONS):
        share = (low + high) / 2
        srgb = srgb_of_lab(torch.cat([lab[:1], lab[1:] * share]))
        shown = ((srgb >= -HALF_STEP) & (srgb <= 1 + HALF_STEP)).all(0)
        low, high = torch.where(shown, share, low), torch.where(shown, high, share)
    return srgb_of_lab(torch.cat([lab[:1], lab[1:] * low]))
