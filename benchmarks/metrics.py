"""What counting costs: the metrics of one picture beside one forward pass of a small network over it.

    PYTHONPATH=src python benchmarks/metrics.py [--side 512] [--rounds 9] [--json figures.json]

Claim. No metric of dense prediction takes longer than the forward pass of the smallest network: a U-Net of two levels and eight
channels, which nobody would deploy.

Protocol. Every round times the network and each metric in turn, on one thread and in CPU seconds, so that a busy machine
disturbs all alike. A ratio is taken within a round; the figure is the median over the rounds, with quartiles. The true maps are
noise in blocks of 16 pixels, a tenth unknown.
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
from pixelwise.metrics.confusion import confusion
from pixelwise.metrics.masks import MaskMetrics
from pixelwise.metrics.outlines import BoundaryIou
from pixelwise.metrics.segmentation import SegmentationMetrics
from pixelwise.nn.networks import unet

CLASSES = tuple(f"class {i}" for i in range(11))
BLOCK = 16


def blocks(side: int, most: int, sheets: int = 1) -> Tensor:
    """Return noise below `most` in blocks, uint8 `(sheets, side, side)`, a tenth of the rows unknown."""
    small = torch.randint(most, (sheets, -(-side // BLOCK), -(-side // BLOCK)), dtype=torch.uint8)
    maps = small.repeat_interleave(BLOCK, 1).repeat_interleave(BLOCK, 2)[:, :side, :side].contiguous()
    maps[:, : side // 10] = 255
    return maps


def works(side: int) -> dict[str, Callable[[], Any]]:
    """Return what is timed by name; the first is the network."""
    torch.manual_seed(0)
    layout = torch.channels_last
    network = unet.Config(width=8, depth=2).build(3, len(CLASSES)).eval().to(memory_format=layout)
    picture = torch.rand(1, 3, side, side).contiguous(memory_format=layout)
    labels, masks = blocks(side, len(CLASSES)), blocks(side, 2, len(CLASSES))
    predicted = torch.randint(len(CLASSES), (1, side, side), dtype=torch.uint8)
    said = torch.randint(2, masks.shape, dtype=torch.uint8)
    boundary, everything, overlap = BoundaryIou(CLASSES), SegmentationMetrics(CLASSES), MaskMetrics(CLASSES)
    return {
        "network": lambda: network(picture),
        "confusion": lambda: confusion(predicted, labels, len(CLASSES)),
        "Boundary IoU": lambda: boundary.update(predicted, labels),
        "all of segmentation": lambda: everything.update(predicted, labels),
        "11 masks": lambda: overlap.update(said, masks),
    }


def seconds(work: Callable[[], Any]) -> float:
    """Return the CPU seconds of one call."""
    began = time.process_time()
    work()
    return time.process_time() - began


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=512, help="height and width of the picture")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    settings = parser.parse_args()
    torch.set_num_threads(1)
    timed = works(settings.side)
    for work in timed.values():
        work()
    rounds = [{name: seconds(work) for name, work in timed.items()} for _ in range(settings.rounds)]
    results: dict[str, Any] = {}
    print(f"{'':22}{'ms':>8}{'of network':>12}  quartiles")
    for name in timed:
        low, middle, high = statistics.quantiles([of[name] / of["network"] for of in rounds], n=4)
        results[name] = {"rounds": [of[name] for of in rounds], "ratio": {"median": middle, "quartiles": [low, high]}}
        print(f"{name:22}{1000 * statistics.median(of[name] for of in rounds):8.1f}{middle:12.3f}  {low:.3f} - {high:.3f}")
    if settings.json:
        machine, options = doctor.examine(), {key: str(value) for key, value in vars(settings).items()}
        claim = {"claim": __doc__.splitlines()[0], "machine": machine, "settings": options, "results": results}
        settings.json.write_text(json.dumps(claim, indent=2) + "\n")


if __name__ == "__main__":
    main()
