"""MDSI, the deviation of similarities, as a loss (Nafchi et al. 2016): a formula, so it needs no weights."""

from __future__ import annotations

from typing import Literal

from pixelwise.losses.deviation import mdsi_loss
from pixelwise.losses.perceptual import Analytic, PerceptualConfig


class Config(PerceptualConfig):
    """Settings of the MDSI loss."""

    kind: Literal["mdsi"] = "mdsi"

    def build(self) -> Analytic:
        """Return the loss; it has no parameters."""
        return Analytic(mdsi_loss)
