"""Numbers as colours: dark for little, bright for much, evenly in lightness, so that a map of numbers can be looked at."""

from __future__ import annotations

import torch
from torch import Tensor

STOPS = ((8, 8, 20), (66, 24, 110), (156, 46, 127), (232, 84, 96), (253, 168, 112), (255, 248, 214))


def heat(values: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
    """Return a picture of a map of numbers.

    Args:
        values: `(H, W)`, finite.
        low: The number that is darkest; the least value if None.
        high: The number that is brightest; the largest value if None.

    Returns:
        uint8 `(3, H, W)`.
    """
    low = float(values.min()) if low is None else low
    high = float(values.max()) if high is None else high
    place = ((values.float() - low) / max(high - low, 1e-12)).clamp(0, 1) * (len(STOPS) - 1)
    below = place.long().clamp(max=len(STOPS) - 2)
    stops = torch.tensor(STOPS, dtype=torch.float32)
    colours = torch.lerp(stops[below], stops[below + 1], (place - below)[..., None])
    return colours.round().to(torch.uint8).permute(2, 0, 1)
