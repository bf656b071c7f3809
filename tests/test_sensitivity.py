"""The gradient method against numbers worked by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pixelwise.nn.networks import patchgan
from pixelwise.nn.sensitivity import Extent, extent, extents, neutralised, receptive_field


def test_position() -> None:
    # 3x3, stride 2, padding 1: output (i, j) sees rows 2i-1 ... 2i+1, the border cuts off row -1
    network = nn.Conv2d(2, 3, 3, 2, 1)
    assert extents(network, 2, (9, 9), [(2, 3), (0, 0)]) == [Extent(3, 5, 6, 8), Extent(0, 0, 2, 2)]
    assert extent(network, 2, (9, 9), (2, 3)).size == (3, 3)


def test_nothing_cancels_or_saturates() -> None:
    # 3x3 pooling of 3x3 windows: 5
    layers = [nn.Conv2d(1, 4, 3), nn.InstanceNorm2d(4), nn.GELU(), nn.MaxPool2d(3, 2), nn.BatchNorm2d(4), nn.Dropout()]
    assert extent(nn.Sequential(*layers), 1, (32, 32), (5, 6)) == Extent(10, 12, 15, 17)


@pytest.mark.parametrize("indices", [False, True])
def test_max_pooling_becomes_average_pooling(indices: bool) -> None:
    network = neutralised(nn.MaxPool2d(2, return_indices=indices, ceil_mode=True))
    found = network(torch.tensor([[[[1.0, 2, 5], [3, 6, 7]]]], dtype=torch.float64))
    averages = found[0] if indices else found
    assert averages.tolist() == [[[[3, 6]]]]
    assert not indices or found[1].tolist() == [[[[4, 5]]]]


def test_the_network_stays_as_it_was() -> None:
    network = patchgan.Config(width=2).build(3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    neutralised(network)
    assert network.training and all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def test_several_positions_of_a_decoder() -> None:
    # nearest: a 3x3 window over a map twice as large covers 2 of its pixels, that is 4 rows
    network = nn.Sequential(nn.AvgPool2d(2), nn.Upsample(scale_factor=2), nn.Conv2d(1, 1, 3, padding=1))
    assert extents(network, 1, (12, 12), [(5, 6), (6, 6)]) == [Extent(4, 4, 8, 8), Extent(4, 4, 8, 8)]
    assert receptive_field(network, 1, (12, 12), phases=2) == (4, 4)
