"""The FCN-score: a generated picture is as good as what a segmenter reads in it (Isola et al. 2017, section 4.1)."""

from __future__ import annotations

from typing import Any

from pixelwise.data.dataset import Dataset
from pixelwise.data.sample import Image, LabelMap, Sample
from pixelwise.errors import UsageError
from pixelwise.evaluation import Predict, each, measure
from pixelwise.geometry.frame import Frame
from pixelwise.metrics.segmentation import SegmentationMetrics
from pixelwise.model import Model
from pixelwise.task import Task

REAL = "real pictures"
PRIMARY = "miou_present"


class FcnScore:
    """Reads every picture with a segmenter, and holds the answer against the label map that the picture should show.

    `pixel_accuracy`, `mean_accuracy_present` and `miou_present` are the paper's per-pixel accuracy, per-class accuracy and
    class IoU, in each picture's own pixels. The score is never better than the segmenter, so that of real pictures belongs
    beside it, and only scores by one segmenter can be compared.

    Args:
        segmenter: A model of the task `segmentation`, one class per pixel, that was trained on real pictures.
        task: Of what generates.
        dataset: What is measured on.

    Raises:
        UsageError: The model is no segmenter, knows other classes, or nothing says which class a pixel should have.
    """

    def __init__(self, segmenter: Model, task: Task, dataset: Dataset) -> None:
        own = segmenter.description.task
        if own.kind != "segmentation" or getattr(own, "labelling", "") == "multilabel":
            what = f"the segmenter's task is {own.kind}" if own.kind != "segmentation" else "the segmenter's masks overlap"
            raise UsageError(f"{what}: the FCN-score takes one class per pixel", "train one, such as: pixelwise train camvid")
        self.segmenter, self.classes = segmenter, segmenter.task.meta.classes
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
        metrics.update(self.read(prediction.pixels, sample.key), labels.labels)

    def read(self, pixels: Any, key: str = "picture") -> Any:
        """Return the classes `(H, W)` that the segmenter sees in a picture `(3, H, W)`."""
        picture = Sample(key, {"image": Image(pixels, Frame.of(pixels.shape[-2:]))})
        (answer,) = self.segmenter.predict([picture])
        return answer.labels  # type: ignore[attr-defined]


def _labelled(task: Task, dataset: Dataset) -> str:
    """Return the field that says which class each pixel should have: the input, if it is a label map, else `labels`."""
    names = [*task.inputs, *(name for name in ("labels",) if name in dataset.fields)]
    first = dataset.sample(0, tuple(dict.fromkeys(names)))
    for name in names:
        if isinstance(first[name], LabelMap):
            return name
    what = f"neither the input {' nor '.join(map(repr, names))} is a label map"
    raise UsageError(f"no FCN-score: {what}", "it is for translating label maps, or for data with a field `labels`")


def fcn_scores(
    model: Model, segmenter: Model, train: Dataset, dataset: Dataset, split: str, limit: int | None = None
) -> dict[str, Any]:
    """Score the model, its task's baselines and the real pictures.

    Returns:
        As `evaluate`: `metrics` (ours), `baselines` (by name; `real pictures` among them), and `protocol`.
    """
    judge = FcnScore(segmenter, model.task, dataset)
    predictors: dict[str, Predict] = {"ours": model.predict, REAL: each(model.task.truth)}
    predictors |= {name: each(predictor) for name, predictor in model.task.baselines(train).items()}
    measured = measure(judge, dataset, predictors, limit)
    return {
        "metrics": measured.pop("ours"),
        "baselines": measured,
        "primary": PRIMARY,
        "minimised": False,
        "segmenter": segmenter.description.recipe,
        "protocol": {"split": split, "samples": min(len(dataset), limit or len(dataset)), "truth": judge.truth},
    }
