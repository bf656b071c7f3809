"""Pictures from a trained generator: as many as asked for, of a class, and those on the way from one to the next."""

from __future__ import annotations

import json
from collections.abc import Sequence
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


def generate(model: Model, wished: Wished) -> list[Prediction]:
    """Return pictures from noise: the first of 64 are those that 16 of the same seed would be.

    Args:
        model: One that makes pictures from noise.
        wished: How many, of which seed and class. Without a class every class has its turn. With `walk` = N, between each
            picture and the next N - 1 lie on the great circle between their noises (White 2016), their class that of the first.

    Raises:
        UsageError: The model reads pictures, or has no such class.
    """
    codes = _codes(model, wished)
    samples = [_sample(model, number, noise, category) for number, (noise, category) in enumerate(codes)]
    batches = (samples[start : start + BATCH] for start in range(0, len(samples), BATCH))
    return [made for batch in batches for made in model.predict(batch)]


def _codes(model: Model, wished: Wished) -> list[tuple[Tensor, int]]:
    settings = model.task.config
    if not settings.from_noise:
        raise UsageError(f"a model of {settings.kind} makes no pictures from noise", "pixelwise predict RUN IMAGE")
    classes = model.description.meta.vectors[settings.category].names if settings.category else ()
    if wished.category and wished.category not in classes:
        hint = did_you_mean(wished.category, classes) or (f"there are {', '.join(classes)}" if classes else "leave out class=")
        raise UsageError(f"this generator knows no class {wished.category!r}", hint)
    noises = [noise_of(wished.seed, str(number), settings.noise) for number in range(wished.number)]
    own = classes.index(wished.category) if wished.category else None
    numbered = [(noise, own if own is not None else n % max(1, len(classes))) for n, noise in enumerate(noises)]
    if wished.walk < 2:
        return numbered
    steps = [step / wished.walk for step in range(wished.walk)]
    ways = zip(numbered, noises[1:], strict=False)
    return [(between(start, end, share), c) for (start, c), end in ways for share in steps] + numbered[-1:]


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
    """Write each picture as `00000.png` and on, and all of them in `grid.png`; of a walk each way is a row.

    Returns:
        `model`, `out`, `count` of the pictures, `seed`, `class` (null: all), `walk` and `grid`, as in `generated.json`.

    Raises:
        UsageError: As for `generate`, or `out` is there and is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is there and is not empty", "name another folder: pixelwise generate RUN OUT")
    model = load(folder)
    with torch.inference_mode():
        pictures = [made.render() for made in generate(model, wished)]
    out.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures):
        picture.save(out / f"{number:05d}.png")
    columns = wished.walk if wished.walk > 1 else COLUMNS
    grid(pictures, columns).save(out / "grid.png")
    said = {"seed": wished.seed, "class": wished.category, "walk": wished.walk}
    made = {"model": str(folder), "out": str(out), "count": len(pictures), **said, "grid": str(out / "grid.png")}
    (out / "generated.json").write_text(json.dumps(made, indent=2) + "\n")
    return made
