"""Weights of several losses that are learned with the network (Kendall, Gal and Cipolla 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Uncertainty(nn.Module):
    """One logarithm s of a variance per loss: the sum of (exp(-s) loss + s) / 2 is minimised (their equation 7, of K losses).

    Where the network stands still, exp(s) becomes the loss itself, so that each counts by its relative, not absolute, change.
    For cross-entropy the paper leaves out the half before exp(-s): s moves by ln 2, and no gradient changes at that point.

    Args:
        count: How many losses.

    Attributes:
        decays: Not by weight decay, which would pull every variance to 1.
    """

    decays = False

    def __init__(self, count: int) -> None:
        super().__init__()
        self.log_variances = nn.Parameter(torch.zeros(count))

    def forward(self, losses: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted losses (K,) and the sum of s / 2, which keeps the variances from growing for ever."""
        known = losses.detach() != 0  # a loss over no known pixel says nothing about its variance
        return (-self.log_variances).exp() * losses / 2, (self.log_variances * known).sum() / 2
