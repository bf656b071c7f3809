"""Every network that has a name: ours, those of timm and torchvision, what a function of the user's returns, a trained one.

All but the trained ones have random weights; nothing is ever downloaded.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from pixelwise.config import config_class, kinds
from pixelwise.errors import PixelwiseError, UsageError, did_you_mean
from pixelwise.model import load
from pixelwise.nn.network import NetworkConfig
from pixelwise.overrides import parse_value, split_override

OURS = "pixelwise.nn.networks"
FORMS = "one of ours, a name of timm or torchvision (timm/NAME, torchvision/NAME), module:function, or a run folder"


class Wanted(NamedTuple):
    """What a network should be like; None is what is usual for it."""

    channels: int | None = None
    """Channels of the picture."""
    outputs: int | None = None
    """Channels of the maps, or classes."""
    settings: Sequence[str] = ()
    """`key=value` settings of one of our networks."""


USUAL = Wanted()
GENERAL = ("size", "batch", "channels", "outputs", "detail", "out")
"""Settings of the analysis, whatever the network."""


class Found(NamedTuple):
    """A network, and the pictures that are usual for it."""

    network: nn.Module
    name: str
    """Where it is from and what it is called there."""
    channels: int
    size: tuple[int, int]
    """Height and width."""


def find(name: str, wanted: Wanted = USUAL) -> Found:
    """Return the network called `name`, in evaluation mode.

    Args:
        name: One of our kinds, a model of timm or torchvision (timm's, where both have it; or written timm/NAME and
            torchvision/NAME), `module:function` for what that function returns, or a run or model folder.
        wanted: What it should be like.

    Raises:
        UsageError: There is none, or it cannot be like that.
        ModelError: The folder is damaged.
    """
    if name in kinds(OURS):
        found = _ours(name, wanted)
    else:
        if wanted.settings:
            key = split_override(wanted.settings[0])[0]
            hint = did_you_mean(key, GENERAL) or f"it takes {', '.join(GENERAL)}; only our own networks have more"
            raise UsageError(f"{name} has no setting {key!r}", hint)
        found = _other(name, wanted)
    found.network.eval()
    return found


def _other(name: str, wanted: Wanted) -> Found:
    if Path(name).is_dir():
        return _trained(name, wanted)
    module, colon, function = name.partition(":")
    if colon:
        return _returned(name, module, function, wanted)
    library, slash, inner = name.rpartition("/")
    if library in ("", "timm") and inner in _timm():
        return _of_timm(inner, wanted)
    if library in ("", "torchvision") and inner in _torchvision():
        return _of_torchvision(inner, wanted)
    known = {"timm": _timm(), "torchvision": _torchvision()}.get(library)
    if known is not None:
        raise UsageError(f"{library} has no model {inner!r}", did_you_mean(inner, known))
    everything = [*kinds(OURS), *_torchvision(), *_timm()] if not slash else []
    raise UsageError(f"no network {name!r}", did_you_mean(name, everything) or f"it takes {FORMS}")


def _ours(kind: str, wanted: Wanted) -> Found:
    config = config_class(OURS, kind)
    values: dict[str, Any] = {"kind": kind}
    for key, text in map(split_override, wanted.settings):
        field = config.model_fields.get(key.removeprefix("network."))
        if field is None:
            known = [name for name in config.model_fields if name != "kind"]
            hint = did_you_mean(key, known) or "settings: " + ", ".join(known)
            raise UsageError(f"{kind} has no setting {key!r}", hint)
        values[key.removeprefix("network.")] = parse_value(text, field.annotation)
    checked = config.checked(values)
    assert isinstance(checked, NetworkConfig)
    channels = wanted.channels or checked.usual_channels
    outputs = wanted.outputs or checked.usual_outputs(channels)
    return Found(checked.untrained().build(channels, outputs), kind, channels, (256, 256))


def _timm() -> list[str]:
    names: list[str] = importlib.import_module("timm").list_models()
    return names


def _of_timm(name: str, wanted: Wanted) -> Found:
    channels = wanted.channels or 3
    settings = {} if wanted.outputs is None else {"num_classes": wanted.outputs}
    with _silence():
        network = importlib.import_module("timm").create_model(name, pretrained=False, in_chans=channels, **settings)
    height, width = network.pretrained_cfg["input_size"][-2:]
    return Found(network, f"timm/{name}", channels, (height, width))


def _torchvision() -> list[str]:
    """Return the names of classifiers and segmenters: (B, 3, H, W) to scores or maps."""
    models = importlib.import_module("torchvision.models")
    names: list[str] = models.list_models(models) + models.list_models(models.segmentation)
    return names


def _of_torchvision(name: str, wanted: Wanted) -> Found:
    if wanted.channels not in (None, 3):
        raise UsageError(f"torchvision/{name} takes pictures of 3 channels, not {wanted.channels}", "leave out channels=")
    models = importlib.import_module("torchvision.models")
    settings: dict[str, Any] = {"weights": None}
    if "weights_backbone" in inspect.signature(models.get_model_builder(name)).parameters:
        settings["weights_backbone"] = None
    if wanted.outputs is not None:
        settings["num_classes"] = wanted.outputs
    with _silence():
        return Found(models.get_model(name, **settings), f"torchvision/{name}", 3, (224, 224))


def _silence() -> warnings.catch_warnings[None]:
    """Keep the libraries' warnings about their own models from the user, who can do nothing about them."""
    return warnings.catch_warnings(action="ignore")


def _returned(name: str, module: str, function: str, wanted: Wanted) -> Found:
    """Import what the user named, from the current folder too, and call it."""
    _as_it_is(name, outputs=wanted.outputs)
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        imported = importlib.import_module(module)
    except Exception as error:
        # a file of the user's can fail in any way
        what = f"{module!r} cannot be imported: {type(error).__name__}: {error}"
        hint = "module:function names a Python module that can be imported from here"
        if module.endswith(".py"):
            hint = f"write {Path(module).stem}:{function}, in the folder of the file"
        raise UsageError(what, hint) from error
    if not hasattr(imported, function):
        known = {"timm": _timm, "torchvision": _torchvision}.get(module, list)()
        hint = f"write {module}/{function}" if function in known else did_you_mean(function, vars(imported))
        raise UsageError(f"{module} has no {function!r}", hint)
    try:
        network = getattr(imported, function)
        network = network if isinstance(network, nn.Module) else network()
    except PixelwiseError:
        raise
    except Exception as error:
        raise UsageError(
            f"{name} raised {type(error).__name__}: {error}",
            "it is called without arguments: wrap it in a function that takes none",
        ) from error
    if not isinstance(network, nn.Module):
        raise UsageError(f"{name} returned {network!r:.40}", "it should return a torch.nn.Module")
    return Found(network, name, wanted.channels or 3, (256, 256))


def _trained(name: str, wanted: Wanted) -> Found:
    _as_it_is(name, channels=wanted.channels, outputs=wanted.outputs)
    model = load(name, verify=False)
    network = model.networks[model.task.deployed[0]]
    return Found(network, name, model.task.sheets, model.description.view.size)


def _as_it_is(name: str, **asked: int | None) -> None:
    refused = [key for key, value in asked.items() if value is not None]
    if refused:
        raise UsageError(f"{name} has {refused[0]} of its own", f"leave out {refused[0]}=")
