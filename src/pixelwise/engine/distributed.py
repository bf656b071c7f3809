"""Several processes under torchrun: each network is copied (DDP) or sharded (FSDP2) by itself, never their container.

After one step the weights equal those of one process on the joined batch, up to rounding, when the loss is a mean over
equally many values per process. A loss that divides by what was valid (unknown pixels, hidden points) is averaged over
the processes' own means, so a process with fewer valid values weighs each of them more than one process would.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pixelwise.errors import UsageError

Value = TypeVar("Value")


class Place(NamedTuple):
    """Which of how many processes this is."""

    rank: int
    world: int


def place() -> Place:
    """Return this process's place; (0, 1) when no group of processes is open."""
    return Place(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else Place(0, 1)


def launched() -> Place:
    """Return the place that torchrun's environment gives this process; (0, 1) without torchrun."""
    return Place(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


def default_device() -> torch.device:
    """Return this process's GPU, or the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


@contextmanager
def processes(device: torch.device | None = None) -> Iterator[Place]:
    """Join the group that torchrun's environment describes, if it does; leave it at the end."""
    if launched().world == 1:
        yield Place(0, 1)
        return
    device = device or default_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield place()
    finally:
        dist.destroy_process_group()


def resolve(strategy: str, world: int) -> str:
    """Return none, ddp or fsdp for the setting `strategy` in `world` processes.

    Raises:
        UsageError: The strategy and the number of processes contradict each other.
    """
    if strategy == "auto":
        return "ddp" if world > 1 else "none"
    if strategy == "none" and world > 1:
        raise UsageError(f"strategy=none, but {world} processes were started", "use strategy=ddp or fsdp")
    if strategy != "none" and world == 1:
        raise UsageError(f"strategy={strategy} needs several processes", "start them with: torchrun --nproc-per-node N")
    return strategy


def shard(networks: nn.ModuleDict, device: torch.device) -> None:
    """Shard each network's weights over all processes, in place (FSDP2).

    Weights are gathered for each forward pass and let go after it: if kept, an update would make them stale.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (place().world,))
    for network in networks.values():
        fully_shard(network, mesh=mesh, reshard_after_forward=True)


def copies(networks: nn.ModuleDict) -> dict[str, nn.Module]:
    """Wrap each network that is trained, so that its gradients are averaged over the processes (DDP)."""

    def wrap(network: nn.Module) -> nn.Module:
        trained = any(p.requires_grad for p in network.parameters())
        # Broadcasting buffers would change running statistics between two passes that share one graph.
        return nn.parallel.DistributedDataParallel(network, broadcast_buffers=False) if trained else network

    return {name: wrap(network) for name, network in networks.items()}


def local(tensor: Tensor) -> Tensor:
    """Return the part of a sharded `tensor` that lives here, sharing its memory; any other tensor as it is."""
    part: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return part


def whole(tensor: Tensor) -> Tensor:
    """Gather a sharded `tensor` from all processes; any other tensor as it is."""
    full: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return full


def like(tensor: Tensor, sharded: Tensor) -> Tensor:
    """Shard a whole `tensor` as `sharded` is, if it is."""
    if not hasattr(sharded, "device_mesh"):
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(sharded, DTensor)
    return distribute_tensor(tensor.to(sharded.device), sharded.device_mesh, sharded.placements)


def whole_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a network's state with every tensor gathered, detached, contiguous and on the CPU."""
    return {name: whole(tensor.detach()).cpu().contiguous() for name, tensor in state.items()}


def whole_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return an optimizer's state with every tensor gathered."""
    state = optimizer.state_dict()
    moments = {
        index: {name: whole(value).cpu() if isinstance(value, Tensor) else value for name, value in entry.items()}
        for index, entry in state["state"].items()
    }
    return {**state, "state": moments}


def load_network(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a whole `state` into a network that may be sharded; strictly."""
    own = network.state_dict()
    network.load_state_dict({name: like(value, own.get(name, value)) for name, value in state.items()})


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load a whole `state` into an optimizer whose parameters may be sharded."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    moments = {
        index: {n: like(v, parameters[index]) if getattr(v, "ndim", 0) else v for n, v in entry.items()}
        for index, entry in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": moments})


def mean(values: Tensor) -> Tensor:
    """Return the mean of `values` over the processes."""
    if place().world > 1:
        dist.all_reduce(values)
        values = values / place().world
    return values


def anywhere(flag: bool, device: torch.device) -> bool:
    """Tell whether `flag` is set in any process, so that all stop at the same step."""
    if place().world == 1:
        return flag
    flags = torch.tensor(float(flag), device=device)
    dist.all_reduce(flags, dist.ReduceOp.MAX)
    return bool(flags.item())


def agreed(value: Value) -> Value:
    """Return the first process's `value` in every process."""
    if place().world == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


def wait() -> None:
    """Wait until every process is here."""
    if place().world > 1:
        dist.barrier()
