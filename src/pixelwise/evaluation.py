"""Measures a model beside the trivial baselines, on the same samples, in each image's own pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

from pixelwise.data.dataset import Dataset
from pixelwise.data.sample import Sample
from pixelwise.data.thumbnails import LIMIT
from pixelwise.model import Model
from pixelwise.prediction import Prediction
from pixelwise.task import Metrics, Predictor

BATCH = 8
WIDEST = 8
"""Columns of a table for the terminal."""
REAL = "real pictures"
"""The row of the truth itself, where a judge may find fault with that too."""
Predict = Callable[[Sequence[Sample]], list[Prediction]]


class Judge(Protocol):
    """Says how good predictions are: a task, by its own metrics, or what looks at them otherwise; attributes as of a task."""

    fields: tuple[str, ...]
    primary: str
    minimised: bool

    def metrics(self) -> Any:
        """Return an empty accumulator."""
        ...

    def score(self, metrics: Any, prediction: Any, sample: Sample) -> None:
        """Take a prediction and its sample into an accumulator."""
        ...


def evenly(count: int, limit: int | None) -> list[int]:
    """Return at most `limit` indices spread evenly over `range(count)`."""
    kept = count if limit is None else min(count, limit)
    return [i * count // kept for i in range(kept)]


def accumulate(judge: Judge, dataset: Dataset, predictors: dict[str, Predict], limit: int | None = None) -> dict[str, Metrics]:
    """Return the filled accumulator of each predictor over the data set, every sample read once.

    Args:
        judge: Whose metrics.
        dataset: Samples with their truth, at their original size.
        predictors: By name; each turns samples into predictions.
        limit: Measure on so many samples, evenly spaced; None means all.
    """
    metrics = {name: judge.metrics() for name in predictors}
    indices = evenly(len(dataset), limit)
    for start in range(0, len(indices), BATCH):
        samples = [dataset.sample(i, judge.fields) for i in indices[start : start + BATCH]]
        for name, predict in predictors.items():
            for prediction, sample in zip(predict(samples), samples, strict=True):
                judge.score(metrics[name], prediction, sample)
    return metrics


def measure(judge: Judge, dataset: Dataset, predictors: dict[str, Predict], limit: int | None = None) -> dict[str, Any]:
    """Return the metrics of each predictor; arguments as for `accumulate`."""
    return {name: metric.compute() for name, metric in accumulate(judge, dataset, predictors, limit).items()}


def each(predictor: Predictor) -> Predict:
    """Return a predictor for several samples at once."""
    return lambda samples: [predictor(sample) for sample in samples]


def evaluate(
    model: Model,
    train: Dataset,
    dataset: Dataset,
    split: str,
    limit: int | None = None,
    judge: Judge | None = None,
    beside: Mapping[str, Predict] = MappingProxyType({}),
) -> tuple[dict[str, Any], Metrics]:
    """Measure the model and its task's baselines.

    Args:
        model: What is measured.
        train: What the baselines are fitted to.
        dataset: What is measured on.
        split: What that is called.
        limit: Measure on so many samples, evenly spaced; None means all.
        judge: Whose metrics, if not the task's own.
        beside: Further predictors, that stand before the baselines.

    Returns:
        `metrics` (ours), `baselines` (by name), and `protocol`, which says what the numbers mean; and our accumulator.
    """
    task, judge = model.task, judge or model.task
    task.acquaint(train)
    predictors: dict[str, Predict] = {"ours": model.predict, **beside}
    predictors |= {name: each(predictor) for name, predictor in task.baselines(train).items()}
    accumulated = accumulate(judge, dataset, predictors, limit)
    measured = {name: metric.compute() for name, metric in accumulated.items()}
    result = {
        "recipe": model.description.recipe,
        "metrics": measured.pop("ours"),
        "baselines": measured,
        "primary": judge.primary,
        "minimised": judge.minimised,
        "references": list(task.references),
        "protocol": {
            "split": split,
            "samples": len(evenly(len(dataset), limit)),
            "of": len(dataset),
            "pixels": "each image's own",
            "baselines_fitted_on": min(len(train), LIMIT),
            **({"changed": list(model.changes)} if model.changes else {}),
        },
    }
    return result, accumulated["ours"]


def beats_baselines(result: dict[str, Any]) -> bool:
    """Return whether our primary metric is better than that of every baseline that is no mere reference."""
    name, sign = result["primary"], -1 if result["minimised"] else 1
    ours = result["metrics"].get(name)
    beaten = [metrics for title, metrics in result["baselines"].items() if title not in result.get("references", ())]
    theirs = [metrics[name] for metrics in beaten if name in metrics]
    return ours is not None and all(sign * ours > sign * value for value in theirs)


def table(result: dict[str, Any]) -> list[list[str]]:
    """Return the result as rows of text: a header, ours, then each baseline, with the primary metric first."""
    rows = {"ours": result["metrics"], **result["baselines"]}
    found = dict.fromkeys(name for metrics in rows.values() for name in metrics if "/" not in name)
    names = sorted(found, key=lambda name: name != result["primary"])

    def cell(metrics: dict[str, float], name: str) -> str:
        return f"{metrics[name]:.4g}" if name in metrics else "-"

    return [["", *names], *[[title, *[cell(metrics, name) for name in names]] for title, metrics in rows.items()]]


def parts_table(result: dict[str, Any]) -> list[list[str]]:
    """Return our metrics called `metric/part`, such as of single classes, as rows of text; empty if there are none."""
    parts: dict[str, dict[str, float]] = {}
    for name, value in result["metrics"].items():
        metric, *rest = name.split("/")
        if len(rest) == 1:
            parts.setdefault(rest[0], {})[metric] = value
    columns = list(dict.fromkeys(metric for values in parts.values() for metric in values))
    rows = [[part, *(f"{v[c]:.4g}" if c in v else "-" for c in columns)] for part, v in parts.items()]
    return [["", *columns], *rows] if rows else []


def text_table(result: dict[str, Any]) -> str:
    """Return the table aligned for a terminal, with the protocol under it; a metric to a line where there are many."""
    rows = table(result)
    if len(rows[0]) > WIDEST:
        rows = [list(column) for column in zip(*rows, strict=True)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths, strict=True))) for r in rows
    ]
    return "\n".join([*lines, protocol_line(result)])


def protocol_line(result: dict[str, Any]) -> str:
    """Return the protocol in one line."""
    p = result["protocol"]
    better = "lower" if result["minimised"] else "higher"
    decides = f"{result['primary']} decides, {better} is better; " if result["primary"] in result["metrics"] else ""
    changed = f"{' '.join(p['changed'])}; " if "changed" in p else ""
    return (
        f"{changed}{p['samples']} of {p['of']} samples of {p['split']}, in {p['pixels']} pixels; "
        f"{decides}baselines fitted on {p['baselines_fitted_on']} training samples"
    )
