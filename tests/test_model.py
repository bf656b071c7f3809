"""The model folder and what it answers: the self-test, batches of mixed sizes, files, and suffixes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from safetensors.torch import load_file, save_file
from test_cli import Capture, Finished, picture

from pixelwise.batch import images_in, predict_files
from pixelwise.data.datasets import paired_folder
from pixelwise.data.sample import Image, Sample, collate
from pixelwise.errors import DataError, ModelError, UsageError
from pixelwise.geometry.frame import Frame
from pixelwise.geometry.skeleton import Skeleton
from pixelwise.model import Model, load, to_labels
from pixelwise.prediction import EXACT
from pixelwise.predictions.image import ImagePrediction
from pixelwise.predictions.keypoints import KeypointsPrediction
from pixelwise.predictions.labels import LabelPrediction
from pixelwise.recipe import find_recipe
from pixelwise.run import proceed, start

KINDS = pytest.mark.parametrize("kind", ["segmentation", "keypoints", "translation"])


def noise(size: tuple[int, int], seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (3, *size), dtype=np.uint8))


def sample(model: Model, size: tuple[int, int], seed: int) -> Sample:
    return Sample(str(seed), {model.task.inputs[0]: Image(noise(size, seed), Frame.of(size))})


# The self-test


@KINDS
def test_the_self_test_is_what_the_network_gives(finished: Finished, kind: str) -> None:
    folder = finished(kind) / "model"
    golden, model = load_file(folder / "selftest.safetensors"), load(folder)
    inputs = {name.removeprefix("input."): tensor for name, tensor in golden.items() if name.startswith("input.")}
    with torch.inference_mode():
        outputs = model.outputs(inputs)
    assert outputs and golden.keys() == {*(f"input.{n}" for n in inputs), *(f"output.{n}" for n in outputs)}
    for name, output in outputs.items():
        torch.testing.assert_close(output, golden[f"output.{name}"], atol=1e-5, rtol=1e-5)
        assert golden[f"output.{name}"].std() > 0


@KINDS
def test_a_changed_weight_is_found_on_loading(finished: Finished, kind: str, tmp_path: Path) -> None:
    """Every convolution counts: shifting one filter of any of them is found."""
    weights = load_file(finished(kind) / "model" / "model.safetensors")
    kernels = [name for name, tensor in weights.items() if tensor.dim() == 4]
    shutil.copytree(finished(kind) / "model", tmp_path / "model")
    for name in kernels:
        changed = weights[name].flatten(1).clone()
        changed[0] += 2 * weights[name].abs().max()
        save_file({**weights, name: changed.view_as(weights[name])}, tmp_path / "model" / "model.safetensors")
        with pytest.raises(ModelError, match="the self-test gives other outputs than when it was saved"):
            load(tmp_path / "model")
    assert load(tmp_path / "model", verify=False).task is not None and len(kernels) >= 5


def test_only_deployed_networks_are_saved(finished: Finished) -> None:
    names = load_file(finished("translation") / "model" / "model.safetensors")
    assert {name.partition(".")[0] for name in names} == {"generator"}


@KINDS
def test_a_saved_model_saves_itself_again_to_the_same_bytes(finished: Finished, kind: str, tmp_path: Path) -> None:
    folder = finished(kind) / "model"
    golden = load_file(folder / "selftest.safetensors")
    model = load(folder)
    (name,) = model.task.inputs
    pixels = golden[f"input.{name}"][0]
    model.save(tmp_path, Sample("x", {name: Image(pixels, Frame.of(pixels.shape[-2:]))}), "a card")
    for file in ("config.json", "model.safetensors", "selftest.safetensors"):
        assert (tmp_path / file).read_bytes() == (folder / file).read_bytes()
    assert (tmp_path / "README.md").read_text() == "a card"


def test_a_run_folder_and_its_model_folder_are_the_same_model(finished: Finished) -> None:
    one, two = load(str(finished("segmentation"))), load(finished("segmentation") / "model")
    image = noise((20, 30))
    assert torch.equal(one(image).labels, two(image).labels)  # type: ignore[attr-defined]


# Many images


@KINDS
def test_images_of_mixed_sizes_are_grouped_and_come_back_in_order(
    finished: Finished, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(finished(kind))
    fit = model.description.view.model_copy(update={"fit": "native"})
    model.description = model.description.model_copy(update={"view": fit})
    sizes = [(32, 32), (40, 32), (32, 32), (40, 32), (32, 32)]
    samples = [sample(model, size, seed) for seed, size in enumerate(sizes)]
    alone = [model.predict([one])[0] for one in samples]
    asked: list[int] = []
    real = model.outputs
    monkeypatch.setattr(model, "outputs", lambda batch: asked.append(len(next(iter(batch.values())))) or real(batch))
    together = model.predict(samples)
    assert asked == [3, 2]
    for one, other, size in zip(alone, together, sizes, strict=True):
        assert one.image.shape == (3, *size)
        assert torch.equal(one.image, other.image)
        difference = np.asarray(one.render()).astype(int) - np.asarray(other.render())
        assert (np.abs(difference) > 1).mean() < 0.01
    assert model.predict([]) == []


def test_a_path_and_its_pixels_get_the_same_answer_and_both_slashes_work(finished: Finished, tmp_path: Path) -> None:
    model = load(finished("keypoints"))
    path = picture(tmp_path / "x.png")
    with PillowImage.open(path) as image:
        expected = model(image).to_json()
    assert model(path).to_json() == model(str(path)).to_json() == expected


# Label maps as inputs


@pytest.fixture(scope="module")
def from_labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train labels to photographs for a moment."""
    root = tmp_path_factory.mktemp("pairs")
    for i in range(6):
        picture(root / "data" / "train" / "photos" / f"{i}.png", (32, 32))
        indices = PillowImage.fromarray(np.random.default_rng(i).integers(0, 3, (32, 32), dtype=np.uint8))
        indices.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
        (root / "data" / "train" / "labels").mkdir(exist_ok=True)
        indices.save(root / "data" / "train" / "labels" / f"{i}.png")
    stated = {"classes": ["a", "b", "c"], "palette": [[0, 0, 0], [255, 0, 0], [0, 0, 255]]}
    (root / "data" / "meta.json").write_text(json.dumps(stated))
    pairs = [f"data.root={root / 'data'}", "task.labels=one_hot", "view.size=32x32", "view.load_size=null", "steps=2"]
    pairs += ["batch_size=2", "network.width=4", "network.depth=3", "task.discriminator.layers=1", "precision=float32"]
    recipe = find_recipe("facades").override([*pairs, "task.discriminator.width=4", "network.norm=instance"])
    assert isinstance(recipe.data, paired_folder.Config)
    proceed(start(recipe, root / "run"))
    return root


