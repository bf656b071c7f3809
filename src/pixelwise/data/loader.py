"""Batch t is a pure function of (seed, t): whoever makes it, in whatever process and after whatever restart."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from pixelwise.data.augment import Augment, View, require_filled
from pixelwise.data.dataset import Dataset
from pixelwise.data.prepared import Prepared
from pixelwise.data.sample import Batch, Sample, collate
from pixelwise.errors import DataError, PixelwiseError, TrainingError, UsageError
from pixelwise.geometry.homography import Size
from pixelwise.seeds import generator

SMALLER = "the rest of the crop is fill"


class Batches:
    """The endless sequence of a run's batches, of which a process of a distributed run takes its share.

    Sample n of the run is number n mod N of a permutation drawn for epoch n div N; its augmentation is drawn for n. Fields
    that the dataset calls separate are taken from a sample that it draws for n, and have an augmentation of their own.
    """

    def __init__(
        self,
        dataset: Dataset,
        fields: Sequence[str],
        view: View,
        augment: Augment,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        *,
        inputs: Sequence[str] = ("image",),
        pads: bool = True,
    ) -> None:
        """Describe the batches.

        Args:
            dataset: Where samples come from; one that is not `Prepared` is decoded anew each time.
            fields: The fields to read.
            view: What the network sees.
            augment: How samples vary.
            batch_size: Samples of a step, over all processes together.
            seed: What all draws derive from.
            rank: Which share of each batch this process takes.
            world: Number of shares.
            inputs: The images whose colours may be changed.
            pads: Whether a picture that is smaller than the crop is placed in fill; else it is an error when it is drawn.

        Raises:
            DataError: The dataset is empty.
            UsageError: The batch cannot be shared equally.
        """
        if len(dataset) == 0:
            raise DataError("the dataset is empty")
        if batch_size % world:
            raise UsageError(f"batch_size={batch_size} cannot be shared equally by {world} processes")
        self.dataset = dataset if isinstance(dataset, Prepared) else Prepared(dataset, fields, view, None)
        self.fields, self.view, self.augment, self.inputs = tuple(fields), view, augment, tuple(inputs)
        self.batch_size, self.seed, self.rank, self.world = batch_size, seed, rank, world
        self.pads = pads
        self._orders: dict[int, NDArray[np.int64]] = {}

    def __getitem__(self, t: int) -> Batch:
        """Return this process's share of batch `t`; the shares of all, one after the other, are the whole batch."""
        share = self.batch_size // self.world
        first = t * self.batch_size + self.rank * share
        return collate([self._sample(n) for n in range(first, first + share)])

    def _sample(self, n: int) -> Sample:
        epoch, place = divmod(n, len(self.dataset))
        index = int(self._order(epoch)[place])
        separate = [name for name in self.fields if name in self.dataset.separate]
        sample = self._drawn(n, index, [name for name in self.fields if name not in separate])
        for name in separate:
            partner = self.dataset.partner(index, name, partial(generator, self.seed, f"partner {name}", n))
            sample = Sample(sample.key, sample.fields | self._drawn(n, partner, [name], f" {name}").fields)
        return self.dataset.varied(sample, lambda: generator(self.seed, "vary", n))

    def _drawn(self, n: int, index: int, fields: Sequence[str], whose: str = "") -> Sample:
        """Return fields that lie on one picture, moved as drawn for n."""
        sample = self.dataset.sample(index, fields)
        size = sample[fields[0]].frame.size
        if self.pads:
            self._tell_if_smaller(sample.key, size)
        else:
            source = self.dataset.dataset.source(index, fields[0])
            require_filled(str(source.path) if source else sample.key, size, self.view)
        draw = self.augment.draw(generator(self.seed, f"augment{whose}", n), size, self.view)
        return draw.apply(sample, self.inputs)

    def _tell_if_smaller(self, key: str, size: Size) -> None:
        """Note the first picture that a crop of native pixels does not fit into: the network learns the fill around it."""
        height, width = self.view.size
        if self.view.fit != "native" or (size[0] >= height and size[1] >= width):
            return
        if not any(SMALLER in note for note in self.dataset.notes):
            what = f"{key} has {size[1]}x{size[0]} pixels, the crop (view.size) {width}x{height}"
            self.dataset.notes.append(f"{what}: {SMALLER}, which is learned too; crop less or leave such pictures out")

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._orders:
            self._orders.pop(epoch - 2, None)
            self._orders[epoch] = generator(self.seed, "order", epoch).permutation(len(self.dataset))
        return self._orders[epoch]


def loader(batches: Batches, start: int, stop: int, workers: int) -> Iterator[Batch]:
    """Yield batches `start` to `stop` - 1 in order; they do not depend on the number of workers.

    Args:
        batches: What to make.
        start: The first batch, e.g. where an interrupted run goes on.
        stop: One past the last batch.
        workers: Processes that work ahead, of one thread each; 0 makes every batch when it is asked for.

    Raises:
        PixelwiseError: What went wrong in a worker, just as if there were no worker.
        TrainingError: A worker was killed.
    """
    if workers == 0 or start >= stop:
        for t in range(start, stop):
            yield batches[t]
        return
    served = _served(batches, start, stop, workers)
    while True:
        try:
            made, notes = next(served)
        except StopIteration:
            return
        except (RuntimeError, ConnectionError, EOFError, FileNotFoundError) as error:
            if isinstance(error, RuntimeError) and "worker" not in str(error):
                raise
            hint = "most likely for want of memory: set fewer workers or a smaller batch_size"
            raise TrainingError("a process that reads data was killed", hint) from error
        known = batches.dataset.notes
        known.extend(note for note in notes if note not in known)
        if isinstance(made, PixelwiseError):
            raise made
        yield made


class _Worker:
    """Makes batches in another process; the user's errors travel as values, so that no traceback is wrapped around them."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __getitem__(self, t: int) -> _Made:
        notes = self.batches.dataset.notes
        try:
            return self.batches[t], notes
        except PixelwiseError as error:
            return error, notes


_Made = tuple[Batch | PixelwiseError, list[str]]


def _served(batches: Batches, start: int, stop: int, workers: int) -> Iterator[_Made]:
    """Start the workers: forked from a server that has imported torch but started no thread, where the system has one.

    The generator keeps torch's global random state untouched.
    """
    methods = torch.multiprocessing.get_all_start_methods()
    context = torch.multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:
        context.set_forkserver_preload(["pixelwise.data.loader"])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
        return iter(
            DataLoader(
                _Worker(batches),  # type: ignore[arg-type]
                batch_size=None,
                sampler=range(start, stop),
                num_workers=workers,
                collate_fn=_as_is,
                worker_init_fn=_follow_parent,
                multiprocessing_context=context,
                generator=torch.Generator(),
            )
        )


def _as_is(made: Any) -> Any:
    return made


def _follow_parent(worker: int) -> None:
    """Leave it to the parent when to stop, and end when it is no more, whatever killed it."""
    # Ctrl-C reaches every process of the terminal; the training process still needs the batch of its last step.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # torch's own watch would wait for the end of the fork server, which waits for the end of the workers.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
