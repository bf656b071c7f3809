"""The parts of a step: learning rate, updates, averages, freezing, accumulation, precision, and what stops a run."""

import json
import math
import weakref
from typing import ClassVar

import engine_runs
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import nn

from pixelwise.engine import distributed, optimizers, precision
from pixelwise.engine.checkpoint import folder_of, is_whole, saved
from pixelwise.engine.ema import Ema
from pixelwise.engine.guard import first_not_finite
from pixelwise.engine.trainer import only
from pixelwise.errors import TrainingError, UsageError
from pixelwise.training import Optimizer, Schedule, Training


def weights(runner):
    return {name: tensor.clone() for name, tensor in runner.networks.state_dict().items()}


def stepped(folder, task, steps=1, **settings):
    """Return a trainer after its first steps."""
    runner = engine_runs.trainer(folder, task, **settings)
    for batch in runner.batches(0, steps):
        runner._train(batch)
    return runner


# Learning rate


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Schedule(), [1, 1, 1, 1, 1]),
        (Schedule(warmup_steps=2), [1 / 2, 1, 1, 1, 1]),
        (Schedule(kind="linear"), [1, 4 / 5, 3 / 5, 2 / 5, 1 / 5]),
        (Schedule(kind="linear", hold=0.4), [1, 1, 1, 2 / 3, 1 / 3]),
        (Schedule(kind="linear", warmup_steps=3), [1 / 3, 2 / 3, 1, 1, 1 / 2]),
        (Schedule(kind="linear", hold=1.0), [1, 1, 1, 1, 1]),
        (Schedule(kind="cosine", hold=0.2), [1, 1, (2 + math.sqrt(2)) / 4, 1 / 2, (2 - math.sqrt(2)) / 4]),
    ],
)
def test_schedules_by_hand(schedule, expected):
    assert [optimizers.factor(schedule, step, 5) for step in range(5)] == pytest.approx(expected, abs=1e-12)


def test_the_logged_rate_is_the_schedule_and_is_what_the_optimizer_used(tmp_path):
    schedule, sgd = Schedule(kind="linear"), Optimizer(kind="sgd", lr=0.5, momentum=0.0)
    runner = engine_runs.trainer(tmp_path, engine_runs.Supervised(), steps=4, optimizer=sgd, schedule=schedule)
    runner.run()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["lr"] for line in lines] == pytest.approx([0.5, 0.375, 0.25, 0.125])
    assert runner.optimizers["train"].param_groups[0]["lr"] == pytest.approx(0.125)


# Updates


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_fused_adam_is_the_formula_of_the_paper(kind):
    """Kingma and Ba 2015, algorithm 1; Loshchilov and Hutter 2019, algorithm 2 for the decoupled decay."""
    parameter = nn.Parameter(torch.tensor([1.0, -2.0]))
    settings = Optimizer(kind=kind, lr=0.1, betas=(0.5, 0.9), weight_decay=0.3)
    optimizer = optimizers.build(settings, [parameter])
    weight, m, v = [1.0, -2.0], [0.0, 0.0], [0.0, 0.0]
    for t, gradients in enumerate(([0.5, -0.25], [1.0, 0.125], [-2.0, 0.5]), 1):
        parameter.grad = torch.tensor(gradients)
        optimizer.step()
        for i, g in enumerate(gradients):
            if kind == "adam":
                g += 0.3 * weight[i]
            else:
                weight[i] *= 1 - 0.1 * 0.3
            m[i], v[i] = 0.5 * m[i] + 0.5 * g, 0.9 * v[i] + 0.1 * g * g
            weight[i] -= 0.1 * (m[i] / (1 - 0.5**t)) / (math.sqrt(v[i] / (1 - 0.9**t)) + 1e-8)
    assert parameter.tolist() == pytest.approx(weight, abs=1e-6)
    assert optimizer.defaults["fused"]


