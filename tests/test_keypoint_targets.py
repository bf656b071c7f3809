"""The task of key points with each of its targets: settings, training, mirrored pictures, stages, bad input, export."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from test_tasks import batch_of, opened, small
from torch import Tensor, nn

from pixelwise import export
from pixelwise.codecs.coordinates import CoordinatesCodec
from pixelwise.codecs.gaussian_heatmaps import GaussianHeatmapsCodec
from pixelwise.data.augment import Augment
from pixelwise.data.dataset import Meta
from pixelwise.data.skeletons import LSP14
from pixelwise.errors import DataError, UsageError
from pixelwise.geometry.presence import Presence
from pixelwise.geometry.skeleton import Skeleton, one_sided
from pixelwise.model import Model, load
from pixelwise.recipe import Recipe, find_recipe
from pixelwise.run import describe
from pixelwise.tasks import keypoints
from pixelwise.tasks.keypoints import Config, Task

NUMBERS = ["task.target=coordinates", "network.kind=regressor", "network.channels=4,8", "network.hidden=32"]
TARGETS: dict[str, list[str]] = {
    "heatmaps": [],
    "l2": ["task.loss=l2", "task.background=true", "task.decoding=dark"],
    "one_hot": ["task.target=one_hot"],
    "channels": ["task.target=channels"],
    "soft_argmax": ["task.target=soft_argmax"],
    "simcc": ["task.target=simcc", "task.bins=48x64"],
    "wing": [*NUMBERS, "task.loss=wing"],
}
EACH = pytest.mark.parametrize("target", TARGETS)


def recipe(target: str, *pairs: str) -> Recipe:
    return small("keypoints").override([*TARGETS[target], *pairs])


def made(target: str, *pairs: str) -> tuple[Task, nn.ModuleDict]:
    """Return a task and its untrained networks."""
    torch.manual_seed(0)
    wanted = recipe(target, *pairs)
    task: Task = wanted.task.build(opened("keypoints").train.meta)
    return task, task.networks(wanted.network)


@EACH
def test_every_target_learns_a_batch(target: str) -> None:
    task, networks = made(target)
    batch = task.encode(batch_of("keypoints", 2))
    optimizer = torch.optim.Adam(networks.parameters(), lr=5e-3)
    history = []
    for _ in range(40):
        (loss,) = task.loss("train", networks, batch, task.forward(networks, batch)).values()
        history.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert history[-1] < 0.75 * history[0] and np.isfinite(history).all()


@EACH
def test_answers_averaged_with_the_mirrored_picture_mirror_with_it(target: str) -> None:
    """The answer for the mirrored picture is the mirrored answer, left and right exchanged, whatever the network."""
    task, networks = made(target, "task.flip_test=true")
    networks.eval()
    image = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        ours, other = (task.answers(task.respond(networks, {"image": i}), (32, 48)) for i in (image, image.flip(-1)))
    swap = list(task.meta.skeleton.swap)
    expected = torch.stack([48 - other["points"][..., 0], other["points"][..., 1]], -1)[:, swap]
    torch.testing.assert_close(ours["points"], expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(ours["confidence"], other["confidence"][:, swap])
    assert ours["points"].std() > 0.1 or target == "wing"


def test_a_graph_of_the_whole_target(tmp_path: Path) -> None:
    """From bytes to points through bins; the picture's own size need not be that of the training."""
    data, wanted = opened("keypoints"), recipe("simcc", "view.fit=native", "network.width=2", "network.depth=1")
    task, networks = made("simcc", "network.width=2", "network.depth=1")
    model = Model(describe(wanted, replace(data, task=task)), task, dict(networks.items()))
    model.save(tmp_path / "model", data.val.sample(0, task.fields), "")
    export.export(tmp_path / "model", tmp_path / "x.onnx")
    run = onnxruntime.InferenceSession(tmp_path / "x.onnx", providers=["CPUExecutionProvider"])
    for size in ((40, 61), (32, 32)):
        pixels = np.random.default_rng(0).integers(0, 256, (1, 3, *size), dtype=np.uint8)
        points, confidence = run.run(None, {"image": pixels})
        answer: Any = load(tmp_path / "model")(torch.from_numpy(pixels[0]))
        np.testing.assert_allclose(points[0], answer.points[0], atol=1e-3)
        np.testing.assert_allclose(confidence[0], answer.confidence[0], atol=1e-4)
        assert points.shape == (1, 14, 2)


# Several stages


class Stages(nn.Module):
    """Answers a constant map, and before that one without any belief."""

    stride, multiple, stages = 1, 1, 2

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.linspace(0, 1, channels))

    def forward(self, image: Tensor, every: bool = False) -> Tensor:
        last = self.level[:, None, None] * image[:, :1]
        return torch.stack([torch.zeros_like(last), last], 1) if every else last


def test_the_loss_is_the_sum_over_the_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = recipe("l2")
    monkeypatch.setattr(type(wanted.network), "build", lambda self, given, channels: Stages(channels))
    task, networks = made("l2", "task.flip_test=true")
    assert task.stages == 2
    batch = task.encode(batch_of("keypoints", 2))
    outputs = task.forward(networks, batch)
    assert outputs["beliefs"].shape == (2, 2, 15, 32, 32)
    first, last = (task.codec.loss(outputs["beliefs"][:, i], batch) for i in (0, 1))
    (total,) = task.loss("train", networks, batch, outputs).values()
    assert total.item() == pytest.approx(first.item() + last.item(), rel=1e-6) and first != last
    plain = networks["network"](batch["image"])
    mirrored = task.codec.flip(networks["network"](batch["image"].flip(-1)))
    torch.testing.assert_close(task.respond(networks, batch)["beliefs"], (plain + mirrored) / 2)