def test_a_model_that_reads_label_maps(from_labels: Path) -> None:
    model = load(from_labels / "run")
    assert model.description.labels_in == ("a",)
    path = from_labels / "data" / "train" / "labels" / "0.png"
    with PillowImage.open(path) as image:
        indices = np.asarray(image)
        answers = [model(path), model(image), model(indices), model(torch.from_numpy(indices.astype(np.int64)))]
    assert all(torch.equal(answers[0].pixels, a.pixels) for a in answers[1:])  # type: ignore[attr-defined]
    other = model(np.where(indices == 1, 2, indices))
    assert not torch.equal(answers[0].pixels, other.pixels)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full((4, 5), 3), r"class 3 at \(x=0, y=0\), but the model knows 0..2 and 255 for unknown"),
        (np.array([[0, 0], [1, -1]]), r"class -1 at \(x=1, y=1\)"),
        (np.array([[0, 300]]), r"class 300 at \(x=1, y=0\)"),
        (np.zeros((4, 5, 3), np.uint8), r"got uint8 of shape \(4, 5, 3\)"),
        (np.zeros((4, 5)), r"got float64 of shape \(4, 5\)"),
        (np.zeros((0, 5), int), r"got int64 of shape \(0, 5\)"),
        (PillowImage.new("RGB", (5, 4)), r"got uint8 of shape \(4, 5, 3\)"),
    ],
)
def test_label_maps_that_are_none(labels: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        to_labels(labels, 3)  # type: ignore[arg-type]


def test_unknown_is_a_label() -> None:
    assert to_labels(np.array([[0, 255, 2]]), 3).tolist() == [[0, 255, 2]]


# Files


def test_images_are_found_below_folders_by_suffix(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "deep/er/c.webp"):
        picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "folder.png").mkdir()
    found = list(images_in([tmp_path, tmp_path / "a.png", tmp_path / "missing.png"], tmp_path))
    assert [str(below) for _, below in found] == ["a.png", "b.JPG", "deep/er/c.webp", "a.png", "missing.png"]


