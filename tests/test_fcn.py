"""FCN: the paper's parameters and fusion, by hand; maps that lie where they should; encoders and their strides."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.errors import UsageError
from pixelwise.nn.networks import fcn

SMALL: dict[str, Any] = {"width": 4, "hidden": 8}


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# VGG-16 without its last layer; 21 classes. Enlarging kernels are (21, 21, 2 factor, 2 factor) without bias, as published.
TRUNK = (
    9 * (3 * 64 + 64 * 64 + 64 * 128 + 128 * 128 + 128 * 256 + 2 * 256 * 256 + 256 * 512 + 5 * 512 * 512)
    + (2 * 64 + 2 * 128 + 3 * 256 + 6 * 512)
    + (7 * 7 * 512 * 4096 + 4096)
    + (4096 * 4096 + 4096)
)
SCORE_32, SCORE_16, SCORE_8 = 4096 * 21 + 21, 512 * 21 + 21, 256 * 21 + 21


@pytest.mark.parametrize(
    ("stride", "count", "total"),
    [
        (32, TRUNK + SCORE_32 + 21 * 21 * 64**2, 136_152_917),
        (16, TRUNK + SCORE_32 + SCORE_16 + 21 * 21 * (4**2 + 32**2), 134_815_994),
        (8, TRUNK + SCORE_32 + SCORE_16 + SCORE_8 + 21 * 21 * (2 * 4**2 + 16**2), 134_489_759),
    ],
)
def test_parameters_of_the_paper(stride: Any, count: int, total: int) -> None:
    with torch.device("meta"):
        network = fcn.Config(stride=stride).build(3, 21)
    assert parameters(network) == count == total
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)] == [0.5, 0.5]
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())


class Given(nn.Module):
    """An encoder that finds the same maps in every picture."""

    def __init__(self, maps: dict[int, Tensor]) -> None:
        super().__init__()
        self.maps, self.least = maps, 1
        self.channels = {stride: found.shape[1] for stride, found in maps.items()}

    def forward(self, image: Tensor) -> dict[int, Tensor]:
        """Return the maps."""
        return self.maps


def given(maps: dict[int, Tensor], monkeypatch: pytest.MonkeyPatch, out: int = 1, **settings: Any) -> fcn.FCN:
    """Return an FCN over given maps whose scores are the maps' mean over channels."""
    monkeypatch.setattr(fcn, "VGG", lambda *_: Given(maps))
    network = fcn.Config(**settings).build(3, out).double().eval()
    for convolution in network.scores.values():
        nn.init.constant_(convolution.weight, 1 / convolution.weight.shape[1])  # type: ignore[arg-type, index]
        nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
    return network


