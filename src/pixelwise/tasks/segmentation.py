"""Semantic segmentation: a class for every pixel, with background and unknown (Long et al. 2015, Ronneberger et al. 2015)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from pixelwise.codecs.label_map import LabelMapCodec
from pixelwise.color.palette import distinct_colours
from pixelwise.data.augment import Augment, View
from pixelwise.data.dataset import Dataset, Meta
from pixelwise.data.datasets import segmentation_folder, world
from pixelwise.data.sample import Batch, LabelMap, Sample
from pixelwise.data.thumbnails import Bank
from pixelwise.errors import DataError
from pixelwise.geometry.homography import resize
from pixelwise.geometry.tiles import Tile
from pixelwise.geometry.warp import warp_labels
from pixelwise.metrics.segmentation import SegmentationMetrics
from pixelwise.nn.network import NetworkConfig
from pixelwise.nn.networks import unet
from pixelwise.prediction import UNKNOWN
from pixelwise.predictions.labels import LabelPrediction
from pixelwise.recipe import Recipe, TaskConfig, recipe
from pixelwise.task import PixelTask, Predictor, full_resolution, image_of, unit
from pixelwise.training import Optimizer, Schedule

GRID = (32, 32)
MOST_CONFIDENT = 2**26
"""Pixels of the largest image whose answer says how sure it is; the map of confidence takes 4 bytes for each."""


class Config(TaskConfig):
    """Settings of segmentation."""

    kind: Literal["segmentation"] = "segmentation"
    class_weights: tuple[float, ...] = Field(default=(), description="weight of each class in the loss; none means 1")
    flip_test: bool = Field(default=False, description="average the answer with that of the mirrored image")


class Task(PixelTask):
    """One sheet of logits per class; unknown pixels have no loss, no gradient and no vote in the metrics."""

    codec: LabelMapCodec
    fields = ("image", "labels")
    primary = "miou_present"

    def __init__(self, config: Config, meta: Meta) -> None:
        super().__init__(config, meta)
        if not meta.classes:
            raise DataError("segmentation needs the names of the classes", 'put them into meta.json: {"classes": [...]}')
        self.codec = LabelMapCodec(len(meta.classes), class_weights=config.class_weights or None)
        self.mirrors = config.flip_test

    def networks(self, network: NetworkConfig) -> nn.ModuleDict:
        """Build the one network: RGB in, a sheet per class out."""
        return nn.ModuleDict({"network": full_resolution(network.build(3, self.codec.channels), network)})

    def encode(self, batch: Batch) -> Batch:
        """Bring the image to [0, 1]; turn labels into targets."""
        encoded = {"image": unit(batch["image"])}
        if "labels" in batch:
            encoded |= self.codec.encode(batch["labels"])
        return encoded

    def forward(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Return `logits`, `(B, classes, H, W)`."""
        return {"logits": networks["network"](batch["image"])}

    def loss(
        self, phase: str, networks: Mapping[str, nn.Module], batch: Batch, outputs: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Cross-entropy over the known pixels."""
        return {"cross_entropy": self.codec.loss(outputs["logits"].float(), batch)}

    def respond(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Return log-probabilities, averaged with the mirrored image's if asked for."""
        logits = self.forward(networks, batch)["logits"].float()
        if self.config.flip_test:
            mirrored = self.forward(networks, {"image": batch["image"].flip(-1)})["logits"].float()
            logits = torch.logaddexp(logits.log_softmax(1), self.codec.flip(mirrored).log_softmax(1))
        return {"logits": logits}

    def blank(self, sample: Sample) -> LabelPrediction:
        """Return a prediction without labels yet; the confidence of a huge image would be larger than all else."""
        size = image_of(sample).shape[-2:]
        confidence = torch.empty(size) if size.numel() <= MOST_CONFIDENT else None
        return self._prediction(sample, torch.empty(size, dtype=torch.uint8), confidence)

    def paint(self, prediction: LabelPrediction, place: Tile, maps: Tensor) -> None:
        """Take the best class of each pixel from its logits."""
        labels, probabilities = self.codec.decode(maps[None])
        place.of(prediction.labels).copy_(labels[0])
        if prediction.confidence is not None:
            place.of(prediction.confidence).copy_(probabilities[0].amax(0))

    def _prediction(self, sample: Sample, labels: Tensor, confidence: Tensor | None = None) -> LabelPrediction:
        palette = self.meta.palette or distinct_colours(len(self.meta.classes))
        return LabelPrediction(image_of(sample), labels, confidence, self.meta.classes, palette)

    def truth(self, sample: Sample) -> LabelPrediction:
        """Return the labels as they are; 255 is unknown."""
        return self._prediction(sample, _labels(sample))

    def metrics(self) -> SegmentationMetrics:
        """Confusion over all pixels of all images."""
        return SegmentationMetrics(self.meta.classes)

    def score(self, metrics: SegmentationMetrics, prediction: LabelPrediction, sample: Sample) -> None:
        """Count the known pixels."""
        metrics.update(prediction.labels, _labels(sample))

    def baselines(self, train: Dataset) -> dict[str, Predictor]:
        """The most frequent class; the most frequent class at each position; the labels of the most similar image."""
        bank = Bank.of(train, "image", self.fields, _on_grid)
        small = torch.stack(bank.summaries)
        votes = torch.stack([(small == c).sum(0) for c in range(len(self.meta.classes))])
        best = int(votes.sum((1, 2)).argmax())
        place = votes.argmax(0).to(torch.uint8)

        def stretched(labels: Tensor, sample: Sample) -> LabelPrediction:
            height, width = image_of(sample).shape[-2:]
            matrix = resize((labels.shape[0], labels.shape[1]), (height, width))
            return self._prediction(sample, warp_labels(labels, matrix, (height, width)))

        return {
            "constant": lambda sample: stretched(torch.full(GRID, best, dtype=torch.uint8), sample),
            "position": lambda sample: stretched(place, sample),
            "nearest_neighbour": lambda sample: stretched(_known(bank.sample(bank.nearest(sample)[0]), best), sample),
        }


def _labels(sample: Sample) -> Tensor:
    field = sample["labels"]
    assert isinstance(field, LabelMap)
    return field.labels


def _on_grid(sample: Sample) -> Tensor:
    return warp_labels(_labels(sample), resize(sample["labels"].frame.size, GRID), GRID)


def _known(sample: Sample, fallback: int) -> Tensor:
    labels = _labels(sample)
    return torch.where(labels == UNKNOWN, torch.tensor(fallback, dtype=labels.dtype), labels)


@recipe
def world_segmentation() -> Recipe:
    """Scenes of the embedded world, 64 x 64, 11 classes; part of the demo.

    Expect mIoU 0.41 on 128 unseen scenes (nearest neighbour 0.15, constant 0.02) after one minute on 2 cores with AMX.
    """
    return Recipe(
        name="world_segmentation",
        task=Config(),
        data=world.Config(scenes=512),
        view=View(size=(64, 64)),
        augment=Augment(flip=0.5, scale=(0.9, 1.25), brightness=0.2, contrast=0.2, saturation=0.2),
        network=unet.Config(width=24, depth=4),
        optimizer=Optimizer(kind="adamw", lr=2e-3),
        schedule=Schedule(kind="cosine", warmup_steps=20),
        steps=400,
        batch_size=16,
        evaluate_every=100,
    )


@recipe
def segmentation() -> Recipe:
    """Your own folder of images and labels: data.root=FOLDER, and data.classes=a,b,c where there is no meta.json.

    A start, not a result: seen at 256 x 256, mirrored, zoomed and recoloured a little. Change steps and view.size to your data.
    """
    return camvid().model_copy(
        update={
            "name": "segmentation",
            "data": segmentation_folder.Config(root="data/segmentation"),
            "view": View(size=(256, 256)),
            "augment": Augment(flip=0.5, scale=(0.9, 1.3), brightness=0.2, contrast=0.2, saturation=0.2),
        }
    )


@recipe
def camvid() -> Recipe:
    """CamVid street scenes, 11 classes, void ignored: seen at 240 x 180, measured at 480 x 360; train to val (101 images).

    Expect mIoU 0.433 and pixel accuracy 0.885 (labels of the most similar image 0.351 and 0.748) after 27 minutes on one busy
    CPU core with AMX. Poles, signs and people are too thin for this size and length. Val is easier than test: do not compare.
    """
    return Recipe(
        name="camvid",
        task=Config(),
        data=segmentation_folder.Config(root="data/camvid"),
        view=View(size=(180, 240)),
        augment=Augment(flip=0.5, scale=(0.8, 1.6), translate=0.1, brightness=0.2, contrast=0.2, saturation=0.2),
        network=unet.Config(width=24, depth=4),
        optimizer=Optimizer(kind="adamw", lr=2e-3, weight_decay=0.01),
        schedule=Schedule(kind="cosine", warmup_steps=50),
        steps=1000,
        batch_size=8,
        evaluate_every=250,
    )