def test_names_that_collide_are_all_kept(finished: Finished, tmp_path: Path) -> None:
    folders = [tmp_path / str(i) for i in range(3)]
    for folder in folders:
        picture(folder / "a.jpg")
    picture(folders[0] / "a.png")
    picture(folders[0] / "a.jpg.png")
    outcome = predict_files(finished("segmentation"), folders, tmp_path / "out")
    targets = [entry["saved"] for entry in outcome["predictions"]]
    assert len(set(targets)) == len(targets) == 5 and outcome["failed"] == []
    assert sorted(str(path) for path in (tmp_path / "out").iterdir()) == sorted(targets)


def test_answers_for_pictures_of_one_name_do_not_take_each_others_place(finished: Finished, tmp_path: Path) -> None:
    """Whether they are asked about in one call or in two, the names are the same."""
    paths = [picture(tmp_path / "in" / name) for name in ("grey.jpg", "grey.png", "other.jpg")]
    for path in paths:
        predict_files(finished("segmentation"), [path], tmp_path / "out")
    apart = {path.name for path in (tmp_path / "out").iterdir()}
    assert apart == {"grey.jpg.png", "grey.png.png", "other.png"}
    predict_files(finished("segmentation"), [tmp_path / "in"], tmp_path / "together")
    assert {path.name for path in (tmp_path / "together").iterdir()} == apart


def test_no_image_is_overwritten(finished: Finished, tmp_path: Path, capsys: Capture) -> None:
    """Answers are written among the images: those that would take the place of an image are refused."""
    paths = [picture(tmp_path / "in" / name) for name in ("a.jpg", "a.png", "b.jpg", "c.png")]
    before = {path: path.read_bytes() for path in paths}
    outcome = predict_files(finished("segmentation"), [tmp_path / "in"], tmp_path / "in" / ".." / "in")
    assert {path: path.read_bytes() for path in paths} == before
    assert [Path(entry["file"]).name for entry in outcome["failed"]] == ["c.png"]
    assert "the answer would overwrite the image" in outcome["failed"][0]["error"]
    assert "hint: choose another folder with out=DIR" in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "in").iterdir()} == {
        *("a.jpg", "a.jpg.png", "a.png", "a.png.png"),
        *("b.jpg", "b.png", "c.png"),
    }


