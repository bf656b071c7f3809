"""Crowds from pictures of one person each: people of other pictures are cut out and pasted over a picture that keeps its own.

They are cut by a soft mask about limbs and torso (its width in torso lengths), so their outlines are rough and bits of their
old background come along. Later people hide earlier ones: points they cover become hidden, and `areas` count what is still
seen of each mask. What a network learns here is who belongs together, not how people look at their edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

import numpy as np
import torch
from pydantic import Field as Setting
from pydantic import SerializeAsAny, model_validator

from pixelwise.config import Choice
from pixelwise.data.composites import Body, Crowd, cut_out, suited
from pixelwise.data.dataset import DataConfig, Dataset
from pixelwise.data.sample import Image, Keypoints, LabelMap, Sample
from pixelwise.errors import DataError
from pixelwise.geometry.homography import Size
from pixelwise.seeds import generator

TRIES = 8
"""Places and people that are drawn for each one pasted; of the places the one that hides least is taken."""
MOST_HIDDEN = 0.6
"""Share of somebody that a newcomer may hide at most; one who would hide more stays away."""


class Config(DataConfig):
    """Composites of single people."""

    kind: Literal["people_composites"] = "people_composites"
    source: Annotated[SerializeAsAny[DataConfig], Choice("pixelwise.data.datasets")] = Setting(
        description="key points of one person per picture, with shoulders, hips and limbs"
    )
    people: Annotated[tuple[int, int], Setting(description="fewest and most people in a picture")] = (2, 6)
    scale: Annotated[
        tuple[float, float], Setting(description="size of those pasted, against the picture's own person, by their torsos")
    ] = (0.6, 1.2)
    width: Annotated[float, Setting(gt=0, description="how far masks reach from bones and torso, in torso lengths")] = 0.22
    repeats: Annotated[int, Setting(ge=1, description="composites of train that each picture is the ground of")] = 1
    seed: Annotated[int, Setting(description="another seed draws other people")] = 0

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not 1 <= self.people[0] <= self.people[1] or not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"people = {self.people} and scale = {self.scale}: expected fewest, most and smallest, largest")
        return self

    def open(self, split: str) -> Dataset:
        """Return the composites of the source's `split`.

        Raises:
            DataError: The source cannot be opened, or its people have no shoulders, hips or limbs.
        """
        source = self.source.model_copy(update={"on_error": self.on_error}).open(split)
        if not {"image", "keypoints"} <= set(source.fields):
            raise DataError(f"data.source.kind = {self.source.kind!r} has no key points")
        return Composites(self, source, split)


class Composites(Dataset):
    """Fields "image", "keypoints" and "unlabelled"; sample n stands on picture n of the source."""

    fields = ("image", "keypoints", "unlabelled")

    def __init__(self, config: Config, source: Dataset, split: str) -> None:
        self.config, self.source_data, self.split = config, source, split
        self.meta, self.body = source.meta, Body.of(source.meta.skeleton)

    def __len__(self) -> int:
        return len(self.source_data) * (self.config.repeats if self.split == "train" else 1)

    def key(self, index: int) -> str:
        """Return the key of the ground and the number of the composite."""
        return f"{self.source_data.key(index % len(self.source_data))}+{index // len(self.source_data)}"

    def sample(self, index: int, fields: Sequence[str]) -> Sample:
        """Return composite `index`, a pure function of the settings and the index.

        Raises:
            DataError: A picture cannot be read.
        """
        draw = generator(self.config.seed, "composites", self.split, index)
        ground = self._read(index % len(self.source_data))
        image, unlabelled = ground["image"], ground.fields.get("unlabelled")
        assert isinstance(image, Image)
        size = image.frame.size
        read: dict[str, Image | Keypoints | LabelMap] = {"image": image}
        if suited(ground, self.body):
            crowd = self._crowd(ground, size, draw)
            read = {"image": Image(crowd.pixels, image.frame), "keypoints": crowd.keypoints()}
            owner = crowd.owner
        else:
            person = ground["keypoints"]
            assert isinstance(person, Keypoints)
            read["keypoints"], owner = person, torch.zeros(size)
        there = unlabelled.labels if isinstance(unlabelled, LabelMap) else torch.zeros(size, dtype=torch.uint8)
        read["unlabelled"] = LabelMap(there.masked_fill(owner > 0, 0), image.frame)
        return Sample(self.key(index), {name: read[name] for name in fields})

    def _read(self, index: int) -> Sample:
        return self.source_data.sample(index, [name for name in self.fields if name in self.source_data.fields])

    def _crowd(self, ground: Sample, size: Size, draw: np.random.Generator) -> Crowd:
        config = self.config
        crowd = Crowd.begin(ground, self.body, config.width)
        torso = self.body.torso(crowd.people[0].points[0])
        for _ in range(int(draw.integers(config.people[0], config.people[1] + 1)) - 1):
            other = self._someone(draw)
            length = torso * float(draw.uniform(*config.scale))
            centres = draw.uniform(0.1, 0.9, (TRIES, 2)) * size[::-1]
            if other is None:
                continue
            cut = cut_out(other, self.body, config.width, length)
            corners = [(round(x - cut.mask.shape[1] / 2), round(y - cut.mask.shape[0] / 2)) for x, y in centres.tolist()]
            hidden, corner = min((crowd.cover(cut, *corner), corner) for corner in corners)
            if hidden <= MOST_HIDDEN:
                crowd.paste(cut, *corner)
        return crowd

    def _someone(self, draw: np.random.Generator) -> Sample | None:
        """Return someone whose torso is known, if one is found."""
        for index in draw.integers(0, len(self.source_data), TRIES):
            sample = self._read(int(index))
            if suited(sample, self.body):
                return sample
        return None
