"""A run turns a recipe into a model: it opens the data, trains, measures against the baselines, saves and reports."""

from __future__ import annotations

import json
import platform
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pixelwise import __version__
from pixelwise.data.dataset import Dataset, Meta
from pixelwise.data.loader import Batches, loader
from pixelwise.data.prepared import prepared
from pixelwise.data.sample import Batch, LabelMap
from pixelwise.engine.checkpoint import deployed_weights, newest
from pixelwise.engine.distributed import default_device, launched, place, processes
from pixelwise.engine.logs import read
from pixelwise.engine.progress import Progress
from pixelwise.engine.rehearsal import warning
from pixelwise.engine.trainer import Trainer
from pixelwise.errors import DataError, PixelwiseError, TrainingError, UsageError
from pixelwise.evaluation import beats_baselines, evaluate, measure, text_table
from pixelwise.model import Model, load
from pixelwise.recipe import Recipe
from pixelwise.report import PICTURES, Report, sheet, strips, views
from pixelwise.seeds import mixed
from pixelwise.stored import Description
from pixelwise.task import Task

WATCHED = 64
"""Samples measured during training; the final figures use all of them."""
USE = """```python
import pixelwise as pw
prediction = pw.load("path/to/this/folder")("picture.jpg")
prediction.save("answer.png")
```
"""
USE_OF_NOISE = """```
pixelwise generate path/to/this/folder pictures count=64 seed=0
```
"""


@dataclass(frozen=True)
class Data:
    """The two splits of a run and the task they define."""

    train: Dataset
    val: Dataset
    task: Task

    @classmethod
    def of(cls, recipe: Recipe, *, settled: bool = False) -> Data:
        """Open the data of a recipe and build its task; of one that is `settled`, the training data is asked nothing more."""
        train, val = opened(recipe, "train"), opened(recipe, "val")
        same_meaning(train.meta, val.meta, "val")
        task: Task = recipe.task.build(train.meta)
        missing = [name for name in task.fields if name not in train.fields]
        if missing:
            what = f"{recipe.task.kind} needs the field {missing[0]!r}; {recipe.data.kind} has {', '.join(train.fields)}"
            known = train.missing.get(missing[0], "")
            raise UsageError(what, "; or ".join(filter(None, (known, task.lacking(missing[0])))))
        task.check(recipe.view, recipe.augment)
        return cls(train, val, task if settled else recipe.task.settled(train).build(train.meta))

    def settled(self, recipe: Recipe) -> Recipe:
        """Return the recipe with what only the training data could tell filled into the task's settings."""
        return recipe.model_copy(update={"task": self.task.config})


def opened(recipe: Recipe, split: str) -> Dataset:
    """Return the data of `split` as the recipe's task sees it."""
    return recipe.task.seen(recipe.data.open(split), recipe.view)


def same_meaning(expected: Meta, found: Meta, where: str) -> None:
    """Check that classes, masks and points mean the same by the same number.

    Raises:
        DataError: They do not.
    """
    ours_by_name, theirs_by_name = _meanings(expected), _meanings(found)
    for name, ours in ours_by_name.items():
        theirs = theirs_by_name.get(name, ())
        if ours != theirs:
            what = f"{where} has other {name} than train: {', '.join(theirs) or 'none'}; train: {', '.join(ours) or 'none'}"
            raise DataError(what, "the same number must mean the same everywhere")


def _meanings(meta: Meta) -> dict[str, tuple[str, ...]]:
    vectors = {name: vector.names for name, vector in meta.vectors.items()}
    return {"classes": meta.classes, "masks": meta.masks, "points": meta.skeleton.names, **vectors}


def new_folder(name: str, out: Path | None) -> Path:
    """Make and return the folder of a new run: `out`, or the first free `runs/<name>-<n>`.

    Raises:
        UsageError: `out` already holds a run.
    """
    if out is not None:
        if (out / "recipe.json").exists():
            begun = (out / "state").exists()
            hint = f"resume it with: pixelwise train {out}" if begun else "it has saved nothing yet: remove it"
            raise UsageError(f"{out} already holds a run", f"{hint}, or name a new folder with out=DIR")
        if out.is_dir() and any(out.iterdir()):
            raise UsageError(f"{out} is not empty, and no run", "name a new folder with out=DIR")
        out.mkdir(parents=True, exist_ok=True)
        return out
    number = 1
    while True:
        folder = Path("runs") / f"{name}-{number}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


