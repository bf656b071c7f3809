"""CycleGAN: a step equals the paper's equations, the pool is a fair memory, and one folder answers both ways."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from engine_runs import CPU
from rich.console import Console
from test_tasks import opened, small, untrained
from torch import Tensor, nn

from pixelwise.data.dataset import Meta
from pixelwise.engine.progress import Progress
from pixelwise.engine.trainer import Trainer
from pixelwise.errors import UsageError
from pixelwise.metrics.unpaired import UnpairedMetrics
from pixelwise.model import load
from pixelwise.nn.image_pool import ImagePool
from pixelwise.nn.networks import patchgan, residual
from pixelwise.nn.together import together
from pixelwise.tasks.cycle_translation import Config, Task
from pixelwise.training import Optimizer, Schedule, Training

LR, BETAS = 2e-4, (0.5, 0.999)


class Adam:
    """Algorithm 1 of Kingma and Ba 2015."""

    def __init__(self, *networks: nn.Module) -> None:
        self.parameters = [p for network in networks for p in network.parameters()]
        self.first = [torch.zeros_like(p) for p in self.parameters]
        self.second = [torch.zeros_like(p) for p in self.parameters]
        self.step = 0

    def minimise(self, loss: Tensor) -> None:
        self.step += 1
        gradients = torch.autograd.grad(loss, self.parameters)
        for i, (parameter, gradient) in enumerate(zip(self.parameters, gradients, strict=True)):
            self.first[i] = BETAS[0] * self.first[i] + (1 - BETAS[0]) * gradient
            self.second[i] = BETAS[1] * self.second[i] + (1 - BETAS[1]) * gradient**2
            mean, square = (m / (1 - b**self.step) for m, b in zip((self.first[i], self.second[i]), BETAS, strict=True))
            parameter.data -= LR * mean / (square.sqrt() + 1e-8)


class Paper:
    """Zhu et al. 2017: equation 3 with least squares (section 4), lambda 10; the identity loss of section 5.2, half as much."""

    def __init__(self, networks: nn.ModuleDict) -> None:
        self.g, self.f = networks["a_to_b"], networks["b_to_a"]
        self.d_a, self.d_b = networks["discriminator_a"], networks["discriminator_b"]
        self.painters, self.judges = Adam(self.g, self.f), Adam(self.d_a, self.d_b)

    def step(self, a: Tensor, b: Tensor) -> dict[str, float]:
        g, f, d_a, d_b = self.g, self.f, self.d_a, self.d_b
        fake_b, fake_a = g(a), f(b)
        losses = {
            "adversarial_b": ((d_b(fake_b) - 1) ** 2).mean(),
            "adversarial_a": ((d_a(fake_a) - 1) ** 2).mean(),
            "cycle_a": 10 * (f(fake_b) - a).abs().mean(),
            "cycle_b": 10 * (g(fake_a) - b).abs().mean(),
            "identity_b": 5 * (g(b) - b).abs().mean(),
            "identity_a": 5 * (f(a) - a).abs().mean(),
        }
        self.painters.minimise(sum(losses.values()))
        fake_a, fake_b = fake_a.detach(), fake_b.detach()
        caught = {
            "discriminator_a": (((d_a(a) - 1) ** 2).mean() + (d_a(fake_a) ** 2).mean()) / 2,
            "discriminator_b": (((d_b(b) - 1) ** 2).mean() + (d_b(fake_b) ** 2).mean()) / 2,
        }
        self.judges.minimise(sum(caught.values()))
        return {name: float(loss.detach()) for name, loss in (losses | caught).items()}


def tiny(pool: int = 50) -> tuple[Task, nn.ModuleDict]:
    """Networks in float64 that are far enough from N(0, 0.02) for the losses to differ."""
    torch.manual_seed(0)
    task = Task(Config(discriminator=patchgan.Config(width=4, layers=1, norm="instance"), pool=pool), Meta())
    networks = task.networks(residual.Config(width=4, blocks=1, activation="tanh")).double()
    for parameter in networks.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return task, networks


def pictures(step: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(step)
    return {side: torch.rand(2, 3, 16, 16, dtype=torch.float64, generator=draw) for side in ("a", "b")}


def trainer_of(task: Task, networks: nn.ModuleDict, run: Path, steps: int) -> Trainer:
    return Trainer(
        task,
        networks,
        Training(steps=steps, batch_size=2, precision="float32", threads=1),
        Optimizer(lr=LR, betas=BETAS),
        Schedule(),
        run,
        lambda first, last: map(pictures, range(first, last)),
        device=CPU,
        progress=Progress("tiny", steps, console=Console(quiet=True)),
    )


def test_two_steps_equal_the_equations_of_the_paper(tmp_path: Path) -> None:
    """Losses and weights in float64, with the order of the updates; in the second step the moments of Adam matter too."""
    task, networks = tiny()
    paper = Paper(copied := copy.deepcopy(networks))
    trainer = trainer_of(task, networks, tmp_path, 2)
    for step in range(2):
        batch = pictures(step)
        expected = paper.step(batch["a"] * 2 - 1, batch["b"] * 2 - 1)
        assert trainer._train(batch) == pytest.approx(expected, abs=1e-8)
        for name, parameter in copied.named_parameters():
            torch.testing.assert_close(networks.get_parameter(name), parameter, atol=1e-8, rtol=0)


def test_a_run_that_was_stopped_ends_with_the_bits_of_one_that_was_not(tmp_path: Path) -> None:
    """With a full pool, whose older pictures are shown again."""
    whole = trainer_of(*tiny(pool=3), tmp_path / "whole", 8)
    whole.run()
    half = trainer_of(*tiny(pool=3), tmp_path / "half", 4)
    half.run()
    again = trainer_of(*tiny(pool=3), tmp_path / "half", 8)
    assert again.resume() == 4 and again.networks["pool_a"].images.shape == (3, 3, 16, 16)
    again.run()
    ours, theirs = again.networks.state_dict(), whole.networks.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not torch.equal(whole.networks["pool_a"].images, half.networks["pool_a"].images)


def shown(pool: ImagePool, numbers: Sequence[int]) -> list[int]:
    return [int(pool.exchange(torch.tensor(float(n)).reshape(1, 1, 1, 1))) for n in numbers]


def test_a_pool_shows_every_picture_once_and_an_older_one_half_the_time() -> None:
    torch.manual_seed(0)
    pool = ImagePool(5)
    seen = shown(pool, range(400))
    assert seen[:5] == [0, 1, 2, 3, 4]  # as it is filled
    later = seen[5:]
    older = [n for n, given in zip(later, range(5, 400), strict=True) if n != given]
    assert 160 < len(older) < 235  # 197.5 expected; standard deviation 9.9
    assert all(n < given for n, given in zip(later, range(5, 400), strict=True) if n != given)
    assert sorted(later + [int(n) for n in pool.images.flatten()]) == list(range(400))
    assert shown(ImagePool(0), range(9)) == list(range(9))


def test_a_pool_goes_on_from_its_state_as_if_it_had_not_been_stopped() -> None:
    torch.manual_seed(0)
    pool, again = ImagePool(4), ImagePool(4)
    shown(pool, range(20))
    again.load_state_dict(copy.deepcopy(pool.state_dict()))
    ours = []
    for each in (pool, again):
        torch.manual_seed(1)
        ours.append(shown(each, range(20, 60)))
    assert ours[0] == ours[1] and min(ours[0]) < 20
    assert torch.equal(pool.images, again.images)


def test_one_pass_over_both_pictures_is_two_passes_but_for_batch_norm() -> None:
    passes = []
    images = [torch.rand(2, 3, 8, 8, dtype=torch.float64) for _ in range(2)]
    for norm, expected in (("instance", 1), ("group", 1), ("batch", 2)):
        torch.manual_seed(0)
        network = residual.Config(width=4, blocks=1, norm=norm).build(3, 3).double()
        apart = [copy.deepcopy(network)(image) for image in images]
        network.register_forward_hook(lambda *_: passes.append(1))
        passes.clear()
        answers = together(network, *images)
        assert len(passes) == expected
        for ours, theirs in zip(answers, apart, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)


def test_one_folder_answers_both_ways(tmp_path: Path) -> None:
    model, sample = untrained("cycle_translation"), opened("cycle_translation").val.sample(0, ("a", "b"))
    model.save(tmp_path, sample, "")
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    seen = model.task.codec.encode(torch.from_numpy(pixels).permute(2, 0, 1))[None]
    answers = {}
    for direction, name in (("AtoB", "a_to_b"), ("BtoA", "b_to_a")):
        answers[direction] = load(tmp_path, changes=[f"task.direction={direction}"])(pixels).pixels
        with torch.inference_mode():
            expected = model.task.codec.decode(model.networks[name](seen))[0]
        assert int((answers[direction].int() - expected.int()).abs().max()) <= 1
    assert not torch.equal(answers["AtoB"], answers["BtoA"])
    with pytest.raises(UsageError, match="cannot be changed"):
        load(tmp_path, changes=["task.cycle_weight=3"])


def test_without_a_known_truth_the_distance_of_the_sets_decides() -> None:
    recipe = small("cycle_translation")
    for settings, primary in (({}, "l1"), ({"direction": "BtoA"}, "kid_random"), ({"truth": False}, "kid_random")):
        task = recipe.task.model_copy(update=settings).build(Meta())
        assert (task.primary, "truth" in task.fields) == (primary, primary == "l1")


def test_the_distance_of_sets_is_that_of_the_definition() -> None:
    """Features 0 and 1 against 1 and 2 with k = (x y + 1)^3: within 1 and 27, between (1 + 1 + 8 + 27) / 4."""
    metrics = UnpairedMetrics("kid_of_means", lambda image: image.double().mean()[None])
    for ours, theirs in ((0, 1), (1, 2)):
        metrics.update(*(torch.full((3, 12, 12), value, dtype=torch.uint8) for value in (ours, theirs)))
    assert metrics.compute() == pytest.approx({"kid_of_means": 1 + 27 - 2 * 37 / 4}, abs=1e-12)
    assert UnpairedMetrics("kid", lambda image: image).compute() == {}


def test_without_the_cycle_nobody_goes_back() -> None:
    """Only the two adversarial losses are left, and the identity, a share of the cycle, is refused."""
    data = opened("cycle_translation")
    recipe = small("cycle_translation").override(["task.cycle_weight=0"])
    task = recipe.task.build(data.train.meta)
    networks = dict(task.networks(recipe.network).items())
    batch = {side: torch.rand(1, 3, 32, 32) * 2 - 1 for side in ("a", "b")}
    outputs = task.forward(networks, batch)
    assert not {"again_a", "again_b"} & set(outputs)
    losses = task.loss("generators", networks, batch, outputs)
    assert losses.keys() == {"adversarial_a", "adversarial_b"}
    with pytest.raises(UsageError, match=r"task\.identity would change nothing"):
        recipe.override(["task.identity=1"])
