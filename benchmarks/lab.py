"""Lab of a picture of 4 megapixels: pixelwise against scikit-image, on the same cores.

    PYTHONPATH=src python benchmarks/lab.py [--threads 2] [--rounds 7] [--json figures.json]

Claim. From a picture's bytes to CIELAB takes pixelwise at most a fifth of scikit-image's time, and the numbers are the same.

Protocol. One picture of 2048 x 2048 random colours, uint8, in each library's own layout; both are offered as many threads; A
(scikit-image) and B (ours) alternate; medians of paired ratios A/B. The clock is the processor's with one thread, which bears a
loaded machine, and the wall's with more. scikit-image is called on the bytes, which it turns into float64, and on float32,
which it keeps; ours computes in float32. Back to sRGB likewise.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skimage import color

from pixelwise import doctor
from pixelwise.color.spaces import lab_of_srgb, srgb_of_lab

SIDE = 2048


def seconds(work: Callable[[], Any]) -> float:
    """Return the time of one call: the processor's with one thread, else the wall's."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    began = clock()
    work()
    return clock() - began


def compared(theirs: Callable[[], Any], ours: Callable[[], Any], rounds: int) -> dict[str, Any]:
    """Return the alternating times, and quartiles of their ratio."""
    theirs(), ours()
    found = [{"a": seconds(theirs), "b": seconds(ours)} for _ in range(rounds)]
    low, median, high = statistics.quantiles([one["a"] / one["b"] for one in found], n=4)
    return {"rounds": found, "ratio": {"median": median, "quartiles": [low, high]}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    floats = pixels.astype(np.float32) / 255
    ours, ours_floats = (torch.from_numpy(one).permute(2, 0, 1).contiguous() for one in (pixels, floats))
    lab = color.rgb2lab(floats)
    ours_lab = lab_of_srgb(ours)
    error = float(np.abs(ours_lab.permute(1, 2, 0).numpy() - color.rgb2lab(pixels)).max())
    results = {
        "Lab of bytes": compared(lambda: color.rgb2lab(pixels), lambda: lab_of_srgb(ours), settings.rounds),
        "Lab of float32": compared(lambda: color.rgb2lab(floats), lambda: lab_of_srgb(ours_floats), settings.rounds),
        "sRGB of Lab, float32": compared(lambda: color.lab2rgb(lab), lambda: srgb_of_lab(ours_lab), settings.rounds),
    }
    print(f"{SIDE} x {SIDE}, {settings.threads} threads, largest difference from scikit-image {error:.1e} in L, a or b")
    for name, found in results.items():
        a, b = (statistics.median(one[key] for one in found["rounds"]) for key in "ab")
        low, high = found["ratio"]["quartiles"]
        print(
            f"{name:22} scikit-image {a:.3f} s, ours {b:.3f} s: {found['ratio']['median']:.1f} times ({low:.1f} to {high:.1f})"
        )
    if settings.json:
        written = {"claim": __doc__.split("\n\n")[2], "machine": doctor.examine(), "difference": error, "results": results}
        settings.json.write_text(json.dumps(written, indent=2) + "\n")


if __name__ == "__main__":
    main()
