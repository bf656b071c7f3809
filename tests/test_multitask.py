"""Several answers from one network are those that each part would give alone; learned weights are those of the paper."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from test_tasks import batch_of, small, untrained
from torch import nn

from pixelwise.batch import _save as save
from pixelwise.batch import predict_files
from pixelwise.engine.trainer import Trainer
from pixelwise.errors import UsageError
from pixelwise.losses.uncertainty import Uncertainty
from pixelwise.nn.heads import Heads
from pixelwise.predictions.masks import MasksPrediction
from pixelwise.recipe import Recipe
from pixelwise.run import Data
from pixelwise.tasks.multitask import Task, world_multitask


@lru_cache
def recipe(*pairs: str) -> Recipe:
    return small("multitask").override(list(pairs))


def opened(*pairs: str) -> tuple[Task, nn.ModuleDict]:
    data = Data.of(recipe(*pairs))
    assert isinstance(data.task, Task)
    torch.manual_seed(0)
    return data.task, data.task.networks(recipe(*pairs).network).eval()


def sheets(task: Task) -> dict[str, slice]:
    """Where the sheets of each part lie, by hand."""
    first, found = 0, {}
    for name, part in task.parts.items():
        found[name] = slice(first, first + part.codec.channels)
        first += part.codec.channels
    return found


class Only(nn.Module):
    """Some sheets of a network."""

    def __init__(self, network: nn.Module, chosen: slice) -> None:
        super().__init__()
        self.network, self.chosen = network, chosen

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.network(image)[:, self.chosen]
        return found


def test_losses_are_those_of_the_parts_alone_times_their_weights() -> None:
    task, networks = opened("task.weights.depth=0.25")
    batch = batch_of("multitask")
    encoded = task.encode(batch)
    losses = task.loss("train", networks, encoded, task.forward(networks, encoded))
    names = set()
    for name, part in task.parts.items():
        own, alone = part.encode(batch), {"network": Only(networks["network"], sheets(task)[name])}
        for term, value in part.loss("train", alone, own, part.forward(alone, own)).items():
            weight = 0.25 if name == "depth" else 1.0
            torch.testing.assert_close(losses[f"{name}.{term}"], weight * value)
            names.add(f"{name}.{term}")
    assert names == set(losses) and {name.partition(".")[0] for name in names} == set(task.parts)


class Counted(nn.Module):
    """A network that counts its forward passes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.passes = network, 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        found: torch.Tensor = self.network(image)
        return found


@pytest.mark.parametrize("mirroring", [(), ("depth",), ("labels", "normals"), ("labels", "depth", "normals", "boundaries")])
def test_answers_are_those_of_the_parts_alone(mirroring: tuple[str, ...]) -> None:
    """Mirrored images too, which a part uses only if it asks for them, and the network sees once for all parts."""
    task, networks = opened(*(f"task.parts.{name}.flip_test=true" for name in mirroring))
    image, counted = {"image": torch.rand(2, 3, 32, 32)}, Counted(networks["network"])
    maps = task.respond({"network": counted}, image)["maps"]
    assert counted.passes == (2 if mirroring else 1) and list(image) == ["image"]
    first = 0
    for name, part in task.parts.items():
        (alone,) = part.respond({"network": Only(networks["network"], sheets(task)[name])}, image).values()
        assert alone.shape[1] == part.painted
        torch.testing.assert_close(maps[:, first : first + part.painted], alone)
        first += part.painted
        plain = opened()[0].parts[name]
        (once,) = plain.respond({"network": Only(networks["network"], sheets(task)[name])}, image).values()
        assert torch.allclose(once, alone) is (name not in mirroring)
    assert first == maps.shape[1] and task.mirrors is bool(mirroring)


def test_the_image_is_turned_into_floats_once(monkeypatch: pytest.MonkeyPatch) -> None:
    task, _ = opened()
    asked = []
    monkeypatch.setattr("pixelwise.task.unit", lambda pixels: asked.append(pixels) or pixels.float() / 255)
    encoded = task.encode(batch_of("multitask"))
    assert len(asked) == 1 and encoded["image"].max() <= 1 and "labels.labels" in encoded and "labels.image" not in encoded


