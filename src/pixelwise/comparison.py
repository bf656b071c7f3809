"""Two folders of pictures held against each other: pair by pair where their names agree, and as sets, by named features."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from pixelwise.data.files import images_in
from pixelwise.data.images import decode_image
from pixelwise.embedding import DEFAULT, find
from pixelwise.errors import DataError, ModelError, did_you_mean
from pixelwise.metrics.distances import Moments, frechet, kernel_distance
from pixelwise.metrics.image import ImageMetrics
from pixelwise.nn.embeddings import Embedding
from pixelwise.nn.lpips import Lpips, Trunk, files

NAMED = 5
"""How many of the files that do not fit are named."""
ROWS = 1024
"""Vectors that are turned into float64 at a time."""
Pictures = Mapping[str, Path]


@dataclass(frozen=True)
class Wanted:
    """What is asked for.

    Attributes:
        features: Names of embeddings by which the sets are compared; if there are none, only what has no pair is.
        paired: Whether pictures of one name are a pair: `auto` if there are any.
        lpips: Its trunk, `none`, or `auto` for AlexNet's if its weights are on this machine.
        trunk: Where the weights of its trunk are, if not where torchvision leaves them.
        heads: Where its linear heads are, if not in an installed package.
        subsets: How many subsets the kernel distance draws.
        subset: How many pictures of each side are in one.
    """

    features: Sequence[str] = ()
    paired: Literal["auto", "true", "false"] = "auto"
    lpips: Trunk | Literal["auto", "none"] = "auto"
    trunk: Path | None = None
    heads: Path | None = None
    subsets: int = 100
    subset: int = 1000


@dataclass
class Comparison:
    """What was found.

    Attributes:
        ours: The folder, or file, that is judged.
        originals: That it is held against.
        counts: Pictures of each side, pairs, and how many of these were measured.
        metrics: Of the pairs, by name; the mean over pictures.
        sets: One record for each embedding.
        pictures: The metrics of each pair.
        failed: What could not be read or measured, a sentence each.
        notes: What the reader should know.
    """

    ours: str
    originals: str
    counts: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    sets: list[dict[str, Any]] = field(default_factory=list)
    pictures: list[dict[str, Any]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain numbers and names."""
        return dict(vars(self))


def compare(ours: Path, originals: Path, wanted: Wanted) -> Comparison:
    """Compare two folders of pictures, or two pictures.

    Raises:
        DataError: There is nothing to compare.
        UsageError: There are no such features.
        ModelError: The weights of what is asked for are not on this machine.
    """
    found = Comparison(str(ours), str(originals))
    a, b = _sides(ours, originals)
    names = [name for name in a if name in b] if wanted.paired != "false" else []
    if wanted.paired == "true" and not names:
        hint = f"{', '.join(list(a)[:NAMED])} beside {', '.join(list(b)[:NAMED])}; as sets: paired=false"
        raise DataError(f"no picture of {ours} has the name of one of {originals}", hint)
    embeddings = [find(name) for name in (wanted.features or (() if names else DEFAULT))]
    found.counts = {"ours": len(a), "originals": len(b), "paired": len(names)}
    if names:
        _unmatched(found, a, b)
        _pairs(found, [(name, a[name], b[name]) for name in names], wanted)
    if embeddings:
        _sets(found, embeddings, a, b, wanted)
    return found


def _sides(ours: Path, originals: Path) -> tuple[Pictures, Pictures]:
    """Return the pictures of both sides by name; two files are a pair whatever they are called."""
    if ours.is_file() and originals.is_file():
        return {ours.stem: ours}, {ours.stem: originals}
    for folder in (ours, originals):
        if not folder.is_dir():
            near = did_you_mean(folder.name, (p.name for p in folder.parent.iterdir())) if folder.parent.is_dir() else ""
            raise DataError(f"no such folder: {folder}", near or "compare takes two folders of pictures, or two pictures")
    return images_in(ours), images_in(originals)


def _unmatched(found: Comparison, a: Pictures, b: Pictures) -> None:
    """Note what one side has and the other lacks, the first few by name."""
    for have, lack, where in ((a, b, found.originals), (b, a, found.ours)):
        names = [name for name in have if name not in lack]
        if names:
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            found.notes.append(f"not in {where}: {', '.join(names[:NAMED])}{more}")


def _pairs(found: Comparison, pairs: Sequence[tuple[str, Path, Path]], wanted: Wanted) -> None:
    """Measure the pairs."""
    measured, lpips = ImageMetrics(), _lpips(found, wanted)
    differ = []
    for name, ours, original in pairs:
        image, truth = _read(found, ours), _read(found, original)
        if image is None or truth is None:
            continue
        if image.shape != truth.shape:
            differ.append(f"{name} ({_size(image)} and {_size(truth)})")
            continue
        one = image[:1] if _is_grey(image) and _is_grey(truth) else image
        measured.update(one, truth[: len(one)])
        if lpips:
            label, network = lpips
            measured.records[-1][label] = float(network((image / 255)[None], (truth / 255)[None]))
        values = {metric: value for metric, value in measured.records[-1].items() if isfinite(value)}
        found.pictures.append({"name": name, **values})
    if differ:
        more = f" and {len(differ) - NAMED} more" if len(differ) > NAMED else ""
        found.failed.append(f"{len(differ)} pairs differ in size, so no pixel has another: {', '.join(differ[:NAMED])}{more}")
    found.counts["measured"], found.metrics = len(measured.records), measured.compute()
    _partly(found)


