"""LPIPS, how different two pictures look to a trained network (Zhang et al. 2018), with weights from files on this machine.

Version 0.1: AlexNet or VGG-16 of torchvision, and linear heads fitted to people's judgements, which the packages lpips and
torchmetrics bring along. AlexNet's is the one that papers report.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.errors import ModelError
from pixelwise.nn.weight_files import load, read

Trunk = Literal["alex", "vgg"]


class Layout(NamedTuple):
    """A trunk of torchvision, the least side of a picture, the layers that are compared, and the file torchvision downloads."""

    model: str
    least: int
    layers: tuple[int, ...]
    channels: tuple[int, ...]
    file: str


LAYOUTS: dict[Trunk, Layout] = {
    "alex": Layout("alexnet", 31, (1, 4, 7, 9, 11), (64, 192, 384, 256, 256), "alexnet-owt-7be5be79.pth"),
    "vgg": Layout("vgg16", 16, (3, 8, 15, 22, 29), (64, 128, 256, 512, 512), "vgg16-397923af.pth"),
}
PLACES = {"lpips": "weights/v0.1", "torchmetrics": "functional/image/lpips_models"}
"""Where packages that bring the linear heads keep them."""
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class Files(NamedTuple):
    """The files of LPIPS: the trunk's state dictionary and that of the linear heads."""

    trunk: Path
    heads: Path


def files(net: Trunk, trunk: Path | None = None, heads: Path | None = None) -> Files:
    """Return where the weights are: the files given, those that torchvision has downloaded before, those of a package.

    Raises:
        ModelError: One of them is nowhere; the hint says what to put where.
    """
    layout = LAYOUTS[net]
    downloaded = Path(torch.hub.get_dir()) / "checkpoints" / layout.file
    trunk = trunk or downloaded
    if not trunk.is_file():
        hint = f"put torchvision's {layout.file} there, or say trunk=FILE; nothing is downloaded"
        raise ModelError(f"LPIPS ({net}) needs the weights of {layout.model}: no file {trunk}", hint)
    heads = heads or next(filter(Path.is_file, _installed(net)), None)
    if heads is None or not heads.is_file():
        where = f" at {heads}" if heads else ""
        hint = f"pip install lpips, which brings them, or say heads=FILE (its {PLACES['lpips']}/{net}.pth)"
        raise ModelError(f"LPIPS ({net}) needs its linear heads, and there are none{where}", hint)
    return Files(trunk, heads)


def _installed(net: Trunk) -> Iterator[Path]:
    """Yield where installed packages would keep the heads, without importing them."""
    for package, place in PLACES.items():
        found = find_spec(package)
        yield from (Path(folder, place, f"{net}.pth") for folder in (found and found.submodule_search_locations) or ())


class Lpips(nn.Module):
    """Two pictures `(B, 3, H, W)` in [0, 1] -> their distance `(B,)`, 0 where they are equal; differentiable.

    Pictures with a side below 31 pixels (`alex`) or 16 (`vgg`) have none: NaN.

    Args:
        net: The trunk.
        weights: Its files.

    Raises:
        ModelError: The files cannot be read or do not fit.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, net: Trunk, weights: Files) -> None:
        super().__init__()
        layout = LAYOUTS[net]
        self.layers, self.least = layout.layers, layout.least
        self.trunk = _trunk(layout, weights.trunk)
        self.heads = nn.ParameterList(_heads(layout, weights.heads))
        self.register_buffer("shift", torch.tensor(SHIFT)[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE)[:, None, None], persistent=False)
        self.requires_grad_(False).eval()

    def forward(self, image: Tensor, original: Tensor) -> Tensor:
        """Return the sum over layers of the mean over positions of w . (f - g)^2, f and g of length 1 over channels."""
        if min(image.shape[-2:]) < self.least:
            return image.new_full((len(image),), torch.nan)
        pairs = zip(self._features(image), self._features(original), self.heads, strict=True)
        distances = [((f - g).square() * head[:, None, None]).sum(1).mean((1, 2)) for f, g, head in pairs]
        return torch.stack(distances).sum(0)

    def _features(self, image: Tensor) -> Iterator[Tensor]:
        maps = (2 * image - 1 - self.shift) / self.scale
        for index, layer in enumerate(self.trunk):
            maps = layer(maps)
            if index in self.layers:
                yield functional.normalize(maps, dim=1, eps=1e-10)


def _trunk(layout: Layout, path: Path) -> nn.Sequential:
    """Return the convolutions of a classifier of torchvision, filled from its state dictionary."""
    with torch.device("meta"):
        model: nn.Module = importlib.import_module("torchvision.models").get_model(layout.model, weights=None)
    convolutions = model.get_submodule("features")
    weights = {name: tensor for name, tensor in read(path).items() if name.startswith("features.")}
    inner = {name.removeprefix("features."): tensor for name, tensor in weights.items()}
    load(convolutions, inner, path, f"it should be torchvision's {layout.file}")
    return nn.Sequential(*list(convolutions.children())[: layout.layers[-1] + 1])


def _heads(layout: Layout, path: Path) -> Iterator[Tensor]:
    """Yield the weight of every channel, `(C,)`, for each layer; the file calls them `lin0.model.1.weight` and so on."""
    found = read(path)
    for index, channels in enumerate(layout.channels):
        weight = found.get(f"lin{index}.model.1.weight")
        if weight is None or weight.numel() != channels:
            what = f"{path}: no linear head of {channels} channels for layer {index}"
            raise ModelError(what, "it should be of LPIPS v0.1, for the same trunk")
        yield weight.flatten()
