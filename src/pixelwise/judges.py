"""What is asked of generated pictures beside a task's own metrics: the judges that `pixelwise evaluate` takes by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pixelwise.data.dataset import Dataset
from pixelwise.evaluation import text_table
from pixelwise.fcn_score import FcnScore
from pixelwise.model import Model, load
from pixelwise.picture_sets import PictureSets
from pixelwise.recognition import Recognition

FCN_SCORE, SETS, RECOGNITION = "fcn_score", "sets", "recognition"
Named = dict[str, FcnScore | PictureSets | Recognition]


def judges(
    model: Model,
    dataset: Dataset,
    limit: int | None,
    segmenter: str | None = None,
    features: str | None = None,
    classifier: str | None = None,
) -> Named:
    """Return the judges that are asked for, by the name of their part of the result.

    Args:
        model: What generates.
        dataset: What it is measured on.
        limit: On how many samples.
        segmenter: A run or model folder of segmentation, for the FCN-score.
        features: Names of embeddings, parted by commas, for distances of sets.
        classifier: A run of classification, that says whether it knows what recoloured pictures show.

    Raises:
        UsageError: One of them does not fit the task or the data.
        ModelError: The segmenter or the classifier is no model.
    """
    found: Named = {}
    if segmenter:
        found[FCN_SCORE] = FcnScore(load(segmenter, device=str(model.device)), model.task, dataset)
    if features:
        found[SETS] = PictureSets(features.split(","), model.task, dataset, limit)
    if classifier:
        found[RECOGNITION] = Recognition(Path(classifier), model.task, str(model.device))
    return found


def as_text(name: str, result: dict[str, Any]) -> str:
    """Return one judge's result for a terminal."""
    titles = {
        FCN_SCORE: f"FCN-score by {result.get('segmenter')}:",
        SETS: "as sets of pictures:",
        RECOGNITION: f"what {result.get('classifier')} recognises, of its own pictures:",
    }
    return "\n".join([titles[name], text_table(result), *(f"note: {note}" for note in result.get("notes", ()))])
