"""Colour spaces against scikit-image and by hand; the bins of colorization against what the paper counts."""

from __future__ import annotations

import pytest
import torch
from skimage import color
from torch import Tensor

from pixelwise.color.chroma import in_gamut
from pixelwise.color.spaces import (
    lab_of_srgb,
    linear_of_srgb,
    srgb_of_lab,
    srgb_of_linear,
    srgb_of_ycbcr,
    ycbcr_of_srgb,
)


def colours() -> Tensor:
    """Random, dark, black, white and both sides of the curve's kink, float64 `(3, 8, 8)`."""
    picture = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    picture[:, 1] *= 0.05
    picture[:, 2], picture[:, 3], picture[:, 4, :4], picture[:, 4, 4:] = 0, 1, 0.0404, 0.0405
    return picture


@pytest.mark.parametrize(("ours", "theirs"), [(lab_of_srgb, color.rgb2lab), (ycbcr_of_srgb, color.rgb2ycbcr)])
def test_as_scikit_image(ours, theirs) -> None:  # type: ignore[no-untyped-def]
    found = ours(colours()).movedim(0, -1)
    torch.testing.assert_close(found, torch.from_numpy(theirs(colours().movedim(0, -1).numpy())), atol=1e-9, rtol=0)


def test_back_as_scikit_image() -> None:
    lab = lab_of_srgb(colours())
    found = srgb_of_lab(lab).clamp(0, 1).movedim(0, -1)
    torch.testing.assert_close(found, torch.from_numpy(color.lab2rgb(lab.movedim(0, -1).numpy())), atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("there", "back"), [(linear_of_srgb, srgb_of_linear), (lab_of_srgb, srgb_of_lab), (ycbcr_of_srgb, srgb_of_ycbcr)]
)
@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 3, 8, 4), (1, 2, 3, 4, 8)])
def test_there_and_back(there, back, shape: tuple[int, ...]) -> None:  # type: ignore[no-untyped-def]
    picture = colours().flatten()[:192].view(shape) if len(shape) == 3 else torch.rand(shape, dtype=torch.float64)
    torch.testing.assert_close(back(there(picture)), picture, atol=2e-6, rtol=0)


def test_by_hand() -> None:
    """White is L = 100 without colour; Y of white is 235, of black 16; middle grey 0.5 is linear 0.2140."""
    white, black = (torch.full((3, 1, 1), value, dtype=torch.float64) for value in (1.0, 0.0))
    assert lab_of_srgb(white).flatten().tolist() == pytest.approx([100, 0, 0], abs=6e-3)
    assert lab_of_srgb(black).flatten().tolist() == [0, 0, 0]
    assert ycbcr_of_srgb(white).flatten().tolist() == pytest.approx([235, 128, 128], abs=1e-9)
    assert ycbcr_of_srgb(black).flatten().tolist() == [16, 128, 128]
    assert linear_of_srgb(torch.tensor(0.5)).item() == pytest.approx(((0.5 + 0.055) / 1.055) ** 2.4, rel=1e-6)


@pytest.mark.parametrize("convert", [lab_of_srgb, srgb_of_lab, linear_of_srgb, srgb_of_linear])
def test_gradients_are_those_of_differences_and_never_infinite(convert) -> None:  # type: ignore[no-untyped-def]
    scale = 100 if convert is srgb_of_lab else 1
    inside = (torch.rand(3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 0.8 + 0.1) * scale
    assert torch.autograd.gradcheck(convert, inside.requires_grad_())
    steep = torch.tensor([0.0, -0.3, 1.0, 1.7, 1e-12]).mul(scale).repeat(3, 1, 1).requires_grad_()
    convert(steep).sum().backward()
    assert steep.grad is not None and steep.grad.isfinite().all()


def test_the_bins_of_the_paper() -> None:
    """313 of them; a from -90 to 100 and b from -110 to 100; every colour of the cube lies within a cell of kept corners."""
    bins = in_gamut()
    assert bins.shape == (313, 2)
    assert bins.amin(0).tolist() == [-90, -110] and bins.amax(0).tolist() == [100, 100]
    assert bins[0].tolist() == [-90, 50] and bins[-1].tolist() == [100, 0]
    assert bins.tolist() == sorted(bins.tolist())
    kept = {tuple(point) for point in bins.tolist()}
    axis = torch.linspace(0, 1, 21, dtype=torch.float64)
    seen = lab_of_srgb(torch.cartesian_prod(axis, axis, axis).T[..., None])[1:, :, 0].T
    corner = (seen / 10).floor() * 10
    for right in (0, 10):
        for up in (0, 10):
            assert {tuple(point) for point in (corner + torch.tensor([right, up])).tolist()} <= kept
