"""Points that do not tremble: the one-euro filter as frames come in, or a Gaussian over the frames before and after.

Casiez, Roussel and Vogel, "1 Euro Filter: A Simple Speed-based Low-pass Filter for Noisy Input in Interactive Systems" (2012).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Generic, TypeVar

import torch
from torch import Tensor

from pixelwise.predictions.keypoints import KeypointsPrediction

LEAST_CUTOFF = 1.0
"""Hz that pass at rest: lower trembles less."""
BETA = 0.02
"""Hz more for every pixel per second: higher lags less."""
SPEED_CUTOFF = 1.0
"""Hz that pass of the speed."""
WIDTH = 0.05
"""Standard deviation of the Gaussian, in seconds."""
REACH = 3.0
"""Standard deviations beyond which a frame has no weight."""
Frame = TypeVar("Frame")


class OneEuro:
    """The filter of a series of tensors, every number for itself, as Algorithm 1 of the paper.

    x' = a x + (1 - a) x'_before with a = 1 / (1 + 1 / (2 pi f dt)) and a cutoff f = least + beta |speed|, where the speed is
    (x - x'_before) / dt, filtered alike. A number that is missing (NaN) stays so and leaves the filter as it is.
    """

    def __init__(self, least_cutoff: float = LEAST_CUTOFF, beta: float = BETA, speed_cutoff: float = SPEED_CUTOFF) -> None:
        """Begin a series.

        Args:
            least_cutoff: Hz.
            beta: Hz per unit per second.
            speed_cutoff: Hz.
        """
        self.least_cutoff, self.beta, self.speed_cutoff = least_cutoff, beta, speed_cutoff
        self._value: Tensor | None = None
        self._speed = torch.zeros(0)
        self._time = torch.zeros(0)

    def __call__(self, values: Tensor, time: float) -> Tensor:
        """Return the filtered values, of the same shape.

        Args:
            values: The newest.
            time: In seconds, greater than that of the last call.
        """
        given, values = values.dtype, values.double()
        if self._value is None:
            self._value, self._speed = torch.full_like(values, torch.nan), torch.zeros_like(values)
            self._time = torch.full_like(values, time)
        seen, begun = ~values.isnan(), ~self._value.isnan()
        past = (time - self._time).where(seen & begun, 1.0)
        speed = _low_pass((values - self._value) / past, self._speed, torch.full_like(past, self.speed_cutoff), past)
        value = _low_pass(values, self._value, self.least_cutoff + self.beta * speed.abs(), past)
        self._speed = speed.where(seen & begun, self._speed)
        self._value = value.where(begun, values).where(seen, self._value)
        self._time = self._time.masked_fill(seen, time)
        return self._value.where(seen, torch.nan).to(given)


def _low_pass(new: Tensor, old: Tensor, cutoff: Tensor, past: Tensor) -> Tensor:
    weight = 1 / (1 + 1 / (2 * math.pi * cutoff * past))
    return weight * new + (1 - weight) * old


def gaussian_smoothed(values: Tensor, times: Tensor, width: float = WIDTH, *, fill: bool = False) -> Tensor:
    """Return the mean of the values around each time, weighted by exp(-dt^2 / (2 width^2)) up to 3 widths away.

    Missing values (NaN) have no weight, and stay missing.

    Args:
        values: `(T, ...)`.
        times: `(T,)` seconds.
        width: Seconds.
        fill: Give missing values the mean too, where there is any value within reach.
    """
    apart = (times[:, None] - times) / width
    weights = torch.exp(-apart.square() / 2).where(apart.abs() <= REACH, 0.0).to(values.dtype)
    known = ~values.isnan()
    total = torch.tensordot(weights, known.to(values.dtype), 1)
    mean: Tensor = torch.tensordot(weights, values.where(known, 0.0), 1) / total
    return mean if fill else mean.where(known, torch.nan)


class OneEuroSmoother(Generic[Frame]):
    """Filters every identity's points for themselves, at once."""

    def __init__(self) -> None:
        self._filters: dict[int, OneEuro] = {}

    def push(self, frame: Frame, time: float, prediction: KeypointsPrediction) -> Iterator[tuple[Frame, KeypointsPrediction]]:
        """Yield the frame itself."""
        assert prediction.identities is not None
        points = prediction.points.clone()
        for i, identity in enumerate(prediction.identities.tolist()):
            if identity >= 0:
                points[i] = self._filters.setdefault(identity, OneEuro())(points[i], time)
        yield frame, replace(prediction, points=points)

    def flush(self) -> Iterator[tuple[Frame, KeypointsPrediction]]:
        """Yield nothing."""
        return iter(())


class GaussianSmoother(Generic[Frame]):
    """Averages every identity's points over time; a frame is held back for three widths, 0.15 seconds."""

    def __init__(self, width: float = WIDTH) -> None:
        self.width = width
        self._waiting: deque[tuple[Frame, float, KeypointsPrediction]] = deque()
        self._seen: deque[tuple[float, dict[int, Tensor]]] = deque()

    def push(self, frame: Frame, time: float, prediction: KeypointsPrediction) -> Iterator[tuple[Frame, KeypointsPrediction]]:
        """Yield the frames that no later one can reach any more."""
        assert prediction.identities is not None
        self._seen.append((time, dict(zip(prediction.identities.tolist(), prediction.points, strict=True))))
        self._waiting.append((frame, time, prediction))
        while self._waiting[0][1] < time - REACH * self.width:
            yield self._ready()

    def flush(self) -> Iterator[tuple[Frame, KeypointsPrediction]]:
        """Yield the frames that wait for others."""
        while self._waiting:
            yield self._ready()

    def _ready(self) -> tuple[Frame, KeypointsPrediction]:
        frame, time, prediction = self._waiting.popleft()
        assert prediction.identities is not None
        while self._seen[0][0] < time - REACH * self.width:
            self._seen.popleft()
        points = prediction.points.clone()
        for i, identity in enumerate(prediction.identities.tolist()):
            around = [(at, known[identity]) for at, known in self._seen if identity >= 0 and identity in known]
            if around:
                times = torch.tensor([at for at, _ in around], dtype=torch.float64)
                place = int((times == time).nonzero()[0])
                points[i] = gaussian_smoothed(torch.stack([one for _, one in around]), times, self.width)[place]
        return frame, replace(prediction, points=points)


def smoother(kind: str) -> OneEuroSmoother[Frame] | GaussianSmoother[Frame]:
    """Return the smoother called `one_euro` or `gaussian`."""
    return OneEuroSmoother() if kind == "one_euro" else GaussianSmoother()
