"""Two players in a task: a step equals the paper's equations, and every setting of the game is played by or refused."""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from engine_runs import CPU
from rich.console import Console
from test_cli import Capture, fails
from test_cycle_translation import BETAS, LR, Adam
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.adversary import caught, deceived
from pixelwise.cli import main
from pixelwise.data.dataset import Meta
from pixelwise.engine.progress import Progress
from pixelwise.engine.trainer import Trainer
from pixelwise.errors import UsageError
from pixelwise.model import Model, load
from pixelwise.nn.networks import patchgan, pix2pix_unet, residual
from pixelwise.recipe import find_recipe
from pixelwise.run import Data, describe, proceed, start
from pixelwise.tasks import cycle_translation, generation
from pixelwise.tasks.translation import Config, Task
from pixelwise.training import Optimizer, Schedule, Training

JUDGE = patchgan.Config(width=4, layers=1)
ALONE = patchgan.Config(width=4, layers=1, norm="instance")
"""Judges each picture by itself."""


def tiny(dropout: float = 0.0, **settings: Any) -> tuple[Task, nn.ModuleDict]:
    """Networks in float64 that are far enough from N(0, 0.02) for the losses to differ."""
    torch.manual_seed(0)
    task = Task(Config(**{"discriminator": JUDGE, **settings}), Meta())
    network = pix2pix_unet.Config(width=4, depth=3, dropout=dropout, dropout_stages=(1,))
    networks = task.networks(network).double()
    for parameter in networks.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return task, networks