def test_a_picture_is_answered_by_every_part() -> None:
    prediction = untrained("multitask")(torch.randint(0, 256, (3, 37, 53), dtype=torch.uint8))
    found = prediction.to_json()
    assert set(found["parts"]) == {"labels", "depth", "normals", "boundaries"}
    assert all((part["height"], part["width"]) == (37, 53) for part in found["parts"].values())
    assert prediction.render().size == (4 * 53, 37)
    assert prediction.nbytes == sum(part.nbytes for part in prediction.parts.values())  # type: ignore[attr-defined]


def test_predict_writes_every_answer_as_its_own_task_would(finished: Callable[[str], Path], tmp_path: Path) -> None:
    PillowImage.new("RGB", (50, 40), (90, 80, 70)).save(tmp_path / "x.png")
    told = predict_files(finished("multitask"), [tmp_path / "x.png"], tmp_path / "out")
    assert not told["failed"]
    out = tmp_path / "out"
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"x.png", "x.json", "x.labels.png", "x.depth.png", "x.depth.json", "x.normals.png", "x.boundaries.png"} <= files
    with (
        PillowImage.open(out / "x.labels.png") as labels,
        PillowImage.open(out / "x.depth.png") as depth,
    ):
        assert labels.mode == "P" and depth.mode == "I;16" and labels.size == depth.size == (50, 40)
    assert set(json.loads((tmp_path / "out" / "x.json").read_text())["parts"]) == {"labels", "depth", "normals", "boundaries"}


def test_masks_are_written_one_by_one_and_no_name_leaves_the_folder(tmp_path: Path) -> None:
    masks = torch.tensor([[[1, 0], [0, 1]], [[1, 1], [0, 0]]], dtype=torch.uint8)
    prediction = MasksPrediction(torch.zeros(3, 2, 2, dtype=torch.uint8), masks, ("road", "../a/b"), ((9, 9, 9), (7, 7, 7)))
    save(prediction, Path("x.jpg"), tmp_path / "in" / "x.png", set())
    assert {path.name for path in tmp_path.rglob("*.*")} == {"x.png", "x.json", "x.road.png", "x.___a_b.png"}
    with PillowImage.open(tmp_path / "in" / "x.road.png") as road:
        assert road.mode == "L" and np.asarray(road).tolist() == [[255, 0], [0, 255]]


def test_metrics_carry_the_name_of_their_part() -> None:
    data = Data.of(recipe())
    sample = data.val.sample(0, data.task.fields)
    metrics = data.task.metrics()
    data.task.score(metrics, data.task.truth(sample), sample)
    found = metrics.compute()
    assert found["labels.miou_present"] == 1.0 and found["depth.abs_rel"] == 0.0 and found["normals.mean_angle_deg"] < 0.1
    assert data.task.primary == "labels.miou_present" and not data.task.minimised


def test_uncertainty_is_equation_7() -> None:
    """With s = ln 4 and ln 9: 2 / (2 4) + 18 / (2 9) + ln 2 + ln 3; by s, (1 - exp(-s) loss) / 2."""
    weights = Uncertainty(2)
    with torch.no_grad():
        weights.log_variances.copy_(torch.tensor([4.0, 9.0]).log())
    losses, regulariser = weights(torch.tensor([2.0, 18.0]))
    torch.testing.assert_close(losses, torch.tensor([0.25, 1.0]))
    assert float(regulariser.detach()) == pytest.approx(math.log(2) + math.log(3))
    (losses.sum() + regulariser).backward()
    torch.testing.assert_close(weights.log_variances.grad, torch.tensor([0.25, -0.5]))


def test_a_loss_over_nothing_leaves_its_variance_alone() -> None:
    weights = Uncertainty(2)
    losses, regulariser = weights(torch.tensor([2.0, 0.0]))
    (losses.sum() + regulariser).backward()
    torch.testing.assert_close(weights.log_variances.grad, torch.tensor([-0.5, 0.0]))


