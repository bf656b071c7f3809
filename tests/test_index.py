"""The index says what the real classes say, is remade when they change, and never stands in the way."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_cli import names

from pixelwise import index as module
from pixelwise import laboratory
from pixelwise.config import settings
from pixelwise.errors import UsageError
from pixelwise.folders import cache_folder
from pixelwise.index import build, check, check_saved, index
from pixelwise.recipe import find_recipe, recipes


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PIXELWISE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_index_is_what_the_real_classes_say() -> None:
    found = index()
    assert list(found) == list(recipes())
    for name, function in recipes().items():
        made = function()
        assert found[name]["task"] == made.task.kind
        assert found[name]["doc"] == importlib.import_module("inspect").getdoc(function)
        assert found[name]["summary"] == found[name]["doc"].splitlines()[0]
        assert found[name]["settings"] == [s.model_dump(mode="json") for s in settings(made)]
        assert {s["key"].partition(".")[0] for s in found[name]["settings"]} == set(type(made).model_fields)


def test_experiments_are_what_their_files_say(folder: Path) -> None:
    for _ in range(2):
        found = module.experiments()
        assert list(found) == list(laboratory.experiments()) and len(list(folder.glob("experiments-*.json"))) == 1
    for name, experiment in laboratory.experiments().items():
        entry = found[name]
        assert (entry["summary"], entry["claim"]) == (experiment.question, experiment.claim)
        assert entry["doc"] == importlib.import_module("inspect").getdoc(sys.modules[experiment.run.__module__])
        assert entry["settings"] == [s.model_dump(mode="json") for s in settings(experiment.settings())]


def test_the_second_time_it_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = index()
    assert len(list(folder.glob("index-*.json"))) == 1
    monkeypatch.setattr(module, "build", lambda: pytest.fail("it was built again"))
    assert index() == first


@pytest.mark.parametrize("text", ["", "{", "\xff", "nonsense"])
def test_a_damaged_index_is_remade(folder: Path, text: str) -> None:
    expected = index()
    (path,) = folder.glob("index-*.json")
    path.write_text(text, encoding="latin-1")
    assert index() == expected
    assert json.loads(path.read_text()) == expected


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "cache"):
        monkeypatch.setenv("PIXELWISE_CACHE", str(place))
        assert index() == build()
    assert names(tmp_path) == {"file"}


def test_the_folder_is_chosen_by_the_environment(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == folder
    monkeypatch.setenv("PIXELWISE_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_folder() == tmp_path / "x" / "pixelwise"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "pixelwise"


def test_a_change_of_any_file_makes_another_stamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(module.PACKAGE, tmp_path / "pixelwise", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(module, "PACKAGE", tmp_path / "pixelwise")
    stamps = [module._stamp()]
    assert module._stamp() == stamps[0]
    for name in ("training.py", "tasks/segmentation.py", "nn/networks/unet.py", "data/world/people.py"):
        path = tmp_path / "pixelwise" / name
        path.write_text(path.read_text() + "\n")
        stamps.append(module._stamp())
    (tmp_path / "pixelwise" / "tasks" / "added.py").write_text("")
    stamps.append(module._stamp())
    (tmp_path / "pixelwise" / "tasks" / "added.py").unlink()
    assert len(set(stamps)) == len(stamps) == 6 and module._stamp() == stamps[-2]


def test_a_new_recipe_is_listed_at_once(tmp_path: Path, folder: Path) -> None:
    """A copy of the package: listed, then given another recipe, then listed again."""
    copy = tmp_path / "pixelwise"
    shutil.copytree(module.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    listed = []
    for name in ("", "brand_new"):
        if name:
            path = copy / "tasks" / "segmentation.py"
            path.write_text(path.read_text() + f'\n\n@recipe\ndef {name}() -> Recipe:\n    """New."""\n    return camvid()\n')
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        command = [sys.executable, "-m", "pixelwise", "list", "--json"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        listed.append([entry["name"] for entry in json.loads(done.stdout)["recipes"]])
    assert listed[0] == list(recipes()) and listed[1] == sorted([*recipes(), "brand_new"])
    assert len(list(folder.glob("index-*.json"))) == 1, "the older index is forgotten"


# The quick checks agree with the full validation

GOOD = [
    ["steps=5"],
    ["steps=5.0"],
    ["optimizer.lr=1"],
    ["optimizer.lr=1e-3"],
    ["clip_norm=null"],
    ["clip_norm=0.5"],
    ["threads=null"],
    ["deterministic=false"],
    ["precision=bfloat16"],
    ["view.size=32x48"],
    ["view.size=32,48"],
    ["data.classes=sky"],
    ["data.classes=sky,road"],
    ["view.size=[32, 48]"],
    ["view.load_size=null"],
    ["view.load_size=64x64"],
    ["optimizer.betas=[0.5, 0.999]"],
    ["task.class_weights=[]"],
    ["task.class_weights=[1, 2.5]"],
    ["task.class_weights=1,2.5"],
    ["task.class_weights=median_frequency"],
    ["task.loss.dice=1", "task.loss.cross_entropy=0"],
    ["task.scales_test=0.75,1,1.25"],
    ["data.root=some/folder"],
    ["data.root=2024"],
    ["data.root=true"],
    ["data.root=64x64"],
    ['data.root="quoted"'],
    ["data.classes=[]"],
    ['data.classes=["a", "b"]'],
    ["data.val_fraction=0.5"],
    ["name=other-name.2"],
    ["network=unet"],
    ["network=pix2pix_unet"],
    ["network.kind=pix2pix_unet", "network.depth=3"],
    ["network.depth=3", "network.kind=pix2pix_unet"],
    ["network.encoder=null"],
    ["network.output_stride=2"],
    ["data=world", "data.scenes=4"],
    ["optimizer.kind=sgd", "optimizer.momentum=0.5"],
]
BAD = [
    ["steps=0"],
    ["steps=-1"],
    ["steps=1.5"],
    ["steps=many"],
    ["steps=null"],
    ["steps=[1]"],
    ["steps="],
    ["optimizer.lr=0"],
    ["optimizer.lr=NaN"],
    ["optimizer.lr=fast"],
    ["ema=1"],
    ["clip_norm=0"],
    ["deterministic=5"],
    ["precision=half"],
    ["precision=16"],
    ["view.size=32"],
    ["view.size=[32]"],
    ["view.size=[32, 48, 3]"],
    ["view.size=[32, 1.5]"],
    ['view.size=["a", "b"]'],
    ["optimizer.betas=[0.5, 1]"],
    ["optimizer.betas=[-0.5, 0.9]"],
    ["task.class_weights=5"],
    ['task.class_weights=["a"]'],
    ["task.class_weights=median"],
    ["task.class_weights=1,a"],
    ["task.loss.dice=-1"],
    ["task.loss=1"],
    ["task.scales_test=[]"],
    ["task.scales_test=0,1"],
    ["data.classes=[1]"],
    ["data.val_fraction=0"],
    ["name=a/b"],
    ["name="],
    ["network=resnet"],
    ["network.kind=../unet"],
    ["network=5"],
    ["network.output_stride=3"],
    ["network.depth=9"],
    ["nonsense=1"],
    ["network=unet.depth"],
    ["optimizer.lrr=1"],
    ["network.depth.x=1"],
    ["network.=1"],
    [".=1"],
    ["optimizer=adam"],
    ["augment=null"],
]


@pytest.mark.parametrize("pairs", GOOD, ids=" ".join)
def test_what_is_right_passes_both_checks(pairs: list[str]) -> None:
    check("camvid", pairs)
    find_recipe("camvid").override(pairs)


@pytest.mark.parametrize("pairs", BAD, ids=" ".join)
def test_what_is_wrong_fails_both_checks(pairs: list[str]) -> None:
    with pytest.raises(UsageError) as quick:
        check("camvid", pairs)
    with pytest.raises(UsageError):
        find_recipe("camvid").override(pairs)
    assert pairs[0].partition("=")[0] in str(quick.value) and quick.value.hint


@pytest.mark.parametrize(
    "pairs",
    [["network.kind=regressor", "network.nonsense=1"], ["batch_size=6", "accumulate=4"], ["network.pretrained=true"]],
)
def test_what_only_the_full_validation_can_tell(pairs: list[str]) -> None:
    check("camvid", pairs)
    with pytest.raises(UsageError):
        find_recipe("camvid").override(pairs)


def test_a_part_may_be_left_out() -> None:
    for pairs in (["task.parts.depth=null"], ["task.parts.depth=null", "task.parts.normals=null"]):
        check("multitask", pairs)
        find_recipe("multitask").override(pairs)
    for pair in ("network=null", "task.parts.depth=deep"):
        with pytest.raises(UsageError):
            check("multitask", [pair])


@pytest.mark.parametrize("name", list(recipes()))
def test_every_setting_may_be_set_to_its_own_value(name: str) -> None:
    """The quick check refuses nothing that a recipe itself says."""
    made = find_recipe(name)
    for setting in settings(made):
        value = setting.default if isinstance(setting.default, str) else json.dumps(setting.default)
        check(name, [f"{setting.key}={value}"])
        assert made.override([f"{setting.key}={value}"]) == made


def test_a_saved_recipe_of_other_kinds_is_left_to_the_full_validation(tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    find_recipe("camvid").override(["network=regressor"]).save(path)
    check_saved(path, ["network.hidden=64"])  # a setting of the saved kind, which camvid's own kind does not have
    find_recipe("camvid").save(path)
    with pytest.raises(UsageError, match="unknown setting"):
        check_saved(path, ["network.hidden=64"])
    path.write_text("[]")
    check_saved(path, ["network.hidden=64"])
