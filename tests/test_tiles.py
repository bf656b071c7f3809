"""Padding is undone exactly, and tiles give what the whole picture gives."""

import pytest
import torch
from torch import nn

from pixelwise.geometry.homography import Size
from pixelwise.geometry.tiles import Tile, blend, pad_to_multiple, tile_weights, tiles
from pixelwise.seeds import torch_generator


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch_generator(0, "noise"))


@pytest.mark.parametrize("size", [(32, 32), (33, 31), (1, 64), (5, 100)])
def test_padding_is_undone_exactly(size: Size) -> None:
    image = noise(2, 3, *size)
    padded, undo = pad_to_multiple(image, 32)
    assert padded.shape[-2] % 32 == padded.shape[-1] % 32 == 0
    assert torch.equal(undo(padded), image)
    assert torch.equal(padded[..., :, -1], padded[..., :, min(size[1], padded.shape[-1]) - 1])


def test_maps_at_another_scale_are_cut_to_the_picture() -> None:
    padded, undo = pad_to_multiple(noise(1, 3, 33, 64), 32)
    assert undo(padded[..., ::8, ::8]).shape[-2:] == (5, 8)  # 33 / 8 = 4.1: the fifth row sees part of the picture
    assert undo(nn.functional.interpolate(padded, scale_factor=2)).shape[-2:] == (66, 128)


def test_tiles_cover_the_picture_with_one_size() -> None:
    assert list(tiles((4, 10), (4, 4), 1)) == [Tile(0, 0, 4, 4), Tile(0, 3, 4, 4), Tile(0, 6, 4, 4)]
    assert list(tiles((4, 9), (4, 4), 1)) == [Tile(0, 0, 4, 4), Tile(0, 3, 4, 4), Tile(0, 5, 4, 4)]
    assert list(tiles((3, 2), (4, 4), 1)) == [Tile(0, 0, 3, 2)]
    assert all(t.top % 8 == t.left % 8 == 0 for t in tiles((80, 104), (32, 48), 16))


def test_the_weight_rises_linearly_across_the_overlap_but_not_at_the_picture_s_border() -> None:
    row = tile_weights((1, 100), Tile(0, 0, 1, 10), 4, 0, (1, 10))[0]
    assert row.tolist() == [1, 1, 1, 1, 1, 1, 0.875, 0.625, 0.375, 0.125]
    row = tile_weights((1, 100), Tile(0, 40, 1, 10), 6, 1, (1, 10))[0]
    assert row.tolist() == [0, 0.125, 0.375, 0.625, 0.875, 0.875, 0.625, 0.375, 0.125, 0]


@pytest.mark.parametrize(
    ("size", "overlap", "margin"), [((50, 70), 8, 0), ((64, 64), 8, 3), ((20, 90), 0, 0), ((50, 70), 6, 3)]
)
def test_weights_are_a_partition_of_unity(size: Size, overlap: int, margin: int) -> None:
    ones = blend(torch.ones_like, noise(1, 1, *size), (24, 24), overlap, margin)
    assert ones.shape[-2:] == size and (ones - 1).abs().max() < 1e-6


def test_a_pointwise_network_is_reproduced_at_every_scale() -> None:
    image = noise(2, 3, 48, 80)
    networks = {
        "point": lambda x: x.square().sum(1, keepdim=True),
        "double": lambda x: nn.functional.interpolate(x.exp(), scale_factor=2),
        "quarter": lambda x: nn.functional.avg_pool2d(x, 4),
    }
    for network in networks.values():
        blended = blend(network, image, (24, 32), 8)
        assert (blended - network(image)).abs().max() < 1e-6


def test_neighbours_that_disagree_are_mixed_in_proportion() -> None:
    counter = iter((0.0, 1.0))
    mixed = blend(lambda x: torch.full_like(x, next(counter)), torch.zeros(1, 1, 1, 6), (1, 4), 2)
    assert mixed[0, 0, 0].tolist() == [0, 0, 0.25, 0.75, 1, 1]


def convolutions(stride: int) -> nn.Sequential:
    torch.manual_seed(0)
    first = nn.Conv2d(3, 8, 3, stride, 1)
    return nn.Sequential(first, nn.ReLU(), nn.Conv2d(8, 2, 5, 1, 2)).requires_grad_(False).eval()


@pytest.mark.parametrize("size", [(64, 96), (57, 83)])
def test_with_the_receptive_radius_as_margin_convolutions_equal_the_whole(size: Size) -> None:
    network, image = convolutions(1), noise(1, 3, *size)
    whole = network(image)  # radius 1 + 2 = 3
    assert (blend(network, image, (32, 32), 8, margin=3) - whole).abs().max() < 1e-6
    assert (blend(network, image, (32, 32), 6, margin=3) - whole).abs().max() < 1e-6
    assert (blend(network, image, (32, 32), 8, margin=0) - whole).abs().max() > 1e-3


def test_without_margin_convolutions_equal_the_whole_outside_the_overlaps() -> None:
    network, image = convolutions(1), noise(1, 3, 32, 56)
    difference = (blend(network, image, (32, 32), 8) - network(image)).abs()
    assert difference[..., :24].max() < 1e-6 and difference[..., 32:].max() < 1e-6


def test_a_strided_network_equals_the_whole_when_sizes_are_multiples_of_its_stride() -> None:
    network, image = convolutions(4), noise(1, 3, 64, 96)  # radius 1 + 2 * 4 = 9, up to the next multiple of 4: 12
    assert (blend(network, image, (48, 48), 24, margin=12) - network(image)).abs().max() < 1e-6
