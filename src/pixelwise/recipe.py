"""A recipe describes a whole run: data, task, network and schedule. It is frozen, overridable, and replays from `recipe.json`.

Recipes are functions marked by `@recipe` in the files of tasks, or of `recipes/` where a task has many; their docstring states
the metric and the time to expect.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, SerializeAsAny, model_validator

from pixelwise.config import Choice, Config, Overridable, kinds
from pixelwise.data.augment import Augment, View
from pixelwise.data.dataset import DataConfig, Dataset, Meta
from pixelwise.errors import UsageError, did_you_mean
from pixelwise.nn.network import NetworkConfig
from pixelwise.overrides import split_override
from pixelwise.training import Optimizer, Schedule, Training

TASKS = "pixelwise.tasks"
RECIPES = "pixelwise.recipes"


class TaskConfig(Config):
    """Settings of a task; each task file has a subclass called `Config`."""

    answering: ClassVar[tuple[str, ...]] = ()
    """Settings that say how to answer or to measure, and nothing about what is learned: they can be changed after training."""
    from_noise: ClassVar[bool] = False
    """Whether pictures are made from noise: then nothing can be predicted for a picture."""
    kind: str

    def answers_with(self, key: str) -> bool:
        """Return whether a setting, such as `flip_test` or `protocol.align`, can be changed after training."""
        return key.partition(".")[0] in self.answering

    def idle(self) -> dict[str, str]:
        """Return the settings that change nothing beside the others, each with the reason; to give one is a mistake."""
        return {}

    @property
    def second_order(self) -> bool:
        """Whether a loss holds a gradient of a network, so that gradients are taken of gradients."""
        return False

    def build(self, meta: Meta) -> Any:
        """Return the `Task` of the file that this config comes from, for data described by `meta`."""
        return importlib.import_module(type(self).__module__).Task(self, meta)

    def seen(self, dataset: Dataset, view: View) -> Dataset:
        """Return the data as this task sees it; by default as it is."""
        return dataset

    def settled(self, train: Dataset) -> Self:
        """Return these settings with what only the training data can tell filled in; by default there is nothing such.

        Raises:
            DataError: The data cannot be trained on.
        """
        return self


class Recipe(Training, Overridable):
    """Everything a run depends on: the run is a pure function of this."""

    name: str = Field(pattern=r"^[\w.-]+$", description="what the run's folder is called")
    task: Annotated[SerializeAsAny[TaskConfig], Choice(TASKS)] = Field(description="what is asked of the network")
    data: Annotated[SerializeAsAny[DataConfig], Choice("pixelwise.data.datasets")] = Field(
        description="where samples come from"
    )
    view: View = Field(description="the pixels that the network sees")
    augment: Augment = Field(default=Augment(), description="random changes of training samples")
    network: Annotated[SerializeAsAny[NetworkConfig], Choice("pixelwise.nn.networks")] = Field(
        description="the network that is deployed"
    )
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()

    @model_validator(mode="after")
    def _compilable(self) -> Self:
        if self.compile and self.task.second_order:
            what = "compile takes no gradients of gradients, and task.gradient_penalty and task.r1 need them"
            raise ValueError(f"{what}: set compile=false, or both of these to 0")
        return self

    def override(self, pairs: Sequence[str]) -> Self:
        """Return a copy with `key=value` pairs applied.

        Raises:
            UsageError: As `Overridable.override`, or a setting of the task is given another value that would change nothing.
        """
        made = super().override(pairs)
        idle = made.task.idle()
        for key, _ in map(split_override, pairs):
            task, _, rest = key.partition(".")
            name = rest.partition(".")[0]
            if task == "task" and name in idle and getattr(made.task, name) != getattr(self.task, name, None):
                raise UsageError(f"{key} would change nothing", idle[name])
        return made

    def save(self, path: Path) -> None:
        """Write `recipe.json`; `Recipe.load` reads it back equal."""
        draft = path.with_suffix(".draft")
        draft.write_text(self.model_dump_json(indent=2) + "\n")
        draft.replace(path)

    @classmethod
    def load(cls, path: Path) -> Recipe:
        """Read a `recipe.json`.

        Raises:
            UsageError: It is not JSON or not a recipe.
        """
        try:
            return cls.checked(json.loads(path.read_text()))
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} is not a recipe: {error}") from None


RecipeFunction = Callable[[], Recipe]


def recipe(function: RecipeFunction) -> RecipeFunction:
    """Mark a function without arguments as a recipe; the function's name is the recipe's."""
    function.is_recipe = True  # type: ignore[attr-defined]
    return function


def recipes() -> dict[str, RecipeFunction]:
    """Return every recipe of every file of tasks and of recipes by name, sorted."""
    found: dict[str, RecipeFunction] = {}
    for file in (f"{package}.{kind}" for package in (TASKS, RECIPES) for kind in kinds(package)):
        for name, member in vars(importlib.import_module(file)).items():
            if inspect.isfunction(member) and getattr(member, "is_recipe", False):
                found[name] = member
    return dict(sorted(found.items()))


def find_recipe(name: str) -> Recipe:
    """Return the recipe called `name`, or the one in a `recipe.json` file or run folder.

    Raises:
        UsageError: There is none.
    """
    path = Path(name)
    if path.suffix == ".json" or (path / "recipe.json").is_file():
        return Recipe.load(path if path.suffix == ".json" else path / "recipe.json")
    known = recipes()
    if name not in known:
        raise UsageError(f"no recipe {name!r}", did_you_mean(name, known) or "recipes: " + ", ".join(known))
    return known[name]()
