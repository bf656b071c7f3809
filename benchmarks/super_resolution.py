"""Four times the size of a picture: our compact network as `predict` runs it against a plain ESPCN, and the cost of tiles.

    PYTHONPATH=src python benchmarks/super_resolution.py [--size 1024] [--budget 400MB] [--rounds 5] [--json figures.json]

Found (2 rounds on one busy core with AMX): bfloat16 takes 2.87 times as long as ESPCN, float32 6.56 times; tiles take 0.80
times as long as the whole picture, and no pixel differs.

Claim: with bfloat16 the compact network, of 12 times the work per pixel, takes at most 4 times as long as ESPCN written plainly
in eager float32 (the luma alone, no bicubic chroma), and tiles take at most 15 % more time than the whole picture.

Weights are random: nothing here depends on them. `model` is `Model` from uint8 pixels to uint8 pixels, colours included.
All take turns in one process; a ratio is that of the same round. The clock counts CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelwise import __version__
from pixelwise.data.augment import View
from pixelwise.data.dataset import Meta
from pixelwise.memory import resident
from pixelwise.model import Description, Model
from pixelwise.nn.networks import espcn, residual_pixel_shuffle
from pixelwise.overrides import parse_bytes
from pixelwise.tasks.super_resolution import Config

SCALE = 4
GOAL, TILES_GOAL = 4.0, 1.15


class PlainESPCN(nn.Module):
    """Shi et al. 2016 as anybody would write it: (B, 1, H, W) -> (B, 1, 4 H, 4 W)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 64, 5, padding=2)
        self.conv2 = nn.Conv2d(64, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, SCALE**2, 3, padding=1)

    def forward(self, luma: Tensor) -> Tensor:
        """Return the larger luma."""
        maps = torch.tanh(self.conv2(torch.tanh(self.conv1(luma))))
        return functional.pixel_shuffle(self.conv3(maps), SCALE)


def model(network: residual_pixel_shuffle.Config | espcn.Config) -> Model:
    """Return an untrained model of the network."""
    config = Config(scale=SCALE)
    task = config.build(Meta())
    view = View(size=(64, 64), fit="native")
    described = Description(recipe="benchmark", task=config, network=network, meta=Meta(), view=view)
    return Model(described, task, task.networks(network))


def runs(pixels: Tensor, budget: int) -> dict[str, Callable[[], Tensor]]:
    """Return what is compared, by name."""
    plain, luma = PlainESPCN().eval(), pixels[:1, None].float() / 255

    def plainly() -> Tensor:
        with torch.inference_mode():
            return (plain(luma)[0] * 255).round().clamp(0, 255).byte()

    def by(one: Model, memory: int | None = None) -> Callable[[], Tensor]:
        def run() -> Tensor:
            one.memory = None if memory is None else resident() + memory
            picture: Tensor = one(pixels).pixels  # type: ignore[attr-defined]
            return picture

        return run

    compact = model(residual_pixel_shuffle.Config())
    quick = model(residual_pixel_shuffle.Config()).computing_in("bfloat16")
    small = model(espcn.Config()).computing_in("bfloat16")
    return {
        "plain ESPCN": plainly,
        "compact, float32": by(compact),
        "compact, bfloat16": by(quick),
        "the same in tiles": by(quick, budget),
        "our ESPCN, bfloat16": by(small),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--budget", default="400MB", help="memory of the tiles, beside what the process holds")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", help="write the figures here too")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (3, arguments.size, arguments.size), dtype=torch.uint8)
    compared = runs(pixels, parse_bytes(arguments.budget))
    seconds: dict[str, list[float]] = {name: [] for name in compared}
    found: dict[str, Tensor] = {}
    for number in range(arguments.rounds + 1):  # the first warms up
        for name, run in compared.items():
            began = time.process_time()
            found[name] = run()
            if number:
                seconds[name].append(time.process_time() - began)
    figures = {}
    for name, base in [*((name, "plain ESPCN") for name in compared), ("the same in tiles", "compact, bfloat16")]:
        ratios = [ours / theirs for ours, theirs in zip(seconds[name], seconds[base], strict=True)]
        row = {"seconds": statistics.median(seconds[name]), "ratio": statistics.median(ratios)}
        row["quartiles"] = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        figures[f"{name} / {base}"] = row
        low, _, high = row["quartiles"]
        print(f"{name:20} / {base:18} {row['seconds']:7.2f} s  ratio {row['ratio']:6.2f}  quartiles {low:.2f} - {high:.2f}")
    whole, tiled = found["compact, bfloat16"].int(), found["the same in tiles"].int()
    print(f"tiled and whole differ by at most {int((whole - tiled).abs().max())} levels of 255")
    print(f"goals: compact, bfloat16 at most {GOAL}; tiles at most {TILES_GOAL}")
    if arguments.json:
        settings = {**vars(arguments), "clock": "cpu"}
        versions = {"pixelwise": __version__, "torch": torch.__version__, "python": platform.python_version()}
        record = {"claim": __doc__, "machine": platform.machine(), "versions": versions, "settings": settings}
        Path(arguments.json).write_text(json.dumps({**record, "figures": figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
