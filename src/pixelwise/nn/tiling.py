"""A network on a picture of any size in bounded memory: in exact tiles where it sees a bounded part, else in blended ones.

How far it sees comes from following its operations (`receptive_field.reach`), what a tile takes from running it on tensors
without values (`memory.predicted`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from pixelwise.errors import ModelError, UsageError
from pixelwise.geometry.homography import Size
from pixelwise.geometry.tiles import Axis, Cut, See, Tile, blended, cheapest, exact
from pixelwise.memory import binary
from pixelwise.nn.memory import predicted
from pixelwise.nn.receptive_field import Reach, reach

Tiles = Literal["auto", "exact", "blended"]
OVERLAP = 4
"""Blended tiles share one part in so many of their side with each neighbour."""
KEPT = 2.5
"""What an evaluation takes relative to its tensors: blocks that are freed are kept, and not all are used again at once."""
FIRST = 10**8
"""Bytes that libraries take once."""
PROBE = 256
"""Side of the picture on which, and on one of twice the side, memory is predicted."""
SMALLEST = 64
"""Side below which a blended tile shows a network too little to answer for."""


class Plan(NamedTuple):
    """How a network sees a picture.

    Attributes:
        parts: Given what shows a tile to the network, yields rectangles that cover the picture and the maps of each.
        takes: Bytes that showing the network its largest tile takes.
        notes: What the user should know about it; nothing if the answer is that of the whole picture.
    """

    parts: Callable[[See], Iterator[tuple[Tile, Tensor]]]
    takes: int
    notes: tuple[str, ...] = ()


class Tiling:
    """What has to be known about a network to plan tiles, found once, and the plans."""

    def __init__(self, network: nn.Module, channels: int) -> None:
        """Follow a network; one that cannot be followed is taken as one that sees the whole picture.

        Args:
            network: (B, channels, H, W) -> (B, any, H / stride, W / stride), with an attribute `stride`.
            channels: Channels of its input.
        """
        self.network, self.channels = network, channels
        self.stride = int(network.stride)  # type: ignore[arg-type]
        with torch.inference_mode(False):  # which would hide the operations that are followed
            self.peak, self.output = self._bytes_per_pixel()
            try:
                self.reach = reach(network, channels)
                self.inexact = f"{self.reach.whole} sees the whole picture" if self.reach.whole else ""
            except ModelError as error:
                self.reach, self.inexact = Reach((0, 0), (0, 0), (1, 1), ""), str(error)

    def _bytes_per_pixel(self) -> tuple[float, float]:
        """Return the bytes per input pixel at the peak of an evaluation, and those of its output."""
        shapes = [(1, self.channels, side, side) for side in (PROBE, 2 * PROBE)]
        small, large = (predicted(self.network, shape, layout=torch.channels_last) for shape in shapes)
        pixels, width = 3 * PROBE**2, next(self.network.parameters()).element_size()
        output = (large.held[""] - small.held[""]) / pixels - width * self.channels
        return KEPT * (large.bytes - small.bytes) / pixels, output

    def assembled(self, size: Size) -> int:
        """Return the bytes of a whole picture's input and maps, each once more for what reads or mirrors them."""
        return int(2 * math.prod(size) * (4 * self.channels + self.output))

    def plan(self, size: Size, room: int, tiles: Tiles = "auto", mirrored: bool = False, turned: bool = False) -> Plan:
        """Return how to see a picture: whole if that fits, else in tiles.

        Args:
            size: (height, width) of the picture.
            room: Bytes that one evaluation of the network may take.
            tiles: `exact` or `blended` ones, or by `auto` exact ones wherever the network and the memory allow.
            mirrored: Every tile is also seen mirrored.
            turned: ... and turned by quarter turns.

        Raises:
            UsageError: Exact tiles are wanted and impossible, or `room` is too small for any.
        """
        rows, columns = self._axes(size, mirrored, turned)
        most = int(max(0, room - FIRST) / self.peak)
        whole = Cut(rows, columns, (rows.even(1), columns.even(1)))
        if math.prod(whole.tile) <= most:
            return self._exact(whole)
        if self.stride == 0:
            raise _too_small("seeing the picture whole, as the network must,", self._takes(whole.tile), room)
        if tiles == "exact" and self.inexact:
            raise UsageError(f"tiles=exact is impossible with this network: {self.inexact}", "tiles=auto blends tiles")
        cut = None if tiles == "blended" or self.inexact else cheapest(rows, columns, most)
        if cut:
            return self._exact(cut)
        if tiles == "exact":
            least = Cut(rows, columns, (rows.period, columns.period))
            raise _too_small("an exact tile", self._takes(least.tile), room)
        return self._blended(rows, columns, room, "as asked for" if tiles == "blended" else "too little memory for exact ones")

    def _axes(self, size: Size, mirrored: bool, turned: bool = False) -> tuple[Axis, Axis]:
        before, after, period, _ = self.reach
        rows, columns = (Axis(*axis) for axis in zip(size, before, after, period, strict=True))
        if turned:
            far, common = max(*before, *after), math.lcm(*period)
            return (
                rows._replace(before=far, after=far, period=common),
                columns._replace(before=far, after=far, period=common),
            )
        both = max(columns.before, columns.after)
        return rows, columns._replace(before=both, after=both) if mirrored else columns

    def _takes(self, tile: Size) -> int:
        return int(FIRST + self.peak * math.prod(tile))

    def _exact(self, cut: Cut) -> Plan:
        return Plan(partial(exact, cut=cut, scale=1 / max(1, self.stride)), self._takes(cut.tile))

    def _blended(self, rows: Axis, columns: Axis, room: int, why: str) -> Plan:
        """Plan the largest square tiles, in strips as long as the picture is wide."""
        period = math.lcm(rows.period, columns.period, self.stride)
        tile, strip = self.peak, 2 * self.output * columns.length
        free = max(0, room - FIRST)
        side = int((math.sqrt(strip**2 + 4 * tile * free) - strip) / (2 * tile)) // period * period
        least = max(2 * period, SMALLEST)
        if side < least:
            raise _too_small("a blended tile", self._takes((least, least)) + strip * least, room)
        note = f"an approximation by blended tiles of {side}x{side} pixels: {self.inexact or why}"
        parts = partial(
            blended,
            size=(rows.length, columns.length),
            tile=(side, side),
            overlap=(side // OVERLAP, side // OVERLAP),
            period=(period, period),
            scale=1 / self.stride,
        )
        return Plan(parts, self._takes((side, side)), (note,))


class Tiled(nn.Module):
    """A network that sees pictures by a plan and puts its maps together: (B, C, H, W) -> what the network gives."""

    def __init__(self, network: nn.Module, plan: Plan) -> None:
        super().__init__()
        self.network, self.plan, self.stride = network, plan, int(network.stride)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> Tensor:
        """Return the maps of `image`."""
        scale = 1 / max(1, self.stride)
        whole = Tile(0, 0, image.shape[-2], image.shape[-1])
        maps: Tensor | None = None
        for place, part in self.plan.parts(lambda tile: self.network(interleaved(tile.of(image)))):
            if place == whole:
                return part
            if maps is None:
                maps = part.new_empty((*part.shape[:2], *whole.scaled(scale)[2:]))
            place.scaled(scale).of(maps).copy_(part)
        assert maps is not None
        return maps


def interleaved(image: Tensor) -> Tensor:
    """Return an image (B, C, H, W) with its channels last in memory, where CPUs convolve without copies."""
    return image.contiguous(memory_format=torch.channels_last) if image.dim() == 4 else image


def _too_small(what: str, needed: float, room: int) -> UsageError:
    left = max(0, room)
    what = f"{what} takes {binary(needed)}, and {binary(left)} of the memory are left"
    return UsageError(what, f"raise memory by at least {binary(needed - left)}")
