"""The shortest honest training: what an experiment needs to compare networks at equal steps or at equal time.

The engine (`engine/trainer.py`) does the same with phases, checkpoints, logs and several processes; here the loop can be read
at a glance, and can be given a time instead of a number of steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pixelwise import seeds
from pixelwise.data.loader import Batches
from pixelwise.data.prepared import prepared
from pixelwise.engine import optimizers, precision
from pixelwise.engine.trainer import only, total
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
    for step, factor in paced(descent, schedule, steps, minutes):
        descent.losses.append(_update(updates, loss(step), optimizer.lr * factor))
    return descent


def paced(descent: Descent, schedule: Schedule, steps: int, minutes: float | None) -> Iterator[tuple[int, float]]:
    """Yield each step, from 0, and the factor of its learning rate, until the steps or the time is spent, which is noted."""
    began, spent, step = time.process_time(), 0.0, 0
    while spent < 1:
        place = min(step, steps - 1) if minutes is None else int(spent * steps)
        yield step, optimizers.factor(schedule, place, steps)
        step += 1
        descent.seconds = time.process_time() - began
        spent = step / steps if minutes is None else descent.seconds / (60 * minutes)


def _update(optimizer: torch.optim.Optimizer, value: Tensor, rate: float) -> float:
    """Take one step against the gradient of a loss, and return the loss."""
    optimizers.set_learning_rate(optimizer, rate)
    optimizer.zero_grad()
    value.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return value.item()


def untrained(recipe: Recipe, data: Data) -> Model:
    """Return the recipe's model as `train` starts from it."""
    return Model(describe(recipe, data), data.task, _networks(recipe, data))


def _networks(recipe: Recipe, data: Data) -> dict[str, nn.Module]:
    """Return all networks of the recipe, those too that are only trained with."""
    torch.manual_seed(seeds.mixed(recipe.seed, "initialisation"))
    return dict(data.task.networks(recipe.network).items())


def train(recipe: Recipe, data: Data, minutes: float | None = None) -> tuple[Model, Descent]:
    """Train the networks of a recipe, phase after phase in every step, on the CPU.

    Args:
        recipe: What to train: network, view, augmentation, optimizer, schedule, `steps`, `seed`.
        data: Its data, opened once for all trainings that share it.
        minutes: Train so long instead of `recipe.steps`.

    Returns:
        The model, and the training with the losses of its last phase.
    """
    task, networks = data.task, _networks(recipe, data)
    every = nn.ModuleDict(networks).train()
    parameters = {phase.name: [p for n in phase.networks for p in networks[n].parameters()] for phase in task.phases}
    updates = {name: optimizers.build(recipe.optimizer, trained) for name, trained in parameters.items()}
    stream, dtype = batches(recipe, data), precision.resolve(recipe.precision, CPU)
    descent = Descent()
    for step, factor in paced(descent, recipe.schedule, recipe.steps, minutes):
        batch = task.encode(stream[step])
        with precision.autocast(dtype, CPU):
            outputs = task.forward(networks, batch)
        for turn in (task.phases,) if task.simultaneous else [(phase,) for phase in task.phases]:
            for phase in turn:
                with only(every, phase.networks):
                    with precision.autocast(dtype, CPU):
                        loss = total(task.loss(phase.name, networks, batch, outputs))
                    updates[phase.name].zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
            for phase in turn:
                optimizers.set_learning_rate(updates[phase.name], recipe.optimizer.lr * factor)
                updates[phase.name].step()
        descent.losses.append(loss.item())
    every.eval()
    return Model(describe(recipe, data), task, networks), descent


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
