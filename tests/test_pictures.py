"""Pictures keep what they came with: read, answered and written, against readers that are not ours."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import tifffile  # comes with scikit-image
import torch
from numpy.typing import NDArray
from PIL import Image, ImageCms
from PIL.ExifTags import IFD, Base
from torch import Tensor

from pixelwise.batch import predict_files
from pixelwise.data.bleeding import bleed
from pixelwise.data.carried import EVERYTHING, Carried
from pixelwise.data.images import decode_image
from pixelwise.data.pictures import read_picture, reading_bytes
from pixelwise.data.profiles import to_srgb
from pixelwise.errors import DataError, UsageError
from pixelwise.geometry.resample import bicubic
from pixelwise.geometry.tiles import Tile
from pixelwise.model import Description, Model
from pixelwise.predictions import image as written
from pixelwise.predictions.image import ImagePrediction
from pixelwise.recipe import find_recipe

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
RNG = np.random.default_rng(0)
SIXTEEN = RNG.integers(0, 65536, (6, 9, 4), dtype=np.uint16)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(values: NDArray[np.uint16], *chunks: bytes) -> bytes:
    """Write a PNG of 16 bits `(H, W, C)` as the specification says, its rows not filtered."""
    height, width, channels = values.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def stored(picture: Image.Image, suffix: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, suffix, **options)
    return stream.getvalue()


def sixteen(pixels: Tensor) -> NDArray[np.int64]:
    """Return floating pixels `(C, H, W)` as levels `(H, W, C)`, which they have to be exactly."""
    levels = pixels.double() * 65535
    assert float((levels - levels.round()).abs().max()) < 0.01
    return levels.round().long().permute(1, 2, 0).numpy()


def noise(height: int, width: int, channels: int) -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, (height, width, channels), dtype=np.uint8))


# Reading


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_all_16_bits_of_a_png_are_read(channels: int) -> None:
    values = SIXTEEN[..., :channels].copy()
    if channels in (2, 4):
        values[..., -1] |= 1  # nothing is hidden
    read = read_picture(png(values))
    assert read.pixels.dtype == torch.float32
    colours = values[..., : 3 if channels > 2 else 1]
    assert np.array_equal(sixteen(read.pixels), np.broadcast_to(colours, (6, 9, 3)))
    if channels in (2, 4):
        assert read.carried.alpha is not None and np.array_equal(read.carried.alpha.numpy(), values[..., -1])
    else:
        assert read.carried.alpha is None
    assert read.notes == ()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_all_16_bits_of_a_tiff_are_read(channels: int, compression: str | None, order: str, tmp_path: Path) -> None:
    values, options = (
        SIXTEEN[..., :channels] | 1,
        {"byteorder": order, "compression": compression, "predictor": bool(compression)},
    )
    if channels == 4:
        options["extrasamples"] = ["unassalpha"]
    path, kind = tmp_path / "a.tif", "rgb" if channels > 1 else "minisblack"
    tifffile.imwrite(path, values.squeeze(), photometric=kind, **options)
    read = read_picture(path)
    assert np.array_equal(sixteen(read.pixels), np.broadcast_to(values[..., :3], (6, 9, 3)))
    assert (read.carried.alpha is not None) == (channels == 4)


def test_16_bits_that_lie_plane_by_plane_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    values = np.ascontiguousarray(SIXTEEN[..., :3].transpose(2, 0, 1))
    tifffile.imwrite(path, values, photometric="rgb", planarconfig="separate")
    with pytest.raises(DataError, match="channels of 16 bits lie one after the other"):
        read_picture(path)


def test_an_interlaced_png_of_16_bits_is_read() -> None:
    """Adam7 by hand: the first pixel of a 2 x 2 picture is in pass 1, the one beside it in pass 6, the row below in pass 7."""
    values = SIXTEEN[:2, :2, :3]
    passes = (values[:1, :1], values[:1, 1:], values[1:])
    rows = b"".join(b"\0" + part.astype(">u2").tobytes() for part in passes)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 1))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert np.array_equal(sixteen(read_picture(data).pixels), values)


def test_a_colour_that_a_png_calls_transparent_is() -> None:
    values = SIXTEEN[..., :3].copy()
    values[2, 3] = values[4, 5] = (300, 301, 302)
    values[0, 0] = (300, 301, 303)  # the same high bytes
    read = read_picture(png(values, chunk(b"tRNS", struct.pack(">HHH", 300, 301, 302))))
    assert read.carried.alpha is not None and np.argwhere(read.carried.alpha.numpy() == 0).tolist() == [[2, 3], [4, 5]]
    data = png(values[..., :1], chunk(b"tRNS", struct.pack(">H", 300)))
    white, grey = decode_image(data), read_picture(data)
    assert white[0, 2, 3] == 255 and white[0, 0, 1] == round(float(values[0, 1, 0]) / 257)
    assert grey.carried.alpha is not None and np.argwhere(grey.carried.alpha.numpy() == 0).tolist() == [[0, 0], [2, 3], [4, 5]]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_alpha_is_kept_and_visible_colours_stay(mode: str) -> None:
    """A row: opaque, half, hidden."""
    if mode == "P":
        picture = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
        picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
        data = stored(picture, transparency=bytes([255, 128, 0]))
    else:
        pixels = np.array([[[10, 20, 30, 255], [40, 50, 60, 128], [70, 80, 90, 0]]], np.uint8)
        data = stored(Image.fromarray(pixels if mode == "RGBA" else np.ascontiguousarray(pixels[..., [0, 3]])))
    read = read_picture(data)
    assert read.carried.alpha is not None and read.carried.alpha.tolist() == [[255, 128, 0]]
    seen = [[10, 20, 30], [40, 50, 60]] if mode != "LA" else [[10] * 3, [40] * 3]
    assert read.pixels[:, 0, :2].T.tolist() == seen and read.notes == ()
    hidden = read.pixels[:, 0, 2]
    assert all(low <= value <= high for low, value, high in zip(*([seen[0], hidden.tolist(), seen[1]]), strict=True))
    white = read_picture(data, ("bits",))
    assert white.carried.alpha is None and torch.equal(white.pixels, decode_image(data))
    assert white.notes == ("transparent images are laid on white",)


def test_16_bits_are_laid_on_white_where_alpha_is_not_kept() -> None:
    values = np.array([[[0, 65535, 0, 32768], [9, 9, 9, 0]]], np.uint16)
    read = read_picture(png(values), ("bits",))
    assert read.pixels[:, 0, 0].tolist() == pytest.approx([32767 / 65535, 1, 32767 / 65535], abs=1e-6)
    assert read.pixels[:, 0, 1].tolist() == [1, 1, 1]


def test_hidden_colours_come_from_the_nearest_seen() -> None:
    pixels = torch.zeros(3, 40, 300, dtype=torch.uint8)
    pixels[0, :, :100], pixels[2, :, 200:] = 200, 100
    alpha = torch.zeros(40, 300, dtype=torch.uint8)
    alpha[:, :100] = alpha[:, 200:] = 1
    bleed(pixels, alpha)
    assert pixels[0, 7, 100] >= 195 and pixels[2, 7, 100] <= 3
    assert pixels[0, 7, 199] <= 5 and pixels[2, 7, 199] >= 97
    assert bool((pixels[0] / 200 + pixels[2] / 100 - 1 < 0.011).all())  # mixtures of the two, and no black
    assert bool((pixels[0] / 200 + pixels[2] / 100 - 1 > -0.011).all())
    nothing = torch.full((3, 2, 2), 7, dtype=torch.uint8)
    bleed(nothing, torch.zeros(2, 2, dtype=torch.uint8))
    assert bool((nothing == 7).all())


def test_hidden_colours_reach_from_band_to_band(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixelwise.data.bleeding.BAND", 8)
    pixels, alpha = torch.zeros(1, 8, 8, dtype=torch.uint8), torch.zeros(8, 8, dtype=torch.uint8)
    pixels[0, 3], alpha[3] = 90, 255
    bleed(pixels, alpha)
    assert bool((pixels == 90).all())


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_exif_is_kept_without_what_is_no_longer_true(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[Base.Make], exif[Base.Orientation], exif[Base.ImageWidth] = "Maker", orientation, 7
    exif[IFD.Exif] = {Base.ExifImageWidth: 7, Base.ExifImageHeight: 5, Base.DateTimeOriginal: "2020:01:02 03:04:05"}
    exif[IFD.GPSInfo] = {1: "N", 2: (1.0, 2.0, 3.0)}
    picture = noise(5, 7, 3)
    for suffix in ("PNG", "JPEG", "WEBP", "TIFF"):
        data = stored(picture, suffix, exif=exif.tobytes())
        read = read_picture(data)
        assert torch.equal(read.pixels, decode_image(data)), suffix
        assert read.pixels.shape[1:] == ((7, 5) if orientation == 6 else (5, 7)), suffix
        kept = Image.Exif()
        kept.load(read.carried.exif)
        assert dict(kept) | {IFD.Exif: 0, IFD.GPSInfo: 0} == {Base.Make: "Maker", IFD.Exif: 0, IFD.GPSInfo: 0}, suffix
        assert kept.get_ifd(IFD.Exif) == {Base.DateTimeOriginal: "2020:01:02 03:04:05"}, suffix
        assert kept.get_ifd(IFD.GPSInfo) == {1: "N", 2: (1.0, 2.0, 3.0)}, suffix
    without = read_picture(stored(picture))
    assert without.carried.exif == b"" and without.notes == ()


@pytest.mark.parametrize("body", [b"II*\0\x08\0\0\0\xff\xff" + b"\7" * 40, b"hello", b"II*\0\xff\xff\xff\x7f"])
def test_damaged_exif_is_left_out(body: bytes) -> None:
    data = stored(noise(5, 7, 3))
    read = read_picture(data[:33] + chunk(b"eXIf", body) + data[33:])
    assert torch.equal(read.pixels, read_picture(data).pixels)
    assert read.carried.exif == b"" and (read.notes == ("its EXIF data are damaged and left out",) or body[-1] == 0x7F)


@pytest.mark.parametrize("suffix", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_a_profile_is_kept(suffix: str) -> None:
    assert read_picture(stored(noise(5, 7, 3), suffix, icc_profile=SRGB)).carried.profile == SRGB


@pytest.mark.parametrize(
    ("profile", "note"),
    [
        (b"no profile", "its ICC profile is damaged and left out"),
        (SRGB[:-1], "its ICC profile is damaged and left out"),
        (SRGB[:128] + b"\xff" * (len(SRGB) - 128), "its ICC profile is damaged and left out"),
        (SRGB[:16] + b"CMYK" + SRGB[20:], "its ICC profile is not one of its colours and left out"),
        (SRGB + bytes(2**20), f"its ICC profile, {len(SRGB) + 2**20} bytes, is left out: at most 1048576 are kept"),
    ],
)
def test_a_profile_that_is_none_is_left_out(profile: bytes, note: str) -> None:
    read = read_picture(stored(noise(5, 7, 3), "JPEG", icc_profile=profile))
    assert (read.carried.profile, read.notes) == (b"", (note,))


def test_a_profile_that_would_inflate_to_a_gigabyte_is_not() -> None:
    squeezed = zlib.compressobj(9)
    bomb = b"".join(squeezed.compress(bytes(2**20)) for _ in range(64)) + squeezed.flush()
    data = stored(noise(5, 7, 3))
    with pytest.raises(DataError, match="a profile or text in it inflates beyond"):
        read_picture(data[:33] + chunk(b"iCCP", b"x\0\0" + bomb) + data[33:])


def profile(space: bytes, kind: bytes, connected: bytes, **tags: bytes) -> bytes:
    """Write an ICC profile of version 2.4 (ICC.1:2001-04, sections 6.1 and 6.2)."""
    place = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name.encode() + struct.pack(">II", place + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = struct.pack(">I4xI4s4s4s12x4s", place + len(body), 0x02400000, kind, space, connected, b"acsp")
    white = struct.pack(">iii", *(round(value * 65536) for value in (0.9642, 1, 0.8249)))
    return (header + bytes(28) + white).ljust(128, b"\0") + table + body


def test_cmyk_follows_its_profile() -> None:
    """Ink of any kind is the grey of lightness 50, black ink is black; sRGB of L = 50.2 is 119.5 (CIE 1976, IEC 61966-2-1)."""
    inks = bytearray(b"\x00\x80\x80" * 16)  # 2 x 2 x 2 x 2 of C, M, Y, K as L, a, b
    for ink in range(0, 16, 2):
        inks[3 * ink] = 128 if ink else 255
    straight = bytes(range(256))
    unit_matrix = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + unit_matrix + straight * 4 + bytes(inks) + straight * 3
    data = profile(b"CMYK", b"prtr", b"Lab ", A2B0=table)
    for colour, grey in (((0, 0, 0, 0), 255), ((255, 0, 0, 0), 119), ((255, 255, 255, 0), 119), ((0, 0, 0, 255), 0)):
        for suffix in ("TIFF", "JPEG"):
            read = read_picture(stored(Image.new("CMYK", (16, 16), colour), suffix, icc_profile=data))
            assert (read.pixels.int() - grey).abs().max() <= 2, (colour, suffix, read.pixels[:, 3, 3])
            assert read.notes == ("CMYK colours are turned into sRGB through their ICC profile",) and not read.carried.profile


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_grey_follows_its_profile(mode: str) -> None:
    """Linear light of 128 / 255 is 188 in sRGB: 255 (1.055 x^(1 / 2.4) - 0.055)."""
    white = b"XYZ " + bytes(4) + struct.pack(">iii", 63190, 65536, 54061)
    data = profile(b"GRAY", b"mntr", b"XYZ ", wtpt=white, kTRC=b"curv" + bytes(4) + struct.pack(">IH", 1, 256))
    read = read_picture(stored(Image.new("L", (4, 4), 128).convert(mode), icc_profile=data))
    assert (read.pixels.int() - 188).abs().max() <= 1
    assert read.notes == ("grey colours are turned into sRGB through their ICC profile",) and not read.carried.profile


CURVES = {
    "linear": b"curv" + bytes(4) + struct.pack(">I", 0),
    "gamma 2.2": b"curv" + bytes(4) + struct.pack(">IH", 1, round(2.2 * 256)),
    "table": b"curv" + bytes(4) + struct.pack(">I5H", 5, 0, 3000, 15000, 37000, 65535),
    "sRGB": b"para"
    + bytes(4)
    + struct.pack(">HH5i", 3, 0, *(round(65536 * v) for v in (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))),
    "offset": b"para" + bytes(4) + struct.pack(">HH4i", 2, 0, *(round(65536 * v) for v in (2.0, 0.9, 0.05, 0.05))),
}


@pytest.mark.parametrize("connected", [b"XYZ ", b"Lab "])
@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("channels", [1, 2])
def test_grey_of_16_bits_follows_its_profile(curve: str, connected: bytes, channels: int) -> None:
    """At the values that 8 bits have too, LittleCMS agrees to its rounding; in between nothing is lost."""
    white = b"XYZ " + bytes(4) + struct.pack(">iii", 63190, 65536, 54061)
    data = profile(b"GRAY", b"mntr", connected, wtpt=white, kTRC=CURVES[curve])
    ramp = np.arange(65536).reshape(256, 256, 1).astype(np.uint16)
    values = np.concatenate([ramp, np.full_like(ramp, 65535)], -1)[..., :channels]
    read = read_picture(png(values, chunk(b"iCCP", b"x\0\0" + zlib.compress(data))))
    assert read.notes == ("grey colours are turned into sRGB through their ICC profile",) and not read.carried.profile
    levels = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    theirs = torch.from_numpy(np.array(to_srgb(data, "L").apply(levels)))[0, :, 0]
    ours = read.pixels.flatten(1)
    assert torch.equal(ours[0], ours[1]) and torch.equal(ours[0], ours[2])
    assert (255 * ours[0][::257] - theirs).abs().max() < 0.51
    assert len(ours[0].unique()) > 30000


@pytest.mark.parametrize("tags", [{}, {"kTRC": b"curv" + bytes(4) + struct.pack(">I", 9)}, {"kTRC": b"none" + bytes(8)}])
def test_a_grey_profile_of_16_bits_without_a_curve_is_left_out(tags: dict[str, bytes]) -> None:
    white = b"XYZ " + bytes(4) + struct.pack(">iii", 63190, 65536, 54061)
    data = profile(b"GRAY", b"mntr", b"XYZ ", wtpt=white, **tags)
    read = read_picture(png(SIXTEEN[..., :1], chunk(b"iCCP", b"x\0\0" + zlib.compress(data))))
    assert read.notes == ("its ICC profile cannot be followed and is left out",) and not read.carried.profile
    assert torch.equal(read.pixels, read_picture(png(SIXTEEN[..., :1])).pixels)


def test_an_animation_is_said_to_be_one() -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "lime", "blue")]
    for suffix, said in (("GIF", "animation"), ("PNG", "animation"), ("WEBP", "animation"), ("TIFF", "first page")):
        several = stored(frames[0], suffix, save_all=True, append_images=frames[1:])
        (told,) = read_picture(several).notes
        notes: list[str] = []
        decode_image(several, notes)
        assert said in told and told in notes, suffix
        assert not any("first" in text for text in read_picture(stored(frames[0], suffix)).notes)


def test_cmyk_without_a_profile_becomes_rgb_and_says_so() -> None:
    picture = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    plain = read_picture(stored(picture, "TIFF"))
    assert plain.pixels[:, 3, 3].tolist() == [255, 0, 0] and plain.notes == ("CMYK images are turned into RGB",)
    read = read_picture(stored(picture, "TIFF", icc_profile=SRGB))
    assert read.carried.profile == b"" and read.notes[0] == "its ICC profile is not one of its colours and left out"


def test_grey_of_any_depth_is_read() -> None:
    for bits, kind in ((1, "1"), (8, "L")):
        values = np.array([[0, 1]], np.uint8) * 255
        picture = Image.fromarray(values).convert(kind)
        assert read_picture(stored(picture)).pixels[:, 0].tolist() == [[0, 255]] * 3, bits
    four = b"\0" + bytes([0x0F, 0x70])
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 3, 1, 4, 0, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(four)) + chunk(b"IEND", b"")
    assert read_picture(data).pixels[0].tolist() == [[0, 255, 7 * 17]]
    with pytest.raises(DataError, match="floating point"):
        read_picture(stored(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF"))


# Writing


def prediction(bits: int, alpha: bool) -> tuple[ImagePrediction, NDArray[Any]]:
    """Return an answer with everything, and its pixels `(H, W, C)`."""
    values = SIXTEEN if bits == 16 else (SIXTEEN >> 8).astype(np.uint8)
    exif = Image.Exif()
    exif[Base.Make] = "Maker"
    carried = Carried(torch.from_numpy(values[..., 3].copy()) if alpha else None, SRGB, exif.tobytes())
    pixels = torch.from_numpy(values[..., :3].copy()).permute(2, 0, 1)
    shown = values if alpha else values[..., :3]
    return ImagePrediction(torch.zeros(3, 6, 9, dtype=torch.uint8), pixels, carried=carried), shown


def decoded(path: Path) -> NDArray[Any]:
    """Return what a library that is neither ours nor Pillow reads."""
    if path.suffix == ".tif":
        return np.asarray(tifffile.imread(path))
    with av.open(str(path)) as file:
        (frame,) = file.decode(video=0)
        return np.asarray(frame.to_ndarray(channel_last=True))


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("large", [False, True])
def test_everything_is_written_losslessly(
    suffix: str, alpha: bool, bits: int, large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:
        monkeypatch.setattr(written, "LARGE", 1)
    answer, values = prediction(bits, alpha)
    path = answer.save(tmp_path / f"a.{suffix}")
    assert np.array_equal(decoded(path), values)
    with Image.open(path) as picture:
        picture.load()
        assert picture.size == (9, 6) and picture.info["icc_profile"] == SRGB and picture.getexif()[Base.Make] == "Maker"
    again = read_picture(path)
    assert again.carried.parts == answer.carried.parts and again.carried.exif and again.notes == ()


def test_a_tiff_of_16_bits_has_strips_in_their_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixelwise.data.tiff.BAND", 18)
    answer, values = prediction(16, True)
    assert np.array_equal(decoded(answer.save(tmp_path / "a.tif")), values)
    monkeypatch.setattr("pixelwise.data.tiff.LIMIT", 100)
    with pytest.raises(UsageError, match=r"a.tif: 9x6 pixels of 16 bits do not fit into a TIFF"):
        answer.save(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("suffix", "lost"),
    [
        ("webp", "16 bits"),
        ("jpg", "16 bits, transparency, which is laid on white"),
        ("bmp", "16 bits, transparency, which is laid on white, the ICC profile, EXIF data"),
    ],
)
def test_what_a_format_cannot_hold_is_said(suffix: str, lost: str, tmp_path: Path) -> None:
    answer, _ = prediction(16, True)
    with pytest.warns(UserWarning, match=f"^a.{suffix}: a .{suffix} file cannot hold {lost}$"):
        path = answer.save(tmp_path / f"a.{suffix}")
    with Image.open(path) as picture:
        picture.load()
        assert picture.mode == ("RGBA" if suffix == "webp" else "RGB")
        assert (picture.info.get("icc_profile") == SRGB) == (suffix != "bmp")
        assert (picture.getexif().get(Base.Make) == "Maker") == (suffix != "bmp")


def test_a_transparent_answer_is_shown_on_white() -> None:
    carried = Carried(torch.tensor([[0, 255]], dtype=torch.uint8))
    answer = ImagePrediction(torch.zeros(3, 1, 2, dtype=torch.uint8), torch.zeros(3, 1, 2, dtype=torch.uint8), carried=carried)
    assert np.asarray(answer.render())[0].tolist() == [[255] * 3, [0] * 3]
    assert answer.answer().mode == "RGBA" and answer.to_json()["mean"] == [0, 0, 0]


def test_alpha_is_enlarged_as_a_whole_would_be() -> None:
    alpha = torch.from_numpy(RNG.integers(0, 256, (11, 13), dtype=np.uint8))
    whole = (bicubic(alpha.double() / 255, (33, 39), 3).clamp(0, 1) * 255).round()
    carried = Carried(alpha)
    for place in (Tile(0, 0, 33, 39), Tile(0, 0, 5, 39), Tile(14, 0, 8, 39), Tile(29, 7, 4, 11)):
        assert float((carried.alpha_of(place, (33, 39), torch.uint8).double() - place.of(whole)).abs().max()) <= 1
    same = carried.alpha_of(Tile(3, 0, 2, 13), (11, 13), torch.uint16)
    assert torch.equal(same.int(), alpha[3:5].int() * 257)


# Answering


def untrained(name: str, *changes: str) -> Model:
    chosen = find_recipe(name).override(["view.fit=native", *changes])
    meta = chosen.data.open("train").meta
    task = (
        chosen.task.settled(chosen.data.open("train")).build(meta) if name == "world_colorization" else chosen.task.build(meta)
    )
    torch.manual_seed(0)
    networks = task.networks(chosen.network)
    settings = {"task": task.config, "network": chosen.network, "view": chosen.view}
    return Model(Description(recipe=name, meta=meta, **settings), task, dict(networks.items()))


@pytest.fixture(scope="module")
def enlarging() -> Model:
    """Return a network that adds nothing to bicubic."""
    model = untrained("world_super_resolution", "network.width=4", "network.blocks=1", "data.source.scenes=2")
    with torch.no_grad():
        for weight in model.networks.parameters():
            weight.zero_()
    return model


@pytest.fixture(scope="module")
def colouring() -> Model:
    return untrained("world_colorization", "network.width=4", "network.depth=3", "data.scenes=4", "task.representation=l2")


def disc(hidden: int) -> tuple[Image.Image, NDArray[np.bool_]]:
    """Return an opaque red disc on transparent black or white, and where it is."""
    y, x = np.mgrid[:24, :24] + 0.5
    inside = (x - 12) ** 2 + (y - 12) ** 2 < 64
    pixels = np.full((24, 24, 4), hidden, np.uint8)
    pixels[..., 3] = 0
    pixels[inside] = (220, 20, 30, 255)
    return Image.fromarray(pixels), inside


@pytest.mark.parametrize("hidden", [0, 255])
def test_transparent_edges_have_no_fringe(hidden: int, enlarging: Model, tmp_path: Path) -> None:
    picture, inside = disc(hidden)
    picture.save(tmp_path / "disc.png")
    answer = enlarging(tmp_path / "disc.png")
    answer.save(tmp_path / "large.png")
    large = np.asarray(Image.open(tmp_path / "large.png")).astype(int)
    assert large.shape == (48, 48, 4)
    seen = large[..., 3] > 0
    assert np.abs(large[seen][:, :3] - [220, 20, 30]).max() <= 2
    assert large[..., 3].min() == 0 and large[..., 3].max() == 255
    assert abs(int((large[..., 3] / 255).sum()) - 4 * inside.sum()) < 0.02 * 4 * inside.sum()
    assert ((large[..., 3] > 0) & (large[..., 3] < 255)).any()  # the edge is a soft one, not two copies of each pixel


@pytest.mark.parametrize("name", ["ramp.png", "ramp.tif"])
def test_a_smooth_ramp_of_16_bits_keeps_its_levels(name: str, enlarging: Model, tmp_path: Path) -> None:
    ramp = np.broadcast_to(np.linspace(20000, 24000, 600).astype(np.uint16)[None, :, None], (4, 600, 3))
    path = tmp_path / name
    if path.suffix == ".png":
        path.write_bytes(png(ramp))
    else:
        tifffile.imwrite(path, ramp, photometric="rgb", metadata=None)
    answer = enlarging(path)
    assert isinstance(answer, ImagePrediction) and answer.pixels.dtype == torch.uint16
    large = decoded(answer.save(tmp_path / f"large{path.suffix}")).astype(int)
    assert large.shape == (8, 1200, 3)
    assert len(np.unique(large[4, :, 1])) > 1000  # 8 bits have 16 levels there
    middle = (np.arange(4, 1196) / 2 - 0.25) / 599 * 4000 + 20000
    assert np.abs(large[4, 4:1196, 1] - middle).max() < 8
    assert answer.to_json()["mean"] == pytest.approx([22000 / 65535] * 3, abs=1e-4)
    assert answer.render().mode == answer.input().mode == "RGB"


def test_16_bits_in_tiles_are_those_of_the_whole(enlarging: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = RNG.integers(0, 65536, (40, 30, 4), dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(png(values))
    whole = enlarging(tmp_path / "a.png")
    tiling = enlarging._tiling
    room = tiling._takes((24, 24))
    monkeypatch.setattr(Model, "_large", lambda *_: True)
    monkeypatch.setattr(Model, "_plan", lambda self, size, *_: tiling.plan(size, room, "exact"))
    parts = enlarging(tmp_path / "a.png")
    assert isinstance(whole, ImagePrediction) and isinstance(parts, ImagePrediction) and parts.pixels.dtype == torch.uint16
    assert (parts.pixels.int() - whole.pixels.int()).abs().max() <= 1
    assert len(list(tiling.plan((40, 30), room, "exact").parts(lambda tile: torch.zeros(1, tile.height, tile.width)))) > 1


def test_what_reading_takes_is_known_beforehand(enlarging: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep.png").write_bytes(png(SIXTEEN))
    noise(6, 9, 4).save(tmp_path / "a.png")
    assert [reading_bytes(tmp_path / name, EVERYTHING) for name in ("deep.png", "a.png")] == [24, 10]
    assert reading_bytes(tmp_path / "deep.png", ("alpha",)) == 10
    monkeypatch.setattr(Model, "_room", lambda _: 6 * 9 * 24 - 1)
    assert enlarging(tmp_path / "a.png").notes == ()
    with pytest.raises(DataError, match=r"deep.png: reading 9x6 pixels takes 1.27 KiB"):
        enlarging(tmp_path / "deep.png")


def everything(path: Path, width: int = 9) -> Path:
    exif = Image.Exif()
    exif[Base.Make], exif[Base.Orientation] = "Maker", 6
    pixels = RNG.integers(0, 256, (width, 12, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(path, exif=exif, icc_profile=SRGB)
    return path


def test_predicted_files_keep_what_the_pictures_came_with(
    enlarging: Model, colouring: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything(tmp_path / "a.png")
    deep = SIXTEEN.copy()
    deep[..., :3] = deep[..., :1]
    (tmp_path / "deep.png").write_bytes(png(deep))
    for model, scale in ((enlarging, 2), (colouring, 1)):
        monkeypatch.setattr("pixelwise.batch.load", lambda *_, model=model, **__: model)
        out = tmp_path / f"out{scale}"
        done = predict_files(tmp_path, [tmp_path / "a.png", tmp_path / "deep.png"], out)
        assert not done["failed"] and {p["kind"] for p in done["predictions"]} == {"image"}
        with Image.open(out / "a.png") as picture:
            picture.load()
            assert picture.mode == "RGBA" and picture.size == (9 * scale, 12 * scale)
            assert picture.info["icc_profile"] == SRGB and dict(picture.getexif()) == {Base.Make: "Maker"}
            if scale == 1:
                own = read_picture(tmp_path / "a.png").carried.alpha
                assert own is not None and np.array_equal(np.asarray(picture)[..., 3], own.numpy())
        answer = decoded(out / "deep.png")
        assert answer.dtype == np.uint16 and answer.shape == (6 * scale, 9 * scale, 4)


def test_grey_of_16_bits_keeps_its_lightness(colouring: Model, tmp_path: Path) -> None:
    ramp = np.broadcast_to(np.linspace(20000, 24000, 600).astype(np.uint16)[None, :, None], (4, 600, 1))
    (tmp_path / "a.png").write_bytes(png(ramp))
    answer = colouring(tmp_path / "a.png")
    assert isinstance(answer, ImagePrediction) and answer.pixels.dtype == torch.uint16 and answer.notes == ()
    assert len(answer.pixels[1].unique()) > 500


@pytest.mark.parametrize("size", [(1, 9), (9, 1), (1, 1)])
def test_pictures_one_pixel_wide(size: tuple[int, int], enlarging: Model, colouring: Model, tmp_path: Path) -> None:
    height, width = size
    pixels = RNG.integers(0, 256, (height, width, 4), dtype=np.uint8)
    pixels[0, 0, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for model, scale in ((enlarging, 2), (colouring, 1)):
        path = model(tmp_path / "a.png").save(tmp_path / "b.png")
        assert decoded(path).shape == (height * scale, width * scale, 4)


def test_translation_lays_drawings_on_white_and_keeps_the_rest(tmp_path: Path) -> None:
    model = untrained("world_translation", "network.width=4", "network.depth=3", "data.scenes=2")
    with Image.open(everything(tmp_path / "a.png")) as picture:
        answer = model(picture)
    assert isinstance(answer, ImagePrediction) and answer.notes == ("transparent images are laid on white",)
    assert answer.carried.parts == ("profile", "exif") and answer.pixels.shape == (3, 12, 9)
    white = model(decode_image(tmp_path / "a.png"))
    assert torch.equal(answer.pixels, white.pixels)  # type: ignore[attr-defined]
    assert answer.to_json() == white.to_json()


def test_style_transfer_keeps_everything(tmp_path: Path) -> None:
    model = untrained("world_style", "network.width=4", "network.blocks=1", "data.scenes=2")
    (tmp_path / "deep.png").write_bytes(png(SIXTEEN))
    answer = model(tmp_path / "deep.png")
    assert isinstance(answer, ImagePrediction) and answer.pixels.dtype == torch.uint16
    assert decoded(answer.save(tmp_path / "painted.png")).shape == SIXTEEN.shape
    with Image.open(model(everything(tmp_path / "a.png")).save(tmp_path / "b.png")) as picture:
        assert (
            picture.mode == "RGBA" and picture.info["icc_profile"] == SRGB and dict(picture.getexif()) == {Base.Make: "Maker"}
        )


def test_other_tasks_see_8_bits_on_white(tmp_path: Path) -> None:
    model = untrained("world_segmentation", "network.width=4", "network.depth=2", "data.scenes=2")
    assert model.task.keeps == ()
    (tmp_path / "a.png").write_bytes(png(SIXTEEN))
    answer = model(tmp_path / "a.png")
    assert answer.image.dtype == torch.uint8 and torch.equal(answer.image, decode_image(tmp_path / "a.png"))
