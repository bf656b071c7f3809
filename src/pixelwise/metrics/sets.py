"""How near generated pictures are, as a set, to real ones, and how different they are from each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from pixelwise.color.levels import unit
from pixelwise.geometry.homography import resize
from pixelwise.geometry.warp import warp_image
from pixelwise.metrics.distances import kernel_distance, mean_distance

SIDE = 32
SUBSETS = 100
DIVERSITY = f"diversity_l1@{SIDE}"
FEWEST = 4
"""Pictures of each side of which halves still have a distance."""


class SetMetrics:
    """Accumulates the features and small copies of our pictures, and the features of real ones.

    - `kid@<features>,<resizing>,100x<n>`: the mean over 100 random halves, n pictures of each side, of the kernel distance
      (Binkowski et al. 2018). It has no bias: for two draws from the same pictures 0 is expected, and it may be negative.
    - `kid_std@...`: the standard deviation of these values, which is about the standard error of the distance, since what is
      left out is as much as what is taken (delete-half jackknife; Shao and Wu 1989). A distance of less than twice as much
      says nothing: there are too few pictures.
    - `diversity_l1@32`: mean absolute difference, in [0, 1], of two of our pictures, both resized to 32 x 32, over all pairs;
      0 if all are the same.

    A metric that cannot be measured has no key: KID takes four pictures of each side, the diversity two.

    Args:
        see: Turns a picture (3, H, W) into its features (D,), by the name of the features and their resizing.
    """

    def __init__(self, see: Mapping[str, Callable[[Tensor], Tensor]]) -> None:
        self.see = see
        self.ours: dict[str, list[Tensor]] = {name: [] for name in see}
        self.real: dict[str, list[Tensor]] = {name: [] for name in see}
        self.copies: list[Tensor] = []

    def update(self, image: Tensor, real: Mapping[str, Tensor]) -> None:
        """Take in a picture of ours, `(3, H, W)`, and the features of any real one, which other sets may share."""
        for name, see in self.see.items():
            self.ours[name].append(see(image))
            self.real[name].append(real[name])
        self.copies.append(small(image))

    def compute(self) -> dict[str, float]:
        """Return the distances of the sets and the diversity of ours."""
        found: dict[str, float] = {}
        for name in self.see:
            ours, real = self.ours[name], self.real[name]
            if len(ours) >= FEWEST:
                kernel = kernel_distance(torch.stack(ours), torch.stack(real), SUBSETS, len(ours) // 2)
                protocol = f"{name},{kernel.subsets}x{kernel.size}"
                found |= {f"kid@{protocol}": kernel.mean, f"kid_std@{protocol}": kernel.deviation}
        return found | ({DIVERSITY: difference(self.copies)} if len(self.copies) > 1 else {})


def small(image: Tensor) -> Tensor:
    """Return a picture `(C, H, W)`, uint8, uint16 or floating in [0, 1], resized to 32 x 32, as floats in [0, 1]."""
    return warp_image(unit(image).float(), resize((image.shape[-2], image.shape[-1]), (SIDE, SIDE)), (SIDE, SIDE))


def difference(pictures: list[Tensor]) -> float:
    """Return the mean absolute difference of two pictures, over all pairs of at least two of one shape."""
    flat = torch.stack(pictures).flatten(1)
    return mean_distance(flat, 1) / flat.shape[1]
