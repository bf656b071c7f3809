"""Batch t is the same whoever makes it; what goes wrong in a worker reads as if there were none; nobody is left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from pixelwise.data.augment import Augment, View
from pixelwise.data.dataset import Dataset, Meta
from pixelwise.data.loader import Batches, loader
from pixelwise.data.sample import Category, Image, Sample
from pixelwise.errors import DataError, TrainingError, UsageError
from pixelwise.geometry.frame import Frame

FIELDS = ("image", "category")


class Numbered(Dataset):
    """Sample i is an 8 x 8 picture whose pixel (y, x) is i + 8 y + x, and the category i."""

    meta, fields = Meta(), FIELDS

    def __init__(self, count: int = 10, bad: int = -1, deadly: int = -1) -> None:
        self.count, self.bad, self.deadly = count, bad, deadly

    def __len__(self) -> int:
        return self.count

    def key(self, index: int) -> str:
        return str(index)

    def sample(self, index: int, fields: Sequence[str]) -> Sample:
        if index == self.bad:
            raise DataError(f"{index}.png: image file is truncated", "skip it")
        if index == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        if "seen" not in self.notes:
            self.notes.append("seen")
        assert torch.get_num_threads() == 1
        pixels = (index + torch.arange(64)).to(torch.uint8).view(1, 8, 8).expand(3, -1, -1)
        frame = Frame.of((8, 8))
        return Sample(str(index), {"image": Image(pixels, frame), "category": Category(index, frame)})


def batches(dataset: Dataset | None = None, batch_size: int = 4, seed: int = 0, **options: int) -> Batches:
    augment = Augment(flip=0.5, rotate=30, brightness=0.5)
    return Batches(Numbered() if dataset is None else dataset, FIELDS, View(size=(8, 8)), augment, batch_size, seed, **options)


@pytest.fixture(autouse=True)
def one_thread() -> object:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_an_epoch_is_a_permutation_and_the_next_is_another() -> None:
    made = batches(batch_size=5)
    epochs = [torch.cat([made[2 * e]["category"], made[2 * e + 1]["category"]]).tolist() for e in range(3)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 3
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert made[0]["category"].tolist() == epochs[0][:5]


def test_a_batch_may_cross_epochs_and_exceed_one() -> None:
    made = batches(Numbered(3), batch_size=7)
    order = [c for t in range(3) for c in made[t]["category"].tolist()]
    assert [sorted(order[i : i + 3]) for i in range(0, 21, 3)] == [[0, 1, 2]] * 7


def test_a_batch_depends_on_nothing_but_seed_and_number() -> None:
    forward, backward = batches(), batches()
    there = [forward[t] for t in range(6)]
    back = [backward[t] for t in reversed(range(6))][::-1]
    assert all(same(a, b) for a, b in zip(there, back, strict=True))
    assert not same(there[0], batches(seed=1)[0])
    assert not same(there[0], there[5])


def test_ranks_share_the_same_global_batch() -> None:
    whole = batches()
    shares = [batches(rank=rank, world=2) for rank in range(2)]
    for t in range(5):
        parts = [share[t] for share in shares]
        assert same(whole[t], {name: torch.cat([part[name] for part in parts]) for name in whole[t]})
    with pytest.raises(UsageError, match="batch_size=4 cannot be shared equally by 3 processes"):
        batches(world=3)


def test_the_number_of_workers_changes_nothing() -> None:
    expected = [batches()[t] for t in range(9)]
    before = torch.random.get_rng_state()
    for workers in (0, 1, 3):
        dataset = Numbered()
        made = list(loader(batches(dataset), 0, 9, workers))
        assert len(made) == 9 and all(same(a, b) for a, b in zip(made, expected, strict=True))
        assert dataset.notes == ["seen"]
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_goes_on_where_it_was(workers: int) -> None:
    expected = batches()
    made = list(loader(batches(), 5, 8, workers))
    assert len(made) == 3 and all(same(a, expected[5 + i]) for i, a in enumerate(made))
    assert list(loader(batches(), 5, 5, workers)) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_worker_is_the_error(workers: int) -> None:
    with pytest.raises(DataError) as caught:
        list(loader(batches(Numbered(bad=3)), 0, 3, workers))
    assert type(caught.value) is DataError
    assert (str(caught.value), caught.value.hint) == ("3.png: image file is truncated", "skip it")


def test_a_killed_worker_is_explained() -> None:
    with pytest.raises(TrainingError, match="a process that reads data was killed") as caught:
        list(loader(batches(Numbered(deadly=3)), 0, 3, 1))
    assert "memory" in caught.value.hint


def test_an_empty_dataset_is_an_error() -> None:
    with pytest.raises(DataError, match="the dataset is empty"):
        batches(Numbered(0))


def children(pid: int) -> list[int]:
    """Return all descendants of a process."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid:
            found += [int(status.parent.name), *children(int(status.parent.name))]
    return found


def alive(pids: list[int]) -> list[int]:
    found = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "Z":
            found.append(pid)
    return found


def gone(pids: list[int], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while alive(pids) and time.monotonic() < until:
        time.sleep(0.1)
    return not alive(pids)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="lists processes by /proc")
def test_stopping_early_ends_the_workers() -> None:
    before = set(children(os.getpid()))
    made = loader(batches(), 0, 10**6, 2)
    next(made)
    started = [pid for pid in children(os.getpid()) if pid not in before]
    made.close()
    servers = [pid for pid in started if "forkserver" in cmdline(pid) or "resource_tracker" in cmdline(pid)]
    assert gone([pid for pid in started if pid not in servers], 10)


def cmdline(pid: int) -> str:
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return arguments if parent == os.getpid() else ""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="lists processes by /proc")
def test_workers_end_when_the_run_is_killed() -> None:
    code = (
        "import sys, torch; sys.path[:0] = sys.argv[1:]; torch.set_num_threads(1)\n"
        "from test_loader import batches, loader\n"
        "for i, _ in enumerate(loader(batches(), 0, 10**6, 2)):\n"
        "    if i == 3: print('ready', flush=True)\n"
    )
    here = Path(__file__).parent
    paths = [str(here), str(here.parent / "src")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-c", code, *paths]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True)
    assert run.stdout is not None
    with run, run.stdout:
        assert run.stdout.readline() == "ready\n"
        started = children(run.pid)
        assert len(started) >= 2
        run.kill()
        run.wait()
        assert gone(started, 20)
