"""What users get wrong, row by row: a clear sentence, a hint where there is one, an exit code, and nothing lost."""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from safetensors.torch import load_file, save_file
from test_cli import Capture, Finished, fails, names, picture
from test_loader import alive, children
from torch import Tensor

from pixelwise import run
from pixelwise.cli import main
from pixelwise.engine.checkpoint import newest, saved
from pixelwise.errors import DataError, UsageError
from pixelwise.model import load

SEGMENTATION = ["data.classes=[]", "view.size=16x16", "batch_size=2", "steps=4", "network.width=4", "network.depth=2"]
SEGMENTATION += ["precision=float32", "schedule.warmup_steps=0"]
WORLD = ["data.scenes=8", "data.size=32x32", "view.size=32x32", "batch_size=2", "network.width=4", "network.depth=2"]
WORLD += ["precision=float32", "threads=1"]
COPY = "copy the folder again from where it was trained"


def streets(root: Path, count: int = 6, classes: int = 3) -> Path:
    """Make `count` images with labels, and the names of `classes` classes."""
    for i in range(count):
        picture(root / "images" / f"{i:02}.png", (20, 24))
        labels = np.random.default_rng(i).integers(0, classes, (20, 24), dtype=np.uint8)
        (root / "labels").mkdir(exist_ok=True)
        PillowImage.fromarray(labels).save(root / "labels" / f"{i:02}.png")
    (root / "meta.json").write_text(json.dumps({"classes": [f"class {i}" for i in range(classes)]}))
    return root


def train(*words: str) -> list[str]:
    return ["train", "camvid", *SEGMENTATION, *words]


# Folders and files


def test_a_missing_folder(capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "facades").mkdir()
    code, message, hint = fails(capsys, "train", "facades", f"data.root={tmp_path}/facads")
    assert (code, message, hint) == (1, f"no such folder: {tmp_path}/facads", "did you mean 'facades'?")
    _, message, hint = fails(capsys, "train", "facades", f"data.root={tmp_path}/zzz")
    assert (message, hint) == (f"no such folder: {tmp_path}/zzz", "data.root=FOLDER says where the data is")


def test_unpaired_images(capsys: Capture, tmp_path: Path) -> None:
    for side, count in (("A", 3), ("B", 2)):
        for i in range(count):
            picture(tmp_path / f"train{side}" / f"{i:04}.png")
    code, message, hint = fails(capsys, "train", "facades", f"data.root={tmp_path}")
    assert (code, message) == (1, f"{tmp_path}/train: 3 images in A, 2 in B")
    assert hint == "missing in B: 0002.png"


def test_an_image_without_labels(capsys: Capture, tmp_path: Path) -> None:
    (streets(tmp_path / "data") / "labels" / "03.png").unlink()
    code, message, hint = fails(capsys, *train(f"data.root={tmp_path}/data", f"out={tmp_path}/run"))
    assert (code, message) == (1, f"{tmp_path}/data: 6 images in images, 5 in labels")
    assert hint == "missing in labels: 03.png" and not (tmp_path / "run").exists()


def test_a_truncated_file_stops_the_run_or_is_skipped(capsys: Capture, tmp_path: Path) -> None:
    root = streets(tmp_path / "data")
    bad = root / "images" / "02.png"
    bad.write_bytes(bad.read_bytes()[:400])
    assert main(train(f"data.root={root}", f"out={tmp_path}/stops")) == 1
    err = capsys.readouterr().err
    assert f"error: {bad}: image file is truncated" in err
    assert "hint: repair it, or train without bad files: data.on_error=skip" in err
    assert main(train(f"data.root={root}", f"out={tmp_path}/skips", "data.on_error=skip")) == 0
    err = capsys.readouterr().err
    assert err.count(f"note: skipped {bad}: image file is truncated") == 1


