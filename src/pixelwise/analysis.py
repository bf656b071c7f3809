"""What `pixelwise analyse` says of a network before it is trained: shapes, costs, what it sees, what it takes in memory.

All but the effective receptive field and the measured memory is worked out without computing, at any size.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pixelwise.catalogue import USUAL, Found, Wanted, find
from pixelwise.engine.distributed import default_device
from pixelwise.errors import ModelError, UsageError
from pixelwise.memory import available, binary
from pixelwise.nn.cost import Cost, cost
from pixelwise.nn.effective_receptive_field import influence
from pixelwise.nn.memory import GIVE_BACK, Peak, measured, predicted, saved_bytes
from pixelwise.nn.operations import NotFollowed, Operations, faked
from pixelwise.nn.receptive_field import LayerSight, Line, Sight, follow

Size = tuple[int, int]
Shape = tuple[int, int, int, int]
SIDES = (512, 1024, 2048)
"""Larger pictures to look at while the border cuts off what some layer sees."""
TRIED = (32, 64, 128, 224, 256, 299, 384, 512, 1024)
"""Sides of pictures to try where one is too small."""
WIDEST = 512
"""Side of the picture, if it is larger, on which the effective receptive field is computed."""
KINDS = {"evaluation": False, "training": True}


class Field(NamedTuple):
    """How much of the rows, or of the columns, of the picture a layer's output sees."""

    pixels: tuple[int, ...]
    """Ascending; several where the positions differ."""
    stride: str
    """Pixels of the picture per position, such as 2 or 1/2; "" if there is no such number."""
    everything: bool = False
    """It sees all of the picture besides."""
    cut: bool = False
    """The border of the picture cuts it off."""


class Row(NamedTuple):
    """A layer (one call of it), or a block of layers."""

    layer: str
    """Its path; "" is the network itself."""
    kind: str
    shape: tuple[int, ...]
    parameters: int
    multiply_accumulates: int
    sees: tuple[Field, Field] | None
    """Along rows and along columns; None where that is not known."""
    saved: int
    """Bytes that autograd keeps for it in training."""


class Memory(NamedTuple):
    """The most memory held at once."""

    peak: Peak
    measured: int | None = None
    """In a process whose allocator gives everything back at once: what was asked for."""
    resident: int | None = None
    """In a process with the allocator as the environment sets it, which keeps some of what it is given back."""

    @property
    def ratio(self) -> float:
        """What was predicted, relative to what was measured."""
        return self.peak.bytes / self.measured if self.measured else float("nan")


@dataclass(frozen=True)
class Analysis:
    """What there is to say of a network at pictures of one shape."""

    name: str
    shape: Shape
    """Batch, channels, height and width of the pictures."""
    layers: list[Row]
    """In the order in which they finish."""
    cost: Cost
    sight: Sight | None
    saved: int | None
    """Bytes that autograd keeps in training; None if it cannot be trained on these pictures."""
    memory: dict[str, Memory]
    """For "evaluation" and, if asked for, "training"."""
    notes: list[str]
    influence: Tensor | None = None
    """(H, W) how much each pixel counts for the output in the middle; see `effective_receptive_field`."""

    @property
    def outputs(self) -> list[tuple[Field, Field]]:
        """What each output sees."""
        return [seen(output) for output in self.sight.outputs] if self.sight else []

    def blocks(self, depth: int) -> list[Row]:
        """Return the layers whose paths agree in the first `depth` names as one row each; all calls if that is every name."""
        if all(row.layer.count(".") < depth for row in self.layers):
            return self.layers
        groups: dict[str, list[Row]] = {}
        for row in self.layers:
            groups.setdefault(".".join(row.layer.split(".")[:depth]), []).append(row)
        return [_block(layer, rows) for layer, rows in groups.items()]


class Request(NamedTuple):
    """What is asked for."""

    network: str
    """What `catalogue.find` finds it by."""
    wanted: Wanted = USUAL
    """What it should be like."""
    size: Size | None = None
    """Height and width of the pictures; None is what is usual for the network."""
    batch: int = 1
    train: bool = False
    """Whether the memory of training is asked for too."""
    measure: bool = False
    """Whether memory is to be measured."""
    influence: bool = False
    """Whether the effective receptive field is asked for, which has to be computed."""


