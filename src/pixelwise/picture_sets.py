"""Generated pictures as a set: how far they are from real ones by named features, and whether they differ at all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Any

from torch import Tensor

from pixelwise.data.dataset import Dataset
from pixelwise.data.sample import Sample
from pixelwise.embedding import find
from pixelwise.errors import UsageError
from pixelwise.evaluation import Predict, each, evaluate, evenly
from pixelwise.metrics.sets import DIVERSITY, FEWEST, SUBSETS, SetMetrics, difference, small
from pixelwise.model import Model
from pixelwise.nn.noise import dropouts
from pixelwise.predictions.image import ImagePrediction
from pixelwise.task import Task

DRAWS = 4
"""Answers to each picture whose difference says what the noise does."""
NOISED = 32
"""Pictures that get so many answers."""
NOISE = f"{DIVERSITY}_noise"


class PictureSets:
    """Compares the pictures that a task answers with the true ones, as sets: a judge for `evaluate`.

    Args:
        features: Names of embeddings, as for `pixelwise compare`.
        task: Whose answers are pictures.
        dataset: What is measured on.
        limit: On how many samples; None means all.

    Raises:
        UsageError: There are no such features, or the answers are no pictures of 3 channels or 1.
    """

    minimised = True

    def __init__(self, features: Sequence[str], task: Task, dataset: Dataset, limit: int | None = None) -> None:
        true = task.truth(dataset.sample(0, task.fields))
        if not isinstance(true, ImagePrediction):
            raise UsageError(f"the answers of {task.config.kind} are no pictures", "features= compares sets of pictures")
        if len(true.pixels) not in (1, 3):
            raise UsageError(f"the pictures have {len(true.pixels)} channels", "features= compares colour or grey pictures")
        embeddings = [find(name).eval() for name in features]
        self.see = {embedding.protocol: embedding.of for embedding in embeddings}
        self.task, self.fields = task, task.fields
        self.real: dict[str, dict[str, Tensor]] = {}
        self.count = len(evenly(len(dataset), limit))
        self.primary = f"kid@{embeddings[0].protocol},{SUBSETS}x{self.count // 2}"

    def metrics(self) -> SetMetrics:
        """Return two empty sets."""
        return SetMetrics(self.see)

    def score(self, metrics: SetMetrics, prediction: Any, sample: Sample) -> None:
        """Take in the predicted and the true picture."""
        if sample.key not in self.real:
            pixels = self.task.truth(sample).pixels  # type: ignore[attr-defined]
            self.real[sample.key] = {name: see(pixels) for name, see in self.see.items()}
        metrics.update(prediction.pixels, self.real[sample.key])

    def scores(self, model: Model, train: Dataset, dataset: Dataset, split: str, limit: int | None = None) -> dict[str, Any]:
        """Compare the pictures of the model, of the baselines and of the training data with the true ones.

        Returns:
            As `evaluate`, and `notes`. True pictures of the training data stand under `real, of training`: nearer than they
            are no model need be. Where the model has dropout, `diversity_l1@32_noise` of ours says how different the answers
            to one picture are with `task.noise=dropout`.
        """
        self.real.clear()
        beside = {"real, of training": of_training(model.task, train, self.count)}
        result, _ = evaluate(model, train, dataset, split, limit, self, beside)
        if model.task.config.answers_with("noise") and dropouts(model.networks):
            result["metrics"][NOISE] = noise_diversity(model, dataset)
        return result | {"notes": list(too_few(result["metrics"], self.count))}


def of_training(task: Task, train: Dataset, count: int) -> Predict:
    """Return what shows one true picture of the training data after the other, whatever it is asked about."""
    places = cycle(evenly(len(train), count))
    return each(lambda sample: task.truth(train.sample(next(places), task.fields)))


def too_few(metrics: dict[str, float], count: int) -> Iterator[str]:
    """Yield a sentence for each distance that so few pictures do not tell from 0, or one that there is none."""
    if count < FEWEST:
        yield f"no kernel distance: {count} pictures are too few, it takes {FEWEST}"
    for name, value in metrics.items():
        error = metrics.get(name.replace("kid@", "kid_std@"), math.inf)
        if name.startswith("kid@") and abs(value) < 2 * error:
            yield f"{name}: {count} pictures are too few to tell {value:.3g} from 0 (standard error about {error:.2g})"


def noise_diversity(model: Model, dataset: Dataset) -> float:
    """Return the mean absolute difference, at 32 x 32, of two answers to one picture, over some pictures.

    The model is to have dropout, which is the only noise of pix2pix (Isola et al. 2017, section 3.2).
    """
    noisy = Model(model.description, model.task, dict(model.networks.items()))
    samples = [dataset.sample(i, model.task.fields) for i in evenly(len(dataset), NOISED)]
    answers: list[list[Tensor]] = [[] for _ in samples]
    for seed in range(DRAWS):
        noisy.answer_with(["task.noise=dropout", f"task.noise_seed={seed}"])
        for sample, own in zip(samples, answers, strict=True):
            own.append(small(noisy.predict([sample])[0].pixels))  # type: ignore[attr-defined]
    return sum(map(difference, answers)) / len(answers)
