"""Checkpoints of pytorch-CycleGAN-and-pix2pix: read by name, answering as their networks do, and refused where they are not."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from test_cli import Capture, fails
from torch import Tensor, nn

from pixelwise.cli import main
from pixelwise.data.sample import Image, Sample
from pixelwise.errors import ModelError
from pixelwise.geometry.frame import Frame
from pixelwise.model import load
from pixelwise.nn.networks import patchgan, pix2pix_unet, residual
from pixelwise.originals import bring, original
from pixelwise.predictions.image import ImagePrediction

NORMS = ("batch", "instance", "none")


def norm_of(kind: str, channels: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    return nn.InstanceNorm2d(channels) if kind == "instance" else nn.Identity()


class Level(nn.Module):
    """One level of the U-Net with all that is below it, in a sequence called `model`, as their files name it."""

    def __init__(self, sizes: list[int], norm: str, dropped: list[bool], ends: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.outermost, biased = ends is not None, norm == "instance"
        above, width, below = (ends[0] if ends else sizes[0]), sizes[1 - self.outermost], sizes[2 - self.outermost :]
        inner = [Level([width, *below], norm, dropped[1:])] if below else []
        down = nn.Conv2d(above, width, 4, 2, 1, bias=biased)
        wide = 2 * width if inner else width
        if ends:
            up = nn.ConvTranspose2d(wide, ends[1], 4, 2, 1)
            layers = [down, *inner, nn.ReLU(), up, nn.Tanh()]
        else:
            up = nn.ConvTranspose2d(wide, above, 4, 2, 1, bias=biased)
            layers = [nn.LeakyReLU(0.2), down, *([norm_of(norm, width)] if inner else []), *inner, nn.ReLU(), up]
            layers += [norm_of(norm, above), *([nn.Dropout(0.5)] if dropped[0] else [])]
        self.model = nn.Sequential(*layers)

    def forward(self, maps: Tensor) -> Tensor:
        answer: Tensor = self.model(maps)
        return answer if self.outermost else torch.cat([maps, answer], 1)


class UNet(nn.Module):
    """Isola et al. 2017, section 6.1.1: C64-C128-C256-C512-..., its dropout between 512 channels."""

    def __init__(self, depth: int, norm: str, dropout: bool, width: int = 2, ends: tuple[int, int] = (3, 3)) -> None:
        super().__init__()
        sizes = [width * min(2**level, 8) for level in range(depth)]
        dropped = [False, *(dropout and 4 <= level < depth - 1 for level in range(1, depth)), False]
        self.model = Level(sizes, norm, dropped, ends)

    def forward(self, picture: Tensor) -> Tensor:
        answer: Tensor = self.model(picture)
        return answer


class Block(nn.Module):
    """A residual block of Johnson et al. 2016 with reflected borders."""

    def __init__(self, channels: int, norm: str, dropout: bool) -> None:
        super().__init__()
        biased = norm == "instance"
        self.conv_block = nn.Sequential(
            *(nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3, bias=biased), norm_of(norm, channels), nn.ReLU()),
            *([nn.Dropout(0.5)] if dropout else []),
            *(nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3, bias=biased), norm_of(norm, channels)),
        )

    def forward(self, maps: Tensor) -> Tensor:
        answer: Tensor = maps + self.conv_block(maps)
        return answer


class ResNet(nn.Module):
    """Zhu et al. 2017, section 7.2: c7s1-64, d128, d256, R256 ..., u128, u64, c7s1-3."""

    def __init__(self, blocks: int, norm: str, dropout: bool, width: int = 2, ends: tuple[int, int] = (3, 3)) -> None:
        super().__init__()
        b, w = norm == "instance", width
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(ends[0], w, 7, bias=b), norm_of(norm, w), nn.ReLU()]
        for n in (w, 2 * w):
            layers += [nn.Conv2d(n, 2 * n, 3, 2, 1, bias=b), norm_of(norm, 2 * n), nn.ReLU()]
        layers += [Block(4 * w, norm, dropout) for _ in range(blocks)]
        for n in (2 * w, w):
            layers += [nn.ConvTranspose2d(2 * n, n, 3, 2, 1, output_padding=1, bias=b), norm_of(norm, n), nn.ReLU()]
        self.model = nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(w, ends[1], 7), nn.Tanh())

    def forward(self, picture: Tensor) -> Tensor:
        answer: Tensor = self.model(picture)
        return answer


class Patches(nn.Module):
    """Isola et al. 2017, section 6.1.2; without layers the pixel discriminator, whose sequence is called `net`."""

    def __init__(self, layers: int, norm: str, width: int = 2, channels: int = 6) -> None:
        super().__init__()
        biased, w = norm == "instance", width
        if not layers:
            self.net = nn.Sequential(
                *(nn.Conv2d(channels, w, 1), nn.LeakyReLU(0.2), nn.Conv2d(w, 2 * w, 1, bias=biased), norm_of(norm, 2 * w)),
                *(nn.LeakyReLU(0.2), nn.Conv2d(2 * w, 1, 1, bias=biased)),
            )
            return
        parts: list[nn.Module] = [nn.Conv2d(channels, w, 4, 2, 1), nn.LeakyReLU(0.2)]
        for n in range(1, layers + 1):
            before, after = w * min(2 ** (n - 1), 8), w * min(2**n, 8)
            parts += [nn.Conv2d(before, after, 4, 2 if n < layers else 1, 1, bias=biased), norm_of(norm, after)]
            parts.append(nn.LeakyReLU(0.2))
        self.model = nn.Sequential(*parts, nn.Conv2d(after, 1, 4, 1, 1))

    def forward(self, picture: Tensor) -> Tensor:
        answer: Tensor = (self.net if hasattr(self, "net") else self.model)(picture)
        return answer


def trained(network: nn.Module) -> nn.Module:
    """Give weights, scales and statistics values that no two of them share, of sizes that keep the signal's."""
    torch.manual_seed(1)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            spread = tensor[0].numel() ** -0.5 if tensor.dim() == 4 else 0.1
            centre = tensor.dim() == 1 and name.endswith(("weight", "running_var"))
            tensor.copy_(centre + spread * torch.randn_like(tensor))
    return network.eval()


