"""Lines from maps: thinning against skimage, ridges and drawings on shapes whose lines are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage
from skimage.draw import line as skimage_line
from skimage.morphology import thin as skimage_thin

from pixelwise.geometry.lines import across, drawn, hysteresis, long_enough, ridges, smoothed, suppressed, thin


@pytest.mark.parametrize("seed", range(12))
def test_thinning_is_that_of_skimage(seed: int) -> None:
    random = np.random.default_rng(seed)
    blobs = ndimage.gaussian_filter(random.random((50, 61)), random.uniform(0.5, 3))
    mask = blobs > np.quantile(blobs, random.uniform(0.2, 0.9))
    assert np.array_equal(thin(mask), skimage_thin(mask))


def test_thinning_a_bar_by_hand() -> None:
    bar = np.zeros((7, 20), bool)
    bar[2:5, 2:18] = True
    found = thin(bar)
    assert found.sum(0).max() == 1 and found[3, 4:16].all()
    assert thin(np.zeros((3, 4), bool)).sum() == 0
    assert thin(np.ones((1, 1), bool)).sum() == 1


def test_smoothing_is_the_triangle() -> None:
    spike = np.zeros((9, 9))
    spike[4, 4] = 16
    assert smoothed(spike, 1)[3:6, 3:6].tolist() == [[1, 2, 1], [2, 4, 2], [1, 2, 1]]
    corner = np.zeros((5, 5))
    corner[0, 0] = 16  # mirrored at the border: the spike is beside itself
    assert smoothed(corner, 1)[:2, :2].tolist() == [[9, 3], [3, 1]]


@pytest.mark.parametrize("degrees", [0, 20, 45, 70, 90, 110, 135, 160])
def test_direction_across_a_ridge(degrees: float) -> None:
    y, x = np.mgrid[:61, :61] - 30.0
    angle = math.radians(degrees)
    ridge = np.exp(-(((x * math.cos(angle) + y * math.sin(angle)) / 5) ** 2))
    found = math.degrees(float(across(ridge)[30, 30]))
    # the second derivatives along x and y are as cos^2 to sin^2, and the benchmark takes the arc tangent of their ratio
    squared = math.degrees(math.atan(math.tan(angle) ** 2))
    expected = squared if degrees <= 90 else 180 - squared
    assert min(abs(found - expected), 180 - abs(found - expected)) < 0.5


@pytest.mark.parametrize("degrees", [0, 30, 45, 60, 90, 120])
def test_a_ridge_is_one_line(degrees: float) -> None:
    y, x = np.mgrid[:61, :61] - 30.0
    angle = math.radians(degrees)
    off = x * math.cos(angle) + y * math.sin(angle)
    found = ridges(np.exp(-((off / 3) ** 2)))[10:-10, 10:-10]
    lines = thin(found > 0.5)
    assert np.abs(off[10:-10, 10:-10][lines]).max() < 1.0
    assert ndimage.label(lines, np.ones((3, 3)))[1] == 1
    assert 40 <= lines.sum() <= 60


def test_suppression_by_hand() -> None:
    """Only the middle column is at least its neighbours; 1.01 times the right one reaches it too."""
    values = np.tile(np.array([0.0, 0.5, 1.0, 0.995, 0.0]), (5, 1))
    found = suppressed(values, np.zeros((5, 5)), border=1)
    assert (found[2] > 0).tolist() == [False, False, True, True, False]
    strict = suppressed(values, np.zeros((5, 5)), border=1, slack=1.0)
    assert (strict[2] > 0).tolist() == [False, False, True, False, False]


def test_borders_fade_linearly() -> None:
    found = suppressed(np.ones((20, 20)), np.zeros((20, 20)), border=5)
    assert found[10, :7].tolist() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1, 1], abs=1e-12)
    assert np.array_equal(found, found[::-1, ::-1])


def test_hysteresis_and_length_by_hand() -> None:
    values = np.array(
        [[0.9, 0.4, 0.0, 0.4, 0.4], [0.0, 0.0, 0.4, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0], [0.4, 0.0, 0.0, 0.0, 0.9]]
    )
    found = hysteresis(values, low=0.3, high=0.8)
    assert found.astype(int).tolist() == [[1, 1, 0, 1, 1], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1]]
    assert long_enough(found, 2).sum() == 5
    assert long_enough(found, 6).sum() == 0
    assert hysteresis(np.zeros((4, 4)), 0.3, 0.8).sum() == 0


def test_a_drawing_keeps_the_long_line_up_to_the_border() -> None:
    values = np.zeros((60, 80))
    values[:, 40] = 1.0
    values[20, 10:14] = 1.0
    found = drawn(ndimage.gaussian_filter(values, 1.0) * 2, low=0.2, high=0.4, length=20)
    assert found[:, 40].all() and found.sum() == 60
    assert drawn(np.zeros((60, 80)), 0.2, 0.4, 20).sum() == 0


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (30, 1), (2, 2), (3, 50)])
def test_tiny_maps(size: tuple[int, int]) -> None:
    values = np.random.default_rng(0).random(size)
    assert ridges(values).shape == drawn(values, 0.2, 0.4, 1).shape == size


@pytest.mark.parametrize("degrees", [0, 20, 45, 70, 90, 115, 135, 160])
@pytest.mark.parametrize("certain", [1.0, 0.85])
def test_a_certain_line_one_pixel_wide_is_drawn_as_it_is(degrees: float, certain: float) -> None:
    """Smoothed it is at most 0.5 high, and 0.375 along a diagonal: no reason not to draw it."""
    reach = [22 * math.sin(math.radians(degrees)), 22 * math.cos(math.radians(degrees))]
    line = np.zeros((60, 60), bool)
    line[skimage_line(*(round(30 + sign * one) for sign in (-1, 1) for one in reach))] = True
    assert np.array_equal(drawn(line * certain, low=0.5, high=0.8, length=12), line)
    assert drawn(line * 0.75, low=0.5, high=0.8, length=12).sum() == 0
    assert drawn(line * certain, low=0.5, high=0.8, length=int(line.sum()) + 1).sum() == 0


def test_direction_is_that_of_the_line_and_not_of_its_steps() -> None:
    """Down 1 for every 2 to the right: the second derivatives are as 1 to 4, which a radius of 3 misses by 3.6 degrees."""
    line = np.zeros((60, 60))
    line[np.arange(60) // 2 + 15, np.arange(60)] = 1
    found = np.degrees(across(line))[line > 0][15:45]
    assert found == pytest.approx(90 + math.degrees(math.atan(1 / 4)), abs=2.8)