def test_fused_sgd_by_hand():
    parameter = nn.Parameter(torch.tensor([1.0]))
    optimizer = optimizers.build(Optimizer(kind="sgd", lr=0.5, momentum=0.5), [parameter])
    for gradient in (1.0, 2.0):  # velocities 1 and 0.5 + 2
        parameter.grad = torch.tensor([gradient])
        optimizer.step()
    assert parameter.item() == 1 - 0.5 * 1 - 0.5 * 2.5


def test_what_is_frozen_is_not_optimised():
    layer = nn.Linear(2, 2)
    layer.bias.requires_grad_(False)
    assert optimizers.build(Optimizer(), layer.parameters()).param_groups[0]["params"] == [layer.weight]


def test_clipping_scales_the_whole_gradient(tmp_path):
    sgd = Optimizer(kind="sgd", lr=1.0, momentum=0.0)
    start = weights(engine_runs.trainer(tmp_path, engine_runs.Supervised()))
    free, clipped = (
        weights(stepped(tmp_path, engine_runs.Supervised(), optimizer=sgd, clip_norm=clip)) for clip in (None, 0.01)
    )
    gradient = torch.cat([(start[n] - free[n]).flatten() for n in start])
    moved = torch.cat([(start[n] - clipped[n]).flatten() for n in start])
    assert gradient.norm() > 0.1
    torch.testing.assert_close(moved, gradient * 0.01 / gradient.norm(), atol=1e-6, rtol=0)


# Averages


def test_ema_by_hand():
    network = nn.Module()
    network.weight, network.count = nn.Parameter(torch.tensor([0.0])), nn.Buffer(torch.tensor(0))
    networks = nn.ModuleDict({"network": network})
    ema = Ema(dict(networks.items()), 0.15)
    for step, weight in enumerate([10.0, 20.0]):
        network.weight.data.fill_(weight)
        network.count += 1
        ema.update(networks, step)
    first = 0.1 * 0 + 0.9 * 10  # min(0.15, 1 / 10)
    second = 0.15 * first + 0.85 * 20  # min(0.15, 2 / 11)
    assert ema.networks["network"].weight.item() == pytest.approx(second, abs=1e-6)
    assert ema.networks["network"].count.item() == 2
    assert not ema.networks["network"].weight.requires_grad


def test_only_deployed_networks_are_averaged_and_evaluated(tmp_path):
    runner = engine_runs.trainer(tmp_path, engine_runs.GAN(noisy=True), ema=0.5, steps=1)
    assert list(runner.ema.networks) == ["generator"]
    seen = []

    def evaluate(networks):
        seen.append(networks)
        assert not any(module.training for module in networks["generator"].modules())
        assert not torch.is_grad_enabled()
        return {"psnr": 1.0}

    runner.run(evaluate)
    assert [list(networks) for networks in seen] == [["generator"]]
    assert seen[0]["generator"] is runner.ema.networks["generator"]


def test_without_average_the_trained_networks_are_evaluated_and_trained_on(tmp_path):
    runner = engine_runs.trainer(tmp_path, engine_runs.Supervised(noisy=True), steps=1)
    network = runner.networks["network"]
    runner.run(lambda networks: {"trained": float(networks["network"] is network), "training": float(network.training)})
    assert runner.best.metrics == {"trained": 1.0, "training": 0.0}
    assert all(module.training for module in network.modules())


# Phases


def test_only_lets_gradients_through_and_gathers_none():
    networks = nn.ModuleDict({"first": nn.Linear(2, 2), "second": nn.Linear(2, 2)})
    networks["first"].bias.requires_grad_(False)
    hidden = networks["first"](torch.ones(1, 2))  # before the freeze, as the shared forward pass
    with only(networks, ["first"]):
        networks["second"](hidden).sum().backward()
    assert networks["first"].weight.grad.abs().sum() > 0
    assert networks["first"].bias.grad is None
    assert all(p.grad is None for p in networks["second"].parameters())
    assert [p.requires_grad for p in networks.parameters()] == [True, False, True, True]


