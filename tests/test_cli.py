"""The command line: what each verb prints and returns, and that nothing heavy is imported before it is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from test_tasks import small

import pixelwise
from pixelwise import cli
from pixelwise.cli import main
from pixelwise.engine.checkpoint import saved
from pixelwise.model import load
from pixelwise.recipe import Recipe, find_recipe, recipes

Finished = Callable[[str], Path]
Capture = pytest.CaptureFixture[str]

HEAVY = ("torch", "pydantic", "numpy", "PIL", "rich")
TINY = [
    "data.scenes=8",
    "data.size=32x32",
    "view.size=32x32",
    "batch_size=2",
    "steps=3",
    "network.width=4",
    "network.depth=2",
    "precision=float32",
]


def fails(capsys: Capture, *words: str) -> tuple[int, str, str]:
    """Run a command that must fail; return its exit code, message and hint, having seen nothing else printed."""
    code = main(words)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == "" and "Traceback" not in err
    assert lines[0].startswith("error: ") and len(lines) <= 2, err
    assert len(lines) == 1 or lines[1].startswith("hint: ")
    return code, lines[0].removeprefix("error: "), "".join(lines[1:]).removeprefix("hint: ")


def picture(path: Path, size: tuple[int, int] = (40, 50)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(path.name)).integers(0, 256, (*size, 3), dtype=np.uint8)
    PillowImage.fromarray(noise).save(path)
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# Nothing heavy is imported

VERBS = (
    "verbs: list, describe, check, train, evaluate, gallery, predict, generate, compare, import, export, "
    "demo, lab, analyse, doctor"
)
QUICK = [
    (0, ["--help"]),
    (0, ["--version"]),
    (0, []),
    (0, ["train", "--help"]),
    (0, ["list"]),
    (0, ["list", "--json"]),
    (0, ["describe", "camvid"]),
    (2, ["describe", "camvit"]),
    (2, ["tarin", "camvid"]),
    (2, ["train"]),
    (2, ["train", "--steps", "5", "camvid"]),
    (2, ["train", "camvit"]),
    (2, ["train", "camvid", "steps"]),
    (2, ["train", "camvid", "=5"]),
    (2, ["train", "camvid", "steps=0"]),
    (2, ["train", "camvid", "steps=many"]),
    (2, ["train", "camvid", "optimizer.lr=NaN"]),
    (2, ["train", "camvid", "optimzer.lr=0.1"]),
    (2, ["train", "camvid", "lr=0.1"]),
    (2, ["train", "camvid", "network=resnet"]),
    (2, ["train", "camvid", "network.kind=../../x"]),
    (2, ["train", "camvid", "precision=half"]),
    (2, ["import", "nowhere.pth"]),
    (2, ["import", "nowhere.pth", "out", "statistic=running"]),
    (2, ["import", "nowhere.pth", "out", "statistics=batch"]),
    (2, ["import", "nowhere.pth", "."]),
    (2, ["export", "nowhere", "x.onnx"]),
    (2, ["export", "nowhere", "x.pt"]),
    (2, ["export", "nowhere", "x.onnx", "opset=9"]),
    (2, ["export", "nowhere", "x.onnx", "input=uint16"]),
    (2, ["export", "nowhere", "x.onnx", "size=512"]),
    (2, ["train", "camvid", "view.size=64"]),
    (2, ["train", "camvid", "view.size=[64]"]),
    (2, ["train", "camvid", "optimizer.betas=[0.5, 1]"]),
    (2, ["train", "camvid", "name=../x"]),
    (2, ["train", "camvid", "out="]),
    (2, ["train", "missing.json"]),
    (2, ["train", "run/recipe.json", "stepz=5"]),
    (2, ["train", "run/recipe.json", "steps=many"]),
    (2, ["train", "run", "steps=5"]),
    (2, ["evaluate", "run", "data.roote=x"]),
    (2, ["evaluate", "run", "steps=5"]),
    (2, ["train", "."]),
    (2, ["evaluate", "missing"]),
    (2, ["evaluate", "."]),
    (2, ["predict", "missing", "x.png"]),
    (2, ["predict", "."]),
    (2, ["predict", ".", "out=x"]),
    (0, ["analyse"]),
    (0, ["analyse", "--json"]),
    (2, ["analyse", "size=64x64"]),
    (2, ["analyse", "unet", "size=64"]),
    (2, ["analyse", "unet", "batch=0"]),
    (2, ["analyse", "unet", "size"]),
    (0, ["lab"]),
    (0, ["lab", "--json"]),
    (0, ["describe", "skips"]),
    (2, ["lab", "skip"]),
    (2, ["lab", "skips", "repeats=0"]),
    (2, ["lab", "all", "camvit=x"]),
    (2, ["demo", "steps=-1"]),
    (2, ["demo", "step=1"]),
]


def test_help_list_and_usage_errors_import_nothing_heavy(tmp_path: Path) -> None:
    """One process answers them all, so the first that imports torch shows it in all that follow: each is checked."""
    main(["list"]), main(["lab"])  # the indices are there
    (tmp_path / "run").mkdir()
    find_recipe("camvid").save(tmp_path / "run" / "recipe.json")
    code = (
        "import contextlib, io, json, sys\n"
        "from pixelwise.cli import main\n"
        "def run(words):\n"
        "    said = io.StringIO()\n"
        "    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):\n"
        "        try: code = main(words)\n"
        "        except SystemExit as leaving: code = leaving.code\n"
        "    return code, said.getvalue(), [m for m in json.loads(sys.argv[2]) if m in sys.modules]\n"
        "print(json.dumps([run(words) for words in json.loads(sys.argv[1])]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, json.dumps([words for _, words in QUICK]), json.dumps(HEAVY)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    for (expected, words), (code_, said, heavy) in zip(QUICK, json.loads(done.stdout), strict=True):
        assert (code_, heavy) == (expected, []), (words, said)
        assert said and "unexpected" not in said
        assert expected == 0 or (said.startswith("error: ") and "\nhint: " in said), (words, said)


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = f"import sys, pixelwise; print([m for m in {HEAVY} if m in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_training_our_own_networks_imports_neither_torchvision_nor_timm(tmp_path: Path) -> None:
    code = (
        "import sys; from pixelwise.cli import main\n"
        "code = main(sys.argv[1:])\n"
        "print(code, [m for m in ('torchvision', 'timm', 'scipy', 'tensorboard') if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, "train", "world_segmentation", *TINY, f"out={tmp_path / 'run'}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()


def test_public_names_are_there_and_nothing_else() -> None:
    assert all(getattr(pixelwise, name).__name__ == name for name in pixelwise.__all__ if name != "__version__")
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        pixelwise.trian  # noqa: B018


# list, describe, doctor


def test_list_names_every_recipe(capsys: Capture) -> None:
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [[name, made().task.kind] for name, made in recipes().items()]
    assert all((made.__doc__ or "?").splitlines()[0] in line for made, line in zip(recipes().values(), lines, strict=True))


def test_list_as_json(capsys: Capture) -> None:
    assert main(["list", "--json"]) == 0
    out, err = capsys.readouterr()
    listed = json.loads(out)["recipes"]
    assert [entry["name"] for entry in listed] == list(recipes()) and err == ""
    assert all(entry.keys() == {"name", "task", "summary"} for entry in listed)


def test_describe_names_the_parts_of_several_tasks_and_lists_their_settings_once(capsys: Capture) -> None:
    assert main(["describe", "world_multitask"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")}
    assert "  {labels, depth, normals, boundaries}  the tasks by name" in lines["task.parts"]
    assert "cross_entropy" not in lines["task.parts"] and "task.parts.labels.loss.cross_entropy" in lines


def test_describe_prints_every_setting_with_value_and_meaning(capsys: Capture) -> None:
    from pixelwise.config import settings

    assert main(["describe", "world_translation"]) == 0
    lines = [line.split(None, 1) for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    described = dict(lines)
    expected = list(settings(find_recipe("world_translation")))
    assert list(described) == [s.key for s in expected]
    for setting in expected:
        value, meaning = json.dumps(setting.default), setting.description
        assert meaning, f"{setting.key} has no meaning"
        assert described[setting.key].startswith(value) and meaning in described[setting.key]


def test_doctor_as_json(capsys: Capture) -> None:
    assert main(["doctor", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["pixelwise"] == pixelwise.__version__ and err == ""


# Errors


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["tarin"], "no verb 'tarin'", "did you mean 'train'?"),
        (["frobnicate"], "no verb 'frobnicate'", VERBS),
        (["train"], "the following arguments are required: RECIPE", "see: pixelwise train --help"),
        (["train", "camvit"], "no recipe 'camvit'", "did you mean 'camvid'?"),
        (["train", "camvid", "steps"], "expected key=value, got 'steps'", "for example steps=500"),
        (["train", "camvid", "netwrk.width=3"], "unknown setting 'netwrk.width'", "did you mean 'network.width'?"),
        (["train", "camvid", "sigma=3"], "unknown setting 'sigma'", "see them all: pixelwise describe camvid"),
        (["train", "camvid", "lr=3"], "unknown setting 'lr'", "did you mean 'optimizer.lr'?"),
        (["train", "camvid", "steps=0"], "steps = '0': should be at least 1", "see: pixelwise describe camvid"),
        (
            ["train", "camvid", "view.size=3"],
            "view.size = '3': should be a list, such as 3,5",
            "see: pixelwise describe camvid",
        ),
        (
            ["train", "camvid", "optimizer.kind=adamm"],
            "optimizer.kind = 'adamm': should be 'adam' or 'adamw' or 'sgd'; did you mean 'adam'?",
            "see: pixelwise describe camvid",
        ),
        (["check", "data.root=x"], "name a recipe, or the kind of your data", "data.kind=KIND data.root=FOLDER"),
        (["check", "camvid", "lr=3"], "unknown setting 'lr'", "did you mean 'optimizer.lr'?"),
        (["check", "camvidd"], "no recipe 'camvidd'", "did you mean 'camvid'?"),
        (["evaluate", "x", "limit=-3"], "limit = '-3': should be a positive integer", "for example limit=10"),
        (["evaluate", "x", "limit=true"], "limit = 'true': should be a positive integer", "for example limit=10"),
        (["evaluate", "x", "split="], "split = '': should be a name", "for example split=NAME"),
        (["predict", "x", "out=y"], "no images to predict for", "pixelwise predict MODEL IMAGE..."),
        (["demo", "step=3"], "unknown setting 'step'", "the demo takes out=DIR and steps=N"),
    ],
)
def test_usage_errors_say_what_and_how_to_mend_it(capsys: Capture, words: list[str], message: str, hint: str) -> None:
    assert fails(capsys, *words) == (2, message, hint)


def test_a_missing_run_or_model_names_the_nearest(capsys: Capture, finished: Finished) -> None:
    near = str(finished("segmentation"))[:-1]
    capsys.readouterr()
    assert fails(capsys, "evaluate", near) == (2, f"no run in {near}: it holds no recipe.json", "did you mean 'segmentation'?")
    assert fails(capsys, "predict", near, "x") == (2, f"no such model folder: {near}", "did you mean 'segmentation'?")


def test_evaluate_changes_the_data_and_nothing_else(capsys: Capture, finished: Finished) -> None:
    run = str(finished("segmentation"))
    capsys.readouterr()
    code, message, hint = fails(capsys, "evaluate", run, "data.scenes=4", "network.width=5")
    assert (code, message) == (2, "evaluate cannot change 'network.width': the model is trained")
    assert hint == "it takes split, limit, data.*, and of task.* what says how to answer"


def test_how_to_answer_can_be_changed_after_training(capsys: Capture, finished: Finished) -> None:
    """The mirrored picture's answer counts half; `evaluate` says that it was changed."""
    run = str(finished("segmentation"))
    found = []
    for changed in ([], ["task.flip_test=true"]):
        capsys.readouterr()
        assert main(["evaluate", run, "limit=4", *changed, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    plain, mirrored = found
    assert "changed" not in plain["protocol"] and mirrored["protocol"]["changed"] == ["task.flip_test=true"]
    assert plain["baselines"] == mirrored["baselines"]
    image = {"image": torch.arange(3 * 64 * 64).view(1, 3, 64, 64).remainder(251).to(torch.uint8)}
    with torch.inference_mode():
        once, both, other = (
            load(run, changes=changed).outputs(batch)["logits"].softmax(1)
            for changed, batch in (((), image), (["task.flip_test=true"], image), ((), {"image": image["image"].flip(-1)}))
        )
    assert not torch.equal(once, both)
    torch.testing.assert_close(both, (once + other.flip(-1)) / 2)
    code, message, hint = fails(capsys, "evaluate", run, "task.loss.dice=1")
    assert (code, message) == (2, "task.loss.dice cannot be changed after training: it is 0.0")
    assert hint == "what can be: task.threshold, task.flip_test, task.scales_test"
    assert fails(capsys, "predict", run, "x.png", "task.fliptest=true")[1:] == (
        "task.fliptest cannot be changed after training",
        "did you mean 'task.flip_test'?",
    )


def test_who_is_found_can_be_changed_after_training(capsys: Capture, finished: Finished) -> None:
    """No belief is above 1 - 1e-9, so with that threshold nobody is there."""
    run = str(finished("pose"))
    capsys.readouterr()
    assert main(["evaluate", run, "limit=4", "task.threshold=0.999999999", "task.least_parts=2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["people_matched"] == 0
    changes = ["task.most_people=3", "task.matching=hungarian", "task.least_score=0.5", "task.flip_test=true"]
    task = load(run, changes=changes).task.config.model_dump()
    assert [task[name] for name in ("most_people", "matching", "least_score", "flip_test")] == [3, "hungarian", 0.5, True]
    assert fails(capsys, "evaluate", run, "task.sigma=3")[1] == "task.sigma cannot be changed after training: it is 3.0"


def test_an_error_of_the_system_is_not_called_unexpected(capsys: Capture, tmp_path: Path) -> None:
    """A file stands where the run folder should be made; what is there stays."""
    (tmp_path / "taken").write_text("precious")
    code, message, hint = fails(capsys, "train", "world_segmentation", *TINY, f"out={tmp_path / 'taken'}")
    assert (code, message, hint) == (1, f"{tmp_path / 'taken'}: File exists", "")
    assert (tmp_path / "taken").read_text() == "precious"


def raising(error: BaseException) -> Callable[..., int]:
    def raises(*_: Any) -> int:
        raise error

    return raises


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (ZeroDivisionError("zero"), 1, ["error: unexpected ZeroDivisionError: zero", "hint: run again with --debug"]),
        (OSError(28, "No space left on device", "runs/x"), 1, ["error: runs/x: No space left on device"]),
        (pixelwise.UsageError("wrong", "right"), 2, ["error: wrong", "hint: right"]),
        (pixelwise.DataError("torn"), 1, ["error: torn"]),
    ],
)
def test_debug_adds_the_traceback_and_changes_nothing_else(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, debug: bool, error: Exception, code: int, lines: list[str]
) -> None:
    monkeypatch.setattr(cli, "list_recipes", raising(error))
    assert main(["list", *["--debug"] * debug]) == code
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("Traceback (most recent call last)") is debug
    said = err.splitlines()[-len(lines) :]
    assert all(line.startswith(start) for line, start in zip(said, lines, strict=True))
    assert debug or len(err.splitlines()) == len(lines)


def test_ctrl_c_anywhere_is_130(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "list_recipes", raising(KeyboardInterrupt()))
    assert main(["list"]) == 130
    assert capsys.readouterr() == ("", "stopped\n")


def test_a_closed_pipe_is_silent() -> None:
    """`pixelwise describe camvid | head -1` ends without a word."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    code = "import os, sys; os.close(1); os.pipe(); r, w = os.pipe(); os.dup2(w, 1); os.close(w); os.close(r)\n"
    code += "from pixelwise.cli import main; sys.exit(main(['describe', 'camvid']) or sys.stdout.flush())"
    done = subprocess.run([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True, check=False)
    assert "Traceback" not in done.stderr


# train


def test_train_makes_the_run_folder_that_is_asked_for(capsys: Capture, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "run"
    assert main(["train", "world_segmentation", *TINY, f"out={out}"]) == 0
    said = capsys.readouterr()
    assert f"Saved  {out}/" in said.out and "ours" in said.out and "constant" in said.out
    assert {"recipe.json", "metrics.jsonl", "report.html", "evaluation.json", "environment.json"} <= names(out)
    assert {"config.json", "model.safetensors"} <= names(out / "model")
    events = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events if "losses" in event] == [1, 2, 3]
    assert Recipe.load(out / "recipe.json").steps == 3
    assert fails(capsys, "train", "world_segmentation", *TINY, f"out={out}") == (
        2,
        f"{out} already holds a run",
        f"resume it with: pixelwise train {out}, or name a new folder with out=DIR",
    )


def test_a_run_that_saved_nothing_is_not_offered_to_be_resumed(capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text("{}")
    _, what, hint = fails(capsys, "train", "world_segmentation", *TINY, f"out={tmp_path}")
    assert what == f"{tmp_path} already holds a run" and hint.startswith("it has saved nothing yet: remove it")


def test_runs_are_numbered(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "world_segmentation-1").mkdir(parents=True)
    assert main(["train", "world_segmentation", *TINY]) == 0
    assert (tmp_path / "runs" / "world_segmentation-2" / "report.html").is_file()
    assert names(tmp_path / "runs" / "world_segmentation-1") == set()


def test_a_folder_of_data_called_like_a_recipe_does_not_hide_it(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "camvid").mkdir()
    code, message, _ = fails(capsys, "train", "camvid", "data.root=camvid")
    assert code == 1 and "the classes are not known" in message
    (tmp_path / "other").mkdir()
    code, message, _ = fails(capsys, "train", "other")
    assert code == 2 and message == "no run in other: it holds no recipe.json"


def test_a_folder_may_be_called_like_a_number(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, message, _ = fails(capsys, "train", "camvid", "data.root=2024")
    assert (code, message) == (1, "no such folder: 2024")


def test_a_mistake_in_the_data_leaves_no_run_folder(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert fails(capsys, "train", "camvid", "data.root=nowhere")[0] == 1
    assert names(tmp_path) == set()


def test_a_run_resumes_as_it_was_begun(capsys: Capture, finished: Finished) -> None:
    run = str(finished("segmentation"))
    capsys.readouterr()
    code, message, hint = fails(capsys, "train", run, "steps=9")
    assert (code, hint) == (2, f"to begin anew: pixelwise train {run}/recipe.json steps=9")
    assert message == f"{run} is resumed as it was begun; steps=9 cannot change it"


def test_a_recipe_json_replays_to_the_same_bits(capsys: Capture, finished: Finished, tmp_path: Path) -> None:
    run = finished("translation")
    assert main(["train", str(run / "recipe.json"), f"out={tmp_path / 'again'}"]) == 0
    assert Recipe.load(tmp_path / "again" / "recipe.json") == small("translation")
    for name in ("model.safetensors", "selftest.safetensors", "config.json"):
        assert (tmp_path / "again" / "model" / name).read_bytes() == (run / "model" / name).read_bytes()
    assert [folder.name for folder in saved(tmp_path / "again")] == [folder.name for folder in saved(run)]


def test_a_recipe_json_can_be_changed(capsys: Capture, finished: Finished, tmp_path: Path) -> None:
    recipe = str(finished("segmentation") / "recipe.json")
    assert main(["train", recipe, "steps=2", "network.kind=pix2pix_unet", "network.depth=3", f"out={tmp_path / 'x'}"]) == 0
    made = Recipe.load(tmp_path / "x" / "recipe.json")
    assert (made.steps, made.network.kind) == (2, "pix2pix_unet")
    capsys.readouterr()
    code, message, hint = fails(capsys, "train", recipe, "stpes=2", f"out={tmp_path / 'y'}")
    assert (code, message, hint) == (2, "unknown setting 'stpes'", "did you mean 'steps'?")
    assert not (tmp_path / "y").exists()


@pytest.mark.parametrize("text", ["", "[", "[]", "null", "5", "{}", '{"name": "x"}', "\x00", '{"name": "../x"}'])
def test_a_file_that_is_no_recipe_is_refused(capsys: Capture, tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(text)
    assert main(["train", str(path), f"out={tmp_path / 'out'}"]) == 2
    assert main(["train", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert err.count("error: ") == 2 and "unexpected" not in err
    assert names(tmp_path) == {"recipe.json"}


# evaluate


def test_evaluate_prints_ours_beside_the_baselines(capsys: Capture, finished: Finished) -> None:
    run = finished("keypoints")
    assert main(["evaluate", str(run), "split=val"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["ours", "constant", "nearest_neighbours_3", "ridge"]
    assert rows[1][0] == "mean_error_px" and all(len(row) == 5 for row in rows[1:-1])
    assert " ".join(rows[-1]).startswith("3 of 3 samples of val, in each image's own pixels; mean_error_px decides")


@pytest.mark.parametrize("kind", ["segmentation", "keypoints", "translation"])
def test_evaluate_as_json_agrees_with_the_run(capsys: Capture, finished: Finished, kind: str) -> None:
    run = finished(kind)
    assert main(["evaluate", str(run), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    written = json.loads((run / "evaluation.json").read_text())
    assert result["metrics"] == pytest.approx(written["metrics"], abs=1e-6)
    assert result["baselines"].keys() == written["baselines"].keys() and len(result["baselines"]) >= 3
    assert all(result["primary"] in metrics for metrics in (result["metrics"], *result["baselines"].values()))
    assert result["protocol"]["split"] == "val"


def test_evaluate_takes_split_limit_and_data(capsys: Capture, finished: Finished) -> None:
    run = str(finished("segmentation"))
    assert main(["evaluate", run, "--json", "split=test", "limit=5", "data.scenes=40"]) == 0
    protocol = json.loads(capsys.readouterr().out)["protocol"]
    assert (protocol["split"], protocol["samples"], protocol["of"]) == ("test", 5, 10)
    code, message, hint = fails(capsys, "evaluate", run, "split=tset")
    assert (code, message, hint) == (1, "the world has no split 'tset'", "did you mean 'test'?")


# predict


def test_predict_saves_pictures_and_says_where(capsys: Capture, finished: Finished, tmp_path: Path) -> None:
    model = str(finished("keypoints"))
    capsys.readouterr()
    one, two = picture(tmp_path / "in" / "one.png"), picture(tmp_path / "in" / "deep" / "two.jpg", (33, 21))
    out = tmp_path / "out"
    assert main(["predict", model, str(tmp_path / "in"), str(one), f"out={out}", "--json"]) == 0
    said = capsys.readouterr()
    outcome = json.loads(said.out)
    assert outcome["failed"] == [] and said.err == ""
    files = [(entry["file"], entry["saved"]) for entry in outcome["predictions"]]
    assert files == [
        (str(two), str(out / "deep" / "two.png")),
        (str(one), str(out / "one.png")),
        (str(one), str(out / "one.png.png")),
    ]
    for entry in outcome["predictions"]:
        with PillowImage.open(entry["saved"]) as answer:
            assert answer.size == (entry["width"], entry["height"])
        numbers = json.loads(Path(entry["saved"]).with_suffix(".json").read_text())
        assert numbers["instances"] == entry["instances"]


def test_predict_goes_on_after_a_bad_file(capsys: Capture, finished: Finished, tmp_path: Path) -> None:
    good, bad = picture(tmp_path / "in" / "b.png"), tmp_path / "in" / "a.png"
    bad.write_bytes(good.read_bytes()[:300])
    missing = tmp_path / "c.png"
    words = ["predict", str(finished("segmentation")), str(tmp_path / "in"), str(missing), f"out={tmp_path / 'out'}"]
    capsys.readouterr()
    assert main(words) == 1
    said = capsys.readouterr()
    assert said.out == f"predicted: 1 (in {tmp_path / 'out'})  failed: 2\n"
    assert said.err.splitlines()[0].startswith(f"error: {bad}: image file is truncated")
    assert said.err.splitlines()[-1] == f"error: no such file: {missing}"
    assert main([*words, "--json"]) == 1
    outcome = json.loads(capsys.readouterr().out)
    assert [entry["file"] for entry in outcome["failed"]] == [str(bad), str(missing)]
    assert [entry["file"] for entry in outcome["predictions"]] == [str(good)]
    assert names(tmp_path / "out") == {"b.png"}


def test_predict_in_a_folder_without_images(capsys: Capture, finished: Finished, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    model = str(finished("segmentation"))
    capsys.readouterr()
    code, message, hint = fails(capsys, "predict", model, str(tmp_path))
    assert (code, message) == (1, f"no image in {tmp_path}") and ".png" in hint


# demo


def test_demo_trains_three_and_writes_one_report(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pixelwise import demo

    monkeypatch.setattr(demo, "RECIPES", ("segmentation", "keypoints", "translation"))
    monkeypatch.setattr(demo, "find_recipe", small)
    out = tmp_path / "demo"
    assert main(["demo", f"out={out}", "steps=2"]) == 1  # two steps do not beat the baselines
    said = capsys.readouterr().out
    assert "of 3 models beat every trivial baseline" in said and f"Saved  {out}/" in said
    assert len(json.loads((out / "results.json").read_text())) == 3
    page = (out / "report.html").read_text()
    assert page.count("<section>") == 3 and page.count("constant") >= 3
    assert all((out / kind / "model" / "model.safetensors").is_file() for kind in demo.RECIPES)


def test_hints_name_the_command_as_it_was_called(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXELWISE_COMMAND", "./pw")
    assert main(["describe", "camvidd"]) == 2 and main(["train", "camvid", "sigma=1"]) == 2
    assert "hint: see them all: ./pw describe camvid" in capsys.readouterr().err
