"""The embedded world as a data set: any number of scenes from a seed, rendered when asked for and kept in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from pydantic import Field as Setting
from pydantic import model_validator

from pixelwise.data.dataset import DataConfig, Dataset, Meta, Vector
from pixelwise.data.sample import Category, Depth, Field, Image, Keypoints, LabelMap, Masks, Normals, Sample, Values
from pixelwise.data.world.aerial import aerial
from pixelwise.data.world.answers import CROWD, DISTANCE, MASKS, SHOWS, distance
from pixelwise.data.world.objects import CLASSES, PALETTE
from pixelwise.data.world.people import BODY
from pixelwise.data.world.render import MAPS, PICTURES, SEEN, keypoints, render
from pixelwise.data.world.scene import MOST_PEOPLE, USUAL_PEOPLE, Scene, lay_out
from pixelwise.data.world.solids import Array
from pixelwise.errors import DataError, did_you_mean
from pixelwise.geometry.frame import Frame
from pixelwise.seeds import generator

SPLITS = ("train", "val", "test")
TOWN = ("aerial", "map")
PEOPLE = ("keypoints", "person")
VECTORS = {
    "crowd": Vector(kind="category", names=CROWD),
    "shows": Vector(kind="labels", names=SHOWS),
    "distance": Vector(kind="value", names=("distance",), mean=DISTANCE[0], deviation=DISTANCE[1]),
}

_CHUNK = 32
_MEMORY = 512 << 20

Pixels = Annotated[int, Setting(ge=32, le=1024)]


class Config(DataConfig):
    """Scenes of the embedded world."""

    kind: Literal["world"] = "world"
    scenes: Annotated[int, Setting(ge=1, description="scenes in train; val and test have a quarter as many")] = 512
    size: Annotated[tuple[Pixels, Pixels], Setting(description="height and width; a size shows the same scenes")] = (64, 64)
    seed: Annotated[int, Setting(description="another seed is another world")] = 0
    unknown: Annotated[
        float, Setting(ge=0, le=1, description="share of the objects that are left unlabelled or have a void border")
    ] = 0.1
    people: Annotated[tuple[int, int], Setting(description=f"fewest and most people in a scene, at most {MOST_PEOPLE}")] = (
        0,
        USUAL_PEOPLE,
    )

    @model_validator(mode="after")
    def _people_in_order(self) -> Self:
        if not 0 <= self.people[0] <= self.people[1] <= MOST_PEOPLE:
            raise ValueError(f"people = {self.people}: expected 0 <= fewest <= most <= {MOST_PEOPLE}")
        return self

    def open(self, split: str) -> Dataset:
        """Return the scenes of `split`: "train", "val" or "test", three streams that never meet.

        Raises:
            DataError: There is no such split.
        """
        if split not in SPLITS:
            raise DataError(f"the world has no split {split!r}", did_you_mean(split, SPLITS) or "train, val or test")
        return WorldDataset(self, split)


class WorldDataset(Dataset):
    """Fields of a street: image, labels, instances, depth, normals, boundaries, masks, keypoints, edges, night, thermal.

    The areas of keypoints count the pixels that show a person, NaN if none does; nobody is `unlabelled`. Where every scene has
    someone in it there is `person`, the nearest. `aerial` and `map` show a town of their own. Of the whole picture: `crowd`
    (nobody, one, several), `shows` (which classes) and `distance` (of the nearest person).
    """

    def __init__(self, config: Config, split: str) -> None:
        self.config, self.split = config, split
        person = ("person",) if config.people[0] else ()
        self.fields = (*PICTURES, *MAPS, "keypoints", *person, "unlabelled", *TOWN, *VECTORS)
        self.meta = Meta(classes=CLASSES, palette=PALETTE, masks=MASKS, skeleton=BODY, vectors=VECTORS)
        self._rendered: OrderedDict[int, dict[str, Array]] = OrderedDict()
        self._bytes = 0

    def __getstate__(self) -> dict[str, Any]:
        """Leave the rendered pictures behind: a worker draws its own."""
        return {**self.__dict__, "_rendered": OrderedDict(), "_bytes": 0}

    def __len__(self) -> int:
        scenes = self.config.scenes
        return scenes if self.split == "train" else max(scenes // 4, 1)

    def key(self, index: int) -> str:
        """Return the split and the index."""
        return f"{self.split}-{index:05d}"

    def sample(self, index: int, fields: Sequence[str]) -> Sample:
        """Return the asked fields of scene `index`, a pure function of the settings and the index.

        Raises:
            DataError: There is no such field.
        """
        for name in fields:
            if name not in self.fields:
                hint = "set data.people=[1,4]" if name == "person" else did_you_mean(name, self.fields)
                raise DataError(f"the world has no field {name!r}", hint or f"one of {', '.join(self.fields)}")
        arrays = self._arrays(index, fields)
        frame = Frame.of(self.config.size)
        return Sample(self.key(index), {name: _field(name, arrays, frame) for name in fields})

    def _arrays(self, index: int, fields: Sequence[str]) -> dict[str, Array]:
        kept = self._rendered.setdefault(index, {})
        self._rendered.move_to_end(index)
        missing = [name for name in fields if name not in kept]
        if missing:
            made = self._draw(index, missing)
            self._bytes += sum(part.nbytes for name, part in made.items() if name not in kept)
            kept.update(made)
            while self._bytes > _MEMORY and len(self._rendered) > 1:
                _, oldest = self._rendered.popitem(last=False)
                self._bytes -= sum(part.nbytes for part in oldest.values())
        return kept

    def _draw(self, index: int, fields: Sequence[str]) -> dict[str, Array]:
        """Draw fields of one scene; keypoints and person also as their presence and areas."""
        config, made = self.config, dict[str, Array]()

        def noise(sensor: str) -> np.random.Generator:
            return generator(config.seed, "world", self.split, sensor, index)

        if set(fields) & set(TOWN):
            made["aerial"], made["map"] = aerial(noise("aerial"), config.size)
        if "unlabelled" in fields:
            made["unlabelled"] = np.zeros(config.size, np.uint8)
        if set(fields) <= {*TOWN, "unlabelled"}:
            return made
        scene = _chunk(config, self.split, index // _CHUNK)[index % _CHUNK]
        if "distance" in fields:
            made["distance"] = distance(scene)
        people = bool(set(fields) & set(PEOPLE))
        seen = [name for name in fields if name in (*PICTURES, *MAPS, *SEEN)] + ["instances"] * people
        if seen:
            made |= render(scene, config.size, seen, config.unknown, noise)
        if people:
            made |= _of_people(scene, config.size, made["instances"])
        return made


def _of_people(scene: Scene, size: tuple[int, int], instances: Array) -> dict[str, Array]:
    """Return points, presence and areas of everybody as `keypoints`, and of the nearest as `person`."""
    points, presence = keypoints(scene, size)
    shown = (instances == scene.instances[:, None, None]).sum((1, 2))
    parts = {"": points, ".presence": presence, ".areas": np.where(shown, shown, np.nan).astype(np.float32)}
    everybody = {f"keypoints{part}": values for part, values in parts.items()}
    return everybody | {f"person{part}": values[:1] for part, values in parts.items()}


@lru_cache(maxsize=64)
def _chunk(config: Config, split: str, number: int) -> list[Scene]:
    """Lay out a run of scenes at once, which is many times quicker than one by one."""
    height, width = config.size
    indices = range(number * _CHUNK, (number + 1) * _CHUNK)
    return lay_out(config.seed, split, indices, aspect=width / height, people=config.people)


def _field(name: str, arrays: dict[str, Array], frame: Frame) -> Field:
    tensor = torch.from_numpy(arrays[name])
    if name == "crowd":
        return Category(int(tensor), frame)
    if name in VECTORS:
        return Values(tensor, frame)
    if name in PEOPLE:
        presence, areas = (torch.from_numpy(arrays[f"{name}.{part}"]) for part in ("presence", "areas"))
        return Keypoints(tensor, presence, frame, BODY.swap, areas)
    if name == "depth":
        return Depth(tensor, frame)
    if name == "normals":
        return Normals(tensor, frame)
    if name == "masks":
        return Masks(tensor, frame)
    return (Image if name in (*PICTURES, *TOWN) else LabelMap)(tensor, frame)
