"""Receptive fields against numbers worked by hand and the published ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.nn.networks import patchgan, pix2pix_unet, unet
from pixelwise.nn.receptive_field import Extent, extent, neutralised, receptive_field


def stack(count: int) -> nn.Module:
    return nn.Sequential(*(nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.ReLU()) for _ in range(count)))


@pytest.mark.parametrize("count", [1, 5, 100])
def test_stacked_convolutions_see_2n_plus_1(count: int) -> None:
    assert receptive_field(stack(count), 1, (211, 211)) == (2 * count + 1, 2 * count + 1)


@pytest.mark.parametrize(("layers", "field"), [(0, 1), (1, 16), (2, 34), (3, 70), (4, 142), (5, 286)])
def test_patchgan(layers: int, field: int) -> None:
    network = patchgan.Config(layers=layers, width=2).build(6)
    assert receptive_field(network, 6, (384, 320)) == (field, field)


def test_the_published_patchgan_sees_70_pixels() -> None:
    # backwards through 4x4 convolutions of stride 1, 1, 2, 2, 2: 4, 7, 16, 34, 70
    assert receptive_field(patchgan.Config().build(6), 6, (128, 128)) == (70, 70)


def test_position() -> None:
    # 3x3, stride 2, padding 1: output (i, j) sees rows 2i-1 ... 2i+1, the border cuts off row -1
    network = nn.Conv2d(2, 3, 3, 2, 1)
    assert extent(network, 2, (9, 9), (2, 3)) == Extent(3, 5, 6, 8)
    assert extent(network, 2, (9, 9), (0, 0)) == Extent(0, 0, 2, 2)
    assert extent(network, 2, (9, 9), (2, 3)).size == (3, 3)


def test_not_square() -> None:
    assert receptive_field(nn.Conv2d(1, 1, (3, 5), dilation=(2, 3)), 1, (40, 40)) == (5, 13)


class Branches(nn.Module):
    """Two parallel paths: the wider one counts, where sequential counting would add them."""

    def __init__(self) -> None:
        super().__init__()
        self.near = nn.Conv2d(1, 1, 3, padding=1)
        self.far = nn.Conv2d(1, 1, 11, padding=5)

    def forward(self, image: Tensor) -> Tensor:
        return functional.relu(self.near(image)) + torch.tanh(self.far(image))


def test_branches() -> None:
    assert receptive_field(Branches(), 1, (32, 32)) == (11, 11)


def test_max_pooling_and_norms() -> None:
    layers = [nn.Conv2d(1, 4, 3), nn.InstanceNorm2d(4), nn.GELU(), nn.MaxPool2d(3, 2), nn.BatchNorm2d(4), nn.Dropout()]
    # 3x3 pooling of 3x3 windows: 5
    assert receptive_field(nn.Sequential(*layers), 1, (32, 32)) == (5, 5)


@pytest.mark.parametrize(("kind", "fields"), [("nearest", {188, 204}), ("transposed", {188, 204}), ("bilinear", {220, 236})])
def test_unet_depends_on_the_position(kind: str, fields: set[int]) -> None:
    """Worked backwards for nearest: two 3x3 add 4, enlarging halves (how depends on the position), pooling doubles.

    Decoder: 1 + 4 = 5, 3 + 4 = 7, 4 + 4 = 8, (4 or 5) + 4, bottom (4 or 5) + 4 = 8 or 9.
    Encoder: 16 or 18, + 4 and doubled: 40 or 44, 88 or 96, 184 or 200, + 4 = 188 or 204.
    """
    network = unet.Config.model_validate({"width": 1, "upsample": kind}).build(1, 1)
    found = {extent(network, 1, (288, 288), (136 + phase, 136 + phase)).size for phase in range(16)}
    assert found == {(field, field) for field in fields}
    assert receptive_field(network, 1, (288, 288), phases=16) == (max(fields), max(fields))


def test_pix2pix_sees_everything() -> None:
    assert receptive_field(pix2pix_unet.Config(width=1, depth=6).build(1, 1), 1, (64, 64)) == (64, 64)


def test_the_network_stays_as_it_was() -> None:
    network = patchgan.Config(width=2).build(3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    neutralised(network)
    assert network.training and all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
