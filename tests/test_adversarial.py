"""Objectives of two players: numbers worked by hand, penalties that reach the weights, and two pixels that are learned."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from pixelwise.losses.adversarial import Kind, discriminator_loss, generator_loss, gradient_penalty, r1
from pixelwise.losses.feature_matching import feature_matching_loss

LOG = math.log


@pytest.mark.parametrize(
    ("kind", "judge", "painter"),
    [  # sigmoid(log 3) = 3/4 for the real one, sigmoid(-log 4) = 1/5 for the generated one
        ("vanilla", -LOG(3 / 4) - LOG(4 / 5), -LOG(1 / 5)),
        ("minimax", -LOG(3 / 4) - LOG(4 / 5), LOG(4 / 5)),
        ("lsgan", (LOG(3) - 1) ** 2 + LOG(4) ** 2, (LOG(4) + 1) ** 2),
        ("hinge", 0.0, LOG(4)),
        ("wasserstein", -LOG(4) - LOG(3), LOG(4)),
    ],
)
def test_objectives_by_hand(kind: Kind, judge: float, painter: float) -> None:
    real, fake = torch.tensor([LOG(3)], dtype=torch.float64), torch.tensor([-LOG(4)], dtype=torch.float64)
    share = 1 if kind == "wasserstein" else 2
    assert discriminator_loss(real, fake, kind, halved=False).item() == pytest.approx(judge, abs=1e-12)
    assert discriminator_loss(real, fake, kind).item() == pytest.approx(judge / share, abs=1e-12)
    assert generator_loss(fake, kind).item() == pytest.approx(painter, abs=1e-12)


def test_a_sure_discriminator_silences_minimax_but_not_the_non_saturating_loss() -> None:
    """The gradients are -sigmoid(f) and -sigmoid(-f), at f = -10."""
    fake = torch.tensor([-10.0], dtype=torch.float64, requires_grad=True)
    slopes = [torch.autograd.grad(generator_loss(fake, kind), fake)[0].item() for kind in ("minimax", "vanilla")]
    assert slopes == pytest.approx([-1 / (1 + math.exp(10)), -1 / (1 + math.exp(-10))], rel=1e-12)


def test_several_discriminators_are_added_and_each_is_a_mean() -> None:
    small, large = torch.full((1, 1, 2, 2), 2.0), torch.full((1, 1, 8, 8), 4.0)
    assert generator_loss([large, small], "lsgan").item() == 9 + 1
    assert discriminator_loss([small, large], [small, small], "lsgan").item() == (1 + 4) / 2 + (9 + 4) / 2
    with pytest.raises(ValueError, match="zip"):
        discriminator_loss([small, large], [small], "lsgan")


def test_half_precision_is_judged_in_float32() -> None:
    assert generator_loss(torch.tensor([1.0], dtype=torch.bfloat16)).dtype == torch.float32


class Linear(nn.Module):
    """A picture of two pixels is worth 3 x + 4 y: the gradient is (3, 4) everywhere, of length 5."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))

    def forward(self, image: Tensor) -> Tensor:
        return (image.flatten(1) * self.weight).sum(1)


def test_gradient_penalty_by_hand_reaches_the_weights() -> None:
    """(5 - 1)^2 = 16, and by the weights 2 (5 - 1) (3, 4) / 5."""
    critic, pictures = Linear(), torch.rand(6, 1, 1, 2, dtype=torch.float64)
    penalty = gradient_penalty(critic, pictures[:3], pictures[3:])
    assert penalty.item() == pytest.approx(16, abs=1e-12)
    penalty.backward()
    assert critic.weight.grad is not None and critic.weight.grad.tolist() == pytest.approx([4.8, 6.4], abs=1e-12)


def test_r1_by_hand_reaches_the_weights() -> None:
    """25 / 2, and by the weights (3, 4)."""
    critic = Linear()
    penalty = r1(critic, torch.rand(3, 1, 1, 2, dtype=torch.float64))
    assert penalty.item() == pytest.approx(12.5, abs=1e-12)
    penalty.backward()
    assert critic.weight.grad is not None and critic.weight.grad.tolist() == pytest.approx([3, 4], abs=1e-12)


