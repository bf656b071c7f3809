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
    if torch.compiler.is_exporting():  # whether a size fits already is not known before the graph runs
        for axis in (-2, -1):
            image = _looked_up(image, axis, multiple, least)
        return image
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


def _looked_up(image: Tensor, axis: int, multiple: int, least: int) -> Tensor:
    """Do the same by indices that are computed from the size, whatever it is."""
    size = image.shape[axis]
    padded = (torch.sym_max(size, least) + multiple - 1) // multiple * multiple
    period = torch.full((1,), 2 * size, device=image.device)
    position = torch.arange(padded, device=image.device) % period
    return image.index_select(axis, torch.minimum(position, 2 * size - 1 - position))
