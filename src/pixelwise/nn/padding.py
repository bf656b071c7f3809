"""Networks that halve their input need sides they can halve; here any picture grows to such a size."""

from __future__ import annotations

import torch
from torch import Tensor


def mirror(size: int, padded: int, device: torch.device | None = None) -> Tensor:
    """Return the indices (padded,) that continue a side of `size` pixels by mirroring it, as often as needed."""
    position = torch.arange(padded, device=device) % (2 * size)
    return torch.minimum(position, 2 * size - 1 - position)


def mirror_to_multiple(image: Tensor, multiple: int, least: int = 1) -> Tensor:
    """Continue `image` to the right and below by mirroring, so that pixel (0, 0) stays where it is.

    Args:
        image: (B, C, H, W), any H and W, also smaller than the padding.
        multiple: Both sides of the result are multiples of this.
        least: ... and at least this many pixels.

    Returns:
        (B, C, H', W'); `image` itself if it fits already.
    """
    for axis in (-2, -1):
        size = image.shape[axis]
        padded = -(-max(size, least) // multiple) * multiple
        if padded != size:
            image = image.index_select(axis, mirror(size, padded, image.device))
    return image
