"""A run that is killed anywhere and resumed ends with the same bits as one that never stopped."""

import json
import signal

import engine_runs
import pytest
import torch

from pixelwise.engine.checkpoint import State, saved
from pixelwise.engine.interrupt import Interrupt

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


DEATHS = [{"kill_step": 2}, {"kill_step": 7}, {"kill_save": 4}, {"kill_save": 12}]


def name_of(death):
    return "-".join(str(part) for item in death.items() for part in item)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Run every task once whole; and, for each death, killed and resumed, and once killed by them all in turn."""
    folder = tmp_path_factory.mktemp("runs")
    jobs, ends = [], []

    def add(task, name, death=None):
        jobs.append({"kind": "resumable", "run": str(folder / task / name), "task": task, **(death or {})})
        ends.append(-signal.SIGKILL if death else 0)

    for task in engine_runs.TASKS:
        add(task, "whole")
        for death in DEATHS:
            add(task, name_of(death), death)
            add(task, name_of(death))
        for death in ({"kill_step": 3}, {"kill_step": 6}, {"kill_save": 8}, {"kill_step": 5}):
            add(task, "all", death)
        add(task, "all")
    assert engine_runs.start(*jobs) == ends
    return folder


@TASKS
@pytest.mark.parametrize("name", [*map(name_of, DEATHS), "all"])
def test_resume_after_sigkill_is_bit_exact(runs, task, name):
    assert_same_run(runs / task / "whole", runs / task / name)


@TASKS
def test_the_log_has_every_step_and_evaluation_once(runs, task):
    found = events(runs / task / "all")
    assert [event["step"] for event in found if "losses" in event] == list(range(1, 13))
    assert [event["step"] for event in found if "metrics" in event] == [5, 10, 12]


def test_the_comparison_sees_another_dropout(runs, tmp_path):
    """The tests above can fail: with another seed nothing but the dropout and the noise of the steps differs."""
    settings = {"steps": 12, "evaluate_every": 5, "checkpoint_every": 4, "ema": 0.9}
    engine_runs.trainer(tmp_path, engine_runs.GAN(noisy=True), seed=1, **settings).run(
        engine_runs.mean_answer, engine_runs.smaller
    )
    with pytest.raises(AssertionError):
        assert_same_run(runs / "gan" / "whole", tmp_path)


def test_time_goes_on_where_it_stopped(runs):
    lines = [json.loads(line) for line in (runs / "gan" / "all" / "metrics.jsonl").read_text().splitlines()]
    times = [line["time"] for line in lines]
    assert times == sorted(times)


SIGNALS = (signal.SIGINT, signal.SIGTERM)


def test_a_signal_finishes_the_step_saves_and_exits_130(tmp_path, capfd):
    jobs = [{"kind": "interrupted", "run": str(tmp_path / s.name), "number": int(s)} for s in SIGNALS]
    assert engine_runs.start(*jobs) == [130, 130]
    said = capfd.readouterr().out
    engine_runs.trainer(tmp_path / "whole", engine_runs.Supervised()).run()
    for run in (tmp_path / s.name for s in SIGNALS):
        assert f"stopped after step 4 of 6; state saved resume with: pixelwise train {run}" in said
        assert [folder.name for folder in saved(run)] == ["000004"]
        runner = engine_runs.trainer(run, engine_runs.Supervised())
        assert runner.resume() == 4
        found, expected = State.load(runner.run()), State.load(saved(tmp_path / "whole")[-1])
        assert all(torch.equal(expected.networks[name], found.networks[name]) for name in expected.networks)
        assert events(run) == events(tmp_path / "whole")


def test_a_second_ctrl_c_does_not_wait(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), Interrupt() as interrupt:
        signal.raise_signal(signal.SIGINT)
        assert interrupt.requested
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
