"""The a and b of CIELAB at every pixel: as two numbers, as a belief over 313 bins, or as both (Zhang et al. 2016, 2017)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from pixelwise.codecs.codec import Codec
from pixelwise.color.chroma import annealed_mean, nearest_bin, rebalancing, soft_encoding
from pixelwise.losses.regression import l1_loss, l2_loss, masked_mean

BINS = 313
UNIT = 110.0
"""Of the numbers that a network regresses: ab divided by it lies in [-1, 1]."""
GREY = 5.0
"""A picture of which no |a| and no |b| is above it teaches nothing about colours."""


class ChromaCodec(Codec[Tensor]):
    """Two sheets, ab / 110, learned by their mean squared difference: the mean of all colours that may be.

    Targets are ab `(B, 2, H / stride, W / stride)`, each the mean of the pixels it covers. Pictures that are nearly grey are
    unknown.
    """

    units: ClassVar[Mapping[str, str]] = {"ab": "a and b of CIELAB"}
    channels = 2

    def __init__(self, stride: int = 1) -> None:
        self.stride = stride

    @property
    def scale(self) -> float:
        """Output pixels per input pixel."""
        return 1 / self.stride

    def encode(self, ab: Tensor) -> Tensor:
        """Return the mean ab of every cell of the output's grid; a cell across the border is the mean of what is inside.

        Args:
            ab: `(B, 2, H, W)`.
        """
        return functional.avg_pool2d(ab, self.stride, ceil_mode=True, count_include_pad=False) if self.stride > 1 else ab

    def decode(self, outputs: Tensor) -> Tensor:
        """Return ab `(B, 2, h, w)` of outputs `(B, channels, h, w)`."""
        return outputs * UNIT

    def answers(self, outputs: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
        """Return `ab` `(B, 2, H, W)` at every pixel of the network's input, bilinear in between."""
        ab = self.decode(outputs)
        if self.stride > 1:
            ab = functional.interpolate(ab, scale_factor=float(self.stride), mode="bilinear")
        return {"ab": ab[..., : size[0], : size[1]]}

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean squared difference of a and b in units of 110 over the pictures that have colours."""
        return l2_loss(outputs, targets / UNIT, coloured(targets))

    def flip(self, outputs: Tensor) -> Tensor:
        """Mirror the sheets."""
        return outputs.flip(-1)


class ChromaBinsCodec(ChromaCodec):
    """A sheet of logits per bin, learned by cross-entropy with the colour's nearest bins; answered by the annealed mean."""

    channels = BINS

    def __init__(
        self,
        stride: int = 1,
        *,
        neighbours: int = 5,
        sigma: float = 5.0,
        temperature: float = 0.38,
        prior: Sequence[float] = (),
        uniform: float = 0.5,
    ) -> None:
        """Settle the encoding.

        Args:
            stride: Input pixels per output pixel.
            neighbours: Bins that stand for one colour.
            sigma: How fast their weights fall, in units of a and b.
            temperature: Of the annealed mean.
            prior: Share of each bin in the training data if rare colours are to count more, else none.
            uniform: Share of the even distribution mixed into the prior.
        """
        super().__init__(stride)
        self.neighbours, self.sigma, self.temperature = neighbours, sigma, temperature
        self.prior, self.uniform = tuple(prior), uniform

    def decode(self, outputs: Tensor) -> Tensor:
        """Return the annealed mean of each pixel's belief."""
        return annealed_mean(outputs, self.temperature)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return -v sum_q z_q log softmax(outputs)_q, averaged over the pictures that have colours (equation 2).

        v is the weight of the colour's nearest bin, 1 without a prior. The smallest value is the entropy of the encoding.
        """
        index, weight = soft_encoding(targets, self.neighbours, self.sigma)
        entropy = outputs.logsumexp(1) - (outputs.gather(1, index) * weight).sum(1)
        if self.prior:
            weights = rebalancing(torch.tensor(self.prior, dtype=torch.float64), self.uniform).to(outputs)
            entropy = entropy * weights[nearest_bin(targets)]
        return masked_mean(entropy, coloured(targets)[:, 0])


class ChromaHybridCodec(ChromaBinsCodec):
    """Both: the bins shape what the network knows, two more sheets are the answer (Zhang et al. 2017)."""

    channels = BINS + 2

    def __init__(self, stride: int = 1, *, weight: float = 10.0, neighbours: int = 5, sigma: float = 5.0) -> None:
        """Settle the encoding; `weight` is that of the regression against the classification."""
        super().__init__(stride, neighbours=neighbours, sigma=sigma)
        self.weight = weight

    def decode(self, outputs: Tensor) -> Tensor:
        """Return what the last two sheets say."""
        return outputs[:, BINS:] * UNIT

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of the bins plus `weight` times the mean absolute difference in units of 110."""
        regression = l1_loss(outputs[:, BINS:], targets / UNIT, coloured(targets))
        return super().loss(outputs[:, :BINS], targets) + self.weight * regression


def coloured(ab: Tensor) -> Tensor:
    """Return which pictures of ab `(B, 2, h, w)` have any |a| or |b| above 5, bool `(B, 1, 1, 1)`."""
    return ab.abs().amax((1, 2, 3), keepdim=True) > GREY
