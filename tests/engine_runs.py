"""Tiny tasks for the engine's tests, and runs of them in processes of their own that can be killed.

As a script: `python engine_runs.py JOB...`, each JOB a JSON object with the arguments of `job`. Every job runs in a fork of
one parent that has done nothing but import, so that a test pays for that once.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional

from pixelwise import seeds
from pixelwise.engine import distributed
from pixelwise.engine.checkpoint import State
from pixelwise.engine.interrupt import Interrupted
from pixelwise.engine.progress import Progress
from pixelwise.engine.trainer import Trainer
from pixelwise.training import Optimizer, Schedule, Training

CPU = torch.device("cpu")
Batches = dict[str, Tensor]


class Phase(NamedTuple):
    name: str
    networks: tuple[str, ...]


class Supervised:
    """Regress b from a."""

    phases = (Phase("train", ("network",)),)
    deployed = ("network",)
    game = ""
    simultaneous = False

    def __init__(self, noisy: bool = False) -> None:
        self.noisy = noisy

    def networks(self) -> nn.ModuleDict:
        noise = (nn.BatchNorm2d(4), nn.Dropout(0.5)) if self.noisy else ()
        return nn.ModuleDict({"network": nn.Sequential(nn.Conv2d(3, 4, 3), *noise, nn.ReLU(), nn.Conv2d(4, 3, 3))})

    def encode(self, batch):
        return {name: tensor.float() / 255 for name, tensor in batch.items()}

    def forward(self, networks, batch):
        return {"answer": networks["network"](batch["a"])}

    def loss(self, phase, networks, batch, outputs):
        return {"l2": functional.mse_loss(outputs["answer"], batch["b"][..., 2:-2, 2:-2])}


class GAN(Supervised):
    """Make b from a so that a second network cannot tell; both phases use one forward pass of the generator."""

    phases = (Phase("discriminator", ("discriminator",)), Phase("generator", ("generator",)))
    deployed = ("generator",)

    def networks(self) -> nn.ModuleDict:
        judge = nn.Sequential(nn.Conv2d(6, 4, 4, 2), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 3))
        return nn.ModuleDict({"generator": Supervised(self.noisy).networks()["network"], "discriminator": judge})

    def forward(self, networks, batch):
        noise = torch.randn_like(batch["a"]) if self.noisy else 0.0
        return {"fake": networks["generator"](batch["a"] + noise)}

    def loss(self, phase, networks, batch, outputs):
        def judge(image: Tensor) -> Tensor:
            return networks["discriminator"](torch.cat([batch["a"][..., 2:-2, 2:-2], image], 1))

        fake, real = outputs["fake"], batch["b"][..., 2:-2, 2:-2]
        if phase == "discriminator":
            judged = functional.softplus(-judge(real)).mean() + functional.softplus(judge(fake.detach())).mean()
            return {"discriminator": judged}
        return {"l1": functional.l1_loss(fake, real), "adversarial": functional.softplus(-judge(fake)).mean()}


TASKS = {"supervised": Supervised, "gan": GAN}


def batches(size: int, rank: int = 0, world: int = 1):
    """Return what yields this rank's share of a batch of `size` 12 x 12 uint8 pairs per step."""

    def between(start: int, stop: int) -> Iterator[dict[str, Tensor]]:
        for step in range(start, stop):
            noise = seeds.torch_generator(0, "batch", step)
            a = torch.randint(0, 256, (size, 3, 12, 12), dtype=torch.uint8, generator=noise)
            yield {name: t.chunk(world)[rank] for name, t in {"a": a, "b": 255 - a.flip(1)}.items()}

    return between


def trainer(run: Path, task, *, optimizer=None, schedule=None, device=CPU, feed=None, **settings) -> Trainer:
    """Return a quiet, single-threaded float32 trainer whose networks start from seed 0."""
    settings = {"steps": 6, "batch_size": 4, "precision": "float32", "threads": 1, **settings}
    torch.manual_seed(0)
    rank, world = distributed.place()
    return Trainer(
        task,
        task.networks(),
        Training(**settings),
        optimizer or Optimizer(lr=0.01),
        schedule or Schedule(),
        run,
        feed or batches(settings["batch_size"], rank, world),
        device=device,
        progress=Progress(run.name, settings["steps"], console=Console(quiet=True)),
    )


