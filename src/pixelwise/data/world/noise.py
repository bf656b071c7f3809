"""One table of smooth noise for every texture: a lookup costs a gather, and the same place always looks the same."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from pixelwise.data.world.solids import Array
from pixelwise.seeds import generator

_SIDE = 512


@lru_cache(maxsize=1)
def _table() -> Array:
    """Return (512 * 512,) periodic noise in [0, 1], every value equally common; features of 4 to 64 cells."""
    rng = generator(0, "world", "noise")
    rows, columns = np.fft.fftfreq(_SIDE)[:, None], np.fft.rfftfreq(_SIDE)[None]
    frequency = np.hypot(rows, columns)
    power = np.exp(-((frequency * 5) ** 2)) / (frequency + 1 / 48) ** 1.1
    smooth = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((_SIDE, _SIDE))) * power, (_SIDE, _SIDE))
    rank = np.empty(_SIDE * _SIDE, np.float32)
    rank[smooth.ravel().argsort(kind="stable")] = np.linspace(0, 1, _SIDE * _SIDE, dtype=np.float32)
    return rank


def noise(u: Array, v: Array) -> Array:
    """Return smooth noise in [0, 1] at (u, v), counted in cells; its features are 4 to 64 cells wide."""
    column = (u + np.float32(32768)).astype(np.int32) & _SIDE - 1
    row = (v + np.float32(32768)).astype(np.int32) & _SIDE - 1
    return np.asarray(_table()[row * _SIDE + column])


def smooth_noise(u: Array, v: Array) -> Array:
    """Return `noise` interpolated between cells, for patterns whose cells are larger than pixels."""
    column, row = np.floor(u), np.floor(v)
    right, down = u - column, v - row
    above = noise(column, row) * (1 - right) + noise(column + 1, row) * right
    below = noise(column, row + 1) * (1 - right) + noise(column + 1, row + 1) * right
    return np.asarray(above * (1 - down) + below * down)


def dice(*parts: Array) -> Array:
    """Return a hash in [0, 1) of integer arrays, the same wherever and whenever it is asked."""
    mixed: Array = np.array(0x9E3779B9, np.uint32)
    for part in parts:
        mixed = (mixed ^ part.astype(np.int64).astype(np.uint32)) * np.uint32(0x85EBCA6B)
        mixed = (mixed ^ mixed >> np.uint32(13)) * np.uint32(0xC2B2AE35)
        mixed = mixed ^ mixed >> np.uint32(16)
    return np.asarray((mixed >> np.uint32(8)).astype(np.float32) / np.float32(1 << 24))
