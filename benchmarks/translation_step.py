"""How much faster our training step is than `optimize_parameters` of pytorch-CycleGAN-and-pix2pix, and what it holds in memory.

    python benchmarks/translation_step.py ORIGINAL pix2pix --rounds 10
    python benchmarks/translation_step.py ORIGINAL cyclegan --rounds 5 --memory
    python benchmarks/translation_step.py ORIGINAL pix2pix --curves 30

ORIGINAL is a checkout of that repository (measured against commit 2a7afba2); it is beside this project, never inside.

Protocol. Batch 1. Every round times one step of the original and one of each of ours, in random order, in one process, on the
same pictures; the ratio of a round is theirs / ours, the figure its median over rounds with quartiles. Theirs is
`optimize_parameters` as it stands: pix2pix with U-Net-256, batch norm and dropout, CycleGAN with ResNet-9, instance norm,
identity loss and pools of 50. Ours is the step of the engine on the recipes `facades` and `cycle_translation`, encoding and
the check for what is not finite included. `2017 order`: the generator learns from the discriminator before its update.

--memory. The most that a fresh process held over two steps, and what it held before the networks were built.
--curves. Both from equal weights, dropout off, float32: the losses of each step, and how far apart they are.

Goals: pix2pix at least 1.75 in the same order and 2.0 in that of 2017; CycleGAN at least 1.9 at 0.67 of the memory or less.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import torch
from torch import Tensor

from pixelwise.data.dataset import Meta
from pixelwise.engine import precision
from pixelwise.engine.trainer import Trainer
from pixelwise.originals import original
from pixelwise.recipe import find_recipe

RECIPES = {"pix2pix": "facades", "cyclegan": "cycle_translation"}
ORDERS = {
    "pix2pix": {"ours": [], "ours, 2017 order": ["task.order=simultaneous"]},
    "cyclegan": {"ours": [], "ours, float32": ["precision=float32"]},
}
NETWORKS = {
    "pix2pix": {"G": "generator", "D": "discriminator"},
    "cyclegan": {"G_A": "a_to_b", "G_B": "b_to_a", "D_A": "discriminator_b", "D_B": "discriminator_a"},
}
LOSSES = {
    "pix2pix": {"G_GAN": "adversarial", "G_L1": "l1"},
    "cyclegan": {"G_A": "adversarial_b", "G_B": "adversarial_a", "cycle_A": "cycle_a", "cycle_B": "cycle_b"}
    | {"idt_A": "identity_b", "idt_B": "identity_a", "D_A": "discriminator_b", "D_B": "discriminator_a"},
}


class Step(Protocol):
    """One training step on the pictures a and b, `(1, 3, H, W)` in [-1, 1]."""

    def step(self, a: Tensor, b: Tensor) -> dict[str, float]:
        """Return the losses."""


class Original:
    """Their model, built by their code."""

    def __init__(self, arguments: argparse.Namespace, dropout: bool = True) -> None:
        sys.path.insert(0, str(arguments.original))
        pix2pix = arguments.what == "pix2pix"
        options = {
            "isTrain": True,
            "device": torch.device("cpu"),
            "checkpoints_dir": tempfile.gettempdir(),
            "name": "benchmark",
        }
        options |= {
            "preprocess": "resize_and_crop",
            "direction": "AtoB",
            "input_nc": 3,
            "output_nc": 3,
            "lr": 2e-4,
            "beta1": 0.5,
        }
        options |= {"ngf": arguments.width, "ndf": arguments.width, "netD": "basic", "n_layers_D": 3, "init_type": "normal"}
        options |= {"init_gain": 0.02, "lambda_L1": 100.0, "lambda_A": 10.0, "lambda_B": 10.0, "lambda_identity": 0.5}
        options |= {"pool_size": 0 if pix2pix else 50, "gan_mode": "vanilla" if pix2pix else "lsgan"}
        options |= {"netG": "unet_256" if pix2pix else "resnet_9blocks", "norm": "batch" if pix2pix else "instance"}
        options |= {"no_dropout": not (pix2pix and dropout)}
        torch.manual_seed(0)
        with contextlib.redirect_stdout(io.StringIO()):
            self.model = self._built(pix2pix, SimpleNamespace(**options))

    def _built(self, pix2pix: bool, options: SimpleNamespace) -> Any:
        from models import networks  # type: ignore[import-not-found]

        if pix2pix:
            from models.pix2pix_model import Pix2PixModel as Model  # type: ignore[import-not-found]
        else:
            from models.cycle_gan_model import CycleGANModel as Model  # type: ignore[import-not-found]
        model = Model(options)
        for name in model.model_names:  # as their setup does
            networks.init_net(getattr(model, f"net{name}"), options.init_type, options.init_gain)
        return model

    def step(self, a: Tensor, b: Tensor) -> dict[str, float]:
        """Take their step; return the losses."""
        self.model.set_input({"A": a, "B": b, "A_paths": "", "B_paths": ""})
        self.model.optimize_parameters()
        return {name: getattr(self.model, f"loss_{name}").item() for name in self.model.loss_names}


class Ours:
    """The engine's own step."""

    def __init__(self, arguments: argparse.Namespace, pairs: list[str]) -> None:
        pairs = [*pairs, f"network.width={arguments.width}", f"task.discriminator.width={arguments.width}"]
        self.recipe = find_recipe(RECIPES[arguments.what]).override([*pairs, f"threads={arguments.threads}"])
        torch.manual_seed(0)
        task = self.recipe.task.build(Meta())
        self.networks = task.networks(self.recipe.network)
        recipe, folder = self.recipe, Path(tempfile.mkdtemp())
        self.trainer = Trainer(task, self.networks, recipe, recipe.optimizer, recipe.schedule, folder, lambda a, b: iter(()))

    def step(self, a: Tensor, b: Tensor) -> dict[str, float]:
        """Take the engine's step; return the losses."""
        with precision.arithmetic(self.recipe):
            return self.trainer._train({name: ((p + 1) * 127.5).round().to(torch.uint8) for name, p in (("a", a), ("b", b))})

    def take(self, other: Original, what: str) -> None:
        """Begin from their weights."""
        file = Path(tempfile.mkdtemp()) / "net.pth"
        for theirs, ours in NETWORKS[what].items():
            torch.save(getattr(other.model, f"net{theirs}").state_dict(), file)
            self.networks[ours].load_state_dict(original(file).network.state_dict())


