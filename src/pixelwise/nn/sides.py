"""The sides of pictures that are made of codes: powers of two, reached from 4 x 4 by doubling."""

from __future__ import annotations

from typing import Literal, get_args

Side = Literal[32, 64, 128, 256]
SIDES: tuple[int, ...] = get_args(Side)
FIRST = 4
"""Side of the smallest map."""


def doublings(side: int) -> int:
    """Return how often 4 pixels are doubled to become `side`."""
    return (side // FIRST).bit_length() - 1


def widths(side: int, width: int) -> list[int]:
    """Return the channels of the maps of side 4, 8, ... up to `side` / 2: `width` at the largest, at most 8 times that."""
    return [width * min(2**level, 8) for level in reversed(range(doublings(side)))]
