"""Follow through a network which pixels of the picture every element of every tensor depends on.

The network runs on tensors without values (`operations.faked`); each operation that it runs tells, by its rule in
`span_rules`, what its result sees. Nothing is measured and nothing can cancel.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily
from torch.utils._pytree import tree_map_only
from torch.utils.weak import WeakIdKeyDictionary

from pixelwise.nn.operations import Operation, Operations, tensors_in
from pixelwise.nn.span_rules import UnknownEffect, is_pointwise, rule_of, seen_in, undone
from pixelwise.nn.spans import Seen, nothing, picture

FILLED = {
    "zeros", "ones", "full", "empty", "zeros_like", "ones_like", "full_like", "empty_like", "scalar_tensor",
    "new_zeros", "new_ones", "new_full", "new_empty", "new_empty_strided",
}  # fmt: skip
# Besides those that work element by element: where constants stand beside what comes from the picture.
JOINING = ("cat", "_scaled_dot_product")
# Indices of a pooling stay indices of that pooling.
KEPT = {
    "view", "_unsafe_view", "clone", "alias", "detach", "slice", "split", "cat", "expand", "repeat", "index_select", "index",
}  # fmt: skip
# Constants of up to so many elements are worked out: they may be the indices of something.
FEW = 2**16
INDICES = (torch.int64, torch.int32, torch.bool, torch.float32, torch.float64)
RANDOM = torch.Tag.nondeterministic_seeded


class View(NamedTuple):
    """How a tensor that shares memory with `base` came from it: as result number `place` of `operation`."""

    base: Tensor
    operation: Operation
    place: int


class Following(Operations):
    """Notes what every tensor sees while `network` runs; within `operations.faked`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self._known: MutableMapping[Tensor, Seen] = WeakIdKeyDictionary()
        self._views: MutableMapping[Tensor, View] = WeakIdKeyDictionary()

    def shown(self, image: Tensor) -> None:
        """Note that every pixel of the picture sees itself."""
        self._known[image] = picture(tuple(image.shape))

    def constant(self, tensor: Tensor, real: Tensor) -> None:
        """Say which constant a tensor of the network stands for."""
        self._known[tensor] = nothing(tensor.shape).noted(values=_values(real))

    def of(self, tensor: Tensor) -> Seen:
        """Return what a tensor sees: nothing if it was never computed from the picture."""
        if tensor not in self._known:
            values = None if isinstance(tensor, FakeTensor) else _values(tensor)
            self._known[tensor] = nothing(tensor.shape).noted(values=values)
        return self._known[tensor]

    def seen(self, operation: Operation) -> None:
        """Note what the results of an operation see."""
        results = tensors_in(operation.result)
        if not results:
            return
        arguments = tree_map_only(Tensor, self.of, operation.arguments)
        if all(seen.nothing for seen in seen_in(arguments)):
            found = _constants(operation, arguments, results)
        else:
            found = self._followed(operation, arguments, results)
        assert found[0].shape == tuple(results[0].shape)
        written = _written(operation)
        for place, (result, seen) in enumerate(zip(results, found, strict=True)):
            if written is not None:
                self._write(written, seen)
            elif operation.function.is_view:
                self._views[result] = View(operation.arguments["self"], operation._replace(result=None), place)
            self._known[result] = seen

    def _followed(self, operation: Operation, arguments: dict[str, Any], results: list[Tensor]) -> list[Seen]:
        rule = rule_of(operation.function)
        try:
            if rule is None:
                raise UnknownEffect
            found = rule(**arguments, shape=tuple(results[0].shape), layer=self.place)
        except UnknownEffect:
            raise self.lost(operation.name) from None
        several = found if isinstance(found, list) else [found] * len(results)
        return [self._noted(operation, seen, seen_in(arguments)) for seen in several]

    def _noted(self, operation: Operation, seen: Seen, inputs: list[Seen]) -> Seen:
        placed = next((one.placed for one in (*inputs, seen) if one.placed), None)
        if placed is None and (is_pointwise(operation.function) or operation.name.startswith(JOINING)):
            placed = self.place if any(_depends_on_place(seen, one) for one in inputs) else None
        poolings = {one.pooling for one in inputs if not one.nothing}
        pooling = poolings.pop() if operation.name in KEPT and len(poolings) == 1 else seen.pooling
        return seen.noted(placed=placed, pooling=pooling)

    def _write(self, tensor: Tensor, seen: Seen) -> None:
        """Note what a tensor sees after an operation wrote into it, and with it all that share its memory."""
        changed = not _same(self.of(tensor), seen)
        self._known[tensor] = seen
        if not changed:
            return
        chain = [tensor]
        while (view := self._views.get(chain[-1])) is not None:
            chain.append(view.base)
            arguments = {**view.operation.arguments, "self": self.of(view.base)}
            base = undone(view.operation.name, self._known[chain[-2]], view.place, **arguments)
            if base is None:
                raise self.lost(view.operation.name)
            self._known[view.base] = base
        for other, view in self._views.items():
            if all(other is not one for one in chain) and _share(other, tensor):
                arguments = {**view.operation.arguments, "self": self.of(view.base)}
                self._known[other] = self._followed(view.operation, arguments, [other])[view.place]


def _written(operation: Operation) -> Tensor | None:
    """Return the tensor that the operation writes into, if there is one."""
    for argument in operation.function._schema.arguments:
        if argument.alias_info is not None and argument.alias_info.is_write:
            tensor: Tensor | None = operation.arguments[argument.name]
            return tensor
    return None


def _share(one: Tensor, other: Tensor) -> bool:
    return bool(one.untyped_storage()._cdata == other.untyped_storage()._cdata)


def _same(one: Seen, other: Seen) -> bool:
    pairs = ((one.rows, other.rows), (one.columns, other.columns))
    return all(a.along == b.along and a.everything == b.everything and np.array_equal(a.spans, b.spans) for a, b in pairs)


def _depends_on_place(seen: Seen, constant: Seen) -> bool:
    """Whether a constant that enters `seen` differs from place to place in the picture."""
    if not constant.nothing or constant.uniform:
        return False
    lead = len(seen.shape) - len(constant.shape)
    differs = {dim + lead for dim, side in enumerate(constant.shape) if side > 1}
    return any(axis.along and axis.along <= differs for axis in (seen.rows, seen.columns))


def _constants(operation: Operation, arguments: dict[str, Any], results: list[Tensor]) -> list[Seen]:
    """Return what is known of results that do not depend on the picture."""
    found = [nothing(result.shape).noted(uniform=operation.name in FILLED) for result in results]
    unknown = any(one.values is None for one in seen_in(arguments)) or RANDOM in operation.function.tags
    if unknown or operation.name in FILLED or any(result.numel() > FEW for result in results):
        return found
    given = {**arguments, "device": torch.device("cpu")} if "device" in arguments else arguments
    with unset_fake_temporarily():
        real = tensors_in(operation.function(**tree_map_only(Seen, _real, given)))
    return [one.noted(values=_values(result)) for one, result in zip(found, real, strict=True)]


def _real(seen: Seen) -> Tensor:
    return torch.from_numpy(seen.values)


def _values(tensor: Tensor) -> NDArray[Any] | None:
    if tensor.numel() > FEW or tensor.device.type != "cpu" or tensor.dtype not in INDICES:
        return None
    with unset_fake_temporarily():
        return tensor.detach().numpy()
