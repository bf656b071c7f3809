"""What each operation of ATen does to what the elements of its inputs see.

A rule takes the operation's arguments by their names in ATen's schema, tensors as `Seen`, and besides these `shape`, that
of the (first) result, and `layer`, which runs the operation. It returns what the result sees; what several results see
where they differ. An operation without a rule cannot be followed.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch._ops import OpOverload

from pixelwise.nn import taps
from pixelwise.nn.spans import (
    ABSENT,
    OUTSIDE,
    Pooling,
    Seen,
    Shape,
    expanded,
    joined,
    nothing,
    permuted,
    put,
    reduced,
    reshaped,
    squeezed,
    taken,
    union,
    unsqueezed,
)

Rule = Callable[..., Seen | list[Seen]]
RULES: dict[str, Rule] = {}


class UnknownEffect(Exception):
    """A rule does not cover this use of its operation."""


def rule_of(function: OpOverload) -> Rule | None:
    """Return the rule of an operation, also of its form that writes into its first argument."""
    name = function._schema.name.removeprefix("aten::")
    plain = name if name in RULES else name.removesuffix("_")
    if name.startswith("_scaled_dot_product"):
        plain = "_scaled_dot_product"
    known = RULES.get(plain)
    return _pointwise if known is None and is_pointwise(function) else known


def is_pointwise(function: OpOverload) -> bool:
    """Whether the operation works element by element."""
    plain = function._schema.name.removeprefix("aten::").removesuffix("_")
    same = getattr(getattr(torch.ops.aten, plain, None), "default", function)
    return torch.Tag.pointwise in (*function.tags, *same.tags) or RULES.get(plain) is _pointwise


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


def seen_in(arguments: Any) -> list[Seen]:
    """Return every tensor among arguments and lists of them."""
    if isinstance(arguments, Seen):
        return [arguments]
    values = arguments.values() if isinstance(arguments, dict) else arguments if isinstance(arguments, list | tuple) else ()
    return [seen for value in values for seen in seen_in(value)]


# Element by element ------------------------------------------------------------------------------------------------------


@_rule(
    "hardswish", "mish", "masked_fill", "_to_copy", "alias", "detach", "lift_fresh", "lift_fresh_copy", "contiguous",
    "native_dropout", "_prelu_kernel", "prelu", "log_sigmoid_forward", "rrelu_with_noise", "floor_divide", "_conj",
    "where", "complex", "polar", "real", "imag",
)  # fmt: skip
def _pointwise(shape: Shape, **arguments: Any) -> Seen:
    return union(*seen_in(arguments), nothing(shape))


@_rule("copy")
def _copy(self: Seen, src: Seen, shape: Shape, **_: Any) -> Seen:
    return expanded(src, shape)


@_rule(
    "zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "fill", "zero",
    "new_zeros", "new_ones", "new_full", "new_empty", "new_empty_strided",
)  # fmt: skip
def _constant(shape: Shape, **_: Any) -> Seen:
    return nothing(shape)


@_rule("glu")
def _glu(self: Seen, dim: int, shape: Shape, **_: Any) -> Seen:
    half = shape[dim]
    return taken(self, dim % len(shape), np.arange(half)[:, None] + [0, half])


# All elements along some dimensions --------------------------------------------------------------------------------------


@_rule(
    "mean", "sum", "nansum", "amax", "amin", "max", "min", "prod", "var", "std", "var_mean", "std_mean", "any", "all",
    "logsumexp", "linalg_vector_norm", "norm", "argmax", "argmin", "median", "aminmax", "count_nonzero",
)  # fmt: skip
def _reduction(layer: str, self: Seen, dim: Any = None, keepdim: bool = False, **_: Any) -> Seen:
    dims = [dim] if isinstance(dim, int) else dim or range(len(self.shape))
    return reduced(self, dims, layer, keepdim)


@_rule("_softmax", "_log_softmax", "_safe_softmax", "cumsum", "cumprod", "logcumsumexp", "sort", "topk", "kthvalue")
def _along_all(shape: Shape, layer: str, self: Seen, dim: int, **_: Any) -> Seen:
    return expanded(reduced(self, [dim], layer), shape)


@_rule(
    "native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm", "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training", "_batch_norm_with_update", "_batch_norm_no_update",
)  # fmt: skip
def _batch_norm(layer: str, input: Seen, training: bool = False, **_: Any) -> Seen:
    return _normalised(input, [0, *range(2, len(input.shape))], layer) if training else input


@_rule("native_group_norm")
def _group_norm(layer: str, input: Seen, **_: Any) -> Seen:
    return _normalised(input, range(1, len(input.shape)), layer)


@_rule("native_layer_norm", "_fused_rms_norm")
def _layer_norm(layer: str, input: Seen, normalized_shape: Sequence[int], **_: Any) -> Seen:
    return _normalised(input, range(len(input.shape) - len(normalized_shape), len(input.shape)), layer)


def _normalised(input: Seen, dims: Sequence[int], layer: str) -> Seen:
    return union(input, reduced(input, dims, layer))


@_rule("mm", "bmm")
def _product(layer: str, self: Seen, mat2: Seen, **_: Any) -> Seen:
    return union(reduced(self, [-1], layer, channels=True), reduced(mat2, [-2], layer))


@_rule("addmm")
def _biased_product(layer: str, self: Seen, mat1: Seen, mat2: Seen, **_: Any) -> Seen:
    return union(self, _product(layer, mat1, mat2))  # type: ignore[arg-type]


@_rule("baddbmm")
def _biased_products(layer: str, self: Seen, batch1: Seen, batch2: Seen, **_: Any) -> Seen:
    return union(self, _product(layer, batch1, batch2))  # type: ignore[arg-type]


@_rule("linear")
def _linear(layer: str, input: Seen, shape: Shape, **_: Any) -> Seen:
    return expanded(reduced(input, [-1], layer, channels=True), shape)


@_rule("_scaled_dot_product")
def _attention(layer: str, query: Seen, key: Seen, value: Seen, shape: Shape, **_: Any) -> Seen:
    query, key, value = (reduced(each, [-1], layer, channels=True) for each in (query, key, value))
    return expanded(union(query, reduced(union(key, value), [-2], layer)), shape)


# Windows -----------------------------------------------------------------------------------------------------------------


@_rule("convolution")
def _convolution(
    layer: str, input: Seen, weight: Seen, stride: Any, padding: Any, dilation: Any, transposed: bool, groups: int,
    shape: Shape, **_: Any,
) -> Seen:  # fmt: skip
    if not weight.nothing:
        raise UnknownEffect
    seen = _grouped(layer, input, shape[1], groups)
    slide = taps.spread if transposed else taps.sliding
    return _windows(seen, slide, shape, weight.shape[2:], stride, padding, dilation)


def _grouped(layer: str, seen: Seen, channels: int, groups: int) -> Seen:
    """Return what (B, channels, ...) see, each of them computed from all channels of its group."""
    batch, inputs, *sides = seen.shape
    united = reduced(reshaped(seen, (batch, groups, inputs // groups, *sides)), [2], layer, keep=False, channels=True)
    return taken(united, 1, np.arange(channels)[:, None] // (channels // groups))


def _windows(seen: Seen, slide: Callable[..., taps.Taps], shape: Shape, kernel: Any, *windows: Any) -> Seen:
    """Slide along the last dimensions, as many as there are sides of the kernel."""
    sides = len(kernel)
    for place in range(sides):
        dim = len(shape) - sides + place
        numbers = [window[place] if len(window) > 1 else window[0] for window in windows]
        seen = taken(seen, dim, slide(seen.shape[dim], shape[dim], kernel[place], *numbers))
    return seen


@_rule("avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool1d", "max_pool2d", "max_pool3d", "max_pool3d_with_indices")
def _pooling(self: Seen, kernel_size: Any, stride: Any, padding: Any, shape: Shape, dilation: Any = (1,), **_: Any) -> Seen:
    sides = len(shape) - 2 if len(kernel_size) == 1 else len(kernel_size)
    kernel = [*kernel_size] * (sides // len(kernel_size))
    return _windows(self, taps.sliding, shape, kernel, stride or kernel, padding, dilation)


@_rule("max_pool2d_with_indices")
def _pooling_with_indices(self: Seen, kernel_size: Any, stride: Any, padding: Any, dilation: Any, **rest: Any) -> list[Seen]:
    seen = _pooling(self, kernel_size, stride, padding, dilation=dilation, **rest)
    assert isinstance(seen, Seen)
    numbers = [[*one] * (2 // len(one)) for one in (kernel_size, stride or kernel_size, padding, dilation)]
    windows = tuple(zip(*numbers, strict=True))
    return [seen, seen.noted(pooling=Pooling(windows, self.shape[-2:]))]  # type: ignore[arg-type]


@_rule("_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_avg_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def _adaptive_pooling(layer: str, self: Seen, output_size: Sequence[int], **_: Any) -> Seen:
    seen = self
    for dim, out in zip(range(len(self.shape) - len(output_size), len(self.shape)), output_size, strict=True):
        seen = reduced(seen, [dim], layer) if out == 1 else taken(seen, dim, taps.adaptive(seen.shape[dim], out))
    return seen


@_rule("max_unpool2d")
def _unpool(self: Seen, indices: Seen, shape: Shape, **_: Any) -> Seen:
    """An output depends on every window that it lies in: on the pooled value, and on where the maximum was."""
    if indices.pooling is None or indices.pooling.sides != shape[-2:]:
        raise UnknownEffect
    seen = union(self, indices)
    for dim, window in zip((-2, -1), indices.pooling.windows, strict=True):
        dim += len(shape)
        seen = taken(seen, dim, taps.spread(seen.shape[dim], shape[dim], *window))
    return seen


@_rule("scatter")
def _scatter(self: Seen, dim: int, index: Seen, src: Seen, shape: Shape, **_: Any) -> Seen:
    """Unpooling, written as the placing of values at indices of the flattened map."""
    pooling = index.pooling
    if pooling is None or not self.nothing or math.prod(pooling.sides) != shape[-1] or dim % len(shape) != len(shape) - 1:
        raise UnknownEffect
    sides = [_slid(side, *window) for side, window in zip(pooling.sides, pooling.windows, strict=True)]
    if math.prod(sides) != index.shape[-1]:
        raise UnknownEffect
    source, index = (reshaped(seen, (*shape[:-1], *sides)) for seen in (src, index))
    return reshaped(_unpool(source, index.noted(pooling=pooling), (*shape[:-1], *pooling.sides)), shape)  # type: ignore[arg-type]


@_rule("im2col")
def _im2col(self: Seen, kernel_size: Any, dilation: Any, padding: Any, stride: Any, shape: Shape, **_: Any) -> Seen:
    """All elements of a window see the window: they are united by whatever multiplies them."""
    sides = [_slid(*numbers) for numbers in zip(self.shape[-2:], kernel_size, stride, padding, dilation, strict=True)]
    slid = (*self.shape[:-2], *sides)
    seen = _windows(self, taps.sliding, slid, kernel_size, stride, padding, dilation)
    return reshaped(taken(seen, 1, np.arange(shape[1])[:, None] // math.prod(kernel_size)), shape)


def _slid(side: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    return (side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


@_rule("col2im")
def _col2im(
    layer: str, self: Seen, output_size: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any, shape: Shape, **_: Any
) -> Seen:
    sides = [_slid(*numbers) for numbers in zip(output_size, kernel_size, stride, padding, dilation, strict=True)]
    seen = reshaped(self, (*self.shape[:-1], *sides))
    return _windows(_grouped(layer, seen, shape[1], shape[1]), taps.spread, shape, kernel_size, stride, padding, dilation)


# Resampling and padding --------------------------------------------------------------------------------------------------


@_rule("upsample_nearest2d", "_upsample_nearest_exact2d")
def _nearest(self: Seen, scales_h: float | None, scales_w: float | None, shape: Shape, exact: bool = False, **_: Any) -> Seen:
    for dim, scale in ((2, scales_h), (3, scales_w)):
        self = taken(self, dim, taps.nearest(self.shape[dim], shape[dim], scale, exact))
    return self


RULES["_upsample_nearest_exact2d"] = functools.partial(_nearest, exact=True)


@_rule("upsample_bilinear2d", "upsample_bicubic2d")
def _interpolated(
    layer: str, self: Seen, align_corners: bool, scales_h: float | None, scales_w: float | None, shape: Shape, reach: int = 1,
    **_: Any,
) -> Seen:  # fmt: skip
    """With aligned corners the weights depend on how far from the border an element lies."""
    for dim, scale in ((2, scales_h), (3, scales_w)):
        side = self.shape[dim]
        self = _clamped(self, dim, taps.interpolated(side, shape[dim], scale, align_corners, reach))
    return self.noted(placed=layer) if align_corners else self


RULES["upsample_bicubic2d"] = functools.partial(_interpolated, reach=2)


def _clamped(seen: Seen, dim: int, index: taps.Taps) -> Seen:
    """Beyond the border the border's element counts instead."""
    side = seen.shape[dim]
    return taken(seen, dim, index.clip(0, side - 1), taps.genuine(side, index))


