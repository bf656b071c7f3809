"""Where tiles lie, which of their answers are kept, and how blended ones are mixed."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from pixelwise.geometry.homography import Size
from pixelwise.geometry.tiles import Axis, Cut, Part, See, Tile, bands, blended, cheapest, exact
from pixelwise.seeds import torch_generator


def noise(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch_generator(0, "noise"))


def sees(network: nn.Module, image: Tensor) -> See:
    return lambda tile: network(tile.of(image))


def test_rectangles() -> None:
    tile = Tile(4, 8, 9, 13)
    assert tile.of(torch.zeros(2, 3, 30, 30)).shape == (2, 3, 9, 13)
    assert tile.within(Tile(3, 6, 20, 20)) == Tile(1, 2, 9, 13)
    assert tile.scaled(1) == tile and tile.scaled(2) == Tile(8, 16, 18, 26)
    assert tile.scaled(1 / 4) == Tile(1, 2, 3, 4)  # rows 4 ... 12 are in map rows 1 ... 3, columns 8 ... 20 in 2 ... 5
    assert list(bands(Tile(5, 2, 7, 10), 39)) == [Tile(5, 2, 3, 10), Tile(8, 2, 3, 10), Tile(11, 2, 1, 10)]
    assert list(bands(Tile(0, 0, 2, 10), 3)) == [Tile(0, 0, 1, 10), Tile(1, 0, 1, 10)]


def test_an_axis_by_hand() -> None:
    """5 before become 8, two periods; 3 after become 4, so that 40 + 4, 80 + 4 and 100 leave whole periods to 100."""
    axis = Axis(100, before=5, after=3, period=4)
    assert (axis.lead, axis.trail) == (8, 4)
    assert list(axis.spans(40)) == [(range(44), range(40)), (range(32, 84), range(40, 80)), (range(72, 100), range(80, 100))]
    assert axis.work(40) == 44 + 52 + 28
    assert [axis.side(step) for step in (4, 8, 40, 48, 52, 100)] == [16, 20, 52, 60, 56, 100]  # of two, each has one halo
    assert [axis.even(count) for count in (1, 2, 3, 25, 26)] == [100, 52, 36, 4, 4]
    assert [axis.ways()[i] for i in (-1, -2, -3)] == [(100, 100, 100), (112, 56, 52), (124, 48, 36)]


def test_a_picture_s_end_between_two_periods() -> None:
    """The network mirrors 101 ... 103 beyond the end of 101 pixels: the last tile holds at least those three."""
    axis = Axis(101, before=0, after=0, period=4)
    assert (axis.lead, axis.trail) == (4, 1)
    assert list(axis.spans(100)) == [(range(101), range(100)), (range(96, 101), range(100, 101))]
    assert axis.side(100) == 104 and axis.side(8) == 16


@pytest.mark.parametrize("length", [37, 64])
@pytest.mark.parametrize(("before", "after", "period"), [(0, 0, 1), (3, 1, 1), (5, 9, 4), (8, 0, 8)])
def test_tiles_lie_on_the_period_and_hold_what_they_keep(length: int, before: int, after: int, period: int) -> None:
    axis = Axis(length, before, after, period)
    for step in range(period, length + period, period):
        spans = list(axis.spans(step))
        assert [pixel for _, kept in spans for pixel in kept] == list(range(length))
        for seen, kept in spans:
            assert seen.start <= max(0, kept.start - before) and seen.stop >= min(length, kept.stop + after)
            assert seen.start % period == 0 and (length - seen.stop) % period == 0
            assert len(seen) <= axis.side(step)


def tiles(axis: Axis, step: int) -> list[int]:
    """Return the pixels of each tile, as the network grows it."""
    return [-(-len(seen) // axis.period) * axis.period for seen, _ in axis.spans(step)]


@pytest.mark.parametrize("most", [300, 500, 1000, 2000, 4000])
def test_the_cheapest_cut_is_that_of_all_even_cuts(most: int) -> None:
    for rows, columns in itertools.product((Axis(90, 5, 3, 2), Axis(37, 12, 12, 1)), (Axis(61, 2, 7, 4), Axis(64, 24, 24, 8))):
        steps = itertools.product({rows.even(n) for n in range(1, 99)}, {columns.even(n) for n in range(1, 99)})
        sides = [(tiles(rows, row), tiles(columns, column)) for row, column in steps]
        fitting = [sum(down) * sum(across) for down, across in sides if max(down) * max(across) <= most]
        found = cheapest(rows, columns, most)
        assert (found is None) == (not fitting)
        if found:
            down, across = tiles(rows, found.steps[0]), tiles(columns, found.steps[1])
            assert max(down) * max(across) <= most and found.tile == (max(down), max(across))
            assert sum(down) * sum(across) <= 1.05 * min(fitting)  # the work leaves out what the last tile is grown by


def test_a_picture_in_two_parts_has_one_halo_each() -> None:
    """512 + 256 of 1024 pixels, twice: 0.75 of the picture. A halo of 245 takes 256, whole periods of 32."""
    axis = Axis(1024, 245, 245, 32)
    found = cheapest(axis, axis, int(0.59 * 1024**2))
    assert found is not None and found.tile == (768, 768) and found.steps == (512, 512)
    halves = cheapest(axis, axis, int(0.75 * 1024**2))
    assert halves is not None and halves.work == 2 * 768 * 1024


def test_strips_win_where_they_fit() -> None:
    """Three strips of 1000 pixels: 1000 + 4 * 50 rows; two by two: (1000 + 2 * 50)^2 = 1.21 million."""
    axis = Axis(1000, 50, 50, 1)
    found = cheapest(axis, axis, 500_000)
    assert found is not None and found.work == 1_200_000
    assert sorted(found.steps) == [334, 1000]
    assert cheapest(axis, axis, 1_000_000) == Cut(axis, axis, (1000, 1000))
    assert cheapest(axis, axis, 101 * 101 - 1) is None and cheapest(axis, axis, 101 * 101) is not None


def test_parts_row_by_row() -> None:
    cut = Cut(Axis(4, 1, 0, 1), Axis(6, 0, 1, 1), (2, 4))
    assert list(cut.parts()) == [
        Part(Tile(0, 0, 2, 5), Tile(0, 0, 2, 4)),
        Part(Tile(0, 4, 2, 2), Tile(0, 4, 2, 2)),
        Part(Tile(1, 0, 3, 5), Tile(2, 0, 2, 4)),
        Part(Tile(1, 4, 3, 2), Tile(2, 4, 2, 2)),
    ]
    assert cut.tile == (3, 5)


def put_together(parts: list[tuple[Tile, Tensor]], like: Tensor, scale: float = 1) -> Tensor:
    """Paste the parts; each pixel must be given once."""
    whole = torch.full_like(like, torch.nan)
    for place, maps in parts:
        assert place.scaled(scale).of(whole).isnan().all()
        place.scaled(scale).of(whole).copy_(maps)
    assert not whole.isnan().any()
    return whole


def convolutions(stride: int) -> nn.Sequential:
    """Sees 3 pixels around its own; with a stride of 4, 1 + 2 * 4 before and 2 * 4 - 2 after its own four."""
    torch.manual_seed(0)
    first = nn.Conv2d(3, 8, 3, stride, 1)
    return nn.Sequential(first, nn.ReLU(), nn.Conv2d(8, 2, 5, 1, 2)).requires_grad_(False).double().eval()


@pytest.mark.parametrize(("stride", "before", "after"), [(1, 3, 3), (4, 9, 6)])
@pytest.mark.parametrize("size", [(64, 96), (60, 84)])
def test_convolutions_equal_the_whole_and_need_the_whole_halo(stride: int, before: int, after: int, size: Size) -> None:
    network, image = convolutions(stride), noise(1, 3, *size).double()
    whole = network(image)

    def error(before: int, after: int) -> float:
        rows, columns = (Axis(side, before, after, stride) for side in size)
        parts = list(exact(sees(network, image), Cut(rows, columns, (16, 24)), 1 / stride))
        return float((put_together(parts, whole, 1 / stride) - whole).abs().max())

    assert error(before, after) < 1e-14
    assert error(before - stride, after) > 1e-3 and error(before, after - stride) > 1e-3


# Blended tiles


@pytest.mark.parametrize(("size", "overlap", "period"), [((50, 70), 8, 1), ((64, 64), 8, 8), ((20, 90), 0, 1)])
def test_weights_are_a_partition_of_unity(size: Size, overlap: int, period: int) -> None:
    ones = list(blended(lambda tile: torch.ones(1, 2, *tile[2:]), size, (24, 24), (overlap, overlap), (period, period)))
    assert (put_together(ones, torch.zeros(1, 2, *size)) - 1).abs().max() < 1e-6
    assert all(place.left == 0 and place.width == size[1] for place, _ in ones)


def test_neighbours_that_disagree_are_mixed_in_proportion() -> None:
    counter = iter((0.0, 1.0))
    ((place, mixed),) = blended(lambda tile: torch.full((1, 1, 1, 4), next(counter)), (1, 6), (1, 4), (0, 2), (1, 1))
    assert place == Tile(0, 0, 1, 6)
    assert mixed[0, 0, 0].tolist() == [0, 0, 0.25, 0.75, 1, 1]
    counter = iter((0.0, 1.0))
    parts = list(blended(lambda tile: torch.full((1, 1, 4, 1), next(counter)), (6, 1), (4, 1), (2, 0), (1, 1)))
    assert [place for place, _ in parts] == [Tile(0, 0, 2, 1), Tile(2, 0, 4, 1)]
    assert torch.cat([maps for _, maps in parts], 2).flatten().tolist() == [0, 0, 0.25, 0.75, 1, 1]


@pytest.mark.parametrize("size", [(48, 80), (50, 83)])
def test_a_pointwise_network_is_reproduced_at_every_scale(size: Size) -> None:
    image = noise(2, 3, *size)
    networks = {
        1: lambda x: x.square().sum(1, keepdim=True),
        2: lambda x: nn.functional.interpolate(x.exp(), scale_factor=2),
        1 / 4: lambda x: nn.functional.avg_pool2d(x, 4, ceil_mode=True),
    }
    for scale, network in networks.items():
        whole = network(image)
        parts = list(blended(sees(network, image), size, (24, 32), (8, 8), (4, 4), scale))
        assert (put_together(parts, whole, scale) - whole).abs().max() < 1e-6


def test_tiles_of_one_size_at_multiples_of_the_period() -> None:
    seen: list[Tile] = []

    def see(tile: Tile) -> Tensor:
        seen.append(tile)
        return torch.zeros(1, 1, *tile[2:])

    assert len(list(blended(see, (10, 70), (32, 32), (8, 8), (8, 8)))) == 1
    assert seen == [Tile(0, 0, 10, 32), Tile(0, 24, 10, 32), Tile(0, 40, 10, 30)]
