"""The cache under everything that may happen to it: other processes, damage, a full disk, a changed file."""

import multiprocessing
import os
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pixelwise.data.augment import Augment, View
from pixelwise.data.cache import Cache, Picture
from pixelwise.data.dataset import Dataset, Meta, Source
from pixelwise.data.datasets import paired_folder
from pixelwise.data.images import decode_image
from pixelwise.data.loader import Batches
from pixelwise.data.prepared import Prepared
from pixelwise.data.sample import Depth, Keypoints, Normals, Sample
from pixelwise.data.sample import Image as ImageField
from pixelwise.errors import DataError
from pixelwise.folders import cache_folder
from pixelwise.geometry.frame import Frame

PIXELS = torch.arange(60, dtype=torch.uint8).view(3, 4, 5)
OVERHEAD = 128 + 16
"""Bytes of an entry beside its pixels: the .npy header, the checksum and the original's size."""


def file(folder: Path, contents: bytes = b"contents", name: str = "a.png") -> Path:
    (folder / name).write_bytes(contents)
    return folder / name


def entries(cache: Cache) -> list[Path]:
    return sorted(cache.folder.rglob("*.npy"))


def used(cache: Cache) -> int:
    return sum(path.stat().st_size for path in cache.folder.rglob("*") if path.suffix == ".npy" or path.name == "draft")


class Counted:
    """Builds a picture and counts how often."""

    def __init__(self, values: torch.Tensor = PIXELS) -> None:
        self.values, self.count = values, 0

    def __call__(self) -> Picture:
        self.count += 1
        return Picture(self.values.clone(), (8, 10))


@pytest.mark.parametrize("values", [PIXELS, PIXELS[0], PIXELS.float() / 7, PIXELS.permute(1, 2, 0)])
def test_a_picture_is_built_once_and_comes_back_exactly(tmp_path: Path, values: torch.Tensor) -> None:
    path, build = file(tmp_path), Counted(values)
    for _ in range(2):
        cache = Cache(tmp_path / "cache")
        for _ in range(2):
            picture = cache.get(path, "same", build)
            assert picture.original_size == (8, 10)
            assert picture.values.dtype == values.dtype and torch.equal(picture.values, values)
    assert build.count == 1
    assert np.array_equal(np.load(entries(cache)[0]), values.numpy())


def test_the_key_is_the_contents_and_the_preparation(tmp_path: Path) -> None:
    cache, build = Cache(tmp_path / "cache"), Counted()
    cache.get(file(tmp_path), "one", build)
    cache.get(file(tmp_path, name="copy.png"), "one", build)
    assert build.count == 1
    cache.get(file(tmp_path), "two", build)
    assert build.count == 2
    path = file(tmp_path, b"CONTENTS")  # as long as before
    os.utime(path, ns=(1, 1))
    cache.get(path, "one", build)
    assert build.count == 3


def test_changing_what_came_from_the_cache_changes_no_file(tmp_path: Path) -> None:
    path = file(tmp_path)
    Cache(tmp_path / "cache").get(path, "", Counted()).values.zero_()
    assert torch.equal(Cache(tmp_path / "cache").get(path, "", Counted()).values, PIXELS)


@pytest.mark.parametrize("damage", ["shortened", "emptied", "flipped", "zeroed", "foreign"])
def test_a_damaged_entry_is_rebuilt(tmp_path: Path, damage: str) -> None:
    path, build = file(tmp_path), Counted()
    Cache(tmp_path / "cache").get(path, "", build)
    (entry,) = entries(Cache(tmp_path / "cache"))
    contents = bytearray(entry.read_bytes())
    if damage == "flipped":
        contents[140] ^= 1
    elif damage == "zeroed":
        contents[128:] = bytes(len(contents) - 128)
    entry.write_bytes({"shortened": contents[:-1], "emptied": b"", "foreign": b"x" * 500}.get(damage, contents))
    assert torch.equal(Cache(tmp_path / "cache").get(path, "", build).values, PIXELS)
    assert build.count == 2
    assert torch.equal(Cache(tmp_path / "cache").get(path, "", build).values, PIXELS)
    assert build.count == 2


def test_the_least_recently_used_entries_make_room(tmp_path: Path) -> None:
    size = PIXELS.numel() + OVERHEAD
    cache = Cache(tmp_path / "cache", limit=10 * size)
    paths = [file(tmp_path, bytes([i]), f"{i}.png") for i in range(11)]
    for i, path in enumerate(paths[:10]):
        cache.get(path, "", Counted())
        os.utime(entries(cache)[0] if i == 0 else max(entries(cache), key=lambda p: p.stat().st_mtime_ns), ns=(i, i))
    assert used(cache) == 10 * size
    Cache(tmp_path / "cache").get(paths[0], "", Counted())  # used again: now the newest
    cache.get(paths[10], "", Counted())
    assert used(cache) <= 10 * size
    builds = [Counted() for _ in paths]
    for path, build in zip(paths, builds, strict=True):
        Cache(tmp_path / "cache", limit=0).get(path, "", build)
    assert builds[0].count == builds[10].count == 0
    assert builds[1].count == 1


