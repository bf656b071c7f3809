"""dlib's XML, as its imglab writes it and as its face landmark sets come: boxes, each with named parts.

`<dataset><images><image file='a.jpg'><box top='1' left='2' width='3' height='4'><part name='00' x='5'
y='6'/></box></image>`. With `crop` every box is a sample of its own. Pixels count from 0, a box of width 1 is one pixel
(`rectangle` of dlib holds its last pixel), so that half a pixel is added to points. Boxes marked `ignore` are 1 in the
field "unlabelled"; areas are the boxes'. A file with a document type, which alone could define entities, is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal
from xml.etree import ElementTree

import torch
from pydantic import Field as Setting

from pixelwise.data.dataset import DataConfig, Dataset, Meta, existing_folder
from pixelwise.data.files import ValFraction, checked, part, within
from pixelwise.data.keypoints import KeypointFiles, Record, record, require_images
from pixelwise.data.regions import Region
from pixelwise.data.skeletons import IBUG68, SkeletonFile, made_skeleton, skeleton_for
from pixelwise.errors import DataError

Element = ElementTree.Element


class Config(DataConfig):
    """Parts in dlib's XML."""

    kind: Literal["keypoints_dlib"] = "keypoints_dlib"
    root: Annotated[str, Setting(description="folder with one XML, or with *train*.xml and *val*.xml or *test*.xml")]
    crop: Annotated[float, Setting(ge=0, description="make every box a sample, cut out this much larger (1.2); 0: images")] = 0
    skeleton: SkeletonFile = ""
    val_fraction: ValFraction = 0.1

    def open(self, split: str) -> Dataset:
        """Return the labelled images or boxes of `split`.

        Raises:
            DataError: The file is missing or malformed, or names images that are not there.
        """
        root = existing_folder(self.root)
        path, parted = _file(root, split)
        images = list(_images(path))
        names = _names([box for image in images for box in image.findall("box")], path)
        made = [(image.get("file", ""), item) for image in images for item in self._records(image, names, root, path)]
        if parted:
            made = [made[i] for i in part([file for file, _ in made], split, self.val_fraction, where=str(path))]
        records = [item for _, item in made]
        if self.on_error == "stop":
            require_images((item.path for item in records), path)
        # numbered from 00 to 67 in dlib's files of iBUG's sets
        own = IBUG68 if names == tuple(f"{i:02d}" for i in range(68)) else made_skeleton({"names": names}, path)
        meta = Meta(skeleton=skeleton_for(len(names), own, self.skeleton, path))
        return checked(KeypointFiles(root, records, meta), self.on_error)

    def _records(self, image: Element, names: tuple[str, ...], root: Path, where: Path) -> Iterator[Record]:
        """Yield the records of an image: one, or one for each of its boxes."""
        file = image.get("file", "")
        try:
            boxes = [box for box in image.findall("box") if box.find("part") is not None and not int(box.get("ignore", 0))]
            other = [box for box in image.findall("box") if box not in boxes]
            placed = [[_number(box, key) for key in ("left", "top", "width", "height")] for box in boxes]
            if any(min(box[2:]) <= 0 for box in placed):
                raise ValueError("its width or height is not above 0")
            rows = [_rows(box, names) for box in boxes]
            regions = tuple(Region(None, tuple(_number(b, key) for key in ("left", "top", "width", "height"))) for b in other)
        except (TypeError, ValueError) as error:
            raise DataError(f"{where}: malformed box of {file!r} ({error})") from None
        for number, (box, points) in enumerate(zip(placed, rows, strict=True)):
            if self.crop:
                one = record(within(root, file), [points], corner=-0.5)
                areas = torch.tensor([box[2] * box[3]])
                yield replace(one, crop=_grown(box, self.crop), name=f"{file}#{number}", areas=areas, unlabelled=regions)
        if rows and not self.crop:
            areas = torch.tensor([box[2] * box[3] for box in placed])
            yield replace(record(within(root, file), rows, corner=-0.5), areas=areas, unlabelled=regions)


def _file(root: Path, split: str) -> tuple[Path, bool]:
    """Return the XML of `split`, and whether it holds train and val together."""
    found = sorted(root.glob(f"*{split}*.xml"))
    if len(found) == 1 and (split != "train" or sorted(root.glob("*val*.xml"))):
        return found[0], False
    if split == "val" and sorted(root.glob("*train*.xml")):
        found = sorted(root.glob("*train*.xml"))
    single = found or sorted(root.glob("*.xml"))
    if len(single) != 1 or split not in ("train", "val"):
        raise DataError(f"{root}: no XML of boxes for {split!r}", f"found {', '.join(p.name for p in single) or 'none'}")
    return single[0], True


def _images(path: Path) -> Iterator[Element]:
    try:
        text = path.read_text("utf-8")
        if "<!DOCTYPE" in text.upper():
            raise DataError(f"{path}: has a document type, which could define entities", "remove the line <!DOCTYPE ...>")
        images = ElementTree.fromstring(text).iter("image")
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{path}: not XML ({error})") from None
    return images


def _names(boxes: list[Element], path: Path) -> tuple[str, ...]:
    names = sorted({part.get("name", "") for box in boxes for part in box.findall("part")})
    if not names:
        raise DataError(f"{path}: no box has a part", "expected <box ...><part name='00' x='1' y='2'/>")
    return tuple(names)


def _rows(box: Element, names: tuple[str, ...]) -> list[list[float]]:
    places = {part.get("name"): [_number(part, "x"), _number(part, "y")] for part in box.findall("part")}
    return [places.get(name, [math.nan, math.nan]) for name in names]


def _number(element: Element, key: str) -> float:
    value = float(element.get(key) or "nan")
    if not math.isfinite(value):
        raise ValueError(f"no number {key!r}")
    return value


def _grown(box: list[float], factor: float) -> tuple[int, int, int, int]:
    """Return the box (left, top, width, height), `factor` times as large about its centre, as whole x0, y0, x1, y1."""
    x, y = box[0] + box[2] / 2, box[1] + box[3] / 2
    width, height = box[2] * factor / 2, box[3] * factor / 2
    left, top = round(x - width), round(y - height)
    return left, top, max(round(x + width), left + 1), max(round(y + height), top + 1)
