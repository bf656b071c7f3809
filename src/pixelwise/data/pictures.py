"""A picture file is read with all that came with it, for answers that are pictures too."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageCms
from torch import Tensor

from pixelwise.data.bleeding import bleed
from pixelwise.data.carried import EVERYTHING, Carried, Part
from pixelwise.data.deep import WHOLE, add_low, high, layout_of, take
from pixelwise.data.exif import exif_of
from pixelwise.data.images import (
    MODE_NAMES,
    ON_WHITE,
    PIXEL_LIMIT,
    loaded,
    name_of,
    note,
    note_frames,
    opened,
    rgb,
    sixteen_bits,
    strips,
)
from pixelwise.data.profiles import mode_of, profile_of, to_srgb
from pixelwise.data.tone_curve import srgb_of_grey

BYTES, DEEP_BYTES = 10, 24
"""Bytes per pixel at the peak of reading 8 and 16 bits: Pillow's four, our own, and some."""
HIGHEST = np.float32(65535)
FOLLOWED = "{} colours are turned into sRGB through their ICC profile"
UNFOLLOWED = "its ICC profile cannot be followed and is left out"


class Picture(NamedTuple):
    """A picture, upright.

    Attributes:
        pixels: RGB `(3, H, W)`, uint8, or float32 in [0, 1] where the file has 16 bits.
        carried: What came with it.
        notes: What was lost or changed.
    """

    pixels: Tensor
    carried: Carried
    notes: tuple[str, ...]


def read_picture(source: Path | bytes, keeps: Collection[Part] = EVERYTHING, *, pixel_limit: int = PIXEL_LIMIT) -> Picture:
    """Read an image file as RGB with what came with it.

    Where alpha is kept, hidden pixels get the colours around them; else transparent pictures are laid on white. Colours with a
    profile of CMYK or grey become sRGB; numbers with one of RGB stay as they are.

    Args:
        source: The file, or its contents.
        keeps: What is read of what came with the picture.
        pixel_limit: Largest accepted width x height.

    Raises:
        DataError: The file is missing, damaged, too large or no image, or of 16 bits in a way that cannot be read.
    """
    name, notes = name_of(source), list[str]()
    with opened(source, pixel_limit, load=False) as image:
        note_frames(image, notes)
        layout = layout_of(image, name) if "bits" in keeps else ""
    if not layout.startswith(WHOLE):
        if layout:
            note(notes, f"its {layout.partition(';')[0]} colours of 16 bits are read as 8")
        with opened(source, pixel_limit) as image:
            return _picture(image, keeps, name, notes)
    with opened(source, pixel_limit, prepare=partial(take, layout=layout)) as image:
        values, documents, clear = high(image, layout), _documents(image, keeps, notes, layout), image.info.get("transparency")
    if not layout.startswith("LA"):
        with opened(source, pixel_limit, prepare=partial(take, layout=layout, low=True)) as image:
            add_low(values, image)
    return _deep(values, clear, keeps, documents, notes)


def picture_of(image: Image.Image, keeps: Collection[Part] = EVERYTHING) -> Picture:
    """Return a Pillow image as `read_picture` would; of colours Pillow itself holds 8 bits.

    Raises:
        DataError: Its pixels are damaged or have no known range.
    """
    return _picture(loaded(image), keeps, "image", [])


def reading_bytes(source: Path, keeps: Collection[Part]) -> int:
    """Return how many bytes per pixel `read_picture` takes at its peak, from the file's header.

    Raises:
        DataError: As `read_picture`.
    """
    with opened(source, 2**62, load=False) as image:
        return DEEP_BYTES if "bits" in keeps and (image.mode.startswith("I") or layout_of(image, str(source))) else BYTES


class _Documents(NamedTuple):
    """What a picture of 16 bits brings: its profile, if it is one of RGB, what its greys are in sRGB if not, and EXIF."""

    profile: bytes
    greys: NDArray[np.float32] | None
    exif: bytes


