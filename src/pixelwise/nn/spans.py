"""Which rows and columns of the picture every element of a tensor depends on, and how that changes with the tensor.

An element sees a rectangle: an interval of rows and one of columns. Each of the two is kept as an array over the
elements that has size 1 along every dimension in which it does not change, so that a map of H x W pixels needs H + W
intervals. Views of a tensor are views of its intervals; an operation that mixes elements unites theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.int32]
Shape = tuple[int, ...]

FAR = 2**30
# An interval is (first, -end, whole): uniting intervals is then the minimum of each of the three. `whole` is 0 where what
# was seen would go on beyond the border of the picture: there a value depends on where the border is.
NOTHING = np.array([FAR, FAR, 1], np.int32)
BEYOND = np.array([FAR, FAR, 0], np.int32)
# As the index of a tap: an element that is not there, and one that would be there if the picture went on.
ABSENT, OUTSIDE = -1, -2


@dataclass(frozen=True)
class Axis:
    """What the elements of a tensor see along one axis of the picture.

    Attributes:
        spans: (3, ...) intervals, broadcastable to the shape of the tensor behind the first dimension.
        along: Dimensions of the tensor that walk along this axis of the picture.
        everything: The layers through which all elements see all of the picture, first to last. What they see through these
            is not in `spans`.
    """

    spans: Array
    along: frozenset[int]
    everything: tuple[str, ...] = ()

    def changes(self, dim: int) -> bool:
        """Whether elements differ along `dim`, or would if there were more than one."""
        return dim in self.along or self.spans.shape[dim + 1] > 1


class Pooling(NamedTuple):
    """Windows (kernel, stride, padding, dilation) along rows and along columns, and the sides of the map they lie on."""

    windows: tuple[tuple[int, int, int, int], tuple[int, int, int, int]]
    sides: tuple[int, int]


@dataclass(frozen=True)
class Seen:
    """What the elements of a tensor see along rows and along columns of the picture, and what is known about them besides.

    Attributes:
        shape: Shape of the tensor.
        rows: What they see along rows.
        columns: What they see along columns.
        placed: The first layer that made them depend on where in the picture they are.
        uniform: Whether all elements are the same constant.
        values: The elements themselves, where they are constants and known.
        pooling: The pooling whose indices they are.
    """

    shape: Shape
    rows: Axis
    columns: Axis
    placed: str | None = None
    uniform: bool = False
    values: NDArray[Any] | None = None
    pooling: Pooling | None = None

    def each(self, change: Callable[[Axis], Axis], shape: Iterable[int]) -> Seen:
        """Return the same change of both axes, as a tensor of another shape."""
        return Seen(tuple(shape), change(self.rows), change(self.columns))

    def noted(self, **known: Any) -> Seen:
        """Return the same with something known besides."""
        return replace(self, **known)

    @property
    def nothing(self) -> bool:
        """Whether no element depends on the picture."""
        return not any(axis.along or axis.everything or (axis.spans[0] < FAR).any() for axis in (self.rows, self.columns))


def nothing(shape: Iterable[int]) -> Seen:
    """Return what a tensor sees that does not depend on the picture."""
    shape = tuple(shape)
    axis = Axis(NOTHING.reshape(3, *(1 for _ in shape)), frozenset())
    return Seen(shape, axis, axis)


def picture(shape: Shape) -> Seen:
    """Return what the picture (B, C, H, W) sees: each pixel itself."""
    return Seen(shape, _itself(shape, 2), _itself(shape, 3))


def _itself(shape: Shape, dim: int) -> Axis:
    place = np.arange(shape[dim], dtype=np.int32)
    spans = np.stack([place, -place - 1, np.ones_like(place)])
    return Axis(spans.reshape(3, *(side if dim == other else 1 for other, side in enumerate(shape))), frozenset([dim]))


def union(*seen: Seen) -> Seen:
    """Return what the elements see that are computed from those at the same place, broadcast as torch does."""
    shape = np.broadcast_shapes(*(one.shape for one in seen))
    rows = _united([one.rows for one in seen], len(shape))
    return Seen(shape, rows, _united([one.columns for one in seen], len(shape)))


def _united(axes: Sequence[Axis], dims: int) -> Axis:
    some = [axis for axis in axes if axis.along or axis.everything or axis.spans.size > 3 or axis.spans[0] < FAR]
    if not some:
        return Axis(NOTHING.reshape(3, *[1] * dims), frozenset())
    along: set[int] = set()
    spans = None
    for axis in some:
        lead = dims + 1 - axis.spans.ndim
        along |= {dim + lead for dim in axis.along}
        aligned = axis.spans.reshape(3, *[1] * lead, *axis.spans.shape[1:])
        spans = aligned if spans is None else np.minimum(spans, aligned)
    assert spans is not None
    return Axis(spans, frozenset(along), _names(some))


def _names(axes: Iterable[Axis]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for axis in axes for name in axis.everything))


def taken(
    seen: Seen, dim: int, index: NDArray[Any], genuine: NDArray[np.bool_] | None = None, everywhere: bool = False
) -> Seen:
    """Return what is seen by elements each computed from several elements along `dim`.

    Args:
        seen: What the elements see.
        dim: The dimension.
        index: (elements, taps) which elements each new element is computed from, or ABSENT, or OUTSIDE.
        genuine: (elements, taps) False where the element stands for another one beyond the border. Default: all are.
        everywhere: Also where nothing changes along `dim` some of the taps are ABSENT.
    """
    shape = (*seen.shape[:dim], len(index), *seen.shape[dim + 1 :])

    def change(axis: Axis) -> Axis:
        return _taken(axis, seen.shape[dim], dim, index, genuine) if everywhere or axis.changes(dim) else axis

    return seen.each(change, shape)


def _taken(axis: Axis, side: int, dim: int, index: NDArray[Any], genuine: NDArray[np.bool_] | None) -> Axis:
    if dim not in axis.along:  # beyond this border lies nothing of this axis
        index, genuine = np.maximum(index, ABSENT), None
    spans = _expanded(axis.spans, {dim: side})
    ends = np.stack([BEYOND, NOTHING], 1).reshape(3, *(2 if other == dim else 1 for other in range(spans.ndim - 1)))
    ends = _expanded(ends, {other: size for other, size in enumerate(spans.shape[1:]) if other != dim})
    spans = np.concatenate([spans, ends], dim + 1)
    found = None
    for tap in range(index.shape[1]):
        seen = spans.take(index[:, tap], dim + 1)
        if genuine is not None:
            seen[2] &= _along(genuine[:, tap], dim, seen.ndim - 1)
        found = seen if found is None else np.minimum(found, seen, out=found)
    assert found is not None
    return replace(axis, spans=_compact(found))


def _along(values: NDArray[Any], dim: int, dims: int) -> NDArray[Any]:
    return values.reshape([len(values) if other == dim else 1 for other in range(dims)])


def _expanded(spans: Array, sides: dict[int, int]) -> Array:
    shape = list(spans.shape)
    for dim, side in sides.items():
        shape[dim + 1] = side
    return np.broadcast_to(spans, shape)


def _compact(spans: Array) -> Array:
    """Return the same intervals with size 1 along every dimension in which they do not change."""
    if sum(size > 1 for size in spans.shape[1:]) > 1:
        for axis in range(1, spans.ndim):
            one = spans.take([0], axis)
            if spans.shape[axis] > 1 and (spans == one).all():
                spans = one
    return spans


def reduced(seen: Seen, dims: Iterable[int], layer: str, keep: bool = True, channels: bool = False) -> Seen:
    """Return what is seen by elements that are computed from all elements along `dims`.

    Where this leaves nothing of a walk along an axis of the picture, or a walk between elements that see nearly all of it,
    `layer` makes them see everything.

    Args:
        seen: What the elements see.
        dims: The dimensions.
        layer: The layer that does this.
        keep: Keep the dimensions, with size 1.
        channels: The dimensions are channels; if a map has been folded into these, what is left of a walk stays one.
    """
    dims = {dim % len(seen.shape) for dim in dims}
    shape = [1 if dim in dims else side for dim, side in enumerate(seen.shape)]
    kept = seen.each(lambda axis: _reduced(axis, dims, layer, channels), shape)
    return kept if keep else squeezed(kept, dims)


def _reduced(axis: Axis, dims: set[int], layer: str, channels: bool) -> Axis:
    along = axis.along - dims
    spans = axis.spans.min(tuple(dim + 1 for dim in dims), keepdims=True)
    if along == axis.along or (along and (channels or not _nearly_all(spans))):
        return replace(axis, spans=spans, along=along)
    nothing = NOTHING.reshape(3, *[1] * (axis.spans.ndim - 1))
    return Axis(nothing, frozenset(), tuple(dict.fromkeys((*axis.everything, layer))))


def _nearly_all(spans: Array) -> bool:
    """Whether all of these are more than three quarters of what they cover together."""
    first, end = spans[:2, spans[0] < FAR] * [[1], [-1]]
    return bool(first.size and (4 * (end - first) > 3 * (end.max() - first.min())).all())


def permuted(seen: Seen, dims: Sequence[int]) -> Seen:
    """Return what the elements see with dimension dims[i] as dimension i."""
    dims = [dim % len(dims) for dim in dims]

    def change(axis: Axis) -> Axis:
        along = frozenset(dims.index(dim) for dim in axis.along)
        return replace(axis, spans=axis.spans.transpose(0, *(dim + 1 for dim in dims)), along=along)

    return seen.each(change, (seen.shape[dim] for dim in dims))


def squeezed(seen: Seen, dims: Iterable[int]) -> Seen:
    """Return what the elements see without these dimensions of size 1."""
    dims = {dim % len(seen.shape) for dim in dims}
    left = [dim for dim in range(len(seen.shape)) if dim not in dims]

    def change(axis: Axis) -> Axis:
        along = frozenset(left.index(dim) for dim in axis.along - dims)
        return replace(axis, spans=axis.spans.reshape(3, *(axis.spans.shape[dim + 1] for dim in left)), along=along)

    return seen.each(change, (seen.shape[dim] for dim in left))


def unsqueezed(seen: Seen, dim: int) -> Seen:
    """Return what the elements see with one more dimension, of size 1."""
    dim %= len(seen.shape) + 1

    def change(axis: Axis) -> Axis:
        along = frozenset(other + (other >= dim) for other in axis.along)
        return replace(axis, spans=np.expand_dims(axis.spans, dim + 1), along=along)

    return seen.each(change, (*seen.shape[:dim], 1, *seen.shape[dim:]))


def expanded(seen: Seen, shape: Shape) -> Seen:
    """Return what the elements see that repeat those of a tensor of fewer elements."""
    return union(seen, nothing(shape))


def reshaped(seen: Seen, shape: Shape) -> Seen:
    """Return what the elements of the same tensor see under another shape: dimensions merge and split."""
    groups = list(_groups(seen.shape, shape))
    return seen.each(lambda axis: _reshaped(axis, seen.shape, shape, groups), shape)


def _groups(old: Shape, new: Shape) -> Iterator[tuple[range, range]]:
    """Yield the smallest runs of dimensions, old and new, that have the same elements."""
    i = j = 0
    while i < len(old) and j < len(new):
        start, other = i, j
        i, j = i + 1, j + 1
        while (before := math.prod(old[start:i])) != (after := math.prod(new[other:j])):
            i, j = (i + 1, j) if before < after else (i, j + 1)
        if math.prod(old[i:]) == 1 and math.prod(new[j:]) == 1:
            i, j = len(old), len(new)
        yield range(start, i), range(other, j)


def _reshaped(axis: Axis, old: Shape, new: Shape, groups: list[tuple[range, range]]) -> Axis:
    before, after = [1] * len(old), [1] * len(new)
    along: set[int] = set()
    for here, there in groups:
        if any(axis.changes(dim) for dim in here):
            before[here.start : here.stop] = old[here.start : here.stop]
            after[there.start : there.stop] = new[there.start : there.stop]
        if axis.along.intersection(here):
            long = [dim for dim in there if new[dim] > 1]
            along.update(long or there)
    spans = _compact(np.broadcast_to(axis.spans, (3, *before)).reshape(3, *after))
    # where a map was flattened and is one again, rows are rows and columns are columns
    walks = {dim for dim in along if spans.shape[dim + 1] > 1}
    return replace(axis, spans=spans, along=frozenset(walks or along))


def joined(pieces: Sequence[Seen], dim: int) -> Seen:
    """Return what the elements of a concatenation along `dim` see."""
    dim %= len(pieces[0].shape)
    shape = list(pieces[0].shape)
    shape[dim] = sum(piece.shape[dim] for piece in pieces)
    sides = [piece.shape[dim] for piece in pieces]
    rows = _joined([piece.rows for piece in pieces], sides, dim)
    return Seen(tuple(shape), rows, _joined([piece.columns for piece in pieces], sides, dim))


def _joined(axes: Sequence[Axis], sides: Sequence[int], dim: int) -> Axis:
    first, along = axes[0], axes[0].along.union(*(axis.along for axis in axes))
    spans = first.spans
    if any(axis.changes(dim) or not np.array_equal(axis.spans, spans) for axis in axes):
        common = np.broadcast_shapes(*((3, *(1 if d == dim else n for d, n in enumerate(a.spans.shape[1:]))) for a in axes))
        full = [np.broadcast_to(a.spans, (*common[: dim + 1], n, *common[dim + 2 :])) for a, n in zip(axes, sides, strict=True)]
        spans = np.concatenate(full, dim + 1)
    return Axis(spans, along, _names(axes))


def put(seen: Seen, part: Seen, dim: int, places: NDArray[Any]) -> Seen:
    """Return what the elements see after those at `places` along `dim` were replaced by `part`."""

    def change(axis: Axis, new: Axis) -> Axis:
        common = np.broadcast_shapes(axis.spans.take([0], dim + 1).shape, new.spans.take([0], dim + 1).shape)
        spans = np.broadcast_to(axis.spans, (*common[: dim + 1], seen.shape[dim], *common[dim + 2 :])).copy()
        np.moveaxis(spans, dim + 1, 0)[places] = np.moveaxis(_expanded(new.spans, {dim: len(places)}), dim + 1, 0)
        return Axis(_compact(spans), axis.along | new.along, _names([new, axis]))

    return Seen(seen.shape, change(seen.rows, part.rows), change(seen.columns, part.columns))
