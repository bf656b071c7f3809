"""What a loss that sees more than pixels is: built once, never trained, never saved, the same for every task."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily

from pixelwise.config import Config

Network = TypeVar("Network", bound=nn.Module)
Formula = Callable[[Tensor, Tensor], Tensor]
"""From two batches of pictures (B, 3, H, W) in [0, 1] to a loss (B,)."""


class PerceptualConfig(Config):
    """Settings of one kind of perceptual loss; `kind` names its file under `pixelwise/perceptual`."""

    kind: str
    weight: float = Field(1.0, gt=0, description="how much it counts beside the task's other losses")

    @abstractmethod
    def build(self) -> PerceptualLoss:
        """Return the loss.

        Raises:
            PixelwiseError: It needs a network whose weights cannot be had.
        """


class PerceptualLoss(nn.Module):
    """How unlike two batches of pictures look: 0 or least where they are equal, a scalar.

    Attributes:
        exact: Whether it subtracts what is nearly equal, so that it is computed in float32 whatever the networks are.
    """

    exact = True

    def forward(self, image: Tensor, target: Tensor) -> Tensor:
        """Compare `image` with `target`, both (B, 3, H, W) in [0, 1]; values a little beyond it do no harm."""
        with torch.autocast(image.device.type, enabled=torch.is_autocast_enabled(image.device.type) and not self.exact):
            return self.compare(image.float(), target.float())

    def compare(self, image: Tensor, target: Tensor) -> Tensor:
        """Return the loss of float32 pictures."""
        raise NotImplementedError


class Analytic(PerceptualLoss):
    """A loss that is a formula: no network, no settings beside its weight."""

    def __init__(self, formula: Formula) -> None:
        super().__init__()
        self.formula = formula

    def compare(self, image: Tensor, target: Tensor) -> Tensor:
        """Return the mean over the batch."""
        return self.formula(image, target).mean()


class PerceptualTerm:
    """A task's perceptual loss, if it has one: built when it is first needed, which to predict never needs."""

    def __init__(self, config: PerceptualConfig | None) -> None:
        self.config = config

    @cached_property
    def built(self) -> PerceptualLoss | None:
        """The loss; what is wrong with its settings shows here."""
        with unset_fake_temporarily():  # with values also while a step is rehearsed on tensors without any
            return self.config.build() if self.config else None

    def of(self, image: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the weighted loss under its name, or nothing; the pictures are (B, 3, H, W) in [0, 1]."""
        if self.config is None or self.built is None:
            return {}
        return {"perceptual": self.config.weight * placed(self.built, image.device)(image, target)}


def placed(network: Network, device: torch.device) -> Network:
    """Return a network that nobody trains, and so nobody moves, on `device`."""
    with unset_fake_temporarily():
        return network.to(device)
