"""How many scenes of the embedded world are drawn per second, by the clock and by processor time, on one thread.

Usage: python benchmarks/world.py [scenes] [size]
"""

from __future__ import annotations

import os
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

from pixelwise.data.datasets.world import Config

SETS = {
    "labels": ("labels",),
    "image labels depth normals keypoints": ("image", "labels", "depth", "normals", "keypoints"),
    "image edges": ("image", "edges"),
    "image night thermal": ("image", "night", "thermal"),
    "aerial map": ("aerial", "map"),
}


def main() -> None:
    scenes, size = (int(word) for word in (sys.argv[1:] + ["256", "64"][len(sys.argv) - 1 :])[:2])
    Config(scenes=1).open("train").sample(0, ("image", "aerial"))
    print(f"{scenes} scenes of {size} x {size}{'':22} scenes/s   per core second")
    for name, fields in SETS.items():
        dataset = Config(scenes=scenes, size=(size, size), seed=1 + len(name)).open("train")
        wall, processor = time.perf_counter(), time.process_time()
        for index in range(scenes):
            dataset.sample(index, fields)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        print(f"{name:42}{scenes / wall:10.0f}{scenes / processor:18.0f}")


if __name__ == "__main__":
    main()
