"""How well colours were given back: distance of a and b, PSNR, and how colourful the pictures are (Zhang et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pixelwise.color.chroma import nearest_bin
from pixelwise.color.spaces import lab_of_srgb
from pixelwise.metrics.averages import averages
from pixelwise.metrics.image import PSNR_LIMIT, psnr

REACH = 150.0
"""Thresholds of the distance in ab go from 0 to it."""
RAREST = 0.01
"""Colours of less than this part of an even share count as if they had it: what was never seen has no frequency."""


def colourfulness(rgb: Tensor) -> Tensor:
    """Return M = sigma + 0.3 mu of the opponent colours (Hasler and Suesstrunk 2003); 0 is grey, 109 extremely colourful.

    sigma and mu are the lengths of the standard deviations and of the means of R - G and (R + G) / 2 - B, with their signs.

    Args:
        rgb: `(3, H, W)` in [0, 255].
    """
    red, green, blue = rgb.double().flatten(1)
    opponents = torch.stack([red - green, (red + green) / 2 - blue])
    measure: Tensor = opponents.std(1, correction=0).norm() + 0.3 * opponents.mean(1).norm()
    return measure


class ColourMetrics:
    """Accumulates one value per picture, of the 8-bit pictures themselves, at their own size; the results are means.

    - `auc_raw`: the share of pixels whose a and b are within t of the truth, averaged over t from 0 to 150: in closed form
      1 - mean(min(d, 150)) / 150.
    - `auc_rebalanced`: the same with each pixel weighed by 1 / (share of its true colour's bin in the training data), of the
      pixels of all pictures together.
    - `psnr_rgb`: mean of the pictures' own decibels, each at most 100.
    - `colourfulness` of ours, and `colourfulness_truth`: to be near each other, not large.
    """

    def __init__(self, prior: Sequence[float] = ()) -> None:
        """Start empty; without `prior`, the share of each of the 313 bins in the training data, nothing is rebalanced."""
        share = torch.tensor(prior, dtype=torch.float64)
        self.weights = 1 / share.clamp(min=RAREST / max(1, len(share)))
        self.records: list[dict[str, float]] = []
        self.weighed: list[tuple[float, float]] = []

    def update(self, image: Tensor, original: Tensor) -> None:
        """Take in a picture and its truth, uint8 `(3, H, W)` each."""
        ours, theirs = (one.cpu().double() / 255 for one in (image, original))
        ab, truth = (lab_of_srgb(one)[1:] for one in (ours, theirs))
        near = 1 - (ab - truth).norm(dim=0).clamp(max=REACH) / REACH
        self.records.append(
            {
                "auc_raw": near.mean().item(),
                "psnr_rgb": psnr(ours[None], theirs[None]).clamp(max=PSNR_LIMIT).item(),
                "colourfulness": colourfulness(image.cpu()).item(),
                "colourfulness_truth": colourfulness(original.cpu()).item(),
            }
        )
        if len(self.weights):
            weights = self.weights[nearest_bin(truth)]
            self.weighed.append(((weights * near).mean().item(), weights.mean().item()))

    def compute(self) -> dict[str, float]:
        """Return every metric; those of nothing are left out."""
        names = self.records[0] if self.records else {}
        means = averages({name: torch.tensor([record[name] for record in self.records]) for name in names})
        if self.weighed:
            score, weight = torch.tensor(self.weighed, dtype=torch.float64).sum(0).tolist()
            means["auc_rebalanced"] = score / weight
        return means