def test_a_picture_beyond_the_bound_is_not_kept(tmp_path: Path) -> None:
    cache, build = Cache(tmp_path / "cache", limit=100), Counted()
    for _ in range(2):
        assert torch.equal(cache.get(file(tmp_path), "", build).values, PIXELS)
    assert build.count == 2 and not entries(cache)


def test_a_cache_that_cannot_be_written_only_makes_things_slower(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    build = Counted()
    for _ in range(2):
        assert torch.equal(Cache(tmp_path / "cache").get(file(tmp_path), "", build).values, PIXELS)
    assert build.count == 2


def test_a_crashed_writer_leaves_no_trace_and_a_lost_count_is_found_again(tmp_path: Path) -> None:
    size = PIXELS.numel() + OVERHEAD
    cache = Cache(tmp_path / "cache", limit=3 * size)
    cache.get(file(tmp_path), "0", Counted())
    (cache.folder / "draft").write_bytes(bytes(2 * size))
    (cache.folder / "total").write_bytes(b"")
    for i in range(1, 6):
        cache.get(file(tmp_path), str(i), Counted())
        assert used(cache) <= 3 * size
    assert int((cache.folder / "total").read_text()) == used(cache)


def hammer(folder: Path, files: list[Path], limit: int, seed: int, worst: "multiprocessing.Queue[int]") -> None:
    draw, cache, most = random.Random(seed), Cache(folder, limit), 0
    for step in range(150):
        if step % 10 == 0:
            cache = Cache(folder, limit)
        i = draw.randrange(len(files))
        values = torch.full((3, 30 + i, 20), i, dtype=torch.uint8)
        found = cache.get(files[i], "", lambda values=values, i=i: Picture(values, (i + 1, 1)))
        assert torch.equal(found.values, values) and found.original_size == (i + 1, 1)
        sizes = []
        for path in [*folder.glob("??/*.npy"), folder / "draft"]:
            try:
                sizes.append(path.stat().st_size)
            except FileNotFoundError:
                continue
        most = max(most, sum(sizes) if step % 3 == 0 else 0)
    worst.put(most)


def test_four_processes_share_one_cache(tmp_path: Path) -> None:
    files = [file(tmp_path, bytes([i]), f"{i}.png") for i in range(24)]
    limit = 20_000  # of 24 entries of 1.9 to 3.3 kB, about 7 fit
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pixelwise.data.loader"])
    worst = context.Queue()
    processes = [context.Process(target=hammer, args=(tmp_path / "cache", files, limit, seed, worst)) for seed in range(4)]
    for process in processes:
        process.start()
    most = [worst.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    cache = Cache(tmp_path / "cache", limit)
    assert 0 < used(cache) <= limit
    assert int((cache.folder / "total").read_text()) >= used(cache)
    # a listing is no snapshot: between two looks an entry may have been replaced, but never many
    assert 0 < max(most) <= limit + 4 * 3400


def test_the_folder_is_chosen_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXELWISE_CACHE", str(tmp_path))
    monkeypatch.setenv("PIXELWISE_CACHE_LIMIT", "12345")
    assert cache_folder() == tmp_path
    assert Cache().folder.parent == tmp_path and Cache().limit == 12345
    monkeypatch.delenv("PIXELWISE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_folder() == tmp_path / "x" / "pixelwise"


def pairs(root: Path, count: int = 3) -> None:
    (root / "train").mkdir(parents=True)
    for i in range(count):
        noise = np.random.default_rng(i).integers(0, 256, (32, 64, 3), dtype=np.uint8)
        picture = Image.fromarray(noise).resize((512, 256), Image.Resampling.BICUBIC)
        picture.save(root / "train" / f"{i}.jpg", quality=90)


def test_an_item_is_what_pillow_makes_bit_for_bit(tmp_path: Path) -> None:
    pairs(tmp_path / "data")
    dataset = paired_folder.Config(root=str(tmp_path / "data"), val_fraction=0.3).open("train")
    view, augment, fields = View(size=(256, 256), load_size=(286, 286)), Augment(flip=0.5), ("a", "b")
    caches = (None, Cache(tmp_path / "cache"), Cache(tmp_path / "cache"))
    plain, first, second = (Batches(Prepared(dataset, fields, view, c), fields, view, augment, 1, 0) for c in caches)
    flips = set()
    for t in range(12):
        batch = plain[t]
        for other in (first[t], second[t]):
            assert all(torch.equal(batch[name], other[name]) for name in fields)
        flips.add(matches_pillow(tmp_path / "data" / "train", batch))
    assert flips == {False, True}


def matches_pillow(folder: Path, batch: dict[str, torch.Tensor]) -> bool:
    """Find the file, crop and flip that give the batch with Pillow alone; return whether it was flipped."""
    for path in sorted(folder.iterdir()):
        with Image.open(path) as whole:
            halves = [whole.crop((0, 0, 256, 256)), whole.crop((256, 0, 512, 256))]
        a, b = (np.asarray(half.resize((286, 286), Image.Resampling.BICUBIC)) for half in halves)
        for flipped in (False, True):
            seen = [batch[name][0].permute(1, 2, 0).numpy()[:, :: -1 if flipped else 1] for name in ("a", "b")]
            for y, x in np.argwhere((a[:31, :31] == seen[0][0, 0]).all(-1)):
                window = np.s_[y : y + 256, x : x + 256]
                if np.array_equal(a[window], seen[0]):
                    assert np.array_equal(b[window], seen[1])
                    return flipped
    raise AssertionError("no crop of any file gives this batch")


@pytest.mark.parametrize("size", [(286, 286), (64, 100), (97, 33)])
def test_labels_are_resized_as_pillow_does(tmp_path: Path, size: tuple[int, int]) -> None:
    labels = np.random.default_rng(0).integers(0, 13, (256, 200), dtype=np.uint8)
    for side, mode in (("a", "P"), ("b", "RGB")):
        (tmp_path / "data/train" / side).mkdir(parents=True)
        picture = Image.fromarray(labels)
        if mode == "P":
            picture.putpalette(list(range(39)))
        picture.convert(mode).save(tmp_path / f"data/train/{side}/0.png")
        picture.convert(mode).save(tmp_path / f"data/train/{side}/1.png")
    (tmp_path / "data/meta.json").write_text('{"classes": ["a","b","c","d","e","f","g","h","i","j","k","l","m"]}')
    dataset = paired_folder.Config(root=str(tmp_path / "data"), val_fraction=0.5).open("train")
    sample = Prepared(dataset, ("a", "b"), View(size=(32, 32), load_size=size), Cache(tmp_path / "c")).sample(0, ("a", "b"))
    expected = Image.fromarray(labels).resize((size[1], size[0]), Image.Resampling.NEAREST)
    assert np.array_equal(sample["a"].tensors()[""], np.asarray(expected))
    assert sample["a"].frame.size == size and sample["a"].frame.original_size == (256, 200)
    corner = sample["b"].frame.matrix @ [200, 256, 1]
    assert corner[:2] == pytest.approx([size[1], size[0]], abs=1e-12)


class Mixed(Dataset):
    """All kinds of maps with a source, and points without one."""

    meta, fields = Meta(), ("image", "depth", "normals", "keypoints")

    def __init__(self, path: Path) -> None:
        self.path, self.asked = path, []  # type: ignore[var-annotated]

    def __len__(self) -> int:
        return 1

    def key(self, index: int) -> str:
        return "only"

    def sample(self, index: int, fields: Sequence[str]) -> Sample:
        self.asked.append(tuple(fields))
        frame = Frame.of((4, 5))
        every = {
            "image": ImageField(PIXELS, frame),
            "depth": Depth(torch.full((4, 5), 2.5), frame),
            "normals": Normals(torch.tensor([0.0, 0.0, -1.0])[:, None, None].expand(3, 4, 5), frame),
            "keypoints": Keypoints(torch.ones(1, 1, 2), torch.full((1, 1), 3, dtype=torch.uint8), frame),
        }
        return Sample("only", {name: every[name] for name in fields})

    def source(self, index: int, field: str) -> Source | None:
        return None if field == "keypoints" else Source(self.path, field)


def test_every_kind_of_field_comes_back_as_itself(tmp_path: Path) -> None:
    dataset = Mixed(file(tmp_path))
    prepared = Prepared(dataset, dataset.fields, View(size=(4, 5)), Cache(tmp_path / "cache"))
    direct = dataset.sample(0, dataset.fields)
    for _ in range(2):
        sample = prepared.sample(0, dataset.fields)
        assert list(sample.fields) == list(dataset.fields) and sample.key == "only"
        for name in dataset.fields:
            assert type(sample[name]) is type(direct[name])
            assert torch.equal(sample[name].tensors()[""], direct[name].tensors()[""])
            assert np.array_equal(sample[name].frame.matrix, np.eye(3))
    assert dataset.asked[1:] == [("keypoints",), ("image", "depth", "normals"), ("keypoints",)]


def test_a_file_that_vanished_is_a_data_error(tmp_path: Path) -> None:
    pairs(tmp_path / "data")
    dataset = paired_folder.Config(root=str(tmp_path / "data"), val_fraction=0.3).open("train")
    prepared = Prepared(dataset, ("a",), View(size=(256, 256)), Cache(tmp_path / "cache"))
    path = tmp_path / "data/train" / f"{dataset.key(0)}.jpg"
    assert torch.equal(prepared.sample(0, ("a",))["a"].tensors()[""], decode_image(path)[:, :, :256])
    path.unlink()
    with pytest.raises(DataError, match="no such file"):
        prepared.sample(0, ("a",))
