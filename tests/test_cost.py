"""Costs against numbers worked by hand and torch's own counter of floating point operations."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from pixelwise.errors import ModelError
from pixelwise.nn.cost import LayerCost, cost
from pixelwise.nn.networks import pix2pix_unet, unet


class Computed(nn.Module):
    def __init__(self, function: Callable[..., Any], *layers: nn.Module) -> None:
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, image: Tensor) -> Any:
        return self.function(image, *self.layers)


WEIGHT = torch.zeros(3, 2, 3, 3)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (nn.Conv2d(2, 3, 3, padding=1), 6 * 8 * 3 * 2 * 9),
        (nn.Conv2d(2, 3, (3, 2), stride=2), 2 * 4 * 3 * 2 * 6),
        (nn.Conv2d(2, 4, 3, padding=1, groups=2, bias=False), 6 * 8 * 4 * 1 * 9),
        (nn.Conv2d(2, 3, 3, dilation=2), 2 * 4 * 3 * 2 * 9),
        # every element of the input meets the whole kernel once, whatever the stride; torchinfo and thop say 4 times as much
        (nn.ConvTranspose2d(2, 3, 2, stride=2), 6 * 8 * 2 * 3 * 4),
        (nn.ConvTranspose2d(2, 3, 4, stride=2, padding=1), 6 * 8 * 2 * 3 * 16),
        (nn.ConvTranspose2d(2, 4, 3, stride=2, groups=2), 6 * 8 * 2 * 2 * 9),
        (nn.Sequential(nn.Flatten(), nn.Linear(96, 5)), 96 * 5),
        (Computed(lambda x: functional.conv2d(x, WEIGHT)), 4 * 6 * 3 * 2 * 9),
        (Computed(lambda x: functional.conv_transpose2d(x, WEIGHT[:2], stride=2)), 6 * 8 * 2 * 2 * 9),
        (Computed(lambda x: x @ x.mT), 2 * 6 * 8 * 6),
        (Computed(lambda x: torch.einsum("bchw,bdhw->bcd", x, x)), 2 * 2 * 48),
        (Computed(lambda x: x[0, 0] @ x[0, 0, 0]), 48),
        (Computed(lambda x: functional.scaled_dot_product_attention(x, x[:, :, :5], x[:, :, :5, :7])), 2 * 6 * 5 * (8 + 7)),
        (nn.Sequential(nn.BatchNorm2d(2), nn.GELU(), nn.MaxPool2d(2), nn.Upsample(scale_factor=2, mode="bilinear")), 0),
        (Computed(lambda x, c: c(c(x) + x), nn.Conv2d(2, 2, 3, padding=1)), 2 * 6 * 8 * 2 * 2 * 9),
    ],
)
def test_by_hand(network: nn.Module, expected: int) -> None:
    found = cost(network, 2, (6, 8))
    assert found.multiply_accumulates == expected and found.uncounted == []


def test_batch() -> None:
    assert cost(nn.Conv2d(2, 3, 3), 2, (6, 8), batch=5).multiply_accumulates == 5 * 4 * 6 * 3 * 2 * 9


def test_layers() -> None:
    """In order of execution; functions count for the module whose `forward` calls them."""

    def forward(image: Tensor, first: nn.Module, rest: nn.Module) -> Tensor:
        return functional.conv2d(rest(first(image)), torch.zeros(4, 3, 1, 1))

    shared = nn.Conv2d(3, 3, 1)
    rest = nn.Sequential(nn.Sequential(shared, nn.ReLU()), shared)
    found = cost(nn.Sequential(Computed(forward, nn.Conv2d(2, 3, 3, stride=2), rest)), 2, (9, 11))
    assert found.layers == [
        LayerCost("0.layers.0", "Conv2d", (1, 3, 4, 5), 57, 20 * 3 * 18),
        LayerCost("0.layers.1.0.0", "Conv2d", (1, 3, 4, 5), 12, 20 * 9),
        LayerCost("0.layers.1.0.1", "ReLU", (1, 3, 4, 5), 0, 0),
        LayerCost("0.layers.1.0.0", "Conv2d", (1, 3, 4, 5), 12, 20 * 9),
        LayerCost("0", "Computed", (1, 4, 4, 5), 0, 20 * 12),
    ]
    assert found.parameters == 57 + 12 and found.multiply_accumulates == 20 * (54 + 9 + 9 + 12)


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "vit_tiny_patch16_224", "efficientnet_b0"])
def test_timm_agrees_with_torch(name: str) -> None:
    network = importlib.import_module("timm").create_model(name)
    agrees(network, 3, (224, 224))


@pytest.mark.parametrize("kind", ["nearest", "transposed", "pixel_shuffle"])
def test_ours_agree_with_torch(kind: str) -> None:
    agrees(unet.Config.model_validate({"width": 2, "upsample": kind}).build(3, 2), 3, (50, 70))


def test_products_in_place_of_convolutions_cost_the_same() -> None:
    network = pix2pix_unet.Config(width=2, depth=4).build(3, 3)
    agrees(network, 3, (64, 64))
    few = cost(network, 3, (16, 16)).multiply_accumulates  # nothing but products
    assert 16 * few == cost(network, 3, (64, 64)).multiply_accumulates


def agrees(network: nn.Module, channels: int, size: tuple[int, int]) -> None:
    found = cost(network, channels, size, batch=2)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(2, channels, *size))
    assert found.multiply_accumulates == counter.get_total_flops() / 2 > 0
    assert found.parameters == sum(parameter.numel() for parameter in network.parameters())


def test_attention_that_torch_runs_as_one_operation() -> None:
    """Projections to 3 x 4 and back, products of 6 x 6 for 4 channels, twice."""
    attention = nn.MultiheadAttention(4, 2, batch_first=True)
    network = Computed(lambda image, mix: mix(*[image[:, 0].mT] * 3, need_weights=False)[0], attention)
    assert cost(network, 1, (4, 6)).multiply_accumulates == 6 * 4 * 12 + 2 * 6 * 6 * 4 + 6 * 4 * 4


def test_pictures_of_any_size() -> None:
    whole, part = (cost(unet.Config(width=8).build(3, 2), 3, (side, side)) for side in (20000, 2000))
    assert whole.multiply_accumulates == 100 * part.multiply_accumulates
    assert whole.layers[0].shape == (1, 8, 20000, 20000)


def test_what_is_not_counted_is_named() -> None:
    def forward(image: Tensor) -> Tensor:
        operations = importlib.import_module("torchvision").ops
        offset = image.new_zeros(1, 2, 8, 8)
        return torch.fft.rfft2(operations.deform_conv2d(image, offset, torch.ones(2, 2, 1, 1))).abs()

    found = cost(Computed(forward), 2, (8, 8))
    assert found.uncounted == ["torchvision::deform_conv2d", "_fft_r2c"] and found.multiply_accumulates == 0


def test_a_picture_that_does_not_fit() -> None:
    with pytest.raises(ModelError, match="does not take 3 x 8 x 8, in layer 'Conv2d'"):
        cost(nn.Conv2d(2, 2, 3), 3, (8, 8))
