"""Every kind of file a user may bring, made here byte by byte, read to pixels known by hand."""

import io
import pickle
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pixelwise.data.images import decode_image, decode_labels, decode_values, image_size, is_indexed
from pixelwise.errors import DataError


def saved(path: Path, pixels: np.ndarray, **options: object) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def noise(height: int, width: int, *channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, *channels), dtype=np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".ppm", ".tif", ".webp"])
def test_lossless_rgb_is_read_exactly(tmp_path: Path, suffix: str) -> None:
    pixels = noise(5, 7, 3)
    decoded = decode_image(saved(tmp_path / f"a{suffix}", pixels, **({"lossless": True} if suffix == ".webp" else {})))
    assert decoded.dtype == torch.uint8
    assert np.array_equal(decoded.permute(1, 2, 0).numpy(), pixels)


def test_bytes_are_read_as_files_are(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", noise(5, 7, 3))
    assert torch.equal(decode_image(path.read_bytes()), decode_image(path))
    assert image_size(path.read_bytes()) == image_size(path) == (5, 7)


def test_16_bit_grey_is_divided_by_257_and_rounded(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 257, 32767, 65407, 65535]], np.uint16)
    notes: list[str] = []
    decoded = decode_image(saved(tmp_path / "a.png", values), notes)
    # 128 / 257 = 0.498, 129 / 257 = 0.502, 32767 / 257 = 127.498, 65407 / 257 = 254.502
    assert decoded[:, 0].tolist() == [[0, 0, 1, 1, 127, 255, 255]] * 3
    assert notes == ["16-bit images are scaled to 8 bits"]


def test_transparent_pixels_show_white(tmp_path: Path) -> None:
    pixels = np.array([[[10, 20, 30, 255], [0, 0, 0, 0], [0, 0, 0, 51]]], np.uint8)
    notes: list[str] = []
    decoded = decode_image(saved(tmp_path / "a.png", pixels), notes)
    assert decoded[:, 0].T.tolist() == [[10, 20, 30], [255, 255, 255], [204, 204, 204]]  # 255 * (1 - 51 / 255) = 204
    assert notes == ["transparent images are laid on white"]


def test_grey_black_and_white_palette_and_cmyk_become_rgb(tmp_path: Path) -> None:
    grey = saved(tmp_path / "grey.png", np.array([[0, 77, 255]], np.uint8))
    assert decode_image(grey)[:, 0].tolist() == [[0, 77, 255]] * 3
    bits = saved(tmp_path / "bits.png", np.array([[False, True]]))
    assert decode_image(bits)[:, 0].tolist() == [[0, 255]] * 3
    palette = Image.fromarray(np.array([[1, 0]], np.uint8))
    palette.putpalette([9, 8, 7, 1, 2, 3])
    palette.save(tmp_path / "palette.png")
    assert decode_image(tmp_path / "palette.png")[:, 0].T.tolist() == [[1, 2, 3], [9, 8, 7]]
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    red = decode_image(tmp_path / "a.jpg")[:, 8, 8].tolist()
    assert red[0] > 250 and max(red[1:]) < 5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_gives_the_upright_picture(tmp_path: Path, orientation: int) -> None:
    upright = noise(4, 6, 3)
    stored = {  # how a camera that says `orientation` has stored the upright picture (EXIF 2.32, tag 0x0112)
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "a.png", np.ascontiguousarray(stored), exif=exif)
    assert np.array_equal(decode_image(path).permute(1, 2, 0).numpy(), upright)
    assert image_size(path) == (4, 6)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "gif", "tif", "webp", "ppm"])
@pytest.mark.parametrize("share", [0.05, 0.4, 0.9])
def test_a_file_cut_short_is_a_data_error(tmp_path: Path, suffix: str, share: float) -> None:
    path = saved(tmp_path / f"a.{suffix}", noise(60, 80, 3))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match=f"a.{suffix}: ") as caught:
            decode_image(path)
    assert caught.value.hint == "repair it, or train without bad files: data.on_error=skip"


