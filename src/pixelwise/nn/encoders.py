"""What a decoder needs from an encoder: its maps by stride, for our own pyramid and for any convolutional one of timm.

An encoder is a module (B, C, H, W) -> {stride: (B, channels[stride], H/stride, W/stride)}, strides ascending, for sides
that are multiples of its largest stride and at least `least` pixels.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.errors import ModelError, UsageError, did_you_mean
from pixelwise.nn.blocks import Norm, Residual, convolution, double_convolution
from pixelwise.nn.dilation import refuse_inexact


class Encoder(nn.Module):
    """Base of all encoders; `channels` maps stride to channels, strides ascending."""

    channels: dict[int, int]
    least: int


def level_width(width: int, stride: int) -> int:
    """Return the channels of a U-Net level: `width` times its stride, at most 16 times (Ronneberger et al. 2015)."""
    return width * min(stride, 16)


class Pyramid(Encoder):
    """The contracting path of U-Net: two 3x3 convolutions per level, 2x2 max pooling between levels."""

    def __init__(self, in_channels: int, width: int, depth: int, norm: Norm) -> None:
        super().__init__()
        self.channels = {2**level: level_width(width, 2**level) for level in range(depth + 1)}
        # a single position at the bottom would leave instance norm, and batch norm at batch 1, nothing to normalise
        self.least = 2 ** (depth + 1)
        self.halve = nn.MaxPool2d(2)
        widths = [in_channels, *self.channels.values()]
        self.levels = nn.ModuleList(double_convolution(before, after, norm) for before, after in pairwise(widths))

    def forward(self, image: Tensor, indices: dict[int, Tensor] | None = None) -> dict[int, Tensor]:
        """Return the maps of strides 1, 2, 4, ..., 2^depth.

        Args:
            image: (B, C, H, W).
            indices: If given, filled with what unpooling needs to get back to each stride: its map's pooling indices.
        """
        maps: dict[int, Tensor] = {}
        for stride, level in zip(self.channels, self.levels, strict=True):
            if stride > 1 and indices is not None:
                image, indices[stride // 2] = functional.max_pool2d(image, 2, return_indices=True)
            elif stride > 1:
                image = self.halve(image)
            image = level(image)
            maps[stride] = image
        return maps


class ResidualPyramid(Encoder):
    """A residual block per level, 2x2 max pooling between levels: as far as `Pyramid`, and easier to train when it is deep."""

    def __init__(self, in_channels: int, width: int, depth: int, norm: Norm) -> None:
        super().__init__()
        self.channels = {2**level: level_width(width, 2**level) for level in range(depth + 1)}
        self.least = 2 ** (depth + 1)  # as in `Pyramid`
        self.halve = nn.MaxPool2d(2)
        widths = [width, *self.channels.values()]
        self.stem = convolution(in_channels, width, norm)
        self.levels = nn.ModuleList(Residual(before, after, norm) for before, after in pairwise(widths))

    def forward(self, image: Tensor) -> dict[int, Tensor]:
        """Return the maps of strides 1, 2, 4, ..., 2^depth of (B, C, H, W)."""
        maps: dict[int, Tensor] = {}
        image = self.stem(image)
        for stride, level in zip(self.channels, self.levels, strict=True):
            image = level(image if stride == 1 else self.halve(image))
            maps[stride] = image
        return maps


class TimmEncoder(Encoder):
    """Any feature pyramid of timm, with its own normalisation: images are expected in [0, 1].

    Where several stages share a stride (plain vision transformers, dilated networks), the deepest is used.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, name: str, in_channels: int, pretrained: bool = False, output_stride: int | None = None) -> None:
        """Build the encoder.

        Args:
            name: A model of timm with or without a pretrained tag, e.g. "resnet18.a1_in1k".
            in_channels: Channels of the image.
            pretrained: Whether to download weights.
            output_stride: Stride of the coarsest map, by dilation instead of the strides beyond it; its own if None.

        Raises:
            UsageError: timm has no such model, it makes no maps for images of any size, or it cannot be dilated so that
                it computes the same features.
            ModelError: The pretrained weights cannot be had.
        """
        super().__init__()
        _check_name(name)
        if output_stride is not None:
            _check_dilation(name, in_channels, output_stride)
        self.network = _create(name, in_channels, pretrained, output_stride)
        info = self.network.feature_info
        self.strides: list[int] = info.reduction()
        self.channels = dict(sorted(dict(zip(self.strides, info.channels(), strict=True)).items()))
        self.least = 4 * max(self.strides)
        colours = self.network.pretrained_cfg
        self.register_buffer("mean", _per_channel(colours["mean"], in_channels), persistent=False)
        self.register_buffer("deviation", _per_channel(colours["std"], in_channels), persistent=False)
        self._try(name, in_channels)

    def _try(self, name: str, in_channels: int) -> None:
        """Encode one picture, so that a network tied to one image size is refused now and not in the first step."""
        self.eval()
        try:
            with torch.no_grad():
                self(torch.zeros(1, in_channels, self.least, self.least + max(self.strides)))
        except (AssertionError, RuntimeError, ValueError) as error:
            raise UsageError(f"encoder {name!r} does not take images of any size", str(error)) from error
        self.train()

    def forward(self, image: Tensor) -> dict[int, Tensor]:
        """Return the maps of every stride in `channels`."""
        height, width = image.shape[-2:]
        maps: dict[int, Tensor] = {}
        deepest = dict(zip(self.strides, self.network((image - self.mean) / self.deviation), strict=True))
        for stride, channels in self.channels.items():
            found = deepest[stride]
            found = found.permute(0, 3, 1, 2) if found.shape[1] != channels else found
            size = (height // stride, width // stride)
            # a few classifiers use unpadded convolutions, so their maps are some pixels short
            fits = found.shape[-2:] == size
            maps[stride] = found if fits else functional.interpolate(found, size, mode="bilinear")
        return maps


def _per_channel(colour: Sequence[float], channels: int) -> Tensor:
    """Return (channels, 1, 1): the colour itself, or its mean where the image is not in its channels."""
    values = torch.tensor(colour)
    return (values if len(values) == channels else values.mean().repeat(channels))[:, None, None]


def _check_name(name: str) -> None:
    """Refuse whatever is not a name in timm's own list (timm would also follow addresses of hubs and folders)."""
    timm = importlib.import_module("timm")
    names = timm.list_models()
    architecture, dot, _ = name.partition(".")
    if architecture not in names:
        raise UsageError(f"timm has no encoder {name!r}", did_you_mean(architecture, names))
    tagged = timm.list_pretrained(f"{architecture}.*") if dot else [name]
    if name not in tagged:
        raise UsageError(f"timm has no pretrained encoder {name!r}", "one of " + ", ".join(tagged or [architecture]))


def _check_dilation(name: str, in_channels: int, output_stride: int) -> None:
    """Refuse encoders that have no such stride, and those whose dilation is wrong; torch's random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        plain = TimmEncoder(name, in_channels).network
        try:
            dilated = _features(name, in_channels, False, output_stride)
        except (AssertionError, NotImplementedError, TypeError) as error:
            raise UsageError(f"encoder {name!r} cannot be dilated: timm has it at its own strides only", str(error)) from error
    coarsest = max(dilated.feature_info.reduction())
    if coarsest != output_stride:
        raise UsageError(f"encoder {name!r} cannot have encoder_stride {output_stride}: it ends at stride {coarsest}")
    refuse_inexact(name, dilated, plain, in_channels)


def _create(name: str, in_channels: int, pretrained: bool, output_stride: int | None = None) -> Any:
    try:
        return _features(name, in_channels, pretrained, output_stride)
    except (AttributeError, RuntimeError, NotImplementedError, AssertionError) as error:
        if pretrained:
            raise _no_weights(name) from error
        raise UsageError(f"encoder {name!r} offers no maps of features", str(error)) from error
    except Exception as error:
        # the download can fail with errors of several libraries, none of which is imported here
        if not pretrained:
            raise
        raise _no_weights(name) from error


def _no_weights(name: str) -> ModelError:
    hint = "they are downloaded once and then cached: connect to the network, or set pretrained=false"
    return ModelError(f"the pretrained weights of encoder {name!r} cannot be had", hint)


def _features(name: str, in_channels: int, pretrained: bool, output_stride: int | None) -> Any:
    create = importlib.import_module("timm").create_model
    settings: dict[str, Any] = {"features_only": True, "in_chans": in_channels, "pretrained": pretrained}
    if output_stride is not None:
        settings["output_stride"] = output_stride
    try:
        return create(name, dynamic_img_size=True, **settings)
    except TypeError:  # only transformers know the setting, and only they need it
        return create(name, **settings)
