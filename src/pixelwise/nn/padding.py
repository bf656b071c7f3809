"""Networks that halve their input need sides they can halve; here any picture grows to such a size."""

from __future__ import annotations

import torch
from torch import Tensor


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
            image = _mirrored(image, axis, padded)
    return image


def _mirrored(image: Tensor, axis: int, padded: int) -> Tensor:
    """Alternate the image and its mirror image along `axis`, up to `padded` pixels."""
    size = image.shape[axis]
    pieces = [image if start // size % 2 == 0 else image.flip(axis) for start in range(0, padded, size)]
    return torch.cat(pieces, axis).narrow(axis, 0, padded)
