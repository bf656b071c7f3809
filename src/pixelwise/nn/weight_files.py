"""Weights that others trained, from a file on this machine: tensors are read, code never."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pixelwise.errors import ModelError


def read(path: Path, hint: str = "") -> dict[str, Tensor]:
    """Return the tensors of a state dictionary, `.safetensors` or a file of `torch.save`; one within `state_dict` too.

    Args:
        path: The file.
        hint: What should be there, for whoever has something else.

    Raises:
        ModelError: It is missing or damaged, or holds something else than tensors.
    """
    if not path.is_file():
        raise ModelError(f"no weights at {path}", hint)
    try:
        with warnings.catch_warnings(action="ignore"):
            found = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # of a damaged pickle torch raises IndexError, AssertionError, TypeError and others too
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
        if wanted:
            way = "weights are tensors alone: of a network of your own, save its state_dict()"
            raise ModelError(f"{path} is refused: its pickle wants to run {wanted[1]}", way) from None
        raise ModelError(f"{path} is no file of weights, or not of weights alone", hint) from None
    inner = found.get("state_dict", found) if isinstance(found, Mapping) else None
    if not isinstance(inner, Mapping) or not all(isinstance(n, str) and isinstance(t, Tensor) for n, t in inner.items()):
        raise ModelError(f"{path} holds no state dictionary", hint)
    for name, tensor in inner.items():
        if tensor.layout != torch.strided or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ModelError(f"{path}: {name} {tuple(tensor.shape)} is larger than what the file holds of it", hint)
    return dict(inner)


def fill(network: nn.Module, path: Path, hint: str = "") -> None:
    """Load the weights of a file into a network, which they must fit to the last name; raises as `read` and `load`."""
    load(network, read(path, hint), path, hint)


def load(network: nn.Module, weights: Mapping[str, Tensor], path: Path, hint: str = "") -> None:
    """Load weights that were read from `path` into a network, which may be on the device `meta`.

    Raises:
        ModelError: They do not fit.
    """
    wanted = network.state_dict()
    for what, names in (("missing", wanted.keys() - weights.keys()), ("unknown", weights.keys() - wanted.keys())):
        named = sorted(name for name in names if not name.endswith("num_batches_tracked"))
        if named:
            raise ModelError(f"{path}: {len(named)} tensors {what} ({', '.join(named[:3])})", hint)
    for name, tensor in weights.items():
        if tensor.shape != wanted[name].shape:
            what = f"{name} has shape {tuple(tensor.shape)}, the network needs {tuple(wanted[name].shape)}"
            raise ModelError(f"{path}: {what}", hint)
    uncounted = {name: torch.zeros_like(tensor, device="cpu") for name, tensor in wanted.items() if name not in weights}
    fitting = {name: tensor.to(wanted[name].dtype) for name, tensor in weights.items()}
    network.load_state_dict(uncounted | fitting, assign=True)
