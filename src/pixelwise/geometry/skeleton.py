"""A skeleton says what the key points of an object are called, which belong together, and which swap in a mirror."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Literal, Self

from pydantic import model_validator

from pixelwise.config import Config

_SIDES = {"left": "right", "Left": "Right", "LEFT": "RIGHT", "l": "r", "L": "R"}
_SIDES |= {right: left for left, right in _SIDES.items()}
_LETTER = r"(?<![A-Za-z])[lrLR](?![A-Za-z])|(?<![A-Za-z])[lrLR](?=[A-Z][a-z])|(?<=[a-z])[LR](?![a-z])"
_SIDE = re.compile(rf"left|right|Left|Right|LEFT|RIGHT|{_LETTER}")
_FIRST, _LAST = re.compile(r"(?<![A-Za-z])[lrLR](?=[a-z])"), re.compile(r"(?<=[a-z])[lr]$")
"""Letters that mean a side only if another point is called the same but for them: `Rwri`, `legl`."""
_CLEARLY = re.compile(rf"(?<![a-z])(?:left|right)|Left|Right|LEFT|RIGHT|{_LETTER}")
"""Words that mean a side even alone: not the one in `bright` or `cleft`."""


def swap_of(names: Sequence[str]) -> tuple[int, ...]:
    """Return which point takes each point's name in a mirror, by left/right or l/r (`l_hip`, `wingL`, `RHip`) in the names."""
    places = {name: i for i, name in enumerate(names)}
    called = [[side.sub(lambda found: _SIDES[found[0]], name) for side in (_SIDE, _FIRST, _LAST)] for name in names]
    twins = [
        next((places[other] for other in others if other in places and places[other] != i), i)
        for i, others in enumerate(called)
    ]
    swap = tuple(twin if twins[twin] == i else i for i, twin in enumerate(twins))
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
    category_id: int | None = None
    """Which category of COCO's files such an object is, if it is known."""

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
    return tuple(name for i, name in enumerate(skeleton.names) if swap[i] == i and _CLEARLY.search(name))


def strange_limbs(skeleton: Skeleton) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with limbs, and of which: ends that are one point, missing twins, points that no limb reaches.

    Of a skeleton without any limb nothing is yielded.
    """
    names, swap = skeleton.names, skeleton.swap or range(len(skeleton.names))
    there, alone = {frozenset(limb) for limb in skeleton.limbs}, one_sided(skeleton)
    for a, b in skeleton.limbs:
        if a == b:
            yield "a limb has one point twice", names[a]
        elif frozenset((swap[a], swap[b])) not in there and not {names[a], names[b]} & set(alone):
            yield "a limb is missing", f"{names[swap[a]]} to {names[swap[b]]}, as {names[a]} to {names[b]} is there"
    reached = {end for limb in there if len(limb) == 2 for end in limb}
    for i, name in enumerate(names):
        if reached and i not in reached:
            yield "a point has no limb", name
