"""The tone curve of a grey ICC profile at all 16 bits, of which colour engines as Pillow calls them give 8 (ICC.1:2022)."""

from __future__ import annotations

import struct

import numpy as np
import torch
from numpy.typing import NDArray

from pixelwise.color.spaces import srgb_of_linear

VALUES = 2**16
TAGS = 128
"""Where a profile's table of tags begins."""
PARAMETERS = (1, 3, 4, 5, 7)
"""How many numbers each kind of parametric curve has (table 68)."""


def srgb_of_grey(profile: bytes) -> NDArray[np.float32]:
    """Return the sRGB in [0, 1] of each of the 65536 values of grey that a profile describes; its black becomes black.

    Raises:
        ValueError: The profile has no tone curve, or a damaged one.
    """
    try:
        curve = _curve(_tag(profile, b"kTRC"))
    except (struct.error, ArithmeticError) as error:
        raise ValueError(str(error)) from None
    light = _light_of_lightness(100 * curve) if profile[20:24] == b"Lab " else curve
    if not (np.isfinite(light).all() and light[0] < 1):
        raise ValueError("the curve leads nowhere")
    from_black = (light - light[0]) / (1 - light[0])
    return srgb_of_linear(torch.from_numpy(from_black)).clamp(0, 1).numpy().astype(np.float32)


def _tag(profile: bytes, name: bytes) -> bytes:
    (count,) = struct.unpack_from(">I", profile, TAGS)
    places = {
        signature: (start, length)
        for signature, start, length in struct.iter_unpack(">4sII", profile[TAGS + 4 : TAGS + 4 + 12 * min(count, 100)])
    }
    if name not in places or b"A2B0" in places:
        raise ValueError("it is described by more than one curve, or by none")
    start, length = places[name]
    return profile[start : start + length]


def _curve(tag: bytes) -> NDArray[np.float64]:
    """Return the curve (sections 10.6 and 10.18) at the 65536 values."""
    values = np.linspace(0, 1, VALUES)
    if tag[:4] == b"para":
        return _parametric(values, tag)
    if tag[:4] != b"curv":
        raise ValueError("an unknown kind of curve")
    (count,) = struct.unpack_from(">I", tag, 8)
    if count == 1:
        return values ** float(struct.unpack_from(">H", tag, 12)[0] / 256)
    table = np.array(struct.unpack_from(f">{min(count, VALUES)}H", tag, 12)) / 65535
    return np.interp(values, np.linspace(0, 1, count), table) if count else values


def _parametric(values: NDArray[np.float64], tag: bytes) -> NDArray[np.float64]:
    """Return (a x + b)^g + e from d on, and c x + f below."""
    (kind,) = struct.unpack_from(">H", tag, 8)
    if kind >= len(PARAMETERS):
        raise ValueError("an unknown kind of curve")
    given = [number / 65536 for number in struct.unpack_from(f">{PARAMETERS[kind]}i", tag, 12)]
    whole: list[float] = given + [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0][len(given) :]
    g, a, b, c, d, e, f = whole
    if kind in (1, 2):
        c, d, e, f = 0.0, -b / a, c, c
    with np.errstate(all="ignore"):  # what is infinite is refused later
        curve: NDArray[np.float64] = np.where(values >= d, np.maximum(a * values + b, 0) ** g + e, c * values + f)
    return curve


def _light_of_lightness(lightness: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Y of L of CIELAB."""
    root = (lightness + 16) / 116
    light: NDArray[np.float64] = np.where(root > 6 / 29, root**3, (root - 4 / 29) * 3 * (6 / 29) ** 2)
    return light
