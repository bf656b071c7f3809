"""Structural similarity at up to five scales as a loss (Wang et al. 2003): a formula, so it needs no weights."""

from __future__ import annotations

from typing import Literal

from pixelwise.losses.perceptual import Analytic, PerceptualConfig
from pixelwise.losses.structure import ms_ssim_loss


class Config(PerceptualConfig):
    """Settings of the MS-SSIM loss."""

    kind: Literal["ms_ssim"] = "ms_ssim"

    def build(self) -> Analytic:
        """Return the loss; it has no parameters."""
        return Analytic(ms_ssim_loss)
