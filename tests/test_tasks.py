"""What every task must hold, run over whatever files are in `tasks/`: a new task is tested by being there."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from pixelwise.config import kinds
from pixelwise.data.datasets import world
from pixelwise.data.loader import Batches
from pixelwise.data.sample import Sample, collate
from pixelwise.errors import PixelwiseError
from pixelwise.evaluation import measure
from pixelwise.geometry.homography import about, horizontal_flip, rotation
from pixelwise.model import Model, load
from pixelwise.predictions.several import SeveralPrediction
from pixelwise.predictions.vectors import VectorPrediction
from pixelwise.recipe import TASKS, Recipe, find_recipe, recipes
from pixelwise.run import Data, describe, proceed, start
from pixelwise.task import PixelTask

UNBOUNDED = ["network.activation=none", "task.features.levels=3", "task.style_levels=1,2,3"]
"""A tanh is saturated by the first steps at the rate of `test_one_batch_is_learned`."""
SMALL = {
    "classification": ("world_classification", ["network.channels=8,16", "data.scenes=48"]),
    "cycle_translation": (
        "world_day2night",
        [
            *("network.width=8", "network.blocks=1", "network.activation=none", "task.pool=4"),
            *("task.discriminator.width=8", "task.discriminator.layers=1"),
        ],
    ),
    "depth": ("world_depth", ["network.width=8", "network.depth=2"]),
    "generation": (
        "world_generation",
        ["network.width=4", "task.discriminator.width=4", "task.noise=8", "task.category=crowd"],
    ),
    "surface_normals": ("world_normals", ["network.width=8", "network.depth=2"]),
    "segmentation": ("world_segmentation", ["network.width=8", "network.depth=2"]),
    "keypoints": ("world_keypoints", ["network.width=8", "network.depth=2"]),
    "super_resolution": ("world_super_resolution", ["network.kind=espcn", "network.widths=8,8", "view.size=16x16"]),
    "pose": ("world_pose", ["network.width=16", "network.depth=2", "task.most_people=6"]),
    "style_transfer": (
        "world_style",
        ["network.width=8", "network.blocks=1", "task.features.redraw=false", *UNBOUNDED],
    ),
    "translation": (
        "world_translation",
        ["network.width=8", "network.depth=4", "task.discriminator.width=8", "task.discriminator.layers=1"],
    ),
}
PERFECT = {
    "classification": 1.0,
    "cycle_translation": 0.0,
    "depth": 0.0,
    "keypoints": 0.0,
    "segmentation": 1.0,
    "super_resolution": 100.0,
    "surface_normals": 0.0,
    "translation": 0.0,
}
COMMON = ["data.scenes=12", "view.size=32x32", "data.size=32x32", "batch_size=4", "steps=6", "precision=float32"]
TASK_KINDS = kinds(TASKS)
ALONE = [kind for kind in TASK_KINDS if kind != "multitask"]
"""Those that encode targets themselves; `multitask` gives each part's encoding a longer name (`test_multitask.py`)."""
ASKED = [kind for kind in TASK_KINDS if kind != "generation"]
"""Those that are asked about a picture; what makes pictures from noise is not (`test_generation.py`)."""


@lru_cache
def small(kind: str) -> Recipe:
    """The task's world recipe, shrunk; a task without an entry in SMALL uses its first recipe on the world."""
    on_world = (n for n, f in recipes().items() if f().task.kind == kind and f().data.kind == "world")
    name, pairs = SMALL.get(kind) or (next(on_world), [])
    recipe = find_recipe(name)
    around = [name for name in type(recipe.data).model_fields if isinstance(getattr(recipe.data, name), world.Config)]
    shrunk = [pair.replace("data.", f"data.{name}.") for name in around for pair in COMMON] or COMMON
    return recipe.override([*shrunk, "evaluate_every=3", "checkpoint_every=2", *pairs])


@lru_cache
def opened(kind: str) -> Data:
    return Data.of(small(kind))


def untrained(kind: str) -> Model:
    recipe, data = small(kind), opened(kind)
    torch.manual_seed(0)
    return Model(describe(recipe, data), data.task, data.task.networks(recipe.network))


def batch_of(kind: str, count: int = 4) -> dict[str, torch.Tensor]:
    data, recipe = opened(kind), small(kind)
    return Batches(data.train, data.task.fields, recipe.view, recipe.augment, count, 0)[0]


