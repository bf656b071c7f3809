"""How many scenes of the embedded world are drawn per second, by all cores together and per second of processor time.

Usage: python benchmarks/world.py [scenes] [size] [processes]
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor

os.environ.setdefault("OMP_NUM_THREADS", "1")

from pixelwise.data.datasets.world import Config

SETS = {
    "labels": ("labels",),
    "image labels depth normals keypoints": ("image", "labels", "depth", "normals", "keypoints"),
    "image edges": ("image", "edges"),
    "image night thermal": ("image", "night", "thermal"),
    "aerial map": ("aerial", "map"),
}


def draw(fields: tuple[str, ...], scenes: int, size: int, seed: int) -> float:
    """Draw scenes that were never drawn before and return the processor seconds."""
    dataset = Config(scenes=scenes, size=(size, size), seed=seed).open("train")
    began = time.process_time()
    for index in range(scenes):
        dataset.sample(index, fields)
    return time.process_time() - began


def main() -> None:
    """Print one line per set of fields."""
    scenes, size, processes = (int(word) for word in [*sys.argv[1:], *["256", "64", "2"][len(sys.argv) - 1 :]])
    print(f"{scenes} scenes of {size} x {size}, {processes} processes{'':8} scenes/s   per core second")
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(draw, [("image", "aerial")] * processes, [1] * processes, [size] * processes, range(processes)))
        for name, fields in SETS.items():
            share, seed = scenes // processes, 100 * (1 + len(name))
            wall = time.perf_counter()
            seconds = pool.map(
                draw, [fields] * processes, [share] * processes, [size] * processes, range(seed, seed + processes)
            )
            processor = sum(seconds)
            wall = time.perf_counter() - wall
            print(f"{name:42}{share * processes / wall:10.0f}{share * processes / processor:18.0f}")


if __name__ == "__main__":
    main()
