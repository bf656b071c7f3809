"""Boundaries of objects as people draw them (Martin et al. 2004; Xie and Tu 2015), and clean line drawings of photographs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from pixelwise.codecs.boundaries import BoundaryCodec
from pixelwise.data.augment import LUMA, Augment, View
from pixelwise.data.dataset import Dataset, Meta
from pixelwise.data.datasets import boundary_folder, world
from pixelwise.data.sample import Batch, Boundaries, LabelMap, Sample
from pixelwise.data.thumbnails import Bank, stretched
from pixelwise.errors import UsageError
from pixelwise.geometry.lines import steepness, thin
from pixelwise.geometry.tiles import Tile
from pixelwise.geometry.unknown import UNKNOWN
from pixelwise.metrics.boundary_detection import BoundaryDetectionMetrics, named_at
from pixelwise.nn.networks import hed
from pixelwise.predictions.boundaries import BoundaryPrediction, Pen
from pixelwise.recipe import Recipe, TaskConfig, recipe
from pixelwise.task import PixelTask, Predictor, image_of, mirrored, unit
from pixelwise.training import Optimizer, Schedule

BLUR = 0.0035
"""Deviation of the Gaussian before the gradient, as a fraction of the diagonal: 2 pixels for BSDS500."""


class Config(TaskConfig):
    """Settings of boundary detection."""

    answering: ClassVar[tuple[str, ...]] = ("flip_test", "tolerance", "thresholds", "answer", "low", "high", "length")
    kind: Literal["boundaries"] = "boundaries"
    sides: int = Field(default=0, ge=0, description="side outputs that are trained too: hed has depth + 1, pixel_difference 4")
    threshold: float = Field(
        default=0.3, gt=0, le=1, description="share of the annotators from which a pixel is a boundary; fewer have no loss"
    )
    flip_test: bool = Field(default=False, description="average the answer with that of the mirrored image")
    tolerance: float = Field(
        default=0.0075, gt=0, le=0.1, description="metrics: greatest distance of a match, as a fraction of the diagonal"
    )
    thresholds: int = Field(default=99, ge=1, description="metrics: at how many probabilities lines are compared")
    answer: Literal["lines", "map"] = Field(default="lines", description="what is drawn: clean lines, or the probabilities")
    low: float = Field(default=0.5, gt=0, le=1, description="lines: where one may go on")
    high: float = Field(default=0.8, gt=0, le=1, description="lines: what one has to reach somewhere")
    length: int = Field(default=12, ge=1, description="lines: fewest pixels of one")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self


class Task(PixelTask):
    """One sheet of logits per side output, the fused one last; what is controversial or unknown has no loss."""

    codec: BoundaryCodec
    fields = ("image", "boundaries")

    def __init__(self, config: Config, meta: Meta) -> None:
        super().__init__(config, meta)
        self.codec = BoundaryCodec(config.sides, config.threshold)
        self.primary = named_at("ods", config.tolerance, config.thresholds)
        self.mirrors = config.flip_test
        self.pen = Pen(config.low, config.high, config.length) if config.answer == "lines" else None

    def targets(self, batch: Batch) -> Batch:
        """Return the targets that follow from the annotators' share."""
        return self.codec.encode(batch["boundaries"]) if "boundaries" in batch else {}

    def forward(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Return `logits`, `(B, sides + 1, H, W)`."""
        return {"logits": networks["network"](batch["image"])}

    def loss(
        self, phase: str, networks: Mapping[str, nn.Module], batch: Batch, outputs: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Class-balanced cross-entropy of the fused output, and the sum of those of the sides."""
        return self.codec.losses(outputs["logits"].float(), batch)

    def respond(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Return `probabilities`, `(B, 1, H, W)` of the fused output, averaged with the mirrored image's if asked for."""
        found = self.codec.decode(self.forward(networks, batch)["logits"].float())
        if self.config.flip_test:
            other = self.forward(networks, {"image": mirrored(batch)})["logits"].float()
            found = (found + self.codec.decode(self.codec.flip(other))) / 2
        return {"probabilities": found[:, None]}

    @property
    def painted(self) -> int:
        """The fused output alone."""
        return 1

    def answers(self, outputs: Mapping[str, Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
        """Return the probabilities, `(B, 1, H, W)`."""
        (found,) = outputs.values()
        return {"probabilities": found}

    def units(self) -> dict[str, str]:
        """Probabilities."""
        return {"probabilities": "0 to 1"}

    def blank(self, sample: Sample) -> BoundaryPrediction:
        """Return a prediction without probabilities yet."""
        return BoundaryPrediction(image_of(sample), torch.empty(image_of(sample).shape[-2:]), self.pen)

    def paint(self, prediction: BoundaryPrediction, place: Tile, maps: Tensor) -> None:
        """Take the probabilities as they are."""
        place.of(prediction.probabilities).copy_(maps[0].clamp(0, 1))

    def truth(self, sample: Sample) -> BoundaryPrediction:
        """Return the share of the annotators, shown as it is."""
        return BoundaryPrediction(image_of(sample), _drawn(sample).mean(0), None)

    def metrics(self) -> BoundaryDetectionMetrics:
        """ODS, OIS, AP and R50 as the Berkeley benchmark."""
        return BoundaryDetectionMetrics(self.config.tolerance, self.config.thresholds)

    def score(self, metrics: BoundaryDetectionMetrics, prediction: BoundaryPrediction, sample: Sample) -> None:
        """Compare with every annotator's boundary, one pixel wide; what is a boundary in a grey map, training says too."""
        drawn = _drawn(sample)
        lines = [thin(one.numpy()) for one in drawn >= self.config.threshold]
        metrics.update(prediction.probabilities.nan_to_num(0).numpy(), lines, ~drawn.isnan().all(0).numpy())

    def baselines(self, train: Dataset) -> dict[str, Predictor]:
        """The mean share everywhere; how steep the image is; the boundaries of the most similar training image."""
        bank = Bank.of(train, "image", self.fields, lambda sample: _drawn(sample).nanmean())
        mean = float(torch.stack(bank.summaries).nanmean())

        def predicted(sample: Sample, values: Tensor) -> BoundaryPrediction:
            return BoundaryPrediction(image_of(sample), values, self.pen)

        def nearest(sample: Sample) -> BoundaryPrediction:
            other, size = bank.sample(bank.nearest(sample)[0])["boundaries"], sample["image"].frame.size
            moved = Sample("", {"boundaries": stretched(other, size)})
            return predicted(sample, _drawn(moved).mean(0).nan_to_num(0))

        return {
            "constant": lambda sample: predicted(sample, torch.full(sample["image"].frame.size, mean)),
            "gradient": lambda sample: predicted(sample, _gradient(image_of(sample))),
            "nearest_neighbour": nearest,
        }


def _drawn(sample: Sample) -> Tensor:
    """Return what each annotator drew, `(A, H, W)`, NaN where it is unknown; a label map of 0 and 1 is one annotator's."""
    field = sample["boundaries"]
    if isinstance(field, Boundaries):
        return field.drawn
    if not isinstance(field, LabelMap):
        raise UsageError("the field 'boundaries' holds neither boundaries nor a label map", "choose another data.kind")
    return torch.where(field.labels == UNKNOWN, torch.nan, field.labels.float())[None]


def _gradient(pixels: Tensor) -> Tensor:
    grey = np.tensordot(LUMA, unit(pixels).numpy(), 1)
    return torch.from_numpy(steepness(grey, max(1.0, BLUR * math.hypot(*grey.shape)))).float()


@recipe
def world_boundaries() -> Recipe:
    """Scenes of the embedded world, 64 x 64: where one object ends and another begins, to 1.8 pixels.

    Expect ODS 0.686 on 96 unseen scenes (steepness of the image 0.589, nearest neighbour 0.454) after 2 minutes of one core.
    """
    return Recipe(
        name="world_boundaries",
        task=Config(sides=4, tolerance=0.02, thresholds=33, length=6),
        data=world.Config(scenes=384),
        view=View(size=(64, 64)),
        augment=Augment(flip=0.5, scale=(0.9, 1.25), brightness=0.2, contrast=0.2, saturation=0.2),
        network=hed.Config(width=16, depth=3),
        optimizer=Optimizer(kind="adamw", lr=4e-3),
        schedule=Schedule(kind="cosine", warmup_steps=20),
        steps=300,
        batch_size=16,
        evaluate_every=100,
    )


@recipe
def boundaries() -> Recipe:
    """Your own folder of images and boundaries: data.root=FOLDER (white lines on black, or data.reading=bits).

    A start, not a result: native pixels, crops of 256 x 256 in training. Then `pixelwise predict RUN FOLDER` writes a clean
    line drawing of every photograph in FOLDER: the pairs for edges to photographs.
    """
    return bsds500().model_copy(
        update={"name": "boundaries", "data": boundary_folder.Config(root="data/boundaries"), "steps": 2000}
    )


@recipe
def bsds500() -> Recipe:
    """BSDS500 from scratch, train (200 images) to val (100); HED of 74,000 parameters on crops of 256 x 256.

    network.kind=pixel_difference task.sides=4 is the light network, 72,729 parameters: ODS 0.676, OIS 0.705 and AP 0.704 on
    16 of the pictures of val at 99 thresholds, after as many steps (steepness of the image 0.611, 0.636, 0.594).

    A short run: ODS 0.661, OIS 0.679 and AP 0.607 on val after 3 minutes on one busy core, at 24 thresholds, where the
    steepness of the image has 0.591, 0.622 and 0.581. Evaluation takes seconds for each image and core: for a quick look set
    task.thresholds=24; 99 is the protocol. The last step is measured twice: on up to 64 images to find the best state, then
    on all of them beside the baselines.
    """
    return Recipe(
        name="bsds500",
        task=Config(sides=4),
        data=boundary_folder.Config(root="data/bsds500", reading="bits"),
        view=View(size=(256, 256), fit="native"),
        augment=Augment(flip=0.5, rotate=10, scale=(0.7, 1.4), brightness=0.2, contrast=0.2, saturation=0.3),
        network=hed.Config(width=8, depth=3),
        optimizer=Optimizer(kind="adamw", lr=4e-3, weight_decay=0.01),
        schedule=Schedule(kind="cosine", warmup_steps=50),
        steps=400,
        batch_size=4,
        ema=0.99,
        evaluate_every=400,
    )
