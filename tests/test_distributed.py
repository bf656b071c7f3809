"""Two processes train as one does: DDP and FSDP2 over gloo, supervised and adversarial."""

import engine_runs
import pytest
import torch

from pixelwise.engine import distributed, logs
from pixelwise.engine.checkpoint import State, folder_of
from pixelwise.errors import UsageError

ALL = pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
TASKS = pytest.mark.parametrize("task", sorted(engine_runs.TASKS))


@pytest.fixture(scope="module")
def joined(tmp_path_factory):
    run = tmp_path_factory.mktemp("joined")
    port = engine_runs.free_port()
    jobs = [{"kind": "joined", "run": str(run), "rank": rank, "world": 2, "port": port} for rank in range(2)]
    assert engine_runs.start(*jobs, together=True) == [0, 0]
    return run


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    run = tmp_path_factory.mktemp("alone")
    for name, task in engine_runs.TASKS.items():
        for case, settings in engine_runs.DISTRIBUTED.items():
            engine_runs.trainer(run / name / case, task(), **settings).run(engine_runs.mean_answer, engine_runs.never)
    return run


def largest_difference(first, second):
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


@ALL
@TASKS
@pytest.mark.parametrize("case", ["one", "many"])
def test_two_processes_equal_one_on_the_joined_batch(joined, alone, task, strategy, case):
    steps = engine_runs.DISTRIBUTED[case]["steps"]
    two = State.load(folder_of(joined / task / strategy / case, steps))
    one = State.load(folder_of(alone / task / case, steps))
    assert largest_difference(two.networks, one.networks) < 1e-6
    start = engine_runs.trainer(joined / "none", engine_runs.TASKS[task]()).networks.state_dict()
    assert largest_difference(start, one.networks) > 1e-4
    if case == "many":
        assert largest_difference(two.ema, one.ema) < 1e-6


@ALL
@TASKS
def test_logged_losses_and_evaluations_equal_those_of_one_process(joined, alone, task, strategy):
    """Losses are means over the processes; each evaluation sees the newest average, though its shards were gathered before."""
    two, one = (list(logs.read(run / "many" / "metrics.jsonl")) for run in (joined / task / strategy, alone / task))
    assert len(two) == len(one) == 8
    for found, expected in zip(two, one, strict=True):
        values = [found.get(kind, {}) for kind in ("losses", "metrics")]
        for value, kind in zip(values, ("losses", "metrics"), strict=True):
            assert value == pytest.approx(expected.get(kind, {}), abs=1e-6)


@ALL
@TASKS
def test_resume_in_two_processes_is_bit_exact(joined, task, strategy):
    whole = State.load(folder_of(joined / task / strategy / "adam", 4))
    again = State.load(folder_of(joined / task / strategy / "resumed", 4))
    assert largest_difference(whole.networks, again.networks) == 0
    assert largest_difference(whole.ema, again.ema) == 0
    for phase, optimizer in whole.optimizers.items():
        for index, entry in optimizer["state"].items():
            assert torch.equal(entry["exp_avg_sq"], again.optimizers[phase]["state"][index]["exp_avg_sq"])


@TASKS
def test_a_sharded_state_loads_in_one_process(joined, alone, task):
    """The saved tensors are whole, whatever the strategy: the state of FSDP is that of one process."""
    sharded = State.load(folder_of(joined / task / "fsdp" / "adam", 4))
    single = State.load(folder_of(alone / task / "adam", 4))
    for phase, optimizer in single.optimizers.items():
        for index, entry in optimizer["state"].items():
            torch.testing.assert_close(
                sharded.optimizers[phase]["state"][index]["exp_avg"], entry["exp_avg"], atol=1e-6, rtol=0
            )
    runner = engine_runs.trainer(alone / "loads" / task, engine_runs.TASKS[task](), ema=0.9)
    runner._load(sharded)
    assert runner.step == 4


@pytest.mark.parametrize(
    ("strategy", "world", "means"),
    [("auto", 1, "none"), ("none", 1, "none"), ("auto", 2, "ddp"), ("ddp", 2, "ddp"), ("fsdp", 2, "fsdp")],
)
def test_strategies(strategy, world, means):
    assert distributed.resolve(strategy, world) == means


@pytest.mark.parametrize(("strategy", "world"), [("none", 2), ("ddp", 1), ("fsdp", 1)])
def test_strategies_that_contradict_the_processes(strategy, world):
    with pytest.raises(UsageError, match=strategy):
        distributed.resolve(strategy, world)


def test_one_process_needs_no_group(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with distributed.processes() as place:
        assert place == (0, 1)
    assert distributed.anywhere(True, engine_runs.CPU)
    assert distributed.agreed({"a": 1.0}) == {"a": 1.0}