def test_predicting_again_replaces_the_answers_and_does_not_answer_them(finished: Finished, tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.png")
    for _ in range(2):
        outcome = predict_files(finished("segmentation"), [tmp_path / "in"], tmp_path / "in" / "predictions")
        assert [entry["file"] for entry in outcome["predictions"]] == [str(tmp_path / "in" / "a.png")]
    answers = tmp_path / "in" / "predictions"
    assert len(predict_files(finished("segmentation"), [answers], tmp_path / "out")["predictions"]) == 1


def test_a_failing_disk_is_no_bad_image(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    picture(tmp_path / "in" / "a.png")
    monkeypatch.setattr(LabelPrediction, "save", full)
    with pytest.raises(OSError, match="No space"):
        predict_files(finished("segmentation"), [tmp_path / "in"], tmp_path / "out")


# Answers


def labels() -> LabelPrediction:
    values = torch.tensor([[0, 1, 2], [2, 2, 255]], dtype=torch.uint8)
    return LabelPrediction(noise((2, 3)), values, None, ("a", "b", "c"), ((9, 8, 7), (0, 255, 0), (0, 0, 255)))


def points() -> KeypointsPrediction:
    where = torch.tensor([[[10.5, 4.5], [20.25, 8.0], [torch.nan, torch.nan]]])
    return KeypointsPrediction(
        torch.zeros(3, 16, 32, dtype=torch.uint8),
        where,
        torch.tensor([[0.5, 1, 0]]),
        Skeleton(names=("a", "b", "c"), limbs=((0, 1), (1, 2))),
    )


@pytest.mark.parametrize("suffix", EXACT)
def test_labels_are_saved_as_indices_with_their_colours(tmp_path: Path, suffix: str) -> None:
    path = labels().save(tmp_path / "new" / f"x{suffix.upper()}")
    with PillowImage.open(path) as image:
        assert np.array_equal(np.asarray(image), labels().labels.numpy())
        assert np.asarray(image.convert("RGB"))[0].tolist() == [[9, 8, 7], [0, 255, 0], [0, 0, 255]]


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".gif", ".pdf", ".psd", ".xyz", ""])
def test_a_suffix_that_would_alter_labels_is_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(UsageError, match=f"cannot write x{suffix}: ") as caught:
        labels().save(tmp_path / "new" / f"x{suffix}")
    assert caught.value.hint == "use .png, .tif, .tiff, .bmp or .json" and not (tmp_path / "new").exists()


def test_every_suffix_on_offer_can_be_written(tmp_path: Path) -> None:
    for prediction in (labels(), points(), ImagePrediction(noise((16, 32)), noise((16, 32), 1))):
        for suffix in prediction.suffixes:
            path = prediction.save(tmp_path / f"x{suffix}")
            if suffix == ".npy":
                assert isinstance(prediction, ImagePrediction)
                assert np.array_equal(np.load(path), prediction.pixels.permute(1, 2, 0).numpy())
                continue
            with PillowImage.open(path) as image:
                assert image.size == (prediction.image.shape[-1], prediction.image.shape[-2])
    with PillowImage.open(tmp_path / "x.png") as image:
        assert np.array_equal(np.asarray(image), noise((16, 32), 1).permute(1, 2, 0).numpy())


def test_json_by_hand(tmp_path: Path) -> None:
    written = json.loads(labels().save(tmp_path / "x.json").read_text())
    assert written == {"kind": "labels", "height": 2, "width": 3, "share": {"a": 0.2, "b": 0.2, "c": 0.6}}
    written = json.loads(points().save(tmp_path / "x.json").read_text(), parse_constant=pytest.fail)
    assert written["instances"] == [{"a": [10.5, 4.5, 0.5], "b": [20.25, 8.0, 1.0], "c": None}]
    grey = ImagePrediction(noise((2, 2)), torch.tensor([[[255, 0]], [[0, 0]], [[51, 51]]], dtype=torch.uint8))
    assert grey.to_json()["mean"] == [0.5, 0.0, 0.2]


def test_points_are_drawn_at_their_place() -> None:
    drawn = np.asarray(points().render())
    assert drawn[4, 10].tolist() == [255, 40, 60] and drawn[0, 0].tolist() == [0, 0, 0]
    assert drawn[6, 15].tolist() == [255, 214, 0]


def test_collated_inputs_are_all_a_model_needs(finished: Finished) -> None:
    """Truth does not reach the network: a sample with and one without labels give the same outputs."""
    model = load(finished("segmentation"))
    one = sample(model, (32, 32), 0)
    assert set(collate([model._framed(one)])) == {"image"}