@pytest.mark.parametrize("kind", TASK_KINDS)
def test_every_network_of_every_phase_gets_finite_gradients(kind: str) -> None:
    data = opened(kind)
    networks = data.task.networks(small(kind).network)
    batch = data.task.encode(batch_of(kind))
    outputs = data.task.forward(networks, batch)
    for phase in data.task.phases:
        losses = data.task.loss(phase.name, networks, batch, outputs)
        assert losses and all(loss.dim() == 0 for loss in losses.values())
        parameters = [p for name in phase.networks for p in networks[name].parameters()]
        gradients = torch.autograd.grad(sum(losses.values()), parameters, allow_unused=True, retain_graph=True)
        assert all(g is not None and g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("kind", TASK_KINDS)
def test_one_batch_is_learned(kind: str) -> None:
    """The loss that the deployed network minimises falls below 0.6 of its start on a batch seen again and again."""
    data = opened(kind)
    torch.manual_seed(0)
    networks = data.task.networks(small(kind).network)
    batch = data.task.encode(batch_of(kind, 2))
    phase = next(phase for phase in data.task.phases if set(phase.networks) & set(data.task.deployed))
    optimizer = torch.optim.Adam([p for n in phase.networks for p in networks[n].parameters()], lr=5e-3)
    history = []
    for _ in range(60):
        outputs = data.task.forward(networks, batch)
        main = next(iter(data.task.loss(phase.name, networks, batch, outputs).values()))
        history.append(main.item())
        optimizer.zero_grad()
        main.backward()
        optimizer.step()
    assert history[-1] < 0.6 * history[0]


@pytest.mark.parametrize("kind", ALONE)
def test_targets_of_a_mirrored_sample_are_the_mirrored_targets(kind: str) -> None:
    """Geometry, left/right names and codec agree: encode(mirror(sample)) = mirror(encode(sample)), to the last half pixel."""
    data = opened(kind)
    height, width = small(kind).view.size
    compared = 0
    for i in range(4):
        sample = data.val.sample(i, data.task.fields)
        mirrored = sample.warp(horizontal_flip(width), (height, width))
        plain, other = (data.task.encode(collate([s])) for s in (sample, mirrored))
        for name, target in plain.items():
            if target.dim() < 3:
                continue
            answer = data.task.codec.scale and target.dim() == 4 and name not in data.task.inputs
            sheets = answer and target.shape[1] == data.task.codec.channels
            expected = data.task.codec.flip(target) if sheets else target.flip(-1)
            torch.testing.assert_close(other[name], expected, atol=1e-4, rtol=0, equal_nan=True)
            compared += 1
    assert compared >= 4


@pytest.mark.parametrize("kind", ALONE)
def test_targets_of_a_turned_sample_are_the_turned_targets(kind: str) -> None:
    """Directions turn with the picture they lie in: what points right points down after a quarter turn."""
    data = opened(kind)
    size = small(kind).view.size
    quarter = about(rotation(90), (size[1] / 2, size[0] / 2))
    sample = data.val.sample(2, data.task.fields)
    plain, turned = (data.task.encode(collate([s])) for s in (sample, sample.warp(quarter, size)))
    for name, target in plain.items():
        if target.dim() >= 3:
            expected = torch.rot90(target, -1, (-2, -1))
            if name == "normals":
                expected = torch.stack([-expected[:, 1], expected[:, 0], expected[:, 2]], 1)
            if name == "sheets":
                beliefs, fields = expected[:, :15], expected[:, 15:].unflatten(1, (13, 2))
                turned_fields = torch.stack([-fields[:, :, 1], fields[:, :, 0]], 2)
                expected = torch.cat([beliefs, turned_fields.flatten(1, 2)], 1)
            torch.testing.assert_close(turned[name], expected, atol=0.01, rtol=0, equal_nan=True)


@pytest.mark.parametrize("kind", TASK_KINDS)
def test_truth_scores_perfectly_and_baselines_run(kind: str) -> None:
    data = opened(kind)
    predictors = {name: lambda s, one=p: [one(x) for x in s] for name, p in data.task.baselines(data.train).items()}
    measured = measure(data.task, data.val, {"truth": lambda s: [data.task.truth(x) for x in s], **predictors}, 6)
    sign, best = -1 if data.task.minimised else 1, measured["truth"][data.task.primary]
    assert best == pytest.approx(PERFECT.get(kind, best), abs=1e-6)
    assert predictors
    for name in predictors:
        assert sign * measured[name][data.task.primary] < sign * best - 1e-3


@pytest.mark.parametrize("kind", ASKED)
@pytest.mark.parametrize("size", [(32, 32), (37, 53), (16, 90), (200, 111)])
def test_any_size_is_answered_in_its_own_pixels(kind: str, size: tuple[int, int], tmp_path: Path) -> None:
    model = untrained(kind)
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    prediction = model(pixels)
    scale = model.task.scale if isinstance(model.task, PixelTask) else 1
    drawn = prediction.render().size
    whole = isinstance(prediction, VectorPrediction)  # its answer is written below the picture
    parts = len(prediction.parts) if isinstance(prediction, SeveralPrediction) else 1  # are drawn side by side
    expected = (scale * parts * size[1], scale * size[0])
    assert all(a > b for a, b in zip(drawn, expected, strict=True)) if whole else drawn == expected
    told = json.loads(json.dumps(prediction.to_json()))
    assert (told["height"], told["width"]) == size
    with PillowImage.open(prediction.save(tmp_path / "answer.png")) as saved:
        assert saved.size == drawn


@pytest.mark.parametrize("kind", ASKED)
def test_path_pillow_array_and_tensor_agree(kind: str, tmp_path: Path) -> None:
    model = untrained(kind)
    pixels = np.random.default_rng(1).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    path = tmp_path / "image.png"
    PillowImage.fromarray(pixels).save(path)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    answers = [model(x) for x in (path, PillowImage.open(path), pixels, tensor, pixels / 255)]
    pictures = [np.asarray(answer.render()) for answer in answers]
    assert all(np.array_equal(pictures[0], other) for other in pictures[1:])


@pytest.mark.parametrize("kind", TASK_KINDS)
def test_trained_saved_and_loaded_model_predicts_the_same(kind: str, tmp_path: Path) -> None:
    model = proceed(start(small(kind), tmp_path / "run"))
    again = load(tmp_path / "run")
    sample = opened(kind).val.sample(1, opened(kind).task.fields)
    ours, theirs = model.predict([sample])[0], again.predict([sample])[0]
    assert np.array_equal(np.asarray(ours.render()), np.asarray(theirs.render()))
    assert ours.to_json() == theirs.to_json()
    for name in ("recipe.json", "metrics.jsonl", "report.html", "evaluation.json"):
        assert (tmp_path / "run" / name).stat().st_size > 0
    assert {p.name for p in (tmp_path / "run" / "model").iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
        "selftest.safetensors",
    }


@pytest.mark.parametrize("kind", TASK_KINDS)
@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8, 4), np.uint8),
        np.full((8, 8, 3), 255.0, np.float32),
        np.zeros((8, 8, 3), np.int64),
        "missing.png",
    ],
)
def test_bad_input_is_a_clear_error(kind: str, image: object) -> None:
    with pytest.raises(PixelwiseError) as caught:
        untrained(kind)(image)  # type: ignore[arg-type]
    assert str(caught.value)


