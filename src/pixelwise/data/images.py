"""Any image file becomes uint8 RGB pixels or class indices, and a damaged or hostile one a clear error.

Only the formats below are ever tried, so no file can start an external interpreter (PostScript), and the size in the
header is checked before any pixel is decoded.
"""

from __future__ import annotations

import io
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pixelwise.errors import DataError, did_you_mean
from pixelwise.geometry.tiles import Tile, bands
from pixelwise.geometry.unknown import UNKNOWN

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"})
PIXEL_LIMIT = 2**28
"""Pixels a file may declare before it is refused unread; 2**28 RGB pixels fill 0.8 GB."""
ON_WHITE = "transparent images are laid on white"
GREY = 128
"""The value of an unknown pixel in the file of a mask."""
SKIP_HINT = "repair it, or train without bad files: data.on_error=skip"

STRANGE = -(2**31)
"""Stands for the index of a colour that is not in the palette."""
CODE = np.array([65536, 256, 1], np.int32)
LISTED = 5
"""Colours that are named where many are not in the palette."""
_ORIENTATION = 0x0112
_UPRIGHT = dict(
    zip(
        range(2, 9),
        (
            Image.Transpose.FLIP_LEFT_RIGHT,
            Image.Transpose.ROTATE_180,
            Image.Transpose.FLIP_TOP_BOTTOM,
            Image.Transpose.TRANSPOSE,
            Image.Transpose.ROTATE_270,
            Image.Transpose.TRANSVERSE,
            Image.Transpose.ROTATE_90,
        ),
        strict=True,
    )
)
DECODING_ERRORS = (OSError, SyntaxError, ValueError, EOFError, KeyError, IndexError, struct.error, zlib.error, Warning)
"""What Pillow raises where a file is not what it seems."""
_limit_lock = threading.Lock()


def decode_image(source: Path | bytes, notes: list[str] | None = None, *, pixel_limit: int = PIXEL_LIMIT) -> Tensor:
    """Decode an image file upright, as RGB, whatever its mode.

    Transparency is laid on white; 16-bit grey values v become round(v / 257); the first frame of an animation is taken.

    Args:
        source: The file, or its contents.
        notes: Receives one sentence for each kind of conversion, once.
        pixel_limit: Largest accepted width x height.

    Returns:
        uint8 (3, H, W) in [0, 255]; a view of (H, W, 3) memory.

    Raises:
        DataError: The file is missing, damaged, too large or no image.
    """
    with opened(source, pixel_limit, prepare=lambda image: note_frames(image, notes)) as image:
        return _pixels(image, name_of(source), notes)


def pillow_pixels(image: Image.Image) -> Tensor:
    """Return a Pillow image, upright, as uint8 RGB (3, H, W), by the rules of `decode_image`.

    Raises:
        DataError: Its pixels are damaged or have no known range.
    """
    return _pixels(loaded(image), "image", None)


def loaded(image: Image.Image) -> Image.Image:
    """Return an image that the caller opened with its pixels decoded, upright.

    Raises:
        DataError: Its pixels are damaged.
    """
    _load(image, "image", 0)
    return upright(image)


def image_size(source: Path | bytes, *, pixel_limit: int = PIXEL_LIMIT) -> tuple[int, int]:
    """Return the upright (height, width) from the file's header alone.

    Raises:
        DataError: As `decode_image`.
    """
    with opened(source, pixel_limit, load=False) as image:
        turned = not _says_no_orientation(image) and _orientation(image) >= 5
        return (image.width, image.height) if turned else (image.height, image.width)


def is_indexed(source: Path | bytes) -> bool:
    """Return whether the file stores palette indices (a label painting) and not colours.

    Raises:
        DataError: As `decode_image`.
    """
    with opened(source, PIXEL_LIMIT, load=False) as image:
        return image.mode == "P" and image.format == "PNG"


def stored_palette(source: Path | bytes) -> tuple[int, ...]:
    """Return red, green and blue of each index of a palette PNG, one after the other, from its header; else nothing.

    Raises:
        DataError: As `decode_image`.
    """
    with opened(source, PIXEL_LIMIT, load=False) as image:
        return tuple(image.getpalette() or ()) if image.mode == "P" and image.format == "PNG" else ()


def single_channel(source: Path | bytes) -> bool:
    """Tell from the file's header whether it holds one channel; a palette holds colours.

    Raises:
        DataError: As `decode_image`.
    """
    with opened(source, PIXEL_LIMIT, load=False) as image:
        return image.mode in ("1", "L", "LA", "F") or image.mode.startswith("I")


