import math
from typing import ClassVar

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional

from pixelwise.losses.adversarial import discriminator_loss, generator_loss
from pixelwise.losses.classification import cross_entropy, spatial_cross_entropy
from pixelwise.losses.regression import l1_loss, l2_loss, masked_mean, smooth_l1_loss
from pixelwise.losses.weights import LossWeights, Weight

NAN = torch.nan
REGRESSION = [
    (l1_loss, (0.25 + 1.25) / 2),
    (l2_loss, (0.0625 + 1.5625) / 2),
    (smooth_l1_loss, (0.03125 + 0.75) / 2),
]


def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(("loss", "expected"), REGRESSION)
def test_regression_by_hand_ignores_nan_and_divides_by_the_valid(loss, expected):
    """Only the differences -0.25 and 1.25 count."""
    prediction = torch.tensor([0.75, 7.0, 3.25, 2.0], requires_grad=True)
    target = torch.tensor([1.0, NAN, 2.0, torch.inf])
    value = loss(prediction, target, torch.tensor([True, False, True, False]))
    value.backward()
    assert value.item() == pytest.approx(expected)
    assert prediction.grad[[1, 3]].eq(0).all() and prediction.grad[[0, 2]].ne(0).all()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (l1_loss, functional.l1_loss),
        (l2_loss, functional.mse_loss),
        (smooth_l1_loss, functional.smooth_l1_loss),
        (lambda p, t: smooth_l1_loss(p, t, beta=0.3), lambda p, t: functional.smooth_l1_loss(p, t, beta=0.3)),
    ],
)
def test_regression_agrees_with_torch(ours, theirs):
    prediction, target = torch.randn(2, 3, 4, 5, generator=generator()), torch.randn(3, 4, 5, generator=generator())
    torch.testing.assert_close(ours(prediction[0], target), theirs(prediction[0], target))


@pytest.mark.parametrize("loss", [l1_loss, l2_loss, smooth_l1_loss])
def test_regression_of_nothing_is_zero_with_zero_gradients(loss):
    prediction = torch.randn(2, 3, generator=generator(), requires_grad=True)
    value = loss(prediction, torch.full((2, 3), NAN), torch.zeros(2, 1, dtype=torch.bool))
    value.backward()
    assert value.item() == 0 and prediction.grad.eq(0).all()


def test_masked_mean_broadcasts_the_mask_and_counts_what_it_covers():
    values = torch.tensor([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]])
    assert masked_mean(values, torch.tensor([[False], [True]])).item() == 20
    assert masked_mean(values).item() == 11


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 2.0, 0.0, 1.5])])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_cross_entropy_agrees_with_torch(weights, dtype):
    logits = torch.randn(2, 4, 5, 6, generator=generator(), requires_grad=True)
    labels = torch.randint(4, (2, 5, 6), generator=generator())
    labels[0, :3] = 255
    ours = cross_entropy(logits, labels.to(dtype), weights)
    theirs = functional.cross_entropy(logits, labels, weights, ignore_index=255)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)))
    gradient = torch.autograd.grad(cross_entropy(logits, labels, weights), logits)[0]
    assert gradient[0, :, :3].eq(0).all()


@pytest.mark.parametrize(("label", "weights"), [(255, None), (255, [1.0, 1.0]), (1, [1.0, 0.0])])
def test_cross_entropy_of_nothing_is_zero_with_zero_gradients(label, weights):
    logits = torch.randn(1, 2, 3, 3, generator=generator(), requires_grad=True)
    weights = None if weights is None else torch.tensor(weights)
    value = cross_entropy(logits, torch.full((1, 3, 3), label), weights)
    value.backward()
    assert value.item() == 0 and logits.grad.eq(0).all()


def test_cross_entropy_with_another_ignored_label():
    logits = torch.tensor([[[[1.0, 5.0]], [[1.0, 0.0]]]])
    assert cross_entropy(logits, torch.tensor([[[0, -1]]]), ignore=-1).item() == pytest.approx(math.log(2))


def test_spatial_cross_entropy_of_one_hot_targets_is_mask_rcnns():
    logits = torch.randn(2, 3, 4, 5, generator=generator())
    index = torch.randint(20, (2, 3), generator=generator())
    targets = functional.one_hot(index, 20).float().view(2, 3, 4, 5)
    valid = torch.tensor([[True, False, True], [False, False, True]])
    expected = functional.cross_entropy(logits.flatten(2)[valid], index[valid])
    torch.testing.assert_close(spatial_cross_entropy(logits, targets, valid), expected)


def test_spatial_cross_entropy_of_a_soft_target_by_hand():
    """Places with probability 1/2, 1/4, 1/4; target 1/4, 3/4, 0."""
    logits = torch.tensor([2.0, 1.0, 1.0]).log().view(1, 1, 1, 3)
    targets = torch.tensor([0.25, 0.75, 0.0]).view(1, 1, 1, 3)
    value = spatial_cross_entropy(logits, targets, torch.tensor([[True]]))
    assert value.item() == pytest.approx(0.25 * math.log(2) + 0.75 * math.log(4))


SOFTPLUS = math.log(1 + math.exp(-2)), math.log(1 + math.e)  # of -2 and of 1


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("vanilla", sum(SOFTPLUS) / 2), ("lsgan", (1 + 1) / 2), ("hinge", (0 + 2) / 2)],
)
def test_discriminator_loss_is_half_the_sum(kind, expected):
    real, fake = torch.full((2, 1, 3, 3), 2.0), torch.full((1, 1, 2, 2), 1.0)
    assert discriminator_loss(real, fake, kind).item() == pytest.approx(expected)


@pytest.mark.parametrize(("kind", "expected"), [("vanilla", SOFTPLUS[0]), ("lsgan", 1.0), ("hinge", -2.0)])
def test_generator_loss_by_hand(kind, expected):
    assert generator_loss(torch.full((2, 1, 3, 3), 2.0), kind).item() == pytest.approx(expected)


def test_vanilla_is_the_logistic_loss_of_pytorch_pix2pix():
    real, fake = torch.randn(2, 1, 4, 4, generator=generator()), torch.randn(1, 4, generator=generator())
    bce = functional.binary_cross_entropy_with_logits
    expected = (bce(real, torch.ones_like(real)) + bce(fake, torch.zeros_like(fake))) * 0.5
    torch.testing.assert_close(discriminator_loss(real, fake), expected)
    torch.testing.assert_close(generator_loss(fake), bce(fake, torch.ones_like(fake)))


@pytest.mark.parametrize("kind", ["vanilla", "lsgan", "hinge"])
def test_players_pull_in_opposite_directions(kind):
    fake = torch.full((3,), 0.5, requires_grad=True)
    down = torch.autograd.grad(discriminator_loss(torch.zeros(3), fake, kind), fake)[0]
    up = torch.autograd.grad(generator_loss(fake, kind), fake)[0]
    assert (down > 0).all() and (up < 0).all()


class Terms(LossWeights):
    first: Weight = 1.0
    second: Weight = 0.0
    sharpness: Weight = 3.0
    parameters: ClassVar[frozenset[str]] = frozenset({"sharpness"})


def test_a_loss_without_weight_is_not_computed_and_a_parameter_is_no_weight() -> None:
    def never() -> Tensor:
        raise AssertionError

    found = Terms(first=0.5).weighted({"second": never, "first": lambda: torch.tensor(4.0), "sharpness": never})
    assert found == {"first": torch.tensor(2.0)}
    with pytest.raises(ValidationError, match=r"every weight is 0, .* such as first=1"):
        Terms(first=0)
