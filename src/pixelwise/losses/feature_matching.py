"""Generated pictures shall look to the discriminator, inside it, as real ones do (Wang et al. 2018, pix2pixHD, equation 4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def feature_matching_loss(real: Sequence[Sequence[Tensor]], fake: Sequence[Sequence[Tensor]]) -> Tensor:
    """Return the mean over discriminators of the sum over layers of the mean absolute difference; published weight 10.

    The published code multiplies by 4 / (layers + 1) as well, which is 1 for its 3 layers.

    Args:
        real: Of each discriminator the maps (B, C, H, W) of its layers, of real pictures. They are the target: no gradient
            reaches the discriminator through them.
        fake: The same of generated pictures.
    """
    differences = [
        torch.stack([functional.l1_loss(ours, theirs.detach()) for ours, theirs in zip(inside, target, strict=True)]).sum()
        for inside, target in zip(fake, real, strict=True)
    ]
    return torch.stack(differences).mean()
