"""A codec is how an answer becomes sheets of numbers, and back: the network in between knows neither."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from torch import Tensor
from torch.nn import functional

from pixelwise.errors import UsageError
from pixelwise.geometry.presence import Presence

Targets = TypeVar("Targets")


class Points(NamedTuple):
    """Decoded `points` `(B, K, 2)`, (x, y) in input pixels, and their `confidence` `(B, K)` in [0, 1]."""

    points: Tensor
    confidence: Tensor


class Codec(ABC, Generic[Targets]):
    """A strict inverse pair and the loss between its two ends.

    Built from plain settings, without weights or state. Everything is batch first, vectorised, and runs where its
    inputs are. What is unknown in the truth has no part in the loss and exactly zero gradient.

    Attributes:
        units: What `decode` returns, in that order: the name of each tensor and what its numbers mean.
    """

    units: ClassVar[Mapping[str, str]] = {"answer": ""}

    @property
    @abstractmethod
    def channels(self) -> int:
        """Sheets that the network must put out."""

    @property
    @abstractmethod
    def scale(self) -> float:
        """Output pixels per input pixel; 0 where the output is one vector for the whole image."""

    @abstractmethod
    def encode(self, *args: Any, **kwargs: Any) -> Targets:
        """Turn the truth into targets. What the truth consists of differs from codec to codec."""

    @abstractmethod
    def decode(self, outputs: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Turn outputs `(B, channels, H', W')` into answers; of a perfect output, into the truth that was encoded."""

    def answers(self, outputs: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
        """Return what an exported graph puts out: the tensors of `decode` by name, batch first, in the network's pixels.

        Args:
            outputs: `(B, channels, H', W')`.
            size: Height and width of the network's input.
        """
        decoded = self.decode(outputs)
        return dict(zip(self.units, decoded if isinstance(decoded, tuple) else [decoded], strict=True))

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Targets) -> Tensor:
        """Return a scalar that is smallest for a perfect output, averaged over what was known."""

    @abstractmethod
    def flip(self, outputs: Tensor) -> Tensor:
        """Turn the outputs for a mirrored image into outputs for the image itself, so that the two can be averaged."""


def at_least_one(points: Tensor, presence: Tensor) -> tuple[Tensor, Tensor]:
    """Return points `(B, N, K, 2)` and presence `(B, N, K)`, with one unknown instance where N = 0.

    A point said to be present whose coordinates are no numbers is UNKNOWN.
    """
    missing = int(points.shape[1] == 0)
    lost = (presence >= Presence.HIDDEN) & ~points.isfinite().all(-1)
    presence = presence.masked_fill(lost, Presence.UNKNOWN)
    return functional.pad(points, (0, 0, 0, 0, 0, missing)), functional.pad(presence, (0, 0, 0, missing))


def checked_swap(swap: tuple[int, ...], points: int) -> tuple[int, ...]:
    """Return the permutation that a mirror applies to the names of `points` points; an empty `swap` changes none.

    Raises:
        UsageError: `swap` does not pair the points: applied twice it must give back every point.
    """
    swap = swap or tuple(range(points))
    if len(swap) != points or any(not 0 <= i < points or swap[i] != k for k, i in enumerate(swap)):
        raise UsageError(
            f"swap = {swap} does not pair {points} points",
            "for each point give the index of its mirror twin, or its own index if it has none",
        )
    return swap
