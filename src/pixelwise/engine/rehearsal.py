"""What a step of training will take in memory, found by going through one step on tensors without values before the first."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pixelwise.engine import precision
from pixelwise.engine.trainer import Trainer
from pixelwise.errors import PixelwiseError
from pixelwise.memory import available, binary
from pixelwise.nn.memory import Live
from pixelwise.nn.operations import faked, tensors_in

if TYPE_CHECKING:
    from pixelwise.data.sample import Batch
    from pixelwise.task import Phase


class Rehearsal(Trainer):
    """The twin of a trainer, whose networks have no values, so that nothing can depend on its losses.

    Args:
        trainer: Of the only process; not changed.
        networks: Its networks, from `operations.faked`.
        one: A real batch of one sample.
        encoded: What the task's `encode` made of it, which may look at values.
    """

    def __init__(self, trainer: Trainer, networks: nn.ModuleDict, one: Batch, encoded: Batch) -> None:
        vars(self).update(vars(trainer))
        self.one, self.encoded = one, encoded
        self.settings = trainer.settings.model_copy(update={"compile": False})
        self._prepare(networks, "none")

    def peak(self) -> int:
        """Return the most bytes that a step holds, with weights, gradients, averages and moments."""
        batch = _alike(self.one, self.settings.batch_size)
        held = list(batch.values())
        for optimizer in self.optimizers.values():
            for weight in (weight for group in optimizer.param_groups for weight in group["params"]):
                weight.grad = torch.empty_like(weight)  # as the step before has left it
                held.append(weight.grad)
            optimizer.step()  # makes what it keeps for each weight
            held += tensors_in([list(state.values()) for state in optimizer.state.values()])
        for networks in (self.networks, *([self.ema.networks] if self.ema else [])):
            held += [*networks.parameters(), *networks.buffers()]
        with Live(self.networks, held) as live:
            del held  # or no gradient would ever be freed
            self._train(batch)
        return live.peak.bytes

    def _forward(self, part: Batch) -> tuple[Batch, dict[str, Tensor]]:
        encoded = _alike(self.encoded, len(next(iter(part.values()))))
        with precision.autocast(self.dtype, self.device):
            return encoded, self.task.forward(self.called, encoded)

    def _update(self, phase: Phase, losses: Mapping[str, Tensor], batch: Batch) -> dict[str, float]:
        self.optimizers[phase.name].step()
        return {}


def _alike(one: Batch, count: int) -> Batch:
    return {name: torch.empty(count, *each.shape[1:], dtype=each.dtype, device=each.device) for name, each in one.items()}


def step_bytes(trainer: Trainer, one: Batch) -> int:
    """Return the most memory that a step of `trainer` will hold, in bytes; draws no random numbers.

    Args:
        trainer: Of the only process.
        one: A batch of one sample.
    """
    with torch.random.fork_rng(devices=[]):
        with torch.no_grad():
            encoded = trainer.task.encode({name: each.to(trainer.device) for name, each in one.items()})
        # torch warns of copying, for the averages, what has no values
        with faked(trainer.networks) as networks, warnings.catch_warnings(action="ignore"):
            assert isinstance(networks, nn.ModuleDict)
            return Rehearsal(trainer, networks, one, encoded).peak()


def warning(trainer: Trainer, one: Callable[[], Batch]) -> str:
    """Return what the user should know before the first step: that the memory is too little, or not predictable; else nothing.

    Args:
        trainer: Ready to run. Of several processes nothing is said.
        one: Returns a batch of one sample.
    """
    if trainer.world > 1:
        return ""
    try:
        needed = step_bytes(trainer, one())
    except PixelwiseError:
        return ""  # the run meets it too, and says it
    except Exception as error:
        # an estimate must never be what a run fails by, whatever a task or network does
        reason = str(error).partition("\n")[0]
        return f"what a step takes in memory could not be predicted ({type(error).__name__}: {reason})"
    on_gpu = trainer.device.type == "cuda"
    free = torch.cuda.mem_get_info(trainer.device)[0] if on_gpu else available()
    if needed <= free:
        return ""
    size, parts = trainer.settings.batch_size, trainer.settings.accumulate
    return (
        f"a step will hold about {binary(needed)} of memory, and {binary(free)} are available: "
        f"lower batch_size (now {size}) or view.size, or raise accumulate (now {parts})"
    )
