"""What training keeps and what a run takes at its peak: by hand, against real runs to the byte, and against the system."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_runs import GAN, Supervised, batches, trainer
from test_networks import SMALL, build
from test_tasks import small
from torch import Tensor, nn

from pixelwise.engine import rehearsal
from pixelwise.engine.rehearsal import step_bytes, warning
from pixelwise.errors import DataError, ModelError
from pixelwise.memory import binary
from pixelwise.nn.memory import GIVE_BACK, Live, predicted, saved, saved_bytes
from pixelwise.nn.networks import stack
from pixelwise.nn.operations import Operation, Operations, faked
from pixelwise.nn.workspace import workspace
from pixelwise.run import train

MIB = 2**20
PICTURE, MAP = 2 * 3 * 8 * 8 * 4, 2 * 4 * 8 * 8 * 4  # bytes of floats (2, 3, 8, 8) and (2, 4, 8, 8)


def image(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


# What autograd keeps


def test_what_layers_keep_by_hand() -> None:
    """A convolution keeps its input, batch norm that and its means and deviations, ReLU its output; all of them once."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.Sigmoid())
    expected = {"0": PICTURE, "1": MAP + 2 * 4 * 4, "2": MAP, "4": MAP}
    assert saved(network, image(2, 3, 8, 8)) == saved_bytes(network, (2, 3, 8, 8)) == expected


