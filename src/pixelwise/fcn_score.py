"""The FCN-score: a generated picture is as good as what a segmenter reads in it (Isola et al. 2017, section 4.1)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pixelwise.color.levels import eight_bits, unit
from pixelwise.data.dataset import Dataset, Pixels
from pixelwise.data.sample import LabelMap, Sample
from pixelwise.errors import UsageError
from pixelwise.evaluation import REAL, each, evaluate
from pixelwise.metrics.segmentation import SegmentationMetrics
from pixelwise.model import Model
from pixelwise.predictions.image import ImagePrediction
from pixelwise.task import Task


class FcnScore:
    """Reads every picture with a segmenter, and holds the answer against the label map that the picture should show.

    `pixel_accuracy`, `mean_accuracy_present` and `miou_present` are the paper's per-pixel accuracy, per-class accuracy and
    class IoU, in each picture's own pixels. A score says as much of the segmenter as of the pictures: that of real ones belongs
    beside it (plain pictures may even be read better), and only scores by one segmenter can be compared.

    Args:
        segmenter: A model of the task `segmentation`, one class per pixel, that was trained on real pictures.
        task: Of what generates.
        dataset: What is measured on.

    Raises:
        UsageError: The model is no segmenter, knows other classes, or cannot see pictures of so many channels, or nothing says
            which class a pixel should have.
    """

    primary = "miou_present"
    minimised = False

    def __init__(self, segmenter: Model, task: Task, dataset: Dataset) -> None:
        own = segmenter.description.task
        if own.kind != "segmentation" or getattr(own, "labelling", "") == "multilabel":
            what = f"the segmenter's task is {own.kind}" if own.kind != "segmentation" else "the segmenter's masks overlap"
            raise UsageError(f"{what}: the FCN-score takes one class per pixel", "train one, such as: pixelwise train camvid")
        self.segmenter, self.classes = segmenter, segmenter.task.meta.classes
        self.seen = segmenter.task.meta.pictures.get("image", Pixels())
        true = task.truth(dataset.sample(0, task.fields))
        if not isinstance(true, ImagePrediction):
            raise UsageError(f"the answers of {task.config.kind} are no pictures", "segmenter= reads pictures")
        if len(true.pixels) not in (1, self.seen.channels):
            what = f"the pictures have {len(true.pixels)} channels, and the segmenter sees {self.seen.channels}"
            raise UsageError(what, "segmenter= takes pictures like those that it was trained on, or grey ones")
        self.truth = _labelled(task, dataset)
        if self.classes != dataset.meta.classes:
            ours, theirs = ", ".join(self.classes), ", ".join(dataset.meta.classes)
            raise UsageError(
                f"the segmenter's classes are {ours}; those of the data {theirs}", "the same number must mean the same in both"
            )
        self.fields = tuple(dict.fromkeys((*task.fields, self.truth)))

    def metrics(self) -> SegmentationMetrics:
        """Return an empty confusion."""
        return SegmentationMetrics(self.classes)

    def score(self, metrics: SegmentationMetrics, prediction: Any, sample: Sample) -> None:
        """Segment the predicted picture and count its known pixels."""
        labels = sample[self.truth]
        assert isinstance(labels, LabelMap)
        metrics.update(self.read(prediction.pixels), labels.labels)

    def scores(self, model: Model, train: Dataset, dataset: Dataset, split: str, limit: int | None = None) -> dict[str, Any]:
        """Return the scores of the model, of the real pictures and of the baselines, as `evaluate` does."""
        result, _ = evaluate(model, train, dataset, split, limit, self, {REAL: each(model.task.truth)})
        return result | {"segmenter": self.segmenter.description.recipe}

    def read(self, pixels: Tensor) -> Tensor:
        """Return the classes `(H, W)` that the segmenter sees in `(C, H, W)`, in the levels it learned; grey is repeated."""
        pixels = eight_bits(pixels) if self.seen == Pixels() else unit(pixels)
        labels: Tensor = self.segmenter(pixels.expand(self.seen.channels, -1, -1)).labels  # type: ignore[attr-defined]
        return labels


def _labelled(task: Task, dataset: Dataset) -> str:
    """Return the field that says which class each pixel should have: the input, if it is a label map, else that of `image`."""
    names: list[str] = [*task.inputs, *(("labels",) if "labels" in dataset.fields and "image" in task.fields else ())]
    first = dataset.sample(0, tuple(dict.fromkeys(names)))
    for name in names:
        if isinstance(first[name], LabelMap):
            return name
    what = f"none of {', '.join(map(repr, names))} is a label map"
    raise UsageError(f"no FCN-score: {what}", "it is for translating label maps, or `image` of data with a field `labels`")
