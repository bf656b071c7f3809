"""How good generated pictures are as a set: near the true ones, as different from one another, and not learned by heart."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pixelwise.metrics.distances import discrepancy, mean_distance

SHOWN = 64
"""Pictures that are kept to be looked at."""


class GenerationMetrics:
    """Accumulates the features of generated and of true pictures; every name ends in that of the features.

    - `kid`: the kernel distance of both sets (Binkowski et al. 2018), all pictures in one subset.
    - `diversity` and `true_diversity`: mean distance of two generated pictures, and of two true ones. Less than the truth's
      means that pictures repeat.
    - `nearest` and `true_nearest`: mean distance to the most similar training picture, of generated pictures and of true ones
      that were not trained on; only where `known` is given. Much less than the truth's means that pictures were memorised.

    Args:
        name: Of the features.
        see: Turns a picture (3, H, W) into its features (D,).
        known: Features of the training pictures, (N, D).
    """

    def __init__(self, name: str, see: Callable[[Tensor], Tensor], known: Tensor | None = None) -> None:
        self.name, self.see, self.known = name, see, known
        self.images: list[Tensor] = []
        self.ours: list[Tensor] = []
        self.theirs: list[Tensor] = []

    def update(self, image: Tensor, true: Tensor) -> None:
        """Take in a generated picture, and any true one, uint8 (3, H, W)."""
        if len(self.images) < SHOWN:
            self.images.append(image)
        self.ours.append(self.see(image))
        self.theirs.append(self.see(true))

    def compute(self) -> dict[str, float]:
        """Return the metrics; those of a set need at least two pictures."""
        found: dict[str, float] = {}
        if len(self.ours) > 1:
            ours, theirs = (torch.stack(features).double() for features in (self.ours, self.theirs))
            found = {"kid": discrepancy(ours, theirs), "diversity": diversity(ours), "true_diversity": diversity(theirs)}
            if self.known is not None:
                for name, features in (("nearest", ours), ("true_nearest", theirs)):
                    found[name] = float(nearest(features, self.known)[0].mean())
        return {f"{metric}_{self.name}": value for metric, value in found.items()}


def diversity(features: Tensor) -> float:
    """Return the mean Euclidean distance of two of the vectors (N, D), N at least 2."""
    return mean_distance(features, 2)


def nearest(features: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Return of each vector (N, D) the distance to the nearest of `known` (M, D), and which it is, both (N,)."""
    apart = torch.cdist(features.double(), known.double(), compute_mode="donot_use_mm_for_euclid_dist")
    least, index = apart.min(1)
    return least, index
