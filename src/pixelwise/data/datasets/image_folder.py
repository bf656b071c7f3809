"""Pictures alone, for tasks that make their own truth of them: `train/**/*.jpg`, `val/**/*.jpg`, or one folder to be parted.

Beside the field "image" there are "grey" and "lines", made of it when they are read: pairs for colouring and for drawings.
Where a root holds many collections, `train`, `val` and `test` name those of each split.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field as Setting

from pixelwise.data.dataset import DataConfig, Dataset, existing_folder
from pixelwise.data.files import ValFraction, checked, images_in, no_split, part
from pixelwise.data.images import SUFFIXES
from pixelwise.data.photographs import Lines, Photographs
from pixelwise.errors import DataError, did_you_mean

Entries = tuple[str, ...]


class Config(DataConfig):
    """Pictures in folders, searched to any depth."""

    kind: Literal["image_folder"] = "image_folder"
    root: Annotated[str, Setting(description="folder with pictures, or with train/ and val/")]
    train: Annotated[Entries, Setting(description="folders or files below root (default: train, or all)")] = ()
    val: Annotated[Entries, Setting(description="the same for val (default: val, or a share of train)")] = ()
    test: Annotated[Entries, Setting(description="the same for test (default: test)")] = ()
    val_fraction: ValFraction = 0.1
    lines: Annotated[Lines, Setting(description="how the field lines is drawn")] = Lines()

    def open(self, split: str) -> Dataset:
        """Return the pictures of `split`; keys are paths below root, so other folders may repeat a name.

        Raises:
            DataError: An entry is missing or empty, a picture is both in train and in val, or there is no such split.
        """
        root = existing_folder(self.root)
        return checked(Photographs(root, self._paths(root, split), self.lines), self.on_error)

    def _paths(self, root: Path, split: str) -> list[Path]:
        if split not in ("train", "val"):
            if not (entries := self._entries(root, split)):
                raise no_split(root, split)
            return _found(root, entries)
        train, val = self._entries(root, "train"), self._entries(root, "val")
        if val and not train:
            raise DataError(
                f"{root}: there is a val, but nothing to train on", "data.train=FOLDER,FOLDER names folders below it"
            )
        if val:
            return _found(root, train if split == "train" else val, other=val if split == "train" else train)
        paths = _found(root, train or (".",))
        kept = part([path.relative_to(root).as_posix() for path in paths], split, self.val_fraction, where=str(root))
        return [paths[i] for i in kept]

    def _entries(self, root: Path, split: str) -> Entries:
        named: Entries = getattr(self, split, ())
        return named or ((split,) if (root / split).is_dir() else ())


def _found(root: Path, entries: Entries, other: Entries = ()) -> list[Path]:
    """Return the pictures of the entries, each once; none may be among those of `other`."""
    paths = sorted({path for entry in entries for path in _pictures(root, entry)})
    if shared := set(paths) & {path for entry in other for path in _pictures(root, entry)}:
        raise DataError(f"{min(shared)} is in train and in val", "data.train and data.val must name different folders")
    return paths


def _pictures(root: Path, entry: str) -> list[Path]:
    path = root / entry
    if Path(entry).is_absolute() or ".." in Path(entry).parts:
        raise DataError(f"{entry} is not below {root}", "name folders relative to data.root")
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        return [path]
    if not path.is_dir():
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(f"{path}: no such folder or picture", did_you_mean(path.name, beside) or "")
    return list(images_in(path).values())
