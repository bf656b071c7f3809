"""What a discriminator was shown before, so that a generator cannot forget what it was caught at (Shrivastava et al. 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily


class ImagePool(nn.Module):
    """The last `size` generated pictures, or fewer; a network without weights, so that a run's state holds them.

    Draws come from torch's global generator, which a run seeds in each step: what a run shows does not depend on whether it was
    stopped. Of several processes each has a pool of its own, and after a stop all go on with the first one's.

    Attributes:
        images: (N, C, H, W), N at most `size`; without pictures (0,).
    """

    images: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("images", torch.empty(0))

    def exchange(self, fresh: Tensor) -> Tensor:
        """Return for each picture itself or, once the pool is full, with probability 1/2 an older one that it replaces.

        Section 4 of Zhu et al. 2017 with the probability of their code, one picture after the other.

        Args:
            fresh: (B, C, H, W), detached.
        """
        if not self.size:
            return fresh
        with unset_fake_temporarily():  # a rehearsed step has no values to draw from
            draws: list[list[float]] = torch.rand(len(fresh), 2).tolist()
        return torch.stack([self._one(image, *draw) for image, draw in zip(fresh, draws, strict=True)])

    def _one(self, image: Tensor, chance: float, place: float) -> Tensor:
        if len(self.images) < self.size:
            joined = torch.cat([self.images, image[None]]) if len(self.images) else image[None].clone()
            self.images = joined.contiguous()  # as it is after a resume, or the bits might not be the same
            return image
        if chance < 0.5:
            return image
        index = int(place * self.size)
        older = self.images[index].clone()
        self.images[index] = image
        return older

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        """Take as many pictures as there are."""
        if (images := state_dict.get(f"{prefix}images")) is not None:
            self.images = torch.empty_like(images, device=self.images.device)
        super()._load_from_state_dict(state_dict, prefix, *rest)
