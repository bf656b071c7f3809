"""Pictures from a trained generator: as many as asked for, of a class, and those on the way from one to the next."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from PIL import Image as PillowImage
from torch import Tensor

from pixelwise.asked import Wished
from pixelwise.data.noise import NOISE, noise_of
from pixelwise.data.sample import Category, Field, Sample, Values
from pixelwise.errors import UsageError, did_you_mean
from pixelwise.geometry.frame import Frame
from pixelwise.model import Model, load
from pixelwise.prediction import Prediction

COLUMNS = 8
BATCH = 16
SHOWN = 64
"""Pictures in the grid, at most."""


def generate(model: Model, wished: Wished) -> list[Prediction]:
    """Return pictures from noise: the first of 64 are those that 16 of the same seed would be.

    Args:
        model: One that makes pictures from noise.
        wished: How many, of which seed and class. Without a class every class has its turn. With `walk` = N, between each
            picture and the next N - 1 lie on the great circle between their noises (White 2016), their class that of the first.

    Raises:
        UsageError: The model reads pictures, or has no such class.
    """
    return list(_generated(model, wished, _classes(model, wished)))


def _generated(model: Model, wished: Wished, classes: Sequence[int]) -> Iterator[Prediction]:
    """Yield the pictures as they are made, so that only one batch is held."""
    codes = _codes(model.task.config.noise, wished, classes)
    samples = (_sample(model, number, noise, category) for number, (noise, category) in enumerate(codes))
    while batch := list(islice(samples, BATCH)):
        yield from model.predict(batch)


def _classes(model: Model, wished: Wished) -> Sequence[int]:
    """Return the classes whose turn comes one after the other, 0 where there are none."""
    settings = model.task.config
    if not settings.from_noise:
        raise UsageError(f"a model of {settings.kind} makes no pictures from noise", "pixelwise predict RUN IMAGE")
    classes = model.description.meta.vectors[settings.category].names if settings.category else ()
    if wished.category and wished.category not in classes:
        hint = did_you_mean(wished.category, classes) or (f"there are {', '.join(classes)}" if classes else "leave out class=")
        raise UsageError(f"this generator knows no class {wished.category!r}", hint)
    return [classes.index(wished.category)] if wished.category else range(max(1, len(classes)))


def _codes(length: int, wished: Wished, classes: Sequence[int]) -> Iterator[tuple[Tensor, int]]:
    """Yield noise and class of each picture, and with `walk` of those on the way to the next."""
    for number in range(wished.number):
        start, category = noise_of(wished.seed, str(number), length), classes[number % len(classes)]
        if wished.walk < 2 or number + 1 == wished.number:
            yield start, category
            continue
        end = noise_of(wished.seed, str(number + 1), length)
        yield from ((between(start, end, step / wished.walk), category) for step in range(wished.walk))


def between(start: Tensor, end: Tensor, share: float) -> Tensor:
    """Return the noise at `share` of the way along the great circle; its length goes evenly from that of one to the other.

    Noise of N(0, 1) lies near a sphere; on the straight way its length would shrink to what no noise has (White 2016).
    """
    lengths = start.norm(), end.norm()
    one, other = start / lengths[0], end / lengths[1]
    angle = (one @ other).clamp(-1, 1).acos()
    if float(angle.sin()) < 1e-6:
        return start + share * (end - start)
    direction = (((1 - share) * angle).sin() * one + (share * angle).sin() * other) / angle.sin()
    moved: Tensor = direction * ((1 - share) * lengths[0] + share * lengths[1])
    return moved


def _sample(model: Model, number: int, noise: Tensor, category: int) -> Sample:
    frame = Frame.of(model.description.view.size)
    fields: dict[str, Field] = {NOISE: Values(noise, frame)}
    if model.task.config.category:
        fields[model.task.config.category] = Category(category, frame)
    return Sample(str(number), fields)


def grid(pictures: Sequence[PillowImage.Image], columns: int) -> PillowImage.Image:
    """Return pictures of one size side by side, in rows."""
    width, height = pictures[0].size
    sheet = PillowImage.new("RGB", (min(columns, len(pictures)) * width, -(-len(pictures) // columns) * height), "white")
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (number % columns * width, number // columns * height))
    return sheet


def generate_files(folder: Path, out: Path, wished: Wished) -> dict[str, Any]:
    """Write each picture as `00000.png` and on as it is made, and the first 64 in `grid.png`; of a walk each way is a row.

    Returns:
        `model`, `out`, `count` of the pictures, `seed`, `class` (null: all), `walk` and `grid`, as in `generated.json`.

    Raises:
        UsageError: As for `generate`, or `out` is there and is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is there and is not empty", "name another folder: pixelwise generate RUN OUT")
    model = load(folder)
    classes, shown, count = _classes(model, wished), list[PillowImage.Image](), 0
    out.mkdir(parents=True, exist_ok=True)
    with torch.inference_mode():
        for count, made in enumerate(_generated(model, wished, classes), 1):
            picture = made.render()
            picture.save(out / f"{count - 1:05d}.png")
            shown += [picture] if count <= SHOWN else []
    grid(shown, wished.walk if wished.walk > 1 else COLUMNS).save(out / "grid.png")
    said = {"seed": wished.seed, "class": wished.category, "walk": wished.walk}
    told = {"model": str(folder), "out": str(out), "count": count, **said, "grid": str(out / "grid.png")}
    (out / "generated.json").write_text(json.dumps(told, indent=2) + "\n")
    return told
