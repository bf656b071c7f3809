"""Every random draw comes from here: a generator is a pure function of the seed and of what the draw is for.

Nothing about randomness is ever saved or restored, so a resumed run draws what the uninterrupted run would have drawn.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


@lru_cache(maxsize=256)
def _word(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def mixed(seed: int, *purpose: str | int) -> int:
    """Return 64 bits well mixed (SplitMix64) from the seed and the parts of the purpose."""
    state = seed & 0xFFFFFFFFFFFFFFFF
    for part in purpose:
        state = (state ^ (_word(part) if isinstance(part, str) else int(part))) + 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        state = (state ^ state >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return the NumPy generator of (seed, purpose), e.g. `generator(0, "augment", 1234)`."""
    return np.random.Generator(np.random.PCG64(mixed(seed, *purpose)))


def torch_generator(seed: int, *purpose: str | int, device: str = "cpu") -> torch.Generator:
    """Return the torch generator of (seed, purpose) on `device`."""
    import torch

    return torch.Generator(device).manual_seed(mixed(seed, *purpose) >> 1)
