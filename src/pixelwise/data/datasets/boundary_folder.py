"""Boundaries as folders: `<split>/images` and `<split>/boundaries`, or BSDS500 as it is published.

`images/<split>` with `groundTruth/<split>/*.mat` is found by itself. Elsewhere boundaries are pictures: white on black by one
annotator (`data.reading=grey`), or with one bit per annotator (`data.reading=bits`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field as Setting

from pixelwise.data.boundary_files import Reading, read_boundaries
from pixelwise.data.dataset import DataConfig, Dataset, Meta, Source, existing_folder
from pixelwise.data.files import ValFraction, checked, images_in, part, require_pairs, split_folder
from pixelwise.data.images import decode_image
from pixelwise.data.labels import require_same_size
from pixelwise.data.photographs import ink
from pixelwise.data.sample import Field, Image, Sample
from pixelwise.errors import DataError
from pixelwise.geometry.frame import Frame


class Config(DataConfig):
    """Images and boundaries in folders."""

    kind: Literal["boundary_folder"] = "boundary_folder"
    root: Annotated[
        str, Setting(description="folder with train/{images,boundaries}, or with images/train and groundTruth/train")
    ]
    reading: Annotated[
        Reading, Setting(description="pictures of boundaries: grey (white is a boundary) or bits (bit i is annotator i)")
    ] = "grey"
    val_fraction: ValFraction = 0.1

    def open(self, split: str) -> Dataset:
        """Return the images and boundaries of `split`.

        Raises:
            DataError: A folder is missing or empty, or images and boundaries do not pair up.
        """
        root = existing_folder(self.root)
        published = (root / "groundTruth").is_dir()
        items = _published(root, split) if published else self._items(root, split)
        return checked(BoundaryFolder(items, self.reading), self.on_error)

    def _items(self, root: Path, split: str) -> list[tuple[str, Path, Path]]:
        folder, parted = split_folder(root, split)
        images, drawn = (images_in(existing_folder(str(folder / name))) for name in ("images", "boundaries"))
        require_pairs(folder, images, drawn, ("images", "boundaries"))
        keys = list(images)
        if parted:
            keys = [keys[i] for i in part(keys, split, self.val_fraction, where=str(root))]
        return [(key, images[key], drawn[key]) for key in keys]


def _published(root: Path, split: str) -> list[tuple[str, Path, Path]]:
    images = images_in(existing_folder(str(root / "images" / split)))
    folder = existing_folder(str(root / "groundTruth" / split))
    drawn = {path.stem: path for path in sorted(folder.glob("*.mat"))}
    if not drawn:
        raise DataError(f"no .mat files in {folder}")
    require_pairs(root, images, drawn, (f"images/{split}", f"groundTruth/{split}"))
    return [(key, images[key], drawn[key]) for key in images]


class BoundaryFolder(Dataset):
    """Fields "image", "boundaries", and "drawing": these as black lines on white, darker where more annotators drew one."""

    fields = ("image", "boundaries", "drawing")
    meta = Meta()

    def __init__(self, items: Sequence[tuple[str, Path, Path]], reading: Reading) -> None:
        self.items, self.reading = list(items), reading

    def __len__(self) -> int:
        return len(self.items)

    def key(self, index: int) -> str:
        """Return the image's path in its folder, without suffix."""
        return self.items[index][0]

    def sample(self, index: int, fields: Sequence[str]) -> Sample:
        """Return the image and its boundaries.

        Raises:
            DataError: A file is damaged, or the two differ in size.
        """
        key, image, boundaries = self.items[index]
        read: dict[str, Field] = {}
        if "image" in fields:
            pixels = decode_image(image, self.notes)
            read["image"] = Image(pixels, Frame.of(pixels.shape[1:]))
        if "boundaries" in fields or "drawing" in fields:
            read["boundaries"] = found = read_boundaries(boundaries, self.reading, self.notes)
            read["drawing"] = Image(ink(found.tensors()[""]), found.frame)
        require_same_size(read, (image, boundaries))
        return Sample(key, {name: read[name] for name in fields})

    def source(self, index: int, field: str) -> Source | None:
        """Return the image file; maps of several annotators are quicker to decode again than to keep."""
        return Source(self.items[index][1], "image") if field == "image" else None
