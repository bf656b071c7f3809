"""Distances between sets of pictures: closed forms, hand-worked kernels, and what the features are made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.linalg import sqrtm

from pixelwise.metrics import distances
from pixelwise.metrics.distances import Moments, discrepancy, frechet, kernel_distance
from pixelwise.metrics.generation import diversity
from pixelwise.metrics.sets import difference
from pixelwise.nn.embeddings import RandomEmbedding, StatisticsEmbedding, resized


def vectors(count: int, dimension: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, dimension, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moments(*batches: torch.Tensor) -> Moments:
    found = Moments(batches[0].shape[1])
    for batch in batches:
        found.update(batch)
    return found


# Frechet


def test_frechet_of_gaussians_along_the_axes_is_closed() -> None:
    """|(1, 2)|^2 + (3 - 1)^2 + (5 - 2)^2 = 18: along each axis the difference of the standard deviations."""
    a, b = torch.diag(torch.tensor([9.0, 25.0]).double()), torch.diag(torch.tensor([1.0, 4.0]).double())
    mean = torch.tensor([1.0, 2.0]).double()
    assert frechet(mean, a, torch.zeros(2).double(), b) == pytest.approx(18, abs=1e-12)


def test_frechet_of_turned_gaussians() -> None:
    """Variances 4, 1 and the same turned by 90 degrees commute: (2 - 1)^2 twice. By 45 degrees Tr sqrt has a closed form.

    For 2 x 2, Tr (AB)^(1/2) = sqrt(Tr AB + 2 sqrt(det AB)); here Tr AB = 12.5 and det AB = 16.
    """
    a = torch.tensor([[4.0, 0.0], [0.0, 1.0]]).double()
    zero = torch.zeros(2).double()
    assert frechet(zero, a, zero, a.flip(0, 1)) == pytest.approx(2, abs=1e-12)
    turned = torch.tensor([[2.5, 1.5], [1.5, 2.5]]).double()
    assert frechet(zero, a, zero, turned) == pytest.approx(10 - 2 * math.sqrt(12.5 + 8), abs=1e-12)


def test_frechet_as_by_scipys_root() -> None:
    a, b = moments(vectors(40, 6)), moments(1.3 * vectors(50, 6, 1) + 0.4)
    root = sqrtm((a.covariance @ b.covariance).numpy()).real
    traces = a.covariance.trace() + b.covariance.trace()
    expected = float((a.mean - b.mean).square().sum() + traces) - 2 * np.trace(root)
    assert frechet(a.mean, a.covariance, b.mean, b.covariance) == pytest.approx(expected, rel=1e-11)


def test_equal_sets_are_at_zero_and_singular_ones_stay_real() -> None:
    few = moments(vectors(5, 20))
    assert frechet(few.mean, few.covariance, few.mean, few.covariance) == 0
    shuffled = moments(vectors(5, 20).flip(0))
    assert 0 <= frechet(few.mean, few.covariance, shuffled.mean, shuffled.covariance) < 1e-6
    moved = moments(vectors(5, 20) + 0.5)
    assert frechet(few.mean, few.covariance, moved.mean, moved.covariance) == pytest.approx(20 * 0.25, abs=1e-6)


def test_moments_of_batches_are_those_of_all() -> None:
    """Beside a mean of a million, where sums of squares in float32, or even float64, lose their digits."""
    everything = vectors(30, 4) + 1e6
    found = moments(everything[:1].float().double(), everything[1:18], everything[18:])
    everything[0] = everything[0].float().double()
    assert found.count == 30
    torch.testing.assert_close(found.mean, everything.mean(0), rtol=1e-15, atol=0)
    torch.testing.assert_close(found.covariance, torch.cov(everything.T), rtol=1e-9, atol=1e-10)


# Kernel


def test_discrepancy_by_hand() -> None:
    """D = 2. a: (2, 0), (0, 2): k = (0 / 2 + 1)^3 = 1. b: (2, 2), (4, 0): k = (8 / 2 + 1)^3 = 125.

    Between: products 4, 8, 4, 0: 27, 125, 27, 1, mean 45. 1 + 125 - 90 = 36.
    """
    a, b = torch.tensor([[2.0, 0], [0, 2]]), torch.tensor([[2.0, 2], [4, 0]])
    assert discrepancy(a, b) == discrepancy(b, a) == 36
    found = kernel_distance(a, b)
    assert found.mean == 36 and math.isnan(found.deviation) and (found.subsets, found.size) == (1, 2)


def test_discrepancy_of_sets_of_unequal_number() -> None:
    """D = 1. a: 0, 1, 2: within 1, 1, 27, twice each, over 6. b: 1, -1: within (1 - 1)^3 = 0. Between 1, 1, 8, 0, 27, -1."""
    a, b = torch.tensor([[0.0], [1], [2]]), torch.tensor([[1.0], [-1]])
    assert discrepancy(a, b) == pytest.approx(2 * (1 + 1 + 27) / 6 + 0 - 2 * 36 / 6, abs=1e-13)


def test_discrepancy_in_blocks_and_beside_a_plain_sum() -> None:
    a, b = vectors(1100, 3), vectors(7, 3, 1) + 0.1
    kernel = lambda x, y: (x @ y.T / 3 + 1) ** 3  # noqa: E731
    within = (kernel(a, a).sum() - kernel(a, a).trace()) / (1100 * 1099) + (kernel(b, b).sum() - kernel(b, b).trace()) / 42
    assert discrepancy(a, b) == pytest.approx(float(within - 2 * kernel(a, b).mean()), rel=1e-10)


@pytest.mark.parametrize("count", [2, 4, 9, 12])
def test_distances_of_all_pairs_are_never_held_at_once(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    pictures, sizes = vectors(count, 12), list[int]()

    def counted(name: str) -> Callable[..., torch.Tensor]:
        plain = getattr(torch, name)

        def measured(*given: Any, **named: Any) -> torch.Tensor:
            found: torch.Tensor = plain(*given, **named)
            sizes.append(found.numel())
            return found

        return measured

    plain = [float(torch.pdist(pictures, norm).mean()) for norm in (1, 2)]
    monkeypatch.setattr(distances, "ROWS", 4)
    monkeypatch.setattr(torch, "cdist", counted("cdist"))
    monkeypatch.setattr(torch, "pdist", counted("pdist"))
    monkeypatch.setattr(torch.nn.functional, "pdist", torch.pdist)
    found = difference(list(pictures.view(count, 3, 2, 2))), diversity(pictures)
    assert found == pytest.approx((plain[0] / 12, plain[1]), rel=1e-14)
    assert max(sizes) <= 16 and sum(sizes) == count * (count - 1)


def test_the_kernel_distance_has_no_bias() -> None:
    """Of one distribution its mean is 0, whatever the size; that of the Frechet distance is far above."""
    found = [discrepancy(vectors(6, 3, 2 * n), vectors(6, 3, 2 * n + 1)) for n in range(2000)]
    error = np.std(found) / math.sqrt(len(found))
    assert abs(np.mean(found)) < 3 * error < 0.2
    a, b = moments(vectors(6, 3)), moments(vectors(6, 3, 1))
    assert frechet(a.mean, a.covariance, b.mean, b.covariance) > 0.5


def test_subsets_are_no_larger_than_the_sets_and_drawn_alike() -> None:
    a, b = vectors(12, 4), vectors(9, 4, 1) + 0.3
    found = kernel_distance(a, b, subsets=20, size=1000)
    assert (found.subsets, found.size) == (20, 9) and found.deviation > 0
    assert found == kernel_distance(a, b, subsets=20, size=1000)
    assert found.mean != kernel_distance(a, b, subsets=20, size=1000, seed=1).mean
    assert found.mean == pytest.approx(discrepancy(a, b), abs=2 * found.deviation)


# Features


def test_pictures_are_resized_as_by_pillow_without_rounding() -> None:
    picture = torch.randint(0, 256, (3, 60, 90), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    for size in ((24, 50), (77, 101)):
        channels = [Image.fromarray(channel.float().numpy()) for channel in picture]
        expected = np.stack([c.resize(size[::-1], Image.Resampling.BICUBIC) for c in channels]).clip(0, 255)
        torch.testing.assert_close(resized(picture, size) * 255, torch.from_numpy(expected), atol=2e-3, rtol=0)
    assert (resized(picture, (24, 50)) * 255 % 1).abs().max() > 0.1


def pictures(contrast: float, count: int = 8) -> list[torch.Tensor]:
    noise = torch.rand(count, 3, 40, 40, generator=torch.Generator().manual_seed(5))
    return list((0.5 + contrast * (noise - 0.5)).mul(255).round().to(torch.uint8))


@pytest.mark.parametrize("make", [RandomEmbedding, StatisticsEmbedding])
def test_features_tell_contrast_apart(make: type[RandomEmbedding | StatisticsEmbedding]) -> None:
    embedding = make(size=(32, 32))
    strong, weak = (torch.stack([embedding.of(p) for p in pictures(contrast)]) for contrast in (0.9, 0.3))
    assert strong.shape == (8, embedding.dimension)
    within, between = discrepancy(strong[::2], strong[1::2]), discrepancy(strong, weak)
    assert between > 10 * abs(within)
    again = torch.stack([make(size=(32, 32)).of(p) for p in pictures(0.9)])
    assert torch.equal(strong, again)


def test_random_features_have_one_scale_and_a_seed() -> None:
    state = torch.random.get_rng_state()
    embedding = RandomEmbedding(3, (32, 32))
    assert torch.equal(state, torch.random.get_rng_state())
    assert (embedding.name, embedding.protocol, embedding.dimension) == ("random3", "random3,bicubic32", 480)
    one = pictures(0.5)[0]
    assert not torch.allclose(embedding.of(one), RandomEmbedding(4, (32, 32)).of(one))


def test_statistics_by_hand() -> None:
    """A grey ramp of 1 / 32 per pixel to the right: mean 31 / 64, no colour, gradients 1, 2, 4 and 8 times 1 / 32."""
    ramp = (torch.arange(32) / 32).expand(1, 3, 32, 32)
    embedding = StatisticsEmbedding((32, 32))
    found = embedding.measure(ramp)[0]
    nothing = math.log(1e-3)
    assert found[:3].tolist() == pytest.approx([31 / 64, 0, 0], abs=1e-6)
    assert found[4:6].tolist() == pytest.approx([nothing] * 2, abs=1e-3)
    gradients = found[6:].view(4, 3)
    assert gradients[:, 0].tolist() == pytest.approx([math.log(2**k / 32 + 1e-3) for k in range(4)], abs=1e-5)
    assert gradients[:, 1:].flatten().tolist() == pytest.approx([nothing] * 8, abs=1e-3)
