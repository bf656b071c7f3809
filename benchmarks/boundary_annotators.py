"""How well people agree about boundaries: every annotator of BSDS500 measured against the others of the same picture.

    PYTHONPATH=src python benchmarks/boundary_annotators.py data.root=FOLDER [split=val] [--json figures.json]

Claim. People do not agree perfectly: what they reach among themselves is what a program's figure is to be held against.

Protocol. One annotator's drawing stands for a program's answer, the others of that picture for the truth, as it is done for a
program: a pixel of ours is right if it meets any of the others', and every pixel of each of the others is to be recalled.
Counts of all annotators of all pictures are pooled; drawings are thinned to one pixel; tolerance 0.0075 of the diagonal.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelwise import doctor
from pixelwise.data.sample import Boundaries
from pixelwise.geometry.lines import thin
from pixelwise.metrics.boundary_detection import TOLERANCE, counted, scores
from pixelwise.recipe import find_recipe

Drawings = NDArray[np.bool_]


def against_the_others(drawings: Drawings) -> NDArray[np.int64]:
    """Return the counts of `counted` `(A, 4)` of each of `(A, H, W)` drawings beside the others."""
    rows = [counted(own.astype(np.float32), np.delete(drawings, i, 0), thresholds=1) for i, own in enumerate(drawings)]
    return np.concatenate(rows)


def read(pairs: list[str], split: str) -> list[Drawings]:
    """Return every picture's drawings, one pixel wide; a pixel that an annotator left unknown counts as not drawn."""
    dataset = find_recipe("bsds500").override(pairs).data.open(split)
    fields = (dataset.sample(i, ("boundaries",))["boundaries"] for i in range(len(dataset)))
    return [np.stack([thin(sheet == 1) for sheet in field.drawn.numpy()]) for field in fields if isinstance(field, Boundaries)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", nargs="+", metavar="key=value", help="data.root=FOLDER and other settings of data; split=val")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    settings = parser.parse_args()
    split = next((pair.partition("=")[2] for pair in settings.pairs if pair.startswith("split=")), "val")
    pictures = [one for one in read([p for p in settings.pairs if not p.startswith("split=")], split) if len(one) > 1]
    began = time.monotonic()
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        counts = np.concatenate(list(pool.map(against_the_others, pictures)))
    recall, precision, f = (float(value) for value in scores(counts.sum(0)))
    found: dict[str, Any] = {"pictures": len(pictures), "annotations": len(counts), "tolerance": TOLERANCE}
    found |= {"recall": recall, "precision": precision, "f": f, "seconds": time.monotonic() - began}
    print(f"{len(counts)} annotations of {len(pictures)} pictures of {split}, each against the others, pooled")
    print(f"precision {precision:.4f}  recall {recall:.4f}  F {f:.4f}   ({found['seconds']:.0f} s)")
    if settings.json:
        settings.json.write_text(json.dumps({"claim": __doc__, "machine": doctor.examine(), **found}, indent=2))


if __name__ == "__main__":
    main()
