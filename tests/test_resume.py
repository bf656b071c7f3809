"""A run that is killed anywhere and resumed ends with the same bits as one that never stopped."""

import json
import signal

import engine_runs
import pytest
import torch

from pixelwise.engine.checkpoint import State, saved

TASKS = pytest.mark.parametrize("task", sorted(engine_runs.TASKS))


def events(run):
    """Return the events of a run's metrics.jsonl without their time."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in line.items() if k != "time"} for line in lines]


def assert_same_run(first, second):
    """Compare two finished runs: every kept state bit for bit, and the log apart from time."""
    assert [folder.name for folder in saved(first)] == [folder.name for folder in saved(second)]
    for one, two in zip(map(State.load, saved(first)), map(State.load, saved(second)), strict=True):
        assert (one.step, one.best) == (two.step, two.best)
        for part in ("networks", "ema"):
            expected, found = getattr(one, part), getattr(two, part)
            assert expected.keys() == found.keys()
            assert all(torch.equal(expected[name], found[name]) for name in expected)
        assert_same_optimizers(one.optimizers, two.optimizers)
    assert events(first) == events(second)


def assert_same_optimizers(expected, found):
    for phase in expected:
        for index, entry in expected[phase]["state"].items():
            assert all(torch.equal(value, found[phase]["state"][index][name]) for name, value in entry.items())


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Run every task once whole, and once killed at a step, resumed, killed in a save, resumed, killed at once, resumed."""
    folder = tmp_path_factory.mktemp("killed")
    jobs, ends = [], []
    for task in engine_runs.TASKS:
        jobs.append({"kind": "resumable", "run": str(folder / task / "whole"), "task": task})
        ends.append(0)
        for death in ({"kill_step": 3}, {"kill_step": 6}, {"kill_save": 8}, {"kill_step": 5}, {}):
            jobs.append({"kind": "resumable", "run": str(folder / task / "killed"), "task": task, **death})
            ends.append(-signal.SIGKILL if death else 0)
    assert engine_runs.start(*jobs) == ends
    return folder


@TASKS
def test_resume_after_sigkill_is_bit_exact(killed, task):
    assert_same_run(killed / task / "whole", killed / task / "killed")


@TASKS
def test_the_log_has_every_step_and_evaluation_once(killed, task):
    found = events(killed / task / "killed")
    assert [event["step"] for event in found if "losses" in event] == list(range(1, 13))
    assert [event["step"] for event in found if "metrics" in event] == [5, 10, 12]


def test_the_comparison_sees_a_difference_of_one_bit(killed, tmp_path):
    """The test above could fail: a run with another kind of task is not the same run."""
    with pytest.raises(AssertionError):
        assert_same_run(killed / "gan" / "whole", killed / "supervised" / "whole")


def test_time_goes_on_where_it_stopped(killed):
    lines = [json.loads(line) for line in (killed / "gan" / "killed" / "metrics.jsonl").read_text().splitlines()]
    times = [line["time"] for line in lines]
    assert times == sorted(times)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_saves_and_exits_130(tmp_path, number, capfd):
    jobs = [{"kind": "interrupted", "run": str(tmp_path / "run"), "number": int(number)}]
    assert engine_runs.start(*jobs) == [130]
    assert "stopped after step 4 of 6; state saved resume with: pixelwise train" in capfd.readouterr().out
    assert [folder.name for folder in saved(tmp_path / "run")] == ["000004"]
    runner = engine_runs.trainer(tmp_path / "run", engine_runs.Supervised())
    assert runner.resume() == 4
    runner.run()
    engine_runs.trainer(tmp_path / "whole", engine_runs.Supervised()).run()
    found, expected = (State.load(saved(tmp_path / run)[-1]).networks for run in ("run", "whole"))
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert events(tmp_path / "run") == events(tmp_path / "whole")
