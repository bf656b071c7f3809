"""Semantic segmentation as folders: `<split>/images` and `<split>/labels`, or `images` and `labels` to be parted.

`meta.json` at the root names the classes and states what is special:
`{"classes": ["sky", "road"], "palette": [[128, 128, 128], [128, 64, 128]], "ignore": 255}`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field as Setting
from pydantic import ValidationError

from pixelwise.data.dataset import DataConfig, Dataset, Meta, Source, existing_folder
from pixelwise.data.files import ValFraction, checked, images_in, part, read_json, require_pairs, split_folder
from pixelwise.data.images import IGNORE, SKIP_HINT, decode_image, decode_labels
from pixelwise.data.sample import Field, Image, LabelMap, Sample
from pixelwise.errors import DataError
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


class LabelScheme:
    """What the values in label files mean.

    Attributes:
        meta: The classes and their colours; a last class that is the ignored value is not one of them.
        ignore: The value of unlabelled pixels in the files.
        palette: Colours of all values in the files, the ignored one too.
    """

    def __init__(self, stated: dict[str, Any], where: Path) -> None:
        classes, self.ignore = tuple(stated.get("classes", ())), int(stated.get("ignore", IGNORE))
        self.palette = tuple(tuple(colour) for colour in stated.get("palette", ()))
        count = len(classes) - (self.ignore == len(classes) - 1)
        if count > IGNORE:
            raise DataError(f"{where}: {count} classes, but a label map holds at most {IGNORE}")
        try:
            self.meta = Meta(classes=classes[:count], palette=self.palette[:count])
        except ValidationError as error:
            raise DataError(f"{where}: {error.errors()[0]['msg']}") from None

    @classmethod
    def read(cls, root: Path, classes: Sequence[str] = ()) -> LabelScheme:
        """Read `root/meta.json`; `classes` stand in for a missing one.

        Raises:
            DataError: Neither names the classes.
        """
        path = root / "meta.json"
        stated = read_json(path) if path.is_file() else {"classes": classes}
        if not isinstance(stated, dict) or not stated.get("classes"):
            raise DataError(f"{root}: the classes are not known", f'write {{"classes": ["background", ...]}} to {path}')
        return cls(stated, path)

    def decode(self, path: Path) -> LabelMap:
        """Return the label map in `path`.

        Raises:
            DataError: As `decode_labels`.
        """
        labels = decode_labels(path, len(self.meta.classes), self.ignore, self.palette)
        return LabelMap(labels, Frame.of(labels.shape))

    @property
    def reading(self) -> str:
        """Everything that decides how a file becomes a label map."""
        return f"labels {len(self.meta.classes)} {self.ignore} {self.palette}"


class SegmentationFolder(Dataset):
    """Fields "image" and "labels"."""

    fields = ("image", "labels")

    def __init__(self, items: Sequence[tuple[str, Path, Path]], scheme: LabelScheme) -> None:
        self.items, self.scheme, self.meta = list(items), scheme, scheme.meta

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


def require_same_size(fields: dict[str, Field], paths: tuple[Path, Path]) -> None:
    """Check that the two pictures of a sample, where both were read, cover the same pixels.

    Raises:
        DataError: They differ in size.
    """
    sizes = [field.frame.size for field in fields.values()]
    if len(set(sizes)) > 1:
        (height, width), (other_height, other_width) = sizes
        what = f"{width}x{height}, but {paths[1]} is {other_width}x{other_height}"
        raise DataError(f"{paths[0]}: {what}", SKIP_HINT)