def test_learned_weights_are_trained_and_not_deployed() -> None:
    task, networks = opened("task.weighting=uncertainty")
    batch = task.encode(batch_of("multitask"))
    losses = task.loss("train", networks, batch, task.forward(networks, batch))
    assert set(losses) == {*task.parts, "uncertainty"}
    assert task.phases[0].networks == ("network", "uncertainty") and task.deployed == ("network",)
    sum(losses.values(), torch.zeros(())).backward()
    gradient = networks["uncertainty"].log_variances.grad
    expected = torch.stack([0.5 - losses[name].detach() for name in task.parts])  # s = 0
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
def test_learned_weights_do_not_decay(tmp_path: Path, kind: str) -> None:
    """Without gradients the weights and biases of the network shrink, and the variances stay."""
    made = recipe("task.weighting=uncertainty", f"optimizer.kind={kind}", "optimizer.weight_decay=0.5", "optimizer.lr=0.1")
    task, networks = opened("task.weighting=uncertainty")
    trainer = Trainer(task, networks, made, made.optimizer, made.schedule, tmp_path, lambda first, last: iter(()))
    with torch.no_grad():
        networks["uncertainty"].log_variances.fill_(2.0)
        for parameter in networks["network"].parameters():
            parameter.fill_(2.0)
    for parameter in networks.parameters():
        parameter.grad = torch.zeros_like(parameter)
    trainer.optimizers["train"].step()
    assert networks["uncertainty"].log_variances.tolist() == [2.0] * len(task.parts)
    assert all((parameter < 2).all() for parameter in networks["network"].parameters())
    optimized = [p for group in trainer.optimizers["train"].param_groups for p in group["params"]]
    assert {id(p) for p in optimized} == {id(p) for p in networks.parameters()} and len(optimized) == len({*optimized})


def test_heads_share_the_trunk_and_nothing_else() -> None:
    trunk = nn.Conv2d(3, 4, 1)
    trunk.stride = 1  # type: ignore[assignment]
    network, image = Heads(trunk, 4, [2, 1]), torch.rand(1, 3, 5, 5)
    assert network(image).shape == (1, 3, 5, 5)
    network(image)[:, 2].sum().backward()
    used = {
        name: any(p.grad is not None and p.grad.any() for p in part.parameters()) for name, part in network.named_children()
    }
    heads = [any(p.grad is not None and p.grad.any() for p in head.parameters()) for head in network.heads]
    assert used["trunk"] and heads == [False, True]


def test_a_head_cuts_off_what_is_below_zero_twice() -> None:
    """Of the features, and within the head: 3 - relu(2 relu(x) - 4), each by hand."""
    trunk = nn.Conv2d(1, 1, 1)
    trunk.stride = 1  # type: ignore[assignment]
    network = Heads(trunk, 1, [1])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        trunk.weight.fill_(1)
        first, _, last = network.heads[0]  # type: ignore[misc]
        first.weight[0, 0, 1, 1], first.bias[0], last.weight[0], last.bias[0] = 2, -4, -1, 3
    image = torch.tensor([-5.0, 0.0, 1.0, 2.0, 3.0, 10.0])[None, None, None]
    assert network(image).flatten().tolist() == [3, 3, 3, 3, 1, -13]
    with torch.no_grad():
        first.bias[0] = 4  # what is kept of the features shows where the head cuts nothing off
    assert network(image).flatten().tolist() == [-1, -1, -3, -5, -7, -21]


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["task.parts.depth.kind=keypoints"], "task.parts.depth.kind = 'keypoints' is no task with one network that answers"),
        (["task.parts.depth.kind=multitask"], "task.parts"),
        (["task.parts.uncertainty=depth"], "parts names a task 'uncertainty'"),
        (["task.parts.a/b=depth"], "parts names a task 'a/b'"),
        (['task.weights={"deep": 1}'], "weights names 'deep', which is none of labels, depth, normals, boundaries"),
        (['task.weights={"depth": 0}'], "task.weights.depth = 0"),
    ],
)
def test_what_cannot_be_combined(pairs: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Data.of(small("multitask").override(pairs))
    assert str(caught.value).replace("\n", " ").strip().find(message) >= 0


def test_more_parts_by_settings() -> None:
    changed: Any = small("multitask").override(["task.parts.again.kind=segmentation", "task.parts.again.flip_test=true"])
    assert list(changed.task.parts) == ["labels", "depth", "normals", "boundaries", "again"]
    assert changed.task.parts["again"].flip_test
    changed = changed.override(["task.parts.depth=null", "task.weights.labels=2"])
    assert list(changed.task.parts) == ["labels", "normals", "boundaries", "again"] and changed.task.weights == {"labels": 2}


def test_how_a_part_answers_can_be_changed_after_training() -> None:
    config = world_multitask().task
    assert config.answers_with("parts.depth.protocol.align") and config.answers_with("parts.boundaries.low")
    for learned in ("parts.depth.range", "parts.depth", "parts.depht.flip_test", "weights.depth", "depth.flip_test"):
        assert not config.answers_with(learned), learned
