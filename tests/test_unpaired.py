"""Unpaired data: both sides are read, drawn and moved each by itself, as functions of (seed, n) alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from pixelwise.data.augment import Augment, View
from pixelwise.data.cache import Cache
from pixelwise.data.datasets import unpaired, unpaired_folder, world
from pixelwise.data.loader import Batches
from pixelwise.data.prepared import Prepared
from pixelwise.errors import DataError

BOTH = ("a", "b")
VIEW = View(size=(8, 8))


def written(folder: Path, count: int, size: tuple[int, int] = (8, 8), first: int = 0) -> None:
    """Pictures of one grey each: `first`, `first` + 1, ..."""
    folder.mkdir(parents=True)
    for i in range(count):
        PillowImage.fromarray(np.full((*size, 3), first + i, np.uint8)).save(folder / f"{i:02d}.png")


def greys(batches: Batches, name: str, count: int) -> list[int]:
    return [int(batches[t][name][0, 0, 4, 4]) for t in range(count)]


@pytest.fixture
def lettered(tmp_path: Path) -> Path:
    for name, count, size, first in (("trainA", 3, (8, 8), 0), ("trainB", 5, (12, 20), 100)):
        written(tmp_path / name, count, size, first)
    for name, count, first in (("valA", 4, 20), ("valB", 2, 120), ("testA", 1, 30), ("testB", 1, 130)):
        written(tmp_path / name, count, first=first)
    return tmp_path


def test_training_is_as_long_as_the_longer_side_and_measuring_as_the_shorter(lettered: Path) -> None:
    config = unpaired_folder.Config(root=str(lettered))
    assert [len(config.open(split)) for split in ("train", "val", "test")] == [5, 2, 1]
    train = config.open("train")
    assert train.sample(4, BOTH)["a"].frame.size == (8, 8) and train.sample(4, BOTH)["b"].frame.size == (12, 20)
    assert [int(train.sample(4, BOTH)[n].tensors()[""].max()) for n in BOTH] == [1, 104]
    assert len({train.key(i) for i in range(5)}) == 5


def test_every_partner_is_drawn_as_often_as_any_other(lettered: Path) -> None:
    batches = Batches(unpaired_folder.Config(root=str(lettered)).open("train"), BOTH, VIEW, Augment(), 1, 0)
    drawn = greys(batches, "b", 200)
    assert set(drawn) == {100, 101, 102, 103, 104}
    assert all(20 < times < 60 for times in Counter(drawn).values())  # 40 expected; standard deviation 5.7
    seen = greys(batches, "a", 200)
    pairs = Counter(zip(seen, drawn, strict=True))
    assert len(pairs) == 15  # every A met every B
    assert greys(batches, "b", 20) == drawn[:20]
    assert drawn[:20] != greys(Batches(batches.dataset, BOTH, VIEW, Augment(), 1, 1), "b", 20)


def test_in_order_an_a_always_meets_the_same_b(lettered: Path) -> None:
    data = unpaired_folder.Config(root=str(lettered), order="in_order").open("train")
    batches = Batches(data, BOTH, VIEW, Augment(), 1, 0)
    pairs = set(zip(greys(batches, "a", 40), greys(batches, "b", 40), strict=True))
    assert pairs == {(0, 100), (1, 101), (2, 102), (0, 103), (1, 104)}


def test_each_side_is_moved_by_a_draw_of_its_own(tmp_path: Path) -> None:
    """Both sides hold the same picture, dark to the left: mirrored or not, all four cases come about equally often."""
    ramp = np.broadcast_to(np.arange(0, 80, 10, dtype=np.uint8)[None, :, None], (8, 8, 3))
    for side in ("trainA", "trainB", "valA", "valB"):
        (tmp_path / side).mkdir()
        PillowImage.fromarray(ramp.copy()).save(tmp_path / side / "ramp.png")
    data = unpaired_folder.Config(root=str(tmp_path)).open("train")
    batches = Batches(data, BOTH, VIEW, Augment(flip=0.5), 1, 0)
    cases = Counter(tuple(int(batches[t][name][0, 0, 0, 0]) for name in BOTH) for t in range(100))
    assert set(cases) == {(0, 0), (0, 70), (70, 0), (70, 70)}
    assert all(9 < times < 41 for times in cases.values())  # 25 expected; standard deviation 4.3


def test_what_comes_from_the_cache_is_the_same(lettered: Path, tmp_path: Path) -> None:
    data = unpaired_folder.Config(root=str(lettered)).open("train")
    view, augment = View(size=(8, 8), load_size=(10, 10)), Augment(flip=0.5)
    plain = Batches(data, BOTH, view, augment, 2, 0)
    cached = Batches(Prepared(data, BOTH, view, Cache(tmp_path / "cache")), BOTH, view, augment, 2, 0)
    for t in (0, 1, 2, 0, 1, 2):
        assert all(torch.equal(cached[t][name], plain[t][name]) for name in BOTH)


def test_two_folders_by_name_are_parted_each_for_itself(tmp_path: Path) -> None:
    written(tmp_path / "cats", 10)
    written(tmp_path / "dogs", 20, first=100)
    for config in (unpaired_folder.Config(root=str(tmp_path)), unpaired_folder.Config(root=str(tmp_path), a="dogs", b="cats")):
        train, val = config.open("train"), config.open("val")
        assert (len(train), len(val)) == (18, 1)
        first = int(train.sample(0, ("a",))["a"].tensors()[""].max())
        assert (first >= 100) == (config.a == "dogs")
        seen = [{int(d.sample(i, ("b",))["b"].tensors()[""].max()) for i in range(len(d))} for d in (train, val)]
        assert not seen[0] & seen[1]


@pytest.mark.parametrize(
    ("folders", "settings", "says"),
    [
        (["cats"], {}, "1 folders, expected two"),
        (["cats", "dogs"], {"a": "cats", "b": "dog"}, "no such folder"),
        (["trainA"], {}, "no such folder"),
        (["trainA", "trainB"], {"root": "missing"}, "no such folder"),
    ],
)
def test_bad_folders_are_clear_errors(tmp_path: Path, folders: list[str], settings: dict[str, str], says: str) -> None:
    for name in folders:
        written(tmp_path / name, 3)
    with pytest.raises(DataError, match=says):
        unpaired_folder.Config(**{"root": str(tmp_path), **settings}).open("train")


def test_a_damaged_picture_may_be_skipped(tmp_path: Path) -> None:
    for name in ("trainA", "trainB"):
        written(tmp_path / name, 6)
    (tmp_path / "trainB" / "02.png").write_bytes(b"no picture")
    data = unpaired_folder.Config(root=str(tmp_path), on_error="skip", val_fraction=0.2).open("train")
    assert all(data.sample(i, BOTH) for i in range(len(data)))


def test_fields_of_two_data_sets_pair_up_with_the_truth_of_one() -> None:
    a, b = world.Config(scenes=8, size=(32, 32)), world.Config(scenes=6, size=(32, 48), seed=1)
    config = unpaired.Config(a=a, b=b, b_field="night", truth="night")
    data, pictures = config.open("train"), a.open("train")
    assert data.fields == ("a", "b", "truth") and len(data) == 8
    sample, own = data.sample(7, data.fields), pictures.sample(7, ("image", "night"))
    assert torch.equal(sample["a"].tensors()[""], own["image"].tensors()[""])
    assert torch.equal(sample["truth"].tensors()[""], own["night"].tensors()[""])
    assert torch.equal(sample["b"].tensors()[""], b.open("train").sample(1, ("night",))["night"].tensors()[""])
    batches = Batches(data, data.fields, View(size=(32, 32)), Augment(flip=0.5), 8, 0)
    still = Batches(data, data.fields, View(size=(32, 32)), Augment(), 8, 0)
    mirrored = {n: [not torch.equal(x, y) for x, y in zip(batches[0][n], still[0][n], strict=True)] for n in data.fields}
    assert mirrored["a"] == mirrored["truth"] != mirrored["b"]
    with pytest.raises(DataError, match="b has no field 'nigth'"):
        unpaired.Config(a=a, b=b, b_field="nigth").open("train")
    with pytest.raises(DataError, match="no picture"):
        unpaired.Config(a=a, b=b, b_field="depth").open("train").sample(0, ("b",))