def mean_answer(networks) -> dict[str, float]:
    """Return a "metric": the mean size of the deployed network's answer to one fixed image."""
    (network,) = networks.values()
    return {"mean": float(network(torch.linspace(-1, 1, 432).view(1, 3, 12, 12)).abs().mean())}


def smaller(new, best) -> bool:
    return new["mean"] < best["mean"]


def never(new, best) -> bool:
    """Keep the first evaluation, so that the later ones are followed by no save, which would gather the shards anew."""
    return False


# Killing


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dying(feed, at: int):
    """Wrap any `batches` of a Trainer: the process is killed, without any clean-up, when step `at` asks for its batch."""

    def between(start: int, stop: int):
        for step, batch in zip(range(start, stop), feed(start, stop), strict=True):
            if step == at:
                die()
            yield batch

    return between


def resumable(run: Path, task: str, kill_step: int | None = None, kill_save: int | None = None) -> None:
    """Train a noisy task to the end from wherever `run` stands, or die at a step or in the middle of a save."""
    feed = batches(4) if kill_step is None else dying(batches(4), kill_step)
    settings = {"steps": 12, "evaluate_every": 5, "checkpoint_every": 4, "ema": 0.9}
    runner = trainer(run, TASKS[task](noisy=True), feed=feed, **settings)
    runner.resume()
    if kill_save is not None:
        write = State._write
        State._write = lambda self, folder: write(self, folder) if self.step != kill_save else half_written(self, folder)
    runner.run(mean_answer, smaller)


def half_written(state: State, folder: Path) -> None:
    torch.save(dict(state.optimizers), folder / "optimizers.pt")
    die()


def interrupted(run: Path, number: int) -> None:
    """Train, getting signal `number` while step 3 waits for its batch; exit as the command line would."""

    def feed(start: int, stop: int):
        for step, batch in zip(range(start, stop), batches(4)(start, stop), strict=True):
            if step == 3:
                os.kill(os.getpid(), number)
            yield batch

    try:
        trainer(run, Supervised(), feed=feed).run()
    except Interrupted as error:
        print(error, error.hint)
        sys.exit(error.exit_code)


# Several processes


def joined(run: Path, rank: int, world: int, port: int) -> None:
    """Train every task with every strategy in one group of processes; see test_distributed.py."""
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    with distributed.processes(CPU):
        for name, task in TASKS.items():
            for strategy in ("ddp", "fsdp"):
                for case, settings in DISTRIBUTED.items():
                    trainer(run / name / strategy / case, task(), strategy=strategy, **settings).run(mean_answer, never)
                half = trainer(run / name / strategy / "resumed", task(), strategy=strategy, **DISTRIBUTED["adam"])
                for batch in half.batches(0, 2):
                    half._train(batch)
                half.save()
                again = trainer(run / name / strategy / "resumed", task(), strategy=strategy, **DISTRIBUTED["adam"])
                assert again.resume() == 2
                again.run(mean_answer)


SGD = Optimizer(kind="sgd", lr=0.1)
DISTRIBUTED = {
    "one": {"steps": 1, "optimizer": SGD},
    "many": {"steps": 4, "optimizer": SGD, "ema": 0.9, "clip_norm": 0.5, "evaluate_every": 1},
    "adam": {"steps": 4, "ema": 0.9, "evaluate_every": 2},
}


# Processes


def job(kind: str, run: str, **arguments) -> None:
    {"resumable": resumable, "interrupted": interrupted, "joined": joined}[kind](Path(run), **arguments)


def start(*jobs: dict, together: bool = False) -> list[int]:
    """Run jobs one after another (or together) in processes of their own; return how each ended (a signal is negative)."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, __file__, "together" if together else "in turn", *map(json.dumps, jobs)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    sys.stderr.write(done.stderr)
    sys.stdout.write(done.stdout)
    return json.loads(done.stdout.splitlines()[-1])


def fork(arguments: str) -> int:
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        job(**json.loads(arguments))
        code = 0
    except SystemExit as leaving:
        code = leaving.code
    finally:
        if code == 1:
            import traceback

            traceback.print_exc()
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    import torch._dynamo  # the first optimizer of a process does, for seconds

    if sys.argv[1] == "together":
        codes = [wait(child) for child in [fork(arguments) for arguments in sys.argv[2:]]]
    else:
        codes = [wait(fork(arguments)) for arguments in sys.argv[2:]]
    print(json.dumps(codes))
