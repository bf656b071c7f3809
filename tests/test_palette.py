import pytest
import torch

from pixelwise.color.palette import colourise, distinct_colours, oklab
from pixelwise.errors import DataError

PALETTE = ((10, 20, 30), (200, 0, 0), (0, 200, 0))


def test_oklab_of_white_and_of_red():
    """Ottosson's published red; white has lightness 1 and no chroma."""
    found = oklab(torch.tensor([[255, 255, 255], [255, 0, 0], [0, 0, 0]]))
    expected = torch.tensor([[1.0, 0, 0], [0.62796, 0.22486, 0.12585], [0, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("count", "apart"), [(2, 0.35), (11, 0.14), (32, 0.09), (150, 0.045)])
def test_colours_are_distinct_and_calm_and_neither_black_nor_white(count, apart):
    colours = distinct_colours(count)
    assert len(set(colours)) == count
    seen = oklab(torch.tensor(colours))
    assert torch.pdist(seen).min() > apart
    assert seen[:, 0].min() > 0.4 and seen[:, 0].max() < 0.9
    assert seen[:, 1:].norm(dim=1).max() < 0.13  # half of what pure red has


def test_fewer_colours_are_the_beginning_of_more():
    assert distinct_colours(7) == distinct_colours(300)[:7]
    assert distinct_colours(0) == ()


def test_too_many_colours_are_refused():
    with pytest.raises(DataError, match="no 5000 colours"):
        distinct_colours(5000)


def test_colourise_by_hand():
    labels = torch.tensor([[0, 2], [255, 1]], dtype=torch.uint8)
    painted = colourise(labels, PALETTE, unknown=(1, 2, 3))
    assert painted.dtype == torch.uint8 and painted.shape == (3, 2, 2)
    assert painted.movedim(0, -1).tolist() == [[[10, 20, 30], [0, 200, 0]], [[1, 2, 3], [200, 0, 0]]]
    assert torch.equal(colourise(torch.stack([labels, labels]), PALETTE, unknown=(1, 2, 3))[1], painted)


def test_colourise_without_palette_or_classes():
    labels = torch.tensor([[4, 0]], dtype=torch.uint8)
    assert colourise(labels)[:, 0, 0].tolist() == list(distinct_colours(5)[4])
    assert colourise(torch.full((2, 2), 255, dtype=torch.uint8)).eq(0).all()


def test_class_without_colour_is_refused():
    with pytest.raises(DataError, match="class 3 has no colour"):
        colourise(torch.tensor([[3]]), PALETTE)
