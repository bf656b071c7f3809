"""Structural similarity at one scale as a loss (Wang et al. 2004): a formula, so it needs no weights."""

from __future__ import annotations

from typing import Literal

from pixelwise.losses.perceptual import Analytic, PerceptualConfig
from pixelwise.losses.structure import ssim_loss


class Config(PerceptualConfig):
    """Settings of the SSIM loss."""

    kind: Literal["ssim"] = "ssim"

    def build(self) -> Analytic:
        """Return the loss; it has no parameters."""
        return Analytic(ssim_loss)
