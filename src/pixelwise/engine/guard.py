"""A loss or gradient that is not finite stops the run, naming the layer where it arose, before it ruins the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pixelwise.engine.distributed import local


def first_not_finite(networks: nn.ModuleDict, loss: Callable[[], Tensor]) -> str | None:
    """Run forward and backward of `loss` once more, watching every layer of `networks`.

    Args:
        networks: The networks by name; compiled ones are run uncompiled.
        loss: Repeats the forward pass and returns the scalar that was minimised.

    Returns:
        Where a value that is not finite came up first: in forward order, else in backward order; None if nowhere.
    """
    found: list[str] = []
    with torch.compiler.set_stance("force_eager"), _watched(networks, found):
        networks.zero_grad()
        loss().backward()  # type: ignore[no-untyped-call]
    found += [f"the gradient of {name}" for name, p in networks.named_parameters() if not _is_finite(p.grad)]
    networks.zero_grad()
    return found[0] if found else None


@contextmanager
def _watched(networks: nn.ModuleDict, found: list[str]) -> Iterator[None]:
    layers = [(name, m) for name, m in networks.named_modules() if not any(m.children())]
    hooks = [layer.register_forward_hook(_watch(f"{n} ({type(layer).__name__})", found)) for n, layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _watch(layer: str, found: list[str]) -> Callable[[nn.Module, Any, Any], None]:
    def check_gradient(gradient: Tensor) -> None:
        if not _is_finite(gradient):
            found.append(f"the gradient at the output of {layer}")

    def check(module: nn.Module, inputs: Any, output: Any) -> None:
        if not all(map(_is_finite, _tensors(inputs))):
            found.append(f"the input of {layer}")
        for tensor in _tensors(output):
            if not _is_finite(tensor):
                found.append(f"the output of {layer}")
            if tensor.requires_grad:
                tensor.register_hook(check_gradient)  # type: ignore[no-untyped-call]

    return check


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, Mapping):
        yield from _tensors(tuple(values.values()))
    elif isinstance(values, tuple | list):
        for value in values:
            yield from _tensors(value)


def _is_finite(tensor: Tensor | None) -> bool:
    return tensor is None or bool(local(tensor).isfinite().all())
