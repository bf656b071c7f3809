"""Surface normals as three sheets that become a direction: they are brought to length 1, whatever the network says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from pixelwise.codecs.codec import Codec
from pixelwise.losses.normals import cosine_loss

SHORTEST = 1e-3
"""Outputs below this length are divided by it and not by their own in a loss, so that no gradient grows beyond 1000."""


class NormalsCodec(Codec[Tensor]):
    """x right, y down, z forward; one output pixel per input pixel."""

    units: ClassVar[Mapping[str, str]] = {"normals": "directions of length 1: x right, y down, z forward"}
    channels = 3
    scale = 1.0

    def encode(self, vectors: Tensor) -> Tensor:
        """Return the vectors `(B, 3, H, W)` of length 1; NaN stays NaN."""
        return vectors

    def decode(self, outputs: Tensor) -> Tensor:
        """Return directions of length 1, float32, of outputs `(..., 3, H, W)`; where they have none, to the camera."""
        outputs = outputs.float()
        length = torch.linalg.vector_norm(outputs, dim=-3, keepdim=True)
        facing = outputs.new_tensor([0.0, 0.0, -1.0])[:, None, None]
        return torch.where(length.isfinite() & (length > 1e-12), outputs / length, facing)

    def direction(self, outputs: Tensor) -> Tensor:
        """Return outputs `(..., 3, H, W)` at length 1, differentiable; shorter where they are next to nothing."""
        length: Tensor = torch.linalg.vector_norm(outputs, dim=-3, keepdim=True)
        return outputs / length.clamp(min=SHORTEST)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean of 1 - cos of the angle over the known pixels."""
        return cosine_loss(self.direction(outputs), targets)

    def flip(self, outputs: Tensor) -> Tensor:
        """Mirror the sheets, and with them what points to the right."""
        return outputs.flip(-1) * outputs.new_tensor([-1.0, 1.0, 1.0])[:, None, None]
