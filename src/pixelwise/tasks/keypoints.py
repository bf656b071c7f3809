"""Key points of one object, by belief maps or by regression of their coordinates (Tompson et al. 2014)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from PIL import Image as PillowImage
from pydantic import Field
from torch import Tensor, nn

from pixelwise.codecs.coordinates import CoordinatesCodec
from pixelwise.codecs.gaussian_heatmaps import GaussianHeatmapsCodec
from pixelwise.data.augment import Augment, View
from pixelwise.data.dataset import Dataset, Meta
from pixelwise.data.datasets import keypoints_json, world
from pixelwise.data.sample import Batch, Keypoints, Sample
from pixelwise.data.thumbnails import Bank, ridge, thumbnail
from pixelwise.errors import DataError, UsageError
from pixelwise.geometry.frame import Frame
from pixelwise.geometry.homography import transform_points
from pixelwise.geometry.presence import Presence
from pixelwise.metrics.keypoint_pictures import keypoint_pictures
from pixelwise.metrics.keypoints import KeypointMetrics, norms_of
from pixelwise.nn.network import NetworkConfig, stride_of
from pixelwise.nn.networks import regressor, unet
from pixelwise.predictions.keypoints import KeypointsPrediction
from pixelwise.recipe import Recipe, TaskConfig, recipe
from pixelwise.task import Predictor, image_of, unit
from pixelwise.task import Task as BaseTask
from pixelwise.training import Optimizer, Schedule

RIDGE_PENALTY = 10.0
NEIGHBOURS = 3


class Config(TaskConfig):
    """Settings of key points."""

    kind: Literal["keypoints"] = "keypoints"
    field: str = Field(default="keypoints", description="which field of the samples holds the points")
    target: Literal["heatmaps", "coordinates"] = Field(
        default="heatmaps", description="belief maps, or plain regression of (x, y)"
    )
    loss: Literal["l2", "cross_entropy", "l1", "smooth_l1"] = Field(
        default="cross_entropy", description="heatmaps: l2 or cross_entropy; coordinates: l2, l1 or smooth_l1"
    )
    sigma: float = Field(default=4.0, gt=0, description="width of the Gaussians, in pixels of the network's input")
    background: bool = Field(default=False, description="add the sheet that says: no key point here")
    norm: tuple[str, str] | None = Field(
        default=None, description="two points, by name or number, by whose distance errors are divided too"
    )
    flip_test: bool = Field(default=False, description="average the answer with that of the mirrored image")


class Task(BaseTask):
    """K sheets of belief (and a background sheet), or 2K numbers."""

    codec: CoordinatesCodec | GaussianHeatmapsCodec
    primary = "mean_error_px"
    minimised = True

    def __init__(self, config: Config, meta: Meta) -> None:
        super().__init__(config, meta)
        if not meta.skeleton.names:
            raise DataError("key points need names", 'give the names of the points in the JSON: {"names": [...]}')
        self.fields = ("image", config.field)
        self.points = len(meta.skeleton.names)
        self.norms = norms_of(meta.skeleton.names, config.norm)
        self.codec = self._coordinates() if config.target == "coordinates" else self._heatmaps(stride=1)

    def _coordinates(self) -> CoordinatesCodec:
        if self.config.loss == "cross_entropy":
            raise UsageError("task.loss = 'cross_entropy' is for heatmaps", "set task.loss=l2, l1 or smooth_l1")
        return CoordinatesCodec(self.points, swap=self.meta.skeleton.swap, loss=self.config.loss)

    def _heatmaps(self, stride: int) -> GaussianHeatmapsCodec:
        if self.config.loss not in ("l2", "cross_entropy"):
            raise UsageError(f"task.loss = {self.config.loss!r} is for coordinates", "set task.loss=l2 or cross_entropy")
        return GaussianHeatmapsCodec(
            self.points,
            swap=self.meta.skeleton.swap,
            sigma=self.config.sigma,
            sigma_unit="input",
            stride=stride,
            background=self.config.background,
            loss=self.config.loss,
        )

    def networks(self, network: NetworkConfig) -> nn.ModuleDict:
        """Build the one network: RGB in; K belief maps, or 2K numbers out."""
        vector = isinstance(network, regressor.Config)
        if vector != (self.config.target == "coordinates"):
            wanted = "regressor" if not vector else "unet"
            raise UsageError(
                f"task.target = {self.config.target!r} does not go with network.kind = {network.kind!r}",
                f"set network.kind={wanted}",
            )
        built = network.build(3, self.codec.channels)
        if not vector:
            self.codec = self._heatmaps(stride_of(built, network))
        return nn.ModuleDict({"network": built})

    def encode(self, batch: Batch) -> Batch:
        """Bring the image to [0, 1]; turn points into targets."""
        encoded = {"image": unit(batch["image"])}
        if self.config.field in batch:
            points, presence = batch[self.config.field], batch[f"{self.config.field}.presence"]
            self._one(points.shape[1])
            height, width = batch["image"].shape[-2:]
            encoded |= self.codec.encode(points, presence, (height, width))
        return encoded

    def forward(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Return `beliefs`: `(B, K or K + 1, H, W)` maps, or `(B, 2K, 1, 1)` numbers."""
        return {"beliefs": networks["network"](batch["image"])}

    def loss(
        self, phase: str, networks: Mapping[str, nn.Module], batch: Batch, outputs: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """The codec's loss over the labelled points."""
        return {self.config.loss: self.codec.loss(outputs["beliefs"].float(), batch)}

    def respond(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Return beliefs, averaged with the mirrored image's if asked for."""
        beliefs = self.forward(networks, batch)["beliefs"].float()
        if self.config.flip_test:
            mirrored = self.forward(networks, {"image": batch["image"].flip(-1)})["beliefs"].float()
            beliefs = (beliefs + self.codec.flip(mirrored)) / 2
        return {"beliefs": beliefs}

    def decode(
        self, outputs: dict[str, Tensor], samples: Sequence[Sample], frames: Sequence[Frame]
    ) -> list[KeypointsPrediction]:
        """Find the points in the network's pixels, then move them to each image's own."""
        points, confidence = self.answers({"beliefs": outputs["beliefs"].cpu()}, frames[0].size).values()
        return [
            self._prediction(sample, transform_points(frame.inverse, own), sure)
            for own, sure, sample, frame in zip(points, confidence, samples, frames, strict=True)
        ]

    def _prediction(self, sample: Sample, points: Tensor, confidence: Tensor | None = None) -> KeypointsPrediction:
        """Wrap one object's points `(K, 2)`."""
        sure = torch.ones(len(points)) if confidence is None else confidence
        return KeypointsPrediction(image_of(sample), points[None], sure[None], self.meta.skeleton)

    def truth(self, sample: Sample) -> KeypointsPrediction:
        """Return the labelled points; NaN where none is present."""
        points, presence = self._first(sample)
        return self._prediction(sample, points.masked_fill((presence < Presence.HIDDEN)[:, None], torch.nan))

    def _first(self, sample: Sample) -> tuple[Tensor, Tensor]:
        field = sample[self.config.field]
        assert isinstance(field, Keypoints)
        self._one(len(field.points))
        return field.points[0], field.presence[0]

    def _one(self, count: int) -> None:
        if count != 1:
            what = f"{count} objects in the field {self.config.field!r} of one image; this task finds the points of one"
            raise DataError(what, "crop the images around one object each, or name another field with task.field")

    def metrics(self) -> KeypointMetrics:
        """Distances in the image's own pixels."""
        return KeypointMetrics(self.norms, names=self.meta.skeleton.names)

    def score(self, metrics: KeypointMetrics, prediction: KeypointsPrediction, sample: Sample) -> None:
        """Measure the labelled points."""
        points, presence = self._first(sample)
        metrics.update(prediction.points, points[None], presence[None], prediction.confidence)

    def pictures(self, metrics: KeypointMetrics) -> dict[str, PillowImage.Image]:
        """Draw how the errors are distributed, and what the confidence is worth."""
        return keypoint_pictures(metrics)

    def baselines(self, train: Dataset) -> dict[str, Predictor]:
        """The mean shape; the mean of the 3 most similar images; ridge regression from a 24 x 32 grey thumbnail."""
        bank = Bank.of(train, "image", self.fields, self._relative)
        truths = torch.stack(bank.summaries)
        mean = truths.nanmean(0).nan_to_num(0.5)
        filled = torch.where(truths.isnan(), mean, truths)
        weight = ridge(bank.features, filled.flatten(1), RIDGE_PENALTY)

        def stretched(relative: Tensor, sample: Sample) -> KeypointsPrediction:
            height, width = image_of(sample).shape[-2:]
            return self._prediction(sample, relative.float() * torch.tensor([width, height]))

        def linear(sample: Sample) -> KeypointsPrediction:
            features = torch.cat([thumbnail(sample, "image"), torch.ones(1)]).double()
            return stretched((features @ weight).view(-1, 2), sample)

        return {
            "constant": lambda sample: stretched(mean, sample),
            "nearest_neighbours_3": lambda sample: stretched(filled[bank.nearest(sample, 3)].mean(0), sample),
            "ridge": linear,
        }

    def _relative(self, sample: Sample) -> Tensor:
        """Return the present points relative to the image's size, NaN elsewhere."""
        height, width = image_of(sample).shape[-2:]
        return self.truth(sample).points[0] / torch.tensor([width, height])


@recipe
def world_keypoints() -> Recipe:
    """The nearest person of each scene of the embedded world, 14 points at 64 x 64, belief maps; part of the demo.

    Expect a mean error of 3.6 px, median 1.9 px, on 256 unseen scenes (ridge 12.3, mean shape 13.1) after one minute on
    2 cores with AMX.
    """
    return Recipe(
        name="world_keypoints",
        task=Config(field="person", sigma=2.0),
        data=world.Config(scenes=1024, people=(1, 1)),
        view=View(size=(64, 64)),
        augment=Augment(flip=0.5, rotate=10, scale=(0.9, 1.2), translate=0.05, brightness=0.2, contrast=0.2),
        network=unet.Config(width=24, depth=4, output_stride=2),
        optimizer=Optimizer(kind="adamw", lr=2e-3),
        schedule=Schedule(kind="cosine", warmup_steps=20),
        steps=500,
        batch_size=16,
        evaluate_every=100,
    )


@recipe
def keypoints() -> Recipe:
    """Your own key points, one object per image: data.root=FOLDER, and data.kind=keypoints_csv or another format.

    A start, not a result: seen at 192 x 192, turned, zoomed and moved a little. Left and right swap in a mirror by their names.
    """
    return imm_faces().model_copy(
        update={
            "name": "keypoints",
            "data": keypoints_json.Config(root="data/keypoints"),
            "view": View(size=(192, 192), fit="letterbox"),
            "task": Config(sigma=4.0),
        }
    )


@recipe
def imm_faces() -> Recipe:
    """58 points on the IMM faces by belief maps; persons 1-28 train, 29-32 validate (24 images).

    Expect a mean error of 2.7 px at 320 x 240 (median 2.1; mean shape 18.5, 3 neighbours 13.3, ridge 11.8) after 19 minutes
    on one busy CPU core with AMX.
    """
    return Recipe(
        name="imm_faces",
        task=Config(sigma=3.0, loss="cross_entropy"),
        data=keypoints_json.Config(root="data/imm_faces", layout="imm58", group="person", val_groups=(29, 30, 31, 32)),
        view=View(size=(144, 192)),
        augment=Augment(flip=0.5, rotate=15, scale=(0.85, 1.15), translate=0.1, brightness=0.3, contrast=0.3, saturation=0.5),
        network=unet.Config(width=24, depth=5, output_stride=2),
        optimizer=Optimizer(kind="adamw", lr=2e-3),
        schedule=Schedule(kind="cosine", warmup_steps=50),
        steps=1200,
        batch_size=8,
        evaluate_every=200,
    )


@recipe
def imm_faces_coordinates() -> Recipe:
    """The same faces by plain L2 regression of 116 coordinates, as the lecture warns against: compare with `imm_faces`.

    Expect a mean error of 4.8 px (median 4.3) after 27 minutes on one busy CPU core: 1.8 times that of the belief maps,
    which need 18. After 4000 of the 8000 steps it is 7.0 px, where the belief maps have 3.1 px after 400.
    """
    base = imm_faces()
    return base.model_copy(
        update={
            "name": "imm_faces_coordinates",
            "task": Config(target="coordinates", loss="l2"),
            "view": View(size=(96, 128)),
            "network": regressor.Config(),
            "optimizer": Optimizer(kind="adam", lr=1e-3),
            "steps": 8000,
            "batch_size": 16,
            "evaluate_every": 1000,
        }
    )
