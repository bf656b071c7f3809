"""The training loop: a run is one pass over its steps, a step is one pass over the task's phases.

Read `run`, then `_train`. The task's forward pass runs once per step, with all gradients on, and is shared by the
phases (supervised: one; GAN: discriminator, generator). A phase that must not train what made its input detaches it.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pixelwise import seeds
from pixelwise.engine import checkpoint, distributed, guard, optimizers, precision
from pixelwise.engine.checkpoint import Best, State
from pixelwise.engine.ema import Ema
from pixelwise.engine.interrupt import Interrupt, Interrupted
from pixelwise.engine.logs import Logs
from pixelwise.engine.progress import Progress
from pixelwise.engine.stability import Stability
from pixelwise.errors import PixelwiseError, TrainingError, UsageError
from pixelwise.training import Optimizer, Schedule, Training

if TYPE_CHECKING:
    from pixelwise.data.sample import Batch
    from pixelwise.task import Phase, Task

Networks = Mapping[str, nn.Module]
Evaluate = Callable[[Networks], dict[str, float]]
Draw = Callable[[Networks, int], None]
Shared = dict[int, tuple["Batch", dict[str, Tensor]]]  # encoded batch and outputs, by micro-batch
Better = Callable[[Mapping[str, float], Mapping[str, float]], bool]


@contextmanager
def only(networks: nn.ModuleDict, names: Sequence[str]) -> Iterator[None]:
    """Let gradients flow through all `networks`, but gather only in the parameters of those called `names`.

    What was frozen before stays frozen, and is so again afterwards.
    """
    before = [(p, p.requires_grad) for p in networks.parameters()]
    chosen = {id(p) for name in names for p in networks[name].parameters()}
    for parameter, trained in before:
        parameter.requires_grad_(trained and id(parameter) in chosen)
    try:
        yield
    finally:
        for parameter, trained in before:
            parameter.requires_grad_(trained)


def total(losses: Mapping[str, Tensor]) -> Tensor:
    """Return the sum of scalar losses, which is what a phase minimises."""
    return torch.stack(list(losses.values())).sum()


class Trainer:
    """Trains the networks of a task, and can be stopped and resumed anywhere with the same bits as a result.

    Args:
        task: Says what a step's forward pass, phases and losses are.
        networks: The task's networks, initialised; moved to `device` and trained in place.
        settings: Length, precision and bookkeeping of the run.
        optimizer: The optimizer of every phase.
        schedule: The learning rate over the steps.
        run: Folder that receives metrics.jsonl, state/ and, if it comes to that, crash/.
        batches: Called with (start, stop); yields this process's batch of each of these steps, a function of the step.
        device: Default: this process's GPU, else the CPU.
        progress: Default: a bar on a terminal, else plain lines.

    Raises:
        UsageError: The settings contradict each other.
    """

    def __init__(
        self,
        task: Task,
        networks: nn.ModuleDict,
        settings: Training,
        optimizer: Optimizer,
        schedule: Schedule,
        run: Path,
        batches: Callable[[int, int], Iterator[Batch]],
        *,
        device: torch.device | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.task, self.settings, self.optimizer, self.schedule = task, settings, optimizer, schedule
        self.folder, self.batches = run, batches
        self.rank, self.world = distributed.place()
        self.device = device or distributed.default_device()
        self.dtype = precision.resolve(settings.precision, self.device)
        self.progress = progress or Progress(run.name, settings.steps, quiet=self.rank > 0)
        self.step = 0
        self.best: Best | None = None
        self.stability = Stability(task.game)
        self._prepare(networks.to(self.device).train(), distributed.resolve(settings.strategy, self.world))

    def _prepare(self, networks: nn.ModuleDict, strategy: str) -> None:
        share, rest = divmod(self.settings.batch_size, self.world)
        if rest or share % self.settings.accumulate:
            parts = f"{self.world} processes x {self.settings.accumulate} micro-batches"
            raise UsageError(f"batch_size {self.settings.batch_size} cannot be split equally into {parts}")
        if strategy != "none" and self.settings.accumulate > 1 and len(self.task.phases) > 1:
            raise UsageError("accumulate with several phases works in one process only", "lower batch_size instead")
        self.networks = networks
        deployed = {name: networks[name] for name in self.task.deployed}
        self.ema = Ema(deployed, self.settings.ema) if self.settings.ema else None
        if strategy == "fsdp":
            for each in (networks, self.ema.networks) if self.ema else (networks,):
                distributed.shard(each, self.device)
        if self.settings.compile:
            for network in networks.values():
                network.compile()
        self.called: Networks = distributed.copies(networks) if strategy == "ddp" else dict(networks.items())
        self.optimizers = {phase.name: self._optimizer(phase) for phase in self.task.phases}

    def _optimizer(self, phase: Phase) -> torch.optim.Optimizer:
        parameters: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for network in map(self.networks.__getitem__, phase.networks):
            parameters[getattr(network, "decays", True)] += network.parameters()
        return optimizers.build(self.optimizer, parameters[True], parameters[False])

    # The run

    def run(self, evaluate: Evaluate | None = None, better: Better | None = None, draw: Draw | None = None) -> Path:
        """Train from the current step to the last, evaluating and saving on the way.

        Args:
            evaluate: Gets the deployed networks (averaged weights, if on) in evaluation mode and returns metrics. It is
                called in every process; the first one's answer counts.
            better: Whether its first metrics are better than its second. Without it, later is better.
            draw: Gets the same networks and the step every `pictures_every` steps, in every process too.

        Returns:
            The folder of the best state; of the last, if nothing was evaluated.

        Raises:
            Interrupted: Ctrl-C or SIGTERM came; the state after the step in progress is saved.
            TrainingError: A loss or gradient is not finite, or `run` already holds another run's state.
        """
        if self.step == 0 and checkpoint.newest(self.folder):
            raise TrainingError(f"{self.folder} already holds a run", "resume it, or choose another folder")
        logs = Logs(self.folder, self.step, quiet=self.rank > 0, tensorboard=self.settings.tensorboard)
        with precision.arithmetic(self.settings), Interrupt() as interrupt, logs, self.progress:
            for batch in self._feed(logs):
                losses = self._train(batch)
                logs.losses(self.step, self.learning_rate(self.step - 1), losses)
                self.progress.step(self.step, losses)
                self._warn(self.stability.losses(losses))
                self._draw(draw)
                improved = self._due(self.settings.evaluate_every) and self._evaluate(evaluate, better, logs)
                stopped = distributed.anywhere(interrupt.requested, self.device)
                if improved or stopped or self._due(self.settings.checkpoint_every):
                    logs.to_disk()
                    self.save()
                if stopped and self.step < self.settings.steps:
                    where = f"stopped after step {self.step} of {self.settings.steps}; state saved"
                    raise Interrupted(where, f"resume with: pixelwise train {self.folder}")
        return checkpoint.folder_of(self.folder, self.best.step if self.best else self.step)

    def resume(self) -> int:
        """Load the newest whole state, if there is one, and return its step (0 for a fresh start).

        Raises:
            TrainingError: The state does not fit these networks or this version.
        """
        found = checkpoint.newest(self.folder, lambda f: self.progress.event(f"{f} is damaged and was passed over"))
        if found:
            self._load(State.load(found))
        return self.step

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of `step` (from 0)."""
        return self.optimizer.lr * optimizers.factor(self.schedule, step, self.settings.steps)

    def deployed(self) -> Networks:
        """Return the networks that make predictions by name, averaged if that is on."""
        source = self.ema.networks if self.ema else self.networks
        return {name: source[name] for name in self.task.deployed}

    def _feed(self, logs: Logs) -> Iterator[Batch]:
        """Yield the batches of the steps to come; if they end in an error, save what is done."""
        try:
            yield from self.batches(self.step, self.settings.steps)
        except PixelwiseError as error:
            if self.step and self.world == 1:  # several processes save together, and the others are not here
                if not checkpoint.folder_of(self.folder, self.step).exists():
                    logs.to_disk()
                    self.save()
                error.hint = "; ".join(filter(None, (error.hint, f"then resume with: pixelwise train {self.folder}")))
            raise

    def _due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.settings.steps

    # One step

    def _train(self, batch: Batch) -> dict[str, float]:
        """Run one step: forward once, then for each phase its losses, gradients and update; return the losses."""
        self._seed()
        phases, parts = self.task.phases, self._parts(batch)
        shared: Shared = {}
        losses: dict[str, float] = {}
        for turn in (phases,) if self.task.simultaneous else ((phase,) for phase in phases):
            summed = {phase: self._gradients(phase, parts, shared) for phase in turn}
            for phase in turn:
                losses |= self._update(phase, summed[phase], batch)
        if self.ema:
            self.ema.update(self.networks, self.step)
        self.step += 1
        return losses

    def _seed(self) -> None:
        torch.manual_seed(seeds.mixed(self.settings.seed, "step", self.step, self.rank) >> 1)

    def _parts(self, batch: Batch) -> list[Batch]:
        count = self.settings.accumulate
        chunks = {name: tensor.chunk(count) for name, tensor in batch.items()}
        return [{name: chunk[index] for name, chunk in chunks.items()} for index in range(count)]

    def _forward(self, part: Batch) -> tuple[Batch, dict[str, Tensor]]:
        with torch.no_grad():
            encoded = self.task.encode({n: t.to(self.device, non_blocking=True) for n, t in part.items()})
        with precision.autocast(self.dtype, self.device):
            return encoded, self.task.forward(self.called, encoded)

    def _losses(self, phase: Phase, encoded: Batch, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        with precision.autocast(self.dtype, self.device):
            return self.task.loss(phase.name, self.called, encoded, outputs)

    def _gradients(self, phase: Phase, parts: Sequence[Batch], shared: Shared) -> dict[str, Tensor]:
        """Gather the phase's gradient over the micro-batches; return its losses, detached.

        The forward pass of each micro-batch waits for the first phase and is let go after the last, so that with one
        phase only one of them is in memory at a time.
        """
        summed: dict[str, Tensor] = {}
        self.optimizers[phase.name].zero_grad()
        for index, part in enumerate(parts):
            if index not in shared:
                shared[index] = self._forward(part)
            # Freezing comes after the shared forward pass, or that would have recorded no graph.
            with only(self.networks, phase.networks):
                losses = {name: loss / len(parts) for name, loss in self._losses(phase, *shared[index]).items()}
                total(losses).backward()  # type: ignore[no-untyped-call]
            if phase is self.task.phases[-1]:
                del shared[index]
            for name, loss in losses.items():
                summed[name] = summed.get(name, 0.0) + loss.detach()
        return summed

    def _update(self, phase: Phase, losses: dict[str, Tensor], batch: Batch) -> dict[str, float]:
        """Take the phase's optimizer step if all losses and the gradient are finite; return the losses."""
        optimizer = self.optimizers[phase.name]
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        values = distributed.mean(torch.stack([*losses.values(), distributed.whole(norm)])).tolist()
        named = dict(zip(losses, values[:-1], strict=True))
        if not all(map(math.isfinite, values)):
            raise self._crash(phase, named, batch)
        if self.settings.clip_norm:
            nn.utils.clip_grads_with_norm_(parameters, self.settings.clip_norm, norm)
        optimizers.set_learning_rate(optimizer, self.learning_rate(self.step))
        optimizer.step()
        return named

    # What is kept

    @torch.no_grad()
    def _evaluate(self, evaluate: Evaluate | None, better: Better | None, logs: Logs) -> bool:
        """Evaluate the deployed networks, log the metrics, and tell whether they are the best so far."""
        if evaluate is None:
            return False
        metrics = distributed.agreed(evaluate(self._evaluated()))
        self.networks.train()
        logs.metrics(self.step, metrics)
        self.progress.metrics(self.step, metrics)
        self._warn(self.stability.metrics(metrics))
        improved = self.best is None or better is None or better(metrics, self.best.metrics)
        if improved:
            self.best = Best(self.step, metrics)
        return improved

    def _evaluated(self) -> Networks:
        networks = self.deployed()
        for network in networks.values():
            network.eval()
        return networks

    @torch.no_grad()
    def _draw(self, draw: Draw | None) -> None:
        if draw and self.settings.pictures_every and self._due(self.settings.pictures_every):
            draw(self._evaluated(), self.step)
            self.networks.train()

    def _warn(self, advice: Sequence[str]) -> None:
        for text in advice:
            self.progress.event(f"warning: {text}")

    def save(self) -> Path:
        """Save the state after the current step, and delete the states that are no longer kept."""
        folder = checkpoint.folder_of(self.folder, self.step)
        state = self._state()
        if self.rank == 0:
            state.save(folder)
            checkpoint.prune(self.folder, self.step, self.settings.keep, self.best)
        distributed.wait()
        return folder

    def _state(self) -> State:
        averaged = distributed.whole_state(self.ema.networks.state_dict()) if self.ema else {}
        momenta = {name: distributed.whole_optimizer(o) for name, o in self.optimizers.items()}
        return State(self.step, self.best, distributed.whole_state(self.networks.state_dict()), averaged, momenta)

    def _load(self, state: State) -> None:
        try:
            distributed.load_network(self.networks, state.networks)
            if self.ema:
                distributed.load_network(self.ema.networks, state.ema)
            for name, optimizer in self.optimizers.items():
                distributed.load_optimizer(optimizer, state.optimizers[name])
        except (RuntimeError, KeyError, ValueError) as error:
            hint = "a run resumes with the recipe it began with"
            raise TrainingError(f"the state in {self.folder} does not fit this recipe: {error}", hint) from None
        self.step, self.best = state.step, state.best

    def _crash(self, phase: Phase, losses: Mapping[str, float], batch: Batch) -> TrainingError:
        """Save batch and state for inspection, and return the error that names the first layer at fault."""
        crash = self.folder / "crash"
        state = self._state()
        if self.rank == 0:
            shutil.rmtree(crash, ignore_errors=True)
            state.save(crash)
        distributed.wait()
        save_file({n: t.contiguous() for n, t in batch.items()}, crash / f"batch-{self.rank}.safetensors")
        values = ", ".join(f"{name} {value:.3g}" for name, value in losses.items())
        where = self._first_not_finite(phase, batch) or "nothing in a repetition of the step"
        return TrainingError(
            f"step {self.step + 1}, phase {phase.name}: loss or gradient is not finite ({values}); first: {where}",
            f"lower optimizer.lr (now {self.optimizer.lr:g}), or see batch and state in {crash}",
        )

    def _first_not_finite(self, phase: Phase, batch: Batch) -> str | None:
        def watch(part: Batch) -> str | None:
            return guard.first_not_finite(self.networks, lambda: total(self._losses(phase, *self._forward(part))))

        self._seed()
        with only(self.networks, phase.networks):
            found = [watch(part) for part in self._parts(batch)]  # all of them, in step with the other processes
        return next(filter(None, found), None)
