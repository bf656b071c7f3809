"""How much faster a pix2pix training step is than the published one: batch 1, 256x256, all variants by turns.

    python benchmarks/pix2pix_step.py --rounds 20
    python benchmarks/pix2pix_step.py --rounds 20 --allocator

Protocol. The baseline is the step of the published PyTorch code: fp32, default Adam, generator forward, discriminator
step on the detached picture, generator step through the updated discriminator (three passes of the discriminator, its
parameters frozen in the last), every layer a plain torch module. Every round times one step of every variant in turn,
in random order, in one process on the same data; the ratio of a round is baseline time / variant time, the figure its
median over rounds with quartiles.
`--allocator` repeats everything in a subprocess whose allocator keeps its memory (and in one with tcmalloc, if it is
installed), by turns with plain subprocesses; the ratio is then against the baseline under the plain allocator,
so across processes: read nothing into differences below 10 %.

Variants. `pixelwise train` is the step of the real engine on the recipe `facades`, with its encoding, finiteness check and
deterministic mode; in the 2017 order it still makes a pass of its own per phase. The others add one ingredient at a time
to the published step. `products`: the deep layers as matrix products (pixelwise.nn.products). `not frozen`: what freezing the
discriminator in the generator's phase saves; the published code does freeze it.

Orders. `updated` is the published PyTorch order. `2017` is that of the Torch code: the generator learns from the
verdict the discriminator gave before its update, so one pass over the translated picture serves both. (The Torch code
sends the gradient back through the already updated weights; here both gradients are taken at the same weights.)

Goals: at least 1.75 in the same order, at least 2.0 in the 2017 order.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import l1_loss, softplus

from pixelwise.data.dataset import Meta
from pixelwise.engine import precision
from pixelwise.engine.trainer import Trainer
from pixelwise.nn.networks import patchgan, pix2pix_unet
from pixelwise.nn.products import Double, Halve
from pixelwise.recipe import find_recipe

TCMALLOC = ("/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4", "/usr/lib/x86_64-linux-gnu/libtcmalloc.so.4")
KEEP = {  # as ./pw sets it
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
}


@dataclass(frozen=True)
class Variant:
    """What is changed with respect to the published step."""

    fused: bool = False
    bfloat16: bool = False
    products: bool = False
    frozen: bool = True
    order: str = "updated"


VARIANTS = {
    "published": Variant(),
    "published, not frozen": Variant(frozen=False),
    "fused Adam": Variant(fused=True),
    "fused Adam, products": Variant(fused=True, products=True),
    "fused Adam, bf16": Variant(fused=True, bfloat16=True),
    "fused Adam, bf16, products": Variant(fused=True, bfloat16=True, products=True),
    "fused Adam, bf16, 2017 order": Variant(fused=True, bfloat16=True, order="2017"),
    "fused Adam, bf16, products, 2017 order": Variant(fused=True, bfloat16=True, products=True, order="2017"),
}
PRODUCT = {"pixelwise train": "discriminator_first", "pixelwise train, 2017 order": "simultaneous"}
GOALS = {"pixelwise train": 1.75, "pixelwise train, 2017 order": 2.0}


class Run:
    """Networks and optimisers of one variant; all variants start from the same weights."""

    def __init__(self, variant: Variant, width: int = 64) -> None:
        torch.manual_seed(0)
        self.variant = variant
        self.generator = pix2pix_unet.Config(width=width).build(3, 3)
        for layer in self.generator.modules():
            if isinstance(layer, (Halve, Double)) and not variant.products:
                layer.few = 0
        self.discriminator = patchgan.Config(width=width).build(6, 1)
        settings = {"lr": 2e-4, "betas": (0.5, 0.999), "fused": variant.fused or None}
        self.adam_generator = torch.optim.Adam(self.generator.parameters(), **settings)
        self.adam_discriminator = torch.optim.Adam(self.discriminator.parameters(), **settings)

    def step(self, picture: Tensor, target: Tensor) -> None:
        """One training step."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.variant.bfloat16):
            fake = self.generator(picture)
        (self._updated if self.variant.order == "updated" else self._order_2017)(picture, target, fake)

    def _judge(self, picture: Tensor, answer: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.variant.bfloat16):
            logits: Tensor = self.discriminator(torch.cat([picture, answer], 1))
        return logits.float()

    def _updated(self, picture: Tensor, target: Tensor, fake: Tensor) -> None:
        self.adam_discriminator.zero_grad()
        false, true = self._judge(picture, fake.detach()), self._judge(picture, target)
        (0.5 * (softplus(false).mean() + softplus(-true).mean())).backward()
        self.adam_discriminator.step()
        with self._frozen():
            self.adam_generator.zero_grad()
            verdict = self._judge(picture, fake)
            (softplus(-verdict).mean() + 100 * l1_loss(fake.float(), target)).backward()
            self.adam_generator.step()

    def _order_2017(self, picture: Tensor, target: Tensor, fake: Tensor) -> None:
        """Two losses on one verdict: each goes back over the same graph, one to the picture, one to the weights."""
        self.adam_discriminator.zero_grad()
        self.adam_generator.zero_grad()
        shown = fake.detach().requires_grad_()
        verdict, true = self._judge(picture, shown), self._judge(picture, target)
        (gradient,) = torch.autograd.grad(softplus(-verdict).mean(), shown, retain_graph=True)
        loss = 0.5 * (softplus(verdict).mean() + softplus(-true).mean())
        loss.backward(inputs=list(self.discriminator.parameters()))
        self.adam_discriminator.step()
        torch.autograd.backward([fake, 100 * l1_loss(fake.float(), target)], [gradient, None])
        self.adam_generator.step()

    @contextmanager
    def _frozen(self) -> Iterator[None]:
        self.discriminator.requires_grad_(not self.variant.frozen)
        yield
        self.discriminator.requires_grad_(True)


