"""Who is who: key points and the limbs between them become people (Cao et al. 2017; OpenPose).

The candidates come from `candidates`. Here is what no graph holds: one partner for each peak, and the assembly, limb by limb.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
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
    from scipy.optimize import linear_sum_assignment

    first, second = linear_sum_assignment(scores, maximize=True)
    found = zip(first.tolist(), second.tolist(), scores[first, second].tolist(), strict=True)
    return [(i, j, score) for i, j, score in found if score > 0]


@dataclass(eq=False)
class Person:
    """Which peak each part is, and the scores of the limbs that led there."""

    parts: dict[int, int]
    limbs: list[float]


Peak = tuple[int, int]
"""A part, and which of its peaks."""
Owners = dict[Peak, Person]


def assemble(pairs: Sequence[Sequence[Pair]], limbs: Sequence[Limb], order: Order) -> list[Person]:
    """Put people together from the pairs of each limb.

    A limb whose one end somebody owns gives him the other, unless he has that part. One that joins two people merges them if
    no part is then there twice. One of which nobody owns an end makes a new person, unless it is redundant.
    """
    owners: Owners = {}
    for n in (*order.tree, *order.redundant):
        first, second = limbs[n]
        for i, j, score in pairs[n]:
            person = _owner(owners, (first, i), (second, j), creates=n in order.tree)
            if person and person.parts.get(first, i) == i and person.parts.get(second, j) == j:
                person.parts.update({first: i, second: j})
                person.limbs.append(score)
                owners[first, i] = owners[second, j] = person
    return list(dict.fromkeys(owners.values()))


def _owner(owners: Owners, start: Peak, end: Peak, creates: bool) -> Person | None:
    """Return whose the limb between two peaks may be: their one owner, their two merged into one, or somebody new."""
    one, other = owners.get(start), owners.get(end)
    if one is None and other is None:
        return Person({}, []) if creates else None
    if one is None or other is None or one is other:
        return one or other
    if one.parts.keys() & other.parts.keys():
        return None
    one.parts.update(other.parts)
    one.limbs += other.limbs
    owners.update(dict.fromkeys(other.parts.items(), one))
    return one


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

    How good a person is, is (sum of the beliefs of the parts + sum of the scores of the limbs) / (number of both). His score
    is that times the share of the parts that were found, so that an arm by itself stands behind a whole person.

    Args:
        candidates: Of a batch, on the CPU.
        limbs: The two parts of each limb.
        order: From `limb_order`.
        optimal: Pair the ends of a limb by the largest total score instead of the best pair first.
        least_parts: People with fewer parts are left out.
        least_score: People who are less good are left out.
    """
    pair = best_pairs if optimal else greedy_pairs
    answers = []
    for points, confidence, scores in zip(*candidates, strict=True):
        people = assemble([pair(sheet) for sheet in scores.double().numpy()], limbs, order)
        found = _gathered([person for person in people if len(person.parts) >= least_parts], points, confidence)
        whole = found.points.isfinite().all(-1).float().mean(-1)
        found = found._replace(scores=torch.where(found.scores >= least_score, found.scores * whole, 0))
        rank = found.scores.argsort(descending=True)[: int((found.scores > 0).sum())]
        answers.append(People(*(tensor[rank] for tensor in found)))
    return answers


def _gathered(people: Sequence[Person], points: Tensor, confidence: Tensor) -> People:
    """Look up the peaks `(K, M, 2)` of the people, and how good they are."""
    peak = torch.full((len(people), len(points)), -1)
    for row, person in zip(peak, people, strict=True):
        row[list(person.parts)] = torch.tensor(list(person.parts.values()))
    part, found = torch.arange(len(points)), peak >= 0
    sure = torch.where(found, confidence[part, peak], 0)
    limbs = torch.tensor([sum(person.limbs) for person in people])
    counted = found.sum(1) + torch.tensor([len(person.limbs) for person in people], dtype=torch.int64)
    return People(
        torch.where(found[..., None], points[part, peak], torch.nan), sure, (sure.sum(1) + limbs) / counted.clamp(min=1)
    )