@pytest.mark.parametrize(
    ("layer", "kept"),
    [
        (nn.ReLU(inplace=True), MAP),
        (nn.GELU(), MAP),
        (nn.MaxPool2d(2), MAP + MAP // 4 * 2),  # the input, and places as 64 bit numbers
        (nn.AvgPool2d(2), MAP),
        (nn.Dropout(0.5), MAP),  # the mask, scaled
        (nn.Dropout(0.0), 0),
        (nn.Upsample(scale_factor=2), 0),
        (nn.Identity(), 0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_one_layer_keeps(layer: nn.Module, kept: int) -> None:
    """Behind a convolution to 4 channels, which keeps the picture."""
    network = nn.Sequential(nn.Conv2d(3, 4, 1), layer).train()
    real = saved(network, image(2, 3, 8, 8))
    assert real == saved_bytes(network, (2, 3, 8, 8)) == {"0": PICTURE, **({"1": kept} if kept else {})}


def ten(*after: Callable[[], nn.Module]) -> nn.Module:
    layers = [(nn.Conv2d(before, 16, 3, padding=1), *(made() for made in after)) for before in (3, *[16] * 9)]
    return nn.Sequential(*itertools.chain(*layers))


def torchvision(name: str, **settings: Any) -> nn.Module:
    made: nn.Module = importlib.import_module("torchvision.models").get_model(name, weights=None, **settings)
    return made


REALLY = {
    "10 convolutions": (ten, 64, 4.59),
    "10 convolutions, batch norm, ReLU": (lambda: ten(lambda: nn.BatchNorm2d(16), nn.ReLU), 64, 10.09),
    "10 convolutions, GELU": (lambda: ten(nn.GELU), 64, 9.59),
    "resnet18": (lambda: torchvision("resnet18"), 224, 42.3),
    "resnet50": (lambda: torchvision("resnet50"), 224, 164.1),
    "mobilenet_v2": (lambda: torchvision("mobilenet_v2"), 224, 149.3),
    "fcn_resnet50": (lambda: torchvision("fcn_resnet50", weights_backbone=None), 224, 375.0),
}


@pytest.mark.parametrize("name", REALLY)
def test_what_was_measured_elsewhere(name: str) -> None:
    """MiB of batches of 2, measured with hooks on real runs by another program."""
    make, side, expected = REALLY[name]
    assert sum(saved_bytes(make(), (2, 3, side, side)).values()) / MIB == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("kind", SMALL)
def test_every_network_keeps_what_is_predicted(kind: str) -> None:
    """To the byte. In the depths of pix2pix, torch's `fold` keeps a larger block than its result needs."""
    network = build(kind, SMALL[kind][-1]).train()
    real, fake = saved(network, image(2, 3, 40, 56)), saved_bytes(network, (2, 3, 40, 56))
    deep = {layer for layer in real if kind == "pix2pix_unet" and layer.startswith("up.")}
    assert real.keys() == fake.keys() and all(real[layer] == fake[layer] for layer in real.keys() - deep)
    assert all(fake[layer] <= real[layer] <= 4 * fake[layer] for layer in deep)


class Both(nn.Module):
    """A dictionary of maps; what it computes besides is not needed, so its graph is not kept."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)

    def forward(self, picture: Tensor) -> dict[str, list[Tensor]]:
        torch.exp(self.second(picture))
        return {"answers": [self.first(picture).sigmoid(), self.first(picture)]}


def test_what_nobody_needs_is_not_kept() -> None:
    expected = {"first": 2 * 3 * 16 * 16 * 4, "": 2 * 4 * 14 * 14 * 4}
    assert saved(Both(), image(2, 3, 16, 16)) == saved_bytes(Both(), (2, 3, 16, 16)) == expected


def test_attention_keeps_what_is_predicted() -> None:
    network, shown = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).train(), image(2, 8, 16)
    real = saved(network, shown)
    with faked(network) as copy:
        assert saved(copy, torch.empty(shown.shape)) == real


def test_the_lecture() -> None:
    """200 channels at 400 x 400: 122.07 MiB per layer and picture, 238.4 GiB for 100 layers and 20 pictures."""
    network = stack.Config(width=200, depth=100).build(3, 2)
    kept = saved_bytes(network, (20, 3, 400, 400))
    assert kept.pop("layers.0.0") == 20 * 3 * 400 * 400 * 4  # the pictures
    assert len(kept) == 100 and set(kept.values()) == {20 * 128_000_000}
    assert binary(128_000_000) == "122.07 MiB" and binary(sum(kept.values())) == "238.42 GiB"
    assert predicted(network, (20, 3, 400, 400), train=True).bytes > 238.4 * 2**30


def test_training_that_is_impossible_is_an_error() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4))
    with pytest.raises(ModelError, match="in layer '1'"):
        saved_bytes(network, (1, 3, 4, 4))
    with pytest.raises(ModelError, match="does not take"):
        predicted(network, (1, 3, 2, 2))


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (3 * 2**20 // 2, "1.50 MiB"), (3 * 2**40, "3072.00 GiB")],
)
def test_amounts(size: int, text: str) -> None:
    assert binary(size) == text


# What is held at once


class Steps(nn.Module):
    """Four maps, of which at most three are held at once beside the picture."""

    def forward(self, picture: Tensor) -> Tensor:
        a = picture.exp()
        b = a.exp()
        c = a + b
        del a, b
        return c.exp().neg_()


def test_the_peak_of_an_evaluation_by_hand() -> None:
    one = 2 * 3 * 8 * 8 * 4
    peak = predicted(Steps(), (2, 3, 8, 8))
    assert (peak.bytes, peak.operation, peak.held) == (4 * one, "add", {"": 2 * one})


def test_the_peak_of_training_by_hand() -> None:
    """Weights and two moments, picture and answer; at the most the square's gradient, g * (2 * answer^1), step by step."""
    network = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Sigmoid())
    weight, maps, loss = 8 * 8 * 4, 100 * 8 * 4, 3 * 4
    peak = predicted(network, (1, 1, 100, 8))
    assert peak.bytes == weight + 3 * maps
    assert peak.held == {"0": weight + 2 * maps, "1": weight + 3 * maps, "": weight + 2 * maps}
    assert predicted(network, (1, 1, 100, 8), train=True).bytes == 3 * weight + maps + 5 * maps + loss


def test_real_tensors_are_held_as_long_as_those_without_values() -> None:
    network = build("unet", {"width": 4, "depth": 2}).train()
    shown = image(2, 3, 32, 32)
    with Live(network, [shown, *network.parameters(), *network.buffers()]) as real:
        answer = network(shown)
    with faked(network) as copy:
        fake = Live(copy, [*copy.parameters(), *copy.buffers()])
        fake.run((2, 3, 32, 32))
    assert real.peak == fake.peak and answer.shape == (2, 2, 32, 32)


def test_nothing_is_changed_and_no_memory_is_used() -> None:
    network = build("unet", {"width": 4, "depth": 2}).eval()
    before, random = {n: t.clone() for n, t in network.state_dict().items()}, torch.get_rng_state()
    assert predicted(network, (1, 3, 100_000, 100_000), train=True).bytes > 10**12
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in before.items())
    assert not network.training and torch.equal(random, torch.get_rng_state())
    assert all(weight.grad is None for weight in network.parameters())


# What convolutions take beside: MiB as measured forwards and backwards, each alone in a process.
CONVOLUTIONS = {
    "3x3": (nn.Conv2d(64, 64, 3, padding=1), (2, 64, 256, 256), 32.1, 63.8),
    "3x3, more channels": (nn.Conv2d(64, 128, 3, padding=1), (2, 64, 256, 256), 63.9, 95.6),
    "3x3, stride 2": (nn.Conv2d(64, 128, 3, stride=2, padding=1), (2, 64, 256, 256), 31.9, 63.6),
    "3x3, 24 channels are copied as 32": (nn.Conv2d(24, 24, 3, padding=1), (2, 24, 512, 512), 79.9, 127.9),
    "3x3, few outputs": (nn.Conv2d(64, 5, 3, padding=1), (2, 64, 256, 256), 37.2, 39.7),
    "depthwise": (nn.Conv2d(96, 96, 3, padding=1, groups=96), (2, 96, 256, 256), 47.9, 95.8),
    "3x3, many channels": (nn.Conv2d(512, 512, 3, padding=1), (4, 512, 64, 64), 40.8, 63.8),
    "7x7, large weights": (nn.Conv2d(512, 1024, 7), (2, 512, 32, 32), 101.8, 97.8),
    "transposed": (nn.ConvTranspose2d(128, 64, 4, 2, 1), (2, 128, 128, 128), 63.8, 47.8),
}


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_what_convolutions_take_beside(name: str) -> None:
    layer, shape, forwards, backwards = CONVOLUTIONS[name]
    found: dict[str, float] = {}

    class Watch(Operations):
        def seen(self, operation: Operation) -> None:
            found[operation.name] = workspace(operation) / MIB

    with faked(layer) as copy, Watch(copy):
        copy(torch.empty(shape, requires_grad=True)).sum().backward()
    assert found["convolution"] == pytest.approx(forwards, abs=1)
    assert found["convolution_backward"] == pytest.approx(backwards, abs=1)
    assert found["sum"] == 0


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")
def test_maps_that_lie_pixel_by_pixel_are_not_copied() -> None:
    network, shape = nn.Conv2d(64, 64, 3, padding=1), (2, 64, 256, 256)
    copied, read = (predicted(network, shape, layout=f).bytes / MIB for f in (torch.contiguous_format, torch.channels_last))
    assert 64 < read < 65 and copied > 96


CHILD = """
import json, sys, torch
from pixelwise.catalogue import Wanted, find
from pixelwise.nn.memory import measured, predicted
torch.set_num_threads(1)
for name, settings, shape, train in json.loads(sys.argv[1]):
    build = lambda: find(name, Wanted(settings=settings)).network
    print(predicted(build(), tuple(shape), train).bytes / measured(build, tuple(shape), train))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="this system does not tell the peak of a process")
def test_the_prediction_is_within_a_tenth_of_what_is_measured() -> None:
    cases = [
        ("unet", ["width=16", "depth=3"], (2, 3, 160, 160), False),
        ("unet", ["width=16", "depth=3"], (2, 3, 160, 160), True),
        ("unet", ["width=16", "depth=3", "upsample=transposed", "norm=group"], (1, 3, 160, 160), True),
        ("torchvision/resnet18", [], (4, 3, 128, 128), True),
    ]
    environment = {**os.environ, **GIVE_BACK, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", CHILD, json.dumps(cases)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ratios = dict(zip(map(str, cases), map(float, done.stdout.split()), strict=True))
    assert all(0.9 < ratio < 1.1 for ratio in ratios.values()), ratios


# The warning of `train`


class Looking(Supervised):
    """Looks at values in `encode`, which is therefore run on one real sample."""

    def encode(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        assert all(bool(tensor.any()) for tensor in batch.values())
        return super().encode(batch)


def one(side: int = 12) -> dict[str, Tensor]:
    return {name: (255 * image(1, 3, side, side)).to(torch.uint8) for name in ("a", "b")}


@pytest.mark.parametrize("task", [Supervised(), Supervised(noisy=True), GAN(), Looking()], ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("settings", [{}, {"accumulate": 2, "ema": 0.9}], ids=str)
def test_a_rehearsed_step_holds_what_a_real_one_does(tmp_path: Path, task: Supervised, settings: dict[str, Any]) -> None:
    """The second step, which finds the gradients and moments of the first."""
    runner = trainer(tmp_path, task, **settings)
    batch = next(batches(4)(0, 1))
    estimate = step_bytes(runner, {name: tensor[:1] for name, tensor in batch.items()})
    runner._train(batch)
    kept = [tensor for o in runner.optimizers.values() for state in o.state.values() for tensor in state.values()]
    networks = [runner.networks, *([runner.ema.networks] if runner.ema else [])]
    weights = [weight for each in networks for weight in (*each.parameters(), *each.buffers())]
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    with Live(runner.networks, [*batch.values(), *kept, *weights, *gradients]) as live:
        del gradients
        runner._train(batch)
    assert estimate == pytest.approx(live.peak.bytes, rel=0.03)


def test_a_run_that_fits_is_told_nothing(tmp_path: Path) -> None:
    assert warning(trainer(tmp_path, Supervised()), one) == ""


def test_a_step_that_exceeds_the_memory_is_told(tmp_path: Path) -> None:
    """A million pictures of 512 x 512: nothing of the kind is ever allocated, and nothing is changed."""
    runner = trainer(tmp_path, Looking(), batch_size=2**20, feed=batches(4))
    before = {name: tensor.clone() for name, tensor in runner.networks.state_dict().items()}
    random = torch.get_rng_state()
    text = warning(runner, lambda: one(512))
    assert "GiB of memory, and " in text and "lower batch_size (now 1048576) or view.size, or raise accumulate (now 1)" in text
    assert torch.equal(random, torch.get_rng_state()) and runner.step == 0
    assert all(torch.equal(tensor, runner.networks.state_dict()[name]) for name, tensor in before.items())
    assert all(weight.grad is None for weight in runner.networks.parameters())
    assert all(not optimizer.state for optimizer in runner.optimizers.values())


def test_micro_batches_need_less(tmp_path: Path) -> None:
    whole, parts = (step_bytes(trainer(tmp_path, Supervised(), accumulate=n), one(64)) for n in (1, 4))
    assert parts < 0.5 * whole


def test_averages_count(tmp_path: Path) -> None:
    plain, averaged = (step_bytes(trainer(tmp_path, Supervised(), ema=ema), one()) for ema in (0.0, 0.9))
    assert averaged - plain == sum(weight.nbytes for weight in Supervised().networks().parameters())


def test_what_cannot_be_estimated_is_passed_over(tmp_path: Path) -> None:
    def broken() -> dict[str, Tensor]:
        raise OSError("no such picture")

    runner = trainer(tmp_path, Supervised(), batch_size=2**20, feed=batches(4))
    assert warning(runner, broken) == "what a step takes in memory could not be predicted (OSError: no such picture)"


def test_what_the_run_itself_will_say_is_not_said_before(tmp_path: Path) -> None:
    def broken() -> dict[str, Tensor]:
        raise DataError("no such picture")

    assert warning(trainer(tmp_path, Supervised(), feed=batches(4)), broken) == ""


def test_train_warns_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(rehearsal, "available", lambda: 10**5)
    model = train(small("segmentation"), tmp_path / "run")
    said = [line for line in capsys.readouterr().err.splitlines() if "warning:" in line]
    assert len(said) == 1 and "a step will hold about" in said[0] and "97.66 KiB are available" in said[0]
    assert model.description.recipe == "world_segmentation"