def test_only_restores_after_an_error():
    networks = nn.ModuleDict({"first": nn.Linear(2, 2)})
    with pytest.raises(ZeroDivisionError), only(networks, []):
        assert not networks["first"].weight.requires_grad
        _ = 1 / 0
    assert networks["first"].weight.requires_grad


class CountingGAN(engine_runs.GAN):
    """Counts forward passes, and notes the discriminator's weight that each phase sees."""

    def __init__(self, simultaneous=False):
        super().__init__()
        self.simultaneous, self.forwards, self.seen = simultaneous, 0, {}

    def forward(self, networks, batch):
        self.forwards += 1
        return super().forward(networks, batch)

    def loss(self, phase, networks, batch, outputs):
        self.seen[phase] = networks["discriminator"][0].weight.detach().clone()
        return super().loss(phase, networks, batch, outputs)


@pytest.mark.parametrize("simultaneous", [False, True])
def test_phases_share_one_forward_pass_and_update_in_order(tmp_path, simultaneous):
    task = CountingGAN(simultaneous)
    start = weights(engine_runs.trainer(tmp_path, task))
    runner = stepped(tmp_path, task)
    assert task.forwards == 1
    assert torch.equal(task.seen["discriminator"], task.seen["generator"]) == simultaneous
    assert torch.equal(task.seen["discriminator"], start["discriminator.0.weight"])
    assert all(not torch.equal(start[name], tensor) for name, tensor in weights(runner).items())


def test_a_phase_gathers_nothing_in_the_networks_of_another(tmp_path):
    """After the step, the discriminator holds the gradient of its own phase, and nothing of the generator's."""
    sgd = Optimizer(kind="sgd", lr=0.1, momentum=0.0)
    start = weights(engine_runs.trainer(tmp_path, engine_runs.GAN()))
    runner = stepped(tmp_path, engine_runs.GAN(), optimizer=sgd)
    for name, parameter in runner.networks["discriminator"].named_parameters():
        moved = start[f"discriminator.{name}"] - parameter
        torch.testing.assert_close(moved, 0.1 * parameter.grad, atol=1e-6, rtol=0)


def test_a_step_of_each_network_is_that_of_plain_torch(tmp_path):
    """The whole GAN step against one written out by hand, without phases or freezing."""
    task, sgd = engine_runs.GAN(), Optimizer(kind="sgd", lr=0.1, momentum=0.0)
    runner = stepped(tmp_path, task, optimizer=sgd)
    plain = engine_runs.trainer(tmp_path, task).networks
    batch = task.encode(next(engine_runs.batches(4)(0, 1)))
    for phase in task.phases:
        plain.zero_grad()
        sum(task.loss(phase.name, plain, batch, task.forward(plain, batch)).values()).backward()
        with torch.no_grad():
            for parameter in plain[phase.networks[0]].parameters():
                parameter -= 0.1 * parameter.grad
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(runner.networks.state_dict()[name], tensor, atol=1e-7, rtol=0)


# Accumulation


@pytest.mark.parametrize("task", [engine_runs.Supervised(), engine_runs.GAN()])
def test_accumulation_equals_the_large_batch(tmp_path, task):
    sgd = Optimizer(kind="sgd", lr=0.1)
    settings = {"steps": 3, "batch_size": 8, "optimizer": sgd, "clip_norm": 0.5}
    large = stepped(tmp_path, task, **settings)
    small = stepped(tmp_path, task, accumulate=4, **settings)
    for name, tensor in weights(large).items():
        torch.testing.assert_close(small.networks.state_dict()[name], tensor, atol=1e-6, rtol=0)
    first, second = (r._train(next(r.batches(3, 4))) for r in (large, small))
    assert second == pytest.approx(first, abs=1e-6)


def test_one_micro_batch_is_in_memory_at_a_time(tmp_path):
    class Watched(engine_runs.Supervised):
        answers: ClassVar = []

        def forward(self, networks, batch):
            assert not any(answer() is not None for answer in self.answers)
            outputs = super().forward(networks, batch)
            self.answers.append(weakref.ref(outputs["answer"]))
            return outputs

    stepped(tmp_path, Watched(), batch_size=4, accumulate=4)
    assert len(Watched.answers) == 4


