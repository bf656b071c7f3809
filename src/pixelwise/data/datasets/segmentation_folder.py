"""Semantic segmentation as folders: `<split>/images` and `<split>/labels`, or `images` and `labels` to be parted.

`meta.json` at the root names the classes and states what is special:
`{"classes": ["sky", "road"], "palette": [[128, 128, 128], [128, 64, 128]], "ignore": 255}`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field as Setting

from pixelwise.data.dataset import DataConfig, Dataset, Source, existing_folder
from pixelwise.data.files import ValFraction, checked, images_in, part, require_pairs, split_folder
from pixelwise.data.images import decode_image
from pixelwise.data.labels import LabelScheme, require_same_size
from pixelwise.data.sample import Field, Image, Sample
from pixelwise.geometry.frame import Frame


class Config(DataConfig):
    """Images and label maps in folders."""

    kind: Literal["segmentation_folder"] = "segmentation_folder"
    root: Annotated[str, Setting(description="folder with meta.json and train/{images,labels}, or {images,labels}")]
    classes: Annotated[tuple[str, ...], Setting(description="class names, where there is no meta.json")] = ()
    val_fraction: ValFraction = 0.1

    def open(self, split: str) -> Dataset:
        """Return the images and label maps of `split`.

        Raises:
            DataError: A folder is missing or empty, images and labels do not pair up, or the classes are not known.
        """
        root = existing_folder(self.root)
        scheme = LabelScheme.read(root, self.classes)
        folder, parted = split_folder(root, split)
        images, labels = (images_in(existing_folder(str(folder / name))) for name in ("images", "labels"))
        require_pairs(folder, images, labels, ("images", "labels"))
        keys = list(images)
        if parted:
            keys = [keys[i] for i in part(keys, split, self.val_fraction, where=str(root))]
        return checked(SegmentationFolder([(key, images[key], labels[key]) for key in keys], scheme), self.on_error)


class SegmentationFolder(Dataset):
    """Fields "image" and "labels"."""

    fields = ("image", "labels")

    def __init__(self, items: Sequence[tuple[str, Path, Path]], scheme: LabelScheme) -> None:
        self.items, self.scheme, self.meta, self.notes = list(items), scheme, scheme.meta, scheme.notes

    def __len__(self) -> int:
        return len(self.items)

    def key(self, index: int) -> str:
        """Return the image's path in its folder, without suffix."""
        return self.items[index][0]

    def sample(self, index: int, fields: Sequence[str]) -> Sample:
        """Return the image and its labels.

        Raises:
            DataError: A file is damaged, a label is out of range, or the two differ in size.
        """
        key, image, labels = self.items[index]
        read: dict[str, Field] = {}
        if "image" in fields:
            pixels = decode_image(image, self.notes)
            read["image"] = Image(pixels, Frame.of(pixels.shape[1:]))
        if "labels" in fields:
            read["labels"] = self.scheme.decode(labels)
        require_same_size(read, (image, labels))
        return Sample(key, {name: read[name] for name in fields})

    def source(self, index: int, field: str) -> Source | None:
        """Return the image or label file."""
        _, image, labels = self.items[index]
        return Source(image, "image") if field == "image" else Source(labels, self.scheme.reading)
