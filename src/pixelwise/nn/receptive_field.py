"""What an output pixel can see, exactly, for every layer of any network; and how far a tile has to look beyond itself.

Layer by layer formulas (Araujo, Norris and Sim 2019) hold for a chain; here every element of every tensor carries its own
interval of rows and columns through whatever the network computes (`following`), so branches, decoders whose pixels see
differently far, and borders are right. `sensitivity` finds the same from gradients, one pixel at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pixelwise.errors import ModelError
from pixelwise.nn.following import Following
from pixelwise.nn.operations import Operation, faked, tensors_in
from pixelwise.nn.span_rules import is_pointwise
from pixelwise.nn.spans import FAR, Array, Axis, Seen, Shape, nothing

SMALLEST, LARGEST = 256, 8192
ENOUGH = 1024
"""How large a picture is tried for a network that sees all of it anyway."""


class Law(NamedTuple):
    """How what a position sees moves with the position, far from the border.

    Position i + `positions` sees what position i sees, `pixels` further on.
    """

    positions: int
    pixels: int
    fields: tuple[int, ...]
    """How many pixels each of these positions sees, in order from a multiple of `positions` on."""
    before: int
    """How many pixels before i * stride the position i sees at most; negative where it sees none."""
    after: int
    """How many pixels from (i + 1) * stride on the position i sees at most."""

    @property
    def stride(self) -> Fraction:
        """Pixels of the picture per position."""
        return Fraction(self.pixels, self.positions)


@dataclass(frozen=True)
class Line:
    """What positions along one axis of a map see of that axis of the picture.

    Attributes:
        first: (positions,) the first pixel seen.
        end: (positions,) the last pixel seen, plus 1; as `first`, cut off at the border, and 0 where none is seen.
        complete: (positions,) whether the border cuts nothing off, not in any layer: the same pixels in the middle of a
            larger picture would give the same value.
        everything: The layers through which every position sees the whole picture besides.
        law: How `first` and `end` go on, if the middle half of the positions is complete and they do.
    """

    first: NDArray[np.int32]
    end: NDArray[np.int32]
    complete: NDArray[np.bool_]
    everything: tuple[str, ...]
    law: Law | None

    @property
    def field(self) -> int:
        """The most pixels that a position near the middle sees, leaving aside what `everything` lets it see."""
        if self.law is not None:
            return max(self.law.fields)
        return max(0, int((self.end - self.first)[_middle(len(self.first))].max()))


class LayerSight(NamedTuple):
    """What the output of one layer sees; of one call, if it is called several times."""

    layer: str
    kind: str
    """Name of its class."""
    rows: Line
    columns: Line


class Sight(NamedTuple):
    """What a network sees of pictures of one size, in evaluation mode."""

    size: tuple[int, int]
    layers: list[LayerSight]
    """In the order in which they finished: those without parts, and those that compute something themselves."""
    outputs: list[LayerSight]
    """One for every tensor that the network returns."""
    whole: list[str]
    """The layers that mix values from all over the picture: statistics, attention, fully connected layers."""
    placed: str | None
    """The first layer whose constants differ from place to place: position embeddings."""
    period: tuple[int, int]
    """Rows and columns by which a picture can move so that every layer computes the same: the lcm of all strides."""


class Reach(NamedTuple):
    """How far outputs look beyond their own pixels, each as (rows, columns), in pixels.

    The outputs a ... b - 1 (a * stride and b * stride their own pixels) are those of the whole picture if they are computed
    from a tile that covers a * stride - before ... b * stride + after, starts at a multiple of `period`, and ends at one or
    at the picture's end.
    """

    before: tuple[int, int]
    after: tuple[int, int]
    period: tuple[int, int]
    whole: str | None
    """The first layer whose values depend on the whole picture, on its size or on the place in it, so that no tile gives
    the same; None if there is none. If there is one, `before` and `after` are 0."""


def follow(network: nn.Module, channels: int, size: tuple[int, int] | None = None) -> Sight:
    """Return what every layer of a network sees of the picture, in evaluation mode; needs no memory for the maps.

    Args:
        network: (1, channels, H, W) -> a tensor, or any lists or dictionaries of tensors; not changed.
        channels: Channels of the picture.
        size: Height and width of the picture in pixels. Default: a square so large that its border is far from the middle of
            every output, but not more than 8192 pixels.

    Raises:
        ModelError: The network does not take such a picture, or an operation in it cannot be followed (says which, where).
    """
    if size is None:
        return _grown(network, channels, LARGEST)
    with faked(network) as copy, torch.no_grad():
        watch = _Layers(copy.eval())
        for fake, real in zip(copy.buffers(), network.buffers(), strict=True):
            watch.constant(fake, real)
        output = watch.run((1, channels, *size))
    outputs = [watch.of(tensor) for tensor in tensors_in(output)]
    named = [_layer_sight("", type(network).__name__, seen) for seen in outputs]
    whole = dict.fromkeys(name for one in named for name in (*one.rows.everything, *one.columns.everything))
    placed = next((seen.placed for seen in outputs if seen.placed), None)
    return Sight(size, watch.layers, named, [*whole], placed, watch.period)


class _Layers(Following):
    """Notes what every layer's output sees, and by which steps the layers walk over the picture."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.layers: list[LayerSight] = []
        self._steps: list[set[int]] = [{1}, {1}]

    @property
    def period(self) -> tuple[int, int]:
        rows, columns = (math.lcm(*steps) for steps in self._steps)
        return rows, columns

    def seen(self, operation: Operation) -> None:
        super().seen(operation)
        if is_pointwise(operation.function):
            return  # walks as its inputs do
        for tensor in tensors_in(operation.result):
            seen = self.of(tensor)
            shared = seen.rows.along & seen.columns.along
            for axis, steps in zip((seen.rows, seen.columns), self._steps, strict=True):
                laws = (_law(_through_middle(axis, dim)) for dim in axis.along - shared)
                steps |= {law.pixels for law in laws if law is not None}

    def left(self, layer: str, module: nn.Module, output: Any) -> None:
        tensors = tensors_in(output)
        self.layers.append(_layer_sight(layer, type(module).__name__, self.of(tensors[0]) if tensors else nothing(())))


