"""Tiles give what the whole picture gives."""

import pytest
import torch
from torch import nn

from pixelwise import model
from pixelwise.geometry.homography import Size
from pixelwise.geometry.tiles import Tile, blend, tile_weights, tiles
from pixelwise.seeds import torch_generator


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch_generator(0, "noise"))


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


def test_a_huge_picture_is_seen_in_tiles_by_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond TILE x TILE pixels no call of the network sees more than a tile, and a pointwise network gives the same maps."""
    monkeypatch.setattr(model, "TILE", 32)
    seen: list[torch.Size] = []

    class Pointwise(nn.Module):
        stride = 1

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            seen.append(image.shape)
            return 2 * image + 1

    tiled, image = model.Tiled(Pointwise()), noise(1, 3, 70, 45)
    torch.testing.assert_close(tiled(image), 2 * image + 1, atol=1e-6, rtol=0)
    assert len(seen) == 3 * 2 and all(shape[-2:] == (32, 32) for shape in seen)
    seen.clear()
    tiled(image[..., :20, :20])
    assert [tuple(shape[-2:]) for shape in seen] == [(20, 20)]
