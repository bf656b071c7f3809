"""Warnings of adversarial training, from made series of losses and metrics: each when it should come, and once."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from test_tasks import small

from pixelwise.data.dataset import Meta
from pixelwise.engine import stability
from pixelwise.engine.stability import PATIENCE, Stability
from pixelwise.run import proceed, start
from pixelwise.tasks import translation


def told(series: list[dict[str, float]], game: str = "vanilla") -> list[tuple[int, str]]:
    """Return each advice with the step (from 1) that it came after."""
    watch = Stability(game)
    return [(step, text) for step, losses in enumerate(series, 1) for text in watch.losses(losses)]


def balanced(step: int) -> dict[str, float]:
    return {"discriminator": 0.69 + 0.1 * math.sin(step), "adversarial": 0.7 + 0.1 * math.cos(step), "l1": 9.0}


def test_balanced_and_ordinary_training_says_nothing() -> None:
    assert told([balanced(step) for step in range(1000)]) == []
    assert told([{"l1": 10 / (1 + step)} for step in range(1000)]) == []
    assert told([{"discriminator": -3.0, "adversarial": 1.0} for _ in range(1000)]) == []  # wasserstein knows no zero


@pytest.mark.parametrize("name", ["discriminator", "discriminator_b"])
def test_a_discriminator_that_wins_is_told_once_and_only_after_a_while(name: str) -> None:
    series = [{name: 0.7, "adversarial": 1.0}] * 100 + [{name: 0.001, "adversarial": 9.0}] * 600
    found = told(series)
    assert len(found) == 1 and found[0][1].startswith(f"{name} was ") and "discriminator wins" in found[0][1]
    # the mean over 200 falls below 0.02 once 0.7 n + 0.001 (200 - n) < 4, for at most n = 5 old steps
    assert found[0][0] == 100 + PATIENCE - 5
    assert told([{name: 0.001}] * (PATIENCE - 1)) == []


def test_an_adversarial_loss_that_cannot_be_heard() -> None:
    (one,) = told([{"discriminator": 0.7, "adversarial": 0.7, "l1": 1000.0}] * 300)
    assert one[0] == PATIENCE and one[1].startswith("the adversarial loss is 0.0007 of what")
    assert told([{"discriminator": 0.7, "adversarial": 0.7, "l1": 690.0}] * 300) == []
    assert told([{"discriminator_a": 0.7, "gradient_penalty_a": 5e3, "r1_a": 5e3, "adversarial_a": 0.7}] * 300) == []
    hinge = [{"adversarial": -0.5, "cycle_a": 4.0}] * 300  # a hinge loss may be below 0
    assert told(hinge) == []


def test_zero_means_nothing_where_the_losses_have_no_least_value() -> None:
    """A critic that is near 0 cannot tell the pictures apart, and -f may be 0 in any state of the game."""
    lost = [{"discriminator": 0.001, "adversarial": 0.7, "l1": 9.0}] * 300
    passing = [{"discriminator": 0.7, "adversarial": 0.001, "l1": 9.0}] * 300
    counted = {game: (len(told(lost, game)), len(told(passing, game))) for game in ("vanilla", "lsgan", "hinge", "wasserstein")}
    assert counted == {"vanilla": (1, 1), "lsgan": (1, 1), "hinge": (1, 0), "wasserstein": (0, 0)}
    exploding = [{"discriminator": -1.0}] * 300 + [{"discriminator": -1e6}]
    assert len(told(exploding, "wasserstein")) == 1


@pytest.mark.parametrize("kind", ["translation", "cycle_translation", "generation"])
def test_tasks_tell_their_game(kind: str) -> None:
    alone = [] if kind == "generation" else ["task.discriminator.norm=none"]
    config = small(kind).override(["task.adversarial=wasserstein", "task.gradient_penalty=10", *alone]).task
    assert config.build(Meta()).game == "wasserstein"
    assert translation.Task(translation.Config(objective="l1"), Meta()).game == ""


def test_an_explosion() -> None:
    (one,) = told([{"adversarial": 1.0}] * 300 + [{"adversarial": 1e6}] * 10)
    assert one[0] == 301 and "adversarial has grown 5001-fold: lower optimizer.lr" in one[1]
    assert told([{"adversarial": 1.0}] * 300 + [{"adversarial": 900.0}] * 300) == []
    assert told([{"adversarial": 1e-4}] * 300 + [{"adversarial": 90.0}] * 300) == []  # a critic has no scale at first


def test_a_collapse_is_seen_in_the_metrics() -> None:
    watch = Stability()
    assert watch.metrics({"kid_random": 1.0, "l1": 2.0}) == []
    assert watch.metrics({"diversity_random": 3.1, "true_diversity_random": 10.0}) == []
    (text,) = watch.metrics({"diversity_random": 2.0, "true_diversity_random": 10.0})
    assert text.startswith("the pictures differ 0.20 times as much as true ones do")
    assert watch.metrics({"diversity_random": 0.0, "true_diversity_random": 10.0}) == []
    assert Stability().metrics({"true_diversity_random": 10.0}) == []


def test_a_run_of_a_critic_has_no_winner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stability, "PATIENCE", 2)
    monkeypatch.setattr(stability, "SURE", 1e9)
    pairs = ["task.adversarial=wasserstein", "task.gradient_penalty=10", "task.discriminator.norm=none", "steps=3"]
    proceed(start(small("translation").override(pairs), tmp_path / "run"))
    assert "the discriminator wins" not in capsys.readouterr().err


def test_a_run_says_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With limits that every discriminator is below, after two steps."""
    monkeypatch.setattr(stability, "PATIENCE", 2)
    monkeypatch.setattr(stability, "SURE", 1e9)
    proceed(start(small("translation").override(["steps=4"]), tmp_path / "run"))
    said = capsys.readouterr().err
    assert said.count("warning: ") == said.count("the discriminator wins") == 1
