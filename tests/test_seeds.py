"""Random draws: a pure function of (seed, purpose), the same on every machine, and independent where either differs."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import stats

from pixelwise.seeds import generator, mixed, torch_generator

PURPOSES: list[tuple[str | int, ...]] = [
    (),
    ("order",),
    ("augment",),
    ("order", 0),
    ("order", 1),
    ("order", -1),
    ("order", 10**12),
    ("order", 0, 0),
    ("order", "0"),
    ("order0",),
    ("0", "order"),
    ("", "order"),
    ("order", ""),
    ("Order",),
    ("ordre",),
    ("Ordnung für Größe",),
]


def splitmix64(state: int) -> int:
    """Return the output of Vigna's SplitMix64 after one step from `state`."""
    z = (state + 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def test_mixing_is_splitmix64() -> None:
    assert splitmix64(0) == 0xE220A8397B1DCDAF  # the first published output for the seed 0
    assert mixed(0, 0) == 0xE220A8397B1DCDAF
    assert mixed(5, 7, 9) == splitmix64(splitmix64(5 ^ 7) ^ 9)


def test_draws_are_fixed_for_ever() -> None:
    """Saved runs replay only as long as these numbers stay."""
    assert mixed(0, "order") == 0x7136B6D2B97859F7
    assert generator(0, "order", 3).bit_generator.random_raw(2).tolist() == [1921083185114693450, 3549674409168893746]
    assert torch_generator(0, "order", 3).initial_seed() == 8270234385196186637


def test_draws_do_not_depend_on_the_process() -> None:
    code = "from pixelwise.seeds import mixed; print(mixed(0, 'order', 3))"
    environment = {"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) == mixed(0, "order", 3)


def test_seeds_are_found_without_torch() -> None:
    code = "import sys, pixelwise.seeds as s; s.generator(0, 'order'); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, check=True)


@pytest.mark.parametrize("purpose", PURPOSES)
def test_generators_are_pure(purpose: tuple[str | int, ...]) -> None:
    first = generator(3, *purpose)
    first.random(1000)  # drawing from one leaves its twin alone
    torch.manual_seed(1)
    drawn = torch.rand(4, generator=torch_generator(3, *purpose))
    torch.manual_seed(2)
    assert torch.equal(drawn, torch.rand(4, generator=torch_generator(3, *purpose)))
    assert generator(3, *purpose).random(8).tolist() == generator(3, *purpose).random(8).tolist()


def test_global_generators_are_left_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    torch_generator(3, "order")
    assert torch.equal(before, torch.get_rng_state())


def test_numpy_integers_count_as_integers() -> None:
    assert mixed(0, "order", np.int64(3)) == mixed(0, "order", 3)  # type: ignore[arg-type]


def test_every_purpose_and_seed_differs() -> None:
    drawn = [mixed(seed, *purpose) for seed in (0, 1, 2, 2**63) for purpose in PURPOSES[1:]]
    assert len(set(drawn)) == len(drawn)
    assert len({mixed(seed, "augment", n) for seed in range(20) for n in range(5000)}) == 100_000


def test_torch_seeds_fit_and_stay_distinct() -> None:
    """A CPU generator heeds only the low 32 bits of its seed, so these must differ on their own."""
    found = [torch_generator(0, "step", n).initial_seed() for n in range(2000)]
    assert all(0 <= seed < 2**63 for seed in found)
    assert len({seed & 0xFFFFFFFF for seed in found}) == 2000
    assert torch_generator(0, "order", device="cpu").device.type == "cpu"


def test_one_changed_bit_changes_half_of_the_bits() -> None:
    flips = np.array(
        [(mixed(0, "augment", n) ^ mixed(0, "augment", n ^ (1 << bit))).bit_count() for n in range(200) for bit in range(20)]
    )
    # Binomial(64, 1/2): mean 32, standard deviation 4; of 4000 the mean strays by 0.063.
    assert abs(flips.mean() - 32) < 5 * 4 / np.sqrt(len(flips))
    assert flips.min() > 8


def first_draws(*purpose: str | int, count: int = 4000) -> np.ndarray:
    """Return the first uniform number of the generators of samples 0, 1, 2, ..."""
    return np.array([generator(*purpose, n).random() for n in range(count)])  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def draws() -> list[np.ndarray]:
    """The first draws for two seeds and two purposes."""
    return [first_draws(seed, purpose) for seed in (0, 1) for purpose in ("augment", "order")]


def test_first_draws_are_uniform(draws: list[np.ndarray]) -> None:
    for found in draws:
        assert stats.kstest(found, "uniform").pvalue > 1e-3


def test_first_draws_are_uncorrelated_with_their_neighbours(draws: list[np.ndarray]) -> None:
    bound = 4 / np.sqrt(len(draws[0]))
    for found in draws:
        for lag in (1, 2, 8, 16):
            assert abs(np.corrcoef(found[:-lag], found[lag:])[0, 1]) < bound


def test_seeds_and_purposes_are_uncorrelated(draws: list[np.ndarray]) -> None:
    for a, b in itertools.combinations(draws, 2):
        assert abs(np.corrcoef(a, b)[0, 1]) < 4 / np.sqrt(len(a))


def test_torch_first_draws_are_uniform_and_uncorrelated() -> None:
    found = np.array([torch.rand((), generator=torch_generator(0, "step", n)).item() for n in range(4000)])
    assert stats.kstest(found, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 4 / np.sqrt(len(found))


def test_orders_of_two_epochs_share_no_more_places_than_chance() -> None:
    """Two random permutations agree in one place on average (Poisson with mean 1)."""
    orders = [generator(0, "order", epoch).permutation(500) for epoch in range(30)]
    agreements = np.array([(a == b).sum() for a, b in itertools.combinations(orders, 2)])
    assert abs(agreements.mean() - 1) < 4 / np.sqrt(len(agreements))
    assert agreements.max() <= 8
