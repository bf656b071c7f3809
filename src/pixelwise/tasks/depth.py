"""Depth from one picture: metres, or depth up to a factor, at every pixel (Eigen et al. 2014, Laina et al. 2016)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from pixelwise.codecs.depth import DepthCodec, Kind
from pixelwise.data.augment import Augment, View
from pixelwise.data.dataset import Dataset, Meta
from pixelwise.data.datasets import depth_folder, world
from pixelwise.data.sample import Batch, Depth, Sample
from pixelwise.data.thumbnails import Bank, MapBaselines, on_grid, stretched_maps
from pixelwise.errors import DataError
from pixelwise.geometry.homography import Size
from pixelwise.geometry.tiles import Tile
from pixelwise.losses.depth import berhu_loss, gradient_matching_loss, scale_invariant_log_loss
from pixelwise.losses.weights import LossWeights, Weight
from pixelwise.metrics.depth import DepthMetrics, Protocol
from pixelwise.nn.networks import unet
from pixelwise.predictions.depth import DepthPrediction
from pixelwise.recipe import Recipe, TaskConfig, recipe
from pixelwise.task import PixelTask, Predictor, image_of, mirrored
from pixelwise.training import Optimizer, Schedule

SURVEYED = 64
"""Training samples, evenly spaced, that say how many readings lie beyond the range; more only while none lies within."""


class Loss(LossWeights):
    """Weights of the terms; a term of weight 0 is not computed."""

    parameters: ClassVar[frozenset[str]] = frozenset({"scale_invariant_lambda"})
    l1: Weight = Field(default=1.0, description="weight of |difference| in the codec's unit (its range is 1)")
    berhu: Weight = Field(default=0.0, description="weight of the reverse Huber loss, same unit (Laina et al. 2016)")
    scale_invariant: Weight = Field(default=0.0, description="weight of the scale-invariant loss of ln metres (Eigen et al.)")
    scale_invariant_lambda: float = Field(
        default=0.5, ge=0, le=1, description="its lambda: 0 forgives no factor, 1 forgives any"
    )
    gradient: Weight = Field(default=0.0, description="weight of matching gradients at 4 scales, codec's unit (MegaDepth)")


class Config(TaskConfig):
    """Settings of depth."""

    answering: ClassVar[tuple[str, ...]] = ("protocol", "flip_test")
    kind: Literal["depth"] = "depth"
    codec: Kind = Field(default="log", description="what the network says: metres, their logarithm, or their inverse")
    range: tuple[float, float] = Field(default=(0.1, 10.0), description="nearest and farthest metres that it can say")
    loss: Loss = Loss()
    protocol: Protocol = Protocol()
    flip_test: bool = Field(default=False, description="average the answer with that of the mirrored image")

    def settled(self, train: Dataset) -> Self:
        """Return these settings; the data's notes say it where more than 1 % of the readings lie beyond the range.

        Raises:
            DataError: No reading of the whole training data lies within the range.
        """
        low, high = self.range
        count = inside = 0
        nearest, farthest = math.inf, 0.0
        every = -(-len(train) // SURVEYED)
        for i in sorted(range(len(train)), key=lambda i: i % every):
            if inside and i % every:
                break
            metres = _metres(train.sample(i, ("depth",)))
            readings = metres[metres.isfinite()]
            if len(readings):
                nearest, farthest = min(nearest, readings.min().item()), max(farthest, readings.max().item())
                count, inside = count + len(readings), inside + int(((readings >= low) & (readings <= high)).sum())
        seen = f"they lie between {nearest:.3g} and {farthest:.3g} m"
        if not inside:
            what = f"no reading of all {len(train)} training samples lies within task.range = {low:g},{high:g}"
            raise DataError(f"{what}: there is nothing to learn from", f"{seen}: set task.range" if count else "none is known")
        if inside < 0.99 * count:
            what = f"{1 - inside / count:.1%} of the readings lie beyond task.range = {low:g},{high:g} and are not learned"
            train.notes.append(f"{what}: {seen}")
        return self


class Task(PixelTask):
    """One sheet; pixels without a reading, or with one beyond the range, have no loss and no gradient."""

    codec: DepthCodec
    fields = ("image", "depth")
    minimised = True

    def __init__(self, config: Config, meta: Meta) -> None:
        super().__init__(config, meta)
        self.codec = DepthCodec(config.codec, config.range)
        self.mirrors = config.flip_test
        self.primary = config.protocol.name("abs_rel")

    def targets(self, batch: Batch) -> Batch:
        """Return the depth as the codec's sheet, NaN where there is nothing to learn."""
        return {"depth": self.codec.encode(batch["depth"])} if "depth" in batch else {}

    def forward(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Return `depth`, `(B, 1, H, W)` in the codec's unit."""
        return {"depth": networks["network"](batch["image"])}

    def loss(
        self, phase: str, networks: Mapping[str, nn.Module], batch: Batch, outputs: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """The weighted terms that the settings name."""
        output, target, weights = outputs["depth"].float(), batch["depth"], self.config.loss
        valid = target.isfinite()

        def scale_invariant() -> Tensor:
            said, true = self.codec.logarithm(output), self.codec.logarithm(target)
            return scale_invariant_log_loss(said, true, valid, share=weights.scale_invariant_lambda)

        terms = {
            "l1": lambda: self.codec.loss(output, target),
            "berhu": lambda: berhu_loss(output, target, valid),
            "scale_invariant": scale_invariant,
            "gradient": lambda: gradient_matching_loss(output, target, valid),
        }
        weighted: dict[str, Tensor] = weights.weighted(terms)
        return weighted

    def respond(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Return the sheet, averaged with the mirrored image's if asked for."""
        depth = self.forward(networks, batch)["depth"].float()
        if self.mirrors:
            other = self.forward(networks, {"image": mirrored(batch)})["depth"].float()
            depth = (depth + self.codec.flip(other)) / 2
        return {"depth": depth}

    def blank(self, sample: Sample) -> DepthPrediction:
        """Return a prediction without metres yet."""
        return self._prediction(sample, torch.empty(image_of(sample).shape[-2:]))

    def paint(self, prediction: DepthPrediction, place: Tile, maps: Tensor) -> None:
        """Turn the sheet into metres."""
        place.of(prediction.metres).copy_(self.codec.decode(maps))

    def _prediction(self, sample: Sample, metres: Tensor) -> DepthPrediction:
        image, camera = image_of(sample), self.meta.camera
        intrinsics = camera.of((image.shape[-2], image.shape[-1])) if camera else None
        return DepthPrediction(image, metres, self.config.range, intrinsics)

    def truth(self, sample: Sample) -> DepthPrediction:
        """Return the readings; NaN where there is none."""
        return self._prediction(sample, _metres(sample))

    def metrics(self) -> DepthMetrics:
        """The usual ones, by the protocol of the settings."""
        return DepthMetrics(self.config.protocol)

    def score(self, metrics: DepthMetrics, prediction: DepthPrediction, sample: Sample) -> None:
        """Compare the pixels that have a reading."""
        metrics.update(prediction.metres, _metres(sample))

    def baselines(self, train: Dataset) -> dict[str, Predictor]:
        """The median depth; the (geometric) mean depth at each position; the depth of the most similar image."""
        bank = Bank.of(train, "image", self.fields, lambda sample: on_grid(sample, "depth"))
        small = torch.stack(bank.summaries)
        median = small.nanmedian().nan_to_num(self.config.range[0])
        place = small.log().nanmean(0).exp()
        place = torch.where(place.isfinite(), place, median)

        def stretch(metres: Tensor, size: Size) -> Tensor:
            return stretched_maps(metres[None], size)[0]

        constant = median.expand(place.shape)
        return MapBaselines(bank, "depth", constant, place, place, stretch, self._prediction).predictors()


def _metres(sample: Sample) -> Tensor:
    field = sample["depth"]
    assert isinstance(field, Depth)
    return field.metres


@recipe
def world_depth() -> Recipe:
    """Metres of the embedded world's streets, 64 x 64, 1.5 to 80 m; the sky has no depth.

    Expect AbsRel 0.381 and delta1 0.47 on 128 unseen scenes (mean at each position 0.471 and 0.41, nearest neighbour 0.592,
    median 0.641) after one minute of one CPU core with AMX.
    """
    return Recipe(
        name="world_depth",
        task=Config(range=(1.5, 80.0), loss=Loss(l1=1.0, gradient=0.5)),
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
def depth() -> Recipe:
    """Your own folder of images and depth (16-bit PNG or .npy): data.root=FOLDER; meta.json states unit and camera.

    A start, not a result: seen at 240 x 320, mirrored and recoloured a little. Set task.range to the metres of your scenes,
    task.codec=inverse where near things matter most, and data.val_from=end where the images are frames of one video.
    """
    return red_kitchen_depth().model_copy(
        update={
            "name": "depth",
            "task": Config(loss=Loss(l1=1.0, gradient=0.5)),
            "data": depth_folder.Config(root="data/depth"),
            "view": View(size=(240, 320)),
            "steps": 2000,
        }
    )


@recipe
def red_kitchen_depth() -> Recipe:
    """7-Scenes red kitchen, 100 frames of 320 x 240, the last fifth of the walk is val; seen at 160 x 120.

    Expect AbsRel 0.141, RMSE 0.262 m and delta1 0.81 per image on the 20 frames of val (nearest neighbour 0.233, 0.463, 0.61;
    mean at each position 0.258; median 0.322) after two minutes of one CPU core with AMX. From 80 frames it learns this room.
    """
    return Recipe(
        name="red_kitchen_depth",
        task=Config(range=(0.5, 4.0), loss=Loss(l1=1.0, gradient=0.5)),
        data=depth_folder.Config(
            root="data/red_kitchen", depth_unit=0.001, intrinsics=(292.5, 292.5, 160, 120), val_fraction=0.2, val_from="end"
        ),
        view=View(size=(120, 160)),
        augment=Augment(flip=0.5, brightness=0.2, contrast=0.2, saturation=0.2),
        network=unet.Config(width=16, depth=4),
        optimizer=Optimizer(kind="adamw", lr=2e-3, weight_decay=0.01),
        schedule=Schedule(kind="cosine", warmup_steps=30),
        steps=300,
        batch_size=8,
        evaluate_every=100,
    )


@recipe
def hololens_depth() -> Recipe:
    """A walk through a flat with a HoloLens, 97 frames of 270 x 180 full of holes, the last fifth is val; seen at 180 x 120.

    Expect AbsRel 0.222, RMSE 0.90 m and delta1 0.56 per image on the 19 frames of val (mean at each position 0.276, 1.08, 0.40;
    median 0.277; nearest neighbour 0.351) after two and a half minutes of one busy CPU core with AMX.
    """
    base = red_kitchen_depth()
    return base.model_copy(
        update={
            "name": "hololens_depth",
            "task": Config(range=(0.5, 8.0), loss=Loss(l1=1.0, gradient=0.5)),
            "data": depth_folder.Config(
                root="data/hololens",
                depth_unit=0.001,
                intrinsics=(247.7839, 247.741, 134.7514, 84.5971),
                val_fraction=0.2,
                val_from="end",
            ),
            "view": View(size=(120, 180)),
        }
    )
