"""Surface normals from one picture: the direction of the surface at every pixel (Fouhey et al. 2013, Wang et al. 2015)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from pixelwise.codecs.normals import NormalsCodec
from pixelwise.data.augment import Augment, View
from pixelwise.data.dataset import Dataset, Meta
from pixelwise.data.datasets import depth_folder, world
from pixelwise.data.sample import Batch, Normals, Sample
from pixelwise.data.thumbnails import Bank, MapBaselines, on_grid, stretched_maps
from pixelwise.errors import DataError
from pixelwise.geometry.homography import Size
from pixelwise.geometry.tiles import Tile
from pixelwise.losses.normals import angular_loss, cosine_loss, squared_distance_loss
from pixelwise.losses.weights import LossWeights, Weight
from pixelwise.metrics.normals import NormalsMetrics
from pixelwise.nn.networks import unet
from pixelwise.predictions.normals import NormalsPrediction
from pixelwise.recipe import Recipe, TaskConfig, recipe
from pixelwise.task import PixelTask, Predictor, image_of, mirrored
from pixelwise.training import Optimizer, Schedule


class Loss(LossWeights):
    """Weights of the terms; a term of weight 0 is not computed."""

    cosine: Weight = Field(default=1.0, description="weight of 1 - cos of the angle")
    angular: Weight = Field(default=0.0, description="weight of the angle in radians")
    l2: Weight = Field(default=0.0, description="weight of the squared distance before the length is brought to 1")


class Config(TaskConfig):
    """Settings of surface normals."""

    answering: ClassVar[tuple[str, ...]] = ("flip_test",)
    kind: Literal["surface_normals"] = "surface_normals"
    loss: Loss = Loss()
    flip_test: bool = Field(default=False, description="average the answer with that of the mirrored image")

    def settled(self, train: Dataset) -> Self:
        """Return these settings.

        Raises:
            DataError: No normal of the whole training data is known.
        """
        if not any(_vectors(train.sample(i, ("normals",))).isfinite().any() for i in range(len(train))):
            what = f"no normal of all {len(train)} training samples is known: there is nothing to learn from"
            raise DataError(what, "black pixels and vectors without length are unknown, as is what has no depth around it")
        return self


class Task(PixelTask):
    """Three sheets that become a direction; pixels whose direction is unknown have no loss and no gradient."""

    codec: NormalsCodec
    fields = ("image", "normals")
    primary = "mean_angle_deg"
    minimised = True

    def __init__(self, config: Config, meta: Meta) -> None:
        super().__init__(config, meta)
        self.codec = NormalsCodec()
        self.mirrors = config.flip_test

    def targets(self, batch: Batch) -> Batch:
        """Return the normals as they are."""
        return {"normals": self.codec.encode(batch["normals"])} if "normals" in batch else {}

    def forward(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Return `normals`, `(B, 3, H, W)` of any length."""
        return {"normals": networks["network"](batch["image"])}

    def loss(
        self, phase: str, networks: Mapping[str, nn.Module], batch: Batch, outputs: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """The weighted terms that the settings name."""
        output, target = outputs["normals"].float(), batch["normals"]
        terms = {
            "cosine": lambda: cosine_loss(self.codec.direction(output), target),
            "angular": lambda: angular_loss(self.codec.direction(output), target),
            "l2": lambda: squared_distance_loss(output, target),
        }
        weighted: dict[str, Tensor] = self.config.loss.weighted(terms)
        return weighted

    def respond(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Return directions, added to those of the mirrored image if asked for."""
        normals = self.codec.decode(self.forward(networks, batch)["normals"])
        if self.mirrors:
            other = self.codec.decode(self.forward(networks, {"image": mirrored(batch)})["normals"])
            normals = self.codec.decode(normals + self.codec.flip(other))
        return {"normals": normals}

    def blank(self, sample: Sample) -> NormalsPrediction:
        """Return a prediction without vectors yet."""
        return NormalsPrediction(image_of(sample), torch.empty(3, *image_of(sample).shape[-2:]))

    def paint(self, prediction: NormalsPrediction, place: Tile, maps: Tensor) -> None:
        """Bring each vector to length 1."""
        place.of(prediction.vectors).copy_(self.codec.decode(maps))

    def truth(self, sample: Sample) -> NormalsPrediction:
        """Return the normals as they are; NaN is unknown."""
        return NormalsPrediction(image_of(sample), _vectors(sample))

    def metrics(self) -> NormalsMetrics:
        """Angles pooled over all known pixels of all images."""
        return NormalsMetrics()

    def score(self, metrics: NormalsMetrics, prediction: NormalsPrediction, sample: Sample) -> None:
        """Measure the angles at the known pixels."""
        metrics.update(prediction.vectors, _vectors(sample))

    def baselines(self, train: Dataset) -> dict[str, Predictor]:
        """The mean direction; the mean direction at each position; the normals of the most similar image."""
        bank = Bank.of(train, "image", self.fields, lambda sample: on_grid(sample, "normals"))
        small = torch.stack(bank.summaries)
        mean = self.codec.decode(small.nanmean((0, 2, 3))[:, None, None])
        place = small.nanmean(0)
        place = self.codec.decode(torch.where(place.isfinite(), place, mean))

        def stretch(vectors: Tensor, size: Size) -> Tensor:
            return self.codec.decode(stretched_maps(vectors, size))

        def answer(sample: Sample, vectors: Tensor) -> NormalsPrediction:
            return NormalsPrediction(image_of(sample), vectors)

        constant = mean.expand(place.shape)
        return MapBaselines(bank, "normals", constant, place, place, stretch, answer).predictors()


def _vectors(sample: Sample) -> Tensor:
    field = sample["normals"]
    assert isinstance(field, Normals)
    return field.vectors


@recipe
def world_normals() -> Recipe:
    """Surface normals of the embedded world's streets, 64 x 64; the sky has none.

    Expect a mean angle of 26.1 degrees on 128 unseen scenes (mean at each position 32.2, nearest neighbour 37.7, mean direction
    50.8) after one minute of one CPU core with AMX. The nearest neighbour still has more pixels within 5 degrees (42 to 28 %):
    every scene has the same flat ground.
    """
    return Recipe(
        name="world_normals",
        task=Config(),
        data=world.Config(scenes=512),
        view=View(size=(64, 64)),
        augment=Augment(flip=0.5, brightness=0.2, contrast=0.2, saturation=0.2),
        network=unet.Config(width=16, depth=4),
        optimizer=Optimizer(kind="adamw", lr=2e-3),
        schedule=Schedule(kind="cosine", warmup_steps=20),
        steps=250,
        batch_size=16,
        evaluate_every=100,
    )


@recipe
def surface_normals() -> Recipe:
    """Your own folder of images with normals, or with depth and a camera: data.root=FOLDER; meta.json states axes and camera.

    A start, not a result: seen at 240 x 320, mirrored, zoomed and recoloured a little. Normals are fitted to depth where there
    is no folder of them. Set data.val_from=end where the images are frames of one video.
    """
    return red_kitchen_normals().model_copy(
        update={
            "name": "surface_normals",
            "data": depth_folder.Config(root="data/normals"),
            "view": View(size=(240, 320)),
            "steps": 2000,
        }
    )


@recipe
def hololens_normals() -> Recipe:
    """A walk through a flat with a HoloLens, normals fitted to 97 depth maps of 270 x 180 full of holes; seen at 180 x 120.

    The last fifth is val. Expect a mean of 14.5 and a median of 7.9 degrees on its 19 frames (mean at each position 36.0 and
    36.0, one direction 41.6, nearest neighbour 53.2) after two minutes of one busy CPU core with AMX.
    """
    data = depth_folder.Config(
        root="data/hololens",
        depth_unit=0.001,
        intrinsics=(247.7839, 247.741, 134.7514, 84.5971),
        val_fraction=0.2,
        val_from="end",
    )
    return red_kitchen_normals().model_copy(update={"name": "hololens_normals", "data": data, "view": View(size=(120, 180))})


@recipe
def red_kitchen_normals() -> Recipe:
    """7-Scenes red kitchen, normals fitted to the depth of 100 frames of 320 x 240, the last fifth is val; seen at 160 x 120.

    Expect a mean angle of 22.7 degrees, median 17.6, 62 % below 22.5 on the 20 frames of val (nearest neighbour 32.5, 24.1,
    47 %; mean at each position 38.1; mean direction 51.5) after two and a half minutes of one CPU core with AMX.
    """
    return Recipe(
        name="red_kitchen_normals",
        task=Config(),
        data=depth_folder.Config(
            root="data/red_kitchen", depth_unit=0.001, intrinsics=(292.5, 292.5, 160, 120), val_fraction=0.2, val_from="end"
        ),
        view=View(size=(120, 160)),
        augment=Augment(flip=0.5, scale=(1.0, 1.3), brightness=0.2, contrast=0.2, saturation=0.2),
        network=unet.Config(width=16, depth=4),
        optimizer=Optimizer(kind="adamw", lr=2e-3, weight_decay=0.01),
        schedule=Schedule(kind="cosine", warmup_steps=30),
        steps=300,
        batch_size=8,
        evaluate_every=100,
    )
