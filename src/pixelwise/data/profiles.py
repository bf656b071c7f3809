"""The ICC profile of a picture says what its numbers look like: checked, kept, or followed where the answer cannot keep it."""

from __future__ import annotations

import io

from PIL import Image, ImageCms

from pixelwise.data.images import note

LIMIT = 2**20
"""Bytes of the largest profile kept; Pillow reads no larger one from a PNG."""
HEADER = 128
SPACES = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}
"""What an ICC profile calls the colours it describes (ICC.1:2022, table 19), and what Pillow does."""


def profile_of(image: Image.Image, notes: list[str], mode: str) -> tuple[bytes, str]:
    """Return the picture's profile and the mode it describes; empty, with a note, if damaged, huge or not of `mode`."""
    data = image.info.get("icc_profile") or b""
    if not data:
        return b"", ""
    size, space = int.from_bytes(data[:4], "big"), SPACES.get(data[16:20], "")
    if len(data) > LIMIT:
        note(notes, f"its ICC profile, {len(data)} bytes, is left out: at most {LIMIT} are kept")
    elif not (HEADER < size <= len(data) and data[36:40] == b"acsp" and _opens(data)):
        note(notes, "its ICC profile is damaged and left out")
    elif space != mode and (space, mode) != ("RGB", "L"):  # grey pixels may be described as RGB
        note(notes, "its ICC profile is not one of its colours and left out")
    else:
        return data[:size], space
    return b"", ""


def mode_of(image: Image.Image) -> str:
    """Return which of `SPACES` the picture's numbers are in."""
    if image.mode in ("1", "L", "LA", "F") or image.mode.startswith("I"):
        return "L"
    return "CMYK" if image.mode == "CMYK" else "RGB"


def to_srgb(data: bytes, mode: str) -> ImageCms.ImageCmsTransform:
    """Return what turns pictures of `mode`, "L" or "CMYK", into sRGB by a profile that `profile_of` returned.

    Raises:
        PyCMSError: The profile cannot do that.
    """
    exactly = ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags.NONE  # else dark greys are off by up to 10 levels
    described = ImageCms.ImageCmsProfile(io.BytesIO(data))
    return ImageCms.buildTransform(described, ImageCms.createProfile("sRGB"), mode, "RGB", flags=exactly)


def _opens(data: bytes) -> bool:
    try:
        ImageCms.ImageCmsProfile(io.BytesIO(data))
    except (OSError, ImageCms.PyCMSError):
        return False
    return True
