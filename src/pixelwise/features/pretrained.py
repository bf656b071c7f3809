"""The features of a classifier of timm or torchvision, such as the published VGG-16, with weights that lie on this machine."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from pixelwise.errors import ModelError, UsageError, did_you_mean
from pixelwise.nn.features import Features, FeaturesConfig, Tapped
from pixelwise.nn.weight_files import load, read

CLASSIFIER = ("classifier", "fc", "head", "pre_logits")
OFFLINE = (
    "what works without a download: features.kind=random (no weights at all), features.kind=run "
    "features.folder=runs/NAME (a network trained here), or features.weights=FILE (.safetensors, .pth)"
)
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Config(FeaturesConfig):
    """Settings of a pretrained classifier's features; nothing is ever downloaded."""

    kind: Literal["pretrained"] = "pretrained"
    library: Literal["torchvision", "timm"] = Field("torchvision", description="where the network is defined")
    model: str = Field("vgg16", description="its name there")
    weights: str | None = Field(
        None, description="file of weights (.safetensors, or .pth without code in it); null: what an earlier download left"
    )
    layers: tuple[str, ...] = Field((), description="names of modules within it; none: the last of each resolution")

    def build(self) -> Features:
        """Return the network with its weights.

        Raises:
            UsageError: The library has no such network.
            ModelError: The weights are not there or do not fit.
        """
        network, mean, deviation, cached = (_torchvision if self.library == "torchvision" else _timm)(self.model)
        file = Path(self.weights) if self.weights else cached
        if file is None or not file.is_file():
            what = f"the weights of {self.model!r} are not on this machine" if file is None else f"no file {file}"
            raise ModelError(what, OFFLINE)
        _load(network, file)
        return Tapped(network, self.layers, lambda image: (image - mean.to(image)) / deviation.to(image))


Found = tuple[nn.Module, Tensor, Tensor, Path | None]


def _torchvision(name: str) -> Found:
    """Return network, mean, deviation and the file of an earlier download, if there is one."""
    models = importlib.import_module("torchvision.models")
    names = models.list_models(module=models)
    if name not in names:
        raise UsageError(f"torchvision has no classifier {name!r}", did_you_mean(name, names))
    address = models.get_model_weights(name).DEFAULT.url
    return _built(lambda: models.get_model(name, weights=None)), _colour(MEAN), _colour(DEVIATION), _from_address(address)


def _timm(name: str) -> Found:
    timm = importlib.import_module("timm")
    architecture = name.partition(".")[0]
    names = timm.list_models()
    if architecture not in names:
        raise UsageError(f"timm has no model {name!r}", did_you_mean(architecture, names))
    network = _built(lambda: timm.create_model(architecture, pretrained=False))
    source = timm.get_pretrained_cfg(name) or timm.get_pretrained_cfg(architecture)
    mean, deviation = (source.mean, source.std) if source else (MEAN, DEVIATION)
    return network, _colour(mean), _colour(deviation), _from_hub(source) if source else None


def _built(create: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        network: nn.Module = create()
    return network


def _colour(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values)[:, None, None]


def _from_address(address: str) -> Path | None:
    file = Path(torch.hub.get_dir()) / "checkpoints" / address.rpartition("/")[2]
    return file if file.is_file() else None


def _from_hub(source: Any) -> Path | None:
    """Return the file that an earlier download of timm left, looking only at the disk."""
    if source.hf_hub_id:
        found = importlib.import_module("huggingface_hub").try_to_load_from_cache(source.hf_hub_id, "model.safetensors")
        if isinstance(found, str):
            return Path(found)
    return _from_address(source.url) if source.url else None


def _load(network: nn.Module, file: Path) -> None:
    """Load a file of tensors, strictly but for the classifier behind the features, which keeps its own."""
    own = {name: tensor for name, tensor in network.state_dict().items() if name.startswith(CLASSIFIER)}
    found = {name: tensor for name, tensor in read(file, OFFLINE).items() if not name.startswith(CLASSIFIER)}
    load(network, own | found, file, "name the model it was saved from")
