"""What a model folder holds, read without running anything: the description in `config.json` and the weights that fit it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

import torch
from pydantic import SerializeAsAny
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from pixelwise import __version__
from pixelwise.config import Choice, Overridable, settings
from pixelwise.data.augment import View
from pixelwise.data.dataset import Meta
from pixelwise.errors import ModelError, PixelwiseError, UsageError, did_you_mean
from pixelwise.nn.network import NetworkConfig
from pixelwise.overrides import split_override
from pixelwise.recipe import TASKS, TaskConfig
from pixelwise.task import Task

FORMAT_VERSION = 1
NETWORK_ALONE = "network.json"
"""In a folder of `pixelwise import` whose network is no model, such as a discriminator."""
COPY_HINT = "copy the folder again from where it was trained"


class Description(Overridable):
    """The contents of `config.json`."""

    format_version: Literal[1] = 1
    pixelwise: str = __version__
    recipe: str
    task: Annotated[SerializeAsAny[TaskConfig], Choice(TASKS)]
    network: Annotated[SerializeAsAny[NetworkConfig], Choice("pixelwise.nn.networks")]
    meta: Meta
    view: View
    labels_in: tuple[str, ...] = ()
    """Which of the inputs are label maps, not images."""

    def answering(self, changes: Sequence[str]) -> Self:
        """Return a copy with `task.key=value` pairs applied that bear on no weight.

        Raises:
            UsageError: A setting says what was learned, does not exist, or has an invalid value.
        """
        for key, _ in map(split_override, changes):
            if not (key.startswith("task.") and self.task.answers_with(key.removeprefix("task."))):
                known = [s.key for s in settings(self) if s.key.startswith("task.") and self.task.answers_with(s.key[5:])]
                trained = next((f": it is {s.default}" for s in settings(self) if s.key == key), "")
                what = f"{key} cannot be changed after training{trained}"
                raise UsageError(what, did_you_mean(key, known) or f"what can be: {', '.join(known) or 'nothing of this task'}")
        return self.override(changes)


class Restored(NamedTuple):
    """A trained model as its folder holds it."""

    description: Description
    task: Task
    networks: nn.ModuleDict


def folder_of(path: str | Path) -> Path:
    """Return the model folder of a run folder, or the folder itself."""
    folder = Path(path)
    return folder / "model" if (folder / "model").is_dir() else folder


def restored(folder: Path) -> Restored:
    """Build what a model folder describes and give it the weights that lie there.

    Raises:
        ModelError: The folder is no model, is damaged, or was saved by a newer version.
    """
    description = _describe(folder)
    try:
        task: Task = description.task.build(description.meta)
        with torch.device("meta"):  # nothing is allocated before the file is known to fit
            fitting = deployed(description, task)
    except (PixelwiseError, RuntimeError, TypeError) as error:
        raise ModelError(f"{folder / 'config.json'} describes no network: {first_line(error)}", COPY_HINT) from None
    weights = _weights(folder / "model.safetensors", fitting)
    with torch.random.fork_rng(devices=[]):
        networks = deployed(description, task)  # again, since buffers that no file holds need a real device
    networks.load_state_dict(weights, strict=True)
    return Restored(description, task, networks)


def deployed(description: Description, task: Task) -> nn.ModuleDict:
    """Build the networks that make predictions, without weights from elsewhere."""
    networks = task.networks(description.network.untrained())
    return nn.ModuleDict({name: networks[name] for name in task.deployed})


def _describe(folder: Path) -> Description:
    path = folder / "config.json"
    if (folder / NETWORK_ALONE).is_file():
        what = f"{folder} holds a network that cannot predict"
        raise ModelError(what, str(json.loads((folder / NETWORK_ALONE).read_text()).get("says", "")))
    if not path.is_file():
        unfinished = f"finish the run with: pixelwise train {folder}" if (folder / "recipe.json").is_file() else ""
        raise ModelError(f"no model in {folder}", unfinished or "a model folder holds config.json and model.safetensors")
    try:
        data = json.loads(path.read_text())
        found = data.get("format_version")
        if isinstance(found, int) and found > FORMAT_VERSION:
            hint = f"saved by pixelwise {data.get('pixelwise')}; this is {__version__}"
            raise ModelError(f"{path}: format {found} is newer than this version reads ({FORMAT_VERSION})", hint)
        return Description.checked(data)
    except (OSError, ValueError, AttributeError, RecursionError, UsageError) as error:
        raise ModelError(f"{path} is damaged: {error}", COPY_HINT) from None


def _weights(path: Path, networks: nn.Module) -> dict[str, Tensor]:
    wanted = networks.state_dict()
    expected = {name: tuple(tensor.shape) for name, tensor in wanted.items()}
    try:
        with safe_open(path, "pt") as file:
            found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged: {error}", COPY_HINT) from None
    for what, names in (("missing", expected.keys() - found.keys()), ("unknown", found.keys() - expected.keys())):
        if names:
            raise ModelError(f"{path}: {len(names)} tensors {what} ({', '.join(sorted(names)[:3])})", COPY_HINT)
    wrong = [name for name in expected if expected[name] != found[name]]
    if wrong:
        what = f"{wrong[0]} has shape {found[wrong[0]]}, the network needs {expected[wrong[0]]}"
        raise ModelError(f"{path}: {what}", COPY_HINT)
    weights = load_file(path)
    for name, tensor in weights.items():
        if tensor.dtype != wanted[name].dtype:
            raise ModelError(f"{path}: {name} is {tensor.dtype}, the network needs {wanted[name].dtype}", COPY_HINT)
    return weights


def first_line(error: Exception) -> str:
    """Return the first line of torch's longer messages."""
    return str(error).partition("\n")[0]