def test_a_truncated_jpeg_says_how_much_is_there(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", noise(400, 400, 3), quality=95)
    whole = path.stat().st_size
    path.write_bytes(path.read_bytes()[: whole // 4])
    with pytest.raises(DataError, match=r"image file is truncated \((\d+) of about (\d+) kB\)") as caught:
        decode_image(path)
    words = str(caught.value).split()
    assert int(words[-5].strip("(")) == round(whole / 4000)
    assert abs(int(words[-2]) - whole / 1000) < 0.1 * whole / 1000


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    for name, contents in (
        ("a.png", b"hello"),
        ("b.png", b""),
        ("c.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
    ):
        (tmp_path / name).write_bytes(contents)
        with pytest.raises(DataError, match=f"{name}: not a readable"):
            decode_image(tmp_path / name)
    saved(tmp_path / "photo.png", noise(2, 2, 3))
    with pytest.raises(DataError, match=r"no such file: .*foto.png") as caught:
        decode_image(tmp_path / "foto.png")
    assert caught.value.hint == "did you mean 'photo.png'?"
    with pytest.raises(DataError, match="directory"):
        decode_image(tmp_path)
    Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(DataError, match="floating point"):
        decode_image(tmp_path / "f.tif")


def test_a_declared_size_beyond_the_limit_is_refused_before_decoding(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.new("1", (20000, 20000)).save(stream, "PNG")  # 50 kB of zeros that would fill 1.2 GB
    bomb = stream.getvalue()
    with pytest.raises(DataError, match="20000x20000 pixels are more than the limit of 268435456"):
        decode_image(bomb)
    with pytest.raises(DataError, match="limit of 99"):
        image_size(saved(tmp_path / "a.png", noise(10, 10, 3)), pixel_limit=99)
    theirs = Image.MAX_IMAGE_PIXELS
    assert theirs is not None
    large = saved(tmp_path / "large.png", np.zeros((10000, 10000), bool))  # beyond Pillow's own warning
    assert image_size(large) == (10000, 10000)
    assert theirs == Image.MAX_IMAGE_PIXELS


def test_errors_survive_pickling(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        decode_image(b"")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.hint) == (str(caught.value), caught.value.hint)


def test_labels_are_the_stored_indices(tmp_path: Path) -> None:
    indices = np.array([[0, 1, 2], [20, 255, 3]], np.uint8)
    grey = saved(tmp_path / "grey.png", indices)
    painted = Image.fromarray(indices)
    painted.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    painted.save(tmp_path / "painted.png")
    saved(tmp_path / "deep.png", indices.astype(np.uint16))
    for path in (grey, tmp_path / "painted.png", tmp_path / "deep.png"):
        labels = decode_labels(path, 21)
        assert labels.dtype == torch.uint8
        assert labels.tolist() == indices.tolist()
    assert is_indexed(tmp_path / "painted.png") and not is_indexed(grey)


def test_the_ignored_value_of_a_file_becomes_255(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", np.array([[0, 11, 10]], np.uint8))
    assert decode_labels(path, 11, ignore=11).tolist() == [[0, 255, 10]]
    deep = saved(tmp_path / "b.png", np.array([[0, 65535]], np.uint16))
    assert decode_labels(deep, 1, ignore=65535).tolist() == [[0, 255]]
    bits = saved(tmp_path / "c.png", np.array([[False, True]]))
    assert decode_labels(bits, 2).tolist() == [[0, 1]]


def test_a_label_out_of_range_is_named_with_its_place(tmp_path: Path) -> None:
    indices = np.zeros((50, 20), np.uint8)
    indices[40, 12] = 21
    path = saved(tmp_path / "07.png", indices)
    with pytest.raises(DataError) as caught:
        decode_labels(path, 21)
    assert str(caught.value) == f"{path}: class 21 at (x=12, y=40), but classes=21 allows 0..20 and ignore=255"
    mask = saved(tmp_path / "mask.png", np.array([[0, 255]], np.uint8))
    with pytest.raises(DataError, match="class 255 at") as caught:
        decode_labels(mask, 2, ignore=254)
    assert "black and white mask" in caught.value.hint


def test_painted_labels_are_looked_up(tmp_path: Path) -> None:
    palette = ((128, 0, 0), (0, 0, 0), (0, 128, 0))
    pixels = np.array([[[0, 128, 0], [0, 0, 0], [128, 0, 0]]], np.uint8)
    path = saved(tmp_path / "a.png", pixels)
    assert decode_labels(path, 3, palette=palette).tolist() == [[2, 1, 0]]
    assert decode_labels(path, 2, ignore=2, palette=palette).tolist() == [[255, 1, 0]]
    with pytest.raises(DataError, match="no palette"):
        decode_labels(path, 3)


def test_colours_that_are_not_in_the_palette_are_counted_and_the_nearest_is_named(tmp_path: Path) -> None:
    palette = ((128, 0, 0), (0, 0, 0), (0, 128, 0))
    pixels = np.zeros((4, 5, 3), np.uint8)
    pixels[0, 1] = (1, 2, 3)
    path = saved(tmp_path / "a.png", pixels)
    with pytest.raises(DataError) as caught:
        decode_labels(path, 3, palette=palette)
    one = r"(1, 2, 3) at 1 pixels (nearest: (0, 0, 0), class 1)"
    assert str(caught.value) == f"{path}: a colour is not in the palette: {one}" and caught.value.hint == "add it to meta.json"
    pixels[1, :3] = (100, 30, 0)  # 28^2 + 30^2 from class 0, 100^2 + 30^2 from class 1
    with pytest.raises(DataError) as caught:
        decode_labels(saved(path, pixels), 3, palette=palette)
    more = "(100, 30, 0) at 3 pixels (nearest: (128, 0, 0), class 0)"
    assert str(caught.value) == f"{path}: 2 colours are not in the palette: {more}; {one}"
    pixels[2:, :, 1] = np.arange(10, 20).reshape(2, 5)
    with pytest.raises(
        DataError, match=r"12 colours are not in the palette: \(100, 30, 0\) at 3 pixels .* and 7 more$"
    ) as caught:
        decode_labels(saved(path, pixels), 3, palette=palette)
    assert str(caught.value).count("nearest") == 5 and "save labels as PNG" in caught.value.hint


def test_all_of_a_picture_in_bands_is_counted(tmp_path: Path) -> None:
    pixels = np.zeros((2100, 2100, 3), np.uint8)  # two bands
    pixels[:, 0] = (9, 9, 9)
    with pytest.raises(DataError, match=r"\(9, 9, 9\) at 2100 pixels"):
        decode_labels(saved(tmp_path / "a.png", pixels), 2, palette=((0, 0, 0), (255, 255, 255)))


def test_lossy_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="JPEG"):
        decode_labels(saved(tmp_path / "a.jpg", np.zeros((8, 8), np.uint8)), 2)


def test_values_are_those_stored_or_refused(tmp_path: Path) -> None:
    values = np.array([[0, 1, 2], [20, 255, 3]], np.uint8)
    assert decode_values(saved(tmp_path / "grey.png", values)).tolist() == values.tolist()
    deep = saved(tmp_path / "deep.png", values.astype(np.uint16) * 200)
    assert decode_values(deep).tolist() == (values.astype(int) * 200).tolist()
    painted, bits = Image.fromarray(values), saved(tmp_path / "bits.png", values > 2)
    painted.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    painted.save(tmp_path / "painted.png")
    assert decode_values(tmp_path / "painted.png", indexed=True).tolist() == values.tolist()
    assert decode_values(bits, indexed=True).tolist() == (values > 2).astype(int).tolist()
    for path, kind in ((tmp_path / "painted.png", "palette"), (bits, "black and white")):
        with pytest.raises(DataError, match=f"a {kind} image does not hold one value per pixel"):
            decode_values(path)


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize(("name", "kind"), [("a.jpg", "JPEG"), ("a.webp", "WEBP")])
def test_lossy_values_are_refused(tmp_path: Path, name: str, kind: str, indexed: bool) -> None:
    with pytest.raises(DataError, match=f"values in a {kind} are altered"):
        decode_values(saved(tmp_path / name, np.zeros((8, 8), np.uint8)), indexed=indexed)


@pytest.mark.parametrize("late", [False, True])
def test_a_size_is_read_without_decoding_and_still_upright(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: bool) -> None:
    """An orientation may also come after the pixels of a PNG."""
    plain = saved(tmp_path / "a.png", noise(6, 9, 3)).read_bytes()
    exif = Image.Exif()
    exif[0x0112] = 6
    body = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body)) + b"eXIf" + body + struct.pack(">I", zlib.crc32(b"eXIf" + body))
    place = len(plain) - 12 if late else 33  # before IEND, or after IHDR
    turned = plain[:place] + chunk + plain[place:]
    assert image_size(turned) == (9, 6) == decode_image(turned).shape[1:]
    if late:
        return

    def never(image: Image.Image) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", never)
    assert image_size(plain) == (6, 9) and image_size(turned) == (9, 6)
