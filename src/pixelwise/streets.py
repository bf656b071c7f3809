"""Label maps of the embedded world painted as streets, and the segmenter that reads them: for experiments on discriminators."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from pixelwise.evaluation import Predict, evenly
from pixelwise.fcn_score import FcnScore
from pixelwise.laboratory import Repeated, Say
from pixelwise.metrics.colour import colourfulness
from pixelwise.metrics.distances import discrepancy
from pixelwise.model import Model
from pixelwise.nn.embeddings import RandomEmbedding
from pixelwise.recipe import Recipe, find_recipe
from pixelwise.run import Data
from pixelwise.trial import train

PIXEL, CLASS, IOU = "per-pixel accuracy", "per-class accuracy", "class IoU"
NAMES = {PIXEL: "pixel_accuracy", CLASS: "mean_accuracy_present", IOU: "miou_present"}
"""The paper's names of the FCN-score, and ours."""
COLOUR, L1, KID = "colourfulness", "L1", "KID of random features"


class Settings(Repeated):
    """Settings of an experiment on streets."""

    repeats: int = Field(1, ge=1, description="repetitions of every training, with seeds one after the other")
    scenes: int = Field(384, ge=8, description="training scenes of the embedded world; a quarter as many are measured on")
    size: int = Field(64, ge=32, description="height and width of the scenes")
    width: int = Field(32, ge=4, description="channels of the first level of the U-Net, and of the discriminator")
    minutes: float = Field(3.0, gt=0, description="processor time of each training, the segmenter's too")


class Streets(NamedTuple):
    """The data, the recipe that every training varies, and what judges the pictures."""

    recipe: Recipe
    data: Data
    judge: FcnScore
    minutes: float
    embedding: RandomEmbedding
    reals: Tensor
    """Features of the true pictures."""

    def painter(self, pairs: Sequence[str], seed: int) -> tuple[Model, int]:
        """Return the generator that was trained with these settings, and how many steps the time was enough for."""
        recipe = self.recipe.override([*pairs, f"seed={seed}"])
        own = Data(self.data.train, self.data.val, recipe.task.build(self.data.train.meta))
        model, descent = train(recipe, own, self.minutes)
        return model, len(descent.losses)

    def measured(self, predict: Predict) -> dict[str, float]:
        """Return FCN-score, L1, colourfulness and kernel distance of the pictures of the validation split."""
        counts, colours, errors, features = self.judge.metrics(), [], [], []
        for i in range(len(self.data.val)):
            sample = self.data.val.sample(i, self.judge.fields)
            (answer,) = predict([sample])
            self.judge.score(counts, answer, sample)
            pixels: Tensor = answer.pixels  # type: ignore[attr-defined]
            truth: Tensor = self.data.task.truth(sample).pixels  # type: ignore[attr-defined]
            errors.append(float((pixels.float() - truth.float()).abs().mean()) / 255)
            colours.append(float(colourfulness(pixels)))
            features.append(self.embedding.of(pixels))
        found = counts.compute()
        score = {name: found[key] for name, key in NAMES.items()}
        apart = discrepancy(torch.stack(features), self.reals)
        return score | {L1: fmean(errors), COLOUR: fmean(colours), KID: apart}


def streets(settings: Settings, say: Say) -> Streets:
    """Open the data, and train the segmenter on the real pictures of the training scenes."""
    size = f"{settings.size}x{settings.size}"
    common = [f"data.scenes={settings.scenes}", f"data.size={size}", f"view.size={size}", "data.unknown=0"]
    depth = settings.size.bit_length() - 1
    recipe = find_recipe("world_translation").override(
        [
            *common,
            "task.source=labels",
            "task.target=image",
            "task.labels=one_hot",
            f"network.width={settings.width}",
            f"network.depth={depth}",
            f"task.discriminator.width={settings.width}",
        ]
    )
    data = Data.of(recipe)
    for i in range(len(data.train)):  # rendered once: else the first training would pay for all
        data.train.sample(i, ("image", "labels"))
    reading = find_recipe("world_segmentation").override([*common, f"seed={settings.seed}"])
    seen = Data(data.train, data.val, reading.task.build(data.train.meta))
    segmenter, descent = train(reading, seen, settings.minutes)
    say(f"  segmenter: {len(descent.losses)} steps")
    embedding = RandomEmbedding()
    others = [data.val.sample(i, ("image",))["image"] for i in evenly(len(data.val), None)]
    reals = torch.stack([embedding.of(one.pixels) for one in others])  # type: ignore[attr-defined]
    return Streets(recipe, data, FcnScore(segmenter, data.task, data.val), settings.minutes, embedding, reals)