def pictures(step: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(step)
    return {side: torch.rand(2, 3, 16, 16, dtype=torch.float64, generator=draw) for side in ("a", "b")}


def trainer_of(task: Task, networks: nn.ModuleDict, run: Path, precision: Any = "float32") -> Trainer:
    return Trainer(
        task,
        networks,
        Training(steps=2, batch_size=2, precision=precision, threads=1),
        Optimizer(lr=LR, betas=BETAS),
        Schedule(),
        run,
        lambda first, last: map(pictures, range(first, last)),
        device=CPU,
        progress=Progress("tiny", 2, console=Console(quiet=True)),
    )


class Pix2Pix:
    """Isola et al. 2017: equation 1 or 2, its generator's part non-saturating, and equation 3 times lambda."""

    def __init__(self, networks: nn.ModuleDict, conditional: bool, halved: bool, weight: float) -> None:
        self.g, self.d = networks["generator"], networks["discriminator"]
        self.painter, self.judge = Adam(self.g), Adam(self.d)
        self.conditional, self.share, self.weight = conditional, 0.5 if halved else 1.0, weight

    def believed(self, a: Tensor, picture: Tensor) -> Tensor:
        probability: Tensor = torch.sigmoid(self.d(torch.cat([a, picture], 1) if self.conditional else picture))
        return probability

    def verdict(self, a: Tensor, b: Tensor, fake: Tensor) -> Tensor:
        real = self.believed(a, b).log().mean()
        return -self.share * (real + (1 - self.believed(a, fake.detach())).log().mean())

    def wish(self, a: Tensor, b: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        return -self.believed(a, fake).log().mean(), self.weight * (b - fake).abs().mean()

    def step(self, a: Tensor, b: Tensor, simultaneous: bool) -> dict[str, float]:
        fake, before = self.g(a), copy.deepcopy(self.d)
        caught = self.verdict(a, b, fake)
        self.judge.minimise(caught)
        after = self.d
        if simultaneous:  # the generator learns from the discriminator as it was
            self.d = before
        adversarial, l1 = self.wish(a, b, fake)
        self.painter.minimise(adversarial + l1)
        self.d = after
        named = {"discriminator": caught, "adversarial": adversarial} | ({"l1": l1} if self.weight else {})
        return {name: float(loss.detach()) for name, loss in named.items()}


@pytest.mark.parametrize("order", ["discriminator_first", "simultaneous"])
@pytest.mark.parametrize(
    ("objective", "halved"), [("l1+cgan", True), ("l1+cgan", False), ("l1+gan", True), ("cgan", True), ("gan", True)]
)
def test_two_steps_equal_the_equations_of_the_paper(objective: str, halved: bool, order: str, tmp_path: Path) -> None:
    """Losses and all weights in float64; in the second step the order and Adam's moments matter too."""
    task, networks = tiny(objective=objective, order=order, halved=halved)
    paper = Pix2Pix(copied := copy.deepcopy(networks), objective.endswith("cgan"), halved, 100.0 * ("l1" in objective))
    trainer = trainer_of(task, networks, tmp_path)
    start = copy.deepcopy(networks)
    for step in range(2):
        batch = pictures(step)
        expected = paper.step(batch["a"] * 2 - 1, batch["b"] * 2 - 1, order == "simultaneous")
        assert trainer._train(batch) == pytest.approx(expected, abs=1e-8)
        for name, parameter in copied.named_parameters():
            torch.testing.assert_close(networks.get_parameter(name), parameter, atol=1e-8, rtol=0)
    assert all((networks.get_parameter(n) - p).abs().max() > 1e-5 for n, p in start.named_parameters())


def losses_of(task: Task, networks: nn.ModuleDict, phase: str) -> dict[str, Tensor]:
    batch = task.encode(pictures(0))
    return task.loss(phase, networks, batch, task.forward(networks, batch))


def test_pixel_losses_alone_have_one_player() -> None:
    for objective, loss in (("l1", functional.l1_loss), ("l2", functional.mse_loss)):
        task, networks = tiny(objective=objective, l1_weight=3)
        assert list(networks) == ["generator"] and [phase.name for phase in task.phases] == ["generator"]
        batch = task.encode(pictures(0))
        expected = 3 * loss(networks["generator"](batch["source"]), batch["target"])
        assert {n: v.item() for n, v in losses_of(task, networks, "generator").items()} == {objective: expected.item()}


def test_the_gradient_penalty_is_applied() -> None:
    """The critic's loss is f - r, the penalty beside it reaches the critic's weights, and the condition is held fixed."""
    task, networks = tiny(adversarial="wasserstein", gradient_penalty=10, discriminator=ALONE)
    torch.manual_seed(7)
    losses = losses_of(task, networks, "discriminator")
    batch, critic = task.encode(pictures(0)), networks["discriminator"]
    a, real = batch["source"], batch["target"]
    fake = networks["generator"](a).detach()
    expected = critic(torch.cat([a, fake], 1)).mean() - critic(torch.cat([a, real], 1)).mean()
    torch.testing.assert_close(losses["discriminator"], expected, atol=1e-12, rtol=0)
    torch.manual_seed(7)
    share = torch.rand(2, 1, 1, 1, dtype=torch.float64)
    between = (share * real + (1 - share) * fake).requires_grad_()
    values = critic(torch.cat([a, between], 1)).mean((1, 2, 3))
    (slope,) = torch.autograd.grad(values.sum(), between)
    penalty = 10 * ((slope.flatten(1).norm(dim=1) - 1) ** 2).mean()
    torch.testing.assert_close(losses["gradient_penalty"].detach(), penalty, atol=1e-10, rtol=0)
    losses["gradient_penalty"].backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for n, p in critic.named_parameters() if n.endswith("weight"))


def test_r1_is_applied() -> None:
    task, networks = tiny(adversarial="hinge", r1=10, discriminator=ALONE, objective="l1+gan")
    losses = losses_of(task, networks, "discriminator")
    real = task.encode(pictures(0))["target"].requires_grad_()
    (slope,) = torch.autograd.grad(networks["discriminator"](real).mean((1, 2, 3)).sum(), real)
    torch.testing.assert_close(losses["r1"].detach(), 5 * slope.square().sum((1, 2, 3)).mean(), atol=1e-10, rtol=0)


@pytest.mark.parametrize("scales", [1, 2])
def test_feature_matching_and_several_discriminators(scales: int) -> None:
    judge = patchgan.Config(width=4, layers=1, norm="instance", scales=scales)
    task, networks = tiny(adversarial="lsgan", feature_matching=10, discriminator=judge)
    losses = losses_of(task, networks, "generator")
    batch = task.encode(pictures(0))
    fake = networks["generator"](batch["source"])
    seen = [networks["discriminator"](torch.cat([batch["source"], x], 1), every=True) for x in (fake, batch["target"])]
    ours, theirs = seen if scales == 2 else ([seen[0]], [seen[1]])
    inside = sum((a - b).abs().mean() for x, y in zip(ours, theirs, strict=True) for a, b in zip(x[:-1], y[:-1], strict=True))
    torch.testing.assert_close(losses["feature_matching"], 10 * inside / scales, atol=1e-10, rtol=0)
    torch.testing.assert_close(losses["adversarial"], sum((x[-1] - 1).square().mean() for x in ours), atol=1e-10, rtol=0)


@pytest.mark.parametrize("sees", [None, torch.zeros(4, 1, 16, 16)])
def test_painted_pictures_are_changed_as_exactly_as_real_ones(sees: Tensor | None) -> None:
    """The same pictures, in bfloat16 where they are painted, look the same to the discriminator."""
    shown: list[Tensor] = []

    class Judge(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            shown.append(images)
            return images.mean((1, 2, 3), keepdim=True)

    config = Config(augmentation=("colour", "translation", "cutout"), discriminator=JUDGE)
    fake = (2 * torch.rand(4, 3, 16, 16) - 1).bfloat16()
    for loss in (
        lambda: caught(config, Judge(), None, fake.float(), fake, sees),
        lambda: deceived(config, Judge(), fake.float(), fake, sees),
    ):
        torch.manual_seed(3)
        loss()
    real, painted, wished = torch.cat(shown).chunk(3)
    assert {one.dtype for one in shown} == {torch.float32}
    assert torch.equal(real, painted) and torch.equal(real, wished)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("settings", "judge"),
    [
        ({"adversarial": "wasserstein", "gradient_penalty": 10}, {"norm": "none", "spectral_norm": True, "scales": 2}),
        ({"adversarial": "hinge", "r1": 10, "feature_matching": 10, "pool": 2}, {"norm": "group", "scales": 2}),
        ({"adversarial": "minimax", "objective": "l2+gan", "r1": 1, "order": "simultaneous"}, {"norm": "instance"}),
    ],
)
def test_the_engine_plays_every_combination(
    settings: dict[str, Any], judge: dict[str, Any], precision: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    task = Task(Config(discriminator=patchgan.Config(width=4, layers=1, **judge), **settings), Meta())
    networks = task.networks(pix2pix_unet.Config(width=4, depth=3))
    before = {name: parameter.detach().clone() for name, parameter in networks.named_parameters()}
    trainer = trainer_of(task, networks, tmp_path, precision)
    for step in range(2):
        losses = trainer._train({name: picture.float() for name, picture in pictures(step).items()})
    named = {"gradient_penalty", "r1", "feature_matching"} & {name for name in settings if settings[name]}
    assert named <= set(losses) and all(np.isfinite(list(losses.values())))
    assert all(not torch.equal(before[n], p) for n, p in networks.named_parameters() if n.endswith("weight"))


def test_a_conditional_pool_keeps_pairs(tmp_path: Path) -> None:
    task, networks = tiny(pool=3)
    trainer = trainer_of(task, networks, tmp_path)
    trainer._train(pictures(0))
    kept = networks["pool"].images
    assert kept.shape == (2, 6, 16, 16)
    torch.testing.assert_close(kept[:, :3], pictures(0)["a"] * 2 - 1)


def test_cycle_translation_plays_by_the_same_settings() -> None:
    torch.manual_seed(0)
    config = cycle_translation.Config(discriminator=ALONE, adversarial="wasserstein", gradient_penalty=10, r1=1)
    task = cycle_translation.Task(config, Meta())
    networks = task.networks(residual.Config(width=4, blocks=1)).double()
    batch = task.encode(pictures(0))
    outputs = task.forward(networks, batch)
    judged = task.loss("discriminators", networks, batch, outputs)
    assert set(judged) == {f"{n}_{s}" for n in ("discriminator", "gradient_penalty", "r1") for s in "ab"}
    painted = task.loss("generators", networks, batch, outputs)
    assert set(painted) == {f"{n}_{s}" for n in ("cycle", "identity", "adversarial") for s in "ab"}


@pytest.mark.parametrize(
    ("config", "recipe", "why"),
    [
        (cycle_translation.Config, "world_day2night", "do not pair up"),
        (generation.Config, "world_generation", "no picture is the one that noise should become"),
    ],
)
def test_features_are_matched_with_the_true_picture_or_not_at_all(config: Any, recipe: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"feature_matching = 2, but .*{why}"):
        config(discriminator=ALONE, feature_matching=2)
    with pytest.raises(UsageError, match=why):
        find_recipe(recipe).override(["task.feature_matching=2"])


@pytest.mark.parametrize(
    ("pairs", "said", "hint"),
    [
        (["objective=l1", "adversarial=hinge"], "task.adversarial would change nothing", "no discriminator"),
        (["objective=l2", "discriminator.layers=3"], "task.discriminator.layers would change nothing", "l1+cgan has one"),
        (["objective=l1", "order=simultaneous"], "task.order would change nothing", "no discriminator"),
        (["objective=l1", "feature_matching=10"], "task.feature_matching would change nothing", "no discriminator"),
        (["objective=l1", "pool=50"], "task.pool would change nothing", "no discriminator"),
        (["objective=gan", "l1_weight=10"], "task.l1_weight would change nothing", "no pixel loss"),
        (["noise_seed=3"], "task.noise_seed would change nothing", "task.noise = 'none'"),
        (
            ["adversarial=wasserstein", "gradient_penalty=10", "discriminator.norm=instance", "halved=false"],
            "task.halved would change nothing",
            "never",
        ),
        (["adversarial=wasserstein"], "set gradient_penalty=10", ""),
        (["adversarial=wasserstein", "gradient_penalty=10"], "set discriminator.norm=instance", ""),
        (["r1=10"], "r1 wants a verdict on each picture by itself", ""),
        (["feature_matching=10", "discriminator.kind=stack"], "of kind patchgan only", ""),
    ],
)
def test_what_would_be_ignored_is_refused(pairs: list[str], said: str, hint: str) -> None:
    with pytest.raises(UsageError) as refused:
        find_recipe("world_translation").override([f"task.{pair}" for pair in pairs])
    assert said in str(refused.value) and hint in refused.value.hint


@pytest.mark.parametrize("game", [["adversarial=wasserstein", "gradient_penalty=10"], ["r1=1"]])
def test_penalties_are_not_compiled(game: list[str]) -> None:
    """AOT autograd of torch has no double backward: the first step would end in its RuntimeError."""
    pairs = ["compile=true", "task.discriminator.norm=none", *(f"task.{pair}" for pair in game)]
    with pytest.raises(UsageError, match=r"compile takes no gradients of gradients.*set compile=false"):
        find_recipe("world_translation").override(pairs)
    alone = find_recipe("world_translation").override(["task.discriminator.norm=none", "task.r1=1"])
    assert alone.override(["task.objective=l1", "compile=true"]).compile


def test_a_pixel_loss_alone_leaves_the_game_of_the_recipe_be() -> None:
    assert find_recipe("world_translation").override(["task.objective=l1"]).task.idle()["pool"]


def test_the_benchmark_counts_each_step_once() -> None:
    file = Path(__file__).parents[1] / "benchmarks" / "translation_step.py"
    found = importlib.util.spec_from_file_location("translation_step", file)
    assert found is not None and found.loader is not None
    benchmark = importlib.util.module_from_spec(found)
    found.loader.exec_module(benchmark)
    arguments = SimpleNamespace(what="pix2pix", width=1, threads=1)
    ours = benchmark.Ours(arguments, ["precision=float32", "network.depth=2"])
    for _ in range(2):
        ours.step(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32))
    assert ours.trainer.step == 2


def answers(model: Model, *settings: str) -> np.ndarray[Any, Any]:
    model.answer_with(settings)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    return np.asarray(model(pixels).pixels)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the engine with averaged weights."""
    pairs = ["data.scenes=12", "data.size=32x32", "view.size=32x32", "steps=3", "batch_size=2", "network.width=8", "ema=0.9"]
    pairs += ["network.depth=4", "network.dropout_stages=1,2", "task.discriminator.width=8", "task.discriminator.layers=1"]
    recipe = find_recipe("world_translation").override([*pairs, "precision=float32", "threads=1", "optimizer.lr=0.01"])
    data = Data.of(recipe)
    folder = start(data.settled(recipe), tmp_path_factory.mktemp("run") / "run")
    proceed(folder, data)
    return folder


def test_dropout_is_noise_by_choice_and_by_seed(trained: Path) -> None:
    model = load(trained)
    plain = answers(model)
    assert (answers(model) == plain).all()
    noisy = answers(model, "task.noise=dropout")
    assert (answers(model, "task.noise=dropout", "task.noise_seed=0") == noisy).all()
    other = answers(model, "task.noise=dropout", "task.noise_seed=1")
    assert (noisy != plain).any() and (other != noisy).any()
    assert (answers(model, "task.noise=none") == plain).all()


def test_tiles_of_a_picture_with_noise_are_never_called_exact(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is dropped depends on the tile that a pixel stands in."""
    monkeypatch.setattr("pixelwise.model.Tiling", lambda *_: SimpleNamespace(inexact=""))
    assert load(trained)._tiling.inexact == ""
    assert "for every tile" in load(trained, changes=["task.noise=dropout"])._tiling.inexact


def test_noise_is_alike_for_every_picture_of_a_batch_and_draws_nothing_else() -> None:
    task, networks = tiny(0.5, noise="dropout")
    networks.eval()
    picture = pictures(0)["a"][:1]
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    with torch.no_grad():
        image = task.respond(networks, {"source": torch.cat([picture, pictures(1)["a"][:1], picture])})["image"]
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(image[0], image[2]) and not any(module.training for module in networks.modules())


def test_noise_is_not_exported_but_the_model_is(tmp_path: Path, capsys: Capture) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    recipe = find_recipe("world_translation").override(["task.noise=dropout", "data.scenes=12", "data.size=32x32"])
    recipe = recipe.override(["network.width=4", "network.depth=3", "network.dropout_stages=1,2", "view.size=32x32"])
    data = Data.of(recipe)
    model = Model(describe(recipe, data), data.task, data.task.networks(recipe.network))
    model.save(tmp_path / "model", data.val.sample(0, data.task.fields), "")
    words = ["export", str(tmp_path / "model"), str(tmp_path / "model.onnx")]
    code, said, hint = fails(capsys, *words)
    assert code == 2 and "cannot be exported" in said and "task.noise=none" in hint
    assert main([*words, "task.noise=none"]) == 0 and (tmp_path / "model.onnx").is_file()


def test_a_network_without_dropout_has_no_noise() -> None:
    recipe = find_recipe("world_translation").override(["network.dropout=0", "task.noise=dropout"])
    with pytest.raises(UsageError, match="the network has none"):
        recipe.task.build(Meta()).networks(recipe.network)


def test_the_averaged_generator_is_the_one_that_answers(trained: Path) -> None:
    """After three steps the average is (1 - d) (weights) beside what was, d = 1/10, 2/11, 3/12: not the last weights."""
    from pixelwise.engine.checkpoint import State, newest

    found = newest(trained)
    assert found is not None
    state, model = State.load(found), load(trained)
    name = "up.0.0.weight"
    deployed = model.networks["generator"].state_dict()[name]
    assert torch.equal(deployed, state.ema[f"generator.{name}"])
    assert not torch.equal(deployed, state.networks[f"generator.{name}"])


def test_the_description_of_a_run_holds_the_game() -> None:
    recipe = find_recipe("world_translation").override(["task.adversarial=hinge", "task.objective=l2+gan"])
    described = describe(recipe, Data.of(recipe.override(["data.scenes=12", "data.size=32x32"])))
    assert described.task.model_dump()["adversarial"] == "hinge"


def test_the_presets_are_the_published_settings() -> None:
    torch_code, pytorch_code = find_recipe("pix2pix_2017"), find_recipe("cyclegan_pytorch")
    for preset in (torch_code, pytorch_code):
        assert (preset.optimizer.lr, preset.optimizer.betas, preset.batch_size, preset.precision) == (2e-4, BETAS, 1, "float32")
        assert (preset.view.load_size, preset.view.size, preset.augment.flip) == ((286, 286), (256, 256), 0.5)
    assert (torch_code.schedule.kind, pytorch_code.schedule.kind, pytorch_code.schedule.hold) == ("constant", "linear", 0.5)
    first, second = torch_code.task, pytorch_code.task
    assert isinstance(first, Config) and isinstance(second, cycle_translation.Config)
    assert (first.objective, first.l1_weight, first.adversarial, first.halved) == ("l1+cgan", 100, "vanilla", False)
    assert (first.order, first.noise, first.pool) == ("simultaneous", "dropout", 0)
    assert (second.adversarial, second.cycle_weight, second.identity, second.pool) == ("lsgan", 10, 0.5, 50)
    assert first.discriminator == patchgan.Config() and second.discriminator == patchgan.Config(norm="instance")
    generator = torch_code.network.model_copy(update={"width": 1}).build(3, 3)
    dropped = [module.p for module in generator.modules() if isinstance(module, nn.Dropout)]
    assert dropped == [0.5, 0.5, 0.5, 0, 0, 0, 0]
    assert pytorch_code.network == residual.Config(width=64, blocks=9, norm="instance", activation="tanh")
