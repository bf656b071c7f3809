"""Bicubic resizing by hand, and against torch's antialiased one where the two agree: away from the border."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from pixelwise.geometry.resample import bicubic, keys


def test_the_kernel_by_hand() -> None:
    """With a = -1/2: h(1/4) = 111/128, h(3/4) = 29/128, h(5/4) = -9/128, h(7/4) = -3/128; they sum to 1."""
    values = keys(torch.tensor([0.0, 0.25, -0.75, 1.0, 1.25, 1.75, 2.0, 3.0], dtype=torch.float64)) * 128
    assert values.tolist() == pytest.approx([128, 111, 29, 0, -9, -3, 0, 0], abs=1e-12)


def test_one_bright_pixel_enlarged_twice() -> None:
    """Pixel 3 of 8 lies at 3.5; the pixels of the result at 2.75 .. 4.25 see it from 3/4, 1/4, 1/4, 3/4 away."""
    picture = torch.zeros(1, 8, dtype=torch.float64)
    picture[0, 3] = 128
    found = bicubic(picture.expand(8, 8), (16, 16))[7]
    assert found.tolist() == pytest.approx([0, 0, 0, -3, -9, 29, 111, 111, 29, -9, -3, 0, 0, 0, 0, 0], abs=1e-12)


def test_the_border_is_mirrored() -> None:
    """Pixel 0 of the result looks from -1/4 pixel: 111 of pixel 0, 29 and -3 of its mirror and pixel 1, ..."""
    row = torch.tensor([[10.0, 20.0, 40.0, 80.0]], dtype=torch.float64)
    first = (111 * 10 + 29 * 10 - 9 * 20 - 3 * 20) / 128
    assert bicubic(row, (1, 8))[0, 0].item() == pytest.approx(first, abs=1e-12)


@pytest.mark.parametrize("size", [(12, 16), (16, 24), (36, 48), (7, 9)])
def test_inside_it_is_the_antialiased_one_of_torch(size: tuple[int, int]) -> None:
    picture = torch.rand(1, 1, 48, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    theirs = functional.interpolate(picture, size, mode="bicubic", antialias=True)
    ours, rim = bicubic(picture, size), 3
    torch.testing.assert_close(ours[..., rim:-rim, rim:-rim], theirs[..., rim:-rim, rim:-rim], atol=1e-12, rtol=0)


@pytest.mark.parametrize("size", [(5, 7), (31, 1), (1, 1), (90, 64)])
def test_a_plain_picture_stays_plain(size: tuple[int, int]) -> None:
    torch.testing.assert_close(bicubic(torch.full((2, 9, 13), 0.7), size), torch.full((2, *size), 0.7))


def test_a_ramp_is_not_shifted() -> None:
    ramp = (torch.arange(32, dtype=torch.float64) + 0.5).expand(4, 32)
    found = bicubic(ramp, (4, 96))[0, 9:-9]
    torch.testing.assert_close(found, (torch.arange(9, 87, dtype=torch.float64) + 0.5) / 3, atol=1e-12, rtol=0)
