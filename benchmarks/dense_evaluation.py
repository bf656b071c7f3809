"""How much faster one pass over a picture is than its patch classifier slid over every pixel, in batches or one by one.

    PYTHONPATH=src python benchmarks/dense_evaluation.py [--rounds 5] [--json figures.json]

Claim. n 3x3 convolutions without padding, run once over the whole picture, give the scores that sliding gives with up to
(4 n^2 - 1) / 3 times less work: the layers of one patch compute (2n - 1)^2 + ... + 3^2 + 1^2 values per channel, those of the
picture n per pixel. Goals: 19, 65 and 249 times faster than batches at depth 4, 8 and 16, 300 times faster than one by one.

Protocol. Every round times the three ways in turn, on one thread and in CPU seconds, so that a busy machine disturbs all
alike. Sliding one by one is timed on a strip of the picture and scaled to its height; one pass is repeated and averaged.
A ratio is taken within a round; the figure is the median over the rounds, with quartiles. The scores are compared first,
which is the warm-up as well.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pixelwise import doctor
from pixelwise.nn.sliding import patch_classifier, slide, slide_densely

GOALS = {4: 19, 8: 65, 16: 249}
ONE_BY_ONE = 300


def seconds(work: Callable[[], Tensor], times: int = 1) -> float:
    """Return the CPU seconds of one call."""
    began = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - began) / times


def difference(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference as a part of the standard deviation."""
    return ((found - expected).abs().max() / expected.std()).item()


@torch.no_grad()
def measure(depth: int, settings: argparse.Namespace) -> list[dict[str, float]]:
    """Return the CPU seconds for one picture of every way, in every round."""
    torch.manual_seed(depth)
    network, patch = patch_classifier(depth, 3, settings.width, 1), 2 * depth + 1
    picture = torch.rand(1, 3, settings.side, settings.side)
    strip = picture[:, :, : settings.strip]
    errors = [
        difference(slide(network, picture, patch, settings.batch), slide_densely(network, picture, patch)),
        difference(slide(network, strip, patch), slide_densely(network, strip, patch)),
    ]
    assert max(errors) < 1e-5, f"the ways differ by {errors}"
    print(f"depth {depth}: scores differ by {errors[0]:.0e} (batches) and {errors[1]:.0e} (one by one)", flush=True)
    return [
        {
            "dense": seconds(lambda: slide_densely(network, picture, patch), 20),
            "batches": seconds(lambda: slide(network, picture, patch, settings.batch)),
            "one by one": seconds(lambda: slide(network, strip, patch)) * settings.side / settings.strip,
        }
        for _ in range(settings.rounds)
    ]


def compared(found: list[dict[str, float]], way: str) -> dict[str, Any]:
    """Return the seconds of one pass (a) and of `way` (b) in every round, and their ratio b / a."""
    rounds = [{"a": times["dense"], "b": times[way]} for times in found]
    low, middle, high = statistics.quantiles([pair["b"] / pair["a"] for pair in rounds], n=4)
    return {"rounds": rounds, "ratio": {"median": middle, "quartiles": [low, high]}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=64, help="height and width of the picture")
    parser.add_argument("--strip", type=int, default=4, help="rows of it that are classified one by one")
    parser.add_argument("--width", type=int, default=16, help="channels between the convolutions")
    parser.add_argument("--batch", type=int, default=256, help="patches per batch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    settings = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    for depth, goal in GOALS.items():
        found = measure(depth, settings)
        for way, least in (("batches", goal), ("one by one", ONE_BY_ONE)):
            results[f"{way}, depth {depth}"] = compared(found, way) | {"goal": least, "work": (4 * depth**2 - 1) / 3}
    print(f"{'':22}{'ratio':>7}  {'quartiles':>13}{'goal':>6}{'work':>6}{'ms dense':>10}{'ms':>9}")
    for name, result in results.items():
        low, high = result["ratio"]["quartiles"]
        ours, theirs = (1000 * statistics.median(pair[side] for pair in result["rounds"]) for side in ("a", "b"))
        ratio = f"{result['ratio']['median']:7.0f}  {low:5.0f} - {high:5.0f}"
        print(f"{name:22}{ratio}{result['goal']:6}{result['work']:6.0f}{ours:10.1f}{theirs:9.0f}")
    if settings.json:
        machine, options = doctor.examine(), {key: str(value) for key, value in vars(settings).items()}
        claim = {"claim": __doc__.splitlines()[0], "machine": machine, "settings": options, "results": results}
        settings.json.write_text(json.dumps(claim, indent=2) + "\n")


if __name__ == "__main__":
    main()
