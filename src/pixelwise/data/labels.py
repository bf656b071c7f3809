"""What the values in label files mean, as `meta.json` says, files of them, and that labels cover the pixels of their image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pixelwise.data.dataset import Dataset, Meta, Source
from pixelwise.data.files import read_json
from pixelwise.data.images import SKIP_HINT, decode_labels, stored_palette
from pixelwise.data.sample import Field, LabelMap, Sample
from pixelwise.errors import DataError
from pixelwise.geometry.frame import Frame
from pixelwise.geometry.unknown import UNKNOWN

KEYS = ("classes", "palette", "ignore")


class LabelScheme:
    """What the values in label files mean.

    Attributes:
        meta: The classes and their colours; a last class that is the ignored value is not one of them.
        ignore: The value of unlabelled pixels in the files.
        palette: Colours of all values in the files, the ignored one too.
        notes: Receives a sentence where two files paint their indices in different colours.
    """

    def __init__(self, stated: dict[str, Any], where: Path) -> None:
        self.notes: list[str] = []
        self._painted: tuple[Path, tuple[int, ...]] | None = None
        self._differ = False
        try:
            classes, self.ignore = tuple(stated.get("classes", ())), int(stated.get("ignore", UNKNOWN))
            self.palette = tuple(tuple(colour) for colour in stated.get("palette", ()))
        except (TypeError, ValueError) as error:
            what = '{"classes": ["sky", ...], "palette": [[128, 128, 128], ...], "ignore": 255}'
            raise DataError(f"{where}: {error}", f"expected {what}") from None
        count = len(classes) - (self.ignore == len(classes) - 1)
        if count > UNKNOWN:
            raise DataError(f"{where}: {count} classes, but a label map holds at most {UNKNOWN}")
        try:
            self.meta = Meta(classes=classes[:count], palette=self.palette[:count], ignore=self.ignore)
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
        self._compare(path)
        return LabelMap(labels, Frame.of(labels.shape))

    def _compare(self, path: Path) -> None:
        """Note once that two files have different colours for the same classes."""
        colours = stored_palette(path)[: 3 * len(self.meta.classes)]
        if self._differ or not colours:
            return
        first, others = self._painted = self._painted or (path, colours)
        self._differ = any(one != other for one, other in zip(colours, others, strict=False))
        if self._differ:
            what = "have different colours for the same index, so the classes of one of them may be numbered in another way"
            self.notes.append(f"{first} and {path} {what}: indices are read as they are, colours are not compared")

    @property
    def reading(self) -> str:
        """Everything that decides how a file becomes a label map."""
        return f"labels {len(self.meta.classes)} {self.ignore} {self.palette}"


class LabelFiles(Dataset):
    """Label maps alone, as the field "labels"."""

    fields = ("labels",)

    def __init__(self, root: Path, paths: Iterable[Path], scheme: LabelScheme) -> None:
        self.root, self.paths, self.scheme = root, sorted(paths), scheme
        self.meta, self.notes = scheme.meta, scheme.notes

    def __len__(self) -> int:
        return len(self.paths)

    def key(self, index: int) -> str:
        """Return the file's path below the root."""
        return self.paths[index].relative_to(self.root).as_posix()

    def sample(self, index: int, fields: Sequence[str]) -> Sample:
        """Return the label map.

        Raises:
            DataError: The file is missing or damaged, or a label is out of range.
        """
        return Sample(self.key(index), {name: self.scheme.decode(self.paths[index]) for name in fields})

    def source(self, index: int, field: str) -> Source | None:
        """Return the file."""
        return Source(self.paths[index], self.scheme.reading)


def require_same_size(fields: dict[str, Field], paths: tuple[Path, Path]) -> None:
    """Check that the two pictures of a sample, where both were read, cover the same pixels.

    Raises:
        DataError: They differ in size.
    """
    sizes = [field.frame.size for field in fields.values()]
    if len(set(sizes)) > 1:
        (height, width), (other_height, other_width) = sizes[0], next(size for size in sizes if size != sizes[0])
        what = f"{width}x{height}, but {paths[1]} is {other_width}x{other_height}"
        raise DataError(f"{paths[0]}: {what}", SKIP_HINT)
