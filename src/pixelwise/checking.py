"""Looks at data before anything is trained on it: wrong labels are the commonest cause of bad models.

Every sample of every split is read once. What is suspicious is named with its reason; nothing is changed.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, NamedTuple

import torch
from PIL import Image as PillowImage
from PIL import ImageDraw
from torch import Tensor

from pixelwise.data.dataset import Dataset, Meta
from pixelwise.data.duplicates import nearly_same
from pixelwise.data.sample import Boundaries, Category, Depth, Image, Keypoints, LabelMap, Masks, Normals, Sample, Values
from pixelwise.data.sample import Field as SampleField
from pixelwise.data.thumbnails import thumbnail
from pixelwise.errors import DataError
from pixelwise.evaluation import evenly
from pixelwise.geometry.presence import Presence
from pixelwise.geometry.shapes import shape_distances
from pixelwise.geometry.skeleton import Skeleton, one_sided, side_of, strange_limbs
from pixelwise.predictions.keypoints import KeypointsPrediction
from pixelwise.recipe import Recipe
from pixelwise.task import Task

SHOWN, SUSPECTS, TILE = 48, 48, 192
COMPARED = 2000
"""Shapes and thumbnails are held against at most so many others, evenly spaced."""
NEIGHBOURS = 10
SWAPPED = 0.7
"""Sides are called swapped if exchanging left and right brings a shape to less than this share of its distance.

