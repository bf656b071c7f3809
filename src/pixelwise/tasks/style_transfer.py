"""Fast style transfer: one network learns to paint any picture in the manner of one (Johnson, Alahi and Fei-Fei 2016)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt, SerializeAsAny
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily

from pixelwise.codecs.rgb import RGBCodec
from pixelwise.color.levels import depth_of
from pixelwise.config import Choice
from pixelwise.data.augment import Augment, View
from pixelwise.data.carried import EVERYTHING
from pixelwise.data.dataset import Dataset, Meta
from pixelwise.data.datasets import image_folder, world
from pixelwise.data.images import decode_image
from pixelwise.data.sample import Batch, Sample
from pixelwise.features import random
from pixelwise.geometry.homography import Size, resize
from pixelwise.geometry.tiles import Tile
from pixelwise.geometry.warp import warp_image
from pixelwise.losses.features import feature_loss, style_loss, summed
from pixelwise.losses.perceptual import placed
from pixelwise.losses.total_variation import total_variation
from pixelwise.metrics.averages import averages
from pixelwise.nn.features import Features, FeaturesConfig, step_seed, used
from pixelwise.nn.networks import residual
from pixelwise.predictions.image import ImagePrediction
from pixelwise.recipe import Recipe, TaskConfig, recipe
from pixelwise.task import PixelTask, Predictor, image_of, unit
from pixelwise.training import Optimizer, Schedule

MEASURED_SEED = 1
"""Of random features where they measure: the same for all pictures, and not those that were trained with."""


class Config(TaskConfig):
    """Settings of style transfer."""

    kind: Literal["style_transfer"] = "style_transfer"
    style: str | None = Field(default=None, description="the picture whose style is learned, a file; null: drawn waves")
    style_size: int = Field(default=256, ge=16, description="longer side at which the style's picture is looked at")
    features: Annotated[SerializeAsAny[FeaturesConfig], Choice("pixelwise.features")] = Field(
        default=random.Config(), description="the network that looks: random, a run trained here, or pretrained weights"
    )
    content_levels: tuple[PositiveInt, ...] = Field(
        default=(3,), min_length=1, description="levels of the features that must stay (3 of VGG-16 is relu3_3)"
    )
    style_levels: tuple[PositiveInt, ...] = Field(
        default=(1, 2, 3, 4), min_length=1, description="levels whose Gram matrices must be those of the style's picture"
    )
    content_weight: float = Field(default=1.0, ge=0, description="weight of the features")
    style_weight: float = Field(default=1e4, gt=0, description="weight of the Gram matrices, whose numbers are small")
    variation_weight: float = Field(default=0.1, ge=0, description="weight of the differences between neighbouring pixels")


class Task(PixelTask):
    """There is no true answer: features are to be those of the picture, and their Gram matrices those of the style."""

    codec: RGBCodec
    fields = ("image",)
    primary = "objective"
    minimised = True
    keeps = EVERYTHING

    def __init__(self, config: Config, meta: Meta) -> None:
        super().__init__(config, meta)
        self.codec = RGBCodec()

    @cached_property
    def features(self) -> Features:
        """The network that looks, built when it is first needed, which to predict never needs."""
        with unset_fake_temporarily():  # with values also while a step is rehearsed on tensors without any
            return used(self.config.features.build(), self.config.content_levels, self.config.style_levels)

    @cached_property
    def style(self) -> Tensor:
        """The style's picture at its size, uint8 `(3, H, W)`."""
        with unset_fake_temporarily():
            if self.config.style is None:
                return waves(self.config.style_size)
            return _at_most(decode_image(Path(self.config.style)), self.config.style_size)

    def check(self, view: View, augment: Augment) -> None:
        """Find out now whether the style's picture and the features can be had."""
        _ = self.style, self.features

    def encode(self, batch: Batch) -> Batch:
        """Bring the image to [-1, 1], where the answer will be too."""
        return {"image": self.codec.encode(batch["image"])}

    def forward(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Return `painted`, `(B, 3, H, W)` in [-1, 1]."""
        return {"painted": networks["network"](batch["image"])}

    def loss(
        self, phase: str, networks: Mapping[str, nn.Module], batch: Batch, outputs: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return style, content and total variation, weighted (section 3 of the paper)."""
        painted = (outputs["painted"].float() + 1) / 2
        style, content = self._distances(painted, (batch["image"] + 1) / 2, step_seed(self.features))
        variation = self.config.variation_weight * total_variation(painted, 2)
        return {
            "style": self.config.style_weight * style,
            "content": self.config.content_weight * content,
            "variation": variation,
        }

    def _distances(self, painted: Tensor, image: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Return the style loss and the feature loss of pictures in [0, 1]."""
        features = placed(self.features, painted.device)
        style = features.renewed(unit(self.style)[None].to(painted.device), seed)
        with torch.no_grad():
            content = features(image)
        ours = features(painted)
        return summed(style_loss, ours, style, self.config.style_levels), summed(
            feature_loss, ours, content, self.config.content_levels
        )

    def blank(self, sample: Sample) -> ImagePrediction:
        """Return a prediction without pixels yet, in memory as image files hold them."""
        height, width = sample["image"].frame.size
        image = image_of(sample)
        return ImagePrediction(image, torch.empty(height, width, 3, dtype=depth_of(image)).permute(2, 0, 1))

    def paint(self, prediction: ImagePrediction, place: Tile, maps: Tensor) -> None:
        """Round each pixel to the levels of the answer."""
        place.of(prediction.pixels).copy_(self.codec.decode(maps, prediction.pixels.dtype))

    def truth(self, sample: Sample) -> ImagePrediction:
        """Return the style's picture, stretched: nobody knows the true answer, and this is what it is held against."""
        return ImagePrediction(image_of(sample), _stretched(self.style, sample["image"].frame.size))

    def metrics(self) -> StyleMetrics:
        """How far from the style, how far from the picture, and the weighted sum of both."""
        return StyleMetrics(self.config.style_weight, self.config.content_weight)

    @torch.no_grad()
    def score(self, metrics: StyleMetrics, prediction: ImagePrediction, sample: Sample) -> None:
        """Compare with the style's picture and with the sample, no larger than the style's picture is looked at."""
        painted, image = (_at_most(pixels, self.config.style_size) for pixels in (prediction.pixels, image_of(sample)))
        style, content = self._distances(unit(painted)[None], unit(image)[None], MEASURED_SEED)
        metrics.update(float(style), float(content))

    def baselines(self, train: Dataset) -> dict[str, Predictor]:
        """The picture unchanged, and the mean colour of the style."""
        colour = self.style.float().mean((1, 2), keepdim=True).round().to(torch.uint8)

        def coloured(sample: Sample) -> ImagePrediction:
            return ImagePrediction(image_of(sample), colour.expand_as(image_of(sample)).contiguous())

        return {"identity": lambda sample: ImagePrediction(image_of(sample), image_of(sample)), "mean_colour": coloured}


class StyleMetrics:
    """Means over the pictures, by features of one fixed draw where they are random.

    - `style`: the style loss, summed over its levels; `content`: the feature loss, summed over its levels.
    - `objective`: both, weighted as in training.
    """

    def __init__(self, style_weight: float, content_weight: float) -> None:
        self.style_weight, self.content_weight = style_weight, content_weight
        self.records: list[tuple[float, float]] = []

    def update(self, style: float, content: float) -> None:
        """Take in the distances of one picture."""
        self.records.append((style, content))

    def compute(self) -> dict[str, float]:
        """Return the mean of every metric over the pictures."""
        style, content = torch.tensor(self.records, dtype=torch.float64).reshape(-1, 2).unbind(1)
        return averages(
            {"objective": self.style_weight * style + self.content_weight * content, "style": style, "content": content}
        )


def waves(side: int) -> Tensor:
    """Return a picture `(3, side, side)`, uint8, of bent waves in warm and cold colours: a style without any file."""
    y, x = torch.meshgrid(torch.arange(side) + 0.5, torch.arange(side) + 0.5, indexing="ij")
    phase = x / 5 + 3 * (y / 17).sin() + 2 * (x / 23 + y / 31).cos()
    colours = torch.stack([phase.sin(), (0.7 * phase + 1).sin(), (phase + 2.5).cos()])
    return ((colours * torch.tensor([0.45, 0.35, 0.5])[:, None, None] + 0.5) * 255).round().clamp(0, 255).to(torch.uint8)


def _at_most(pixels: Tensor, longest: int) -> Tensor:
    """Return the picture with its longer side reduced to `longest`; a smaller one as it is."""
    height, width = pixels.shape[-2:]
    scale = longest / max(height, width)
    return pixels if scale >= 1 else _stretched(pixels, (max(1, round(height * scale)), max(1, round(width * scale))))


def _stretched(pixels: Tensor, size: Size) -> Tensor:
    return warp_image(pixels, resize((pixels.shape[-2], pixels.shape[-1]), size), size)


@recipe
def world_style() -> Recipe:
    """Pictures of the embedded world, 64 x 64, painted in drawn waves with random features.

    Expect objective 1.31 on 64 unseen scenes (the picture itself 3.01, the style's mean colour 4.16) after 81 seconds of a
    share of one busy CPU core. It has the colours and waves by then, and of the content little more than light and dark.
    """
    return Recipe(
        name="world_style",
        task=Config(style_size=64, features=random.Config(width=16), content_weight=2.0, content_levels=(2,)),
        data=world.Config(scenes=256),
        view=View(size=(64, 64), fit="native"),
        augment=Augment(flip=0.5),
        network=residual.Config(width=16, blocks=3, kernel=9, upsample="nearest", activation="tanh"),
        optimizer=Optimizer(kind="adam", lr=1e-3),
        schedule=Schedule(kind="cosine", warmup_steps=20),
        steps=400,
        batch_size=4,
        evaluate_every=200,
    )


@recipe
def style_transfer() -> Recipe:
    """Your own photographs, data.root=FOLDER, in the style of one picture, task.style=FILE; the published network.

    For sharper strokes than random features give: task.features.kind=run task.features.folder=runs/NAME, or VGG-16 from
    a file, task.features.kind=pretrained task.features.weights=FILE. Not measured yet.
    """
    return Recipe(
        name="style_transfer",
        task=Config(),
        data=image_folder.Config(root="data/photographs"),
        view=View(size=(256, 256), fit="native"),
        augment=Augment(flip=0.5),
        network=residual.Config(width=32, blocks=5, kernel=9, upsample="nearest", activation="tanh"),
        optimizer=Optimizer(kind="adam", lr=1e-3),
        schedule=Schedule(kind="cosine", warmup_steps=50),
        steps=2000,
        batch_size=4,
        evaluate_every=500,
        checkpoint_every=500,
    )
