"""Sliding a classifier of patches: three ways to the same scores, and how often the slow ones filter the same place."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pixelwise.errors import UsageError
from pixelwise.nn.convolutionalize import to_fully_convolutional
from pixelwise.nn.sliding import patch_classifier, refiltering, slide, slide_densely

PRECISIONS = {torch.float32: 1e-6, torch.float64: 1e-12}


def picture(channels: int, height: int, width: int, dtype: torch.dtype = torch.float64, pictures: int = 1) -> Tensor:
    return torch.rand(pictures, channels, height, width, generator=torch.Generator().manual_seed(1), dtype=dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS.items(), ids=str)
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_three_ways_to_the_same_scores(depth: int, dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(depth)
    network = patch_classifier(depth, 3, 6, 2).to(dtype)
    image = picture(3, 9, 7, dtype, pictures=2)
    dense = slide_densely(network, image, 2 * depth + 1)
    assert dense.shape == (2, 2, 9, 7)
    assert dense.std() > 0.1  # with scores that hardly differ, places could be mixed up
    for batch in (1, 5, 1000):
        slid = slide(network, image, 2 * depth + 1, batch)
        assert (slid - dense).abs().max() <= tolerance * dense.abs().max()


def test_a_score_belongs_to_the_patch_around_its_pixel() -> None:
    class Corner(nn.Module):
        def forward(self, patches: Tensor) -> Tensor:
            return torch.stack([patches[:, 0, 1, 1], patches[:, 0, 0, 2]], 1)

    image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]]])
    slid = slide(Corner(), image, 3, 4)
    assert slid.shape == (1, 2, 3, 2)
    assert torch.equal(slid[:, :1], image)
    assert torch.equal(slid[0, 1], torch.tensor([[0.0, 0.0], [2.0, 0.0], [4.0, 0.0]]))  # up and to the right; zeros outside


def test_depth_is_reach() -> None:
    network = patch_classifier(4, 1, 2, 3)
    assert network(torch.rand(2, 1, 9, 9)).shape == (2, 3, 1, 1)
    with pytest.raises(RuntimeError):
        network(torch.rand(2, 1, 8, 8))
    assert [type(layer) for layer in patch_classifier(2, 1, 2, 3)] == [nn.Conv2d, nn.ReLU, nn.Conv2d]


@pytest.mark.parametrize(("depth", "times"), [(1, 1), (2, 9), (3, 25)])
def test_refiltering_is_what_is_counted(depth: int, times: int) -> None:
    """Count, for every place of the picture, how often the first layer computes its value there."""
    assert refiltering(depth) == times
    network, patch, side = patch_classifier(depth, 1, 2, 1), 2 * depth + 1, 8
    counted = torch.zeros(side + 2 * depth - 2, side + 2 * depth - 2, dtype=torch.int64)
    places = iter([(row, column) for row in range(side) for column in range(side)])

    def count(layer: nn.Module, given: object, maps: Tensor) -> None:
        row, column = next(places)
        counted[row : row + maps.shape[2], column : column + maps.shape[3]] += 1

    network[0].register_forward_hook(count)
    slide(network, picture(1, side, side, torch.float32), patch)
    assert next(places, None) is None
    inner = slice(2 * depth - 2, side)  # places that no border keeps from being in every patch that could hold them
    assert (counted[inner, inner] == times).all()
    assert counted.sum() == side**2 * times
    assert counted.max() == times


def test_any_classifier_of_patches_slides_densely_once_it_is_convolutional() -> None:
    torch.manual_seed(0)
    classifier = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 3 * 3, 6), nn.ReLU(), nn.Linear(6, 2))
    classifier.double()
    image = picture(2, 8, 6)
    dense = slide_densely(to_fully_convolutional(classifier, 5), image, 5)
    assert (slide(classifier, image, 5, 7) - dense).abs().max() <= 1e-12
    assert dense.shape == (1, 2, 8, 6)


def test_no_centre_no_batch() -> None:
    network = patch_classifier(1, 1, 1, 1)
    for way in (slide, slide_densely):
        with pytest.raises(UsageError, match="a patch of 4 pixels has no pixel in its centre"):
            way(network, picture(1, 8, 8), 4)
    with pytest.raises(UsageError, match="0 patches per call"):
        slide(network, picture(1, 8, 8), 3, 0)
