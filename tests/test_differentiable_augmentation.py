"""DiffAugment: exact values for given draws, and gradients that pass through."""

from __future__ import annotations

import pytest
import torch
from test_tasks import batch_of, opened, small
from torch import Tensor

from pixelwise.adversary import AdversarialConfig, Changed
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


def test_a_condition_moves_with_its_picture_and_keeps_its_colours() -> None:
    """Source and answer of a conditional discriminator, three channels each; both have the same pixels here."""
    torch.manual_seed(3)
    images = picture(16, 4)
    change = Changed(AdversarialConfig(kind="any", augmentation=ALL), images)
    source, answer = change(torch.cat([images, images], 1)).chunk(2, 1)
    assert change.draw is not None
    assert torch.equal(source, augmented(images, ("translation", "cutout"), change.draw))
    assert torch.equal(answer, augmented(images, ALL, change.draw)) and not torch.equal(source, answer)
    still_there = source.ne(0).any(1, keepdim=True).expand_as(answer)
    assert 0 < still_there.float().mean() < 0.8 and not answer[~still_there].any()
    assert torch.equal(change(images), answer)


def test_without_a_policy_nothing_is_drawn_and_no_run_changes() -> None:
    torch.manual_seed(4)
    state, images = torch.get_rng_state(), picture()
    assert Changed(AdversarialConfig(kind="any"), images)(images) is images
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", ["translation", "cycle_translation"])
def test_it_is_one_setting_of_the_translations(kind: str) -> None:
    """With few changes the losses of a step are others, and every network still gets gradients."""
    data, batch = opened(kind), batch_of(kind)
    losses = []
    for policy in ((), ALL):
        torch.manual_seed(0)
        task = data.task.config.model_copy(update={"augmentation": policy}).build(data.train.meta)
        networks = task.networks(small(kind).network)
        encoded = task.encode(batch)
        outputs = task.forward(networks, encoded)
        found = {phase: task.loss(phase.name, networks, encoded, outputs) for phase in task.phases}
        for phase, own in found.items():
            parameters = [p for name in phase.networks for p in networks[name].parameters()]
            slopes = torch.autograd.grad(sum(own.values()), parameters, retain_graph=True)
            assert all(slope.isfinite().all() for slope in slopes)
        losses.append({name: loss.item() for own in found.values() for name, loss in own.items()})
    changed = {name for name in losses[0] if losses[0][name] != losses[1][name]}
    assert changed == {name for name in losses[0] if name.startswith(("discriminator", "adversarial"))}
