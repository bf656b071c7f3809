"""What every network file offers: settings that can build the network, whatever the number of channels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Self

from torch import nn

from pixelwise.config import Config
from pixelwise.errors import UsageError


class NetworkConfig(Config):
    """Settings of one kind of network; `kind` names its file under `pixelwise/nn/networks`."""

    usual_channels: ClassVar[int] = 3
    """Channels of its pictures where nobody says."""
    kind: str

    @abstractmethod
    def build(self, in_channels: int, out_channels: int) -> nn.Module:
        """Return the network, randomly initialised from torch's global generator (seed it with `torch.manual_seed`).

        Args:
            in_channels: Channels of the input image.
            out_channels: Channels of the output maps.

        Returns:
            A module (B, in_channels, H, W) -> (B, out_channels, H', W') with an attribute `stride`, the input pixels
            per output pixel; what can be exported has `multiple` too: other sides are continued to a multiple of it.
            One that answers in several stages is as `nn/stages.py` says.
        """

    def usual_outputs(self, in_channels: int) -> int:
        """Return the channels of its output where nobody says."""
        return 1

    def untrained(self) -> Self:
        """Return the same architecture without downloaded weights: what a loader of trained weights should build."""
        return self

    def with_heads(self, channels: Sequence[int]) -> Self:
        """Return the same architecture with a head of its own for each group of output channels, where it has such.

        Args:
            channels: Of each group, in the order of the output; `build` is then given their sum.
        """
        return self


def stride_of(built: nn.Module, network: NetworkConfig) -> int:
    """Return the input pixels per output pixel of a network that `network` built.

    Raises:
        UsageError: It does not say.
    """
    stride = getattr(built, "stride", None)
    if not isinstance(stride, int):
        what = f"network.kind = {network.kind!r} builds a {type(built).__name__} without a whole number `stride`"
        raise UsageError(what, "set self.stride to the input pixels per output pixel, 0 where the output is one vector")
    return stride