def test_the_penalty_lies_between_real_and_generated() -> None:
    """Of x^2 / 2 the slope is x itself: 2 t + 4 (1 - t) between the real 2 and the generated 4."""
    real, fake = torch.full((5, 1, 1, 1), 2.0, dtype=torch.float64), torch.full((5, 1, 1, 1), 4.0, dtype=torch.float64)
    share = torch.rand(5, 1, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).flatten()
    found = gradient_penalty(lambda image: image.square() / 2, real, fake, torch.Generator().manual_seed(3))
    expected = sum((2 * t + 4 * (1 - t) - 1) ** 2 for t in share.tolist()) / 5
    assert share.min() < 0.3 < 0.6 < share.max()
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_penalties_take_the_mean_of_patches_and_the_sum_of_discriminators() -> None:
    """Each of four patches is 4 x of its own pixel: the mean has the gradient (1, 1, 1, 1), of length 2; twice it 4."""
    picture = torch.rand(2, 1, 2, 2, dtype=torch.float64)
    assert gradient_penalty(lambda image: 4 * image, picture, picture).item() == pytest.approx(1)
    assert gradient_penalty(lambda image: [4 * image, 4 * image], picture, picture).item() == pytest.approx(9)
    assert r1(lambda image: [4 * image, 4 * image], picture).item() == pytest.approx(8)


def test_penalties_work_where_gradients_are_off_and_leave_the_pictures_alone() -> None:
    critic, real = Linear(), torch.rand(2, 1, 1, 2, dtype=torch.float64)
    fake = (2 * real).requires_grad_()
    with torch.no_grad():
        assert gradient_penalty(critic, real, fake).item() == pytest.approx(16)
    gradient_penalty(critic, real, fake).backward()
    r1(critic, real).backward()
    assert fake.grad is None and not real.requires_grad


def test_a_flat_critic_has_finite_gradients() -> None:
    critic = Linear()
    nn.init.zeros_(critic.weight)
    picture = torch.rand(2, 1, 1, 2, dtype=torch.float64)
    (gradient_penalty(critic, picture, picture) + r1(critic, picture)).backward()
    assert critic.weight.grad is not None and critic.weight.grad.isfinite().all()


@pytest.mark.parametrize("gamma", [0.0, 1.0])
def test_dirac_gan_circles_without_r1_and_converges_with_it(gamma: float) -> None:
    """Mescheder et al. 2018, section 2: the real 0, a generated one at theta, D(x) = psi x, both players of minimax at once."""
    theta, psi = torch.tensor([1.0], requires_grad=True), torch.tensor([1.0], requires_grad=True)

    def judge(image: Tensor) -> Tensor:
        return psi * image

    for _ in range(300):
        real, fake = torch.zeros(1, 1, 1, 1), theta.view(1, 1, 1, 1)
        of_judge = discriminator_loss(judge(real), judge(fake.detach()), halved=False) + gamma * r1(judge, real)
        down = torch.autograd.grad(of_judge, psi)[0], torch.autograd.grad(generator_loss(judge(fake), "minimax"), theta)[0]
        with torch.no_grad():
            psi -= 0.1 * down[0]
            theta -= 0.1 * down[1]
    assert theta.item() ** 2 + psi.item() ** 2 < 1e-6 if gamma else theta.item() ** 2 + psi.item() ** 2 > 2


@pytest.mark.parametrize("kind", ["vanilla", "minimax", "lsgan", "hinge"])
def test_objectives_with_r1_learn_two_pixels(kind: Kind) -> None:
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Flatten(), nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
    place = nn.Parameter(torch.zeros(2))
    truth = torch.tensor([0.8, -0.6])
    judge, painter = (torch.optim.Adam(p, 0.02, (0.0, 0.9)) for p in (critic.parameters(), [place]))
    places = []
    for _ in range(200):
        real, fake = ((at + 0.2 * torch.randn(32, 2)).view(-1, 1, 1, 2) for at in (truth, place))
        judge.zero_grad()
        (discriminator_loss(critic(real), critic(fake.detach()), kind) + r1(critic, real)).backward()
        judge.step()
        painter.zero_grad()
        generator_loss(critic(fake), kind).backward()
        painter.step()
        places.append(place.detach().clone())
    average = torch.stack(places[100:]).mean(0)  # the players go around each other
    assert (average - truth).norm() < 0.25, average


def test_feature_matching_by_hand() -> None:
    """First: 1 + 2 over its two layers, second: 5 over its one; the mean is 4. Nothing moves the target."""
    real = [[torch.zeros(1, 2, 4, 4, requires_grad=True), torch.zeros(1, 4, 2, 2)], [torch.zeros(1, 1, 1, 1)]]
    fake = [
        [torch.full((1, 2, 4, 4), -1.0, requires_grad=True), torch.full((1, 4, 2, 2), 2.0)],
        [torch.full((1, 1, 1, 1), 5.0)],
    ]
    loss = feature_matching_loss(real, fake)
    assert loss.item() == 4
    loss.backward()
    assert real[0][0].grad is None
    assert fake[0][0].grad is not None and torch.equal(fake[0][0].grad, torch.full((1, 2, 4, 4), -1 / 64))