@pytest.mark.parametrize("kind", TASK_KINDS)
def test_batches_do_not_change_an_answer(kind: str) -> None:
    """Predicting together or one at a time is the same up to rounding (batch statistics would differ grossly)."""
    data, model = opened(kind), untrained(kind)
    samples = [data.val.sample(i, data.task.fields) for i in range(3)]
    seen = [model.description.view.fitted(Sample(s.key, {n: s[n] for n in data.task.inputs})) for s in samples]
    with torch.inference_mode():
        model.networks.eval()
        together = model.outputs(collate(seen))
        for i, one in enumerate(seen):
            for name, output in model.outputs(collate([one])).items():
                torch.testing.assert_close(together[name][i : i + 1], output, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", TASK_KINDS)
def test_fields_inputs_and_primary_exist(kind: str) -> None:
    data = opened(kind)
    assert set(data.task.inputs) <= set(data.task.fields) <= set(data.train.fields)
    assert set(data.task.deployed) <= set(data.task.networks(small(kind).network))
    result = measure(data.task, data.val, {"truth": lambda s: [data.task.truth(x) for x in s]}, 2)
    assert data.task.primary in result["truth"]


def test_a_missing_field_is_named_with_the_setting_that_names_it() -> None:
    recipe = find_recipe("world_keypoints").override(["data.scenes=8", "task.field=persons"])
    with pytest.raises(PixelwiseError, match="needs the field 'persons'; world has") as refused:
        Data.of(recipe)
    assert refused.value.hint == "choose another data.kind, or name a field that is there with task.field=NAME"