def decode_labels(
    source: Path | bytes,
    classes: int,
    ignore: int = UNKNOWN,
    palette: Sequence[tuple[int, int, int]] = (),
    *,
    pixel_limit: int = PIXEL_LIMIT,
) -> Tensor:
    """Decode a label file: class indices as stored (palette, 8 or 16 bit grey), or colours looked up in `palette`.

    Args:
        source: The file, or its contents.
        classes: Number of classes; indices are 0 .. classes - 1.
        ignore: The value that means unlabelled in the file; it becomes 255.
        palette: Colour of each index, for files painted in RGB.
        pixel_limit: Largest accepted width x height.

    Returns:
        uint8 (H, W), 255 = unlabelled.

    Raises:
        DataError: The file is unreadable or lossy, an index is out of range, or a colour is not in the palette.
    """
    name = name_of(source)
    with opened(source, pixel_limit) as image:
        if image.format in ("JPEG", "MPO"):
            raise DataError(f"{name}: labels in a JPEG are altered by its compression", "save labels as PNG")
        labels = np.empty((image.height, image.width), np.uint8)
        for top, strip in strips(image):
            stored = _indices(strip, name, palette)
            if (stored == STRANGE).any():
                raise _strange(image, name, palette)
            wrong = (stored < 0) | ((stored >= classes) & (stored != ignore))
            if wrong.any():
                y, x = np.argwhere(wrong)[0]
                what = f"class {stored[y, x]} at (x={x}, y={top + y})"
                allowed = f"classes={classes} allows 0..{classes - 1} and ignore={ignore}"
                raise DataError(f"{name}: {what}, but {allowed}", _masks(stored))
            labels[top : top + strip.height] = np.where(stored == ignore, UNKNOWN, stored)
    return torch.from_numpy(labels)


def decode_values(source: Path | bytes, *, indexed: bool = False, pixel_limit: int = PIXEL_LIMIT) -> NDArray[np.int32]:
    """Decode a grey image of 8 or 16 bits to its values as stored, int32 (H, W).

    Args:
        source: The file, or its contents.
        indexed: Whether it may also have 1 bit, or hold indices of a palette.
        pixel_limit: Largest accepted width x height.

    Raises:
        DataError: The file is unreadable, lossy, or in colours.
    """
    name = name_of(source)
    with opened(source, pixel_limit) as image:
        if image.format in ("JPEG", "MPO", "WEBP"):
            raise DataError(f"{name}: values in a {image.format} are altered by its compression", "save them as PNG")
        if image.mode not in (("L", "1", "P") if indexed else ("L",)) and not image.mode.startswith("I"):
            what = MODE_NAMES.get(image.mode, image.mode)
            raise DataError(f"{name}: a {what} image does not hold one value per pixel", "save them as a grey PNG of 16 bits")
        return np.asarray(image).astype(np.int32)


def decode_mask(source: Path | bytes) -> Tensor:
    """Decode a black and white file: 1 for white (255, or 1), 0 for black, unknown for grey (128).

    Returns:
        uint8 (H, W): 1, 0, or 255 = unknown.

    Raises:
        DataError: The file is unreadable or lossy, or has another value.
    """
    values = decode_labels(source, 256, -1, [(value, value, value) for value in range(256)])
    wrong = ~torch.isin(values, torch.tensor([0, 1, GREY, 255], dtype=torch.uint8))
    if wrong.any():
        y, x = wrong.nonzero()[0].tolist()
        hint = f"a mask is black (0), white (255, or 1), and grey ({GREY}) where unknown"
        raise DataError(f"{name_of(source)}: value {int(values[y, x])} at (x={x}, y={y})", hint)
    mask = (values != 0).to(torch.uint8)
    return mask.masked_fill_(values == GREY, UNKNOWN)


def name_of(source: Path | bytes) -> str:
    """Return what to call `source` in a message."""
    return "image" if isinstance(source, bytes) else str(source)


def _masks(stored: NDArray[np.int32]) -> str:
    return "a black and white mask needs a 1-bit PNG, or the values 0 and 1" if set(np.unique(stored)) == {0, 255} else ""


