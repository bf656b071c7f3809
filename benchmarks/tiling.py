"""Exact tiles against the whole picture: time, peak memory and difference, with tiles chosen from a budget of memory.

    PYTHONPATH=src python benchmarks/tiling.py [--size 4096] [--budget 300MB] [--rounds 5] [--json figures.json]
    PYTHONPATH=src python benchmarks/tiling.py --encoder resnet18 --bfloat16

Claim: tiles that take a thirteenth of the memory need at most 1.35 times the time, and are exact. A plain tile of 1024 pixels
with a halo of 96 on a U-Net with ResNet-18 took 1.43 times the time and was not exact; it runs here as `plain`.

Whole, tiled and plain take turns in one process, channels last, in inference mode; a ratio is that of the same round. The
clock counts CPU seconds. Each peak is that of the resident size in a fresh process, above what it held before.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from pixelwise import __version__
from pixelwise.geometry.tiles import Axis, Cut, exact
from pixelwise.memory import resident
from pixelwise.nn.networks import unet
from pixelwise.nn.tiling import Plan, Tiled, Tiling, interleaved
from pixelwise.overrides import parse_bytes

GOAL = 1.35
PLAIN_TILE, PLAIN_HALO = 1024, 96
CLASSES = 11
Run = Callable[[Tensor], Tensor]


def build(arguments: argparse.Namespace) -> tuple[nn.Module, Tensor]:
    """Return the network and a picture."""
    torch.manual_seed(0)
    config = unet.Config(width=arguments.width, encoder=arguments.encoder)
    dtype = torch.bfloat16 if arguments.bfloat16 else torch.float32
    network = config.build(3, CLASSES).eval().to(dtype, memory_format=torch.channels_last)
    return network, interleaved(torch.rand(1, 3, arguments.size, arguments.size).to(dtype))


def plain(size: int) -> Plan:
    """Return the tiles of 1024 that keep all but 96 pixels at each side, wherever they lie."""
    axis = Axis(size, PLAIN_HALO, PLAIN_HALO, 1)
    steps = (PLAIN_TILE - 2 * PLAIN_HALO,) * 2
    return Plan(partial(exact, cut=Cut(axis, axis, steps)), 0)


def variants(network: nn.Module, arguments: argparse.Namespace) -> dict[str, Run]:
    """Return the ways to see a picture, by name."""
    size = (arguments.size, arguments.size)
    plan = Tiling(network, 3).plan(size, parse_bytes(arguments.budget), "exact")
    return {"whole": network, "tiled": Tiled(network, plan), "plain": Tiled(network, plain(arguments.size))}


def peak(arguments: argparse.Namespace) -> int:
    """Return the bytes that one evaluation takes at its peak, in a process that has done nothing else."""
    network, image = build(arguments)
    run = variants(network, arguments)[arguments.peak]
    with torch.inference_mode():
        network(image[..., :64, :64])
        before = resident()
        run(image)
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")) - before


def measure(arguments: argparse.Namespace) -> dict[str, object]:
    """Return the figures of every variant."""
    network, image = build(arguments)
    runs = variants(network, arguments)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    found: dict[str, Tensor] = {}
    with torch.inference_mode():
        for number in range(arguments.rounds + 1):  # the first warms up
            for name, run in runs.items():
                began = time.process_time()
                found[name] = run(image)
                if number:
                    seconds[name].append(time.process_time() - began)
    scale = float(found["whole"].abs().max())
    figures: dict[str, object] = {}
    for name, times in seconds.items():
        ratios = [ours / whole for ours, whole in zip(times, seconds["whole"], strict=True)]
        words = [sys.executable, __file__, *sys.argv[1:], "--peak", name]
        figures[name] = {
            "seconds": statistics.median(times),
            "ratio": statistics.median(ratios),
            "quartiles": statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3,
            "peak": int(subprocess.run(words, check=True, capture_output=True, text=True).stdout),
            "difference": float((found[name] - found["whole"]).abs().max()) / scale,
            "other_classes": float((found[name].argmax(1) != found["whole"].argmax(1)).float().mean()),
        }
    return figures


def describe(arguments: argparse.Namespace) -> dict[str, object]:
    """Return what decides the figures."""
    network, _ = build(argparse.Namespace(**{**vars(arguments), "size": 64}))
    tiling = Tiling(network, 3)
    cut = tiling.plan((arguments.size, arguments.size), parse_bytes(arguments.budget), "exact").parts.keywords["cut"]  # type: ignore[attr-defined]
    return {
        "claim": __doc__.splitlines()[0] if __doc__ else "",
        "machine": platform.machine(),
        "versions": {"pixelwise": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "settings": {**vars(arguments), "clock": "cpu", "parameters": sum(p.numel() for p in network.parameters())},
        "reach": tiling.reach._asdict(),
        "tile": cut.tile,
        "work": cut.work / math.prod((arguments.size, arguments.size)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--encoder", help="a timm model instead of our own contracting path")
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--budget", default="300MB", help="memory of one evaluation of the network")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", help="write the figures here too")
    parser.add_argument("--peak", choices=["whole", "tiled", "plain"], help="print the peak of one variant, nothing else")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.peak:
        print(peak(arguments))
        return
    record = describe(arguments)
    print(f"halo {record['reach']}, tile {record['tile']}, {record['work']:.3f} of the pixels computed")
    record["figures"] = figures = measure(arguments)
    print(f"{'':8}{'seconds':>9}{'ratio':>7}  quartiles    {'peak':>9}  {'memory':>6}  difference  other classes")
    for name, row in figures.items():
        low, _, high = row["quartiles"]
        share = figures["whole"]["peak"] / row["peak"]
        print(
            f"{name:8}{row['seconds']:9.2f}{row['ratio']:7.2f}  {low:.2f} - {high:.2f}  {row['peak'] / 1e6:6.0f} MB"
            f"  1/{share:<5.1f} {row['difference']:.1e}  {row['other_classes']:.4%}"
        )
    print(f"goal: tiled at most {GOAL}")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