def _partly(found: Comparison) -> None:
    """Note which means are of fewer pictures than there are, such as of small ones or of some grey among coloured ones."""
    for metric in found.metrics:
        count = sum(metric in picture for picture in found.pictures)
        if count < len(found.pictures):
            found.notes.append(f"{metric} is the mean over {count} of {len(found.pictures)} pictures")


def _lpips(found: Comparison, wanted: Wanted) -> tuple[str, Lpips] | None:
    """Return the name of the metric and its network; without weights a note, unless it was asked for."""
    if wanted.lpips == "none":
        return None
    net: Trunk = "alex" if wanted.lpips == "auto" else wanted.lpips
    asked = wanted.lpips != "auto" or wanted.trunk or wanted.heads
    try:
        return f"lpips0.1_{net}", Lpips(net, files(net, wanted.trunk, wanted.heads))
    except ModelError as error:
        if asked:
            raise
        found.notes.append(f"not measured: {error} ({error.hint})")
        return None


def _read(found: Comparison, path: Path) -> Tensor | None:
    """Return the pixels uint8 (3, H, W), or nothing and say so."""
    try:
        return decode_image(path, found.notes)
    except DataError as error:
        if str(error) not in found.failed:
            found.failed.append(str(error))
        return None


def _is_grey(image: Tensor) -> bool:
    return bool((image == image[:1]).all())


def _size(image: Tensor) -> str:
    return f"{image.shape[-1]}x{image.shape[-2]}"


def _sets(found: Comparison, embeddings: Sequence[Embedding], a: Pictures, b: Pictures, wanted: Wanted) -> None:
    """Measure how far the two sets are apart, by each embedding."""
    sides = [_embedded(found, embeddings, list(pictures.values())) for pictures in (a, b)]
    for embedding, ours, originals in zip(embeddings, *sides, strict=True):
        found.sets.append(_distances(found, embedding, ours, originals, wanted))


def _embedded(found: Comparison, embeddings: Sequence[Embedding], paths: Sequence[Path]) -> list[Tensor]:
    """Return the vectors (N, dimension) of each embedding; every picture is read once."""
    vectors: list[list[Tensor]] = [[] for _ in embeddings]
    for path in paths:
        picture = _read(found, path)
        if picture is not None:
            for embedding, gathered in zip(embeddings, vectors, strict=True):
                gathered.append(embedding.of(picture))
    kept = zip(embeddings, vectors, strict=True)
    return [torch.stack(gathered) if gathered else torch.zeros(0, embedding.dimension) for embedding, gathered in kept]


def _distances(found: Comparison, embedding: Embedding, a: Tensor, b: Tensor, wanted: Wanted) -> dict[str, Any]:
    """Return one record: the features, how many pictures, and the distances under names that say their protocol."""
    record: dict[str, Any] = {"features": embedding.name, "dimension": embedding.dimension, "ours": len(a), "originals": len(b)}
    fewest = min(len(a), len(b))
    if fewest < 2:
        found.notes.append(f"{embedding.name}: sets of {len(a)} and {len(b)} pictures have no distance: it takes two each")
        return record
    kernel = kernel_distance(a, b, wanted.subsets, wanted.subset)
    protocol = f"{embedding.protocol},{kernel.subsets}x{kernel.size}"
    record[f"kid@{protocol}"] = kernel.mean
    if isfinite(kernel.deviation):
        record[f"kid_std@{protocol}"] = kernel.deviation
    moments = [_moments(vectors) for vectors in (a, b)]
    record[f"fid@{embedding.protocol}"] = frechet(*(part for m in moments for part in (m.mean, m.covariance)))
    if fewest <= embedding.dimension:
        found.notes.append(
            f"FID BY {embedding.name} IS NOT TO BE TRUSTED: {fewest} pictures are fewer than {embedding.dimension} + 1, so its "
            "covariance is singular and the distance too large; go by KID, which has no such bias"
        )
    return record


def _moments(vectors: Tensor) -> Moments:
    moments = Moments(vectors.shape[1])
    for start in range(0, len(vectors), ROWS):
        moments.update(vectors[start : start + ROWS])
    return moments


def as_text(found: Comparison) -> str:
    """Return what was found for a terminal."""
    counts = found.counts
    lines = [f"{found.ours}: {counts['ours']} pictures; {found.originals}: {counts['originals']}"]
    if counts["paired"]:
        lines.append(f"{counts['measured']} of {counts['paired']} pairs of one name measured; means over pictures:")
        lines += _aligned(found.metrics)
    for record in found.sets:
        lines.append(f"as sets, by {record['features']} ({record['dimension']} numbers per picture):")
        lines += _aligned({name: value for name, value in record.items() if "@" in name})
    lines += [f"note: {note}" for note in found.notes]
    lines += [f"failed: {sentence}" for sentence in found.failed]
    return "\n".join(lines)


def _aligned(values: Mapping[str, float]) -> list[str]:
    width = max(map(len, values), default=0)
    return [f"  {name.ljust(width)}  {value:.5g}" for name, value in values.items()]


def write(found: Comparison, out: Path) -> None:
    """Write `compare.json`, and where there are pairs `pictures.csv` with a row for each."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "compare.json").write_text(json.dumps(found.to_json(), indent=2) + "\n")
    if found.pictures:
        columns = list(dict.fromkeys(column for picture in found.pictures for column in picture))
        with (out / "pictures.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(found.pictures)
