"""Pairs of images in any of the three layouts in use, as fields "a" and "b".

- side by side: images in `<root>/<split>`, left half A, right half B (pix2pix; Isola et al., CVPR 2017)
- `<root>/<split>A` and `<root>/<split>B` with the same file names
- `<root>/<split>/<a>` and `<root>/<split>/<b>` with the same file names, e.g. `photos` and `labels`

Where there is no val folder, part of train is held out. Palette PNGs are label maps if `<root>/meta.json` names the
classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field as Setting

from pixelwise.data.dataset import DataConfig, Dataset, Meta, Source, existing_folder
from pixelwise.data.files import ValFraction, checked, images_in, no_split, part, require_pairs, split_folder
from pixelwise.data.images import decode_image, image_size, is_indexed
from pixelwise.data.labels import LabelScheme, require_same_size
from pixelwise.data.sample import Field, Image, Sample
from pixelwise.errors import DataError, did_you_mean
from pixelwise.geometry.frame import Frame


class Config(DataConfig):
    """Pairs of images in folders."""

    kind: Literal["paired_folder"] = "paired_folder"
    root: Annotated[str, Setting(description="folder with train/ of side-by-side images, trainA and trainB, or train/{a,b}")]
    a: Annotated[str, Setting(description="sub-folder of the A images (default: the first of two)")] = ""
    b: Annotated[str, Setting(description="sub-folder of the B images (default: the other of two)")] = ""
    val_fraction: ValFraction = 0.1

    def open(self, split: str) -> Dataset:
        """Return the pairs of `split`.

        Raises:
            DataError: A folder is missing or empty, names do not pair up, or a side-by-side image is no pair.
        """
        root = existing_folder(self.root)
        folders, parted = _lettered(root, split) or self._subfolders(root, split)
        pairs = _halves(folders[0]) if len(folders) == 1 else _paired(folders)
        if parted:
            kept = part([pair.key for pair in pairs], split, self.val_fraction, where=str(root))
            pairs = [pairs[i] for i in kept]
        return checked(PairedFolder(pairs, _scheme(root, pairs[0])), self.on_error)

    def _subfolders(self, root: Path, split: str) -> tuple[tuple[Path, ...], bool]:
        folder, parted = split_folder(root, split)
        found = sorted(path.name for path in folder.iterdir() if path.is_dir())
        names = (self.a, self.b)
        if not found or not (any(names) or all(path.is_dir() for path in folder.iterdir())):
            return (folder,), parted
        if not any(names):
            names = (found[0], found[-1])
            if len(found) != 2:
                raise DataError(f"{folder}: {len(found)} folders, expected a pair", f"choose data.a and data.b of {found}")
        for name in names:
            if name not in found:
                hint = did_you_mean(name, found) or f"there are {', '.join(found)}: set data.a and data.b"
                raise DataError(f"no such folder: {folder / name}", hint)
        return tuple(folder / name for name in names), parted


class Pair(NamedTuple):
    """Where A and B of one sample are; the same file if they stand side by side."""

    key: str
    a: Path
    b: Path


class PairedFolder(Dataset):
    """Fields "a" and "b"; those in `labelled` are label maps of `scheme`."""

    fields = ("a", "b")

    def __init__(self, pairs: Sequence[Pair], scheme: tuple[LabelScheme, frozenset[str]] | None = None) -> None:
        self.pairs, self.scheme = list(pairs), scheme[0] if scheme else None
        self.labelled = scheme[1] if scheme else frozenset()
        self.meta = self.scheme.meta if self.scheme else Meta()
        if self.scheme:
            self.scheme.notes = self.notes

    def __len__(self) -> int:
        return len(self.pairs)

    def key(self, index: int) -> str:
        """Return the pair's path in its folder, without suffix."""
        return self.pairs[index].key

    def sample(self, index: int, fields: Sequence[str]) -> Sample:
        """Return both sides of the pair.

        Raises:
            DataError: A file is damaged, a label is out of range, or the two differ in size.
        """
        pair = self.pairs[index]
        if pair.a == pair.b:
            read = self._cut(pair.a)
        else:
            read = {name: self._read(name, path) for name, path in (("a", pair.a), ("b", pair.b)) if name in fields}
            require_same_size(read, (pair.a, pair.b))
        return Sample(pair.key, {name: read[name] for name in fields})

    def source(self, index: int, field: str) -> Source | None:
        """Return the side's file."""
        pair = self.pairs[index]
        if pair.a == pair.b:
            return Source(pair.a, f"half {field}")
        path = pair.a if field == "a" else pair.b
        return Source(path, self.scheme.reading if self.scheme and field in self.labelled else "image")

    def _read(self, field: str, path: Path) -> Field:
        if self.scheme and field in self.labelled:
            return self.scheme.decode(path)
        pixels = decode_image(path, self.notes)
        return Image(pixels, Frame.of(pixels.shape[1:]))

    def _cut(self, path: Path) -> dict[str, Field]:
        pixels = decode_image(path, self.notes)
        _require_two_halves(path, pixels.shape[2], pixels.shape[1])
        halves = torch.chunk(pixels, 2, dim=2)
        frame = Frame.of(halves[0].shape[1:])
        return {"a": Image(halves[0], frame), "b": Image(halves[1], frame)}


def _lettered(root: Path, split: str) -> tuple[tuple[Path, ...], bool] | None:
    """Return `<split>A` and `<split>B` if the root is laid out so, and whether train and val are still to be parted."""
    if not (root / "trainA").is_dir():
        return None
    parted = split in ("train", "val") and not (root / "valA").is_dir()
    name = "train" if parted else split
    if not (root / f"{name}A").is_dir():
        raise no_split(root, split)
    return (root / f"{name}A", existing_folder(str(root / f"{name}B"))), parted


def _paired(folders: tuple[Path, ...]) -> list[Pair]:
    a, b = (images_in(folder) for folder in folders)
    names = (folders[0].name, folders[1].name)
    if names[0][:-1] == names[1][:-1] and names[0][-1] == "A":
        where, names = folders[0].with_name(names[0][:-1]), ("A", "B")
    else:
        where = folders[0].parent
    require_pairs(where, a, b, names)
    return [Pair(key, a[key], b[key]) for key in a]


def _halves(folder: Path) -> list[Pair]:
    pairs = [Pair(key, path, path) for key, path in images_in(folder).items()]
    height, width = image_size(pairs[0].a)
    _require_two_halves(pairs[0].a, width, height)
    return pairs


def _require_two_halves(path: Path, width: int, height: int) -> None:
    if width % 2 or width < height:
        why = "an odd width" if width % 2 else "higher than wide"
        hint = "expected A and B side by side; or use trainA and trainB, or two folders in train"
        raise DataError(f"{path}: {width}x{height} is no pair of images side by side ({why})", hint)


def _scheme(root: Path, pair: Pair) -> tuple[LabelScheme, frozenset[str]] | None:
    """Return the classes and which sides are label maps: those of palette PNGs, where meta.json names the classes."""
    if pair.a == pair.b or not (root / "meta.json").is_file():
        return None
    labelled = frozenset(name for name, path in (("a", pair.a), ("b", pair.b)) if is_indexed(path))
    return (LabelScheme.read(root), labelled) if labelled else None
