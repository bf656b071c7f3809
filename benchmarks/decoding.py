"""How far each decoder is off on Gaussian belief maps, clean and with noise.

    PYTHONPATH=src python benchmarks/decoding.py [--margin 8] [--seeds 5] [--json figures.json]

Claim. On a clean map log-Taylor and the weighted fit find the peak to less than 0.01 input pixels, wherever it lies between the
pixels; with noise, what looks at more pixels is off by less.

Protocol. Maps of 64 x 64 pixels at stride 4, Gaussians of sigma 2 map pixels and peak 1 at 400 uniform positions at least
`margin` map pixels from the border; to every pixel is added normal noise of the stated deviation. The error is the root mean
squared distance in input pixels; the figure is the mean over the seeds, each with its own positions and noise, with the least
and largest. Times are CPU milliseconds on one thread for 400 maps.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from pixelwise import doctor
from pixelwise.codecs import peaks
from pixelwise.codecs.gaussian_heatmaps import GaussianHeatmapsCodec
from pixelwise.codecs.soft_argmax import expectation
from pixelwise.geometry.presence import Presence

SIDE, STRIDE, SIGMA = 64, 4, 2.0
NOISES = (0.0, 0.02, 0.05)
MEAN = "mean of the whole map"


def maps(count: int, margin: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return points `(count, 2)` in input pixels, and their clean maps `(count, 1, 64, 64)`."""
    points = (torch.rand(count, 1, 1, 2, generator=generator) * (SIDE - 2 * margin) + margin) * STRIDE
    codec = GaussianHeatmapsCodec(1, sigma=SIGMA, sigma_unit="map", stride=STRIDE, loss="l2")
    seen = torch.full(points.shape[:-1], Presence.VISIBLE, dtype=torch.uint8)
    return points[:, 0, 0], codec.encode(points, seen, (SIDE * STRIDE, SIDE * STRIDE))["heatmaps"]


def decoded(decoder: str, sheets: Tensor) -> Tensor:
    """Return the found points `(count, 2)` in input pixels."""
    if decoder == MEAN:
        return expectation(sheets / sheets.sum((2, 3), keepdim=True))[:, 0] * STRIDE
    codec = GaussianHeatmapsCodec(1, sigma=SIGMA, sigma_unit="map", stride=STRIDE, loss="l2", decoding=decoder)  # type: ignore[arg-type]
    return codec.decode(sheets, (SIDE * STRIDE, SIDE * STRIDE)).points[:, 0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=400)
    parser.add_argument("--margin", type=float, default=8, help="least distance of a point from the border, in map pixels")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    settings = parser.parse_args()
    torch.set_num_threads(1)
    decoders = [*reversed(get_args(peaks.Decoding)), MEAN]
    errors: dict[str, dict[float, list[float]]] = {name: {noise: [] for noise in NOISES} for name in decoders}
    times: dict[str, list[float]] = {name: [] for name in decoders}
    for seed in range(settings.seeds):
        generator = torch.Generator().manual_seed(seed)
        points, clean = maps(settings.points, settings.margin, generator)
        for noise in NOISES:
            sheets = clean + noise * torch.randn(clean.shape, generator=generator)
            for name in decoders:
                began = time.process_time()
                found = decoded(name, sheets)
                times[name].append(1000 * (time.process_time() - began))
                errors[name][noise].append(float((found - points).norm(dim=-1).square().mean().sqrt()))
    print("| decoder | clean | noise 0.02 | noise 0.05 | ms |\n|---|---|---|---|---|")
    results: dict[str, Any] = {}
    for name in decoders:
        cells = [f"{statistics.fmean(of):.3f} ({min(of):.3f} to {max(of):.3f})" for of in errors[name].values()]
        middle = statistics.median(times[name][1:])
        print(f"| {name} | {' | '.join(cells)} | {middle:.1f} |")
        results[name] = {"rmse_px": errors[name], "milliseconds": middle}
    if settings.json:
        options = {key: str(value) for key, value in vars(settings).items()}
        claim = {"claim": __doc__.splitlines()[0], "machine": doctor.examine(), "settings": options, "results": results}
        settings.json.write_text(json.dumps(claim, indent=2) + "\n")


if __name__ == "__main__":
    main()
