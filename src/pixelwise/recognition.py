"""Whether a classifier still knows what recoloured pictures show (Zhang, Isola and Efros 2016, section 3.1)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pixelwise.color.levels import eight_bits
from pixelwise.data.dataset import Dataset
from pixelwise.data.sample import Sample
from pixelwise.errors import UsageError
from pixelwise.evaluation import REAL, each, evaluate
from pixelwise.model import Model, load
from pixelwise.recipe import Recipe
from pixelwise.task import Task


class Recognition:
    """Shows the answers to a classifier, whose own metrics say how well it knows them: a judge for `evaluate`.

    The pictures are those that the classifier's run holds out, since it knows what they show. Its score of the real ones, and
    of those without colour, belongs beside ours: what lies between them is what the colours tell it.

    Args:
        folder: The run folder of a classifier.
        task: Whose answers are pictures of what it was asked about, such as colorization.
        device: Where the classifier looks.

    Raises:
        UsageError: There is no run, it is no classifier, or the answers of `task` are something else.
        ModelError: It has no model.
    """

    def __init__(self, folder: Path, task: Task, device: str = "cpu") -> None:
        if not (folder / "recipe.json").is_file():
            raise UsageError(f"no run in {folder}: it holds no recipe.json", "classifier= takes a run, whose data is looked at")
        self.classifier, self.recipe = load(folder, device=device), Recipe.load(folder / "recipe.json")
        kind = self.recipe.task.kind
        if kind != "classification":
            raise UsageError(f"the run in {folder} is of {kind}", "train a classifier: pixelwise train classification")
        if task.fields != ("image",):
            what = f"the answers of {task.config.kind} are no other look of the picture itself"
            raise UsageError(what, "classifier= is for colorization and style_transfer")
        own = self.classifier.task
        self.fields, self.primary, self.minimised = own.fields, own.primary, own.minimised

    def metrics(self) -> Any:
        """Return an empty accumulator of the classifier's metrics."""
        return self.classifier.task.metrics()

    def score(self, metrics: Any, prediction: Any, sample: Sample) -> None:
        """Classify the predicted picture, and compare with what the sample shows."""
        self.classifier.task.score(metrics, self.classifier(eight_bits(prediction.pixels)), sample)

    def scores(self, model: Model, train: Dataset, dataset: Dataset, split: str, limit: int | None = None) -> dict[str, Any]:
        """Return the scores of the model, of the real pictures and of the baselines, as `evaluate` does.

        Args:
            model: What recolours.
            train: What the baselines are fitted to.
            dataset: Not used: it does not tell what its pictures show.
            split: Of the classifier's data.
            limit: On so many pictures, evenly spaced; None means all.
        """
        result, _ = evaluate(model, train, self.recipe.data.open(split), split, limit, self, {REAL: each(model.task.truth)})
        return result | {"classifier": self.classifier.description.recipe}
