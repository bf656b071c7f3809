"""Translation on users' folders: layouts, drawings made of photographs, 16 bits, many channels, one side alone, videos."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from pixelwise.asked import Footage
from pixelwise.batch import predict_files
from pixelwise.config import kinds
from pixelwise.data.augment import Augment, View
from pixelwise.data.datasets import boundary_folder, image_folder, paired_folder, unpaired_folder
from pixelwise.data.files import group_of
from pixelwise.data.loader import Batches
from pixelwise.data.photographs import Lines, lines_of
from pixelwise.data.sample import LabelMap, collate
from pixelwise.errors import DataError, PixelwiseError, UsageError
from pixelwise.model import Model, load
from pixelwise.recipe import RECIPES, TASKS, Recipe, find_recipe, recipes
from pixelwise.run import Data, proceed, start

BOTH = ("a", "b")
CLASSES = {"classes": ["sky", "road", "tree"], "palette": [[10, 20, 200], [90, 90, 90], [0, 120, 0]]}
SMALL = ["view.size=16x16", "view.load_size=18x18", "network.width=4", "network.depth=3", "batch_size=2", "steps=2"]
RUN = ["evaluate_every=2", "threads=1", "precision=float32", "task.discriminator.width=4", "task.discriminator.layers=1"]
CYCLE = ["view.size=16x16", "view.load_size=18x18", "network.width=4", "network.blocks=1", "batch_size=2", "steps=2"]


def written(path: Path, pixels: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.asarray(pixels)
    np.save(path, array) if path.suffix == ".npy" else PillowImage.fromarray(array).save(path)
    return path


def noise(seed: int, *shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def flat(value: int, size: tuple[int, int] = (20, 20)) -> np.ndarray[Any, Any]:
    return np.full((*size, 3), value, np.uint8)


def value(dataset: Any, index: int, field: str) -> int:
    return int(dataset.sample(index, (field,))[field].tensors()[""].max())


def trained(folder: Path, name: str, *pairs: str) -> Model:
    proceed(start(find_recipe(name).override([*pairs, *RUN]), folder))
    return load(folder)


# Folders


@pytest.mark.parametrize("name", ["cam3_1", "cam3_17", "cam3-2", "deep/cam3_4"])
def test_a_group_is_what_stands_before_the_last_underscore_or_hyphen(name: str) -> None:
    assert group_of(name).removeprefix("deep/") == "cam3"
    assert group_of("a_b/c") == "a_b/c" and group_of("a_b_1") == "a_b"


def test_every_a_of_a_group_pairs_with_every_b_and_whole_groups_are_held_out(tmp_path: Path) -> None:
    for camera in range(5):
        for n in range(3):
            written(tmp_path / "day" / f"cam{camera}_{n}.png", flat(10 * camera + n))
        for n in range(2):
            written(tmp_path / "night" / f"cam{camera}_{n}.png", flat(100 + 10 * camera + n))
    written(tmp_path / "night" / "cam9_0.png", flat(255))  # nobody was there by day
    config = paired_folder.Config(root=str(tmp_path), a="day", b="night", match="group", val_fraction=0.4)
    train, val = config.open("train"), config.open("val")
    pairs = {(value(train, i, "a"), value(train, i, "b")) for i in range(len(train))}
    cameras = {a // 10 for a, _ in pairs}
    assert len(cameras) == 3 and pairs == {(10 * c + i, 100 + 10 * c + j) for c in cameras for i in range(3) for j in range(2)}
    held = [(value(val, i, "a"), value(val, i, "b")) for i in range(len(val))]
    others = sorted(set(range(5)) - cameras)
    assert held == [(10 * c + i, 100 + 10 * c + i % 2) for c in others for i in range(3)], "each day picture once"
    assert len({train.key(i) for i in range(len(train))}) == len(train)
    for path in (tmp_path / "night").iterdir():
        path.rename(path.with_name("x" + path.name))
    with pytest.raises(DataError, match=r"day and night share no group, such as cam0 and xcam0"):
        config.open("train")


@pytest.mark.parametrize("layout", ["halves", "folders"])
def test_b_to_a_changes_the_sides_and_their_labels(tmp_path: Path, layout: str) -> None:
    for split in ("train", "val"):
        if layout == "halves":
            written(tmp_path / split / "0.png", np.concatenate([flat(1), flat(2)], 1))
        else:
            written(tmp_path / split / "labels" / "0.png", np.zeros((20, 20), np.uint8))
            written(tmp_path / split / "photos" / "0.png", flat(2))
    (tmp_path / "meta.json").write_text(json.dumps(CLASSES))
    labels: Any = "a" if layout == "folders" else "none"
    there, back = (paired_folder.Config(root=str(tmp_path), direction=d, labels=labels) for d in ("AtoB", "BtoA"))
    ours, theirs = there.open("train"), back.open("train")
    for field, other in (BOTH, BOTH[::-1]):
        one, two = ours.sample(0, (field,))[field], theirs.sample(0, (other,))[other]
        assert type(one) is type(two) and torch.equal(one.tensors()[""], two.tensors()[""])
    assert value(theirs, 0, "a") == 2
    assert isinstance(theirs.sample(0, ("b",))["b"], LabelMap) == (layout == "folders")
    sources = [ours.source(0, "a"), theirs.source(0, "b")]
    assert sources[0] == sources[1] != ours.source(0, "b"), "the cache keeps what it is of"


def test_painted_labels_are_label_maps_where_it_is_said(tmp_path: Path) -> None:
    labels = np.array([[0, 1, 2], [2, 1, 255]])
    painted = np.array([*CLASSES["palette"], *[[0, 0, 0]] * 252, [10, 20, 200]], np.uint8)[labels]
    for split in ("train", "val"):
        written(tmp_path / split / "a" / "0.png", painted)
        written(tmp_path / split / "b" / "0.png", flat(7, (2, 3)))
    (tmp_path / "meta.json").write_text(json.dumps(CLASSES))
    assert not isinstance(paired_folder.Config(root=str(tmp_path)).open("train").sample(0, ("a",))["a"], LabelMap)
    found = paired_folder.Config(root=str(tmp_path), labels="a").open("train").sample(0, ("a",))["a"]
    assert isinstance(found, LabelMap) and found.labels.tolist() == [[0, 1, 2], [2, 1, 0]]
    written(tmp_path / "train" / "a" / "0.png", np.where(painted == 90, 91, painted))
    with pytest.raises(DataError, match=r"\(91, 91, 91\) at 2 pixels \(nearest: \(90, 90, 90\), class 1\)"):
        paired_folder.Config(root=str(tmp_path), labels="a").open("train").sample(0, ("a",))
    for n in range(2):
        written(tmp_path / "ab" / "train" / f"{n}.png", flat(1, (2, 4)))
    with pytest.raises(DataError, match="one half of an image cannot be a label map"):
        paired_folder.Config(root=str(tmp_path / "ab"), labels="b", val_fraction=0.5).open("val")


def test_unpaired_names_are_listed_five_of_each_side(tmp_path: Path) -> None:
    for i in range(8):
        written(tmp_path / "trainA" / f"a{i}.png", flat(i))
    for i in range(3):
        written(tmp_path / "trainB" / f"b{i}.png", flat(i))
    with pytest.raises(DataError) as caught:
        paired_folder.Config(root=str(tmp_path)).open("train")
    assert str(caught.value) == f"{tmp_path / 'train'}: 8 images in A, 3 in B"
    lists = "missing in B: a0.png, a1.png, a2.png, a3.png, a4.png and 3 more; missing in A: b0.png, b1.png, b2.png"
    assert caught.value.hint == lists


@pytest.mark.parametrize("kind", ["paired", "unpaired"])
def test_of_a_video_the_end_is_held_out_and_of_places_whole_ones(tmp_path: Path, kind: str) -> None:
    for side in BOTH:
        for i in range(12):
            written(tmp_path / "train" / side / f"{i // 4}_{i:02d}.png", flat(i))
    config = (paired_folder if kind == "paired" else unpaired_folder).Config
    opened = partial(config, root=str(tmp_path), a="a", b="b", val_fraction=0.25)
    val = opened(val_from="end").open("val")
    assert sorted(value(val, i, "a") for i in range(len(val))) == [9, 10, 11]
    val = opened(val_from="groups").open("val")
    assert len(val) == 4 and len({value(val, i, "b") // 4 for i in range(4)}) == 1


def test_a_folder_that_holds_a_video_says_how_to_unpack_it(tmp_path: Path) -> None:
    for side in ("trainA", "trainB"):
        (tmp_path / side).mkdir()
        (tmp_path / side / "film.mp4").write_bytes(b"frames")
    for config in (paired_folder.Config(root=str(tmp_path)), unpaired_folder.Config(root=str(tmp_path))):
        with pytest.raises(DataError, match=r"no images in .*trainA") as caught:
            config.open("train")
        assert caught.value.hint == "film.mp4 is a video: unpack its frames first, for example ffmpeg -i film.mp4 %05d.png"


# Made of photographs


def test_grey_is_the_luma_and_lines_lie_on_the_outlines(tmp_path: Path) -> None:
    pixels = np.full((60, 80, 3), (200, 100, 50), np.uint8)
    pixels[20:40, 30:60] = (20, 30, 220)
    for split in ("train", "val"):
        written(tmp_path / split / "0.png", pixels)
    sample = image_folder.Config(root=str(tmp_path)).open("train").sample(0, ("image", "grey", "lines"))
    grey, lines = (sample[name].tensors()[""] for name in ("grey", "lines"))
    # 0.299 * 200 + 0.587 * 100 + 0.114 * 50 = 124.2; 0.299 * 20 + 0.587 * 30 + 0.114 * 220 = 48.67
    assert grey[:, 0, 0].tolist() == [124] * 3 and grey[:, 30, 40].tolist() == [49] * 3
    assert lines.shape == (3, 60, 80) and set(lines.unique().tolist()) == {0, 255}
    y, x = (lines[0] == 0).nonzero().T
    off = torch.stack([(y - 19.5).abs(), (y - 39.5).abs(), (x - 29.5).abs(), (x - 59.5).abs()]).amin(0)
    assert off.max() <= 1.5 and len(y) > 80, "a closed line around 20 x 30 pixels, at most a pixel off"
    assert not (lines_of(torch.full((3, 40, 40), 9, dtype=torch.uint8), Lines()) == 0).any()
    with pytest.raises(ValueError, match="is above high"):
        Lines(low=0.5, high=0.4)


def test_what_people_drew_is_ink_in_proportion(tmp_path: Path) -> None:
    bits = np.zeros((4, 6), np.uint8)
    bits[1, 1:4] = (0b0001, 0b0011, 0b1111)
    for split in ("train", "val"):
        written(tmp_path / split / "images" / "0.png", flat(5, (4, 6)))
        written(tmp_path / split / "boundaries" / "0.png", bits)
    data = boundary_folder.Config(root=str(tmp_path), reading="bits").open("train")
    drawing = data.sample(0, ("drawing",))["drawing"].tensors()[""]
    assert drawing[:, 1, :5].tolist() == [[255, 191, 128, 0, 255]] * 3 and drawing.dtype == torch.uint8


# Crops


@pytest.mark.parametrize(("view", "fails"), [({"fit": "native"}, True), ({}, False), ({"load_size": (20, 20)}, False)])
def test_a_picture_smaller_than_the_crop_is_named(tmp_path: Path, view: dict[str, Any], fails: bool) -> None:
    for split in ("train", "val"):
        for side in BOTH:
            written(tmp_path / split / side / "0.png", flat(1, (12, 30)))
    data = paired_folder.Config(root=str(tmp_path)).open("train")
    padded, whole = (Batches(data, BOTH, View(size=(16, 16), **view), Augment(), 1, 0, pads=pads) for pads in (True, False))
    assert padded[0]["a"].shape == (1, 3, 16, 16) and (padded[0]["a"] == 0).any() == fails
    if not fails:
        assert torch.equal(whole[0]["a"], padded[0]["a"])
        return
    with pytest.raises(DataError, match=r"a/0\.png: 30x12 pixels are smaller than the crop of 16x16$") as caught:
        _ = whole[0]
    assert "view.load_size=16x16" in caught.value.hint


def test_translation_never_pads(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for side in BOTH:
            written(tmp_path / split / side / "0.png", flat(1, (12, 30)))
    native = ["view.size=16x16", "view.fit=native", "view.load_size=null", f"data.root={tmp_path}"]
    with pytest.raises(DataError, match="smaller than the crop"):
        trained(tmp_path / "run", "translation", *SMALL[2:], *native)
    with pytest.raises(UsageError, match=r"load_size=12x12 is smaller than the crop view\.size=16x16"):
        Data.of(find_recipe("translation").override([f"data.root={tmp_path}", "view.size=16x16", "view.load_size=12x12"]))


# 16 bits and many channels


def test_sixteen_bits_are_kept_from_file_to_file(tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (20, 24), np.uint16)
    for split in ("train", "val"):
        for n in range(2):
            for side in BOTH:
                written(tmp_path / split / side / f"{n}.png", deep)
    config = paired_folder.Config(root=str(tmp_path), bits=16)
    found = config.open("train").sample(0, ("a",))["a"].tensors()[""]
    assert found.dtype == torch.float32 and torch.equal(
        (found * 65535).round().int()[0], torch.from_numpy(deep.astype(np.int32))
    )
    model = trained(tmp_path / "run", "translation", *SMALL, f"data.root={tmp_path}", "data.bits=16")
    answer = model(tmp_path / "val" / "a" / "0.png")
    assert answer.pixels.dtype == torch.uint16 and answer.pixels.shape == (3, 20, 24)
    low = answer.pixels.int() % 257
    assert len(low.unique()) > 20, "not 8 bits that were stretched"
    again = load(tmp_path / "run")(deep)
    assert torch.equal(again.pixels.int(), answer.pixels.int())


def test_any_number_of_channels_goes_in_and_comes_out(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for n in range(3):
            written(tmp_path / split / "a" / f"{n}.npy", noise(n, 20, 24, 5))
            written(tmp_path / split / "b" / f"{n}.npy", noise(n, 20, 24, 2).astype(np.float32) / 255)
    model = trained(tmp_path / "run", "translation", *SMALL, f"data.root={tmp_path}")
    assert model.description.meta.pictures["a"].channels == 5
    done = predict_files(tmp_path / "run", [tmp_path / "val" / "a"], tmp_path / "out")
    assert not done["failed"] and len(done["predictions"]) == 3
    answer = np.load(tmp_path / "out" / "0.npy")
    assert answer.shape == (20, 24, 2) and answer.dtype == np.uint16
    with PillowImage.open(tmp_path / "out" / "0.png") as shown:
        assert np.array_equal(np.asarray(shown), np.round(answer[..., 0] / 257).astype(np.uint8))
    same = model(noise(0, 20, 24, 5))
    assert np.array_equal(same.pixels.permute(1, 2, 0).numpy(), answer)
    for bad in (noise(0, 20, 24, 4), noise(0, 20, 24, 3), written(tmp_path / "4.npy", noise(0, 9, 9, 4))):
        with pytest.raises(DataError, match=r"channels"):
            model(bad)
    evaluated = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert "psnr_2_channels" in json.dumps(evaluated) and "identity" not in json.dumps(evaluated)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((4, 4, 3), np.int32), "its values are int32"),
        (np.full((4, 4, 3), 2.0, np.float32), "its values are float32 from 2 to 2"),
        (np.full((4, 4, 3), np.nan, np.float32), "its values are float32"),
        (np.zeros((4,), np.uint8), r"shape \(4,\) is no picture"),
        (np.zeros((4, 4, 2), np.uint8), "2 channels, but the first of the a pictures has 3"),
        (np.array([{"a": 1}] * 4, object), "not a NumPy array of numbers"),
    ],
)
def test_arrays_that_are_no_pictures(tmp_path: Path, array: np.ndarray[Any, Any], says: str) -> None:
    for n in range(2):
        written(tmp_path / "trainB" / f"{n}.npy", np.zeros((4, 4, 3), np.uint8))
        written(tmp_path / "trainA" / f"{n}.npy", np.zeros((4, 4, 3), np.uint8))
    written(tmp_path / "valA" / "0.npy", np.zeros((4, 4, 3), np.uint8))
    written(tmp_path / "valB" / "0.npy", np.zeros((4, 4, 3), np.uint8))
    data = paired_folder.Config(root=str(tmp_path)).open("train")
    np.save(tmp_path / "trainA" / "1.npy", array, allow_pickle=True)
    with pytest.raises(DataError, match=says):
        data.sample(1, ("a",))


# Unpaired label maps


@pytest.fixture
def streets(tmp_path: Path) -> Path:
    for n in range(4):
        written(tmp_path / "trainA" / f"{n}.png", noise(n, 20, 24) % 3)
        written(tmp_path / "trainB" / f"{n}.png", noise(n, 22, 20, 3))
    (tmp_path / "meta.json").write_text(json.dumps(CLASSES))
    return tmp_path


def test_a_cycle_of_label_maps_and_photographs_goes_both_ways(streets: Path, tmp_path: Path) -> None:
    pairs = [f"data.root={streets}", "data.labels=a", "task.labels=one_hot", "task.identity=0", "data.val_fraction=0.5"]
    model = trained(tmp_path / "run", "cycle_translation", *CYCLE, *pairs)
    photo = model(streets / "trainA" / "0.png")
    assert photo.pixels.shape == (3, 20, 24) and len(photo.pixels.unique()) > 3
    with pytest.raises(DataError, match="class 7"):
        model(np.full((9, 9), 7, np.uint8))
    back = load(tmp_path / "run", changes=["task.direction=BtoA"])
    painted = back(streets / "trainB" / "1.png")
    assert {tuple(c) for c in painted.pixels.flatten(1).T.tolist()} <= {tuple(c) for c in CLASSES["palette"]}


def test_label_maps_are_sheets_of_minus_one_and_one(streets: Path) -> None:
    recipe = find_recipe("cycle_translation").override([f"data.root={streets}", "data.labels=a", "task.labels=one_hot"])
    with pytest.raises(UsageError, match="neither side is label maps"):
        Data.of(recipe.override(["data.labels=none"]))
    data = Data.of(recipe)
    batch = data.task.encode(collate([data.train.sample(0, BOTH)]))
    labels = data.train.sample(0, ("a",))["a"].tensors()[""]
    assert batch["a"].shape == (1, 3, 20, 24) and batch["a"].unique().tolist() == [-1, 1]
    assert torch.equal(batch["a"][0].argmax(0), labels.long()) and bool((batch["a"].sum(1) == -1).all())


def test_identity_wants_sides_of_one_kind(streets: Path) -> None:
    (streets / "meta.json").write_text(json.dumps({"classes": ["x", "y", "z", "w"]}))
    recipe = find_recipe("cycle_translation").override([f"data.root={streets}", "data.labels=a", "task.labels=one_hot"])
    with pytest.raises(UsageError, match="they have 4 and 3 sheets") as caught:
        Data.of(recipe)
    assert caught.value.hint == "set task.identity=0"


# Videos


def test_frames_of_a_still_video_are_answered_alike_with_dropout_as_noise(tmp_path: Path) -> None:
    """Nothing flickers that stands still: the noise is one for the whole video, and another seed is another noise."""
    for split in ("train", "val"):
        for side in BOTH:
            written(tmp_path / split / side / "0.png", noise(1, 20, 24, 3))
    trained(tmp_path / "run", "translation", *SMALL, f"data.root={tmp_path}", "network.dropout_stages=[1]")
    for i in range(3):
        written(tmp_path / "film" / f"{i}.png", noise(5, 20, 24, 3))
    pictures = {}
    for seed in (0, 1):
        changes = ["task.noise=dropout", f"task.noise_seed={seed}"]
        done = predict_files(
            tmp_path / "run", [tmp_path / "film"], tmp_path / f"out{seed}", changes=changes, footage=Footage(frames=True)
        )
        assert done["videos"][0]["frames"] == 3
        saved = Path(done["videos"][0]["saved"][0])
        frames = [np.asarray(PillowImage.open(path)) for path in sorted(saved.iterdir())]
        assert len(frames) == 3 and all(np.array_equal(frames[0], frame) for frame in frames)
        pictures[seed] = frames[0]
    assert not np.array_equal(pictures[0], pictures[1])


# Recipes


def layouts(root: Path, recipe: Recipe) -> None:
    """Write the smallest folder that a recipe of the lecture reads."""
    if recipe.data.kind == "segmentation_folder":
        (root / "meta.json").write_text(json.dumps(CLASSES))
    sides = {
        "segmentation_folder": ("images", "labels"),
        "boundary_folder": ("images", "boundaries"),
        "image_folder": ("cats", "cats"),
    }.get(recipe.data.kind) or (getattr(recipe.data, "a", "") or "A", getattr(recipe.data, "b", "") or "B")
    for split in ("train", "val"):
        for n in range(4):
            for side in sides:
                grey = side in ("labels", "boundaries") and recipe.data.kind != "paired_folder"
                pixels = noise(n, 24, 24) % 3 if grey else noise(n, 24, 24, 3)
                below = root if recipe.data.kind == "image_folder" else root / split
                folder = below / side if len(side) > 1 else root / f"{split}{side}"
                written(folder / f"cam{n}_1.png", pixels)


FOLDERS = [name for name, made in recipes().items() if "translation" in made().task.kind and "world" not in name]


@pytest.mark.parametrize("name", FOLDERS)
def test_every_recipe_of_a_pair_opens_its_folder(tmp_path: Path, name: str) -> None:
    recipe = find_recipe(name)
    layouts(tmp_path, recipe)
    data = Data.of(recipe.override([f"data.root={tmp_path}", "data.val_fraction=0.25"]))
    batch = data.task.encode(collate([recipe.view.fitted(data.train.sample(0, data.task.fields))]))
    assert {tuple(tensor.shape[-2:]) for tensor in batch.values()} == {recipe.view.size}
    assert all(tensor.min() >= -1 and tensor.max() <= 1 for tensor in batch.values())
    assert recipe.name == name and len(recipes()[name].__doc__ or "") > 80


def test_every_recipe_shows_the_same_pictures_while_it_trains() -> None:
    made = [recipe for recipe in (make() for make in recipes().values()) if recipe.task.kind.endswith("translation")]
    assert len(made) >= 15 and [one.name for one in made if not 0 < one.pictures_every <= one.steps / 10] == []


def test_recipes_stand_in_tasks_or_in_recipes_each_name_once() -> None:
    homes = [made.__module__.rpartition(".")[0] for made in recipes().values()]
    assert set(homes) == {TASKS, RECIPES} and len({made.__module__ for made in recipes().values()}) > len(kinds(RECIPES))
    assert all(made.__name__ == name for name, made in recipes().items())
    assert set(kinds(RECIPES)) <= set(kinds(TASKS))


def test_one_side_alone_is_enough_to_predict(tmp_path: Path) -> None:
    for side in ("trainA", "trainB", "valA", "valB"):
        for n in range(2):
            written(tmp_path / side / f"{n}.png", noise(n, 20, 24, 3))
    for name, settings in (("translation", SMALL), ("cycle_translation", CYCLE)):
        trained(tmp_path / name, name, *settings, f"data.root={tmp_path}")
        done = predict_files(tmp_path / name, [tmp_path / "valA"], tmp_path / f"out {name}")
        assert len(done["predictions"]) == 2 and not done["failed"]
    there, back = (load(tmp_path / "cycle_translation", changes=[f"task.direction={d}"]) for d in ("AtoB", "BtoA"))
    pixels = noise(9, 20, 24, 3)
    assert not torch.equal(there(pixels).pixels, back(pixels).pixels)
    with pytest.raises(PixelwiseError, match="direction"):
        load(tmp_path / "cycle_translation", changes=["task.direction=CtoA"])
