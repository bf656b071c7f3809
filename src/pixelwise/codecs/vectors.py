"""One answer for the whole picture: a category, which of several labels apply, or a value; outputs `(B, channels, 1, 1)`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from torch import Tensor

from pixelwise.codecs.codec import Codec
from pixelwise.errors import DataError, UsageError
from pixelwise.losses.classification import binary_cross_entropy, cross_entropy
from pixelwise.losses.regression import l2_loss, smooth_l1_loss

Targets = dict[str, Tensor]
UNKNOWN = -1
"""The index of a category that is not known."""


class VectorCodec(Codec[Targets]):
    """What the three have in common: the output lies on no pixel grid, and a mirror changes nothing."""

    scale = 0.0

    def flip(self, outputs: Tensor) -> Tensor:
        """Return the outputs as they are: a mirrored picture has the same answer."""
        return outputs


class CategoryCodec(VectorCodec):
    """One of several classes: a score for each, softmax and cross-entropy."""

    units: ClassVar[Mapping[str, str]] = {"probabilities": "0 to 1, sum 1"}

    def __init__(self, classes: int, weights: tuple[float, ...] = ()) -> None:
        """Settle the number of classes and, where they differ, the weight of each in the loss.

        Raises:
            UsageError: There are not as many weights as classes.
        """
        self.classes, self.weights = classes, _checked(weights, classes, "classes")

    @property
    def channels(self) -> int:
        """One score per class."""
        return self.classes

    def encode(self, category: Tensor) -> Targets:
        """Return `category` as it is, int64 `(B,)`.

        Raises:
            DataError: One is neither a class nor -1 (looked for on the CPU only: elsewhere looking would stall every step).
        """
        if category.device.type == "cpu":
            wrong = category[(category < UNKNOWN) | (category >= self.classes)]
            if len(wrong):
                raise DataError(f"category {int(wrong[0])} among {self.classes} classes", "-1 is unknown")
        return {"category": category}

    def decode(self, outputs: Tensor) -> Tensor:
        """Return the probability of each class `(B, classes)`."""
        return outputs.flatten(1).softmax(1)

    def loss(self, outputs: Tensor, targets: Targets) -> Tensor:
        """Return the cross-entropy, divided by the (weighted) number of known categories."""
        weights = outputs.new_tensor(self.weights) if self.weights else None
        return cross_entropy(outputs.flatten(1), targets["category"], weights, ignore=UNKNOWN)


class LabelSetCodec(VectorCodec):
    """Which of several labels apply: a score for each, sigmoid and binary cross-entropy; unknown ones have no loss."""

    units: ClassVar[Mapping[str, str]] = {"probabilities": "0 to 1"}

    def __init__(self, labels: int, weights: tuple[float, ...] = ()) -> None:
        """Settle the number of labels and, where they differ, the weight of each in the loss.

        Raises:
            UsageError: There are not as many weights as labels.
        """
        self.labels, self.weights = labels, _checked(weights, labels, "labels")

    @property
    def channels(self) -> int:
        """One score per label."""
        return self.labels

    def encode(self, values: Tensor) -> Targets:
        """Return `values` `(B, labels)` as they are: 1 applies, 0 does not, NaN is unknown."""
        return {"values": values}

    def decode(self, outputs: Tensor) -> Tensor:
        """Return the probability of each label `(B, labels)`."""
        return outputs.flatten(1).sigmoid()

    def loss(self, outputs: Tensor, targets: Targets) -> Tensor:
        """Return the binary cross-entropy, divided by the (weighted) number of known labels."""
        weights = outputs.new_tensor(self.weights) if self.weights else None
        return binary_cross_entropy(outputs.flatten(1), targets["values"], weights)


class ValueCodec(VectorCodec):
    """One number in its own unit, regressed as (value - mean) / deviation so that it is of order 1."""

    channels = 1
    units: ClassVar[Mapping[str, str]] = {"value": ""}

    def __init__(self, mean: float, deviation: float, loss: Literal["l2", "smooth_l1"] = "smooth_l1") -> None:
        """Settle the scale.

        Args:
            mean: Of the training samples.
            deviation: Standard deviation of the same, above 0.
            loss: Between standardised numbers; `smooth_l1` is linear beyond one standard deviation.
        """
        self.mean, self.deviation, self.kind = mean, deviation, loss

    def encode(self, value: Tensor) -> Targets:
        """Return the `standardised` value `(B, 1)`; NaN stays unknown."""
        return {"standardised": (value - self.mean) / self.deviation}

    def decode(self, outputs: Tensor) -> Tensor:
        """Return the value `(B, 1)` in its own unit."""
        return outputs.flatten(1) * self.deviation + self.mean

    def loss(self, outputs: Tensor, targets: Targets) -> Tensor:
        """Return the loss between standardised values, averaged over those known."""
        between = smooth_l1_loss if self.kind == "smooth_l1" else l2_loss
        return between(outputs.flatten(1), targets["standardised"], ~targets["standardised"].isnan())


def _checked(weights: tuple[float, ...], count: int, what: str) -> tuple[float, ...]:
    if weights and len(weights) != count:
        raise UsageError(f"{len(weights)} class weights for {count} {what}", f"give one for each of the {what}")
    return weights
