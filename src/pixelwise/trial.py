"""The shortest honest training: what an experiment needs to compare networks at equal steps or at equal time.

The engine (`engine/trainer.py`) does the same with phases, checkpoints, logs and several processes; here the loop can be read
at a glance, and can be given a time instead of a number of steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pixelwise import seeds
from pixelwise.data.loader import Batches
from pixelwise.data.prepared import prepared
from pixelwise.engine import optimizers, precision
from pixelwise.engine.trainer import total
from pixelwise.evaluation import measure
from pixelwise.metrics.outlines import BoundaryMetrics
from pixelwise.model import Model
from pixelwise.page import gallery
from pixelwise.recipe import Recipe
from pixelwise.run import Data, describe
from pixelwise.training import Optimizer, Schedule

CPU = torch.device("cpu")


@dataclass
class Descent:
    """One training: its losses, and the seconds of processor time it took, all threads and the making of batches included."""

    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0


def descend(
    loss: Callable[[int], Tensor],
    parameters: Iterable[nn.Parameter],
    optimizer: Optimizer,
    schedule: Schedule,
    steps: int,
    minutes: float | None = None,
) -> Descent:
    """Minimise `loss(step)` for so many steps or minutes of processor time, which other jobs on the machine do not lengthen.

    Args:
        loss: Returns the scalar loss of a step, which counts from 0.
        parameters: What is updated.
        optimizer: How.
        schedule: The learning rate; with `minutes`, it follows the share of the time that is spent.
        steps: How many, or with `minutes`, how many the schedule is made for.
        minutes: Stop after so long instead.
    """
    descent, updates = Descent(), optimizers.build(optimizer, parameters)
    began, spent = time.process_time(), 0.0
    while spent < 1:
        step = len(descent.losses)
        place = min(step, steps - 1) if minutes is None else int(spent * steps)
        optimizers.set_learning_rate(updates, optimizer.lr * optimizers.factor(schedule, place, steps))
        value = loss(step)
        updates.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        updates.step()
        descent.losses.append(value.item())
        descent.seconds = time.process_time() - began
        spent = (step + 1) / steps if minutes is None else descent.seconds / (60 * minutes)
    return descent


def untrained(recipe: Recipe, data: Data) -> Model:
    """Return the recipe's model as `train` starts from it."""
    torch.manual_seed(seeds.mixed(recipe.seed, "initialisation"))
    return Model(describe(recipe, data), data.task, dict(data.task.networks(recipe.network).items()))


def train(recipe: Recipe, data: Data, minutes: float | None = None) -> tuple[Model, Descent]:
    """Train the network of a recipe, whose task has one phase, on the CPU.

    Args:
        recipe: What to train: network, view, augmentation, optimizer, schedule, `steps`, `seed`.
        data: Its data, opened once for all trainings that share it.
        minutes: Train so long instead of `recipe.steps`.
    """
    task, model = data.task, untrained(recipe, data)
    networks = dict(model.networks.train().items())
    stream = batches(recipe, data)
    dtype = precision.resolve(recipe.precision, CPU)

    def loss(step: int) -> Tensor:
        batch = task.encode(stream[step])
        with precision.autocast(dtype, CPU):
            return total(task.loss(task.phases[0].name, networks, batch, task.forward(networks, batch)))

    descent = descend(loss, model.networks.parameters(), recipe.optimizer, recipe.schedule, recipe.steps, minutes)
    model.networks.eval()
    return model, descent


def batches(recipe: Recipe, data: Data) -> Batches:
    """Return the batches of a recipe: each a function of its seed and the step."""
    source = prepared(data.train, data.task.fields, recipe.view)
    size, seed = recipe.batch_size, recipe.seed
    return Batches(source, data.task.fields, recipe.view, recipe.augment, size, seed, inputs=data.task.inputs)


def metrics(model: Model, data: Data) -> dict[str, float]:
    """Return the task's own metrics of a trained model on the validation split."""
    found: dict[str, float] = measure(model.task, data.val, {"ours": model.predict})["ours"]
    return found


def side_by_side(models: Mapping[str, Model], data: Data, count: int) -> str:
    """Return `count` samples of the validation split as HTML: the picture, the truth, and what each model says."""
    rows = []
    for i in range(min(count, len(data.val))):
        sample = data.val.sample(i, data.task.fields)
        truth = data.task.truth(sample)
        answers = [(model.predict([sample])[0].render(), name) for name, model in models.items()]
        rows.append([(truth.input(), "picture"), (truth.render(), "truth"), *answers])
    return gallery(rows)


def outline_metrics(model: Model, data: Data, tolerance: int) -> dict[str, float]:
    """Return the boundary F-scores of a segmentation on the validation split, within `tolerance` of its own pixels."""
    score = BoundaryMetrics(data.train.meta.classes, tolerance)
    for i in range(len(data.val)):
        sample = data.val.sample(i, data.task.fields)
        score.update(model.predict([sample])[0].labels, sample["labels"].labels)  # type: ignore[attr-defined]
    return score.compute()