def answer(request: Request) -> Analysis:
    """Return what there is to say of a network.

    Raises:
        UsageError: There is no such network, it does not take such pictures, or memory cannot be measured.
        ModelError: The folder of a trained network is damaged.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # what counts for an output depends on the weights a little, so that they are always the same
        found = find(request.network, request.wanted)
    analysis = analyse(found, request.size or found.size, request.batch, request.train)
    if request.measure:
        analysis = _measured(analysis, request)
    if request.influence:
        height, width = (min(side, WIDEST) for side in analysis.shape[2:])
        analysis = replace(analysis, influence=influence(found.network, found.channels, (height, width)))
    return analysis


def analyse(found: Found, size: Size, batch: int = 1, train: bool = False) -> Analysis:
    """Work out everything that needs no computing.

    Args:
        found: The network.
        size: Height and width of the pictures.
        batch: How many pictures.
        train: Whether to predict the memory of training too.

    Raises:
        UsageError: The network does not take such pictures, or cannot be trained on them.
    """
    network, shape = found.network, (batch, found.channels, *size)
    notes: list[str] = []
    try:
        costs = cost(network, found.channels, size, batch)
    except ModelError as error:
        raise _refused(found, shape, False, error) from error
    try:
        saved = saved_bytes(network, shape)
    except ModelError as error:
        refused = _refused(found, shape, True, error)
        if train:
            raise refused from error
        saved = None
        notes.append(f"it cannot be trained on such pictures ({error.hint}); {refused.hint}")
    try:
        sight = _sight(network, found.channels, size)
    except ModelError as error:
        sight = None
        notes.append(f"what it sees is not known: {error}")
    here = default_device()
    peaks = {kind: Memory(predicted(network.to(here), shape, value)) for kind, value in KINDS.items() if train or not value}
    network.cpu()
    rows = _rows(costs, sight, saved or {})
    return Analysis(found.name, shape, rows, costs, sight, None if saved is None else sum(saved.values()), peaks, notes)


def _sight(network: nn.Module, channels: int, size: Size) -> Sight:
    """Follow the picture, or a larger one where the border cuts off what a layer sees."""
    sight = follow(network, channels, size)
    for side in SIDES:
        if side <= min(size) or not any(each.cut for layer in sight.layers for each in seen(layer)):
            continue
        try:
            larger = follow(network, channels, (side, side))
        except ModelError:  # not every network takes other sizes
            break
        if [layer.layer for layer in larger.layers] != [layer.layer for layer in sight.layers]:
            break  # ... or does the same with them
        sight = larger
    return sight


def seen(layer: LayerSight) -> tuple[Field, Field]:
    """Return what a layer sees along rows and along columns."""
    return _field(layer.rows), _field(layer.columns)


def _field(line: Line) -> Field:
    if line.law is None:
        return Field((line.field,), "", bool(line.everything), not line.everything and line.field > 0)
    return Field(tuple(sorted(set(line.law.fields))), str(line.law.stride), bool(line.everything))


def _rows(costs: Cost, sight: Sight | None, saved: dict[str, int]) -> list[Row]:
    """Put together what is known of each layer; parameters and saved bytes are those of its first call."""
    left, parameters = dict(saved), {layer.layer: layer.parameters for layer in costs.layers}
    sights = [seen(layer) for layer in sight.layers] if sight else [None] * len(costs.layers)
    rows = [
        Row(*layer[:3], parameters.pop(layer.layer, 0), layer.multiply_accumulates, sees, left.pop(layer.layer, 0))
        for layer, sees in zip(costs.layers, sights, strict=True)
    ]
    return rows + [Row(layer, "in training only", (), 0, 0, None, size) for layer, size in left.items()]


def _block(layer: str, rows: Sequence[Row]) -> Row:
    last = rows[-1]
    kind = last.kind if last.layer == layer else f"{len(rows)} layers"
    parameters, products = sum(row.parameters for row in rows), sum(row.multiply_accumulates for row in rows)
    return Row(layer, kind, last.shape, parameters, products, last.sees, sum(row.saved for row in rows))


# Pictures that a network does not take


def _refused(found: Found, shape: Shape, train: bool, error: ModelError) -> UsageError:
    """Return what is wrong with pictures of this shape, and the smallest that would do."""
    least = smallest(lambda side: _takes(found.network, (*shape[:2], side, side), train))
    what = "cannot be trained on" if train else "does not take"
    pictures = f"{found.name} {what} pictures of {shape[2]}x{shape[3]}"
    if least:
        return UsageError(f"{pictures}: {error.hint}", f"the smallest square that would do is size={least}x{least}")
    if isinstance(error, NotFollowed):
        return UsageError(f"{found.name}: {error}", error.hint)
    return UsageError(f"{pictures}: {error} ({error.hint})", "another batch or channels=N may do")


def _takes(network: nn.Module, shape: Shape, train: bool) -> bool:
    with faked(network) as copy, torch.no_grad():
        try:
            Operations(copy.train(train)).run(shape)
        except ModelError:
            return False
        return True


def smallest(takes: Callable[[int], bool]) -> int | None:
    """Return the least side that a network takes, if it takes any; one that takes a side should take all larger ones."""
    enough = next(filter(takes, TRIED), None)
    if enough is None:
        return None
    refused = max((side for side in TRIED if side < enough), default=0)
    while enough - refused > 1:
        middle = (enough + refused) // 2
        enough, refused = (middle, refused) if takes(middle) else (enough, middle)
    return enough


# Measured memory


def _measured(analysis: Analysis, request: Request) -> Analysis:
    """Return the analysis with the memory that the network really takes, each time in a fresh process."""
    needed, free = max(memory.peak.bytes for memory in analysis.memory.values()), available()
    if needed > free and not torch.cuda.is_available():
        what = f"measuring takes {binary(needed)} of memory, and {binary(free)} are left"
        raise UsageError(what, "a smaller size= or batch=, or leave out --measure")
    known = {}
    for kind, memory in analysis.memory.items():
        asked, resident = (_elsewhere([*request[:2], analysis.shape, KINDS[kind]], setting) for setting in (GIVE_BACK, {}))
        known[kind] = memory._replace(measured=asked, resident=resident)
    return replace(analysis, memory=known)


def _elsewhere(arguments: list[Any], setting: dict[str, str]) -> int:
    code = "import sys; from pixelwise.analysis import measure_here; measure_here(sys.argv[1])"
    command = [sys.executable, "-c", code, json.dumps(arguments)]
    environment = {**os.environ, **setting, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        why = "the process was killed" if done.returncode < 0 else done.stderr.splitlines()[-1]
        raise UsageError(f"the memory could not be measured: {why}", "a smaller size= or batch=, or leave out --measure")
    return int(done.stdout.splitlines()[-1])


def measure_here(arguments: str) -> None:
    """Print the bytes that a network takes in this process; `pixelwise analyse --measure` starts it in one of its own."""
    name, wanted, shape, train = json.loads(arguments)
    print(measured(lambda: find(name, Wanted(*wanted)).network.to(default_device()), tuple(shape), train))