@contextmanager
def opened(
    source: Path | bytes, pixel_limit: int, load: bool = True, prepare: Callable[[Image.Image], None] | None = None
) -> Iterator[Image.Image]:
    """Open an image file, and decode it upright unless `load` is False.

    Args:
        source: The file, or its contents.
        pixel_limit: Largest accepted width x height.
        load: Whether to decode its pixels.
        prepare: Called with the opened image before that.

    Raises:
        DataError: As `decode_image`.
    """
    name = name_of(source)
    try:
        stream = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
        with stream, _open(stream, name) as image:
            if image.width * image.height > pixel_limit:
                what = f"{image.width}x{image.height} pixels are more than the limit of {pixel_limit}"
                raise DataError(f"{name}: {what}", "shrink the image")
            if prepare:
                prepare(image)
            if load:
                _load(image, name, len(source) if isinstance(source, bytes) else source.stat().st_size)
                turned = upright(image)
                if turned is not image:
                    image.close()  # a huge picture is not held twice
                yield turned
            else:
                yield image
    except FileNotFoundError:
        near = did_you_mean(Path(name).name, (p.name for p in Path(name).parent.glob("*")))
        raise DataError(f"no such file: {name}", near) from None
    except (IsADirectoryError, PermissionError) as error:
        raise DataError(f"{name}: {error.strerror}") from None


def _open(stream: BinaryIO, name: str) -> Image.Image:
    """Open with Pillow's own limit lifted, because ours is checked instead."""
    with _limit_lock:
        theirs, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(stream, formats=FORMATS)
        except DECODING_ERRORS as error:
            if "MAX_TEXT_CHUNK" in str(error) or "MAX_TEXT_MEMORY" in str(error):
                what = "a profile or text in it inflates beyond what any picture needs"
                raise DataError(f"{name}: {what}", "save it again without") from None
            if "runcated" in str(error):
                raise DataError(f"{name}: image file is truncated", SKIP_HINT) from None
            raise DataError(f"{name}: not a readable {', '.join(FORMATS)} image", SKIP_HINT) from None
        finally:
            Image.MAX_IMAGE_PIXELS = theirs


def _load(image: Image.Image, name: str, size: int) -> None:
    try:
        image.load()
    except MemoryError:
        raise DataError(f"{name}: {image.width}x{image.height} pixels do not fit into memory", SKIP_HINT) from None
    except DECODING_ERRORS as error:
        if "truncated" in str(error):
            raise DataError(f"{name}: image file is truncated ({_share(image, size)})", SKIP_HINT) from None
        raise DataError(f"{name}: damaged image file ({error})", SKIP_HINT) from None


def _share(image: Image.Image, size: int) -> str:
    """Say how much of the file is there, judging its full size by the rows that could be decoded."""
    box = image.im.getbbox()
    rows = box[3] - box[1] if box else 0
    return (
        f"{size / 1000:.0f} of about {size * image.height / rows / 1000:.0f} kB"
        if 0 < rows < image.height
        else f"{size / 1000:.0f} kB"
    )


def _says_no_orientation(image: Image.Image) -> bool:
    """Tell from the chunks of a PNG alone; Pillow would decode all pixels to look for what may come after them."""
    if image.format != "PNG" or "exif" in image.info or "Raw profile type exif" in image.info:
        return False
    file: BinaryIO = image.fp  # type: ignore[attr-defined]
    place = file.tell()
    late: set[bytes] = set()
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        late = {*late, kind} if kind != b"IDAT" else {kind}
        file.seek(length + 4, io.SEEK_CUR)
    file.seek(place)
    return not late & {b"eXIf", b"tEXt", b"zTXt", b"iTXt"}


def _orientation(image: Image.Image) -> int:
    if image.format not in ("JPEG", "MPO", "PNG", "TIFF", "WEBP"):
        return 1
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except DECODING_ERRORS:
        return 1
    return found if found in _UPRIGHT else 1


def upright(image: Image.Image) -> Image.Image:
    """Turn the pixels as the EXIF orientation asks, keeping what transposing would forget."""
    operation = _UPRIGHT.get(_orientation(image))
    if operation is None:
        return image
    turned = image.transpose(operation)
    turned.format = image.format
    return turned


def _pixels(image: Image.Image, name: str, notes: list[str] | None) -> Tensor:
    """Return the RGB pixels (3, H, W)."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top, strip in strips(image):
        pixels[top : top + strip.height] = np.asarray(rgb(strip, name, notes))
    return torch.from_numpy(pixels).permute(2, 0, 1)


def strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Yield the top and the pixels of bands of the image, since every conversion takes the memory of what it converts again."""
    for band in bands(Tile(0, 0, image.height, image.width), most=2**22):
        bottom = band.top + band.height
        yield band.top, image if band.height == image.height else image.crop((0, band.top, image.width, bottom))


