"""What a network takes in memory: what autograd keeps for the backward pass, and the most that is held at once.

`saved` asks autograd itself (`torch.autograd.graph.saved_tensors_hooks`); `predicted` follows every storage of a run on tensors
without values, from the operation that makes it until nothing holds it, and adds what convolutions take beside (`workspace`).
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pixelwise.errors import UsageError
from pixelwise.memory import give_back
from pixelwise.nn.operations import Operation, Operations, faked, tensors_in
from pixelwise.nn.workspace import workspace

Shape = tuple[int, int, int, int]
ADAM = 2
"""Values that Adam keeps for each weight: its two moments (Kingma and Ba 2015)."""


class Peak(NamedTuple):
    """The most memory that a run holds at once."""

    bytes: int
    layer: str
    """The layer that runs then; "" is the network itself, or the backward pass."""
    operation: str
    held: dict[str, int]
    """Bytes held when each layer had finished, in that order; of the last call, if a layer is called several times."""


class _Kept:
    """What autograd is given to keep in place of a tensor: it goes when autograd lets it go.

    The tensor itself may be the result of the operation that keeps it, which would then keep itself forever.
    """

    def __init__(self, storage: torch.UntypedStorage, layer: str) -> None:
        self.storage, self.layer = storage, layer


def saved(network: nn.Module, image: Tensor) -> dict[str, int]:
    """Run a network and return the bytes that autograd keeps for its backward pass, by the layer that asked for them.

    The picture counts, parameters and buffers do not. What several layers keep counts once, for the first of them.

    Args:
        network: (B, C, H, W) -> a tensor, or any lists or dictionaries of tensors; in training or evaluation mode.
        image: (B, C, H, W).
    """

    def run(watch: Operations) -> Any:
        with watch:
            return network(image)

    return _saved(network, run)


def saved_bytes(network: nn.Module, shape: Shape) -> dict[str, int]:
    """Return `saved` for pictures of `shape` (B, C, H, W) in training, without computing or allocating anything.

    Raises:
        ModelError: The network cannot be trained on such pictures.
    """
    with faked(network) as copy:
        return _saved(copy.train(), lambda watch: watch.run(shape))


def _saved(network: nn.Module, run: Callable[[Operations], Any]) -> dict[str, int]:
    watch = Operations(network)
    asked: list[weakref.ref[_Kept]] = []

    def keep(tensor: Tensor) -> _Kept:
        kept = _Kept(tensor.untyped_storage(), watch.layer)
        asked.append(weakref.ref(kept))
        return kept

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept):
        answer = run(watch)
    found: dict[str, int] = {}
    counted = {tensor.untyped_storage()._cdata for tensor in _own(network)}
    for kept in filter(None, (one() for one in asked)):
        if kept.storage._cdata not in counted:
            counted.add(kept.storage._cdata)
            found[kept.layer] = found.get(kept.layer, 0) + kept.storage.nbytes()
    del answer  # its graph had to live until here
    return found


class Live(Operations):
    """Follows the storages of all tensors that operations make, until they are freed.

    Args:
        network: What runs, within `operations.faked`.
        held: Tensors that are there already.
    """

    def __init__(self, network: nn.Module, held: Iterable[Tensor]) -> None:
        super().__init__(network)
        self.bytes = 0
        self.most, self.where = 0, ("", "")
        self.held: dict[str, int] = {}
        self._alive: dict[int, weakref.ref[Any]] = {}
        self._hold(held)

    @property
    def peak(self) -> Peak:
        """The most that was held until now."""
        return Peak(self.most, *self.where, self.held)

    def shown(self, image: Tensor) -> None:
        """Hold the picture."""
        self.image = image
        self._hold([image])

    def seen(self, operation: Operation) -> None:
        """Hold what the operation made."""
        self._hold(tensors_in(operation.result))
        now = self.bytes + workspace(operation)
        if now > self.most:
            self.most, self.where = now, (operation.layer, operation.name)

    def left(self, layer: str, module: nn.Module, output: Any) -> None:
        """Note what is held after a layer."""
        self.held.pop(layer, None)
        self.held[layer] = self.bytes

    def _hold(self, tensors: Iterable[Tensor]) -> None:
        for storage in (tensor.untyped_storage() for tensor in tensors):
            if storage._cdata not in self._alive:
                self.bytes += storage.nbytes()
                self._alive[storage._cdata] = weakref.ref(storage, self._freed(storage._cdata, storage.nbytes()))

    def _freed(self, key: int, size: int) -> Callable[[Any], None]:
        def free(_: Any) -> None:
            del self._alive[key]
            self.bytes -= size

        return free


def predicted(
    network: nn.Module, shape: Shape, train: bool = False, layout: torch.memory_format = torch.contiguous_format
) -> Peak:
    """Return the most memory a network holds, weights and picture included, without computing or allocating anything.

    Args:
        network: (B, C, H, W) -> a tensor, or any lists or dictionaries of tensors; on the device that is meant. Not changed.
        shape: (B, C, H, W) of the pictures.
        train: A step of training with Adam (weights, gradients, moments, what autograd keeps) on a mean square loss; else an
            evaluation.
        layout: How the pictures lie in memory; `torch.channels_last` saves the copies that convolutions make on a CPU.

    Raises:
        ModelError: The network does not take such pictures, or cannot be trained on them.
    """
    with faked(network) as copy, torch.set_grad_enabled(train):
        moments = [torch.empty_like(weight) for weight in _trained(copy) * ADAM if train]
        live = Live(copy.train(train), [*_own(copy), *moments])
        answers = tensors_in(live.run(shape, layout))
        live.held[""] = live.bytes
        if train:
            with live:
                _backward(answers)
        return live.peak


def measured(build: Callable[[], nn.Module], shape: Shape, train: bool = False) -> int:
    """Return the most memory that a network really takes: what `predicted` says, measured.

    On a CPU it is by how much the resident memory of this process rises. That is what was asked for only in a process of its
    own whose allocator gives back what it is given back (`GIVE_BACK`); else add what the allocator keeps.

    Args:
        build: Makes the network, on the device that is meant.
        shape: (B, C, H, W) of the pictures.
        train: As for `predicted`.

    Raises:
        UsageError: The system does not tell.
    """
    _run(build(), shape, train)  # loads libraries and compiles kernels, which then stay
    gc.collect()
    if torch.cuda.is_available():
        before, network = torch.cuda.memory_allocated(), build()
        torch.cuda.reset_peak_memory_stats()
        _run(network, shape, train)
        return torch.cuda.max_memory_allocated() - before
    give_back()
    before, network = _status("VmRSS"), build()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    except OSError as error:
        raise _no_measure() from error
    _run(network, shape, train)
    return _status("VmHWM") - before


GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_TOP_PAD_": "0"}
"""Environment in which glibc returns every freed tensor to the system at once."""


def _run(network: nn.Module, shape: Shape, train: bool) -> None:
    network.train(train)
    weight = next(network.parameters(), torch.empty(0))
    image = torch.randn(shape, dtype=weight.dtype, device=weight.device)
    if not train:
        with torch.inference_mode():
            network(image)
        return
    optimizer = torch.optim.Adam(_trained(network), fused=True)
    for _ in range(2):  # the moments are there from the second step on
        optimizer.zero_grad()
        _backward(tensors_in(network(image)))
        optimizer.step()


def _backward(answers: list[Tensor]) -> None:
    """Compute the gradients of the mean squares of the answers, letting go of each answer as its square is there."""
    losses = [answers.pop().float().square().mean() for _ in range(len(answers))]
    torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]


def _status(name: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError as error:
        raise _no_measure() from error
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def _no_measure() -> UsageError:
    return UsageError("this system does not tell the peak of a process's memory", "leave out --measure")


def _own(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]


def _trained(network: nn.Module) -> list[nn.Parameter]:
    return [weight for weight in network.parameters() if weight.requires_grad]
