"""Pictures and what is left of them at a lower resolution, for super-resolution: the truth is the picture itself.

The picture is cropped to a multiple of the scale, reduced as MATLAB's imresize does (bicubic, antialiased) and rounded to 8
bits: the protocol of the published figures. Both are kept in bounded memory, so that crops of a few hundred pictures cost no
reading. With `degradation` every drawn crop of training is degraded anew, every other picture always in the same way.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field as Setting
from pydantic import SerializeAsAny
from torch import Tensor

from pixelwise.config import Choice
from pixelwise.data.dataset import DataConfig, Dataset
from pixelwise.data.degradation import Degradation
from pixelwise.data.images import single_channel
from pixelwise.data.sample import Field, FineImage, Image, Sample
from pixelwise.errors import DataError
from pixelwise.geometry.frame import Frame
from pixelwise.seeds import generator

_MEMORY = 512 << 20


class Config(DataConfig):
    """Pictures of another data set at two resolutions."""

    kind: Literal["low_resolution"] = "low_resolution"
    source: Annotated[SerializeAsAny[DataConfig], Choice("pixelwise.data.datasets")] = Setting(
        description="the pictures; usually image_folder, with data.source.root=FOLDER"
    )
    scale: Annotated[int, Setting(ge=2, description="pixels of the picture per pixel of the low resolution")] = 2
    field: Annotated[str, Setting(description="which field of the source is the picture")] = "image"

    degradation: Degradation = Degradation()
    seed: Annotated[int, Setting(description="another seed degrades what is not of train otherwise")] = 0

    def open(self, split: str) -> Dataset:
        """Return the pictures of the source's `split` as "fine", and reduced as "image".

        Raises:
            DataError: The source cannot be opened, or has no such field.
        """
        source = self.source.model_copy(update={"on_error": self.on_error}).open(split)
        if self.field not in source.fields:
            what = f"data.source.kind = {self.source.kind!r} has no field {self.field!r}"
            raise DataError(what, f"data.field is one of {', '.join(source.fields)}")
        return LowResolution(self, source, split)


class _Pair(NamedTuple):
    coarse: Tensor
    fine: Tensor
    grey: bool


class LowResolution(Dataset):
    """Fields "image", the low resolution, and "fine", the picture."""

    fields = ("image", "fine")

    def __init__(self, config: Config, pictures: Dataset, split: str) -> None:
        self.config, self.pictures, self.split = config, pictures, split
        self.meta, self.notes = pictures.meta, pictures.notes
        self._kept: OrderedDict[int, _Pair] = OrderedDict()
        self._bytes = 0

    def __getstate__(self) -> dict[str, Any]:
        """Leave the pictures behind: a worker reads its own."""
        return {**self.__dict__, "_kept": OrderedDict(), "_bytes": 0}

    def __len__(self) -> int:
        return len(self.pictures)

    def key(self, index: int) -> str:
        """Return the picture's key in the source."""
        return self.pictures.key(index)

    def sample(self, index: int, fields: Sequence[str]) -> Sample:
        """Return the picture at both resolutions.

        Raises:
            DataError: It cannot be read, or is smaller than one pixel of the low resolution.
        """
        pair = self._pair(index)
        frame = Frame.of(pair.coarse.shape[1:])
        made: dict[str, Field] = {
            "image": Image(pair.coarse, frame),
            "fine": FineImage(pair.fine, frame, self.config.scale, pair.grey),
        }
        return Sample(self.key(index), {name: made[name] for name in fields})

    def varied(self, sample: Sample, draw: Callable[[], np.random.Generator]) -> Sample:
        """Return the crop with a low resolution that is degraded as drawn."""
        fine = sample["fine"]
        if not self.config.degradation.any or not isinstance(fine, FineImage):
            return sample
        coarse = self.config.degradation.reduced(fine.pixels, fine.scale, draw())
        return Sample(sample.key, {**sample.fields, "image": Image(coarse, fine.frame)})

    def _pair(self, index: int) -> _Pair:
        if index not in self._kept:
            self._kept[index] = pair = self._made(index)
            self._bytes += pair.coarse.nbytes + pair.fine.nbytes
            while self._bytes > _MEMORY and len(self._kept) > 1:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= oldest.coarse.nbytes + oldest.fine.nbytes
        self._kept.move_to_end(index)
        return self._kept[index]

    def _made(self, index: int) -> _Pair:
        name, scale = self.config.field, self.config.scale
        picture = self.pictures.sample(index, (name,))[name]
        if not isinstance(picture, Image) or picture.pixels.dtype != torch.uint8:
            raise DataError(f"{self.key(index)}: the field {name!r} is no picture of 8 bits", "choose another data.field")
        height, width = (side // scale for side in picture.pixels.shape[1:])
        if not height or not width:
            across, down = reversed(picture.pixels.shape[1:])
            raise DataError(f"{self.key(index)}: {across}x{down} pixels cannot be reduced {scale} times", "leave it out")
        fine = picture.pixels[:, : scale * height, : scale * width].contiguous()
        source = self.pictures.source(index, name)
        degrade = self.split != "train" and self.config.degradation.any
        draw = generator(self.config.seed, "degradation", self.split, self.key(index)) if degrade else None
        coarse = self.config.degradation.reduced(fine, scale, draw)
        return _Pair(coarse, fine, source is not None and single_channel(source.path))
