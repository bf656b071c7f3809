"""The loss of boundaries, which are few: cross-entropy balanced between the two classes of each image (Xie and Tu 2015)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from pixelwise.geometry.unknown import UNKNOWN


def balanced_cross_entropy(logits: Tensor, targets: Tensor, *, ignore: int = UNKNOWN) -> Tensor:
    """Return equation 2 of "Holistically-Nested Edge Detection", divided by the number of known pixels, as a mean over images.

    -beta sum_{Y+} log p - (1 - beta) sum_{Y-} log (1 - p), where beta = |Y-| / (|Y+| + |Y-|) is the share of the known pixels
    of an image that lie on no boundary. An image without boundary, or without known pixels, has no loss.

    Args:
        logits: `(B, C, H, W)`; every channel is held against the same targets.
        targets: Integer `(B, H, W)`: 1 on a boundary, 0 elsewhere, or `ignore`.
        ignore: The target of pixels that have no loss and no gradient.

    Returns:
        `(C,)`, the loss of each channel.
    """
    known = (targets != ignore)[:, None]
    positive = (targets == 1)[:, None]
    count = known.sum((2, 3), keepdim=True).clamp(min=1)
    share = positive.sum((2, 3), keepdim=True) / count
    weights = torch.where(known, torch.where(positive, 1 - share, share), 0) / count
    # a logit where nothing is known may be anything, and anything times 0 is not always 0
    safe = torch.where(known, logits, 0)
    losses = functional.binary_cross_entropy_with_logits(safe, positive.to(logits.dtype).expand_as(logits), reduction="none")
    return (weights * losses).sum((0, 2, 3)) / len(logits)