def saved(network: nn.Module, path: Path, prefix: str = "") -> Path:
    torch.save({prefix + name: tensor.clone() for name, tensor in network.state_dict().items()}, path)
    return path


def as_tested(network: nn.Module) -> nn.Module:
    """Leave the network as their test does without --eval, but for dropout: norms take the picture's own statistics."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    return network


GENERATORS = {"unet_128": (UNet, 7, 128), "unet_256": (UNet, 8, 256), "resnet_6": (ResNet, 6, 32), "resnet_9": (ResNet, 9, 32)}


@pytest.mark.parametrize("dropout", [False, True], ids=["", "dropout"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", GENERATORS)
def test_generators_answer_as_theirs(kind: str, norm: str, dropout: bool, tmp_path: Path) -> None:
    architecture, size, side = GENERATORS[kind]
    theirs = trained(architecture(size, norm, dropout))
    path = saved(theirs, tmp_path / "latest_net_G.pth", "module." if dropout else "")
    picture = torch.rand(1, 3, side, side) * 2 - 1
    with torch.no_grad():
        for statistics in ("running", "picture"):
            found = original(path, statistics)  # type: ignore[arg-type]
            answer = (theirs if statistics == "running" else as_tested(theirs))(picture)
            torch.testing.assert_close(found.network(picture), answer, atol=1e-5, rtol=0)
        assert answer.std() > 0.02
    if architecture is UNet:
        assert found.config == pix2pix_unet.Config(width=2, depth=size, norm=norm)  # type: ignore[arg-type]
    else:
        assert isinstance(found.config, residual.Config) and found.config.blocks == size and found.config.norm == norm
        assert found.config.dropout == 0.5 * dropout


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("layers", range(6))
def test_discriminators_answer_as_theirs(layers: int, norm: str, tmp_path: Path) -> None:
    theirs = trained(Patches(layers, norm))
    found = original(saved(theirs, tmp_path / "latest_net_D.pth"))
    assert found.config == patchgan.Config(width=2, layers=layers, norm=norm)  # type: ignore[arg-type]
    assert found.channels == (6, 1)
    picture = torch.rand(1, 6, 192, 192)
    with torch.no_grad():
        torch.testing.assert_close(found.network(picture), theirs(picture), atol=1e-5, rtol=0)


@pytest.mark.parametrize("ends", [(1, 2), (1, 3), (5, 1)])
def test_other_channels(ends: tuple[int, int], tmp_path: Path) -> None:
    """Such as the colouring model's: L in, a and b out."""
    theirs = trained(UNet(7, "batch", True, ends=ends))
    path = saved(theirs, tmp_path / "net.pth")
    assert original(path).channels == ends and bring(path, tmp_path / "model")["predicts"]
    pixels = torch.randint(0, 256, (ends[0], 128, 128), dtype=torch.uint8)
    (answer,) = load(tmp_path / "model").predict([Sample("picture", {"a": Image(pixels, Frame.of((128, 128)))})])
    with torch.no_grad():
        expected = (as_tested(theirs)(pixels[None] / 127.5 - 1)[0] + 1) * 127.5
    assert isinstance(answer, ImagePrediction) and (answer.pixels - expected).abs().max() <= 0.501