def pictures(count: int, size: int) -> list[tuple[Tensor, Tensor]]:
    """Return pairs of pictures that are the same in 8 bits."""
    draw = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 256, (count, 2, 1, 3, size, size), generator=draw)
    return [(a, b) for a, b in levels / 127.5 - 1]


def measure(arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Return seconds per step of each, one entry per round."""
    now = time.perf_counter if arguments.clock == "wall" else time.process_time
    steps: dict[str, Step] = {"theirs": Original(arguments)}
    steps |= {name: Ours(arguments, pairs) for name, pairs in ORDERS[arguments.what].items()}
    ((a, b),) = pictures(1, arguments.size)
    order, draw, seconds = list(steps), random.Random(0), {name: list[float]() for name in steps}
    for turn in range(arguments.warm_up + arguments.rounds):
        draw.shuffle(order)
        for name in order:
            start = now()
            steps[name].step(a, b)
            if turn >= arguments.warm_up:
                seconds[name].append(now() - start)
    return seconds


def report(seconds: dict[str, list[float]]) -> None:
    """Print median time, and the median and quartiles of the ratios, of each."""
    print(f"{'':<18} {'ms':>7} {'ratio':>6}  quartiles")
    for name, times in seconds.items():
        ratios = [theirs / ours for theirs, ours in zip(seconds["theirs"], times, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        print(f"{name:<18} {1000 * statistics.median(times):7.0f} {middle:6.2f}  {low:.2f} - {high:.2f}")


def held() -> float:
    """Return the most that this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def hold(arguments: argparse.Namespace) -> None:
    """Run two steps of one of them, and print the memory before and the peak."""
    before = held()
    step: Step = Original(arguments) if arguments.only == "theirs" else Ours(arguments, ORDERS[arguments.what][arguments.only])
    for a, b in pictures(2, arguments.size):
        step.step(a, b)
    print(before, held())


def memory(arguments: argparse.Namespace) -> None:
    """Print the peaks of fresh processes."""
    command = [sys.executable, __file__, str(arguments.original), arguments.what, "--size", str(arguments.size)]
    command += ["--width", str(arguments.width), "--threads", str(arguments.threads), "--only"]
    peaks: dict[str, float] = {}
    for name in ("theirs", *ORDERS[arguments.what]):
        done = subprocess.run([*command, name], check=True, capture_output=True, text=True)
        before, peaks[name] = map(float, done.stdout.split()[-2:])
        share = peaks[name] / peaks["theirs"]
        print(f"{name:<18} {before:6.0f} MiB before, {peaks[name]:6.0f} MiB at most: {share:.2f} of theirs", flush=True)


def curves(arguments: argparse.Namespace) -> None:
    """Print the losses of both at each step, from equal weights, and the greatest difference relative to each loss."""
    theirs, worst = Original(arguments, dropout=False), dict[str, float]()
    pairs = ["precision=float32", *(["network.dropout=0"] if arguments.what == "pix2pix" else ["task.pool=0"])]
    ours = Ours(arguments, pairs)
    if arguments.what == "cyclegan":
        theirs.model.fake_A_pool.pool_size = theirs.model.fake_B_pool.pool_size = 0
    ours.take(theirs, arguments.what)
    for number, (a, b) in enumerate(pictures(arguments.curves, arguments.size)):
        found, expected = ours.step(a, b), theirs.step(a, b)
        if arguments.what == "pix2pix":
            found["D"], expected["D"] = found["discriminator"], (expected["D_real"] + expected["D_fake"]) / 2
        named = LOSSES[arguments.what] | ({"D": "D"} if arguments.what == "pix2pix" else {})
        for name, mine in named.items():
            worst[name] = max(worst.get(name, 0.0), abs(found[mine] - expected[name]) / abs(expected[name]))
        print(
            number + 1, " ".join(f"{name} {expected[name]:.5f} {found[mine]:.5f}" for name, mine in named.items()), flush=True
        )
    print("greatest relative difference:", ", ".join(f"{name} {value:.1e}" for name, value in worst.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("original", type=Path, help="a checkout of pytorch-CycleGAN-and-pix2pix")
    parser.add_argument("what", choices=RECIPES)
    parser.add_argument("--rounds", type=int, default=10, help="timed steps of each")
    parser.add_argument("--warm-up", type=int, default=2, help="steps of each before that")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="cpu: with 1 thread, on a busy machine")
    parser.add_argument("--memory", action="store_true", help="measure memory instead of time")
    parser.add_argument("--curves", type=int, default=0, help="compare the losses of so many steps instead")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.only:
        hold(arguments)
        return
    print(f"torch {torch.__version__}, {arguments.threads} threads, {arguments.clock} clock, {arguments.size} pixels")
    if arguments.memory:
        memory(arguments)
    elif arguments.curves:
        curves(arguments)
    else:
        report(measure(arguments))


if __name__ == "__main__":
    main()
