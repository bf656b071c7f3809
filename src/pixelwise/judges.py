"""What is asked of generated pictures beside a task's own metrics: the judges that `pixelwise evaluate` takes by name."""

from __future__ import annotations

from typing import Any

from pixelwise.data.dataset import Dataset
from pixelwise.evaluation import text_table
from pixelwise.fcn_score import FcnScore
from pixelwise.model import Model, load
from pixelwise.picture_sets import PictureSets

FCN_SCORE, SETS = "fcn_score", "sets"
Named = dict[str, FcnScore | PictureSets]


def judges(model: Model, dataset: Dataset, limit: int | None, segmenter: str | None, features: str | None) -> Named:
    """Return the judges that are asked for, by the name of their part of the result.

    Args:
        model: What generates.
        dataset: What it is measured on.
        limit: On how many samples.
        segmenter: A run or model folder of segmentation, for the FCN-score.
        features: Names of embeddings, parted by commas, for distances of sets.

    Raises:
        UsageError: One of them does not fit the task or the data.
        ModelError: The segmenter is no model.
    """
    found: Named = {}
    if segmenter:
        found[FCN_SCORE] = FcnScore(load(segmenter, device=str(model.device)), model.task, dataset)
    if features:
        found[SETS] = PictureSets(features.split(","), model.task, dataset, limit)
    return found


def as_text(name: str, result: dict[str, Any]) -> str:
    """Return one judge's result for a terminal."""
    title = f"FCN-score by {result['segmenter']}:" if name == FCN_SCORE else "as sets of pictures:"
    return "\n".join([title, text_table(result), *(f"note: {note}" for note in result.get("notes", ()))])
