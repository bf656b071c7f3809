"""What all readers of folders share: which images are there, which pair up, are held out, and can be read."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field as Setting

from pixelwise.data.dataset import Dataset, Source, existing_folder
from pixelwise.data.images import SUFFIXES
from pixelwise.data.sample import Sample
from pixelwise.data.video import SUFFIXES as VIDEOS
from pixelwise.errors import DataError, did_you_mean

ValFrom = Annotated[
    Literal["anywhere", "end"],
    Setting(description="what is held out: a fixed random choice of names, or the last ones in order (frames of one video)"),
]
Held = Annotated[
    Literal["anywhere", "end", "groups"],
    Setting(
        description="what is held out: a fixed random choice of names, the last ones in order (frames of one video), or whole "
        "groups, of names that are equal up to the last _ or - (views of one place)"
    ),
]
ValFraction = Annotated[float, Setting(gt=0, lt=1, description="share held out as val where there is no val folder")]


MALFORMED = (LookupError, ArithmeticError, TypeError, ValueError, AttributeError, RuntimeError, StopIteration)
"""What looking up, converting, counting, nesting and HDF5 raise where a file of labels is not what it seems."""
Files = dict[str, Path]
"""The files of one sample by field, or of one field by sample."""


def images_in(folder: Path, suffixes: Collection[str] = SUFFIXES) -> dict[str, Path]:
    """Return the images below `folder`, or the files with other `suffixes`, sorted, by their path in it without suffix.

    Raises:
        DataError: There is none, or two differ only by suffix.
    """
    found: dict[str, Path] = {}
    for parent, _, names in os.walk(folder):
        for path in (Path(parent, name) for name in names if Path(name).suffix.lower() in suffixes):
            other = found.setdefault(path.relative_to(folder).with_suffix("").as_posix(), path)
            if other is not path:
                raise DataError(f"{path} and {other.name} have the same name", "remove or rename one of them")
    if not found:
        video = next((path.name for path in sorted(folder.glob("*")) if path.suffix.lower() in VIDEOS), "")
        unpack = f"{video} is a video: unpack its frames first, for example ffmpeg -i {video} %05d.png"
        raise DataError(
            f"no images in {folder}", unpack if video else f"expected files ending in {', '.join(sorted(suffixes))}"
        )
    return dict(sorted(found.items()))


def within(folder: Path, name: str) -> Path:
    """Return the file below `folder` that labels call `name`; labels may come from anybody, so they may not lead out of it.

    Raises:
        DataError: The name is absolute or goes up.
    """
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise DataError(f"the labels name {name}, which is not below {folder}", "name images relative to their folder")
    return folder / name


def require_pairs(where: Path, a: dict[str, Path], b: dict[str, Path], names: tuple[str, str]) -> None:
    """Check that both sides hold the same names.

    Raises:
        DataError: A side lacks a name; the hint lists up to five for each side.
    """
    lacking = []
    for have, lack, name in ((a, b, names[1]), (b, a, names[0])):
        missing = [path.name for key, path in have.items() if key not in lack]
        if missing:
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            lacking.append(f"missing in {name}: {', '.join(missing[:5])}{more}")
    if lacking:
        raise DataError(f"{where}: {len(a)} images in {names[0]}, {len(b)} in {names[1]}", "; ".join(lacking))


def split_folder(root: Path, split: str) -> tuple[Path, bool]:
    """Return the folder to read for `split`, and whether train and val still have to be parted inside it.

    Raises:
        DataError: There is no such split.
    """
    if (root / split).is_dir() and (split != "train" or (root / "val").is_dir()):
        return root / split, False
    if split not in ("train", "val"):
        raise no_split(root, split)
    return (root / "train" if (root / "train").is_dir() else root), True


def lettered_folders(root: Path, split: str) -> tuple[tuple[Path, ...], bool] | None:
    """Return `<split>A` and `<split>B` if the root is laid out so, and whether train and val are still to be parted.

    Raises:
        DataError: There is no such split, or one of its two folders is missing.
    """
    if not (root / "trainA").is_dir():
        return None
    parted = split in ("train", "val") and not (root / "valA").is_dir()
    name = "train" if parted else split
    if not (root / f"{name}A").is_dir():
        raise no_split(root, split)
    return (root / f"{name}A", existing_folder(str(root / f"{name}B"))), parted


def no_split(root: Path, split: str) -> DataError:
    """Return the error for a split that is not there."""
    folders = sorted(path.name for path in root.iterdir() if path.is_dir())
    return DataError(f"{root}: no split {split!r}", did_you_mean(split, folders) or "there are train and val")


def part(
    groups: Sequence[str], split: str, fraction: float, val_groups: Sequence[str | int] = (), where: str = "data"
) -> list[int]:
    """Part items into train and val, whole groups at a time, by the names alone.

    Args:
        groups: Group of each item; its own key where items stand alone.
        split: "train" or "val".
        fraction: Share of the groups held out, those of the smallest digests; adding items moves few others.
        val_groups: The groups to hold out, in place of a fraction.
        where: What to call the data in a message.

    Returns:
        The indices of the items of `split`, ascending.

    Raises:
        DataError: A side is empty, a group does not exist, or there is no such split.
    """
    if split not in ("train", "val"):
        raise DataError(f"{where}: no split {split!r}", "there are train and val")
    known = sorted(set(groups), key=lambda name: hashlib.blake2b(name.encode()).digest())
    held = {str(name) for name in val_groups} or set(known[: max(1, round(fraction * len(known)))])
    if held - set(known):
        raise DataError(f"{where}: no group {sorted(held - set(known))[0]!r}", f"for example {known[0]!r}")
    if len(held) == len(known):
        raise DataError(f"{where}: holding out {len(held)} of {len(known)} leaves nothing to train on")
    return [i for i, group in enumerate(groups) if (group in held) == (split == "val")]


def group_of(key: str) -> str:
    """Return the part of a name that it shares with its group: all before the last underscore or hyphen of the file's name."""
    return re.sub(r"[_-][^_/-]*$", "", key)