def pyramid(height: int, width: int) -> dict[int, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {s: torch.randn(1, 1, height // s, width // s, generator=generator).double() for s in (8, 16, 32)}


def test_fusion_is_a_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = pyramid(64, 96)
    image = torch.zeros(1, 3, 64, 96).double()
    spread = {s: found.repeat_interleave(s, 2).repeat_interleave(s, 3) for s, found in maps.items()}
    for stride, expected in ((32, spread[32]), (16, spread[32] + spread[16]), (8, sum(spread.values()))):
        network = given(maps, monkeypatch, stride=stride, upsample="nearest")
        torch.testing.assert_close(network(image), expected, rtol=0, atol=1e-12)


def larger(maps: Tensor, factor: int) -> Tensor:
    return functional.interpolate(maps, scale_factor=factor, mode="bilinear", align_corners=False)


@pytest.mark.parametrize("kind", ["bilinear", "transposed"])
def test_fusion_enlarges_step_by_step(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With transposed convolutions as they start, up to the border: the paper's padding is there for that."""
    maps = pyramid(64, 96)
    expected = larger(larger(larger(maps[32], 2) + maps[16], 2) + maps[8], 8)
    network = given(maps, monkeypatch, upsample=kind)
    torch.testing.assert_close(network(torch.zeros(1, 3, 64, 96).double()), expected, rtol=0, atol=1e-12)


def test_skips_start_at_zero() -> None:
    """At first FCN-8s says what its coarsest map says, whatever the finer ones hold; their weights do learn."""
    torch.manual_seed(0)
    network = fcn.Config(**SMALL, dropout=0, upsample="nearest").build(3, 2)
    image = torch.rand(1, 3, 64, 64)
    alone = network.scores["32"](network.encoder(image)[32])  # type: ignore[operator]
    torch.testing.assert_close(network(image), alone.repeat_interleave(32, 2).repeat_interleave(32, 3))
    network(image).square().sum().backward()
    for stride in ("8", "16"):
        weight = network.scores[stride].weight
        assert not weight.any() and weight.grad.abs().max() > 0  # type: ignore[union-attr, operator]


def pass_on(network: nn.Module) -> None:
    """Make every convolution of the trunk repeat its first four channels, and nothing else."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.zeros_(module.weight)
            middle = module.kernel_size[0] // 2
            module.weight.data[:4, :4, middle, middle] = torch.eye(4)
            nn.init.zeros_(module.bias)


@pytest.mark.parametrize("stride", [32, 16, 8])
@pytest.mark.parametrize("kind", ["bilinear", "transposed"])
def test_a_ramp_comes_back_where_it_was(stride: Any, kind: Any) -> None:
    """Max pooling takes the last pixel of x and, of -x, the first: half their difference is x in the middle."""
    height, width, top = 128, 160, 1000.0
    network = fcn.Config(**SMALL, stride=stride, upsample=kind).build(4, 2).double().eval()
    pass_on(network.encoder)
    for convolution in network.scores.values():
        shares = torch.tensor([[0.5, -0.5, 0, 0], [0, 0, 0.5, -0.5]]).double() / len(network.scores)
        nn.init.zeros_(convolution.weight)  # type: ignore[arg-type]
        convolution.weight.data[:, :4, 0, 0] = shares  # type: ignore[index, union-attr]
        nn.init.constant_(convolution.bias, top / 2 / len(network.scores))  # type: ignore[arg-type]
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    image = torch.stack([x, top - x, y, top - y])[None].double()
    found = network(image)[0]
    inner = (slice(32, -32), slice(32, -32))  # nearer to the border there is nothing to interpolate with
    torch.testing.assert_close(found[0][inner], image[0, 0][inner], rtol=0, atol=1e-9)
    torch.testing.assert_close(found[1][inner], image[0, 2][inner], rtol=0, atol=1e-9)


@pytest.mark.parametrize("size", [(1, 1), (2, 7), (33, 16)])
@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
def test_tiny_images_train(size: tuple[int, int], norm: Any) -> None:
    output = fcn.Config(**SMALL, norm=norm).build(3, 2)(torch.rand(1, 3, *size))
    assert output.shape == (1, 2, *size) and output.isfinite().all()


def test_a_deep_trunk_passes_its_signal() -> None:
    torch.manual_seed(0)
    network = fcn.Config(width=16, hidden=64).build(3, 2).eval()
    features = network.encoder(torch.randn(1, 3, 64, 64))[32]
    assert 1e-2 < features.square().mean() < 1e2  # torch's own start leaves 6^-15 = 2e-12


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"upsample": "unpool"}, "scores were never pooled"),
        ({"encoder_stride": 8}, "needs encoder"),
        ({"pretrained": True}, "needs encoder"),
        ({"stride": 4}, "32, 16 or 8"),
    ],
)
def test_impossible_settings_say_why(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        fcn.Config(**changes)
    with pytest.raises(UsageError, match=words):
        fcn.Config.checked(changes)


def test_encoders_are_scored_at_their_strides() -> None:
    network = fcn.Config(encoder="resnet18").build(5, 2)
    assert {stride: score.in_channels for stride, score in network.scores.items()} == {"32": 512, "16": 256, "8": 128}
    assert network(torch.rand(2, 5, 37, 53)).shape == (2, 2, 37, 53)


def test_a_dilated_encoder_has_one_map_to_score() -> None:
    network = fcn.Config(encoder="resnet18", encoder_stride=8).build(3, 2)
    assert {stride: score.in_channels for stride, score in network.scores.items()} == {"8": 512}
    assert network(torch.rand(2, 3, 37, 53)).shape == (2, 2, 37, 53)
    with pytest.raises(UsageError, match="no maps of stride 16, only of 2, 4, 8"):
        fcn.Config(encoder="resnet18", encoder_stride=8, stride=16).build(3, 2)
