"""From sRGB to linear light, Lab and YCbCr and back, differentiable everywhere, in numbers that agree with scikit-image.

Channels are the third dimension from the end, `(..., 3, H, W)`. sRGB is in [0, 1] and encoded, as in a file; Lab has L in
[0, 100] and a, b of about -110 to 110 (D65, two degrees). Gradients are finite also where a power is infinitely steep: at
black, and beyond the ends of the range.
"""

from __future__ import annotations

import torch
from torch import Tensor

XYZ_OF_RGB = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
"""ITU-R BT.709 primaries and the white point D65, to the digits of scikit-image."""
WHITE = (0.95047, 1.0, 1.08883)
"""XYZ of D65 for the observer of two degrees."""
EPSILON, KAPPA = 0.008856, 7.787
"""Where CIELAB's cube root becomes a line, and that line's slope."""
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


def _power(base: Tensor, where: Tensor, exponent: float) -> Tensor:
    """Return base ** exponent where it is asked for; elsewhere 1, so that no gradient there is infinite or NaN."""
    return torch.where(where, base, 1).pow(exponent)


def linear_of_srgb(srgb: Tensor) -> Tensor:
    """Return linear light of encoded sRGB, both in [0, 1] (IEC 61966-2-1); below 0 the line goes on."""
    curved = srgb > 0.04045
    return torch.where(curved, _power((srgb + 0.055) / 1.055, curved, 2.4), srgb / 12.92)


def srgb_of_linear(linear: Tensor) -> Tensor:
    """Return encoded sRGB of linear light, the inverse of `linear_of_srgb`; nothing is clipped."""
    curved = linear > 0.0031308
    return torch.where(curved, 1.055 * _power(linear, curved, 1 / 2.4) - 0.055, 12.92 * linear)


def lab_of_srgb(srgb: Tensor) -> Tensor:
    """Return CIELAB `(..., 3, H, W)` of sRGB `(..., 3, H, W)` in [0, 1]."""
    relative = _mixed(linear_of_srgb(srgb), torch.tensor(XYZ_OF_RGB, dtype=torch.float64)) / _column(WHITE, srgb)
    curved = relative > EPSILON
    x, y, z = torch.where(curved, _power(relative, curved, 1 / 3), KAPPA * relative + 16 / 116).unbind(-3)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -3)


def srgb_of_lab(lab: Tensor) -> Tensor:
    """Return sRGB `(..., 3, H, W)` of CIELAB; beyond [0, 1] where the screen has no such colour (clip it for a picture)."""
    lightness, a, b = lab.unbind(-3)
    y = (lightness + 16) / 116
    roots = torch.stack([y + a / 500, y, y - b / 200], -3)
    curved = roots > 0.2068966
    relative = torch.where(curved, _power(roots, curved, 3), (roots - 16 / 116) / KAPPA)
    xyz = relative * _column(WHITE, lab)
    return srgb_of_linear(_mixed(xyz, _inverse(XYZ_OF_RGB)))


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
