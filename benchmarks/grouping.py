"""How long it takes to turn the maps of an image into people.

    PYTHONPATH=src python benchmarks/grouping.py [--people 20] [--rounds 200] [--json figures.json]

Goal. 20 people from 46 x 46 maps of the COCO skeleton of 18 points and 19 limbs (57 sheets), that is 368 x 368 pixels at
stride 8, in less than 10 ms on one thread: peaks, line integrals of all limbs between all pairs of peaks, matching, assembly.

Protocol. Stick figures stand in rows, each swaying by itself, neighbours overlapping by the arms; the sheets are the encoded
truth with noise of 2 %. One thread. Each round times greedy matching and the Hungarian method in turn; figures are medians
over the rounds with quartiles, by the clock on the wall and in CPU seconds (on a busy machine the first includes waiting).
Before that all people must have been found, which is the warm-up too.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pixelwise import doctor
from pixelwise.codecs.part_fields import PartFieldsCodec
from pixelwise.geometry.presence import Presence
from pixelwise.geometry.skeleton import Skeleton

NAMES = "nose neck Rsho Relb Rwri Lsho Lelb Lwri Rhip Rkne Rank Lhip Lkne Lank Reye Leye Rear Lear"
LIMBS = "1-2 1-5 2-3 3-4 5-6 6-7 1-8 8-9 9-10 1-11 11-12 12-13 1-0 0-14 14-16 0-15 15-17 2-16 5-17"
FIGURE = (
    *((0, 10), (0, 22), (-10, 23), (-16, 36), (-20, 48), (10, 23), (16, 36), (20, 48), (-6, 50), (-7, 66), (-8, 82)),
    *((6, 50), (7, 66), (8, 82), (-3, 7), (3, 7), (-6, 9), (6, 9)),
)
"""Pixels, from the top of the head."""
GOAL_MS = 10


def skeleton() -> Skeleton:
    """Return the COCO skeleton of OpenPose, 18 points and 19 limbs."""
    limbs = tuple((int(a), int(b)) for a, b in (limb.split("-") for limb in LIMBS.split()))
    return Skeleton(names=tuple(NAMES.split()), limbs=limbs)


def crowd(people: int, side: int) -> Tensor:
    """Return `(1, people, 18, 2)`: figures in rows of as many columns as fill a square picture."""
    columns = math.ceil(math.sqrt(people * 1.6))
    rows = math.ceil(people / columns)
    place = torch.tensor([[(n % columns + 0.5) * side / columns, (n // columns) * side / rows] for n in range(people)])
    sway = torch.randn(people, 18, 2, generator=torch.Generator().manual_seed(0))
    return (torch.tensor(FIGURE) * (0.95 * side / rows / 88) + place[:, None] + sway)[None]


def found(people: Tensor, truth: Tensor) -> int:
    """Return how many true people have all their points within 4 pixels in one of those found."""
    apart = (people[:, None] - truth).norm(dim=-1).nan_to_num(math.inf).amax(-1)
    return int((apart.amin(0) < 4).sum())


def timed(codec: PartFieldsCodec, sheets: Tensor, side: int) -> tuple[float, float]:
    """Return milliseconds of one decoding, on the wall and of the CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    codec.decode(sheets, (side, side))
    return 1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - cpu)


@torch.inference_mode()
def measure(settings: argparse.Namespace) -> dict[str, Any]:
    """Return the quartiles in milliseconds of both ways."""
    side = settings.side
    truth = crowd(settings.people, side)
    presence = torch.full(truth.shape[:3], Presence.VISIBLE, dtype=torch.uint8)
    codecs = {
        matching: PartFieldsCodec(skeleton(), sigma=7, thickness=8, stride=8, matching=matching)  # type: ignore[arg-type]
        for matching in ("greedy", "hungarian")
    }
    sheets = codecs["greedy"].encode(truth, presence, (side, side))["sheets"]
    sheets = sheets + 0.02 * torch.randn(sheets.shape, generator=torch.Generator().manual_seed(1))
    for name, codec in codecs.items():
        (people,) = codec.decode(sheets, (side, side))
        right = found(people.points, truth[0])
        print(f"{name}: {len(people.scores)} people, {right} of {settings.people} with every point within 4 px", flush=True)
    rounds = [{name: timed(codec, sheets, side) for name, codec in codecs.items()} for _ in range(settings.rounds)]
    report: dict[str, Any] = {"maps": list(sheets.shape[1:]), "people": settings.people, "rounds": settings.rounds}
    for name in codecs:
        for clock, values in zip(("wall", "cpu"), zip(*(times[name] for times in rounds), strict=True), strict=True):
            low, middle, high = statistics.quantiles(values, n=4)
            report[f"{name}_{clock}_ms"] = {"lower": low, "median": middle, "upper": high, "least": min(values)}
            print(f"{name:9} {clock:4}: median {middle:5.2f} ms, quartiles {low:5.2f} to {high:5.2f}, least {min(values):5.2f}")
    return report


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--side", type=int, default=368)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--json", type=Path)
    settings = parser.parse_args()
    torch.set_num_threads(1)
    report = {"cpu": doctor.cpu_model(), "torch": torch.__version__, "goal_ms": GOAL_MS, **measure(settings)}
    if settings.json:
        settings.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
