"""pixelwise: images to images, and to anything that lives on the pixel grid, with convolutional networks."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pixelwise.errors import DataError, ModelError, PixelwiseError, TrainingError, UsageError
    from pixelwise.model import Model, load
    from pixelwise.recipe import Recipe, find_recipe
    from pixelwise.run import train

__version__ = "0.1.0"

__all__ = [
    "DataError",
    "Model",
    "ModelError",
    "PixelwiseError",
    "Recipe",
    "TrainingError",
    "UsageError",
    "find_recipe",
    "load",
    "train",
]

_HOME = {
    "Model": "model",
    "Recipe": "recipe",
    "find_recipe": "recipe",
    "load": "model",
    "train": "run",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import pixelwise` stays quick."""
    if name not in __all__:
        raise AttributeError(f"module 'pixelwise' has no attribute {name!r}")
    return getattr(importlib.import_module(f"pixelwise.{_HOME.get(name, 'errors')}"), name)