def rgb(image: Image.Image, name: str, notes: list[str] | None) -> Image.Image:
    """Return the picture, or a part of it, as RGB of 8 bits, laid on white where it is transparent.

    Raises:
        DataError: Its pixels have no known range.
    """
    if image.mode.startswith("I"):
        note(notes, "16-bit images are scaled to 8 bits")
        return Image.fromarray(_on_white(sixteen_bits(image, name), image.info.get("transparency"), notes)).convert("RGB")
    if image.has_transparency_data:
        note(notes, ON_WHITE)
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), rgba).convert("RGB")
    if image.mode == "RGB":
        return image
    if image.mode == "F":
        raise DataError(f"{name}: floating point pixels have no known range", "save it with 8 or 16 bits")
    note(notes, f"{MODE_NAMES.get(image.mode, image.mode)} images are turned into RGB")
    return image.convert("RGB")


MODE_NAMES = {"1": "black and white", "L": "grey", "P": "palette"}


def sixteen_bits(image: Image.Image, name: str) -> NDArray[np.uint16]:
    """Return the values (H, W) of a grey picture of more than 8 bits.

    Raises:
        DataError: They are no numbers of 16 bits.
    """
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise DataError(f"{name}: pixel values reach {values.max()}, more than 16 bits", "save it with 8 or 16 bits")
    return values.astype(np.uint16)


def _on_white(values: NDArray[np.uint16], clear: object, notes: list[str] | None) -> NDArray[np.uint8]:
    """Map [0, 65535] to [0, 255] so that both ends are kept, 65535 = 255 * 257, and the value `clear` to white."""
    grey = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if isinstance(clear, int):
        note(notes, ON_WHITE)
        grey[values == clear] = 255
    return grey


def note(notes: list[str] | None, text: str) -> None:
    """Add a sentence to what the user is to know, once."""
    if notes is not None and text not in notes:
        notes.append(text)


def note_frames(image: Image.Image, notes: list[str] | None) -> None:
    """Note that an opened image is only the first of several, unless they are one shot as cameras store it (MPO)."""
    if notes is None or image.format == "MPO":
        return
    try:
        several = bool(getattr(image, "is_animated", False))
    except DECODING_ERRORS:
        return  # what comes after the first image is damaged, and is not read
    if several:
        note(notes, "only its first page is used" if image.format == "TIFF" else "an animation: only its first frame is used")


def _indices(image: Image.Image, name: str, palette: Sequence[tuple[int, int, int]]) -> NDArray[np.int32]:
    if image.mode in ("1", "L", "P") or image.mode.startswith("I"):
        return np.asarray(image).astype(np.int32)
    if image.mode not in ("RGB", "RGBA"):
        raise DataError(f"{name}: labels in mode {image.mode}", "save class indices as a palette or grey PNG")
    if not palette:
        raise DataError(f"{name}: labels painted in colours, but no palette is known", 'add "palette" to meta.json')
    return _looked_up(np.asarray(image)[:, :, :3], palette)


def _looked_up(pixels: NDArray[np.uint8], palette: Sequence[tuple[int, int, int]]) -> NDArray[np.int32]:
    """Return the index of each pixel's colour, `STRANGE` where the palette lacks it."""
    codes, known = pixels @ CODE, np.array(palette, np.int32) @ CODE
    order = np.argsort(known, kind="stable")
    found = order[np.minimum(np.searchsorted(known[order], codes), len(known) - 1)]
    return np.where(known[found] == codes, found, STRANGE).astype(np.int32)


def _strange(image: Image.Image, name: str, palette: Sequence[tuple[int, int, int]]) -> DataError:
    """Return the error for colours that are not in the palette: the most frequent, how often, and the nearest."""
    known, counts = np.array(palette, np.int32), dict[int, int]()
    for _, strip in strips(image):
        pixels = np.asarray(strip)[:, :, :3]
        for code, count in zip(
            *np.unique((pixels @ CODE)[_looked_up(pixels, palette) == STRANGE], return_counts=True), strict=True
        ):
            counts[int(code)] = counts.get(int(code), 0) + int(count)
    told = []
    for code, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:LISTED]:
        colour = (code >> 16, code >> 8 & 255, code & 255)
        nearest = int(np.square(known - colour).sum(1).argmin())
        told.append(f"{colour} at {count} pixels (nearest: {tuple(palette[nearest])}, class {nearest})")
    more = f" and {len(counts) - LISTED} more" if len(counts) > LISTED else ""
    what = f"{len(counts)} colours are not in the palette" if len(counts) > 1 else "a colour is not in the palette"
    blended = (
        "colours that were blended by JPEG or by resizing cannot be told apart: save labels as PNG, resized to the nearest"
    )
    hint = blended if len(counts) > LISTED else "add it to meta.json"
    return DataError(f"{name}: {what}: {'; '.join(told)}{more}", hint)