def test_unequal_micro_batches_are_refused(tmp_path):
    with pytest.raises(ValidationError, match="cannot be split into 3 equal"):
        Training(batch_size=8, accumulate=3)


@pytest.mark.parametrize(("world", "accumulate"), [(3, 1), (2, 4)])
def test_a_batch_that_processes_cannot_share_equally_is_refused(tmp_path, monkeypatch, world, accumulate):
    monkeypatch.setattr(distributed, "place", lambda: distributed.Place(0, world))
    with pytest.raises(UsageError, match=f"{world} processes x {accumulate} micro-batches"):
        engine_runs.trainer(tmp_path, engine_runs.Supervised(), batch_size=4, accumulate=accumulate, feed=iter)


# Precision


@pytest.mark.parametrize(("fast", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_is_bfloat16_only_where_the_hardware_has_it(monkeypatch, fast, expected):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: fast)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert precision.resolve("auto", engine_runs.CPU) == expected
    assert precision.resolve("float32", engine_runs.CPU) == torch.float32
    assert precision.resolve("bfloat16", engine_runs.CPU) == torch.bfloat16


class NotingTask(engine_runs.Supervised):
    def forward(self, networks, batch):
        outputs = super().forward(networks, batch)
        self.dtypes = {"input": batch["a"].dtype, "answer": outputs["answer"].dtype}
        return outputs


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_autocast_reaches_the_networks_and_spares_the_weights(tmp_path, name):
    task = NotingTask()
    runner = stepped(tmp_path, task, precision=name)
    assert task.dtypes == {"input": torch.float32, "answer": getattr(torch, name)}
    assert all(p.dtype == torch.float32 for p in runner.networks.parameters())


def test_bfloat16_follows_float32(tmp_path):
    """2^-8 relative rounding per operation: after 20 steps the loss agrees to a few percent, and has fallen."""
    exact, mixed = (
        engine_runs.trainer(tmp_path, engine_runs.Supervised(), precision=name, steps=21) for name in ("float32", "bfloat16")
    )
    first, *_, last = [exact._train(batch)["l2"] for batch in exact.batches(0, 20)]
    *_, rounded = [mixed._train(batch)["l2"] for batch in mixed.batches(0, 20)]
    assert last < 0.6 * first
    assert rounded == pytest.approx(last, rel=0.03)
    assert rounded != last


def test_arithmetic_is_put_back():
    assert not torch.are_deterministic_algorithms_enabled()
    with precision.arithmetic(Training(deterministic=True)):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.utils.deterministic.fill_uninitialized_memory
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory


# Randomness


def test_a_step_draws_the_same_whatever_was_drawn_before(tmp_path):
    def losses(disturb):
        runner = engine_runs.trainer(tmp_path, engine_runs.GAN(noisy=True))
        found = []
        for batch in runner.batches(0, 2):
            torch.rand(disturb)
            found.append(runner._train(batch))
        return found

    assert losses(0) == losses(7)


def test_each_step_draws_anew(tmp_path):
    runner = engine_runs.trainer(tmp_path, engine_runs.Supervised())
    drawn = []
    for runner.step in range(3):
        runner._seed()
        drawn.append(torch.rand(()).item())
    assert len(set(drawn)) == 3


# What stops a run


class Log(nn.Module):
    def forward(self, x):
        return x.log()


class Broken(engine_runs.Supervised):
    """The logarithm of something negative in a layer, or the root of nothing in the loss."""

    def __init__(self, at):
        super().__init__()
        self.at = at

    def networks(self):
        layers = nn.ModuleDict({"network": nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Conv2d(4, 3, 3))})
        if self.at == "layer":
            layers["network"].insert(2, Log())
        return layers

    def loss(self, phase, networks, batch, outputs):
        error = (outputs["answer"] - batch["b"][..., 2:-2, 2:-2]).square()
        return {"l2": error.mean(), "root": (error * 0).sqrt().mean() if self.at == "loss" else error.sum() * 0}


