"""A folder per class: `train/<class>/*.jpg`, `val/<class>/*.jpg` and maybe `test`, or `<class>/*.jpg` to be parted.

Where there is no val folder, the same share of every class of train is held out. Classes are in alphabetical order.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field as Setting

from pixelwise.data.dataset import DataConfig, Dataset, Meta, Vector, existing_folder
from pixelwise.data.files import ValFraction, checked, images_in, part, split_folder
from pixelwise.data.vectors import Told, VectorFiles
from pixelwise.errors import DataError, did_you_mean

SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}


class Config(DataConfig):
    """Images in one folder per class."""

    kind: Literal["class_folder"] = "class_folder"
    root: Annotated[str, Setting(description="folder with train/<class>/ and val/<class>/, or with <class>/")]
    classes: Annotated[tuple[str, ...], Setting(description="which class folders, in this order (default: all)")] = ()
    val_fraction: ValFraction = 0.1

    def open(self, split: str) -> Dataset:
        """Return the images of `split` with their "category".

        Raises:
            DataError: There are no two classes, one is empty, or val has a class that train has not.
        """
        root = existing_folder(self.root)
        folder, parted = split_folder(root, split)
        names = self._classes(split_folder(root, "train")[0])
        here = [name for name in names if (folder / name).is_dir()]
        if not self.classes:
            for name in set(_folders(folder)) - set(names):
                raise DataError(f"{folder}: no class {name!r} in train", did_you_mean(name, names) or "train has every class")
        items = []
        for name in here:
            images = images_in(folder / name)
            keys = [f"{name}/{key}" for key in images]
            kept = part(keys, split, self.val_fraction, where=str(folder / name)) if parted else range(len(keys))
            paths = list(images.values())
            items += [Told(paths[i], {"category": names.index(name)}) for i in kept]
        return checked(
            VectorFiles(root, items, Meta(vectors={"category": Vector(kind="category", names=names)})), self.on_error
        )

    def _classes(self, train: Path) -> tuple[str, ...]:
        there = _folders(train)
        for name in self.classes:
            if name not in there:
                raise DataError(f"{train}: no class {name!r}", did_you_mean(name, there) or f"there are {', '.join(there)}")
        names = self.classes or tuple(there)
        if len(names) < 2:
            raise DataError(f"{train}: {len(names)} folders of classes, but to tell apart takes two", "one folder per class")
        if SPLITS.issuperset(map(str.lower, names)):
            raise DataError(f"{train}: {', '.join(names)} are splits, not classes", "call them train, val and test")
        return names


def _folders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
