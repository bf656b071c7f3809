"""From vector to image: a trained classifier becomes a network that scores every window of a larger picture in one pass.

A fully connected layer is a convolution whose window is its whole input (Long, Shelhamer and Darrell 2015, section 3.1).
What comes before is convolution already, wherever it does not pad.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.utils._pytree import tree_leaves

from pixelwise.errors import UsageError
from pixelwise.nn.dense_head import GROWTH, Shape, blank, densified, grown
from pixelwise.nn.operations import Operation, Operations, faked
from pixelwise.nn.receptive_field import follow


class FullyConvolutional(nn.Module):
    """(B, C, H, W) pictures -> (B, K, h, w) images of scores: h = (H - native[0]) // stride + 1, w alike.

    Score (i, j) is the classifier's for the window of `native` pixels whose first row and column are i * stride and
    j * stride, with its centre at i * stride + native[0] / 2; how exactly, `equivalence` says. The last rows and columns
    that fill no further window are not looked at.

    Attributes:
        native: Height and width of the window in pixels.
        stride: Pixels from one window to the next, down and across.
        channels: Channels of the picture.
    """

    def __init__(self, network: fx.GraphModule, native: tuple[int, int], stride: int, channels: int) -> None:
        super().__init__()
        self.network = network
        self.native = native
        self.stride = stride
        self.channels = channels

    def forward(self, image: Tensor) -> Tensor:
        """Return the scores of `image`.

        Raises:
            UsageError: The picture is smaller than one window.
        """
        height, width = image.shape[-2:]
        rows, columns = self.native
        if height < rows or width < columns:
            hint = "enlarge the picture, or convert the classifier with a smaller size"
            raise UsageError(f"a picture of {height}x{width} pixels is smaller than the classifier's {rows}x{columns}", hint)
        # with no rest, paddings that depend on the size of the picture are those of one window
        rest = (height - rows) % self.stride, (width - columns) % self.stride
        # torch.export would take for given that a slice is a part of the picture, or that it is all
        scores: Tensor = self.network(functional.pad(image, (0, -rest[1], 0, -rest[0])))
        return scores


class Equivalence(NamedTuple):
    """Whether a window has the same scores within a larger picture as alone; at the native size it always has."""

    everywhere: bool
    """True: at every position of every picture."""
    reason: str
    """Why, or why not, in one sentence."""
    layers: list[str]
    """Paths of the layers that prevent it, in the order of their work; "" is the network itself."""


def to_fully_convolutional(classifier: nn.Module, size: int | tuple[int, int] | None = None) -> FullyConvolutional:
    """Return a copy of `classifier` that maps pictures to images of scores (Long, Shelhamer and Darrell 2015).

    On a picture of the native size its one score is the classifier's. On a larger picture, score (i, j) is the
    classifier's on the window at (i * stride, j * stride):

    - everywhere exactly, if no layer pads and none sees the whole picture (VGG without its padding);
    - nowhere exactly, if layers pad: a window seen alone has padding where the larger picture has content;
    - not even far from the borders, if layers see the whole picture (squeeze-and-excitation, group normalisation).

    `equivalence` says which holds, and names the layers.

    Args:
        classifier: (B, C, H, W) -> (B, K) or (B, K, 1, 1) in evaluation mode, such as the convolutional classifiers of
            torchvision and timm. It is not changed; the result has its own copy of the weights.
        size: Height and width, or both as one number, of the pictures it classifies, in pixels; by default what
            a timm model says of itself (`pretrained_cfg`), else 224.

    Raises:
        UsageError: No such network exists, or not for this size; names the layer that is why.
    """
    native = _native(classifier, size)
    classifier = copy.deepcopy(classifier).eval()
    channels, steps = _first_look(classifier, native)
    _refuse_relations(steps)
    shape = (2, channels, *native)
    dense = densified(classifier, shape)
    return FullyConvolutional(dense, native, _stride(dense, shape), channels).eval()


def equivalence(network: FullyConvolutional) -> Equivalence:
    """Return whether `network` gives a window the same scores within a larger picture as alone, and what prevents it.

    Raises:
        ModelError: No layer is known to prevent it, but an operation is not known at all (says which).
    """
    shape = (1, network.channels, *network.native)
    small, large = _work(network.network, shape), _work(network.network, grown(shape))
    if len(small) != len(large):
        return Equivalence(False, "the network does other work on pictures of another size", [])
    padding = {one.layer for one in small if one.pads}
    whole = {one.layer for one, other in zip(small, large, strict=True) if one.forgets_the_size(other)}
    reasons = []
    if padding:
        reasons.append("seen alone, a window has padding where a larger picture has content")
    if whole:
        reasons.append("some layers see the whole picture, not the window")
    if not reasons and not _complete(network):
        reasons.append("what lies around a window changes its scores")
    layers = list(dict.fromkeys(one.layer for one in small if one.layer in padding | whole))
    return Equivalence(not reasons, "; ".join(reasons) or "no layer pads and none sees the whole picture", layers)


def _complete(network: FullyConvolutional) -> bool:
    """Tell from what exactly every score sees whether that is the same in every larger picture."""
    height, width = (side + 2 * network.stride for side in network.native)
    sight = follow(network.network, network.channels, (height, width))
    (scores,) = sight.outputs
    inside = scores.rows.complete.all() and scores.columns.complete.all()
    return bool(inside) and not sight.whole and sight.placed is None


def _native(classifier: nn.Module, size: int | tuple[int, int] | None) -> tuple[int, int]:
    if size is None:
        settings: Any = getattr(classifier, "pretrained_cfg", None) or {}
        height, width = settings.get("input_size", (3, 224, 224))[-2:]
        return height, width
    return (size, size) if isinstance(size, int) else size


# ---- what the operations of a network do


class _Step(NamedTuple):
    """What matters here of one operation: where it ran, the shapes that went in and came out, and whether it pads."""

    layer: str
    name: str
    inputs: list[Shape]
    outputs: list[Shape]
    pads: bool

    def forgets_the_size(self, other: _Step) -> bool:
        """Tell whether one of the results is the same for the larger picture of `other`, though what went in is not."""
        same = any(mine == theirs and 0 not in mine for mine, theirs in zip(self.outputs, other.outputs, strict=True))
        return same and self.inputs != other.inputs


class _Steps(Operations):
    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.steps: list[_Step] = []

    def seen(self, operation: Operation) -> None:
        inputs, outputs = _shapes(operation.arguments.values()), _shapes([operation.result])
        self.steps.append(_Step(self.layer, operation.name, inputs, outputs, _pads(operation)))


def _work(network: nn.Module, shape: Shape) -> list[_Step]:
    """Return every operation on a picture of `shape`, without computing."""
    with torch.no_grad(), faked(network) as fake:
        # torch may multiply maps by frozen weights the way it multiplies maps by maps
        work = _Steps(fake.requires_grad_())
        with work:
            fake(blank(fake, shape))
    return work.steps


def _shapes(values: Any) -> list[Shape]:
    return [tuple(leaf.shape) for leaf in tree_leaves(list(values)) if isinstance(leaf, Tensor)]


def _pads(operation: Operation) -> bool:
    """Tell whether the result depends on where the picture ends: by padding of any kind, resampling, or a cut window."""
    if operation.name in ("flip", "roll", "copy_") or operation.name.startswith("upsample_"):
        return True  # mirrored, cyclic, and what cyclic padding consists of
    given = operation.arguments
    # of a padding by constants, the first four numbers belong to the axes of the picture
    amounts = given.get("pad", given.get("padding")) or [0]
    return any(amounts[:4]) or (bool(given.get("ceil_mode")) and _cut(given))


def _cut(pooling: dict[str, Any]) -> bool:
    """Tell whether the last window of a pooling without padding reaches beyond its map."""
    size, strides = pooling["self"].shape[-2:], pooling["stride"] or pooling["kernel_size"]
    return any((side - kernel) % stride for side, kernel, stride in zip(size, pooling["kernel_size"], strides, strict=True))


def _first_look(classifier: nn.Module, native: tuple[int, int]) -> tuple[int, list[_Step]]:
    """Return the channels of the pictures that it takes, and its work on one."""
    first = next((layer.in_channels for layer in classifier.modules() if isinstance(layer, nn.Conv2d)), 3)
    for channels in dict.fromkeys((first, 3)):  # the first convolution may come after a rearrangement of pixels
        try:
            return channels, _work(classifier, (1, channels, *native))
        except Exception as error:
            cause = error
    rows, columns = native
    what = f"the work of the classifier on pictures of {rows}x{columns} pixels cannot be followed"
    raise UsageError(what, str(cause)) from cause


def _refuse_relations(steps: list[_Step]) -> None:
    for step in steps:
        if step.name in ("bmm", "baddbmm") or any(word in step.name for word in ("scaled_dot_product", "rnn", "lstm", "fft")):
            hint = "what attention, recurrence and Fourier transforms do to a window depends on all others: convolve instead"
            raise UsageError(f"layer {step.layer!r} relates all positions of the picture, by {step.name!r}", hint)


def _stride(dense: nn.Module, shape: Shape) -> int:
    """Return the pixels between neighbouring scores."""
    try:
        with torch.no_grad(), faked(dense) as fake:
            height, width = (int(side) for side in fake(blank(fake, grown(shape))).shape[2:])
    except Exception as error:
        raise UsageError("the classifier is tied to one size of picture", str(error)) from error
    if height != width or height == 1 or GROWTH % (height - 1):
        why = f"a picture larger by {GROWTH} pixels has {height}x{width} scores"
        raise UsageError("the classifier's scores do not come at even distances", f"{why}; perhaps another size suits it")
    return GROWTH // (height - 1)
