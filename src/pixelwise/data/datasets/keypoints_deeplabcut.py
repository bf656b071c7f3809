"""A project of DeepLabCut: `config.yaml`, and per video `labeled-data/VIDEO/CollectedData_NAME.csv` (or .h5) and frames.

The header has the levels scorer, in projects of several animals individuals, bodyparts and coords. The CSV is read where
there is one; of the HDF5 files those in pandas' layout "fixed", the one that DeepLabCut writes labels in. An individual
without a labelled point is not there; an image where nobody has one is left out. What is not labelled is unknown:
DeepLabCut cannot tell covered from forgotten. The first pixel's centre is 0, as in napari, in which labels are set (napari
issue 310), so half a pixel is added.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field as Setting

from pixelwise.data.dataset import DataConfig, Dataset, Meta, existing_folder
from pixelwise.data.files import ValFraction, checked, part
from pixelwise.data.keypoints import KeypointFiles, Record, record, require_images
from pixelwise.data.pandas_tables import Table, read_csv, read_hdf
from pixelwise.data.skeletons import SkeletonFile, made_skeleton, of_deeplabcut, skeleton_for
from pixelwise.errors import DataError
from pixelwise.geometry.skeleton import Skeleton


class Config(DataConfig):
    """Labels of DeepLabCut."""

    kind: Literal["keypoints_deeplabcut"] = "keypoints_deeplabcut"
    root: Annotated[str, Setting(description="project folder with config.yaml and labeled-data, or one folder of frames")]
    val_groups: Annotated[tuple[str, ...], Setting(description="videos held out as val: names of folders of labeled-data")] = ()
    skeleton: SkeletonFile = ""
    val_fraction: ValFraction = 0.1

    def open(self, split: str) -> Dataset:
        """Return the labelled frames of `split`.

        Raises:
            DataError: There are no labels, a file is malformed, videos differ in their points, or an image is missing.
        """
        root = existing_folder(self.root)
        tables = {path: read_csv(path) if path.suffix == ".csv" else read_hdf(path) for path in _files(root)}
        names = _names(tables)
        records = [item for path, table in tables.items() for item in _records(path, table, names)]
        if not records:
            raise DataError(f"{root}: no labelled point")
        groups = [item.group if self.val_groups else item.path.as_posix() for item in records]
        kept = [records[i] for i in part(groups, split, self.val_fraction, self.val_groups, str(root))]
        if self.on_error == "stop":
            require_images((item.path for item in kept), root)
        meta = Meta(skeleton=skeleton_for(len(names), _skeleton(root, names), self.skeleton, root))
        files = KeypointFiles(root, kept, meta)
        files.notes.extend(_unknown_limbs(root, names))
        return checked(files, self.on_error)


def _files(root: Path) -> list[Path]:
    """Return the file of labels of every video: the CSV, or the HDF5 where there is none."""
    folder = root / "labeled-data" if (root / "labeled-data").is_dir() else root
    found = sorted(folder.rglob("CollectedData_*.csv")) + sorted(folder.rglob("CollectedData_*.h5"))
    by_video: dict[Path, Path] = {}
    for path in found:
        first = by_video.setdefault(path.parent, path)
        if first.suffix == path.suffix and first != path:
            raise DataError(f"{path.parent}: {first.name} and {path.name} are labels of two people", "keep one of them")
    if not by_video:
        raise DataError(f"{root}: no labels of DeepLabCut", "expected labeled-data/VIDEO/CollectedData_NAME.csv")
    return list(by_video.values())


def _names(tables: dict[Path, Table]) -> tuple[str, ...]:
    """Return the points, in the order of the columns; the same in every video."""
    parts = {path: tuple(dict.fromkeys(column[-2] for column in table.columns)) for path, table in tables.items()}
    first = next(iter(parts))
    other = next((path for path, names in parts.items() if names != parts[first]), None)
    if other is not None:
        raise DataError(f"{other}: bodyparts {', '.join(parts[other])}, but {first} has {', '.join(parts[first])}")
    return parts[first]


def _skeleton(root: Path, names: Sequence[str]) -> Skeleton:
    """Return the project's skeleton for these points; without a config.yaml their names alone."""
    if not (root / "config.yaml").is_file():
        return made_skeleton({"names": list(names)}, root)
    stated, _ = of_deeplabcut(root / "config.yaml")
    limbs = [[stated.names[a], stated.names[b]] for a, b in stated.limbs]
    kept = [limb for limb in limbs if set(limb) <= set(names)]
    return made_skeleton({"names": list(names), "limbs": kept}, root / "config.yaml")


def _unknown_limbs(root: Path, names: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for every limb of the config.yaml that names no point; DeepLabCut's template has such."""
    if (root / "config.yaml").is_file():
        for limb in of_deeplabcut(root / "config.yaml")[1].get("skeleton") or ():
            if not {str(end) for end in limb} <= set(names):
                yield f"config.yaml: the limb {' to '.join(map(str, limb))} is left out, as it names no labelled point"


def _records(path: Path, table: Table, names: tuple[str, ...]) -> list[Record]:
    """Return the frames that have a labelled point."""
    animals = tuple(dict.fromkeys(column[1:-2] for column in table.columns))
    values = np.full((len(table.rows), len(animals), len(names), 2), np.nan)
    for number, column in enumerate(table.columns):
        if column[-1] not in ("x", "y"):
            raise DataError(f"{path}: a column of {column[-1]!r}", "labels have the coords x and y")
        place = (animals.index(column[1:-2]), names.index(column[-2]), "xy".index(column[-1]))
        values[:, *place] = table.values[:, number]
    made = []
    for label, people in zip(table.rows, values, strict=True):
        seen = [rows for rows in people.tolist() if np.isfinite(rows).all(-1).any()]
        if seen:
            image = path.parent / label[-1].replace("\\", "/").rpartition("/")[2]
            made.append(record(image, seen, path.parent.name, corner=-0.5))
    return made
