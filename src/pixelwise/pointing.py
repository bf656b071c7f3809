"""Key points learned by every target they can be asked for, each for the same time, and how far off the answers are.

What is asked of a network, two numbers or a belief in every place, is compared on data that has key points: same recipe, same
seed, same seconds of the processor; beside them what the task's baselines say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pixelwise.data.dataset import Dataset
from pixelwise.data.prepared import prepared
from pixelwise.data.sample import Keypoints, Sample
from pixelwise.geometry.presence import Presence
from pixelwise.laboratory import Say, Tally
from pixelwise.model import Model
from pixelwise.prediction import Prediction
from pixelwise.recipe import find_recipe
from pixelwise.run import Data
from pixelwise.trial import side_by_side, train

L1, L2, WING = "coordinates, L1", "coordinates, L2", "coordinates, wing"
BELIEF, LOG, PIXEL = "belief map, L2", "belief map, log loss", "one pixel, log loss"
CLASSES, MEAN, AXES = "class of every pixel", "mean of a map", "column and row"
TARGETS: dict[str, tuple[str, ...]] = {
    L2: ("target=coordinates", "loss=l2"),
    L1: ("target=coordinates", "loss=l1"),
    WING: ("target=coordinates", "loss=wing"),
    BELIEF: ("target=heatmaps", "loss=l2"),
    LOG: ("target=heatmaps", "loss=cross_entropy"),
    PIXEL: ("target=one_hot",),
    CLASSES: ("target=channels",),
    MEAN: ("target=soft_argmax",),
    AXES: ("target=simcc",),
}
"""The settings of the task for each of them; the first three need a network of numbers."""
NUMBERS_NETWORK = ("network.kind=regressor", "optimizer.kind=adam", "optimizer.lr=1e-3", "batch_size=16")
"""What the recipe `imm_faces_coordinates` changes, because it does better for it."""
MEAN_PX, MEDIAN_PX, MEDIAN = "mean error, px", "median error, px", "median error / box"
WITHIN, STEPS = (0.05, 0.1), "steps"
FARTHEST = 0.25
"""Where the curves of errors end, relative to the longer side of the box around the points."""


class Place(NamedTuple):
    """Key points to train on."""

    title: str
    recipe: str
    pairs: tuple[str, ...]


class Pointed(NamedTuple):
    """What was measured on one kind of key points."""

    title: str
    tally: Tally
    curves: dict[str, list[tuple[float, float]]]
    pictures: str


def pointed(place: Place, seconds: float, seeds: Sequence[int], say: Say) -> Pointed:
    """Train by every target for the same time, seconds of the processor, and measure beside the baselines."""
    base = find_recipe(place.recipe).override(place.pairs)
    data = Data.of(base)
    warm(data, base)
    tally, found, models = Tally(), dict[str, list[Tensor]](), dict[str, Model]()
    for seed in seeds:
        for name, target in TARGETS.items():
            numbers = NUMBERS_NETWORK if "target=coordinates" in target else ()
            recipe = base.override([*(f"task.{pair}" for pair in target), *numbers, f"seed={seed}"])
            own = replace(data, task=recipe.task.build(data.train.meta))
            model, descent = train(recipe, own, seconds / 60)
            errors = distances(own, model.predict)
            tally.add(name, summary(errors) | {STEPS: len(descent.losses)})
            found.setdefault(name, []).append(errors)
            models.setdefault(name, model)
            median, mean = (tally[measure][name][-1] for measure in (MEDIAN_PX, MEAN_PX))
            say(f"  {place.title}, seed {seed}, {name}: {median:.2f} px, mean {mean:.2f} px, {len(descent.losses)} steps")
    for name, baseline in data.task.baselines(data.train).items():
        errors = distances(data, partial(map, baseline))
        tally.add(name, summary(errors) | {STEPS: 0})
        found[name] = [errors]
        say(f"  {place.title}, {name}: {tally[MEDIAN_PX][name][0]:.2f} px, mean {tally[MEAN_PX][name][0]:.2f} px")
    curves = {name: cumulative(torch.cat(several)) for name, several in found.items()}
    drawn = side_by_side({name: models[name] for name in (L2, LOG, MEAN, AXES)}, data, 3)
    return Pointed(place.title, tally, curves, drawn)


def warm(data: Data, recipe: Any) -> None:
    """Read every picture once, so that no training pays for it."""
    source = prepared(data.train, data.task.fields, recipe.view)
    for i in range(len(source)):
        source.sample(i, data.task.fields)


def distances(data: Data, predict: Callable[[Sequence[Sample]], Iterable[Prediction]]) -> Tensor:
    """Return how far every labelled point of the validation split is off, `(P, 2)`: in pixels, and relative to the box.

    The box is the upright one around the labelled points of its object, and counts by its longer side.
    """
    return torch.cat([_apart(data.val, i, data, predict) for i in range(len(data.val))])


def _apart(dataset: Dataset, index: int, data: Data, predict: Callable[[Sequence[Sample]], Iterable[Prediction]]) -> Tensor:
    sample = dataset.sample(index, data.task.fields)
    truth, (answer,) = sample[data.task.config.field], predict([sample])
    assert isinstance(truth, Keypoints)
    seen = truth.presence[0] >= Presence.HIDDEN
    points = truth.points[0][seen]
    apart = (answer.points[0][seen] - points).norm(dim=-1)  # type: ignore[attr-defined]
    side = (points.amax(0) - points.amin(0)).amax() if len(points) else torch.ones(())
    return torch.stack([apart, apart / side], -1) if side > 0 else torch.zeros(0, 2)


def summary(errors: Tensor) -> dict[str, float]:
    """Return what is said of `(P, 2)` errors; the mean may be carried by few gross ones."""
    pixels, relative = errors.unbind(-1)
    found = {MEDIAN_PX: pixels.median(), MEAN_PX: pixels.mean(), MEDIAN: relative.median()}
    found |= {f"within {limit:g} of the box": (relative <= limit).float().mean() for limit in WITHIN}
    return {name: float(value) for name, value in found.items()}


def cumulative(errors: Tensor, count: int = 41) -> list[tuple[float, float]]:
    """Return the share of points whose error, relative to the box, is at most so large."""
    limits = torch.linspace(0, FARTHEST, count)
    return [(float(limit), float((errors[:, 1] <= limit).float().mean())) for limit in limits]
