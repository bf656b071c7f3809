"""Pairs per second and core: what feeds a pix2pix training, against decoding and resizing every item anew.

    PYTHONPATH=src python benchmarks/feeding.py [--pairs 100] [--rounds 7] [--json figures.json]

The work of one item: read a 512x256 side-by-side JPEG, split it, resize both halves to 286x286 (bicubic), crop 256x256, mirror
half of the time; as float32 in [-1, 1], or as uint8 for the device to normalise. It is compared with the shortest way to do
it with Pillow, and with the torchvision transforms that pytorch-CycleGAN-and-pix2pix uses (of which the targets are multiples).
All ways run alternately in one process on one thread and count CPU seconds, so that a busy machine disturbs all alike; a
figure is the median over the rounds of the ratio in the same round. Items are compared bit for bit first.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pixelwise.data.augment import Augment, View
from pixelwise.data.cache import Cache
from pixelwise.data.datasets import paired_folder
from pixelwise.data.loader import Batches
from pixelwise.data.prepared import Prepared
from pixelwise.seeds import generator

FIELDS = ("a", "b")
VIEW, AUGMENT = View(size=(256, 256), load_size=(286, 286)), Augment(flip=0.5)
TRANSFORMS, PILLOW = "torchvision", "Pillow"
TARGETS = {"first epoch": 1.0, "cached, float32": 14.0, "cached, uint8": 50.0}


def synthesise(folder: Path, pairs: int) -> None:
    """Write JPEG pairs with the smooth regions, edges and grain of photographs, about 40 kB each."""
    for i in range(pairs):
        rng = np.random.default_rng(i)
        coarse = Image.fromarray(rng.integers(0, 256, (8, 16, 3), dtype=np.uint8)).resize((512, 256), Image.Resampling.BICUBIC)
        blocks = Image.fromarray(rng.integers(0, 256, (16, 32, 3), dtype=np.uint8)).resize((512, 256), Image.Resampling.NEAREST)
        pixels = 0.6 * np.asarray(coarse, np.float32) + 0.4 * np.asarray(blocks) + rng.normal(0, 6, (256, 512, 1))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{i:04}.jpg", quality=90)


def pillow(path: Path, left: int, top: int, mirrored: bool) -> dict[str, Tensor]:
    """Make one item with Pillow alone, as the common training codes do."""
    item = {}
    with Image.open(path) as opened:
        whole = opened.convert("RGB")
    half = whole.width // 2
    for name, box in zip(FIELDS, ((0, 0, half, whole.height), (half, 0, 2 * half, whole.height)), strict=True):
        image = whole.crop(box).resize((286, 286), Image.Resampling.BICUBIC).crop((left, top, left + 256, top + 256))
        if mirrored:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        item[name] = normalised(torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()[None])
    return item


def transforms(path: Path, left: int, top: int, mirrored: bool) -> dict[str, Tensor]:
    """Make one item as `AlignedDataset` does, whose transforms are composed anew for each item."""
    from torchvision import transforms as t

    with Image.open(path) as opened:
        whole = opened.convert("RGB")
    half = whole.width // 2
    steps = [
        t.Resize([286, 286], t.InterpolationMode.BICUBIC),
        t.Lambda(lambda image: image.crop((left, top, left + 256, top + 256))),
        *([t.Lambda(lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))] if mirrored else []),
        t.ToTensor(),
        t.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ]
    sides = (whole.crop((0, 0, half, whole.height)), whole.crop((half, 0, 2 * half, whole.height)))
    return {name: t.Compose(steps)(side)[None] for name, side in zip(FIELDS, sides, strict=True)}


def normalised(pixels: Tensor) -> Tensor:
    """Turn uint8 into float32 in [-1, 1]; bit-identical to dividing by 255, subtracting 0.5 and dividing by 0.5."""
    return pixels.float().div_(127.5).sub_(1)


def drawn(batches: Batches, folder: Path, n: int) -> tuple[Path, int, int, bool]:
    """Return the file, crop and mirror that the loader draws for item n, for Pillow to follow."""
    epoch, place = divmod(n, len(batches.dataset))
    order = generator(batches.seed, "order", epoch).permutation(len(batches.dataset))
    matrix = AUGMENT.draw(generator(batches.seed, "augment", n), (286, 286), VIEW).matrix
    mirrored = bool(matrix[0, 0] < 0)
    left = round(matrix[0, 2] - 256) if mirrored else round(-matrix[0, 2])
    return folder / f"{batches.dataset.key(int(order[place]))}.jpg", left, round(-matrix[1, 2]), mirrored


def seconds(make: Callable[[int], object], items: Sequence[int]) -> float:
    """Return the CPU seconds per item."""
    began = time.process_time()
    for n in items:
        make(n)
    return (time.process_time() - began) / len(items)


def measure(root: Path, pairs: int, rounds: int) -> dict[str, list[float]]:
    """Return the seconds per item of every way in every round."""
    (root / "data/train").mkdir(parents=True)
    (root / "data/val").mkdir()
    synthesise(root / "data/train", pairs)
    dataset = paired_folder.Config(root=str(root / "data")).open("train")

    def fresh(name: str) -> Batches:
        return Batches(Prepared(dataset, FIELDS, VIEW, Cache(root / name)), FIELDS, VIEW, AUGMENT, 1, 0)

    cached = fresh("cache")
    chosen = [drawn(cached, root / "data/train", n) for n in range(pairs * (rounds + 2))]

    def floats(batches: Batches, n: int) -> dict[str, Tensor]:
        return {name: normalised(pixels) for name, pixels in batches[n].items()}

    for n in range(2 * pairs):
        ours = floats(cached, n)
        for theirs in (pillow(*chosen[n]), transforms(*chosen[n])):
            assert all(torch.equal(ours[name], theirs[name]) for name in FIELDS), f"item {n} differs"
    found: dict[str, list[float]] = {name: [] for name in (TRANSFORMS, PILLOW, *TARGETS)}
    for number in range(rounds):
        items = range(pairs * (number + 2), pairs * (number + 3))
        new = fresh(f"cache-{number}")
        found[TRANSFORMS].append(seconds(lambda n: transforms(*chosen[n]), items))
        found[PILLOW].append(seconds(lambda n: pillow(*chosen[n]), items))
        found["cached, float32"].append(seconds(lambda n: floats(cached, n), items))
        found["first epoch"].append(seconds(lambda n, new=new: new[n], items))
        found["cached, uint8"].append(seconds(lambda n: cached[n], items))
    return found


def report(found: dict[str, list[float]]) -> dict[str, dict[str, float | None]]:
    """Return pairs per second, and the median ratios to both ways without a cache, beside the target."""

    def ratio(to: str, name: str) -> float:
        return statistics.median(theirs / ours for theirs, ours in zip(found[to], found[name], strict=True))

    return {
        name: {
            "pairs_per_second": 1 / statistics.median(times),
            "times_torchvision": ratio(TRANSFORMS, name),
            "times_pillow": ratio(PILLOW, name),
            "target": TARGETS.get(name),
        }
        for name, times in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Pairs per second and core of the data loader.")
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        figures = report(measure(Path(folder), options.pairs, options.rounds))
    print(f"{'':16}{'pairs/s':>9}{'x torchvision':>15}{'x Pillow':>10}{'target':>8}")
    for name, row in figures.items():
        rate, theirs, plain, target = row.values()
        print(f"{name:16}{rate:9.0f}{theirs:15.2f}{plain:10.2f}{target or '':>8}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
