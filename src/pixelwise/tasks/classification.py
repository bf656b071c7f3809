"""One answer for the whole picture: a category, which of several labels apply, or a value (LeCun et al. 1998).

Is this a cat? What is in it? At what distance was it taken? The dense counterpart, which pixels are a cat, is in `score_maps`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from PIL import Image as PillowImage
from pydantic import Field
from torch import Tensor, nn

from pixelwise.codecs.vectors import CategoryCodec, LabelSetCodec, ValueCodec, VectorCodec
from pixelwise.color.tables import counts_picture
from pixelwise.data.augment import Augment, View
from pixelwise.data.dataset import Dataset, Meta
from pixelwise.data.datasets import class_folder, world
from pixelwise.data.sample import Batch, Category, Sample, Values
from pixelwise.data.thumbnails import Bank, ridge, thumbnail
from pixelwise.errors import DataError, UsageError
from pixelwise.geometry.frame import Frame
from pixelwise.metrics.classification import CategoryMetrics, LabelSetMetrics, ValueMetrics
from pixelwise.nn.network import NetworkConfig, stride_of
from pixelwise.nn.networks import classifier
from pixelwise.predictions.vectors import CategoryPrediction, LabelSetPrediction, ValuePrediction, VectorPrediction
from pixelwise.recipe import Recipe, TaskConfig, recipe
from pixelwise.task import Predictor, image_of, unit
from pixelwise.task import Task as BaseTask
from pixelwise.training import Optimizer, Schedule

RIDGE_PENALTY = 10.0
NEIGHBOURS = 5
VectorMetrics = CategoryMetrics | LabelSetMetrics | ValueMetrics


class Config(TaskConfig):
    """Settings of classification."""

    answering: ClassVar[tuple[str, ...]] = ("flip_test",)
    kind: Literal["classification"] = "classification"
    target: Literal["category", "labels", "value"] = Field(
        default="category", description="one of several classes, which of several labels apply, or a number"
    )
    field: str = Field(default="", description="which field of the samples holds it; none: the one called like the target")
    class_weights: tuple[float, ...] = Field(default=(), description="weight of each class or label in the loss; none means 1")
    loss: Literal["smooth_l1", "l2"] = Field(default="smooth_l1", description="of a value, in standard deviations")
    unit: str = Field(default="", description="of a value")
    flip_test: bool = Field(default=False, description="average the scores with those of the mirrored image")


class Task(BaseTask):
    """A vector of scores; what is unknown has no loss, no gradient and no vote in the metrics."""

    codec: VectorCodec

    def __init__(self, config: Config, meta: Meta) -> None:
        super().__init__(config, meta)
        self.field = config.field or config.target
        self.fields = ("image", self.field)
        if self.field not in meta.vectors:
            what = f"of a whole picture the data does not tell {self.field!r}, but {', '.join(meta.vectors) or 'nothing'}"
            raise DataError(what, "choose with task.target or task.field")
        self.vector = meta.vectors[self.field]
        if self.vector.kind != config.target:
            what = f"task.target = {config.target!r}, but what the data tells as {self.field!r} is: {self.vector.kind}"
            raise UsageError(what, f"set task.target={self.vector.kind}")
        if config.target == "value":
            if config.class_weights:
                raise UsageError("task.class_weights are for classes and labels, not for a value")
            self.codec = ValueCodec(self.vector.mean, self.vector.deviation, config.loss)
            self.primary, self.minimised = "mean_absolute_error", True
        else:
            made = CategoryCodec if config.target == "category" else LabelSetCodec
            self.codec = made(len(self.vector.names), config.class_weights)
            self.primary = "accuracy" if config.target == "category" else "average_precision_macro"

    def networks(self, network: NetworkConfig) -> nn.ModuleDict:
        """Build the one network: RGB in, a vector of scores out.

        Raises:
            UsageError: The network answers with maps.
        """
        built = network.build(3, self.codec.channels)
        if stride_of(built, network) != 0:
            raise UsageError(f"network.kind = {network.kind!r} answers with maps", "set network.kind=classifier")
        return nn.ModuleDict({"network": built})

    def encode(self, batch: Batch) -> Batch:
        """Bring the image to [0, 1]; turn the truth into targets."""
        encoded = {"image": unit(batch["image"])}
        if self.field in batch:
            encoded |= self.codec.encode(batch[self.field])
        return encoded

    def forward(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Return `scores`, `(B, N, 1, 1)`."""
        return {"scores": networks["network"](batch["image"])}

    def loss(
        self, phase: str, networks: Mapping[str, nn.Module], batch: Batch, outputs: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """The codec's loss over what is known."""
        names = {"category": "cross_entropy", "labels": "binary_cross_entropy", "value": self.config.loss}
        return {names[self.config.target]: self.codec.loss(outputs["scores"].float(), batch)}

    def respond(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Return scores, averaged with the mirrored image's if asked for."""
        scores = self.forward(networks, batch)["scores"].float()
        if self.config.flip_test:
            mirrored = self.forward(networks, {"image": batch["image"].flip(-1)})["scores"].float()
            scores = (scores + self.codec.flip(mirrored)) / 2
        return {"scores": scores}

    def decode(self, outputs: dict[str, Tensor], samples: Sequence[Sample], frames: Sequence[Frame]) -> list[VectorPrediction]:
        """Turn scores into probabilities or the value; they are of the picture, wherever its pixels went."""
        (decoded,) = self.answers({"scores": outputs["scores"].cpu()}, frames[0].size).values()
        return [self._prediction(sample, numbers) for sample, numbers in zip(samples, decoded, strict=True)]

    def units(self) -> dict[str, str]:
        """A value has the unit of the settings."""
        return {"value": self.config.unit} if self.config.target == "value" else super().units()

    def _prediction(self, sample: Sample, numbers: Tensor) -> VectorPrediction:
        """Wrap the probabilities (N,) or the value (1,)."""
        names, image = self.vector.names, image_of(sample)
        if self.config.target == "value":
            return ValuePrediction(image, numbers, names, self.config.unit)
        return (CategoryPrediction if self.config.target == "category" else LabelSetPrediction)(image, numbers, names)

    def truth(self, sample: Sample) -> VectorPrediction:
        """Return the truth; a category has probability 1."""
        return self._prediction(sample, self._numbers(sample))

    def _numbers(self, sample: Sample) -> Tensor:
        """Return the truth (N,): 1 for the category and 0 for the others, labels, or the value; NaN where unknown."""
        field = sample[self.field]
        if isinstance(field, Values):
            return field.values
        assert isinstance(field, Category)
        known = torch.arange(len(self.vector.names)) == field.index
        return known.float() if field.index >= 0 else known.float().fill_(torch.nan)

    def metrics(self) -> VectorMetrics:
        """Accuracy and confusion, average precision, or errors in the value's unit."""
        if self.config.target == "value":
            return ValueMetrics()
        return (CategoryMetrics if self.config.target == "category" else LabelSetMetrics)(self.vector.names)

    def score(self, metrics: VectorMetrics, prediction: VectorPrediction, sample: Sample) -> None:
        """Compare with the truth."""
        metrics.update(prediction.numbers, self._numbers(sample))

    def pictures(self, metrics: VectorMetrics) -> dict[str, PillowImage.Image]:
        """Draw which category is taken for which."""
        if not isinstance(metrics, CategoryMetrics):
            return {}
        caption = "which category (row) is called what (column): share of its pictures, dark for none and bright for all"
        return {caption: counts_picture(metrics.matrix, metrics.classes)}

    def baselines(self, train: Dataset) -> dict[str, Predictor]:
        """The most frequent answer; the mean of the 5 most similar pictures; ridge regression from a 24 x 32 grey thumbnail."""
        bank = Bank.of(train, "image", self.fields, self._numbers)
        truths = torch.stack(bank.summaries)
        constant = (truths.nanquantile(0.5, 0) if self.config.target == "value" else truths.nanmean(0)).nan_to_num()
        filled = torch.where(truths.isnan(), constant, truths)
        weight = ridge(bank.features, filled, RIDGE_PENALTY)

        def linear(sample: Sample) -> VectorPrediction:
            features = torch.cat([thumbnail(sample, "image"), torch.ones(1)]).double()
            return self._prediction(sample, (features @ weight).float())

        return {
            "constant": lambda sample: self._prediction(sample, constant),
            "nearest_neighbours_5": lambda sample: self._prediction(sample, filled[bank.nearest(sample, NEIGHBOURS)].mean(0)),
            "ridge": linear,
        }


@recipe
def world_classification() -> Recipe:
    """How many people does a scene of the embedded world show: nobody, one, or several? 64 x 64.

    Expect an accuracy of 0.71 on 512 unseen scenes (most frequent answer 0.54, ridge 0.51) after 1.7 minutes of one core with
    AMX. The network has no padding, so the score maps of `predict --maps` are exactly those of the classifier slid over it.
    """
    return Recipe(
        name="world_classification",
        task=Config(field="crowd"),
        data=world.Config(scenes=2048),
        view=View(size=(64, 64)),
        augment=Augment(flip=0.5, brightness=0.2, contrast=0.2, saturation=0.2),
        network=classifier.Config(padding="none"),
        optimizer=Optimizer(kind="adamw", lr=2e-3, weight_decay=0.01),
        schedule=Schedule(kind="cosine", warmup_steps=20),
        steps=1200,
        batch_size=32,
        evaluate_every=300,
    )


@recipe
def world_labels() -> Recipe:
    """Which of seven things does a scene of the embedded world show? 64 x 64, several labels.

    Expect a mean average precision of 0.86 on 512 unseen scenes (ridge 0.79, the share of each label 0.77) after 1.6 minutes of
    one core with AMX.
    """
    return world_classification().model_copy(update={"name": "world_labels", "task": Config(target="labels", field="shows")})


@recipe
def world_distance() -> Recipe:
    """How far is the nearest person of a scene of the embedded world, in metres? 64 x 64, a value.

    Expect a mean absolute error of 0.51 m on 512 unseen scenes (ridge and the median 0.61) after 1.7 minutes of one core with
    AMX. People are between 1.45 and 1.95 m tall and the focal length varies, so nobody could know exactly.
    """
    return world_classification().model_copy(
        update={
            "name": "world_distance",
            "task": Config(target="value", field="distance", unit="m"),
            "data": world.Config(scenes=2048, people=(1, 1)),
        }
    )


@recipe
def classification() -> Recipe:
    """Your own folder per class: data.root=FOLDER; or a table: data.kind=classification_csv, task.target=labels or value.

    A start, not a result: seen whole at 128 x 128, mirrored, turned, zoomed and recoloured a little, by a small network from
    scratch. Few pictures call for pretrained weights: network.encoder=resnet18 network.pretrained=true view.size=224,224.
    """
    return hymenoptera().model_copy(
        update={
            "name": "classification",
            "data": class_folder.Config(root="data/classification"),
            "view": View(size=(128, 128)),
        }
    )


@recipe
def hymenoptera() -> Recipe:
    """Ants and bees, 244 pictures of which a fifth is held out, 96 x 96, from scratch.

    Expect an accuracy of 0.73 on the 49 held out (constant 0.51, ridge 0.47, 5 neighbours 0.45) after 6 minutes of one core
    with AMX; the standard error of 49 pictures is 0.06. So few call for pretrained weights.
    """
    return Recipe(
        name="hymenoptera",
        task=Config(),
        data=class_folder.Config(root="data/hymenoptera", val_fraction=0.2),
        view=View(size=(96, 96)),
        augment=Augment(
            flip=0.5, rotate=15, scale=(0.9, 1.4), translate=0.1, brightness=0.3, contrast=0.3, saturation=0.3, hue=0.03
        ),
        network=classifier.Config(channels=(24, 48, 96, 192, 256), dropout=0.3),
        optimizer=Optimizer(kind="adamw", lr=1e-3, weight_decay=0.05),
        schedule=Schedule(kind="cosine", warmup_steps=50),
        steps=1000,
        batch_size=32,
        evaluate_every=200,
    )
