"""The state on disk: whole or not there, the newest whole one wins, only what is kept is kept."""

import json
import pickle

import engine_runs
import pytest
import torch

from pixelwise.engine import checkpoint
from pixelwise.engine.checkpoint import Best, State
from pixelwise.errors import TrainingError


def state(step, best=None):
    weights = {"network.weight": torch.arange(6.0).view(2, 3) + step, "network.count": torch.tensor(step)}
    moments = {"train": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1, "betas": (0.5, 0.9)}]}}
    return State(step, best, weights, {"network.weight": torch.ones(2, 3)}, moments)


def save(run, step, best=None):
    folder = checkpoint.folder_of(run, step)
    state(step, best).save(folder)
    return folder


def test_a_state_is_read_back_equal(tmp_path):
    folder = save(tmp_path, 7, Best(5, {"miou": 0.25}))
    assert folder == tmp_path / "state" / "000007"
    found = State.load(folder)
    assert (found.step, found.best) == (7, Best(5, {"miou": 0.25}))
    assert torch.equal(found.networks["network.weight"], torch.tensor([[7.0, 8, 9], [10, 11, 12]]))
    assert found.networks["network.count"].dtype == torch.int64
    assert torch.equal(found.ema["network.weight"], torch.ones(2, 3))
    assert found.optimizers["train"]["param_groups"] == [{"lr": 0.1, "betas": (0.5, 0.9)}]


def test_a_state_replaces_an_older_one_and_leaves_nothing_else(tmp_path):
    folder = save(tmp_path, 7)
    (folder / "networks.safetensors").write_bytes(b"damaged")
    save(tmp_path, 7)
    assert checkpoint.is_whole(folder)
    assert [f.name for f in (tmp_path / "state").iterdir()] == ["000007"]


def test_a_save_that_fails_leaves_the_older_state(tmp_path, monkeypatch):
    folder = save(tmp_path, 7)

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="no space"):
        save(tmp_path, 7)
    assert checkpoint.is_whole(folder)
    assert checkpoint.saved(tmp_path) == [folder]


FILES = ["networks.safetensors", "ema.safetensors", "optimizers.pt", "state.json"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["cut", "missing", "flipped"])
def test_a_damaged_newest_state_is_passed_over(tmp_path, name, damage):
    older, newer = save(tmp_path, 9), save(tmp_path, 10)
    file = newer / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(content if damage == "flipped" else content[: len(content) // 2])
    passed_over = []
    assert checkpoint.newest(tmp_path, passed_over.append) == older
    assert passed_over == [newer]


def test_steps_are_ordered_as_numbers(tmp_path):
    save(tmp_path, 999_999)
    newest = save(tmp_path, 1_000_000)
    assert checkpoint.newest(tmp_path) == newest


def test_no_state_at_all(tmp_path):
    assert checkpoint.newest(tmp_path) is None


def test_the_newest_and_the_best_are_kept(tmp_path):
    for step in range(1, 7):
        save(tmp_path, step)
    checkpoint.prune(tmp_path, step=5, keep=2, best=Best(2, {}))
    assert [int(folder.name) for folder in checkpoint.saved(tmp_path)] == [2, 4, 5, 6]


def test_nothing_in_a_state_is_ever_executed(tmp_path):
    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("executed").touch, ())

    folder = save(tmp_path, 1)
    torch.save({"train": Evil()}, folder / "optimizers.pt")
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        State.load(folder)
    assert not (tmp_path / "executed").exists()


def test_a_state_of_a_newer_version_is_refused(tmp_path):
    folder = save(tmp_path, 1)
    about = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps({**about, "format": checkpoint.FORMAT + 1}))
    with pytest.raises(TrainingError, match="newer"):
        State.load(folder)


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_deployed_weights_are_those_of_the_deployed_networks(tmp_path, ema):
    runner = engine_runs.trainer(tmp_path / "run", engine_runs.GAN(), ema=ema, checkpoint_every=2, steps=2)
    folder = runner.run()
    weights = checkpoint.deployed_weights(folder, runner.task.deployed)
    assert weights.keys() == {"generator"}
    expected = (runner.ema.networks if ema else runner.networks)["generator"].state_dict()
    assert weights["generator"].keys() == expected.keys()
    assert all(torch.equal(weights["generator"][name], tensor) for name, tensor in expected.items())
    assert torch.equal(weights["generator"]["0.weight"], runner.networks["generator"][0].weight) == (not ema)


def test_a_run_falls_back_over_a_damaged_state_to_the_same_end(tmp_path):
    settings = {"checkpoint_every": 2, "keep": 2}
    engine_runs.trainer(tmp_path / "whole", engine_runs.Supervised(noisy=True), **settings).run()
    stopped = engine_runs.trainer(tmp_path / "run", engine_runs.Supervised(noisy=True), **settings)
    for batch in stopped.batches(0, 4):
        stopped._train(batch)
        if stopped.step % 2 == 0:
            stopped.save()
    (checkpoint.folder_of(tmp_path / "run", 4) / "networks.safetensors").write_bytes(b"half")
    resumed = engine_runs.trainer(tmp_path / "run", engine_runs.Supervised(noisy=True), **settings)
    assert resumed.resume() == 2
    found, expected = State.load(resumed.run()), State.load(checkpoint.folder_of(tmp_path / "whole", 6))
    assert all(torch.equal(expected.networks[name], found.networks[name]) for name in expected.networks)
    assert [int(folder.name) for folder in checkpoint.saved(tmp_path / "run")] == [4, 6]


def test_a_state_of_other_networks_is_refused(tmp_path):
    engine_runs.trainer(tmp_path / "run", engine_runs.Supervised(), steps=1).run()
    with pytest.raises(TrainingError, match="does not fit") as caught:
        engine_runs.trainer(tmp_path / "run", engine_runs.GAN()).resume()
    assert "recipe" in caught.value.hint


def test_a_run_does_not_overwrite_another(tmp_path):
    engine_runs.trainer(tmp_path / "run", engine_runs.Supervised(), steps=1).run()
    with pytest.raises(TrainingError, match="already holds a run"):
        engine_runs.trainer(tmp_path / "run", engine_runs.Supervised()).run()