class Product:
    """The engine's own step on the recipe `facades`."""

    def __init__(self, order: str) -> None:
        self.recipe = find_recipe("facades").override([f"task.order={order}"])
        task = self.recipe.task.build(Meta())
        torch.manual_seed(0)
        recipe, folder = self.recipe, Path(tempfile.mkdtemp())
        networks = task.networks(recipe.network)
        self.trainer = Trainer(task, networks, recipe, recipe.optimizer, recipe.schedule, folder, lambda a, b: iter(()))

    def step(self, picture: Tensor, target: Tensor) -> None:
        """One training step on pictures as the loader hands them over, uint8."""
        batch = {name: ((p + 1) * 127.5).round().to(torch.uint8) for name, p in (("a", picture), ("b", target))}
        with precision.arithmetic(self.recipe):
            self.trainer._train(batch)


def compare_gradients() -> dict[str, float]:
    """Return |g - h| / |h| per network: g the gradients of the 2017 step, h those of two separate passes.

    Both start from the same weights and dropout; h is taken with both losses before any update.
    """
    torch.manual_seed(1)
    picture, target = torch.rand(2, 1, 3, 256, 256) * 2 - 1
    run, plain = Run(Variant(order="2017"), 8), Run(Variant(), 8)
    torch.manual_seed(2)
    run.step(picture, target)
    torch.manual_seed(2)
    fake = plain.generator(picture)
    with plain._frozen():
        loss = softplus(-plain._judge(picture, fake)).mean() + 100 * l1_loss(fake, target)
        loss.backward()
    false, true = plain._judge(picture, fake.detach()), plain._judge(picture, target)
    (0.5 * (softplus(false).mean() + softplus(-true).mean())).backward()
    return {name: _difference(getattr(run, name), getattr(plain, name)) for name in ("generator", "discriminator")}


def _difference(network: torch.nn.Module, other: torch.nn.Module) -> float:
    ours, theirs = (torch.cat([p.grad.flatten() for p in n.parameters() if p.grad is not None]) for n in (network, other))
    return ((ours - theirs).norm() / theirs.norm()).item()


def measure(names: list[str], rounds: int, warm_up: int, clock: str) -> dict[str, list[float]]:
    """Return seconds per step of every variant, one entry per round."""
    now = time.perf_counter if clock == "wall" else time.process_time
    picture, target = torch.rand(2, 1, 3, 256, 256, generator=torch.Generator().manual_seed(0)) * 2 - 1
    runs = {name: Product(PRODUCT[name]) if name in PRODUCT else Run(VARIANTS[name]) for name in names}
    order, draw = list(names), random.Random(0)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(warm_up + rounds):
        draw.shuffle(order)
        for name in order:
            start = now()
            runs[name].step(picture, target)
            if turn >= warm_up:
                seconds[name].append(now() - start)
    return seconds


def under(environment: dict[str, str], arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Return `measure` of a fresh process with more environment variables."""
    command = [sys.executable, __file__, "--rounds", str(arguments.part), "--warm-up", str(arguments.warm_up), "--raw"]
    command += ["--threads", str(arguments.threads), "--clock", arguments.clock]
    clean = {key: value for key, value in os.environ.items() if key not in KEEP}
    done = subprocess.run(command, env=clean | environment, check=True, capture_output=True, text=True)
    measured: dict[str, list[float]] = json.loads(done.stdout)
    return measured


def with_allocators(arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Measure in fresh processes, plain and keeping allocators by turns, `part` rounds each."""
    kinds = {"": {}, "glibc keeping memory": KEEP}
    found = [path for path in TCMALLOC if Path(path).exists()]
    if found:
        kinds["tcmalloc"] = {"LD_PRELOAD": found[0]}
    seconds: dict[str, list[float]] = {}
    for _ in range(max(1, arguments.rounds // arguments.part)):
        for kind, environment in kinds.items():
            for name, times in under(environment, arguments).items():
                seconds.setdefault(name + (f" + {kind}" if kind else ""), []).extend(times)
    return seconds


def report(seconds: dict[str, list[float]]) -> None:
    """Print one line per variant: median time, and the median and quartiles of the paired ratios."""
    base = seconds["published"]
    print(f"{'variant':<61} {'ms':>7} {'ratio':>6}  quartiles    goal")
    for name, times in seconds.items():
        ratios = [first / second for first, second in zip(base, times, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        goal = GOALS.get(name.partition(" + ")[0], "")
        print(f"{name:<61} {1000 * statistics.median(times):7.0f} {middle:6.2f}  {low:.2f} - {high:.2f}  {goal:>5}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10, help="timed steps per variant")
    parser.add_argument("--warm-up", type=int, default=2, help="steps per variant before that")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="cpu: with 1 thread, on a busy machine")
    parser.add_argument("--allocator", action="store_true", help="also with allocators that keep their memory")
    parser.add_argument("--part", type=int, default=5, help="rounds per subprocess with --allocator")
    parser.add_argument("--raw", action="store_true", help="print seconds as JSON, nothing else")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.raw:
        print(json.dumps(measure([*VARIANTS, *PRODUCT], arguments.rounds, arguments.warm_up, arguments.clock)))
        return
    print(f"torch {torch.__version__}, {platform.machine()}, {arguments.threads} threads, {arguments.clock} clock")
    print("one pass against two, relative difference of gradients:", compare_gradients())
    names = [*VARIANTS, *PRODUCT]
    report(
        with_allocators(arguments)
        if arguments.allocator
        else measure(names, arguments.rounds, arguments.warm_up, arguments.clock)
    )


if __name__ == "__main__":
    main()
