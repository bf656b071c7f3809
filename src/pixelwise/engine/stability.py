"""What goes wrong when two networks play against each other, seen in the losses that are logged anyway, and said once."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping

PATIENCE = 200
"""Steps that a sign must last: a discriminator may well win for a while."""
SURE = 0.02
"""Mean loss below which a discriminator is right about nearly everything; undecided it is 0.25 (lsgan) to 2 (hinge)."""
GROWN = 1000.0
"""How many times its first mean, or `SMALL` if that is more, a loss may become."""
SMALL = 0.1
UNHEARD = 1e-3
"""Least share of the adversarial loss in what generators minimise, in absolute values."""
COLLAPSED = 0.3
"""Least diversity of generated pictures as a share of that of true ones."""
DISCRIMINATOR, ADVERSARIAL = "discriminator", "adversarial"
PENALTIES = ("gradient_penalty", "r1")
"""Of the discriminator."""
NO_ZERO = ("hinge", "wasserstein")
"""Games in which the generator minimises -f, which may pass 0 at any time."""


class Stability:
    """Takes in the losses of each step and the metrics of each evaluation; returns advice, each kind of it once.

    Losses are known by how their names begin: `discriminator` and `adversarial`. A run without an adversarial loss is only
    watched for losses that explode; one that is not finite stops the run anyway.

    Args:
        game: The kind of adversarial loss. A wasserstein critic near 0 cannot tell the pictures apart, so it never wins.
    """

    def __init__(self, game: str = "") -> None:
        self.game = game
        self.recent: dict[str, deque[float]] = {}
        self.first: dict[str, float] = {}
        self.said: set[str] = set()

    def losses(self, losses: Mapping[str, float]) -> list[str]:
        """Take in a step's losses by name."""
        for name, value in losses.items():
            self.recent.setdefault(name, deque(maxlen=PATIENCE)).append(value)
        means = {name: sum(map(abs, seen)) / PATIENCE for name, seen in self.recent.items() if len(seen) == PATIENCE}
        for name, mean in means.items():
            self.first.setdefault(name, mean)
        return [text for kind, text in self._signs(means) if self._new(kind)]

    def metrics(self, metrics: Mapping[str, float]) -> list[str]:
        """Take in the metrics of an evaluation: `diversity_NAME` beside `true_diversity_NAME`."""
        found = []
        for name, true in metrics.items():
            ours = metrics.get(name.removeprefix("true_"), math.nan)
            if name.startswith("true_diversity") and ours < COLLAPSED * true and self._new("collapse"):
                found.append(
                    f"the pictures differ {ours / true:.2f} times as much as true ones do: the generator may have collapsed; "
                    "try a lower optimizer.lr, task.r1=1 or a larger batch_size"
                )
        return found

    def _new(self, kind: str) -> bool:
        fresh = kind not in self.said
        self.said.add(kind)
        return fresh

    def _signs(self, means: Mapping[str, float]) -> Iterator[tuple[str, str]]:
        for name, mean in means.items():
            if mean > GROWN * max(self.first[name], SMALL):
                yield (
                    "explosion",
                    f"{name} has grown {mean / self.first[name]:.0f}-fold: lower optimizer.lr, or set clip_norm=1",
                )
            if name.startswith(DISCRIMINATOR) and mean < SURE and self.game != "wasserstein":
                yield (
                    "winning",
                    f"{name} was {mean:.2g} over {PATIENCE} steps: the discriminator wins, and the generator "
                    "learns little from it; try task.augmentation=colour,translation,cutout, a smaller "
                    "task.discriminator.width, or another seed",
                )
        adversarial = sum(mean for name, mean in means.items() if name.startswith(ADVERSARIAL))
        others = sum(mean for name, mean in means.items() if not name.startswith((DISCRIMINATOR, ADVERSARIAL, *PENALTIES)))
        if 0 < adversarial < UNHEARD * others and self.game not in NO_ZERO:
            share = adversarial / (adversarial + others)
            yield (
                "balance",
                f"the adversarial loss is {share:.1g} of what the generator minimises: lower the weights of the others",
            )
