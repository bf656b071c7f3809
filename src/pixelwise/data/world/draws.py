"""Random numbers for many scenes at once, each scene's from its own generator, so no scene depends on its neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pixelwise.data.world.solids import Array
from pixelwise.seeds import generator

_COUNT = 2400


class Draws:
    """A row of uniform numbers for every scene; each draw takes the next columns."""

    def __init__(self, seed: int, purpose: str, indices: Sequence[int]) -> None:
        self._table = np.stack([generator(seed, "world", purpose, i).random(_COUNT, np.float32) for i in indices])
        self._next = 0

    @property
    def scenes(self) -> int:
        """Return the number of scenes."""
        return len(self._table)

    def uniform(self, low: Any, high: Any, *shape: int) -> Array:
        """Return numbers (scenes, *shape) between `low` and `high`, which broadcast."""
        count = int(np.prod(shape))
        taken = self._table[:, self._next : self._next + count]
        assert taken.shape[1] == count, "the table of random numbers is too short"
        self._next += count
        low, high = np.asarray(low, np.float32), np.asarray(high, np.float32)
        return np.asarray(low + (high - low) * taken.reshape(-1, *shape), np.float32)

    def chance(self, probability: Any, *shape: int) -> Array:
        """Return True (scenes, *shape) with the given probability."""
        return np.asarray(self.uniform(0, 1, *shape) < probability)

    def choose(self, options: Array, *shape: int) -> Array:
        """Return rows of `options` (n, ...): (scenes, *shape, ...)."""
        chosen = self.uniform(0, len(options), *shape).astype(int)
        return np.asarray(options[np.minimum(chosen, len(options) - 1)])

    def colours(self, hue: Any, saturation: Any, value: Any, *shape: int) -> Array:
        """Return linear RGB colours (scenes, *shape, 3) with hue, saturation and value in the given ranges (low, high)."""
        h, s, v = (self.uniform(*bounds, *shape)[..., None] for bounds in (hue, saturation, value))
        return rgb(h, s, v)


def rgb(hue: Array, saturation: Array, value: Array) -> Array:
    """Return linear RGB (..., 3) of hue, saturation and value (..., 1) in [0, 1]; the hue wraps."""
    ramp = np.abs((hue * 6 + np.array([0, 4, 2], np.float32)) % 6 - 3) - 1
    return np.asarray((value * (1 - saturation + saturation * np.clip(ramp, 0, 1))) ** 2, np.float32)
