"""The features of a network trained here, such as a classifier: no weights from elsewhere, and none unlike the data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from pixelwise.errors import ModelError
from pixelwise.nn.features import Features, FeaturesConfig, Tapped
from pixelwise.stored import folder_of, restored
from pixelwise.task import Task


class Config(FeaturesConfig):
    """Settings of a trained run's features."""

    kind: Literal["run"] = "run"
    folder: str = Field("", description="the run whose trained network looks, such as runs/classification-1")
    layers: tuple[str, ...] = Field(
        (), description="names of modules within its network; none: the last of each resolution of its encoder"
    )

    def build(self) -> Features:
        """Return the deployed network, with the normalisation it was trained with.

        Raises:
            ModelError: The folder is no model, or the network does not see colour pictures.
        """
        if not self.folder:
            hint = "features.folder=runs/NAME, a run of any task on pictures; without one: features.kind=random"
            raise ModelError("features.kind = 'run' needs the folder of a trained run", hint)
        _, task, networks = restored(folder_of(self.folder))
        return Tapped(networks[task.deployed[0]], self.layers, _as_trained(task, self.folder))


def _as_trained(task: Task, folder: str) -> Callable[[Tensor], Tensor]:
    """Return what turns pictures in [0, 1] into what the network saw in training: it shows in black and in white."""
    black, white = (_seen(task, value) for value in (0, 255))
    if task.sheets != 3 or black is None or white is None:
        raise ModelError(f"{folder}: its network does not see colour pictures", "choose a run that does, such as a classifier")
    low, high = black, white
    return lambda image: low + (high - low) * image


def _seen(task: Task, value: int) -> float | None:
    """Return what a network sees of a picture of one grey value; None if it does not see pictures of three colours."""
    picture = torch.full((1, 3, 8, 8), value, dtype=torch.uint8)
    try:
        seen = next(iter(task.encode({task.inputs[0]: picture}).values()))
    except (KeyError, RuntimeError, IndexError):
        return None
    constant = seen.shape == picture.shape and bool((seen == seen.flatten()[0]).all())
    return float(seen.flatten()[0]) if constant else None
