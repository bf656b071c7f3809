"""Photographs with pictures made of them: what they were before somebody coloured them in, or drew only their lines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Self

import torch
from pydantic import Field as Setting
from pydantic import model_validator
from torch import Tensor

from pixelwise.config import Config
from pixelwise.data.augment import LUMA
from pixelwise.data.dataset import Dataset, Meta, Source
from pixelwise.data.images import decode_image
from pixelwise.data.sample import Field, Image, Sample
from pixelwise.geometry.frame import Frame
from pixelwise.geometry.lines import drawn, steepness

Share = Annotated[float, Setting(gt=0, le=1)]


class Lines(Config):
    """How lines are found: the steepness of the luma, thinned, followed and cleaned as `geometry.lines.drawn` does."""

    blur: Annotated[float, Setting(gt=0, le=0.1, description="deviation of the Gaussian, as a fraction of the diagonal")] = (
        0.0035
    )
    low: Annotated[Share, Setting(description="steepness at which a line may go on; a step from black to white has 1")] = 0.06
    high: Annotated[Share, Setting(description="steepness that it has to reach somewhere")] = 0.15
    length: Annotated[int, Setting(ge=1, description="fewest pixels of a line")] = 12

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low={self.low} is above high={self.high}")
        return self


def grey_of(pixels: Tensor) -> Tensor:
    """Return the luma of ITU-R BT.601, three equal channels, of uint8 `(3, H, W)`."""
    return luma_of(pixels).round().to(torch.uint8).expand(3, -1, -1)


def luma_of(pixels: Tensor) -> Tensor:
    """Return the luma of ITU-R BT.601 in [0, 255], `(1, H, W)`, of uint8 `(3, H, W)`."""
    luma: Tensor = torch.tensordot(torch.tensor(LUMA), pixels.float(), 1)
    return luma[None]


def lines_of(pixels: Tensor, lines: Lines) -> Tensor:
    """Return black lines on white, three equal channels, where a picture, uint8 `(3, H, W)`, is steep."""
    luma = luma_of(pixels)[0].double().numpy() / 255
    steep = steepness(luma, max(1.0, lines.blur * math.hypot(*luma.shape)))
    return ink(torch.from_numpy(drawn(steep, lines.low, lines.high, lines.length)).float())


def ink(shares: Tensor) -> Tensor:
    """Return black in proportion to `shares` `(H, W)` in [0, 1] on white, uint8 `(3, H, W)`; unknown (NaN) is white."""
    return (255 * (1 - shares.nan_to_num(0))).round().to(torch.uint8).expand(3, -1, -1)


class Photographs(Dataset):
    """Fields "image", and made of it "grey" (its luma) and "lines" (a drawing of its outlines)."""

    fields = ("image", "grey", "lines")
    meta = Meta()

    def __init__(self, root: Path, paths: Iterable[Path], lines: Lines) -> None:
        self.root, self.paths, self.lines = root, sorted(paths), lines

    def __len__(self) -> int:
        return len(self.paths)

    def key(self, index: int) -> str:
        """Return the photograph's path below the root."""
        return self.paths[index].relative_to(self.root).as_posix()

    def sample(self, index: int, fields: Sequence[str]) -> Sample:
        """Return the photograph and what is asked of what is made of it.

        Raises:
            DataError: The file is missing or damaged.
        """
        pixels = decode_image(self.paths[index], self.notes)
        frame = Frame.of(pixels.shape[1:])
        made: dict[str, Field] = {name: Image(self._made(name, pixels), frame) for name in fields}
        return Sample(self.key(index), made)

    def _made(self, name: str, pixels: Tensor) -> Tensor:
        if name == "lines":
            return lines_of(pixels, self.lines)
        return grey_of(pixels) if name == "grey" else pixels

    def source(self, index: int, field: str) -> Source | None:
        """Return the photograph's file."""
        return Source(self.paths[index], f"lines {self.lines}" if field == "lines" else field)
