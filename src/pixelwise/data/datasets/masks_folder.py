"""Masks that may overlap as folders: `<split>/images/x.jpg` and `<split>/masks/<name>/x.png`, or both to be parted.

A mask file is black where its thing is not and white (255, or 1 as 1-bit files hold it) where it is; grey 128 is unknown.
`meta.json` at the root may name the masks and their order, `{"masks": ["hair", "skin"]}`; without it they are the folders.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field as Setting
from torch import Tensor

from pixelwise.data.dataset import DataConfig, Dataset, Meta, existing_folder
from pixelwise.data.files import ValFraction, checked, images_in, part, read_json, split_folder
from pixelwise.data.images import decode_image, decode_mask
from pixelwise.data.labels import require_same_size
from pixelwise.data.sample import Field, Image, LabelMap, Masks, Sample
from pixelwise.errors import DataError
from pixelwise.geometry.frame import Frame

MISSING = {"unknown": 255, "absent": 0}


class Config(DataConfig):
    """Images and a folder of mask files per thing."""

    kind: Literal["masks_folder"] = "masks_folder"
    root: Annotated[str, Setting(description="folder with train/{images,masks}, or {images,masks}")]
    missing: Annotated[
        Literal["unknown", "absent"], Setting(description="what is said by an image that has no file for a mask")
    ] = "unknown"
    val_fraction: ValFraction = 0.1

    def open(self, split: str) -> Dataset:
        """Return the images and masks of `split`.

        Raises:
            DataError: A folder is missing or empty, there is no mask, or a mask belongs to no image.
        """
        root = existing_folder(self.root)
        folder, parted = split_folder(root, split)
        images, names = images_in(existing_folder(str(folder / "images"))), _names(root)
        files = {name: _files(folder / "masks" / name, images) for name in names}
        keys = list(images)
        if parted:
            keys = [keys[i] for i in part(keys, split, self.val_fraction, where=str(root))]
        items = [(key, images[key], [files[name].get(key) for name in names]) for key in keys]
        return checked(MasksFolder(items, Meta(masks=names), MISSING[self.missing]), self.on_error)


def _names(root: Path) -> tuple[str, ...]:
    """Return the names of the masks as `meta.json` states them, else of the folders in any split, sorted."""
    path = root / "meta.json"
    stated = read_json(path) if path.is_file() else {}
    found = stated.get("masks") if isinstance(stated, dict) else None
    names = found or sorted({p.name for folder in (root, *root.iterdir()) for p in folder.glob("masks/*") if p.is_dir()})
    if not names or not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{root}: the masks are not known", "expected a folder per mask: train/masks/<name>/x.png")
    return tuple(names)


def _files(folder: Path, images: dict[str, Path]) -> dict[str, Path]:
    """Return the mask files by the key of their image; a mask may have none."""
    found = images_in(folder) if folder.is_dir() and any(folder.iterdir()) else {}
    for key, path in found.items():
        if key not in images:
            raise DataError(f"{path} belongs to no image", "an image and its masks have the same name up to the suffix")
    return found


class MasksFolder(Dataset):
    """Fields "image" and "masks"."""

    fields = ("image", "masks")

    def __init__(self, items: Sequence[tuple[str, Path, list[Path | None]]], meta: Meta, unfiled: int) -> None:
        self.items, self.meta, self.unfiled = list(items), meta, unfiled

    def __len__(self) -> int:
        return len(self.items)

    def key(self, index: int) -> str:
        """Return the image's path in its folder, without suffix."""
        return self.items[index][0]

    def sample(self, index: int, fields: Sequence[str]) -> Sample:
        """Return the image and its masks; a mask without a file is unknown or absent, as `missing` says.

        Raises:
            DataError: A file is damaged, a mask has another value than those allowed, or its size is not that of its image.
        """
        key, path, files = self.items[index]
        pixels = decode_image(path, self.notes)
        image = Image(pixels, Frame.of(pixels.shape[1:]))
        read: dict[str, Field] = {"image": image}
        if "masks" in fields:
            read["masks"] = Masks(torch.stack([self._mask(path, image, file) for file in files]), image.frame)
        return Sample(key, {name: read[name] for name in fields})

    def _mask(self, path: Path, image: Image, file: Path | None) -> Tensor:
        if file is None:
            return torch.full(image.frame.size, self.unfiled, dtype=torch.uint8)
        mask = decode_mask(file)
        require_same_size({"image": image, "mask": LabelMap(mask, Frame.of(mask.shape))}, (path, file))
        return mask