# Settings


def test_each_target_has_a_loss_and_a_decoding_of_its_own() -> None:
    for target, losses in keypoints.LOSSES.items():
        task = Task(Config(target=target), Meta(skeleton=Skeleton(names=("a", "b"))))
        assert task.codec.kind == losses[0]
        assert getattr(task.codec, "decoding", None) == next(iter(keypoints.DECODINGS[target]), None)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (
            ["task.target=coordinates", "task.loss=cross_entropy"],
            "loss = 'cross_entropy' does not go with target = 'coordinates'",
        ),
        (["task.loss=wing"], "loss = 'wing' does not go with target = 'heatmaps': cross_entropy, l2"),
        (
            ["task.target=simcc", "task.decoding=dark"],
            "decoding = 'dark' does not go with target = 'simcc': log_taylor, argmax",
        ),
        (["task.background=true"], "background = True goes with target = 'heatmaps' and loss = 'l2' only"),
        (["task.target=coordinates", "task.decoding=dark"], "decoding = 'dark' does not go with target = 'coordinates'"),
    ],
)
def test_what_does_not_go_together_is_named(pairs: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        small("keypoints").override(pairs)


@pytest.mark.parametrize(
    ("pairs", "kind", "hint"),
    [
        (["task.target=coordinates"], "unet", "regressor"),
        (["task.target=simcc", "network.kind=regressor"], "regressor", "unet"),
    ],
)
def test_maps_and_numbers_need_their_network(pairs: list[str], kind: str, hint: str) -> None:
    wanted = small("keypoints").override(pairs)
    task: Task = wanted.task.build(opened("keypoints").train.meta)
    with pytest.raises(UsageError, match=f"does not go with network.kind = '{kind}'") as raised:
        task.networks(wanted.network)
    assert raised.value.hint == f"set network.kind={hint}"


def test_the_settings_of_earlier_versions_mean_the_same() -> None:
    """As they stand in `recipe.json` and `config.json` of earlier runs."""
    meta = Meta(skeleton=Skeleton(names=("a", "b")))
    old = {"kind": "keypoints", "field": "keypoints", "sigma": 3.0, "background": False, "flip_test": False}
    maps = Task(Config.checked({**old, "target": "heatmaps", "loss": "cross_entropy"}), meta).codec
    assert isinstance(maps, GaussianHeatmapsCodec) and (maps.kind, maps.sigma, maps.decoding) == ("cross_entropy", 3, "log_fit")
    numbers = Task(Config.checked({**old, "target": "coordinates", "loss": "smooth_l1"}), meta).codec
    assert isinstance(numbers, CoordinatesCodec) and numbers.kind == "smooth_l1"
    assert find_recipe("imm_faces_coordinates").override(["task.loss=l1"]).task.loss == "l1"  # type: ignore[attr-defined]


# Bad input


def test_points_with_a_side_and_no_twin_are_not_mirrored() -> None:
    names = ("nose", "left_hand", "tongue")
    assert one_sided(Skeleton(names=names)) == ("left_hand",)
    assert one_sided(Skeleton(names=("l_hip", "r_hip", "head"), swap=(1, 0, 2))) == ()
    assert one_sided(Skeleton(names=("point_0", "lip", "bright_spot", "cleft"))) == ()
    assert one_sided(Skeleton(names=("RShoulder", "LED", "Lwri", "wingL"))) == ("RShoulder", "wingL")
    task = Task(Config(), Meta(skeleton=Skeleton(names=names)))
    view = small("keypoints").view
    with pytest.raises(UsageError, match=r"augment.flip mirrors pictures, but left_hand has a side and no twin") as raised:
        task.check(view, Augment(flip=0.5))
    assert raised.value.hint.startswith("set augment.flip=0")
    task.check(view, Augment())
    with pytest.raises(UsageError, match=r"task.flip_test mirrors pictures"):
        Task(Config(flip_test=True), task.meta).check(view, Augment())


@EACH
def test_a_batch_of_nothing_known_costs_nothing(target: str) -> None:
    task, networks = made(target)
    image = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    points, presence = torch.full((2, 1, 14, 2), torch.nan), torch.zeros(2, 1, 14, dtype=torch.uint8)
    for state in (Presence.UNKNOWN, Presence.VISIBLE):  # visible, but nowhere
        batch = task.encode({"image": image, "person": points, "person.presence": presence.fill_(state)})
        (loss,) = task.loss("train", networks, batch, task.forward(networks, batch)).values()
        gradients = torch.autograd.grad(loss, list(networks.parameters()))
        assert loss == 0 and all(gradient.eq(0).all() for gradient in gradients)


def test_a_wrong_number_of_points_is_named() -> None:
    task, _ = made("heatmaps")
    batch = {"image": torch.zeros(1, 3, 32, 32, dtype=torch.uint8), "person": torch.ones(1, 1, 13, 2)}
    with pytest.raises(DataError, match="13 points in 'person' where 14 have names"):
        task.encode({**batch, "person.presence": torch.ones(1, 1, 13, dtype=torch.uint8)})


def test_pckh_is_asked_for_by_a_setting_that_bears_on_no_weight() -> None:
    task = find_recipe("world_keypoints").override(["task.head=neck,head_top"]).task
    assert task.head == ("neck", "head_top") and task.answers_with("head")  # type: ignore[attr-defined]
    made: Any = task.build(Meta(skeleton=LSP14))
    assert "head" in made.norms and next(iter(made.norms)) == "bbox"
    with pytest.raises(UsageError, match="no point 'hed'"):
        find_recipe("world_keypoints").override(["task.head=neck,hed"]).task.build(Meta(skeleton=LSP14))
