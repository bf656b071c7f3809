"""How well one answer for the whole picture fits: a category, which of several labels apply, or a value."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pixelwise.metrics.averages import averages

TOP = 5


class CategoryMetrics:
    """Accumulates categories; a picture whose category is unknown (NaN) has no part.

    - `accuracy`: share of the pictures whose highest score is that of their category (the first one where several are highest).
    - `balanced_accuracy_present`: mean over the categories in the truth of their recall.
    - `top5_accuracy`: share of the pictures whose category is among the 5 highest scores; where there are more than 5.
    - `recall/<category>`: share of its pictures that are called so, for each category in the truth.
    - `confusion/<category>/<called>`: number of pictures; those with none have no key.

    Attributes:
        matrix: int64 `(C, C)` counts, rows true, columns called.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        """Begin with no pictures of the named `classes`."""
        self.classes = tuple(classes)
        self.matrix = torch.zeros(len(classes), len(classes), dtype=torch.int64)
        self._in_top: list[bool] = []

    def update(self, scores: Tensor, truth: Tensor) -> None:
        """Take in the scores `(C,)` of one picture, larger is likelier, and its truth `(C,)`: 1 for its category, else 0."""
        if truth.isnan().any():
            return
        category = int(truth.argmax())
        self.matrix[category, int(scores.argmax())] += 1
        self._in_top.append(bool((scores > scores[category]).sum() < TOP))

    def compute(self) -> dict[str, float]:
        """Return every metric over everything taken in."""
        hits, truth = self.matrix.diagonal().double(), self.matrix.sum(1)
        values = {"accuracy": hits.sum() / truth.sum(), "balanced_accuracy_present": hits / truth}
        if len(self.classes) > TOP:
            values["top5_accuracy"] = torch.tensor(self._in_top, dtype=torch.float64)
        values |= {f"recall/{name}": value for name, value in zip(self.classes, hits / truth, strict=True)}
        for i, j in self.matrix.nonzero().tolist():
            values[f"confusion/{self.classes[i]}/{self.classes[j]}"] = self.matrix[i, j]
        return averages(values)


def average_precision(scores: Tensor, truth: Tensor) -> Tensor:
    """Return sum_k (R_k - R_(k-1)) P_k over the distinct scores, highest first; not interpolated, as in scikit-learn.

    Equal scores are one step, so that a constant gets the share of positives, whatever the order.

    Args:
        scores: `(M,)`.
        truth: bool `(M,)`.

    Returns:
        A scalar, float64; NaN if there is no positive.
    """
    order = scores.argsort(descending=True)
    ranked, hits = scores[order], truth[order].double().cumsum(0)
    last = torch.cat([ranked[1:] != ranked[:-1], torch.ones(1, dtype=torch.bool)])
    found, seen = hits[last], torch.arange(1, len(scores) + 1)[last]
    gained = torch.diff(found, prepend=found.new_zeros(1))
    return (gained * found / seen).sum() / found[-1]


class LabelSetMetrics:
    """Accumulates labels of pictures; where it is unknown whether one applies (NaN), it has no part.

    - `average_precision_macro`: mean over the labels that apply somewhere of their `average_precision`.
    - `f1@0.5_macro`: mean over the labels that apply somewhere, or are said to, of 2 TP / (2 TP + FP + FN); said are those with
      a probability of at least 0.5.
    - `label_accuracy@0.5`: share of all known labels of all pictures that are right.
    - `average_precision/<label>`, `f1@0.5/<label>`.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        """Begin with no pictures and the named `labels`."""
        self.labels = tuple(labels)
        self._probabilities: list[Tensor] = []
        self._truths: list[Tensor] = []

    def update(self, probabilities: Tensor, truth: Tensor) -> None:
        """Take in the probabilities `(N,)` of one picture and its truth `(N,)`: 1, 0, or NaN for unknown."""
        self._probabilities.append(probabilities.double())
        self._truths.append(truth.double())

    def compute(self) -> dict[str, float]:
        """Return every metric over everything taken in."""
        if not self._truths:
            return {}
        probabilities, truths = torch.stack(self._probabilities), torch.stack(self._truths)
        known, applies, said = ~truths.isnan(), truths == 1, probabilities >= 0.5
        precisions = [average_precision(*pair) for pair in _columns(known, probabilities, applies)]
        hits = (said & applies).sum(0).double()
        f1 = 2 * hits / ((said & known).sum(0) + applies.sum(0))
        values = {
            "average_precision_macro": torch.stack(precisions),
            "f1@0.5_macro": f1,
            "label_accuracy@0.5": (said == applies)[known].double(),
        }
        for name, precision, score in zip(self.labels, precisions, f1, strict=True):
            values |= {f"average_precision/{name}": precision, f"f1@0.5/{name}": score}
        return averages(values)


def _columns(known: Tensor, *tables: Tensor) -> list[list[Tensor]]:
    """Return the known entries of each column of each table."""
    return [[table[known[:, n], n] for table in tables] for n in range(known.shape[1])]


class ValueMetrics:
    """Accumulates values, in their own unit; unknown ones (NaN) have no part.

    - `mean_absolute_error`, `root_mean_squared_error`.
    - `pearson_correlation`: of the values said with the true ones; no key where either never changes.
    """

    def __init__(self) -> None:
        """Begin with no pictures."""
        self._said: list[float] = []
        self._true: list[float] = []

    def update(self, said: Tensor, truth: Tensor) -> None:
        """Take in what was said of one picture `(1,)` and its true value `(1,)`."""
        if not truth.isnan():
            self._said.append(float(said))
            self._true.append(float(truth))

    def compute(self) -> dict[str, float]:
        """Return every metric over everything taken in."""
        said, true = (torch.tensor(values, dtype=torch.float64) for values in (self._said, self._true))
        error = said - true
        centred = [values - values.mean() for values in (said, true)]
        norms = [values.norm() for values in centred]
        # a value repeated often has a mean that differs from it by rounding
        varies = all(norm > 1e-9 * values.norm() for norm, values in zip(norms, (said, true), strict=True))
        correlation = centred[0] @ centred[1] / (norms[0] * norms[1]) if varies else torch.tensor(torch.nan)
        return averages(
            {
                "mean_absolute_error": error.abs(),
                "root_mean_squared_error": error.square().mean().sqrt(),
                "pearson_correlation": correlation,
            }
        )
