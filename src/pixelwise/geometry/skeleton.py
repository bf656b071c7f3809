"""A skeleton says what the key points of an object are called, which belong together, and which swap in a mirror."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import model_validator

from pixelwise.config import Config

_SIDES = {"left": "right", "Left": "Right", "LEFT": "RIGHT", "l": "r", "L": "R"}
_SIDES |= {right: left for left, right in _SIDES.items()}
_SIDE = re.compile(r"left|right|Left|Right|LEFT|RIGHT|(?<![A-Za-z])[lrLR](?![A-Za-z])|(?<=[a-z])[LR](?![a-z])")


def swap_of(names: Sequence[str]) -> tuple[int, ...]:
    """Return which point takes each point's name in a mirror, by left/right or l/r (`l_hip`, `wingL`) in the names."""
    places = {name: i for i, name in enumerate(names)}
    swap = tuple(places.get(_SIDE.sub(lambda found: _SIDES[found[0]], name), i) for i, name in enumerate(names))
    return () if swap == tuple(range(len(names))) else swap


def side_of(name: str) -> Literal["left", "right", ""]:
    """Return the side that the name of a point says, if it says one."""
    found = _SIDE.search(name)
    return "" if found is None else "left" if found[0] in ("left", "Left", "LEFT", "l", "L") else "right"


class Skeleton(Config):
    """The key points of one kind of object.

    Raises:
        ValidationError: `swap` does not pair the points, a limb names a point that is not there, or `sigmas` are not one
            positive number per point.
    """

    names: tuple[str, ...] = ()
    """Of the K points."""
    limbs: tuple[tuple[int, int], ...] = ()
    """Pairs of points that belong together: drawn as lines, and what part affinity fields follow."""
    swap: tuple[int, ...] = ()
    """Which point takes each point's name in a mirror; empty if none does."""
    sigmas: tuple[float, ...] = ()
    """How far people's labels of each point differ, relative to the square root of the object's area (COCO); empty: unknown."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        count = len(self.names)
        if self.swap and (
            len(self.swap) != count or any(not 0 <= twin < count or self.swap[twin] != i for i, twin in enumerate(self.swap))
        ):
            raise ValueError(f"swap {self.swap} does not pair the {count} points: each names its mirror twin, or itself")
        if any(not 0 <= end < count for limb in self.limbs for end in limb):
            raise ValueError(f"a limb names a point beyond the {count} points")
        if self.sigmas and (len(self.sigmas) != count or not all(0 < sigma < math.inf for sigma in self.sigmas)):
            raise ValueError(f"sigmas are not {count} positive numbers, one per point")
        return self


def one_sided(skeleton: Skeleton) -> tuple[str, ...]:
    """Return the points whose names say left or right, and whose name no other point takes in a mirror."""
    swap = skeleton.swap or range(len(skeleton.names))
    return tuple(name for i, name in enumerate(skeleton.names) if swap[i] == i and _SIDE.search(name))
