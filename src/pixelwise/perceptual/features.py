"""Differences of a network's features, of their Gram matrices, or of both (Johnson, Alahi and Fei-Fei 2016)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, SerializeAsAny, model_validator
from torch import Tensor

from pixelwise.config import Choice
from pixelwise.features import random
from pixelwise.losses.features import feature_loss, style_loss, summed
from pixelwise.losses.perceptual import PerceptualConfig, PerceptualLoss
from pixelwise.nn.features import FeaturesConfig, step_seed, used


class Config(PerceptualConfig):
    """Settings of the feature loss."""

    kind: Literal["features"] = "features"
    features: Annotated[SerializeAsAny[FeaturesConfig], Choice("pixelwise.features")] = Field(
        default=random.Config(), description="the network that looks: random, a run trained here, or pretrained weights"
    )
    content: float = Field(1.0, ge=0, description="weight of the features themselves (equation 2)")
    style: float = Field(0.0, ge=0, description="weight of their Gram matrices, whatever their places (equation 4)")
    content_levels: tuple[PositiveInt, ...] = Field(
        (2,), description="levels of the network that content compares, 1 the finest (2 of VGG-16 is relu2_2, as published)"
    )
    style_levels: tuple[PositiveInt, ...] = Field((1, 2, 3, 4), description="levels that style compares")

    @model_validator(mode="after")
    def _compares_something(self) -> Self:
        if not self.content and not self.style:
            raise ValueError("content and style are both 0, so there is nothing to compare: set one of them above it")
        return self

    def build(self) -> FeatureLoss:
        """Return the loss with its network, frozen.

        Raises:
            PixelwiseError: The network's weights cannot be had, or it has fewer levels.
        """
        return FeatureLoss(self)


class FeatureLoss(PerceptualLoss):
    """`content` times the feature reconstruction loss plus `style` times the style loss, summed over their levels.

    Random features are drawn anew by a seed from torch's global generator, which a run seeds in each step.
    """

    exact = False

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        wanted = [levels for weight, levels in _levels(config) if weight]
        self.features = used(config.features.build(), *wanted)

    def compare(self, image: Tensor, target: Tensor) -> Tensor:
        """Return the weighted sum; the gradient is that of `image`."""
        theirs = self.features.renewed(target, step_seed(self.features))
        ours = self.features(image)
        config, loss = self.config, image.new_zeros(())
        if config.content:
            loss = loss + config.content * summed(feature_loss, ours, theirs, config.content_levels)
        if config.style:
            loss = loss + config.style * summed(style_loss, ours, theirs, config.style_levels)
        return loss


def _levels(config: Config) -> tuple[tuple[float, tuple[int, ...]], ...]:
    return (config.content, config.content_levels), (config.style, config.style_levels)
