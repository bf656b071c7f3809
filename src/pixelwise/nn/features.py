"""Networks that only look: a frozen network's maps at each resolution, which a loss or a metric compares.

What lies between the input and the answer of a network trained for something else tells pictures apart much as people do
(Johnson et al. 2016; Zhang et al. 2018); the network itself learns nothing here.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily

from pixelwise.config import Config
from pixelwise.errors import ModelError, UsageError, did_you_mean

PROBE = 64
"""Side of the picture that shows where a network's resolutions change."""
LEVEL = 0.7
"""Maps that shrink by less, as those of convolutions without padding do, are still of the same level."""


class Features(nn.Module):
    """(B, 3, H, W) in [0, 1] -> the maps of each level, finest first; frozen, so that gradients only pass through."""

    def __init__(self) -> None:
        super().__init__()
        self.redraws = False

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return maps (B, C, h, w) of every level."""
        raise NotImplementedError

    def renewed(self, reference: Tensor, seed: int) -> list[Tensor]:
        """Get ready for comparisons with `reference`, and return its maps, without a graph.

        Args:
            reference: (B, 3, H, W) in [0, 1].
            seed: Of the weights, where they are drawn anew (`redraws`); trained networks do not look at it.
        """
        with torch.no_grad():
            return self(reference)  # type: ignore[no-any-return]

    def trim(self, levels: int) -> None:
        """Leave out what comes after so many levels."""
        raise NotImplementedError


class FeaturesConfig(Config):
    """Settings of one kind of network that only looks; `kind` names its file under `pixelwise/features`."""

    kind: str

    @abstractmethod
    def build(self) -> Features:
        """Return the network, frozen and in evaluation mode.

        Raises:
            PixelwiseError: Its weights cannot be had, or do not fit.
        """


def step_seed(features: Features) -> int:
    """Return a seed from torch's global generator, which a run seeds in each step; 0 where nothing is drawn."""
    if not features.redraws:
        return 0
    with unset_fake_temporarily():  # a rehearsed step has no values to draw from
        return int(torch.randint(2**31, ()))


def used(features: Features, *levels: Sequence[int]) -> Features:
    """Return the network without what comes after the last of these levels, counted from 1.

    Raises:
        UsageError: It has fewer.
    """
    last = max((level for some in levels for level in some), default=1)
    with torch.no_grad():
        there = len(features(torch.zeros(1, 3, PROBE, PROBE)))
    if last > there:
        what = f"level {last} of the features is asked for, and their network has {there}"
        raise UsageError(what, f"name levels from 1, the finest, to {there}, or other features.layers")
    features.trim(last)
    return features


class _Reached(Exception):
    """The last map that is wanted is there: what follows need not be computed."""


class Tapped(Features):
    """The outputs of chosen modules inside a network; what comes after the last of them is not computed."""

    def __init__(self, network: nn.Module, layers: Sequence[str], prepare: Callable[[Tensor], Tensor]) -> None:
        """Freeze the network and choose its modules.

        Args:
            network: Any module for pictures.
            layers: Names of modules within it, in the order of computation; if there are none, the last of each
                resolution while the maps shrink.
            prepare: Turns pictures in [0, 1] into what the network was trained on.

        Raises:
            ModelError: There is no such module, or no maps come out of it.
        """
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.prepare = prepare
        self.layers = tuple(layers) or self._deepest()
        known = dict(network.named_modules())
        for name in self.layers:
            if name not in known:
                offered = ", ".join(self._deepest())
                hint = did_you_mean(name, known) or f"the last of each resolution are {offered}"
                raise ModelError(f"the network of the features has no layer {name!r}", hint)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the maps of every layer."""
        found: dict[str, Tensor] = {}

        def keep(name: str, output: Any) -> None:
            found[name] = output
            if len(found) == len(self.layers):
                raise _Reached

        self._run(self.prepare(image), self.layers, keep)
        lost = [name for name in self.layers if not (isinstance(found.get(name), Tensor) and found[name].dim() == 4)]
        if lost:
            raise ModelError(f"no maps come out of the layer {lost[0]!r}", "name layers that put out (B, C, H, W)")
        return [found[name] for name in self.layers]

    def trim(self, levels: int) -> None:
        """Leave out what comes after so many levels."""
        self.layers = self.layers[:levels]

    def train(self, mode: bool = True) -> Tapped:
        """Stay in evaluation mode: what only looks does not learn."""
        return super().train(False)

    def _deepest(self) -> tuple[str, ...]:
        """Return the last module of each resolution, from the finest to where the maps stop shrinking."""
        order: list[tuple[str, int]] = []

        def note(name: str, output: Any) -> None:
            if isinstance(output, Tensor) and output.dim() == 4 and output.shape[-1] > 1:
                order.append((name, output.shape[-1]))

        image = torch.zeros(1, 3, PROBE, PROBE)
        with torch.no_grad():
            self._run(self.prepare(image), [name for name, _ in self.network.named_modules() if name], note)
        levels: list[tuple[str, int]] = []
        for name, side in order:
            if levels and side > levels[-1][1]:
                break
            if levels and side > LEVEL * levels[-1][1]:
                levels.pop()
            levels.append((name, side))
        if not levels:
            raise ModelError("the network of the features has no maps", "name its layers, or choose another network")
        return tuple(name for name, _ in levels)

    def _run(self, image: Tensor, names: Iterable[str], keep: Callable[[str, Any], None]) -> None:
        with _watched(self.network, names, keep):
            try:
                self.network(image)
            except _Reached:
                return


@contextmanager
def _watched(network: nn.Module, names: Iterable[str], keep: Callable[[str, Any], None]) -> Any:
    """Tell `keep` the name and output of modules, as they are computed."""
    modules = dict(network.named_modules())

    def hook(name: str) -> Any:
        return lambda module, inputs, output: keep(name, output)

    handles = [modules[name].register_forward_hook(hook(name)) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
