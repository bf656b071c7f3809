"""A class for every pixel as one sheet of logits per class (Long et al. 2015)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from pixelwise.codecs.codec import Codec
from pixelwise.errors import DataError, UsageError
from pixelwise.geometry.unknown import UNKNOWN
from pixelwise.losses.classification import cross_entropy, focal
from pixelwise.losses.overlap import lovasz_softmax, one_hot, soft_dice

Targets = dict[str, Tensor]
Kind = Literal["cross_entropy", "dice", "lovasz", "focal"]
"""The losses of labels and of masks."""


class Labels(NamedTuple):
    """Classes `labels` `(B, H, W)`, uint8 (int16 beyond 254 classes), and `probabilities` `(B, C, H, W)`."""

    labels: Tensor
    probabilities: Tensor


@dataclass(frozen=True)
class LabelMapCodec(Codec[Targets]):
    """Softmax over classes at every pixel; one output pixel per input pixel.

    Attributes:
        classes: Number of classes C.
        class_weights: Weight of each class in the cross-entropy and the focal loss, or None for 1 (see
            `median_frequency_weights`); the overlaps count every class alike as they are.
        smoothing: Of the labels in the cross-entropy.
        ignore: The label of unknown pixels: no loss, no gradient, not counted.
    """

    units: ClassVar[Mapping[str, str]] = {"labels": "index of the class", "probabilities": "0 to 1"}
    classes: int
    class_weights: tuple[float, ...] | None = None
    smoothing: float = 0.0
    ignore: int = UNKNOWN

    def __post_init__(self) -> None:
        if self.class_weights is not None and len(self.class_weights) != self.classes:
            raise UsageError(f"{len(self.class_weights)} class weights for {self.classes} classes", "give one weight per class")

    @property
    def channels(self) -> int:
        """One sheet per class."""
        return self.classes

    @property
    def scale(self) -> float:
        """One output pixel per input pixel."""
        return 1.0

    def encode(self, labels: Tensor) -> Targets:
        """Return `labels` as int64 `(B, H, W)`.

        Args:
            labels: Integer `(B, H, W)`, 0 to C - 1 or `ignore`.

        Raises:
            DataError: A label is neither (looked for on the CPU only: elsewhere looking would stall every step).
        """
        require_labels(labels, self.classes, self.ignore)
        return {"labels": labels.long()}

    def decode(self, outputs: Tensor) -> Labels:
        """Return the most probable class of every pixel and all probabilities, from logits `(B, C, H, W)`."""
        dtype = torch.uint8 if self.classes <= 254 else torch.int16
        return Labels(outputs.argmax(1).to(dtype), outputs.softmax(1))

    def loss(self, outputs: Tensor, targets: Targets, kind: Kind = "cross_entropy") -> Tensor:
        """Return a loss of logits `(B, C, H, W)` over the known pixels; 0 if there are none."""
        labels = targets["labels"]
        weights = None if self.class_weights is None else outputs.new_tensor(self.class_weights)
        if kind == "cross_entropy":
            return cross_entropy(outputs, labels, weights, smoothing=self.smoothing, ignore=self.ignore)
        if kind == "focal":
            return focal(outputs, labels, weights, ignore=self.ignore)
        if kind == "lovasz":
            return lovasz_softmax(outputs, labels, ignore=self.ignore)
        return soft_dice(outputs.softmax(1), one_hot(labels, self.classes), (labels != self.ignore)[:, None])

    def flip(self, outputs: Tensor) -> Tensor:
        """Mirror the sheets."""
        return outputs.flip(-1)

    def averaged(self, outputs: Tensor) -> Tensor:
        """Return logits `(B, C, H, W)` of the mean probability of several, `(T, B, C, H, W)`."""
        return outputs.log_softmax(2).logsumexp(0) - math.log(len(outputs))


def require_labels(labels: Tensor, classes: int, ignore: int) -> None:
    """Check that labels are 0 to `classes` - 1 or `ignore`, on the CPU only: elsewhere looking would stall every step.

    Raises:
        DataError: One is not.
    """
    if labels.device.type != "cpu":
        return
    wrong = (labels != ignore) & ((labels < 0) | (labels >= classes))
    if wrong.any():
        what = f"label {int(labels[wrong][0])} in a map of {classes} classes"
        raise DataError(what, f"labels are 0 to {classes - 1}, and {ignore} for unknown")


def median_frequency_weights(counts: Tensor) -> Tensor:
    """Return median(f) / f_c for each class c, so that rare classes count as much as the median one.

    Eigen and Fergus 2015, section 3.3.2: f_c is the number of pixels of class c divided by the number of known pixels
    in the images where c is present. A class that is present nowhere gets 0.

    Args:
        counts: `(N, C)`, known pixels of each class in each of N images.

    Returns:
        `(C,)` float64.
    """
    pixels = counts.double().sum(0)
    around = ((counts > 0) * counts.sum(1, keepdim=True)).double().sum(0)
    present = pixels > 0
    frequencies = pixels[present] / around[present]
    weights = torch.zeros_like(pixels)
    weights[present] = frequencies.quantile(0.5) / frequencies if len(frequencies) else frequencies
    return weights
