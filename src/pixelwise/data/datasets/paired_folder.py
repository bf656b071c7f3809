"""Pairs of images in any of the three layouts in use, as fields "a" and "b".

- side by side: images in `<root>/<split>`, left half A, right half B (pix2pix; Isola et al., CVPR 2017)
- `<root>/<split>A` and `<root>/<split>B` with the same file names
- `<root>/<split>/<a>` and `<root>/<split>/<b>` with the same file names, e.g. `photos` and `labels`

Where there is no val folder, part of train is held out. Palette PNGs are label maps if `<root>/meta.json` names the
classes; other label maps are named by `data.labels`. Pictures may be NumPy arrays, `(H, W, C)` in a `.npy` file.

With `data.match=group` names need not be equal: every A pairs with every B of its group, `cam3_1.jpg` with `cam3_7.jpg`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field as Setting

from pixelwise.data.channels import ARRAY, READABLE, pixels_of, read_pixels
from pixelwise.data.dataset import DataConfig, Dataset, Meta, Pixels, Source, existing_folder
from pixelwise.data.files import (
    Files,
    Held,
    ValFraction,
    checked,
    group_of,
    held_out,
    images_in,
    lettered_folders,
    require_pairs,
    split_folder,
)
from pixelwise.data.images import SKIP_HINT, image_size, is_indexed
from pixelwise.data.labels import LabelScheme, require_same_size
from pixelwise.data.sample import Field, Image, Sample
from pixelwise.errors import DataError, did_you_mean
from pixelwise.geometry.frame import Frame

AND = " and "


class Config(DataConfig):
    """Pairs of images in folders."""

    kind: Literal["paired_folder"] = "paired_folder"
    root: Annotated[str, Setting(description="folder with train/ of side-by-side images, trainA and trainB, or train/{a,b}")]
    a: Annotated[str, Setting(description="sub-folder of the A images (default: the first of two)")] = ""
    b: Annotated[str, Setting(description="sub-folder of the B images (default: the other of two)")] = ""
    direction: Annotated[Literal["AtoB", "BtoA"], Setting(description="BtoA: the two sides change names")] = "AtoB"
    match: Annotated[
        Literal["name", "group"],
        Setting(description="which A and B are a pair: those of one name, or all whose names are equal up to the last _ or -"),
    ] = "name"
    labels: Annotated[
        Literal["auto", "none", "a", "b", "both"],
        Setting(description="which side is label maps of the classes in meta.json (auto: that of palette PNGs)"),
    ] = "auto"
    bits: Annotated[Literal[8, 16], Setting(description="16 keeps all 16 bits of pictures, read as floating pixels")] = 8
    val_fraction: ValFraction = 0.1
    val_from: Held = "anywhere"

    def open(self, split: str) -> Dataset:
        """Return the pairs of `split`.

        Raises:
            DataError: A folder is missing or empty, names do not pair up, or a side-by-side image is no pair.
        """
        root = existing_folder(self.root)
        folders, parted = lettered_folders(root, split) or self._subfolders(root, split)
        if len(folders) == 1:
            pairs = _halves(folders[0])
        else:
            pairs = _paired(folders) if self.match == "name" else _grouped(folders, every=split == "train")
        if parted:
            held = "groups" if self.match == "group" else self.val_from
            keys = [pair.key.partition(AND)[0] for pair in pairs]
            pairs = [pairs[i] for i in held_out(keys, split, self.val_fraction, held, where=str(root))]
        if self.direction == "BtoA":
            pairs = [Pair(pair.key, pair.b, pair.a) for pair in pairs]
        labelled = self._labelled(root, pairs[0])
        scheme = LabelScheme.read(root) if labelled else None
        return checked(PairedFolder(pairs, scheme, labelled, self.bits, self.direction == "BtoA"), self.on_error)

    def _labelled(self, root: Path, pair: Pair) -> frozenset[str]:
        """Return which sides are label maps, by the names that they have in a sample."""
        if self.labels == "auto":
            sides = {"a": pair.a, "b": pair.b} if pair.a != pair.b and (root / "meta.json").is_file() else {}
            return frozenset(name for name, path in sides.items() if path.suffix.lower() != ARRAY and is_indexed(path))
        if self.labels == "none":
            return frozenset()
        if pair.a == pair.b:
            raise DataError(f"{pair.a}: one half of an image cannot be a label map", "put labels into a folder of their own")
        if self.labels == "both":
            return frozenset("ab")
        return frozenset("ab".replace(self.labels, "") if self.direction == "BtoA" else self.labels)

    def _subfolders(self, root: Path, split: str) -> tuple[tuple[Path, ...], bool]:
        folder, parted = split_folder(root, split)
        found = sorted(path.name for path in folder.iterdir() if path.is_dir())
        names = (self.a, self.b)
        if not found or not (any(names) or all(path.is_dir() for path in folder.iterdir())):
            return (folder,), parted
        if not any(names):
            names = (found[0], found[-1])
            if len(found) != 2:
                hint = (
                    f"choose data.a and data.b of {found}" if len(found) > 2 else "expected train, with A and B in it or below"
                )
                raise DataError(f"{folder}: {len(found)} folders, expected a pair", hint)
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

    def __init__(
        self,
        pairs: Sequence[Pair],
        scheme: LabelScheme | None = None,
        labelled: frozenset[str] = frozenset(),
        bits: Literal[8, 16] = 8,
        swapped: bool = False,
    ) -> None:
        self.pairs, self.scheme, self.labelled, self.bits, self.swapped = list(pairs), scheme, labelled, bits, swapped
        first = self.pairs[0]
        pixels = {name: pixels_of(self._path(first, name), bits) for name in self.fields if name not in labelled}
        self.pixels = {name: kind for name, kind in pixels.items() if kind != Pixels()}
        self.meta = (scheme.meta if scheme else Meta()).model_copy(update={"pictures": self.pixels})
        if scheme:
            scheme.notes = self.notes
        if first.a == first.b:
            height, width = image_size(first.a)
            self.notes.append(f"pictures of {width}x{height} are taken as pairs of {width // 2}x{height}, side by side")

    def __len__(self) -> int:
        return len(self.pairs)

    def key(self, index: int) -> str:
        """Return the pair's path in its folder, without suffix."""
        return self.pairs[index].key

    def sample(self, index: int, fields: Sequence[str]) -> Sample:
        """Return both sides of the pair.

        Raises:
            DataError: A file is damaged, a label is out of range, or the two differ in size or in channels from the others.
        """
        pair = self.pairs[index]
        if pair.a == pair.b:
            read = self._cut(pair.a)
        else:
            read = {name: self._read(name, self._path(pair, name)) for name in self.fields if name in fields}
            require_same_size(read, (pair.a, pair.b))
        return Sample(pair.key, {name: read[name] for name in fields})

    def source(self, index: int, field: str) -> Source | None:
        """Return the side's file; floating pixels are not worth caching."""
        pair, path = self.pairs[index], self._path(self.pairs[index], field)
        if field in self.pixels:
            return None
        if pair.a == pair.b:
            return Source(path, f"half {'ba'['ab'.index(field)] if self.swapped else field}")
        return Source(path, self.scheme.reading if self.scheme and field in self.labelled else "image")

    def _path(self, pair: Pair, field: str) -> Path:
        return pair.a if field == "a" else pair.b

    def _read(self, field: str, path: Path) -> Field:
        if self.scheme and field in self.labelled:
            return self.scheme.decode(path)
        pixels = read_pixels(path, self.notes, self.bits)
        expected = self.pixels.get(field, Pixels()).channels
        if len(pixels) != expected:
            raise DataError(f"{path}: {len(pixels)} channels, but the first of the {field} pictures has {expected}", SKIP_HINT)
        return Image(pixels, Frame.of(pixels.shape[1:]))

    def _cut(self, path: Path) -> dict[str, Field]:
        pixels = read_pixels(path, self.notes, self.bits)
        _require_two_halves(path, pixels.shape[2], pixels.shape[1])
        halves = torch.chunk(pixels, 2, dim=2)
        frame = Frame.of(halves[0].shape[1:])
        a, b = halves[::-1] if self.swapped else halves
        return {"a": Image(a, frame), "b": Image(b, frame)}