def held_out(keys: Sequence[str], split: str, fraction: float, held: str, where: str = "data") -> list[int]:
    """Return the indices of the items of `split`, parted as the setting `Held` says.

    Raises:
        DataError: As `part`.
    """
    if held == "end":
        return part_in_order(keys, split, fraction, where)
    return part([group_of(key) for key in keys] if held == "groups" else keys, split, fraction, where=where)


def part_in_order(keys: Sequence[str], split: str, fraction: float, where: str = "data") -> list[int]:
    """Part items into train and, last in the order of their names, val: neighbouring frames of a video are nearly equal.

    Args:
        keys: Names of the items, sorted.
        split: "train" or "val".
        fraction: Share held out; at least one item.
        where: What to call the data in a message.

    Returns:
        The indices of the items of `split`, ascending.

    Raises:
        DataError: A side is empty, or there is no such split.
    """
    if split not in ("train", "val"):
        raise DataError(f"{where}: no split {split!r}", "there are train and val")
    first = len(keys) - max(1, round(fraction * len(keys)))
    if first < 1:
        raise DataError(f"{where}: holding out {len(keys) - first} of {len(keys)} leaves nothing to train on")
    return list(range(first) if split == "train" else range(first, len(keys)))


def read_json(path: Path) -> Any:
    """Return the contents of a JSON file.

    Raises:
        DataError: It is missing or no JSON.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        near = did_you_mean(path.name, (p.name for p in path.parent.glob("*")))
        raise DataError(f"no such file: {path}", near) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error})") from None


class Subset(Dataset):
    """Some of the samples of another dataset, in the given order."""

    def __init__(self, dataset: Dataset, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, list(indices)
        self.meta, self.fields, self.notes = dataset.meta, dataset.fields, dataset.notes
        self.missing = dataset.missing

    def __len__(self) -> int:
        return len(self.indices)

    def key(self, index: int) -> str:
        """Return the key in the other dataset."""
        return self.dataset.key(self.indices[index])

    def sample(self, index: int, fields: Sequence[str]) -> Sample:
        """Return the other dataset's sample."""
        return self.dataset.sample(self.indices[index], fields)

    def varied(self, sample: Sample, draw: Callable[[], np.random.Generator]) -> Sample:
        """Return the sample as the other dataset varies it."""
        return self.dataset.varied(sample, draw)

    def source(self, index: int, field: str) -> Source | None:
        """Return the other dataset's source."""
        return self.dataset.source(self.indices[index], field)


def checked(dataset: Dataset, on_error: Literal["stop", "skip"]) -> Dataset:
    """Return `dataset`, or with "skip" the samples that can be read, each other one reported in `notes`.

    Skipping reads every file once, so that the number and order of samples never depends on when an error is met.

    Raises:
        DataError: Nothing can be read.
    """
    if on_error == "stop":
        return dataset
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        errors = list(pool.map(lambda index: _error(dataset, index), range(len(dataset))))
    dataset.notes.extend(f"skipped {error}" for error in errors if error)
    sound = [index for index, error in enumerate(errors) if error is None]
    if not sound:
        raise DataError(f"none of {len(dataset)} samples can be read; the first: {errors[0]}")
    return Subset(dataset, sound) if len(sound) < len(dataset) else dataset


def _error(dataset: Dataset, index: int) -> DataError | None:
    try:
        dataset.sample(index, dataset.fields)
    except DataError as error:
        return error
    return None