def test_a_file_that_breaks_later_loses_no_step(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fails in the middle of a run: the steps that were done are saved, and the run goes on when it is mended."""
    real = run.loader

    def failing(batches: Any, start: int, stop: int, workers: int) -> Iterator[Any]:
        for t, batch in zip(range(start, stop), real(batches, start, stop, workers), strict=True):
            if t == 3:
                raise DataError("05.png: image file is truncated", "mend it")
            yield batch

    out = tmp_path / "run"
    monkeypatch.setattr(run, "loader", failing)
    assert main(["train", "world_segmentation", *WORLD, "steps=6", f"out={out}"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[-2:] == ["error: 05.png: image file is truncated", f"hint: mend it; then resume with: pixelwise train {out}"]
    assert [folder.name for folder in saved(out)] == ["000003"]
    monkeypatch.setattr(run, "loader", real)
    assert main(["train", str(out)]) == 0
    assert steps_logged(out) == [1, 2, 3, 4, 5, 6]


def steps_logged(folder: Path) -> list[int]:
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [event["step"] for event in events if "losses" in event]


def test_odd_formats_are_converted_with_one_note_each(capsys: Capture, tmp_path: Path) -> None:
    root = streets(tmp_path / "data", 10)
    images = [PillowImage.open(root / "images" / f"{i:02}.png") for i in range(10)]
    for i, image in enumerate(images):
        image.load()
        path = root / "images" / f"{i:02}.png"
        if i < 2:
            PillowImage.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(path)
        elif i < 4:
            image.convert("RGBA").save(path)
        elif i < 6:
            path.unlink()
            image.convert("CMYK").save(path.with_suffix(".jpg"))
        elif i < 8:
            image.convert("P").save(path)
        elif i == 8:  # turned by EXIF: stored lying, seen as large as its labels
            exif = PillowImage.Exif()
            exif[0x0112] = 6
            image.transpose(PillowImage.Transpose.ROTATE_90).save(path, exif=exif)
    assert main(train(f"data.root={root}", f"out={tmp_path}/run", "steps=8", "data.val_fraction=0.1")) == 0
    notes = [line.partition("note: ")[2] for line in capsys.readouterr().err.splitlines() if "note: " in line]
    assert sorted(notes) == [
        "16-bit images are scaled to 8 bits",
        "CMYK images are turned into RGB",
        "palette images are turned into RGB",
        "transparent images are laid on white",
    ]


def test_a_label_out_of_range(capsys: Capture, tmp_path: Path) -> None:
    root = streets(tmp_path / "data")
    for i in range(6):
        labels = np.zeros((20, 24), np.uint8)
        labels[7, 12] = 21
        PillowImage.fromarray(labels).save(root / "labels" / f"{i:02}.png")
    assert main(train(f"data.root={root}", f"out={tmp_path}/run")) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith(f"error: {root}/labels/0")
    assert message.endswith(".png: class 21 at (x=12, y=7), but classes=3 allows 0..2 and ignore=255")


def test_key_points_outside_their_image_or_not_a_number(capsys: Capture, tmp_path: Path) -> None:
    points = [[5, 5], [23.5, 3], None]
    items = [{"file": f"{i}.png", "width": 24, "height": 20, "points": points} for i in range(6)]
    items[0]["points"] = [[-1, 5], [24, 3], [float("nan"), 2]]
    for i in range(6):
        picture(tmp_path / "data" / f"{i}.png", (20, 24))
    (tmp_path / "data" / "keypoints.json").write_text(json.dumps({"names": ["a", "b", "c"], "items": items}))
    words = ["train", "imm_faces", f"data.root={tmp_path}/data", "data.layout=null", "data.group=", "data.val_groups=[]"]
    words += ["data.val_fraction=0.4", "view.size=16x16", "batch_size=2", "steps=3", "network.width=4", "network.depth=2"]
    assert main([*words, "precision=float32", f"out={tmp_path}/run"]) == 0
    notes = [line.partition("note: ")[2] for line in capsys.readouterr().err.splitlines() if "note: " in line]
    outside = [note for note in notes if "outside" in note]
    assert len(outside) == 1 and outside[0].startswith("2 of ") and outside[0].endswith("their image and count as absent")
    assert sum("not labelled and count as unknown" in note for note in notes) >= 1
    assert sum("keeps every name" in note for note in notes) == 1
    losses = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(list(event["losses"].values())).all() for event in losses if "losses" in event)


# Images given to a model


@pytest.mark.parametrize("kind", ["segmentation", "keypoints", "translation"])
@pytest.mark.parametrize("size", [(1, 1), (1, 70), (333, 217), (30000, 3)])
def test_any_size_is_answered(finished: Finished, kind: str, size: tuple[int, int]) -> None:
    prediction = load(finished(kind))(np.zeros((*size, 3), np.uint8))
    assert prediction.render().size == size[::-1]


def test_a_huge_image_of_a_native_model_goes_through_in_tiles(finished: Finished) -> None:
    model = load(finished("segmentation"))
    native = model.description.model_copy(update={"view": model.description.view.model_copy(update={"fit": "native"})})
    model.description = native
    image = picture_array((90, 70))
    whole = model(image)
    seen: list[tuple[int, ...]] = []
    tiling = model._tiling
    model.networks["network"].register_forward_hook(lambda _, inputs, __: seen.append(tuple(inputs[0].shape[-2:])))
    model.memory = 1
    with pytest.raises(UsageError, match="of the memory are left"):
        model(image)
    tiling = model._tiling
    plan = tiling.plan((90, 70), tiling._takes((64, 64)))
    model._plan = lambda *_: plan  # type: ignore[method-assign]
    seen.clear()  # what was tried while planning
    tiled = model(image)
    assert len(seen) > 4 and max(height * width for height, width in seen) <= 64 * 64
    assert torch.equal(tiled.labels, whole.labels) and tiled.notes == ()  # type: ignore[attr-defined]


def picture_array(size: tuple[int, int]) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)


RGB = "the model expects RGB (3 channels) or grey, got an array of shape "
LAYOUT = "arrays are (height, width, 3), tensors (3, height, width)"
RANGE = "pass uint8, or floats in [0, 1]"


@pytest.mark.parametrize(
    ("image", "message", "hint"),
    [
        (np.zeros((480, 640, 4), np.uint8), RGB + "(480, 640, 4)", LAYOUT),
        (np.zeros((3, 480, 640), np.uint8), RGB + "(3, 480, 640)", LAYOUT),
        (np.zeros((2, 4, 4, 3), np.uint8), RGB + "(2, 4, 4, 3)", LAYOUT),
        (np.zeros(7, np.uint8), RGB + "(7,)", LAYOUT),
        (np.zeros((0, 5, 3), np.uint8), RGB + "(0, 5, 3)", LAYOUT),
        (torch.zeros(480, 640, 3), RGB + "(480, 640, 3)", LAYOUT),
        (torch.zeros(3, 0, 4), RGB + "(3, 0, 4)", LAYOUT),
        (np.full((4, 4, 3), 255, np.float32), "image values reach from 255 to 255 but dtype is float32", RANGE),
        (np.full((4, 4), -0.5), "image values reach from -0.5 to -0.5 but dtype is float64", RANGE),
        (np.full((4, 4), np.nan), "image values reach from nan to nan but dtype is float64", RANGE),
        (np.zeros((4, 4, 3), np.int64), "image dtype is int64", RANGE),
        (np.zeros((4, 4, 3), np.uint16), "image dtype is uint16", RANGE),
        (np.zeros((4, 4, 3), bool), "image dtype is bool", RANGE),
        (np.zeros((4, 4, 3), object), "image dtype is object", RANGE),
        (np.zeros((4, 4, 3), ">f4"), "image dtype is >f4", RANGE),
        (PillowImage.new("F", (4, 4)), "image: floating point pixels have no known range", "save it with 8 or 16 bits"),
        ([[1, 2], [3, 4]], "a list is no image", "pass a path, a Pillow image, an array or a tensor"),
        (None, "a NoneType is no image", "pass a path, a Pillow image, an array or a tensor"),
    ],
)
def test_what_is_no_image_for_a_model(finished: Finished, image: Any, message: str, hint: str) -> None:
    with pytest.raises(DataError) as caught:
        load(finished("segmentation"), verify=False)(image)
    assert (str(caught.value), caught.value.hint) == (message, hint)


def test_an_image_is_not_changed_and_may_be_read_only(finished: Finished) -> None:
    model = load(finished("translation"), verify=False)
    image = picture_array((40, 30))
    before = image.copy()
    image.setflags(write=False)
    expected, found = model(image), model(np.asarray(PillowImage.fromarray(before)))
    assert np.array_equal(image, before)
    assert torch.equal(expected.pixels, found.pixels)  # type: ignore[attr-defined]
    assert torch.equal(model(image[::-1]).image, torch.from_numpy(before[::-1].copy()).permute(2, 0, 1))


# Model folders


class Bomb:
    """Unpickling it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def edited(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], object]:
    def edit(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        change(config)
        (folder / "config.json").write_text(json.dumps(config))

    return edit


def rewritten(name: str, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Callable[[Path], object]:
    return lambda folder: save_file(change(load_file(folder / name)), folder / name)


WEIGHTS, GOLDEN, CONFIG = "model.safetensors", "selftest.safetensors", "config.json"
HEAD = "network.head.weight"


def cut(name: str, size: int) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def wider(width: int) -> Callable[[Path], object]:
    return edited(lambda c: c["network"].update(width=width))


DAMAGES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "truncated weights": (cut(WEIGHTS, 5000), "model.safetensors is damaged: ", COPY),
    "empty weights": (cut(WEIGHTS, 0), "model.safetensors is damaged: ", COPY),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), "model.safetensors is damaged: No such file", COPY),
    "missing tensor": (
        rewritten(WEIGHTS, lambda w: {n: t for n, t in w.items() if n != HEAD}),
        f"model.safetensors: 1 tensors missing ({HEAD})",
        COPY,
    ),
    "unknown tensor": (rewritten(WEIGHTS, lambda w: {**w, "x": torch.ones(1)}), "1 tensors unknown (x)", COPY),
    "wrong shape": (
        rewritten(WEIGHTS, lambda w: {**w, HEAD: w[HEAD][:1].clone()}),
        f"{HEAD} has shape (1, 8, 1, 1), the network needs (11, 8, 1, 1)",
        COPY,
    ),
    "wrong type": (
        rewritten(WEIGHTS, lambda w: {**w, HEAD: w[HEAD].half()}),
        f"{HEAD} is torch.float16, the network needs torch.float32",
        COPY,
    ),
    "other weights": (
        rewritten(WEIGHTS, lambda w: {**w, HEAD: w[HEAD] + 0.01}),
        "the self-test gives other outputs than when it was saved (by ",
        COPY,
    ),
    "weights that are not finite": (
        rewritten(WEIGHTS, lambda w: {**w, HEAD: w[HEAD] * torch.nan}),
        "the self-test gives other outputs than when it was saved (by nan)",
        COPY,
    ),
    "no self-test": (lambda f: (f / GOLDEN).unlink(), "selftest.safetensors is damaged: No such file", COPY),
    "self-test without input": (
        rewritten(GOLDEN, lambda w: {n: t for n, t in w.items() if n.startswith("output.")}),
        "the self-test cannot be run: 'image'",
        COPY,
    ),
    "self-test that expects infinity": (
        rewritten(GOLDEN, lambda w: {n: t * torch.inf if n.startswith("output.") else t for n, t in w.items()}),
        "the self-test gives other outputs than when it was saved (by ",
        COPY,
    ),
    "image taken for a label map": (
        edited(lambda c: c.update(labels_in=["image"])),
        "labels_in of config.json does not fit the self-test's 'image'",
        COPY,
    ),
    "self-test without output": (
        rewritten(GOLDEN, lambda w: {n: t for n, t in w.items() if n.startswith("input.")}),
        "the self-test holds no output 'logits'",
        COPY,
    ),
    "self-test of other channels": (
        rewritten(GOLDEN, lambda w: {**w, "input.image": w["input.image"][:, :2].clone()}),
        "the self-test cannot be run: ",
        COPY,
    ),
    "newer": (
        edited(lambda c: c.update(format_version=2, pixelwise="0.9.0", brand_new=True)),
        "config.json: format 2 is newer than this version reads (1)",
        "saved by pixelwise 0.9.0; this is 0.1.0",
    ),
    "no number of the format": (edited(lambda c: c.update(format_version="x")), "config.json is damaged: format_version", COPY),
    "unknown setting": (edited(lambda c: c["network"].update(x=1)), "is damaged: unknown setting 'network.x'", COPY),
    "unknown kind": (edited(lambda c: c["network"].update(kind="unett")), "did you mean 'unet'?", COPY),
    "no kind": (edited(lambda c: c["task"].pop("kind")), "kind is missing; one of boundaries, classification, ", COPY),
    "no classes": (edited(lambda c: c["meta"].update(classes=[], palette=[])), "config.json describes no network: ", COPY),
    "not JSON": (cut(CONFIG, 40), "config.json is damaged: ", COPY),
    "not text": (lambda f: (f / CONFIG).write_bytes(b"\xff\xfe\x00"), "config.json is damaged: ", COPY),
    "a list": (lambda f: (f / CONFIG).write_text("[1]"), "config.json is damaged: ", COPY),
    "null": (lambda f: (f / CONFIG).write_text("null"), "config.json is damaged: ", COPY),
    "deeply nested": (lambda f: (f / CONFIG).write_text("[" * 100000), "config.json is damaged: ", COPY),
    "no config": (lambda f: (f / CONFIG).unlink(), "no model in ", "a model folder holds config.json and model.safetensors"),
    "empty folder": (lambda f: shutil.rmtree(f) or f.mkdir(), "no model in ", "a model folder holds "),  # type: ignore[func-returns-value]
    "wide": (wider(20000), "has shape (8, 3, 3, 3), the network needs (20000, 3, 3, 3)", COPY),
    "wider": (wider(10**9), "config.json describes no network: ", COPY),
    "widest": (wider(10**30), "config.json describes no network: ", COPY),
    "foreign encoder": (
        edited(lambda c: c["network"].update(encoder="hf-hub:somebody/something", pretrained=True)),
        "config.json describes no network: ",
        COPY,
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_model_folder(capsys: Capture, finished: Finished, tmp_path: Path, name: str) -> None:
    damage, message, hint = DAMAGES[name]
    folder = tmp_path / "model"
    shutil.copytree(finished("segmentation") / "model", folder)
    damage(folder)
    image, before = str(picture(tmp_path / "x.png")), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    capsys.readouterr()
    code, found, found_hint = fails(capsys, "predict", str(folder), image, f"out={tmp_path / 'out'}")
    assert code == 1 and str(folder) in found and message in found
    assert found_hint.startswith(hint) and not (tmp_path / "out").exists()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "it took more than 200 MB"


@pytest.mark.parametrize("save", [pickle.dump, torch.save])
def test_a_pickle_in_the_place_of_the_weights_is_not_read(
    capsys: Capture, finished: Finished, tmp_path: Path, save: Callable[..., None]
) -> None:
    trace = tmp_path / "executed"
    for name in (WEIGHTS, GOLDEN):
        folder = tmp_path / name
        shutil.copytree(finished("segmentation") / "model", folder)
        with (folder / name).open("wb") as file:
            save(Bomb(trace), file)
        capsys.readouterr()
        code, message, _ = fails(capsys, "predict", str(folder), "x.png")
        assert code == 1 and f"{name} is damaged" in message and not trace.exists()
    pickle.loads(pickle.dumps(Bomb(trace)))
    assert trace.exists(), "the bomb is a dud, so this test would show nothing"


@pytest.mark.parametrize(
    "kind", ["hostile", "../hostile", "../../hostile", "os", "pixelwise.cli", ".", "", "__init__", 5, ["unet"]]
)
@pytest.mark.parametrize("setting", ["task", "network"])
def test_a_kind_can_name_nothing_outside_its_folder(
    capsys: Capture, finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, kind: Any
) -> None:
    (tmp_path / "hostile.py").write_text("raise SystemExit('executed')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "model"
    shutil.copytree(finished("segmentation") / "model", folder)
    edited(lambda c: c[setting].update(kind=kind))(folder)
    capsys.readouterr()
    code, message, _ = fails(capsys, "predict", str(folder), "x.png")
    assert code == 1 and f"config.json is damaged: {setting}" in message and "hostile" not in sys.modules


def test_a_run_that_never_ended_has_no_model(capsys: Capture, finished: Finished, tmp_path: Path) -> None:
    shutil.copytree(finished("segmentation"), tmp_path / "run", ignore=shutil.ignore_patterns("model"))
    capsys.readouterr()
    for words in (["predict", f"{tmp_path}/run", "x.png"], ["evaluate", f"{tmp_path}/run"]):
        code, message, hint = fails(capsys, *words)
        assert (code, message) == (1, f"no model in {tmp_path}/run")
        assert hint == f"finish the run with: pixelwise train {tmp_path}/run"


# Training that fails


def test_a_loss_that_is_not_finite_stops_the_run_and_is_kept(capsys: Capture, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["train", "world_segmentation", *WORLD, "steps=9", "optimizer.kind=sgd", "optimizer.lr=1e30", f"out={out}"]
    assert main([*words, "network.norm=instance", "schedule.warmup_steps=0"]) == 1
    error, hint = capsys.readouterr().err.splitlines()[-2:]
    step = steps_logged(out)[-1] + 1
    assert error.startswith(f"error: step {step}, phase train: loss or gradient is not finite (cross_entropy ")
    assert "; first: the " in error and " network." in error
    assert hint == f"hint: lower optimizer.lr (now 1e+30), or see batch and state in {out}/crash"
    assert {"batch-0.safetensors", "networks.safetensors", "state.json"} <= names(out / "crash")
    assert load_file(out / "crash" / "batch-0.safetensors")["image"].shape == (2, 3, 32, 32)


def test_tensorboard_that_is_not_installed(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    words = ["train", "world_segmentation", *WORLD, "steps=2", "tensorboard=true", f"out={tmp_path / 'run'}"]
    assert fails(capsys, *words) == (2, "TensorBoard is not installed", "pip install 'pixelwise[log]'")


def intruding(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], object]) -> None:
    """Do something when a run asks for the batch of `step`."""
    real = run.loader

    def stream(batches: Any, start: int, stop: int, workers: int) -> Iterator[Any]:
        for t, batch in zip(range(start, stop), real(batches, start, stop, workers), strict=True):
            if t == step:
                act()
            yield batch

    monkeypatch.setattr(run, "loader", stream)


def test_ctrl_c_saves_and_the_resumed_run_ends_alike(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["train", "world_segmentation", *WORLD, "steps=6"]
    with monkeypatch.context() as patch:
        intruding(patch, 2, lambda: os.kill(os.getpid(), signal.SIGINT))
        assert main([*words, f"out={tmp_path / 'run'}"]) == 130
    error, hint = capsys.readouterr().err.splitlines()[-2:]
    assert error == "stopped after step 3 of 6; state saved"
    assert hint == f"hint: resume with: pixelwise train {tmp_path / 'run'}"
    assert [folder.name for folder in saved(tmp_path / "run")] == ["000003"]
    assert main(["train", str(tmp_path / "run")]) == main([*words, f"out={tmp_path / 'whole'}"]) == 0
    one, two = (load_file(tmp_path / name / "model" / WEIGHTS) for name in ("run", "whole"))
    assert all(torch.equal(one[name], two[name]) for name in two)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the worker by /proc")
def test_a_killed_worker_costs_no_step(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    before = set(children(os.getpid()))

    def kill() -> None:
        grandchildren = [pid for child in children(os.getpid()) for pid in children(child)]
        for pid in alive([pid for pid in grandchildren if pid not in before]):
            os.kill(pid, signal.SIGKILL)

    intruding(monkeypatch, 2, kill)
    assert main(["train", "world_segmentation", *WORLD, "steps=40", "workers=1", f"out={out}"]) == 1
    error, hint = capsys.readouterr().err.splitlines()[-2:]
    assert error == "error: a process that reads data was killed"
    assert hint.endswith(f"; then resume with: pixelwise train {out}") and "memory" in hint
    state = newest(out)
    assert state is not None and int(state.name) == steps_logged(out)[-1] >= 2
