"""Semantic segmentation: what is at every pixel (Long et al. 2015, Ronneberger et al. 2015).

One of several classes, a class or the background, or any of several things that may overlap; each may be unknown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

import torch
from PIL import Image as PillowImage
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.codecs.label_map import Kind, LabelMapCodec, median_frequency_weights
from pixelwise.codecs.masks import MasksCodec
from pixelwise.color.palette import distinct_colours
from pixelwise.color.tables import counts_picture
from pixelwise.data.augment import Augment, View
from pixelwise.data.dataset import Dataset, Meta
from pixelwise.data.datasets import masks_folder, segmentation_folder, world
from pixelwise.data.sample import Batch, LabelMap, Masks, Sample
from pixelwise.data.thumbnails import Bank, MapBaselines, on_grid
from pixelwise.errors import DataError, UsageError
from pixelwise.geometry.homography import Size, resize
from pixelwise.geometry.tiles import Tile
from pixelwise.geometry.unknown import UNKNOWN
from pixelwise.geometry.warp import warp_labels
from pixelwise.losses.weights import LossWeights, Weight
from pixelwise.metrics.masks import MaskMetrics
from pixelwise.metrics.segmentation import SegmentationMetrics
from pixelwise.nn.networks import unet
from pixelwise.predictions.labels import LabelPrediction
from pixelwise.predictions.masks import MasksPrediction
from pixelwise.recipe import Recipe, TaskConfig, recipe
from pixelwise.task import PixelTask, Predictor, image_of, mirrored
from pixelwise.training import Optimizer, Schedule

PARTS = 10**6
"""Of a zoom: sizes follow from whole numbers alone, which a graph for any size can hold and a rounded float cannot."""
MOST_CONFIDENT = 2**26
"""Pixels of the largest image whose answer says how sure it is; the map of confidence takes 4 bytes for each."""


class Losses(LossWeights):
    """How much each loss counts in the sum that is minimised."""

    cross_entropy: Weight = Field(default=1.0, description="weight of the cross-entropy over the known pixels")
    dice: Weight = Field(default=0.0, description="weight of the soft Dice loss (Milletari et al. 2016)")
    lovasz: Weight = Field(default=0.0, description="weight of the Lovasz-softmax, or -hinge, loss (Berman et al. 2018)")
    focal: Weight = Field(default=0.0, description="weight of the focal loss with gamma 2 (Lin et al. 2017)")


class Config(TaskConfig):
    """Settings of segmentation."""

    answering: ClassVar[tuple[str, ...]] = ("threshold", "flip_test", "scales_test")
    kind: Literal["segmentation"] = "segmentation"
    labelling: Literal["multiclass", "binary", "multilabel"] = Field(
        default="multiclass",
        description="one class per pixel, the second of two or not (one sheet), or any of several masks that may overlap",
    )
    loss: Losses = Losses()
    class_weights: tuple[Weight, ...] | Literal["median_frequency"] = Field(
        default=(),
        description="weight of each class (multilabel: mask) in cross_entropy and focal; none means 1; median_frequency counts "
        "the training labels (Eigen and Fergus 2015)",
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="share of the truth spread over all classes")
    threshold: float = Field(default=0.5, gt=0, lt=1, description="binary, multilabel: probability from which it is there")
    flip_test: bool = Field(default=False, description="average the answer with that of the mirrored image")
    scales_test: tuple[Annotated[float, Field(gt=0, le=4)], ...] = Field(
        default=(1.0,), min_length=1, description="average the answers of the image seen at these zooms"
    )

    @model_validator(mode="after")
    def _countable(self) -> Self:
        if self.labelling == "multilabel" and self.class_weights == "median_frequency":
            raise ValueError("class_weights = 'median_frequency' is for one class per pixel: give one number per mask")
        return self

    def build(self, meta: Meta) -> Task:
        """Return the task for one label per pixel, or for masks."""
        return (MasksTask if self.labelling == "multilabel" else Task)(self, meta)

    def settled(self, train: Dataset) -> Self:
        """Count the training labels where `class_weights` are to follow from them.

        Raises:
            DataError: No pixel of the whole training data is known.
        """
        field = "masks" if self.labelling == "multilabel" else "labels"
        if not any((_answer(train.sample(i, (field,))) != UNKNOWN).any() for i in range(len(train))):
            what = f"every pixel of all {len(train)} training samples is unknown: there is nothing to learn from"
            raise DataError(what, f"{UNKNOWN} and the ignored value of meta.json are unknown")
        if self.class_weights != "median_frequency":
            return self
        weights = median_frequency_weights(_pixels(train)).tolist()
        return self.model_copy(update={"class_weights": tuple(round(weight, 6) for weight in weights)})


def _pixels(train: Dataset) -> Tensor:
    """Return the known pixels of each class in each sample, `(N, C)`."""
    classes = len(train.meta.classes)
    samples = (train.sample(i, ("labels",)) for i in range(len(train)))
    return torch.stack([torch.bincount(_answer(sample).flatten(), minlength=UNKNOWN + 1)[:classes] for sample in samples])


class Task(PixelTask):
    """A class for each pixel from a sheet of logits per class, or one sheet where there are two.

    Unknown pixels have no loss, no gradient and no vote in the metrics.
    """

    codec: LabelMapCodec | MasksCodec
    fields: tuple[str, ...] = ("image", "labels")
    primary = "miou_present"

    def __init__(self, config: Config, meta: Meta) -> None:
        super().__init__(config, meta)
        self.mirrors = config.flip_test
        # to be counted: until then the task only says which fields it reads
        weights = () if config.class_weights == "median_frequency" else config.class_weights
        self.codec = self._codec(weights)

    def _codec(self, weights: tuple[float, ...]) -> LabelMapCodec | MasksCodec:
        classes, smoothing = len(self.meta.classes), self.config.label_smoothing
        if not classes:
            raise DataError("segmentation needs the names of the classes", 'put them into meta.json: {"classes": [...]}')
        if self.config.labelling == "multiclass":
            return LabelMapCodec(classes, weights or None, smoothing)
        if classes != 2:
            raise UsageError(f"task.labelling = 'binary' is for two classes, not {classes}", "set task.labelling=multiclass")
        if len(weights) not in (0, 2):
            raise UsageError(f"{len(weights)} class weights for 2 classes", "give one weight per class")
        pairs = ((weights[0], weights[1]),) if weights else ()
        return MasksCodec(1, pairs, smoothing, self.config.threshold)

    def check(self, view: View, augment: Augment) -> None:
        """Refuse zooms where pictures keep their own size: the tiles of a large one would not fit together."""
        if self.config.scales_test != (1.0,) and view.fit == "native":
            what = "task.scales_test needs view.fit=stretch or letterbox: a zoomed tile is not part of the zoomed picture"
            raise UsageError(what, "set view.fit, or leave task.scales_test out")

    def targets(self, batch: Batch) -> Batch:
        """Return the labels or masks as the codec wants them."""
        field = self.fields[1]
        return self.codec.encode(batch[field]) if field in batch else {}

    def forward(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Return `logits`, `(B, sheets, H, W)`."""
        return {"logits": networks["network"](batch["image"])}

    def loss(
        self, phase: str, networks: Mapping[str, nn.Module], batch: Batch, outputs: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return every loss with a weight above 0, times that weight."""
        logits = outputs["logits"].float()
        weighted: dict[str, Tensor] = self.config.loss.weighted(
            {kind: partial(self.codec.loss, logits, batch, kind) for kind in get_args(Kind)}
        )
        return weighted

    def respond(self, networks: Mapping[str, nn.Module], batch: Batch) -> dict[str, Tensor]:
        """Return logits; of the mean probability where mirrored or zoomed pictures are asked for."""
        image = batch["image"]
        answers = [self._zoomed(networks, image, scale) for scale in self.config.scales_test]
        if self.config.flip_test:
            other = mirrored(batch)
            answers += [self.codec.flip(self._zoomed(networks, other, scale)) for scale in self.config.scales_test]
        return {"logits": self.codec.averaged(torch.stack(answers)) if len(answers) > 1 else answers[0]}

    def _zoomed(self, networks: Mapping[str, nn.Module], image: Tensor, scale: float) -> Tensor:
        """Return the logits of the image seen at another size, brought back to its own."""
        height, width = image.shape[-2:]
        if scale == 1:
            return self.forward(networks, {"image": image})["logits"].float()
        part = round(PARTS * scale)
        size: Any = [torch.sym_max(1, (side * part + PARTS // 2) // PARTS) for side in (height, width)]
        seen = functional.interpolate(image, size, mode="bilinear", antialias=True)
        logits = self.forward(networks, {"image": seen})["logits"].float()
        return functional.interpolate(logits, (height, width), mode="bilinear", antialias=True)

    def blank(self, sample: Sample) -> Any:
        """Return a prediction without labels yet; the confidence of a huge image would be larger than all else."""
        size = _size(sample)
        confidence = torch.empty(size) if math.prod(size) <= MOST_CONFIDENT else None
        return self._prediction(sample, torch.empty(size, dtype=torch.uint8), confidence)

    def paint(self, prediction: Any, place: Tile, maps: Tensor) -> None:
        """Take the best class of each pixel from its logits, or the second of two where its probability is high enough."""
        if isinstance(self.codec, MasksCodec):
            (labels,), (inside,) = self.codec.decode(maps), maps.sigmoid()
            confidence = torch.where(labels == 1, inside, 1 - inside)
        else:
            (labels,), (probabilities,) = self.codec.decode(maps[None])
            confidence = probabilities.amax(0)
        place.of(prediction.labels).copy_(labels)
        if prediction.confidence is not None:
            place.of(prediction.confidence).copy_(confidence)

    def _prediction(self, sample: Sample, answer: Tensor, confidence: Tensor | None = None) -> Any:
        palette = self.meta.palette or distinct_colours(len(self.meta.classes))
        return LabelPrediction(image_of(sample), answer, confidence, self.meta.classes, palette)

    def truth(self, sample: Sample) -> Any:
        """Return the labels or masks as they are; 255 is unknown."""
        return self._prediction(sample, _answer(sample))

    def metrics(self) -> Any:
        """Confusion over all pixels of all images."""
        return SegmentationMetrics(self.meta.classes)

    def score(self, metrics: Any, prediction: Any, sample: Sample) -> None:
        """Count the known pixels."""
        metrics.update(prediction.labels, _answer(sample))

    def pictures(self, metrics: Any) -> dict[str, PillowImage.Image]:
        """Draw which class is taken for which."""
        caption = "which class (row) is called what (column): share of its pixels, dark for none and bright for all"
        return {caption: counts_picture(metrics.matrix, self.meta.classes)}

    def baselines(self, train: Dataset) -> dict[str, Predictor]:
        """The same everywhere; the most frequent answer at each position; the labels or masks of the most similar image."""
        field = self.fields[1]
        bank = Bank.of(train, "image", self.fields, lambda sample: on_grid(sample, field))
        constant, place = self._votes(torch.stack(bank.summaries))

        def stretch(answer: Tensor, size: Size) -> Tensor:
            return warp_labels(answer, resize((answer.shape[-2], answer.shape[-1]), size), size)

        return MapBaselines(bank, field, constant, place, constant, stretch, self._prediction).predictors()

    def _votes(self, truths: Tensor) -> tuple[Tensor, Tensor]:
        """Return the most frequent class `(1, 1)`, and that of each position `(h, w)`, of labels `(N, h, w)`."""
        votes = torch.stack([(truths == c).sum(0) for c in range(len(self.meta.classes))])
        return votes.sum((1, 2), keepdim=True).argmax(0).to(torch.uint8), votes.argmax(0).to(torch.uint8)


class MasksTask(Task):
    """A sheet of logits per mask; masks may overlap, and each has its own unknown pixels."""

    codec: MasksCodec
    fields = ("image", "masks")

    def _codec(self, weights: tuple[float, ...]) -> MasksCodec:
        if not self.meta.masks:
            raise DataError("task.labelling = 'multilabel' needs masks, and the data has none", "try data.kind=masks_folder")
        pairs = tuple((weight, weight) for weight in weights)
        return MasksCodec(len(self.meta.masks), pairs, self.config.label_smoothing, self.config.threshold)

    def blank(self, sample: Sample) -> MasksPrediction:
        """Return a prediction without masks yet."""
        return self._prediction(sample, torch.empty((self.codec.sheets, *_size(sample)), dtype=torch.uint8))

    def paint(self, prediction: MasksPrediction, place: Tile, maps: Tensor) -> None:
        """Take the pixels of each mask where its probability is high enough."""
        place.of(prediction.masks).copy_(self.codec.decode(maps))

    def _prediction(self, sample: Sample, answer: Tensor, confidence: Tensor | None = None) -> MasksPrediction:
        return MasksPrediction(image_of(sample), answer, self.meta.masks, distinct_colours(len(self.meta.masks)))

    def metrics(self) -> MaskMetrics:
        """Overlap of each mask over all pixels of all images."""
        return MaskMetrics(self.meta.masks)

    def score(self, metrics: Any, prediction: Any, sample: Sample) -> None:
        """Count the known pixels."""
        metrics.update(prediction.masks, _answer(sample))

    def pictures(self, metrics: Any) -> dict[str, PillowImage.Image]:
        """Draw nothing: masks that overlap are not taken for each other."""
        return {}

    def _votes(self, truths: Tensor) -> tuple[Tensor, Tensor]:
        """Return every mask everywhere `(L, 1, 1)`, the best constant by IoU, and where each mostly is `(L, h, w)`."""
        place = (truths == 1).sum(0) >= (truths == 0).sum(0)
        return torch.ones((self.codec.sheets, 1, 1), dtype=torch.uint8), place.to(torch.uint8)


def _answer(sample: Sample) -> Tensor:
    """Return the labels `(H, W)` or masks `(L, H, W)` of a sample, uint8; 255 is unknown."""
    field = next(field for field in sample.fields.values() if isinstance(field, LabelMap | Masks))
    return field.tensors()[""]


def _size(sample: Sample) -> Size:
    height, width = image_of(sample).shape[-2:]
    return height, width


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


@recipe
def em_membrane() -> Recipe:
    """Cell borders under the electron microscope, 16 pictures of 512 x 512 of which 4 are held out: the task U-Net is from.

    Expect mIoU 0.790 and Boundary mIoU 0.760 on the 4 (labels of the most similar picture 0.482 and 0.427) after 2 minutes of
    one core with AMX, 8 on a busy machine. All pictures are slices of one block of tissue: do not compare with the challenge.
    """
    return Recipe(
        name="em_membrane",
        task=Config(labelling="binary", loss=Losses(dice=1), flip_test=True),
        data=segmentation_folder.Config(root="data/em_membrane", classes=("membrane", "cell"), val_fraction=0.25),
        view=View(size=(192, 192), fit="native"),
        augment=Augment(flip=0.5, rotate=180, scale=(0.9, 1.2), brightness=0.2, contrast=0.2),
        network=unet.Config(width=16, depth=4),
        optimizer=Optimizer(kind="adamw", lr=2e-3, weight_decay=0.01),
        schedule=Schedule(kind="cosine", warmup_steps=20),
        steps=300,
        batch_size=4,
        evaluate_every=150,
    )


@recipe
def masks() -> Recipe:
    """Your own masks that may overlap: data.root=FOLDER with train/images/x.jpg and train/masks/<name>/x.png.

    A start, not a result: seen at 256 x 256, mirrored, zoomed and recoloured a little. Change steps and view.size to your data.
    """
    data, task = masks_folder.Config(root="data/masks"), Config(labelling="multilabel", loss=Losses(dice=1))
    return segmentation().model_copy(update={"name": "masks", "task": task, "data": data})


@recipe
def world_multilabel() -> Recipe:
    """What is alive, what could move, and what is near, in scenes of the embedded world, 64 x 64: masks that overlap.

    Expect mIoU 0.652 on 128 unseen scenes (masks of the most similar scene 0.310, where each mostly is 0.257, everywhere 0.194)
    after 2 minutes of one core with AMX, 7 on a busy machine.
    """
    task = Config(labelling="multilabel", loss=Losses(dice=1))
    return world_segmentation().model_copy(update={"name": "world_multilabel", "task": task})


@recipe
def camvid_full() -> Recipe:
    """CamVid at its full 480 x 360, rare classes weighed by median frequency, answers averaged with the mirrored picture's.

    Trained on crops of 240 x 240. Not measured at this length. steps=600 (23 minutes on one core) is too short for weights as
    unequal as these: mIoU 0.354 and pixel accuracy 0.641, poles, signs and people on every facade; `camvid` has 0.433 by then.
    Without weights 500 steps have learned no rare class: mIoU 0.309, pixel accuracy 0.748 (nearest neighbour 0.351 and 0.748).
    """
    return camvid().model_copy(
        update={
            "name": "camvid_full",
            "task": Config(class_weights="median_frequency", flip_test=True),
            "view": View(size=(240, 240), fit="native"),
            "steps": 4000,
            "evaluate_every": 1000,
        }
    )


@recipe
def clothing() -> Recipe:
    """Clothes and body parts in 59 tags, 220 street photographs of which 30 are held out, from scratch.

    Most tags are rare, and Lovasz-softmax counts every tag of a batch alike. Not measured yet.
    """
    return Recipe(
        name="clothing",
        task=Config(loss=Losses(lovasz=1), flip_test=True),
        data=segmentation_folder.Config(root="data/ccp_clothing"),
        view=View(size=(288, 192), fit="letterbox"),
        augment=Augment(flip=0.5, rotate=5, scale=(0.9, 1.4), translate=0.05, brightness=0.2, contrast=0.2, saturation=0.2),
        network=unet.Config(width=32, depth=5),
        optimizer=Optimizer(kind="adamw", lr=1e-3, weight_decay=0.01),
        schedule=Schedule(kind="cosine", warmup_steps=100),
        steps=4000,
        batch_size=8,
        evaluate_every=1000,
    )
