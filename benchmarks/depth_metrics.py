"""Whether measuring a depth or normals map takes less time than the smallest network takes to make it.

    PYTHONPATH=src python benchmarks/depth_metrics.py [--rounds 7] [--json figures.json]

Claim. All metrics of one map together are no slower than one forward pass of a U-Net of width 8 and depth 2 (27,705
parameters, smaller than that of any recipe) over a picture of the same size; with any alignment of depth.

Protocol. Every round times the network (a) and each way of measuring (b) in turn, on one thread and in CPU seconds, so that a
busy machine disturbs all alike. A ratio b / a is taken within a round; the figure is the median over the rounds, with
quartiles. First the metrics are compared with the same formulas in NumPy, which is the warm-up as well.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch.nn import functional

from pixelwise import doctor
from pixelwise.metrics.depth import Align, DepthMetrics, Protocol
from pixelwise.metrics.normals import NormalsMetrics
from pixelwise.nn.networks import unet


def milliseconds(work: Callable[[], object]) -> float:
    """Return the CPU milliseconds of one call."""
    began = time.process_time()
    work()
    return 1000 * (time.process_time() - began)


def check(depth: torch.Tensor, truth: torch.Tensor) -> None:
    """Compare AbsRel and RMSE with NumPy's."""
    metrics = DepthMetrics()
    metrics.update(depth, truth)
    known = np.isfinite(truth.numpy())
    d, t = (values.numpy().astype(np.float64)[known] for values in (depth, truth))
    found = metrics.compute()
    np.testing.assert_allclose(found["abs_rel"], np.mean(np.abs(d - t) / t), rtol=1e-12)
    np.testing.assert_allclose(found["rmse_m"], np.sqrt(np.mean((d - t) ** 2)), rtol=1e-12)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=2, default=(240, 320), help="height and width of the maps")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    settings = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    depth, truth = (torch.rand(*settings.size) * 5 + 0.5 for _ in range(2))
    truth[truth < 1] = torch.nan
    check(depth, truth)
    vectors, other = (functional.normalize(torch.randn(3, *settings.size), dim=0) for _ in range(2))
    network, image = unet.Config(width=8, depth=2).build(3, 1).eval(), torch.rand(1, 3, *settings.size)
    ways: dict[str, Callable[[], object]] = {
        f"depth, align {align}": lambda align=align: DepthMetrics(Protocol(align=align)).update(depth, truth)
        for align in get_args(Align)
    }
    ways["normals"] = lambda: NormalsMetrics().update(vectors, other)
    rounds: list[dict[str, float]] = []
    with torch.inference_mode():
        for _ in range(settings.rounds + 1):
            rounds.append({"network": milliseconds(lambda: network(image)), **{n: milliseconds(w) for n, w in ways.items()}})
    results: dict[str, Any] = {}
    print(f"{'b':38}{'b / a':>7}  {'quartiles':>13}{'ms a':>8}{'ms b':>8}")
    for name in ways:
        pairs = [{"a": times["network"], "b": times[name]} for times in rounds[1:]]
        low, middle, high = statistics.quantiles([pair["b"] / pair["a"] for pair in pairs], n=4)
        a, b = (statistics.median(pair[side] for pair in pairs) for side in "ab")
        print(f"{name:38}{middle:7.2f}  {low:5.2f} - {high:5.2f}{a:8.1f}{b:8.1f}")
        results[name] = {"rounds": pairs, "ratio": {"median": middle, "quartiles": [low, high]}}
    if settings.json:
        options = {key: str(value) for key, value in vars(settings).items()}
        claim = {"claim": __doc__.splitlines()[0], "machine": doctor.examine(), "settings": options, "results": results}
        settings.json.write_text(json.dumps(claim, indent=2) + "\n")


if __name__ == "__main__":
    main()