def _paired(folders: tuple[Path, ...]) -> list[Pair]:
    a, b = (images_in(folder, READABLE) for folder in folders)
    names = (folders[0].name, folders[1].name)
    if names[0][:-1] == names[1][:-1] and names[0][-1] == "A":
        where, names = folders[0].with_name(names[0][:-1]), ("A", "B")
    else:
        where = folders[0].parent
    require_pairs(where, a, b, names)
    return [Pair(key, a[key], b[key]) for key in a]


def _grouped(folders: tuple[Path, ...], every: bool) -> list[Pair]:
    """Return each A with every B of its group, or with one, in turn, so that no A counts twice where something is measured."""
    a, b = (_by_group(images_in(folder, READABLE)) for folder in folders)
    pairs = []
    for group in (group for group in a if group in b):
        others = list(b[group].items())
        for n, (key, path) in enumerate(a[group].items()):
            chosen = others if every else [others[n % len(others)]]
            pairs += [Pair(f"{key}{AND}{other}", path, file) for other, file in chosen]
    if not pairs:
        names, example = " and ".join(folder.name for folder in folders), f"{next(iter(a))} and {next(iter(b))}"
        hint = "names are equal up to the last _ or -, such as cam3_1.jpg and cam3_7.jpg"
        raise DataError(f"{folders[0].parent}: {names} share no group, such as {example}", hint)
    return pairs


def _by_group(files: Files) -> dict[str, Files]:
    groups: dict[str, Files] = {}
    for key, path in files.items():
        groups.setdefault(group_of(key), {})[key] = path
    return groups


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