People seen from behind are no reason: their neighbours are others seen from behind."""
FAR = 6.0
"""Deviations (median absolute, scaled to a normal's) from which a shape is called far from the rest."""
ALIKE = 0.995
"""Correlation of thumbnails from which pictures are called nearly the same."""
ON_TOP = 0.1
"""Mean distance of the points of two objects, in roots of the box's area, below which they are one object twice."""


UNKNOWN, NOT_LABELLED, ABSENT = "unknown", "points not labelled", "points absent"
NO_LIMBS = "the skeleton has no limbs: no lines are drawn, and `pose` cannot be trained"
SIDES = {"left": (40, 110, 255), "right": (30, 200, 80)}


class Finding(NamedTuple):
    """Something suspicious: in which sample of which split, and why."""

    split: str
    key: str
    reason: str
    detail: str


@dataclass
class Seen:
    """What is kept of every sample that was read; lists have one entry per sample, `shapes` one per object."""

    keys: list[tuple[str, int, str]] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    thumbnails: list[Tensor] = field(default_factory=list)
    shapes: list[Tensor] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    presence: list[Tensor] = field(default_factory=list)
    counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    totals: Counter[str] = field(default_factory=Counter)


@dataclass
class Checked:
    """What was found in the data of a recipe."""

    recipe: Recipe
    meta: Meta
    counts: dict[str, int]
    broken: list[str]
    notes: list[str]
    findings: list[Finding]
    shares: dict[str, dict[str, float]]
    tiles: list[tuple[PillowImage.Image, str]] = field(default_factory=list)
    suspects: list[tuple[PillowImage.Image, str]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return everything but the pictures."""
        return {
            "data": self.recipe.data.model_dump(mode="json"),
            "samples": self.counts,
            "broken": self.broken,
            "notes": self.notes,
            "shares": self.shares,
            "findings": [finding._asdict() for finding in self.findings],
        }


def check_data(recipe: Recipe) -> Checked:
    """Read every sample of every split of a recipe's data and say what is suspicious.

    Raises:
        DataError: A split cannot be opened at all, or none of its samples be read.
    """
    config = recipe.data.model_copy(update={"on_error": "skip"})
    splits = {split: recipe.task.seen(config.open(split), recipe.view) for split in ("train", "val")}
    with suppress(DataError):  # most data has none
        splits["test"] = recipe.task.seen(config.open("test"), recipe.view)
    task: Task = recipe.task.build(splits["train"].meta)
    seen, findings = Seen(), list[Finding]()
    for split, dataset in splits.items():
        fields = [name for name in task.fields if name in dataset.fields]
        for index in range(len(dataset)):
            sample = dataset.sample(index, fields)
            findings += [Finding(split, sample.key, *found) for found in _look(sample, dataset.meta, seen)]
            seen.keys.append((split, index, sample.key))
    meta = splits["train"].meta
    shares = _shares(seen, meta.skeleton.names)
    findings += [*_shape_findings(seen, meta), *_duplicates(seen), *_of_the_set(shares), *_of_the_skeleton(meta.skeleton)]
    notes = dict.fromkeys(note for dataset in splits.values() for note in dataset.notes)
    if seen.shapes and not meta.skeleton.limbs:
        notes[NO_LIMBS] = None
    checked = Checked(
        recipe,
        meta,
        {split: len(dataset) for split, dataset in splits.items()},
        [note.removeprefix("skipped ") for note in notes if note.startswith("skipped ")],
        [note for note in notes if not note.startswith("skipped ")],
        sorted(findings, key=lambda finding: finding.reason),
        shares,
    )
    _draw(checked, splits, task, seen)
    return checked


def _look(sample: Sample, meta: Meta, seen: Seen) -> Iterator[tuple[str, str]]:
    """Keep what the comparisons need of a sample, and yield what is suspicious in itself."""
    images = [name for name, value in sample.fields.items() if isinstance(value, Image)]
    digest = hashlib.blake2b(digest_size=16)
    for name in images:
        digest.update(repr(sample[name].frame.size).encode() + sample[name].tensors()[""].contiguous().numpy().tobytes())
    seen.digests.append(digest.hexdigest() if images else sample.key)
    seen.thumbnails.append(thumbnail(sample, images[0]) if images else torch.zeros(1))
    for name, value in sample.fields.items():
        if isinstance(value, Keypoints):
            yield from _of_points(value, meta, seen)
        elif not isinstance(value, Image) and name != "unlabelled":
            yield from _of_values(name, value, meta, seen)


def _of_points(people: Keypoints, meta: Meta, seen: Seen) -> Iterator[tuple[str, str]]:
    names = meta.skeleton.names
    height, width = people.frame.size
    for points, presence in zip(people.points, people.presence, strict=True):
        x, y = points.unbind(-1)
        outside = (presence != Presence.UNKNOWN) & ((x < 0) | (x >= width) | (y < 0) | (y >= height))
        if outside.any():
            yield "points outside the image", ", ".join(names[i] for i in outside.nonzero()[:, 0].tolist())
        if not (presence >= Presence.HIDDEN).any():
            yield "no point is there", f"all {len(names)} are unknown or absent"
        seen.shapes.append(points.masked_fill((presence < Presence.HIDDEN)[:, None], torch.nan))
        seen.owners.append(len(seen.keys))
        seen.presence.append(presence)
    kept = people.points.masked_fill((people.presence < Presence.HIDDEN)[..., None], torch.nan)
    for one, other in _on_top(kept):
        yield "two objects lie on top of each other", f"numbers {one} and {other}"


def _on_top(people: Tensor) -> Iterator[tuple[int, int]]:
    """Yield the pairs of objects (N, K, 2) whose points nearly coincide."""
    lowest = people.masked_fill(people.isnan(), torch.inf).amin(1)
    sizes = (people.masked_fill(people.isnan(), -torch.inf).amax(1) - lowest).clamp(min=0).prod(-1).sqrt().clamp(min=1)
    for one, other in combinations(range(len(people)), 2):
        apart = (people[one] - people[other]).norm(dim=-1)
        shared = apart.isfinite()
        enough = 2 * shared.sum() >= people[one].isfinite().all(-1).sum() > 0
        if enough and apart[shared].mean() < ON_TOP * torch.minimum(sizes[one], sizes[other]):
            yield one, other


def _of_values(name: str, value: SampleField, meta: Meta, seen: Seen) -> Iterator[tuple[str, str]]:
    """Count what a field that is no picture and no points says, and yield if it says nothing at all."""
    counted = _counted(name, value, meta)
    if counted is None:
        return
    seen.counts[name].update(counted)
    if isinstance(value, Masks):
        seen.totals[name] += value.masks[0].numel()
        empty = bool((value.masks == 255).all())
    else:
        empty = counted[UNKNOWN] == counted.total()
    if empty:
        yield "nothing is labelled", f"{name} is unknown everywhere"


def _counted(name: str, value: SampleField, meta: Meta) -> Counter[str] | None:
    """Return how many pixels, numbers or pictures say what, classes that are not there included."""
    if isinstance(value, LabelMap):
        numbers, each = (found.tolist() for found in torch.unique(value.labels, return_counts=True))
        classes = () if name == "boundaries" else meta.classes
        named = [classes[n] if n < len(classes) else UNKNOWN if n == 255 or classes else str(int(n)) for n in numbers]
        counts = Counter(dict.fromkeys(classes, 0))
        for label, count in zip(named, each, strict=True):
            counts[label] += count
        return counts
    if isinstance(value, Masks):
        return Counter({label: int((mask == 1).sum()) for label, mask in zip(meta.masks, value.masks, strict=True)})
    if isinstance(value, Category):
        names = meta.vectors[name].names if name in meta.vectors else ()
        here = UNKNOWN if value.index < 0 else names[value.index] if names else str(value.index)
        return Counter(dict.fromkeys(names, 0) | {here: 1})
    if isinstance(value, Depth | Normals | Boundaries | Values):
        known = int(value.tensors()[""].isfinite().sum())
        return Counter({"known": known, UNKNOWN: value.tensors()[""].numel() - known})
    return None


def _shape_findings(seen: Seen, meta: Meta) -> Iterator[Finding]:
    """Yield the objects that look like others once their sides are exchanged, and those that look like no other."""
    if len(seen.shapes) < 2 * NEIGHBOURS:
        return
    shapes = torch.stack(seen.shapes)
    chosen = torch.tensor(evenly(len(shapes), min(COMPARED, len(shapes))))
    itself = chosen[None] == torch.arange(len(shapes))[:, None]
    own = _nearness(shape_distances(shapes, shapes[chosen]).masked_fill(itself, torch.nan))
    known = own[own.isfinite()]
    middle = known.median()
    limit = middle + FAR * 1.4826 * (known - middle).abs().median()
    if meta.skeleton.swap:
        exchanged = shapes[:, list(meta.skeleton.swap)]
        other = _nearness(shape_distances(exchanged, shapes[chosen]).masked_fill(itself, torch.nan))
        for i in ((other < SWAPPED * own) & (other <= limit)).nonzero()[:, 0].tolist():
            detail = f"distance {own[i]:.3f} to its neighbours, {other[i]:.3f} with left and right exchanged"
            yield Finding(*_where(seen, seen.owners[i]), "left and right are probably swapped", detail)
    for i in (own > limit).nonzero()[:, 0].tolist():
        detail = f"distance {own[i]:.3f} to its neighbours, usual are {middle:.3f}"
        yield Finding(*_where(seen, seen.owners[i]), "a shape far from the rest", detail)


def _nearness(distances: Tensor) -> Tensor:
    """Return the mean distance (N,) to the nearest NEIGHBOURS of (N, M); NaN where fewer can be compared."""
    nearest = distances.nan_to_num(torch.inf).topk(NEIGHBOURS, largest=False).values.mean(1)
    return nearest.masked_fill(nearest.isinf(), torch.nan)


def _duplicates(seen: Seen) -> Iterator[Finding]:
    """Yield the samples whose pictures are those of an earlier one, or nearly so."""
    first: dict[str, int] = {}
    same = set()
    for i, digest in enumerate(seen.digests):
        before = first.setdefault(digest, i)
        if before != i:
            same.add(i)
            yield _pair(seen, i, before, "the same image")
    near = defaultdict[int, list[int]](list)
    for i, j in nearly_same(torch.stack(seen.thumbnails), [split for split, _, _ in seen.keys], ALIKE).pairs:
        near[i].append(j)
    for i in sorted(near.keys() - same):
        yield _pair(seen, i, min(near[i], key=lambda j: (seen.keys[j][0] == seen.keys[i][0], j)), "nearly the same image")


def _pair(seen: Seen, i: int, j: int, what: str) -> Finding:
    (split, _, _), (other, _, key) = seen.keys[i], seen.keys[j]
    where = "in another split" if split != other else "in the same split"
    return Finding(*_where(seen, i), f"{what} {where}", f"as {key} in {other}")


def _of_the_set(shares: Mapping[str, Mapping[str, float]]) -> Iterator[Finding]:
    """Yield what is wrong with the labels as a whole: points and classes that are never there."""
    for name, share in shares.get(NOT_LABELLED, {}).items():
        if share > 0.5:
            yield Finding("all", "", "a point is mostly unlabelled", f"{name}: {share:.0%} unknown")
    for what in shares.keys() - {NOT_LABELLED, ABSENT}:
        for label, share in shares[what].items():
            if share == 0 and label not in ("known", UNKNOWN):
                yield Finding("all", "", "a class is never there", f"{what}: {label}")


def _of_the_skeleton(skeleton: Skeleton) -> Iterator[Finding]:
    """Yield names with a side and no twin, and limbs that do not fit each other."""
    for name in one_sided(skeleton):
        yield Finding("skeleton", "", "a side without its twin", name)
    for reason, detail in strange_limbs(skeleton):
        yield Finding("skeleton", "", reason, detail)


def _shares(seen: Seen, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return by field what share of the pixels, pictures or objects each class or point has."""
    shares: dict[str, dict[str, float]] = {}
    if seen.presence:
        presence = torch.stack(seen.presence)
        for what, state in ((NOT_LABELLED, Presence.UNKNOWN), (ABSENT, Presence.ABSENT)):
            shares[what] = dict(zip(names, (presence == state).float().mean(0).tolist(), strict=True))
    for name, counts in seen.counts.items():
        total = seen.totals[name] or counts.total()
        shares[name] = {label: count / total for label, count in counts.items()}
    return shares


def _where(seen: Seen, i: int) -> tuple[str, str]:
    split, _, key = seen.keys[i]
    return split, key


def _draw(checked: Checked, splits: Mapping[str, Dataset], task: Task, seen: Seen) -> None:
    """Draw samples with their labels, evenly spaced over the data, and those that are suspicious."""
    reasons: dict[tuple[str, str], list[str]] = defaultdict(list)
    for finding in checked.findings:
        if finding.key:
            reasons[finding.split, finding.key].append(f"{finding.reason} ({finding.detail})")
    for split, index, key in (seen.keys[i] for i in evenly(len(seen.keys), min(SHOWN, len(seen.keys)))):
        checked.tiles.append((_drawn(splits[split], index, task), f"{split}: {key}"))
    for split, index, key in seen.keys:
        if (split, key) in reasons and len(checked.suspects) < SUSPECTS:
            why = "; ".join(dict.fromkeys(reasons[split, key]))
            checked.suspects.append((_drawn(splits[split], index, task), f"{split}: {key}: {why}"))


def _drawn(dataset: Dataset, index: int, task: Task) -> PillowImage.Image:
    """Return a sample with its labels: all its objects where it has points, else what the task calls the truth."""
    sample = dataset.sample(index, [name for name in task.fields if name in dataset.fields])
    people = next((value for value in sample.fields.values() if isinstance(value, Keypoints)), None)
    image = sample.fields.get("image")
    if people is not None and isinstance(image, Image):
        points = people.points.masked_fill((people.presence < Presence.HIDDEN)[..., None], torch.nan)
        drawn = KeypointsPrediction(image.pixels, points, torch.ones(points.shape[:2]), dataset.meta.skeleton).render()
        _mark_sides(drawn, points, dataset.meta.skeleton.names)
    else:
        drawn = task.truth(sample).render()
    drawn.thumbnail((2 * TILE, 2 * TILE))
    return drawn.convert("RGB")


def _mark_sides(picture: PillowImage.Image, people: Tensor, names: Sequence[str]) -> None:
    """Mark points whose names say left blue, and those whose names say right green, as swapped sides are easily seen so."""
    draw, radius = ImageDraw.Draw(picture), max(1.5, max(picture.size) / 120)
    for points in people - 0.5:  # Pillow puts integers at pixel centres
        for (x, y), name in zip(points.tolist(), names, strict=True):
            if x == x and side_of(name):
                draw.ellipse([x - radius, y - radius, x + radius, y + radius], SIDES[side_of(name)])