def start(recipe: Recipe, out: Path | None = None) -> Path:
    """Make the run's folder with its recipe and environment, and return it; under torchrun the first process does."""
    if launched().world > 1 and out is None:
        raise UsageError("several processes need to know their one run folder", "name it with out=DIR")
    if out is not None and launched().rank > 0:
        return _made_by_the_first(out)
    folder = new_folder(recipe.name, out)
    (folder / "environment.json").write_text(json.dumps(environment(), indent=2) + "\n")
    recipe.save(folder / "recipe.json")
    return folder


def _made_by_the_first(folder: Path, patience: float = 60.0) -> Path:
    """Wait until the first process has made the run's folder."""
    began = time.monotonic()
    while not (folder / "recipe.json").exists():
        if time.monotonic() - began > patience:
            raise TrainingError(f"the first process did not make {folder} within {patience:.0f} s")
        time.sleep(0.1)
    return folder


def environment() -> dict[str, Any]:
    """Return what a result may depend on beside the recipe."""
    return {
        "pixelwise": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def train(recipe: Recipe, out: Path | None = None) -> Model:
    """Train a recipe in a new run folder and return the model.

    Raises:
        PixelwiseError: The data, the recipe or the run has a problem; the message says which and where.
    """
    data = Data.of(recipe)  # before the folder is made, so that a mistake in the data leaves none behind
    folder = start(data.settled(recipe), out)
    try:
        return proceed(folder, data)
    except PixelwiseError:
        if launched().world == 1 and not (folder / "metrics.jsonl").exists():  # nothing was trained: nothing is lost
            shutil.rmtree(folder)
        raise


def proceed(folder: Path, data: Data | None = None) -> Model:
    """Train the run in `folder` from its newest saved state (or the start) to its end; measure, save and report.

    Args:
        folder: The run's folder.
        data: The data of its recipe, if it is open already.
    """
    recipe = Recipe.load(folder / "recipe.json")
    if data is None and not newest(folder):
        data = Data.of(recipe)
        recipe = data.settled(recipe)
        if launched().rank == 0:
            recipe.save(folder / "recipe.json")
    data = data or Data.of(recipe, settled=True)
    with processes() as (rank, _):
        model = trained(folder, recipe, data)
    if rank == 0:  # outside the group: the others need not wait for it
        conclude(folder, recipe, data, model)
    return model


def trained(folder: Path, recipe: Recipe, data: Data) -> Model:
    """Train the run in `folder` to its end and return the model, on the CPU."""
    task, description = data.task, describe(recipe, data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mixed(recipe.seed, "initialisation"))
        networks = task.networks(recipe.network.untrained() if newest(folder) else recipe.network)

    def watch(deployed: Mapping[str, nn.Module]) -> dict[str, float]:
        model = Model(description, task, deployed)
        trainer.progress.event(f"measuring {min(len(data.val), WATCHED)} of {len(data.val)} validation samples")
        metrics: dict[str, float] = measure(task, data.val, {"ours": model.predict}, WATCHED)["ours"]
        return {name: value for name, value in metrics.items() if "/" not in name}

    def draw(deployed: Mapping[str, nn.Module], step: int) -> None:
        drawn = sheet(strips(Model(description, task, deployed), data.val))
        if rank == 0:
            (folder / PICTURES).mkdir(exist_ok=True)
            drawn.save(folder / PICTURES / f"{step:06d}.png")

    def better(new: Mapping[str, float], old: Mapping[str, float]) -> bool:
        a, b = new.get(task.primary), old.get(task.primary)
        return b is None if a is None or b is None else (a < b if task.minimised else a > b)

    rank, world = place()
    source = prepared(data.train, task.fields, recipe.view)
    size, seed = recipe.batch_size, recipe.seed
    batches = Batches(
        source, task.fields, recipe.view, recipe.augment, size, seed, rank, world, inputs=task.inputs, pads=task.pads
    )

    def stream(first: int, last: int) -> Iterator[Batch]:
        told: set[str] = set()
        for batch in loader(batches, first, last, recipe.workers):
            for note in (*source.notes, *data.val.notes):
                if note not in told:
                    told.add(note)
                    trainer.progress.event(f"note: {note}")
            yield batch

    trainer = Trainer(task, networks, recipe, recipe.optimizer, recipe.schedule, folder, stream)
    trainer.resume()
    one = Batches(source, task.fields, recipe.view, recipe.augment, 1, seed, inputs=task.inputs, pads=task.pads)
    if text := warning(trainer, lambda: one[0]):
        trainer.progress.event(f"warning: {text}")
    trainer.run(watch, better, draw)
    return Model(description, task, saved(folder, recipe, task))


def saved(folder: Path, recipe: Recipe, task: Task) -> Mapping[str, nn.Module]:
    """Return the deployed networks as the run's last state holds them: whole, wherever they were trained."""
    state = newest(folder)
    assert state is not None, "a run that ended has saved its last step"
    networks = task.networks(recipe.network.untrained())
    for name, weights in deployed_weights(state, task.deployed).items():
        networks[name].load_state_dict(weights)
    return {name: networks[name].eval() for name in task.deployed}


def describe(recipe: Recipe, data: Data) -> Description:
    """Return what the model folder says of itself."""
    first = data.train.sample(0, data.task.inputs)
    labelled = [name for name in data.task.inputs if isinstance(first[name], LabelMap)]
    return Description(
        recipe=recipe.name,
        task=data.task.config,
        network=recipe.network,
        meta=data.train.meta,
        view=recipe.view,
        labels_in=tuple(dict.fromkeys((*labelled, *data.train.meta.labelled))),
    )


def conclude(folder: Path, recipe: Recipe, data: Data, model: Model) -> Report:
    """Measure the trained model on the whole validation split; write `model/`, `evaluation.json` and `report.html`."""
    measuring = f"measuring {len(data.val)} validation samples, and every baseline on them"
    Progress(folder.name, recipe.steps).event(measuring)
    result, ours = evaluate(model.to(str(default_device())), data.train, data.val, "val")
    result["seconds"] = round(max(event["time"] for event in read(folder / "metrics.jsonl")), 1)
    (folder / "evaluation.json").write_text(json.dumps(result, indent=2) + "\n")
    model.to("cpu").save(folder / "model", data.val.sample(0, data.task.fields), card(recipe, result))
    pictures = {**data.task.pictures(ours), **views(model, data.val)}
    report = Report.of(folder, recipe, result, strips(model, data.val), pictures)
    (folder / "report.html").write_text(report.page())
    sheet(report.strips).save(folder / "strips.png")
    return report


def summary(folder: Path) -> str:
    """Return what a finished run says of itself on the terminal."""
    result = json.loads((folder / "evaluation.json").read_text())
    made = Recipe.load(folder / "recipe.json").task.from_noise
    following = f"generate {folder} OUT" if made else f"predict {folder} IMAGE"
    verdict = "" if beats_baselines(result) else "\nThe network does not beat every trivial baseline."
    return f"{text_table(result)}{verdict}\nSaved  {folder}/ (report.html, model/)\nNext   pixelwise {following}"


def card(recipe: Recipe, result: dict[str, Any]) -> str:
    """Return the model card."""
    use = USE_OF_NOISE if recipe.task.from_noise else USE
    return f"""# {recipe.name}

Task: {recipe.task.kind}. Trained with pixelwise {__version__} for {recipe.steps} steps; the recipe is in `../recipe.json`.

```
{text_table(result)}
```

{use}"""


def open_run(folder: Path, split: str, pairs: Sequence[str] = ()) -> tuple[Model, Dataset, Dataset]:
    """Return a finished run's model, its training data and the data of `split`.

    Args:
        folder: The run's folder.
        split: "train", "val" or, where there is one, "test".
        pairs: Overrides of the recipe's data, such as `data.root=FOLDER`, and of what `TaskConfig.answering` names.
    """
    changes = [pair for pair in pairs if not pair.startswith("data.")]
    recipe = Recipe.load(folder / "recipe.json").override(pairs)
    model = load(folder, device=str(default_device()), changes=changes)
    train, data = opened(recipe, "train"), opened(recipe, split)
    for name, dataset in (("train", train), (split, data)):
        same_meaning(model.description.meta, dataset.meta, name)
    return model, train, data
