"""`pixelwise train RUN` after SIGKILL, with workers, ends with the same bits as a run that never stopped: every real task."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from test_loader import children, gone
from test_resume import assert_same_run
from test_tasks import TASK_KINDS, small

from pixelwise.cli import main
from pixelwise.engine.checkpoint import newest
from pixelwise.run import proceed, start
from pixelwise.seeds import generator

STEPS = 12
SETTINGS = [f"steps={STEPS}", "checkpoint_every=3", "evaluate_every=5", "threads=1", "ema=0.9"]
MODEL = ("model.safetensors", "selftest.safetensors", "config.json")

DYING = """
import os, sys
import engine_runs
from pixelwise import run
from pixelwise.cli import main

if __name__ == "__main__":
    import torch._dynamo  # the first optimizer of a process does, for seconds
    real = run.loader

    def doomed(step):
        def loader(batches, first, last, workers):
            return engine_runs.dying(lambda start, stop: real(batches, start, stop, workers), step)(first, last)
        return loader

    codes = []
    for recipe, out, steps in zip(sys.argv[1::3], sys.argv[2::3], sys.argv[3::3]):
        for number, step in enumerate(map(int, steps.split(","))):
            child = os.fork()
            if child == 0:
                run.loader = doomed(step)
                os._exit(main(["train", out] if number else ["train", recipe, "out=" + out]))
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print(codes)
"""


def deaths(kind: str) -> list[int]:
    """Return two steps to die at: any, and a later one; the second process begins at the last state before the first."""
    first, second = sorted(generator(0, "death", kind).permutation(STEPS - 1)[:2].tolist())
    return [first, second]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train every task with two workers, killed twice by SIGKILL without any clean-up."""
    folder = tmp_path_factory.mktemp("killed")
    arguments = []
    for kind in TASK_KINDS:
        small(kind).override([*SETTINGS, "workers=2"]).save(folder / f"{kind}.json")
        arguments += [str(folder / f"{kind}.json"), str(folder / kind), ",".join(map(str, deaths(kind)))]
    (folder / "dying.py").write_text(DYING)
    paths = [str(Path(__file__).parent), *sys.path]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, str(folder / "dying.py"), *arguments]
    # Files and no pipes, which a worker left behind would keep open.
    with (folder / "codes").open("w") as codes, (folder / "log").open("w") as log:
        subprocess.run(command, env=environment, stdout=codes, stderr=log, check=False)
    said = (folder / "codes").read_text()
    assert said == f"{[-signal.SIGKILL.value] * 2 * len(TASK_KINDS)}\n", said + (folder / "log").read_text()
    return folder


@pytest.mark.parametrize("kind", TASK_KINDS)
def test_a_killed_run_ends_as_if_it_had_not_been(killed: Path, tmp_path: Path, kind: str) -> None:
    """The whole run reads its data without workers, so the bits do not depend on them either."""
    run = killed / kind
    state = newest(run)
    assert (int(state.name) if state else 0) <= deaths(kind)[1]
    assert not (run / "model").exists()
    assert main(["train", str(run)]) == 0
    whole = tmp_path / "whole"
    proceed(start(small(kind).override(SETTINGS), whole))
    assert_same_run(whole, run)
    for name in MODEL:
        assert (run / "model" / name).read_bytes() == (whole / "model" / name).read_bytes()
    one, two = (json.loads((folder / "evaluation.json").read_text()) for folder in (run, whole))
    assert {**one, "seconds": 0} == {**two, "seconds": 0}


def test_the_comparison_sees_another_seed(tmp_path: Path) -> None:
    for seed in (0, 1):
        proceed(start(small("segmentation").override([f"seed={seed}", "steps=2"]), tmp_path / str(seed)))
    with pytest.raises(AssertionError):
        assert_same_run(tmp_path / "0", tmp_path / "1")


@pytest.mark.parametrize("kind", TASK_KINDS)
def test_training_a_finished_run_again_changes_nothing(finished: Callable[[str], Path], tmp_path: Path, kind: str) -> None:
    proceed(start(small(kind), tmp_path / "run"))
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.safetensors")}
    assert main(["train", str(tmp_path / "run")]) == 0
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.safetensors")}
    assert_same_run(finished(kind), tmp_path / "run")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="lists processes by /proc")
def test_no_worker_outlives_a_run_that_is_killed(tmp_path: Path) -> None:
    """The command as users call it, killed from outside while it trains."""
    small("translation").override(["steps=100000", "workers=2", "threads=1"]).save(tmp_path / "recipe.json")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "pixelwise", "train", str(tmp_path / "recipe.json"), f"out={tmp_path / 'run'}"]
    log = tmp_path / "run" / "metrics.jsonl"
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        until = time.monotonic() + 60
        while (not log.exists() or log.read_text().count("\n") < 5) and run.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        started = children(run.pid)
        run.kill()
    assert run.returncode == -signal.SIGKILL and len(started) >= 3
    assert gone(started, 20)
    assert newest(tmp_path / "run") is not None