def test_a_loss_that_is_not_finite_names_the_layer_and_saves_all(tmp_path):
    runner = engine_runs.trainer(tmp_path, Broken("layer"))
    before = weights(runner)
    with pytest.raises(TrainingError) as caught:
        runner.run()
    assert str(caught.value) == (
        "step 1, phase train: loss or gradient is not finite (l2 nan, root nan); first: the output of network.2 (Log)"
    )
    assert caught.value.hint == f"lower optimizer.lr (now 0.01), or see batch and state in {tmp_path / 'crash'}"
    assert is_whole(tmp_path / "crash")
    kept = load_file(tmp_path / "crash" / "networks.safetensors")
    assert all(torch.equal(kept[name], tensor) for name, tensor in before.items())
    batch = next(engine_runs.batches(4)(0, 1))
    found = load_file(tmp_path / "crash" / "batch-0.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in batch.items())


def test_a_gradient_that_is_not_finite_is_found_though_the_loss_is(tmp_path):
    runner = engine_runs.trainer(tmp_path, Broken("loss"))
    with pytest.raises(TrainingError, match=r"root 0\); first: the gradient at the output of network.2 \(Conv2d\)"):
        runner.run()
    assert runner.step == 0


def test_the_guard_names_inputs_and_single_parameters_and_else_nothing():
    network = nn.ModuleDict({"n": nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))})

    def loss_of(value):
        return lambda: network["n"](torch.tensor([[value]])).sum()

    assert first_not_finite(network, loss_of(1.0)) is None
    assert first_not_finite(network, loss_of(math.inf)) == "the input of n.0 (Linear)"
    bias = network["n"][0].bias
    assert first_not_finite(network, lambda: (bias * 0).sqrt().sum()) == "the gradient of n.0.bias"
    assert all(p.grad is None for p in network.parameters())
    assert not network["n"][0]._forward_hooks


def test_a_crash_in_a_micro_batch_is_found(tmp_path):
    runner = engine_runs.trainer(tmp_path, Broken("layer"), accumulate=2)
    with pytest.raises(TrainingError, match=r"the output of network\.2"):
        runner.run()


# The run


def test_best_and_newest_states_are_kept_and_the_best_returned(tmp_path):
    answers = iter([3.0, 1.0, 2.0, 4.0, 5.0, 6.0])
    runner = engine_runs.trainer(tmp_path, engine_runs.Supervised(), evaluate_every=1, checkpoint_every=1)
    best = runner.run(lambda networks: {"mean": next(answers)}, engine_runs.smaller)
    assert best == folder_of(tmp_path, 2)
    assert [int(folder.name) for folder in saved(tmp_path)] == [2, 5, 6]
    assert runner.best == (2, {"mean": 1.0})


def test_the_last_step_is_evaluated_and_saved(tmp_path):
    runner = engine_runs.trainer(tmp_path, engine_runs.Supervised(), steps=5, evaluate_every=4, checkpoint_every=4)
    steps = []
    assert runner.run(lambda networks: steps.append(runner.step) or {"x": 0.0}) == folder_of(tmp_path, 5)
    assert steps == [4, 5]


def test_compile_is_asked_of_every_network(tmp_path, monkeypatch):
    compiled = []

    def compile_(network):
        compiled.append(network)

    monkeypatch.setattr(nn.Module, "compile", compile_)
    runner = engine_runs.trainer(tmp_path, engine_runs.GAN(), compile=True)
    assert compiled == list(runner.networks.values())
    engine_runs.trainer(tmp_path, engine_runs.GAN())
    assert len(compiled) == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_compiled_networks_train_alike(tmp_path):
    plain, compiled = (stepped(tmp_path, engine_runs.GAN(), steps=2, compile=on) for on in (False, True))
    for name, tensor in weights(plain).items():
        torch.testing.assert_close(compiled.networks.state_dict()[name], tensor, atol=1e-3, rtol=0)
