"""`pixelwise demo`: three small models on the embedded world, measured beside trivial baselines, and one report."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from pixelwise import __version__
from pixelwise.errors import as_called
from pixelwise.evaluation import beats_baselines, text_table
from pixelwise.recipe import Recipe, find_recipe
from pixelwise.report import Report, page, sheet
from pixelwise.run import Data, conclude, new_folder, start, trained

RECIPES = ("world_segmentation", "world_keypoints", "world_translation")


def demonstrate(out: Path | None = None, steps: int | None = None) -> int:
    """Train the three, print each result beside its baselines, and write `report.html`.

    Args:
        out: The folder of the demo, which goes on if it was stopped; None: the first free `runs/demo-<n>`.
        steps: Train each for so many steps instead of its recipe's.

    Returns:
        0 if every model beats all of its trivial baselines, else 1.
    """
    console = Console(highlight=False, soft_wrap=True)
    begun = out is not None and any((out / name / "recipe.json").exists() for name in RECIPES)
    folder = out if out is not None and begun else new_folder("demo", out)
    began = time.perf_counter()
    cores = os.cpu_count()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu, {cores} cores"
    console.print(f"pixelwise {__version__}, torch {torch.__version__}, {device}, seed 0; nothing leaves this machine")
    reports, verdicts = [], []
    for number, name in enumerate(RECIPES, 1):
        console.print(f"\n{number}/{len(RECIPES)} {name}", markup=False)
        recipe = find_recipe(name).override([f"steps={steps}"] if steps else [])
        report = _one(recipe, folder / name)
        reports.append(report)
        verdicts.append(beats_baselines(report.result))
        console.print(text_table(report.result), markup=False)
    (folder / "report.html").write_text(page("pixelwise demo", reports))
    sheet([row for report in reports for row in report.strips[:2]]).save(folder / "strips.png")
    results: list[dict[str, Any]] = [report.result for report in reports]
    (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    _close(console, folder, verdicts, time.perf_counter() - began)
    return 0 if all(verdicts) else 1


def _one(recipe: Recipe, folder: Path) -> Report:
    if (folder / "recipe.json").exists():
        recipe = Recipe.load(folder / "recipe.json")
    data = Data.of(recipe)
    if not (folder / "recipe.json").exists():
        start(data.settled(recipe), folder)
    return conclude(folder, recipe, data, trained(folder, recipe, data))


def _close(console: Console, folder: Path, verdicts: list[bool], seconds: float) -> None:
    beaten = sum(verdicts)
    console.print(f"\n{beaten} of {len(verdicts)} models beat every trivial baseline; {seconds:.0f} s in all")
    console.print(f"Saved  {folder}/ (report.html, strips.png, one run folder per model)", markup=False)
    console.print(as_called(f"Next   pixelwise predict {folder}/world_segmentation photo.jpg"), markup=False)
    console.print(as_called("       pixelwise list                                recipes for your own folders"), markup=False)
    console.print(as_called("       pixelwise train segmentation data.root=FOLDER  train one of them"), markup=False)
