"""DiffAugment: exact values for given draws, and gradients that pass through."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pixelwise.losses.differentiable_augmentation import Draw, augmented, drawn

ALL = ("colour", "translation", "cutout")


def still(**changes: float) -> Draw:
    """A draw that changes no colour and moves nothing, for one picture."""
    values = {"brightness": 0.5, "saturation": 0.5, "contrast": 0.5, "shift_y": 0.5, "shift_x": 0.5, "cut_y": 0.5, "cut_x": 0.5}
    return Draw(**{name: torch.tensor([value]) for name, value in (values | changes).items()})


def picture(side: int = 8, count: int = 1) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_without_a_policy_nothing_happens() -> None:
    images = picture()
    assert augmented(images, (), still(brightness=0.9, shift_x=0.0)) is images
    torch.testing.assert_close(augmented(images, ("colour", "translation"), still()), images, atol=1e-6, rtol=0)


def test_colour_by_hand() -> None:
    # one pixel (0, 0.3, 0.6): + 0.25; distance from the mean 0.55 times 1.5; the same pixel is the whole picture
    image = torch.tensor([0.0, 0.3, 0.6])[None, :, None, None]
    changed = augmented(image, ("colour",), still(brightness=0.75, saturation=0.75))
    torch.testing.assert_close(changed.flatten(), torch.tensor([0.1, 0.55, 1.0]), atol=1e-6, rtol=0)
    # two grey pixels -0.2 and 0.6: mean 0.2, distances -0.4 and 0.4 times 0.5
    image = torch.tensor([-0.2, 0.6]).expand(1, 3, 1, 2)
    changed = augmented(image, ("colour",), still(contrast=0.0))
    torch.testing.assert_close(changed[0, 0, 0], torch.tensor([0.0, 0.4]), atol=1e-6, rtol=0)
    assert augmented(picture(), ("colour",), still(saturation=0.0))[0].std(0).max() < 1e-6


def test_translation_moves_whole_pixels_over_zeros() -> None:
    """Of 16 pixels the most is 2, so there are 5 shifts: draws below 0.2 give -2, those from 0.8 on +2."""
    images = picture(16)
    moved = augmented(images, ("translation",), still(shift_y=0.99, shift_x=0.1))
    expected = torch.zeros_like(images)
    expected[..., 2:, :-2] = images[..., :-2, 2:]
    assert torch.equal(moved, expected)
    assert torch.equal(augmented(images, ("translation",), still(shift_y=0.45, shift_x=0.59)), images)


def test_cutout_fills_half_of_each_side() -> None:
    # of 8 pixels 4 are cut, the middle at floor(9 d): 4 here, so rows 2 to 5; and at 0 the part inside, 0 and 1
    cut = augmented(torch.ones(1, 1, 8, 8), ("cutout",), still(cut_y=0.5, cut_x=0.0))
    expected = torch.ones(8, 8)
    expected[2:6, :2] = 0
    assert torch.equal(cut[0, 0], expected)
    last = augmented(torch.ones(1, 1, 8, 8), ("cutout",), still(cut_y=0.999, cut_x=0.999))
    assert last.eq(0).nonzero()[:, 2:].tolist() == [[6, 6], [6, 7], [7, 6], [7, 7]]


def test_each_picture_has_its_own_draw_and_pictures_that_belong_together_one() -> None:
    torch.manual_seed(1)
    draw, images = drawn(4), picture(16, 4)
    for i in range(4):
        alone = Draw(*(part[i : i + 1] for part in draw))
        torch.testing.assert_close(augmented(images, ALL, draw)[i : i + 1], augmented(images[i : i + 1], ALL, alone))
    source, target = (augmented(one, ("translation", "cutout"), draw) for one in (torch.ones(4, 1, 16, 16), images))
    assert torch.equal((source == 0).expand_as(target), target == 0)
    assert torch.equal(drawn(2, torch.device("cpu")).cut_x < 1, torch.tensor([True, True]))


@pytest.mark.parametrize("policy", [("colour",), ("translation",), ("cutout",), ALL])
def test_gradients_pass_and_stop_where_nothing_is_seen(policy: tuple[str, ...]) -> None:
    torch.manual_seed(2)
    images = picture(8, 2).double().requires_grad_()
    draw = Draw(*(part.double() for part in drawn(2)))
    assert torch.autograd.gradcheck(lambda x: augmented(x, policy, draw), (images,))  # type: ignore[arg-type]
    (slopes,) = torch.autograd.grad(augmented(images, ("cutout",), draw).sum(), images)
    assert slopes.unique().tolist() == [0.0, 1.0]
