"""A metric of nothing is no number: averages that leave out what could not be measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor


def averages(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the mean of each tensor's values that are not NaN, leaving out means that do not exist or are infinite."""
    means = {name: value.double().nanmean() for name, value in values.items()}
    return {name: float(mean) for name, mean in means.items() if mean.isfinite()}


def named(metric: str, names: Sequence[str], values: Tensor) -> dict[str, Tensor]:
    """Return the values (N,) of a metric by `metric/name`."""
    return {f"{metric}/{name}": value for name, value in zip(names, values, strict=True)}