def _documents(image: Image.Image, keeps: Collection[Part], notes: list[str], layout: str = "") -> _Documents:
    space = "L" if layout.startswith("LA") else mode_of(image)  # Pillow opens grey of 16 bits with alpha as RGBA
    profile, mode = profile_of(image, notes, space) if "profile" in keeps else (b"", "")
    exif = exif_of(image, notes) if "exif" in keeps else b""
    if mode != "L":
        return _Documents(profile, None, exif)
    try:
        greys = srgb_of_grey(profile)
    except ValueError:
        note(notes, UNFOLLOWED)
        return _Documents(b"", None, exif)
    note(notes, FOLLOWED.format(MODE_NAMES["L"]))
    return _Documents(b"", greys, exif)


def _deep(
    values: NDArray[np.uint16], clear: object, keeps: Collection[Part], documents: _Documents, notes: list[str]
) -> Picture:
    """Return the picture of `values` `(H, W, C)`, grey or RGB, then alpha if C is even; else the colour `clear` is hidden."""
    height, width, channels = values.shape
    colours = values[..., : 3 if channels > 2 else 1]
    pixels = np.empty((height, width, 3), np.float32)
    if documents.greys is None:
        np.divide(colours, HIGHEST, out=pixels)
    else:
        pixels[:] = documents.greys[colours]
    alpha = None
    if channels % 2 == 0:
        alpha = values[..., -1].copy()
    elif isinstance(clear, int | tuple):
        alpha = (colours != np.array(clear)).any(-1) * np.uint16(65535)
    if alpha is not None and "alpha" not in keeps:
        note(notes, ON_WHITE)
        share = alpha[..., None] / HIGHEST
        pixels *= share
        pixels += 1 - share
        alpha = None
    return _whole(pixels, alpha, documents.profile, documents.exif, notes)


def _picture(image: Image.Image, keeps: Collection[Part], name: str, notes: list[str]) -> Picture:
    if image.mode.startswith("I") and "bits" in keeps:
        documents = _documents(image, keeps, notes)
        return _deep(sixteen_bits(image, name)[..., None], image.info.get("transparency"), keeps, documents, notes)
    profile, mode = profile_of(image, notes, mode_of(image)) if "profile" in keeps else (b"", "")
    through = _through(profile, mode, notes) if mode in ("L", "CMYK") else None
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    alpha = np.empty((image.height, image.width), np.uint8) if "alpha" in keeps and image.has_transparency_data else None
    told = notes if image.mode not in MODE_NAMES or image.has_transparency_data else None
    for top, strip in strips(image):
        rows = slice(top, top + strip.height)
        seen = strip.convert("RGBA") if alpha is not None else strip
        if alpha is not None:
            alpha[rows] = np.asarray(seen)[..., 3]
            seen = seen.convert("RGB")
        if through:
            seen = through.apply(strip if mode == "CMYK" else rgb(seen, name, told).convert(mode))
        pixels[rows] = np.asarray(rgb(seen, name, told))
    exif = exif_of(image, notes) if "exif" in keeps else b""
    return _whole(pixels, alpha, profile if mode == "RGB" else b"", exif, notes)


def _through(profile: bytes, mode: str, notes: list[str]) -> ImageCms.ImageCmsTransform | None:
    try:
        transform = to_srgb(profile, mode)
    except ImageCms.PyCMSError:
        note(notes, UNFOLLOWED)
        return None
    note(notes, FOLLOWED.format(MODE_NAMES.get(mode, mode)))
    return transform


def _whole(
    pixels: NDArray[np.generic], alpha: NDArray[np.generic] | None, profile: bytes, exif: bytes, notes: list[str]
) -> Picture:
    colours = torch.from_numpy(pixels).permute(2, 0, 1)
    if alpha is None:
        return Picture(colours, Carried(None, profile, exif), tuple(notes))
    opacity = torch.from_numpy(alpha)
    bleed(colours, opacity)
    return Picture(colours, Carried(opacity, profile, exif), tuple(notes))
