"""Who is who: key points and the limbs between them become people (Cao et al. 2017; OpenPose).

The candidates come from `candidates`. Here is what no graph holds: one partner for each peak, and the assembly, limb by limb.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from pixelwise.codecs.candidates import Candidates
from pixelwise.errors import UsageError

Array = NDArray[Any]
Limb = tuple[int, int]
Pair = tuple[int, int, float]
"""A peak of a limb's first part, one of its second, and the score."""


class People(NamedTuple):
    """N people: `points` `(N, K, 2)`, NaN where a part was not found; their `confidence` `(N, K)`; and `scores` `(N,)`."""

    points: Tensor
    confidence: Tensor
    scores: Tensor


class Order(NamedTuple):
    """In which order limbs are assembled: first a tree that reaches every part, then the `redundant` rest."""

    tree: tuple[int, ...]
    redundant: tuple[int, ...]


def limb_order(limbs: Sequence[Limb], names: Sequence[str]) -> Order:
    """Return the order of the limbs in which each of the tree touches a part that is placed already and places another.

    Raises:
        UsageError: There are no limbs, or they do not connect all the points.
    """
    hint = 'limbs are pairs of points: {"names": ["head", "neck", "hip"], "limbs": [[1, 0], [1, 2]]}'
    if not limbs:
        raise UsageError("the skeleton has no limbs, and without them nobody knows which points belong to one person", hint)
    placed, tree = {limbs[0][0]}, list[int]()
    while (found := next((n for n, ends in enumerate(limbs) if len(placed & set(ends)) == 1 and len(set(ends)) == 2), -1)) >= 0:
        tree.append(found)
        placed |= set(limbs[found])
    apart = [name for part, name in enumerate(names) if part not in placed]
    if apart:
        raise UsageError(f"the limbs do not connect all points: {', '.join(apart[:5])} cannot be reached", hint)
    return Order(tuple(tree), tuple(n for n in range(len(limbs)) if n not in tree))


def greedy_pairs(scores: Array) -> list[Pair]:
    """Return pairs, the best first, each peak in at most one of them.

    Args:
        scores: `(A, B)`; 0 where the two do not belong together.
    """
    first, second = np.nonzero(scores > 0)
    values = scores[first, second]
    best = np.argsort(-values, kind="stable")
    pairs, used_first, used_second = [], set[int](), set[int]()
    for i, j, score in zip(first[best].tolist(), second[best].tolist(), values[best].tolist(), strict=True):
        if i not in used_first and j not in used_second:
            pairs.append((i, j, score))
            used_first.add(i)
            used_second.add(j)
    return pairs


def best_pairs(scores: Array) -> list[Pair]:
    """Return the pairs of largest total score (Hungarian method); arguments as for `greedy_pairs`."""
    first, second = linear_sum_assignment(scores, maximize=True)
    found = zip(first.tolist(), second.tolist(), scores[first, second].tolist(), strict=True)
    return [(i, j, score) for i, j, score in found if score > 0]


@dataclass(eq=False)
class Person:
    """Which peak each part is, and the scores of the limbs that led there."""

    parts: dict[int, int]
    limbs: list[float]


def assemble(pairs: Sequence[Sequence[Pair]], limbs: Sequence[Limb], order: Order) -> list[Person]:
    """Put people together from the pairs of each limb.

    A limb whose one end somebody owns gives him the other, unless he has that part. One that joins two people merges them if
    no part is then there twice. One of which nobody owns an end makes a new person, unless it is redundant.
    """
    owners: dict[tuple[int, int], Person] = {}
    for n in (*order.tree, *order.redundant):
        for i, j, score in pairs[n]:
            ends = dict(zip(limbs[n], (i, j), strict=True))
            joined = list(dict.fromkeys(owners[end] for end in ends.items() if end in owners))
            parts = _together([ends, *(person.parts for person in joined)])
            if parts is not None and (joined or n not in order.redundant):
                person = Person(parts, [score, *(limb for one in joined for limb in one.limbs)])
                owners.update(dict.fromkeys(parts.items(), person))
    return list(dict.fromkeys(owners.values()))


def _together(claims: Iterable[dict[int, int]]) -> dict[int, int] | None:
    """Return all parts, or None if some part would be two peaks."""
    parts: dict[int, int] = {}
    for claim in claims:
        for part, peak in claim.items():
            if parts.setdefault(part, peak) != peak:
                return None
    return parts


def group(
    candidates: Candidates,
    limbs: Sequence[Limb],
    order: Order,
    *,
    optimal: bool = False,
    least_parts: int = 3,
    least_score: float = 0.2,
) -> list[People]:
    """Return the people of each image of a batch, the surest first.

    A person's score is (sum of the beliefs of the parts + sum of the scores of the limbs) / (number of both).

    Args:
        candidates: Of a batch, on the CPU.
        limbs: The two parts of each limb.
        order: From `limb_order`.
        optimal: Pair the ends of a limb by the largest total score instead of the best pair first.
        least_parts: People with fewer parts are left out.
        least_score: People with a smaller score are left out.
    """
    pair = best_pairs if optimal else greedy_pairs
    answers = []
    for points, confidence, scores in zip(*candidates, strict=True):
        people = assemble([pair(sheet) for sheet in scores.double().numpy()], limbs, order)
        kept = [person for person in people if len(person.parts) >= least_parts]
        found = _gathered(kept, points, confidence)
        rank = [n for n in found.scores.argsort(descending=True).tolist() if found.scores[n] >= least_score]
        answers.append(People(*(tensor[rank] for tensor in found)))
    return answers


def _gathered(people: Sequence[Person], points: Tensor, confidence: Tensor) -> People:
    """Look up the peaks `(K, M, 2)` of the people, and score them."""
    peak = torch.full((len(people), len(points)), -1)
    for row, person in zip(peak, people, strict=True):
        row[list(person.parts)] = torch.tensor(list(person.parts.values()))
    part, found = torch.arange(len(points)), peak >= 0
    sure = torch.where(found, confidence[part, peak], 0)
    limbs = torch.tensor([sum(person.limbs) for person in people])
    counted = found.sum(1) + torch.tensor([len(person.limbs) for person in people], dtype=torch.int64)
    return People(torch.where(found[..., None], points[part, peak], torch.nan), sure, (sure.sum(1) + limbs) / counted.clamp(min=1))
