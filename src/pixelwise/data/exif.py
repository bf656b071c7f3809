"""What a camera or an editor wrote about a picture, without what is no longer true of its answer; read by Pillow alone."""

from __future__ import annotations

import warnings

from PIL import Image
from PIL.ExifTags import IFD, Base

from pixelwise.data.images import DECODING_ERRORS, note

WORDS = (
    Base.ImageDescription,
    Base.Make,
    Base.Model,
    Base.XResolution,
    Base.YResolution,
    Base.ResolutionUnit,
    Base.Software,
    Base.DateTime,
    Base.Artist,
    Base.HostComputer,
    Base.Copyright,
)
"""Tags beside which a file states its layout, orientation and thumbnail, which are the file's own."""
SIZES = (Base.ExifImageWidth, Base.ExifImageHeight, Base.ExifInteroperabilityOffset, Base.MakerNote)
"""Tags of the exposure that tell the size, or point to places of the file."""
LIMIT = 2**16 - 64
"""Bytes that fit into a JPEG."""


def exif_of(image: Image.Image, notes: list[str]) -> bytes:
    """Return the EXIF data that an answer to an upright picture keeps, from "Exif" on; empty where there are none.

    Kept are the words about the picture (`WORDS`), the exposure and the place. What is damaged, or larger than a JPEG holds, is
    left out and noted.
    """
    try:
        with warnings.catch_warnings(action="error"):
            kept = _kept(_read(image))
            written = kept.tobytes() if len(kept) else b""
    except (*DECODING_ERRORS, TypeError, AttributeError, OverflowError, ArithmeticError):
        note(notes, "its EXIF data are damaged and left out")
        return b""
    if len(written) > LIMIT:
        note(notes, f"its EXIF data, {len(written)} bytes, are left out: at most {LIMIT} fit into every format")
        return b""
    return written


def _read(image: Image.Image) -> Image.Exif:
    """Read anew what may have been read for its orientation: of damaged data Pillow tells only the first time."""
    if "exif" not in image.info:
        return image.getexif()
    found = Image.Exif()
    found.load(image.info["exif"])
    return found


def _kept(found: Image.Exif) -> Image.Exif:
    kept = Image.Exif()
    for tag in WORDS:
        if tag in found:
            kept[tag] = found[tag]
    for group in (IFD.Exif, IFD.GPSInfo):
        entries = {tag: value for tag, value in found.get_ifd(group).items() if tag not in SIZES}
        if entries:
            kept[group] = entries
    return kept