def _layer_sight(layer: str, kind: str, seen: Seen) -> LayerSight:
    height, width = len(seen.shape) - 2, len(seen.shape) - 1
    if height in seen.rows.along and width in seen.columns.along:
        rows, columns = frozenset([height]), frozenset([width])
    else:
        rows, columns = seen.rows.along, seen.columns.along
    regular = not rows & columns  # in a row of tokens, columns start again and again
    return LayerSight(
        layer, kind, _line(seen.rows, seen.shape, rows, regular), _line(seen.columns, seen.shape, columns, regular)
    )


def _line(axis: Axis, shape: Shape, along: frozenset[int], regular: bool) -> Line:
    """Return what positions `along` some dimensions see, united over all others."""
    others = tuple(dim + 1 for dim in range(len(shape)) if dim not in along)
    spans = np.broadcast_to(axis.spans.min(others), (3, *(shape[dim] for dim in sorted(along)))).reshape(3, -1)
    law = _law(spans) if len(along) == 1 and regular else None
    some = spans[0] < FAR
    return Line(spans[0] * some, -spans[1] * some, spans[2] > 0, axis.everything, law)


def _through_middle(axis: Axis, dim: int) -> Array:
    """Return the spans along a dimension, in the middle of all others."""
    place = (slice(None) if other == dim else side // 2 for other, side in enumerate(axis.spans.shape[1:]))
    return axis.spans[(slice(None), *place)]


def _middle(count: int) -> slice:
    return slice(count // 4, count - count // 4)


def _law(spans: Array) -> Law | None:
    """Return how (first, -end, complete) go on, if the middle half is complete and each goes on in the same way."""
    places = _middle(spans.shape[1])
    middle = spans[:, places]
    some = middle[0] < FAR
    if not middle[2].all() or not some.any():
        return None
    for step in range(1, middle.shape[1] // 2 + 1):
        moved = (middle[:2, step:] - middle[:2, :-step])[:, some[step:] & some[:-step]]
        pixels = int(moved[0, 0]) if moved.size else 0
        alike = (some[step:] == some[:-step]).all() and (moved[0] == pixels).all() and (moved[1] == -pixels).all()
        if pixels > 0 and alike:
            return _stated(spans, places.start - places.start % -step, step, pixels)
    return None


def _stated(spans: Array, start: int, step: int, pixels: int) -> Law:
    """Return the law of positions that see after each `step` what is so many `pixels` further on."""
    places = range(start, start + step)
    stride = Fraction(pixels, step)
    first, end = spans[0, start : start + step].tolist(), (-spans[1, start : start + step]).tolist()
    fields = tuple(max(0, b - a) for a, b in zip(first, end, strict=True))
    before = max(math.ceil(place * stride) - a for place, a in zip(places, first, strict=True))
    after = max(b - math.floor((place + 1) * stride) for place, b in zip(places, end, strict=True))
    return Law(step, pixels, fields, before, after)


def receptive_field(network: nn.Module, channels: int, size: tuple[int, int] | None = None) -> tuple[int, int]:
    """Return the largest receptive field (height, width) of an output pixel near the centre, in input pixels.

    What the network sees through statistics over the whole picture (`Sight.whole`) is left aside. Where the field depends on
    the position, `follow(...).outputs[0].rows.law.fields` has all of them.

    Args:
        network: As for `follow`.
        channels: Channels of the picture.
        size: Height and width of the picture, which may cut the field off. Default: large enough not to.

    Raises:
        ModelError: As `follow`; or the field has no size, because all is seen through the whole picture, or no end.
    """
    sight = follow(network, channels, size)
    if not size and not all(map(_ends, sight.outputs)):
        why = f"layer {sight.whole[0]!r} sees the whole picture" if sight.whole else f"more than {LARGEST} pixels"
        raise ModelError(f"the receptive field has no size of its own: {why}", "give the size of the picture")
    fields = [(output.rows.field, output.columns.field) for output in sight.outputs]
    height, width = (max(sides) for sides in zip(*fields, strict=True))
    return height, width


def reach(network: nn.Module, channels: int) -> Reach:
    """Return how far the outputs of a network look beyond their own pixels, in evaluation mode.

    Args:
        network: (1, channels, H, W) -> (1, any, H', W'); not changed. If it continues pictures to a multiple of something, this
            is for pictures of such a size.
        channels: Channels of the picture.

    Raises:
        ModelError: As `follow`; or it sees further than 8192 pixels, or returns several tensors.
    """
    sight = _grown(network, channels, ENOUGH)
    if len(sight.outputs) != 1:
        raise ModelError(f"the network returns {len(sight.outputs)} tensors; tiles need one")
    height, width = (-(-side // period) * period for side, period in zip(sight.size, sight.period, strict=True))
    one = sight if (height, width) == sight.size or _bound(sight) else follow(network, channels, (height, width))
    other = one if _bound(one) else follow(network, channels, (height + one.period[0], width + one.period[1]))
    bound = [*_bound(one), *_different(one, other), *_bound(other)]
    if bound:
        return Reach((0, 0), (0, 0), one.period, bound[0])
    output = one.outputs[0]
    if not _ends(output):
        raise ModelError(f"an output pixel sees more than {LARGEST} pixels", "no tile is as large as that")
    (top, bottom), (left, right) = _margins(output.rows, height), _margins(output.columns, width)
    return Reach((top, left), (bottom, right), one.period, None)


def _grown(network: nn.Module, channels: int, largest: int) -> Sight:
    """Follow ever larger pictures until the border is far from the middle of every output.

    With `largest` ends the search for networks that see the whole picture anyway.
    """
    side = SMALLEST
    while True:
        sight = follow(network, channels, (side, side))
        if all(map(_ends, sight.outputs)) or side >= (largest if sight.whole or sight.placed else LARGEST):
            return sight
        cut_off = any(max(output.rows.field, output.columns.field) == side for output in sight.outputs)
        side = min(side * (4 if cut_off else 2), LARGEST)


def _ends(output: LayerSight) -> bool:
    return output.rows.law is not None and output.columns.law is not None


def _bound(sight: Sight) -> list[str]:
    """Return the layers whose values depend on the whole picture, on the place in it, or else on its size.

    The last, which only counts if the output is irregular, are layers that go on in no regular way although the border is
    far from their middle.
    """
    found = [*sight.whole, *([sight.placed] if sight.placed else [])]
    if found or _ends(sight.outputs[0]):
        return found
    return [
        one.layer or one.kind
        for one in sight.layers
        if any(line.law is None and line.complete[_middle(len(line.first))].all() for line in (one.rows, one.columns))
    ]


def _different(one: Sight, other: Sight) -> Iterator[str]:
    """Yield the layers that walk differently over a larger picture: what they do depends on its size."""
    for before, after in zip([*one.layers, *one.outputs], [*other.layers, *other.outputs], strict=False):
        laws = ((before.rows.law, after.rows.law), (before.columns.law, after.columns.law))
        if any(None not in pair and pair[0] != pair[1] for pair in laws):
            yield before.layer or before.kind


def _margins(line: Line, side: int) -> tuple[int, int]:
    """Return how far positions look before and after their own pixels, those near the border of the picture included.

    A position whose pixels lie further from the border than this sees exactly what the law says.
    """
    assert line.law is not None
    stride, count = line.law.stride, len(line.first)
    places = np.arange(count)
    middle = count // 2 - count // 2 % line.law.positions + places % line.law.positions
    ahead = (places - middle) // line.law.positions * line.law.pixels
    lawful = line.complete & (line.first == line.first[middle] + ahead) & (line.end == line.end[middle] + ahead)
    unlawful = np.flatnonzero(~lawful)
    before = [math.floor(int(place) * stride) + 1 for place in unlawful if place < count / 2]
    after = [side - math.ceil((int(place) + 1) * stride) + 1 for place in unlawful if place >= count / 2]
    return max(line.law.before, 0, *before), max(line.law.after, 0, *after)