@_rule("constant_pad_nd")
def _constant_pad(self: Seen, pad: Sequence[int], **_: Any) -> Seen:
    for dim, before, after in _ends(self, pad):
        outside = dim in self.rows.along | self.columns.along
        index = taps.padded(self.shape[dim], before, after, OUTSIDE if outside else ABSENT)
        self = taken(self, dim, index, everywhere=not outside)
    return self


@_rule("reflection_pad1d", "reflection_pad2d", "reflection_pad3d")
def _reflection_pad(self: Seen, padding: Sequence[int], **_: Any) -> Seen:
    for dim, before, after in _ends(self, padding):
        side = self.shape[dim]
        self = taken(self, dim, taps.mirrored(side, before, after), taps.padded(side, before, after) != OUTSIDE)
    return self


@_rule("replication_pad1d", "replication_pad2d", "replication_pad3d")
def _replication_pad(self: Seen, padding: Sequence[int], **_: Any) -> Seen:
    for dim, before, after in _ends(self, padding):
        self = _clamped(self, dim, np.arange(-before, self.shape[dim] + after)[:, None])
    return self


def _ends(seen: Seen, ends: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yield dimension and elements before and after it, from the last dimension on, as torch orders them."""
    for place, (before, after) in enumerate(zip(ends[::2], ends[1::2], strict=True)):
        if before or after:
            yield len(seen.shape) - 1 - place, before, after


# The same elements, arranged in another way ------------------------------------------------------------------------------


@_rule("view", "_unsafe_view", "reshape", "_reshape_alias", "flatten", "unflatten")
def _view(self: Seen, shape: Shape, **_: Any) -> Seen:
    return reshaped(self, shape)


@_rule("as_strided")
def _as_strided(self: Seen, shape: Shape, **_: Any) -> Seen:
    if self.shape != shape:
        raise UnknownEffect
    return self  # only another memory format


@_rule("clone")
def _same(self: Seen, **_: Any) -> Seen:
    return self


@_rule("unsqueeze")
def _unsqueeze(self: Seen, dim: int, **_: Any) -> Seen:
    return unsqueezed(self, dim)


@_rule("squeeze")
def _squeeze(self: Seen, dim: Any = None, **_: Any) -> Seen:
    dims = [dim] if isinstance(dim, int) else range(len(self.shape)) if dim is None else dim
    return squeezed(self, [one for one in dims if self.shape[one] == 1])


@_rule("permute", "t", "transpose")
def _permute(self: Seen, **arguments: Any) -> Seen:
    return permuted(self, _order(len(self.shape), **arguments))


def _order(count: int, dims: Sequence[int] | None = None, dim0: int = 0, dim1: int = -1, **_: Any) -> list[int]:
    """Return which dimension comes where."""
    if dims is not None:
        return [dim % count for dim in dims]
    order = [*range(count)]
    if count > 1:
        order[dim0], order[dim1] = order[dim1], order[dim0]
    return order


@_rule("expand")
def _expand(self: Seen, shape: Shape, **_: Any) -> Seen:
    return expanded(self, shape)


@_rule("repeat")
def _repeat(self: Seen, repeats: Sequence[int], **_: Any) -> Seen:
    while len(self.shape) < len(repeats):
        self = unsqueezed(self, 0)
    for dim, count in enumerate(repeats):
        side = self.shape[dim]
        self = taken(self, dim, np.arange(side * count)[:, None] % side)
    return self


@_rule("pixel_shuffle")
def _pixel_shuffle(self: Seen, upscale_factor: int, shape: Shape, **_: Any) -> Seen:
    factor, (*batch, channels, height, width) = upscale_factor, self.shape
    cells = reshaped(self, (*batch, channels // factor**2, factor, factor, height, width))
    lead = len(batch)
    return reshaped(permuted(cells, [*range(lead + 1), lead + 3, lead + 1, lead + 4, lead + 2]), shape)


@_rule("pixel_unshuffle")
def _pixel_unshuffle(self: Seen, downscale_factor: int, shape: Shape, **_: Any) -> Seen:
    factor, (*batch, channels, height, width) = downscale_factor, self.shape
    cells = reshaped(self, (*batch, channels, height // factor, factor, width // factor, factor))
    lead = len(batch)
    return reshaped(permuted(cells, [*range(lead + 1), lead + 2, lead + 4, lead + 1, lead + 3]), shape)


@_rule("channel_shuffle", "native_channel_shuffle")
def _channel_shuffle(self: Seen, groups: int, shape: Shape, **_: Any) -> Seen:
    batch, channels, *sides = shape
    cells = reshaped(self, (batch, groups, channels // groups, *sides))
    return reshaped(permuted(cells, [0, 2, 1, *range(3, len(shape) + 1)]), shape)


def undone(name: str, part: Seen, place: int, self: Seen, dim: int = 0, **arguments: Any) -> Seen | None:
    """Return what a tensor sees after result number `place` of a view of it became `part`; None if that is not known.

    Args:
        name: Name of the operation that made the view.
        part: What the view sees now.
        place: Which of its results the view is.
        self: What the tensor saw before.
        dim: The argument of the operation, as are the others.
        arguments: The others.
    """
    dim %= max(len(self.shape), 1)
    if name == "slice":
        ends = arguments["start"], arguments["end"], arguments["step"]
        return put(self, part, dim, places_of(self.shape[dim], *ends))
    if name == "select":
        return put(self, unsqueezed(part, dim), dim, np.array([arguments["index"]]))
    if name in ("permute", "t", "transpose"):
        return permuted(part, np.argsort(_order(len(self.shape), **arguments)).tolist())
    same = name in ("view", "_unsafe_view", "unsqueeze", "squeeze", "alias", "detach")
    return reshaped(part, self.shape) if same else None


# Some of the elements ----------------------------------------------------------------------------------------------------


@_rule("slice")
def _slice(self: Seen, dim: int, start: int | None, end: int | None, step: int, **_: Any) -> Seen:
    return taken(self, dim % len(self.shape), places_of(self.shape[dim], start, end, step)[:, None])


def places_of(side: int, start: int | None, end: int | None, step: int) -> Any:
    """Return the indices of a slice."""
    return np.arange(side)[slice(start, end, step)]


@_rule("select")
def _select(self: Seen, dim: int, index: int, **_: Any) -> Seen:
    dim %= len(self.shape)
    return squeezed(taken(self, dim, np.array([[index % self.shape[dim]]])), [dim])


@_rule("split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes")
def _split(self: Seen, dim: int, split_size: Any = None, split_sizes: Any = None, **_: Any) -> list[Seen]:
    side = self.shape[dim]
    sizes = split_sizes or [min(split_size, side - start) for start in range(0, side, split_size)]
    ends = itertools.accumulate(sizes, initial=0)
    return [taken(self, dim % len(self.shape), np.arange(*piece)[:, None]) for piece in itertools.pairwise(ends)]


@_rule("unbind")
def _unbind(self: Seen, dim: int, **_: Any) -> list[Seen]:
    return [_select(self, dim, index) for index in range(self.shape[dim])]  # type: ignore[misc]


@_rule("unfold")
def _unfold(self: Seen, dimension: int, size: int, step: int, **_: Any) -> Seen:
    dim = dimension % len(self.shape)
    starts = np.arange(0, self.shape[dim] - size + 1, step)
    cells = taken(self, dim, (starts[:, None] + np.arange(size)).reshape(-1, 1))
    split = reshaped(cells, (*self.shape[:dim], len(starts), size, *self.shape[dim + 1 :]))
    return permuted(split, [*range(dim + 1), *range(dim + 2, len(self.shape) + 1), dim + 1])


@_rule("index_select")
def _index_select(self: Seen, dim: int, index: Seen, **_: Any) -> Seen:
    dim %= len(self.shape)
    return taken(self, dim, _values(self, dim, index).reshape(-1, 1))


@_rule("index")
def _index(self: Seen, indices: Sequence[Seen | None], shape: Shape, **_: Any) -> Seen:
    given = [(dim, index) for dim, index in enumerate(indices) if index is not None]
    if len(given) != 1:
        raise UnknownEffect
    dim, index = given[0]
    return reshaped(taken(self, dim, _values(self, dim, index).reshape(-1, 1)), shape)


def _values(seen: Seen, dim: int, index: Seen) -> Any:
    """Return the indices themselves; where elements do not differ, any will do."""
    if index.values is not None and index.values.dtype != bool:
        return index.values % seen.shape[dim]
    if not index.nothing or seen.rows.changes(dim) or seen.columns.changes(dim):
        raise UnknownEffect
    return np.zeros(index.shape, int)


@_rule("flip")
def _flip(self: Seen, dims: Sequence[int], **_: Any) -> Seen:
    for dim in dims:
        self = taken(self, dim % len(self.shape), np.arange(self.shape[dim])[::-1, None])
    return self


@_rule("roll")
def _roll(self: Seen, shifts: Sequence[int], dims: Sequence[int], **_: Any) -> Seen:
    if not dims:
        raise UnknownEffect
    for shift, dim in zip(shifts, dims, strict=True):
        side = self.shape[dim]
        self = taken(self, dim % len(self.shape), (np.arange(side)[:, None] - shift) % side)
    return self


@_rule("cat")
def _cat(tensors: Sequence[Seen], dim: int, shape: Shape, **_: Any) -> Seen:
    return joined([seen for seen in tensors if len(seen.shape) == len(shape)], dim)  # torch ignores empty ones


@_rule("stack")
def _stack(tensors: Sequence[Seen], dim: int, **_: Any) -> Seen:
    return joined([unsqueezed(seen, dim) for seen in tensors], dim)
