"""Networks that answer in several stages, each of which sees the answer before it (Wei et al. 2016; Newell et al. 2016).

Such a network has `stages: int` and `forward(image, every=False)`: the scores of the last stage, (B, C, h, w), or those of
all stages, first to last, (B, S, C, h, w). Training compares each stage with the truth; without that, what the first ones
learn has to come back through all the others. It is one call of `forward`, so that compiled and distributed networks see it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def stages_of(network: nn.Module) -> int:
    """Return in how many stages a network answers: 1 unless it says otherwise.

    Some networks keep layers in an attribute of this name; those answer once.
    """
    stages = getattr(network, "stages", 1)
    return stages if isinstance(stages, int) else 1


def answer(scores: Sequence[Tensor], size: tuple[int, int], every: bool) -> Tensor:
    """Return what `forward` returns.

    Args:
        scores: (B, C, H, W) of each stage, first to last.
        size: Height and width that the answer is cropped to, at the top left.
        every: Whether all stages are asked for.
    """
    height, width = size
    chosen = torch.stack([*scores], 1) if every else scores[-1]
    return chosen[..., :height, :width]


def at_stride(image: Tensor, stride: int) -> tuple[int, int]:
    """Return height and width of the answer to (B, C, H, W): ceil(H / stride), ceil(W / stride)."""
    height, width = image.shape[-2:]
    return (height + stride - 1) // stride, (width + stride - 1) // stride
