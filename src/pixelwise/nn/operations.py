"""Watch a network compute, operation by operation, without computing: what cost, memory and receptive fields are found by."""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pixelwise.errors import ModelError, PixelwiseError


class Operation(NamedTuple):
    """One operation as torch executed it, nearly always of its library ATen."""

    function: OpOverload
    arguments: dict[str, Any]
    """Every argument by its name in the schema, defaults included."""
    result: Any
    layer: str
    """Path of the innermost module that ran it; "" is the network itself."""

    @property
    def name(self) -> str:
        """Its name without overload, such as `convolution`, `add_` or, if it is not of ATen, `torchvision::roi_align`."""
        return self.function._schema.name.removeprefix("aten::")


class NotFollowed(ModelError):
    """An operation of which cannot be told, without computing, what its result depends on."""


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Calls `seen` after every operation within `with`, functional ones included, and `left` after every layer.

    A layer is a module without parts, or one whose `forward` runs operations of its own. With gradients enabled the
    operations of the backward pass are seen as well, in the layer "".
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.network = network
        self._running = [""]
        self._own: Counter[str] = Counter()
        self._hooks: list[Any] = []

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()  # type: ignore[no-untyped-call]

    @property
    def layer(self) -> str:
        """Path of the innermost module that is running; "" is the network itself."""
        return self._running[-1]

    def seen(self, operation: Operation) -> None:
        """Take note of an operation; here for subclasses."""

    def left(self, layer: str, module: nn.Module, output: Any) -> None:
        """Take note of the output of a layer; here for subclasses."""

    def run(self, shape: Sequence[int], layout: torch.memory_format = torch.contiguous_format) -> Any:
        """Return what the network gives for a picture of zeros of this shape, in this layout of memory.

        Raises:
            ModelError: The network does not take such a picture, or what it does depends on the values in it.
        """
        like = next((weight for weight in self.network.parameters() if weight.is_floating_point()), torch.zeros(()))
        image = torch.zeros(*shape, dtype=like.dtype, device=like.device).contiguous(memory_format=layout)
        self.shown(image)
        try:
            with self:
                return self.network(image)
        except PixelwiseError:
            raise
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise self.lost(str(error.func)) from error
        except Exception as error:
            # whatever the network says about a picture that it does not take
            message = f"the network does not take {' x '.join(map(str, shape[1:]))}, in layer {self.place!r}"
            raise ModelError(message, str(error).partition("\n")[0] or type(error).__name__) from error

    def shown(self, image: Tensor) -> None:
        """Take note of the picture that `run` shows to the network; here for subclasses."""

    @property
    def place(self) -> str:
        """The innermost module that is running, by a name that is never empty."""
        return self.layer or type(self.network).__name__

    def lost(self, operation: str) -> NotFollowed:
        """Return the error for an operation that cannot be followed."""
        if operation.startswith("aten._local_scalar"):
            what = f"forward() of layer {self.place!r} decides by a value that it has computed, which only computing tells"
            return NotFollowed(what, "choose without `if`, `.item()` and the like: torch.where computes both")
        return NotFollowed(
            f"operation {operation!r} in layer {self.place!r} cannot be followed",
            "which pixels its result depends on is not known, or depends on the picture itself",
        )

    def __enter__(self) -> Self:
        self._running = [""]
        for path, module in self.network.named_modules():
            self._hooks += [
                module.register_forward_pre_hook(lambda *_, path=path: self._running.append(path)),
                module.register_forward_hook(lambda module, _, output, path=path: self._leave(path, module, output)),
            ]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _leave(self, layer: str, module: nn.Module, output: Any) -> None:
        self._running.pop()
        if self._own.pop(layer, 0) or not any(True for _ in module.children()):
            self.left(layer, module, output)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        if function.namespace != "prim":  # questions about a tensor
            self._own[self.layer] += 1
            self.seen(Operation(function, _by_name(function, args, kwargs), result, self.layer))
        return result


def _by_name(function: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    names = [argument.name for argument in function._schema.arguments]
    defaults = {argument.name: argument.default_value for argument in function._schema.arguments}
    return defaults | dict(zip(names, args, strict=False)) | kwargs


def tensors_in(values: Any) -> list[Tensor]:
    """Return the tensors among lists, tuples and dictionaries of values."""
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


@contextmanager
def faked(network: nn.Module) -> Iterator[nn.Module]:
    """Give a copy of `network` whose weights have shape, type and device, but no memory and no values.

    Within `with`, tensors that are made are of the same kind, so that a picture of any size costs nothing: operations only
    work out the shape of their result. The copy is in the same mode (training or evaluation) as `network`.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    copied = copy.deepcopy(network, {id(tensor): mode.from_tensor(tensor) for tensor in _tensors(network)})
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # attention as one operation would hide what it computes
    log = logging.getLogger("torch._subclasses.fake_tensor")
    silent, log.disabled = log.disabled, True  # failures are raised; torch prints them as well
    try:
        # inference mode would run several operations as one
        with mode, torch.inference_mode(False) if torch.is_inference_mode_enabled() else nullcontext():
            yield copied
    finally:
        log.disabled = silent
        torch.backends.mha.set_fastpath_enabled(fused)


def _tensors(network: nn.Module) -> Iterator[Tensor]:
    yield from network.parameters()
    yield from network.buffers()
    for module in network.modules():
        yield from (value for value in vars(module).values() if isinstance(value, Tensor))
