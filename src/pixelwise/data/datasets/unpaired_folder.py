"""Two folders of pictures that do not pair up, as fields "a" and "b" (the layout of CycleGAN; Zhu et al. 2017).

- `<root>/trainA` and `<root>/trainB`, with `valA`, `valB`, `testA` and `testB` where there are any
- `<root>/<split>/<a>` and `<root>/<split>/<b>`, or `<root>/<a>` and `<root>/<b>` without splits, e.g. `cats` and `dogs`

Where there is no val folder, the same share of both sides of train is held out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field as Setting

from pixelwise.data.dataset import DataConfig, Dataset, Meta, existing_folder
from pixelwise.data.files import Held, ValFraction, checked, held_out, images_in, lettered_folders, split_folder
from pixelwise.data.labels import LabelFiles, LabelScheme
from pixelwise.data.unpaired import Order, Unpaired
from pixelwise.data.vectors import Told, VectorFiles
from pixelwise.errors import DataError, did_you_mean


class Config(DataConfig):
    """Pictures in two folders, of different number and size."""

    kind: Literal["unpaired_folder"] = "unpaired_folder"
    root: Annotated[str, Setting(description="folder with trainA and trainB, with train/{a,b}, or with {a,b}")]
    a: Annotated[str, Setting(description="sub-folder of the A pictures (default: the first of two)")] = ""
    b: Annotated[str, Setting(description="sub-folder of the B pictures (default: the other of two)")] = ""
    labels: Annotated[
        Literal["none", "a", "b", "both"], Setting(description="which side is label maps of the classes in meta.json")
    ] = "none"
    order: Order = "random"
    val_fraction: ValFraction = 0.1
    val_from: Held = "anywhere"

    def open(self, split: str) -> Dataset:
        """Return the pictures of `split`.

        Raises:
            DataError: A folder is missing or empty, or there is no such split.
        """
        root = existing_folder(self.root)
        folders, parted = lettered_folders(root, split) or self._named(root, split)
        labelled = [self.labels in (side, "both") for side in ("a", "b")]
        scheme = LabelScheme.read(root) if any(labelled) else None
        a, b = (self._side(f, split, parted, scheme if has else None) for f, has in zip(folders, labelled, strict=True))
        first, second = ("labels" if has else "image" for has in labelled)
        return Unpaired(a, b, (first, second), split, self.order)

    def _side(self, folder: Path, split: str, parted: bool, scheme: LabelScheme | None) -> Dataset:
        images = images_in(folder)
        paths = list(images.values())
        kept: Sequence[int] = range(len(paths))
        if parted:
            kept = held_out(list(images), split, self.val_fraction, self.val_from, where=str(folder))
        if scheme:
            return checked(LabelFiles(folder, [paths[i] for i in kept], scheme), self.on_error)
        return checked(VectorFiles(folder, [Told(paths[i], {}) for i in kept], Meta()), self.on_error)

    def _named(self, root: Path, split: str) -> tuple[tuple[Path, ...], bool]:
        folder, parted = split_folder(root, split)
        found = sorted(path.name for path in folder.iterdir() if path.is_dir())
        names = (self.a, self.b)
        if not any(names):
            if len(found) != 2:
                hint = "expected trainA and trainB, or set data.a and data.b"
                raise DataError(f"{folder}: {len(found)} folders, expected two", hint)
            names = (found[0], found[1])
        for name in names:
            if name not in found:
                hint = did_you_mean(name, found) or f"there are {', '.join(found)}: set data.a and data.b"
                raise DataError(f"no such folder: {folder / name}", hint)
        return tuple(folder / name for name in names), parted