def test_grey_files_are_read_as_the_original_does(tmp_path: Path) -> None:
    """By a generator of one channel: colours become luma, as Pillow's mode L but for one level where it rounds otherwise."""
    theirs = trained(UNet(7, "instance", False, ends=(1, 1)))
    bring(saved(theirs, tmp_path / "net.pth"), tmp_path / "model")
    picture = PillowImage.fromarray(np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8))
    picture.save(tmp_path / "colour.png")
    picture.convert("L").save(tmp_path / "grey.png")
    grey = torch.from_numpy(np.array(picture.convert("L")))[None, None]
    with torch.no_grad():
        expected = (as_tested(theirs)(grey / 127.5 - 1)[0] + 1) * 127.5
    answer = load(tmp_path / "model")(tmp_path / "grey.png")
    assert isinstance(answer, ImagePrediction) and (answer.pixels - expected).abs().max() <= 0.501
    seen = load(tmp_path / "model")(tmp_path / "colour.png").image * 255
    assert (seen - grey[0]).abs().max() < 1.001 and (seen - grey[0]).abs().mean() < 0.01


NUMBER = torch.zeros(1)
BLOCKS = {f"model.{i}.conv_block.1.weight": NUMBER for i in range(10, 3000)}
HOSTILE: dict[str, tuple[dict[object, Tensor], str]] = {
    "wide": ({"model.model.0.weight": NUMBER.expand(200000, 3, 4, 4)}, "larger than what the file holds"),
    "sparse": ({"model.0.weight": torch.zeros(8, 3, 4, 4).to_sparse()}, "larger than what the file holds"),
    "deep": ({"model.1.weight": torch.zeros(64, 3, 7, 7), **BLOCKS}, "more blocks than"),
    "empty": ({"model.model.0.weight": torch.zeros(0, 3, 4, 4)}, "without numbers"),
    "names": ({1: NUMBER}, "no state dictionary"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_files_that_promise_more_than_they_hold_are_refused(kind: str, tmp_path: Path) -> None:
    """Before a network of that size is made: the wide one would take 5 TB."""
    tensors, reason = HOSTILE[kind]
    torch.save(tensors, tmp_path / "net.pth")
    with pytest.raises(ModelError, match=reason):
        original(tmp_path / "net.pth")


def test_statistics_that_instance_norm_kept_before_torch_0_4_are_left_out(tmp_path: Path) -> None:
    theirs = trained(ResNet(6, "instance", False))
    weights = dict(theirs.state_dict())
    weights |= {"model.2.running_mean": torch.ones(2), "model.2.running_var": torch.ones(2)}
    torch.save(weights, tmp_path / "old.pth")
    picture = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(original(tmp_path / "old.pth").network(picture), theirs(picture), atol=1e-5, rtol=0)


def test_batch_norm_without_counts_is_read(tmp_path: Path) -> None:
    """They came with torch 0.4.1."""
    theirs = trained(Patches(3, "batch"))
    weights = {name: tensor for name, tensor in theirs.state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save(weights, tmp_path / "old.pth")
    picture = torch.rand(1, 6, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(original(tmp_path / "old.pth").network(picture), theirs(picture), atol=1e-5, rtol=0)


def test_what_is_of_another_architecture_names_the_tensors(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7), "fc.bias": torch.zeros(1000)}, path)
    with pytest.raises(ModelError, match=r"first tensors are conv1\.weight \(64, 3, 7, 7\), fc\.bias \(1000,\)"):
        original(path)
    whole = UNet(7, "batch", False).state_dict()
    changed = "model.model.1.model.3.model.1.weight"
    torch.save({**whole, changed: torch.zeros(5, 4, 4, 4)}, path)
    with pytest.raises(ModelError, match=rf"1 tensors differ: {changed} \(5, 4, 4, 4\); .* should have \(8, 4, 4, 4\)"):
        original(path)
    torch.save({name: tensor for name, tensor in whole.items() if name != changed}, path)
    with pytest.raises(ModelError, match="missing"):
        original(path)
    torch.save({**whole, "attention.weight": torch.zeros(3)}, path)
    with pytest.raises(ModelError, match=r"attention\.weight \(3,\)"):
        original(path)


class Harm:
    """What an attacker would pickle."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch harmed",)


def test_a_pickle_that_wants_to_run_code_is_refused(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model.model.0.weight": Harm()}, "evil.pth")
    code, said, _ = fails(capsys, "import", "evil.pth", "out")
    assert code == 1 and re.search(r"evil\.pth is refused: its pickle wants to run \w+\.system", said)
    assert not Path("harmed").exists() and not Path("out").exists()


def test_an_imported_generator_predicts_at_any_size(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 256 pixels what the original answers, up to the rounding of 8 bits; elsewhere a picture of the same size."""
    monkeypatch.chdir(tmp_path)
    theirs = trained(UNet(8, "batch", True))
    saved(theirs, Path("latest_net_G.pth"))
    assert main(["import", "latest_net_G.pth", "facades", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["predicts"] and made["network"]["depth"] == 8 and made["channels"] == [3, 3]
    draw = np.random.default_rng(0)
    for height, width in ((256, 256), (37, 53), (1, 1)):
        PillowImage.fromarray(draw.integers(0, 256, (height, width, 3), np.uint8)).save(f"{height}.png")
    assert main(["predict", "facades", "256.png", "37.png", "1.png", "out=answers", "--json"]) == 0
    files = [one["saved"] for one in json.loads(capsys.readouterr().out)["predictions"]]
    answers = [np.asarray(PillowImage.open(file if isinstance(file, str) else file[0])) for file in files]
    assert [answer.shape for answer in answers] == [(256, 256, 3), (37, 53, 3), (1, 1, 3)]
    picture = torch.from_numpy(np.array(PillowImage.open("256.png"))).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        expected = (as_tested(theirs)(picture)[0].permute(1, 2, 0).numpy() + 1) * 127.5
    assert np.abs(answers[0] - expected).max() <= 0.501


def test_an_imported_discriminator_says_why_it_cannot_predict(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(trained(Patches(3, "batch")), Path("latest_net_D.pth"))
    assert main(["import", "latest_net_D.pth", "judge"]) == 0
    said = capsys.readouterr().out
    assert "patchgan (width 2, layers 3, norm batch), 6 to 1 channels; it judges pictures" in said
    assert {file.name for file in Path("judge").iterdir()} == {"network.json", "network.safetensors"}
    PillowImage.new("RGB", (8, 8)).save("picture.png")
    code, said, hint = fails(capsys, "predict", "judge", "picture.png")
    assert (code, said) == (1, "judge holds a network that cannot predict") and "it judges pictures" in hint


def test_what_is_there_is_not_overwritten(tmp_path: Path, capsys: Capture) -> None:
    code, said, _ = fails(capsys, "import", "net.pth", str(tmp_path))
    assert code == 2 and "exists already" in said
