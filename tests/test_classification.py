"""Image to vector: codecs, metrics, readers, answers and score maps, against numbers worked by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from torch import Tensor

from pixelwise.cli import main
from pixelwise.codecs.vectors import CategoryCodec, LabelSetCodec, ValueCodec
from pixelwise.data.dataset import Dataset, Meta, Vector
from pixelwise.data.datasets import class_folder, classification_csv, world
from pixelwise.data.sample import Category, Image, Sample, Values, collate
from pixelwise.data.world.answers import SHOWS, crowd, distance, shows
from pixelwise.data.world.objects import CLASSES, PERSON
from pixelwise.data.world.scene import lay_out
from pixelwise.errors import DataError, UsageError
from pixelwise.evaluation import measure
from pixelwise.geometry.frame import Frame
from pixelwise.geometry.homography import transform_points
from pixelwise.losses.classification import binary_cross_entropy
from pixelwise.metrics.classification import CategoryMetrics, LabelSetMetrics, ValueMetrics, average_precision
from pixelwise.model import Model, load
from pixelwise.nn.networks import unet
from pixelwise.predictions.vectors import CategoryPrediction, LabelSetPrediction, ValuePrediction, captioned
from pixelwise.recipe import find_recipe
from pixelwise.run import Data, describe, proceed, same_meaning, start
from pixelwise.score_maps import DenseClassifier
from pixelwise.tasks.classification import Config, Task

NAN = math.nan


def column(*rows: list[float]) -> Tensor:
    """Outputs of a network, `(B, N, 1, 1)`."""
    return torch.tensor(rows)[:, :, None, None]


class TestCodecs:
    def test_a_category_comes_back(self) -> None:
        codec = CategoryCodec(3)
        category = codec.encode(torch.tensor([2, 0, 1]))["category"]
        outputs = torch.nn.functional.one_hot(category, 3)[:, :, None, None] * 50.0
        assert codec.decode(outputs).argmax(1).tolist() == [2, 0, 1] and codec.channels == 3

    def test_labels_come_back(self) -> None:
        truth = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
        outputs = (LabelSetCodec(3).encode(truth)["values"] * 2 - 1)[:, :, None, None] * 50
        torch.testing.assert_close(LabelSetCodec(3).decode(outputs), truth)

    def test_a_value_comes_back_and_is_standardised(self) -> None:
        codec = ValueCodec(4.0, 0.5)
        standardised = codec.encode(torch.tensor([[5.0], [NAN], [3.75]]))["standardised"]
        assert standardised[:, 0].tolist() == [2.0, pytest.approx(NAN, nan_ok=True), -0.5]
        assert codec.decode(column([2.0], [-0.5])).tolist() == [[5.0], [3.75]]

    def test_losses_by_hand(self) -> None:
        """softmax(0, ln 3) = 1/4, 3/4; sigmoid(ln 3) = 3/4; smooth L1 of 0.5 is 1/8 and of 3 is 5/2."""
        three = math.log(3)
        category = CategoryCodec(2).loss(column([0, three], [0, three]), {"category": torch.tensor([0, 1])})
        assert category.item() == pytest.approx((math.log(4) + math.log(4 / 3)) / 2)
        weighted = CategoryCodec(2, (3.0, 1.0)).loss(column([0, three], [0, three]), {"category": torch.tensor([0, 1])})
        assert weighted.item() == pytest.approx((3 * math.log(4) + math.log(4 / 3)) / 4)
        values = {"values": torch.tensor([[1.0, 0.0]])}
        assert LabelSetCodec(2).loss(column([three, three]), values).item() == pytest.approx(
            (math.log(4 / 3) + math.log(4)) / 2
        )
        heavy = LabelSetCodec(2, (1.0, 3.0)).loss(column([three, three]), values)
        assert heavy.item() == pytest.approx((math.log(4 / 3) + 3 * math.log(4)) / 4)
        value = {"standardised": torch.tensor([[1.0], [1.0]])}
        assert ValueCodec(0, 1).loss(column([1.5], [4.0]), value).item() == pytest.approx((1 / 8 + 5 / 2) / 2)
        assert ValueCodec(0, 1, "l2").loss(column([1.5], [4.0]), value).item() == pytest.approx((1 / 4 + 9) / 2)

    @pytest.mark.parametrize(
        ("codec", "unknown", "known"),
        [
            (CategoryCodec(3), torch.tensor([-1, 1]), 1),
            (LabelSetCodec(3), torch.tensor([[NAN, NAN, NAN], [NAN, 1.0, 0.0]]), 1),
            (ValueCodec(1, 2), torch.tensor([[NAN], [3.0]]), 1),
        ],
    )
    def test_the_unknown_has_no_loss_and_exactly_zero_gradient(self, codec: Any, unknown: Tensor, known: int) -> None:
        outputs = torch.randn(2, codec.channels, 1, 1, generator=torch.Generator().manual_seed(0), requires_grad=True)
        codec.loss(outputs, codec.encode(unknown)).backward()
        assert outputs.grad is not None and outputs.grad.isfinite().all()
        assert (outputs.grad[0] == 0).all() and outputs.grad[known].abs().max() > 0
        if codec.channels == 3 and unknown.dim() == 2:
            assert outputs.grad[1, 0] == 0
        nothing = codec.loss(outputs[:1], codec.encode(unknown[:1]))
        assert nothing.item() == 0 and torch.autograd.grad(nothing, outputs)[0].abs().max() == 0

    def test_mistakes(self) -> None:
        with pytest.raises(DataError, match="category 3 among 3 classes"):
            CategoryCodec(3).encode(torch.tensor([1, 3]))
        with pytest.raises(UsageError, match="2 class weights for 3 labels"):
            LabelSetCodec(3, (1.0, 2.0))

    def test_binary_cross_entropy_agrees_with_torch(self) -> None:
        generator = torch.Generator().manual_seed(1)
        logits, targets = torch.randn(5, 4, generator=generator), torch.rand(5, 4, generator=generator).round()
        expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)
        torch.testing.assert_close(binary_cross_entropy(logits, targets), expected)


class TestMetrics:
    def test_categories_by_hand(self) -> None:
        """a: 2 of 3 right, b: 1 of 1, c is never there; the unknown one has no part."""
        metrics = CategoryMetrics("abc")
        one = torch.eye(3)
        for said, true in ((0, 0), (0, 0), (2, 0), (1, 1)):
            metrics.update(one[said], one[true])
        metrics.update(one[0], torch.full((3,), NAN))
        assert metrics.compute() == pytest.approx(
            {
                "accuracy": 3 / 4,
                "balanced_accuracy_present": (2 / 3 + 1) / 2,
                "recall/a": 2 / 3,
                "recall/b": 1,
                "confusion/a/a": 2,
                "confusion/a/c": 1,
                "confusion/b/b": 1,
            },
            rel=1e-12,
        )
        assert CategoryMetrics("abc").compute() == {}

    def test_top5(self) -> None:
        metrics = CategoryMetrics("abcdef")
        for true in (0, 4, 5):
            metrics.update(torch.tensor([0.6, 0.5, 0.4, 0.3, 0.2, 0.1]), torch.eye(6)[true])
        found = metrics.compute()
        assert found["top5_accuracy"] == pytest.approx(2 / 3) and found["accuracy"] == pytest.approx(1 / 3)

    def test_average_precision_by_hand(self) -> None:
        """Hits at ranks 1, 3 and 4: (1 + 2/3 + 3/4) / 3. Ranks 2 to 4 tied with two hits among them: 1/3 + 2/3 * 3/4."""
        truth = torch.tensor([True, False, True, True, False])
        assert average_precision(torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5]), truth).item() == pytest.approx(
            (1 + 2 / 3 + 3 / 4) / 3
        )
        tied = average_precision(torch.tensor([0.9, 0.6, 0.6, 0.6, 0.5]), truth)
        assert tied.item() == pytest.approx(1 / 3 + 2 / 3 * 3 / 4)
        assert average_precision(torch.ones(5), truth).item() == pytest.approx(3 / 5)
        assert average_precision(torch.ones(2), torch.tensor([False, False])).isnan()

    def test_labels_by_hand(self) -> None:
        """Label a: said of 1 and 2, true of 1 and 3; b: one known, right; c: never applies and is said once."""
        metrics = LabelSetMetrics("abc")
        metrics.update(torch.tensor([0.9, 0.5, 0.1]), torch.tensor([1.0, 1.0, 0.0]))
        metrics.update(torch.tensor([0.6, 0.9, 0.7]), torch.tensor([0.0, NAN, 0.0]))
        metrics.update(torch.tensor([0.4, 0.1, 0.2]), torch.tensor([1.0, NAN, 0.0]))
        assert metrics.compute() == pytest.approx(
            {
                "average_precision_macro": ((1 + 2 / 3) / 2 + 1) / 2,
                "f1@0.5_macro": (1 / 2 + 1 + 0) / 3,
                "label_accuracy@0.5": (1 + 1 + 2) / 7,
                "average_precision/a": (1 + 2 / 3) / 2,
                "average_precision/b": 1,
                "f1@0.5/a": 1 / 2,
                "f1@0.5/b": 1,
                "f1@0.5/c": 0,
            }
        )
        assert LabelSetMetrics("ab").compute() == {}

    def test_values_by_hand(self) -> None:
        metrics = ValueMetrics()
        for said, true in ((1.0, 2.0), (5.0, 4.0), (9.0, NAN), (3.0, 6.0)):
            metrics.update(torch.tensor([said]), torch.tensor([true]))
        assert metrics.compute() == pytest.approx(
            {
                "mean_absolute_error": 5 / 3,
                "root_mean_squared_error": math.sqrt(11 / 3),
                "pearson_correlation": np.corrcoef([1, 5, 3], [2, 4, 6])[0, 1],
            }
        )
        constant = ValueMetrics()
        for true in (1.0, 2.0, 4.0):
            constant.update(torch.tensor([0.1]), torch.tensor([true]))
        assert constant.compute().keys() == {"mean_absolute_error", "root_mean_squared_error"}
        assert ValueMetrics().compute() == {}


def image(path: Path, value: int = 0, size: tuple[int, int] = (6, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.new("RGB", size[::-1], (value, value, value)).save(path)
    return path


def keys(dataset: Dataset) -> list[str]:
    return [dataset.key(i) for i in range(len(dataset))]


def told(dataset: Dataset, field: str) -> list[Any]:
    return [dataset.sample(i, [field])[field].tensors()[""].tolist() for i in range(len(dataset))]


class TestClassFolder:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        for i, name in enumerate(("dog", "cat", "ant")):
            for number in range(10):
                image(tmp_path / "train" / name / f"{number}.png", value=i)
        return tmp_path

    def test_classes_in_order_and_the_same_share_of_each_held_out(self, root: Path) -> None:
        config = class_folder.Config(root=str(root), val_fraction=0.2)
        train, val = config.open("train"), config.open("val")
        assert train.meta.vectors["category"].names == ("ant", "cat", "dog") and train.fields == ("image", "category")
        assert [told(val, "category").count(i) for i in range(3)] == [2, 2, 2] and len(train) == 24
        assert sorted(keys(train) + keys(val)) == sorted(f"train/{c}/{n}.png" for c in ("ant", "cat", "dog") for n in range(10))
        assert keys(config.open("val")) == keys(val)
        sample = train.sample(0, ("image", "category"))
        assert sample["image"].tensors()[""].unique().tolist() == [2] and sample["category"].tensors()[""].item() == 0
        assert train.sample(0, ("category",))["category"].frame.size == (6, 8)
        assert train.source(0, "category") is None

    def test_splits_of_their_own(self, root: Path) -> None:
        image(root / "val/cat/x.png")
        image(root / "test/dog/y.png")
        config = class_folder.Config(root=str(root))
        assert len(config.open("train")) == 30
        assert keys(config.open("val")) == ["val/cat/x.png"] and told(config.open("val"), "category") == [1]
        assert told(config.open("test"), "category") == [2]

    def test_classes_are_chosen_and_ordered(self, root: Path) -> None:
        config = class_folder.Config(root=str(root), classes=("dog", "ant"))
        train = config.open("train")
        assert train.meta.vectors["category"].names == ("dog", "ant") and len(train) == 18
        assert told(train, "category") == [1] * 9 + [0] * 9

    def test_mistakes_are_explained(self, root: Path) -> None:
        with pytest.raises(DataError, match="no class 'catt'") as caught:
            class_folder.Config(root=str(root), classes=("catt", "dog")).open("train")
        assert caught.value.hint == "did you mean 'cat'?"
        image(root / "val/bee/1.png")
        with pytest.raises(DataError, match="no class 'bee' in train"):
            class_folder.Config(root=str(root)).open("val")
        with pytest.raises(DataError, match="no split 'test'"):
            class_folder.Config(root=str(root)).open("test")
        with pytest.raises(DataError, match="0 folders of classes"):
            class_folder.Config(root=str(root / "train/cat")).open("train")
        (root / "train/empty").mkdir()
        with pytest.raises(DataError, match=r"no images in .*empty"):
            class_folder.Config(root=str(root)).open("train")

    def test_splits_by_other_names_are_no_classes(self, tmp_path: Path) -> None:
        for name in ("training", "validation"):
            image(tmp_path / name / "cat/0.png")
        with pytest.raises(DataError, match="training, validation are splits, not classes"):
            class_folder.Config(root=str(tmp_path)).open("train")

    def test_damaged_images_are_skipped_if_asked(self, root: Path) -> None:
        (root / "train/cat/3.png").write_bytes(b"no image")
        config = class_folder.Config(root=str(root), val_fraction=0.2, on_error="skip")
        train, val = config.open("train"), config.open("val")
        assert len(train) + len(val) == 29 and any("skipped" in note for note in (*train.notes, *val.notes))


class TestClassificationCsv:
    def open(self, root: Path, text: str, split: str = "train", name: str = "table.csv", **settings: Any) -> Dataset:
        for i in range(4):
            image(root / "images" / f"{i}.png", value=i)
        (root / name).write_text(text)
        return classification_csv.Config(root=str(root), **settings).open(split)

    def test_a_category_with_a_split_column_and_an_unknown(self, tmp_path: Path) -> None:
        text = "file,label,split\n0.png,dog,train\n1.png,,train\n2.png,cat,train\n3.png,bee,val\n"
        train, val = self.open(tmp_path, text), self.open(tmp_path, text, "val")
        assert train.meta == val.meta and train.meta.vectors["category"].names == ("bee", "cat", "dog")
        assert told(train, "category") == [2, -1, 1] and told(val, "category") == [0]
        assert keys(val) == ["images/3.png"] and val.sample(0, ["image"])["image"].tensors()[""].unique().tolist() == [3]
        with pytest.raises(DataError, match="no split 'test'") as caught:
            self.open(tmp_path, text, "test")
        assert caught.value.hint == "there are train, val"

    def test_labels_none_and_unknown(self, tmp_path: Path) -> None:
        text = "file,labels\n0.png,b;a\n1.png,-\n2.png,\n3.png,c|?a\n"
        both = [self.open(tmp_path, text, split, val_fraction=0.5) for split in ("train", "val")]
        rows = {key: row for dataset in both for key, row in zip(keys(dataset), told(dataset, "labels"), strict=True)}
        assert both[0].meta.vectors["labels"].names == ("a", "b", "c")
        assert rows["images/0.png"] == [1, 1, 0] and rows["images/1.png"] == [0, 0, 0]
        assert all(map(math.isnan, rows["images/2.png"]))
        assert math.isnan(rows["images/3.png"][0]) and rows["images/3.png"][1:] == [0, 1]

    def test_values_and_their_spread_over_train_alone(self, tmp_path: Path) -> None:
        self.open(tmp_path, "file,metres\n0.png,2\n1.png,\n2.png,6\n", name="train.csv", value="metres")
        val = self.open(tmp_path, "file,metres\n3.png,100\n", "val", name="val.csv", value="metres")
        vector = val.meta.vectors["value"]
        assert (vector.names, vector.mean, vector.deviation) == (("metres",), 4, 2) and told(val, "value") == [[100]]
        train = classification_csv.Config(root=str(tmp_path), value="metres").open("train")
        assert train.meta == val.meta and told(train, "value")[::2] == [[2], [6]] and math.isnan(told(train, "value")[1][0])

    def test_several_columns_and_chosen_classes(self, tmp_path: Path) -> None:
        text = "path,kind,value,split\n0.png,cat,1,train\n1.png,dog,2,train\n2.png,cow,3,train\n3.png,dog,4,val\n"
        settings = {"file": "path", "category": "kind", "classes": ("dog", "cat")}
        train = self.open(tmp_path, text, **settings)
        assert train.fields == ("image", "category", "value") and told(train, "category") == [1, 0]
        assert train.meta.vectors["value"].mean == 1.5

    @pytest.mark.parametrize(
        ("text", "settings", "message", "hint"),
        [
            ("file,label\n0.png,a\n1.png,b\n", {"category": "labl"}, "no column 'labl'", "did you mean 'label'?"),
            ("file,x\n0.png,a\n1.png,b\n", {}, "no column 'label', 'labels', 'value'", "data.category=NAME"),
            ("name,label\n0.png,a\n1.png,b\n", {}, "no column 'file'", "data.file=NAME"),
            ("file,label\n0.png,a\n1.png,b\n0.png,b\n", {}, "0.png is in 2 rows", "cat;dog"),
            ("file,label\n1.png,a\n0.png,a,c\n", {}, "0.png has 3 cells, the header 2", ""),
            ("file,value\n0.png,1\n1.png,high\n", {}, "1.png: 'high' in column 'value' is no number", "empty cell"),
            ("file,value\n0.png,1\n1.png,inf\n", {}, "1.png: 'inf' in column 'value' is no number", "empty cell"),
            ("file,label\n0.png,a\n1.png,a\n", {}, "too few names in column 'label': a", ""),
            ("file,label\n0.png,a\n9.png,b\n8.png,a\n", {}, "labelled images are missing", ""),
            ("file,label\n", {}, "no labelled image", ""),
            ("file;label\n0.png;a\n", {}, "no column 'file'", "separate the cells by commas"),
            ("file\tlabel\n0.png\ta\n", {}, "no column 'file'", "separate the cells by commas"),
            ("file,label,label\n0.png,a,b\n", {}, "the header has 2 columns 'label'", "a name of its own"),
            ("label,file\na,0.png\nb,\n", {}, "row 2 after the header names no image: b,", ""),
            ("file,label\n0.png,a\0\n1.png,b\n", {}, "a cell contains a NUL character", "UTF-8"),
            (f"file,label\n0.png,{'x' * 131073}\n", {}, "cannot be read as a table: field larger", "UTF-8"),
            ("file,value,split\n0.png,,train\n1.png,2,val\n", {}, "no value in column 'value' is known", "empty cell"),
            ("value,file\nhigh,0.png\n1,1.png\n", {}, "0.png: 'high' in column 'value' is no number", "empty cell"),
            ("file,label,split\n0.png,a,val\n1.png,b,\n", {}, "no split 'train'", "there are val"),
            (
                "file,label\n0.png,a\n1.png,b\n2.png,a\n",
                {"classes": ("a", "bb")},
                "no 'bb' in column 'label'",
                "did you mean 'b'?",
            ),
        ],
    )
    def test_mistakes_are_explained(self, tmp_path: Path, text: str, settings: dict[str, Any], message: str, hint: str) -> None:
        with pytest.raises(DataError, match=message) as caught:
            self.open(tmp_path, text, **settings)
        assert hint in caught.value.hint

    def test_a_table_in_another_encoding(self, tmp_path: Path) -> None:
        (tmp_path / "table.csv").write_bytes("file,label\n0.png,kött\n1.png,b\n".encode("latin-1"))
        with pytest.raises(DataError, match=r"table.csv: it cannot be read as a table: 'utf-8'") as caught:
            classification_csv.Config(root=str(tmp_path)).open("train")
        assert caught.value.hint == "save it as CSV in UTF-8"

    def test_classes_are_those_of_the_column_that_holds_them(self, tmp_path: Path) -> None:
        text = "file,label,labels,split\n0.png,in,cat;dog,train\n1.png,out,bee,train\n2.png,on,cat,train\n3.png,in,dog,val\n"
        train = self.open(tmp_path, text, classes=("out", "in"))
        assert told(train, "category") == [1, 0] and told(train, "labels") == [[0, 1, 1], [1, 0, 0]]
        train = self.open(tmp_path, text, classes=("dog", "cat"))
        assert told(train, "category") == [0, 2, 1] and told(train, "labels") == [[1, 1], [0, 0], [0, 1]]

    def test_no_table(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no table for 'train'"):
            classification_csv.Config(root=str(tmp_path)).open("train")


class TestWorld:
    def test_crowd_counts_who_can_be_seen(self) -> None:
        """Of 1000 pixels: 5 are not more than 0.5 %, 6 are; 1 is not more than 0.1 %, 2 are."""

        def counted(*pixels: int) -> int:
            instances = np.repeat(np.arange(len(pixels) + 1), (1000 - sum(pixels), *pixels)).reshape(20, 50)
            classes = np.where(instances > 0, PERSON, 0).astype(np.uint8)
            return int(crowd(classes, instances.astype(np.int16)))

        assert [counted(), counted(6), counted(6, 6), counted(6, 6, 6)] == [0, 1, 2, 2]
        assert [counted(1), counted(5), counted(6, 1), counted(6, 5), counted(6, 6, 2)] == [0, -1, 1, -1, 2]

    def test_shows_is_yes_no_or_unknown(self) -> None:
        classes = np.zeros(1000, np.uint8)
        classes[:6], classes[6:9], classes[9:10] = (CLASSES.index(n) for n in ("car", "tree", "animal"))
        found = dict(zip(SHOWS, shows(classes.reshape(20, 50)).tolist(), strict=True))
        assert found.pop("car") == 1 and math.isnan(found.pop("tree")) and set(found.values()) == {0}

    def test_distance_is_that_of_the_nearest(self) -> None:
        scenes = lay_out(0, "train", range(40))
        for scene in scenes:
            deep = [person[:, 2].mean() for person in scene.joints]
            assert distance(scene)[0] == pytest.approx(min(deep)) if deep else math.isnan(distance(scene)[0])
        assert {len(scene.joints) for scene in scenes} == {0, 1, 2, 3, 4}

    def test_the_fields_are_what_the_maps_say(self) -> None:
        dataset = world.Config(scenes=16, unknown=0).open("train")
        for i in range(16):
            sample = dataset.sample(i, ("crowd", "shows", "labels", "instances"))
            labels, instances = (sample[name].tensors()[""].numpy() for name in ("labels", "instances"))
            assert sample["crowd"].tensors()[""].item() == crowd(labels, instances)
            np.testing.assert_array_equal(sample["shows"].tensors()[""].numpy(), shows(labels))
            alone = dataset.sample(i, ("crowd",))["crowd"]
            assert isinstance(alone, Category) and alone.frame.size == (64, 64)

    def test_what_is_told_does_not_depend_on_what_is_left_unlabelled(self) -> None:
        found = [told(world.Config(scenes=8, unknown=unknown).open("train"), "crowd") for unknown in (0, 1)]
        assert found[0] == found[1]


def test_vectors_move_with_the_picture_and_stack() -> None:
    frame = Frame.of((4, 6))
    sample = Sample("x", {"labels": Values(torch.tensor([1.0, NAN]), frame), "category": Category(2, frame)})
    moved = sample.warp(np.diag([2.0, 2.0, 1.0]), (8, 12))
    assert all(field.frame.size == (8, 12) for field in moved.fields.values())
    batch = collate([moved, sample])
    assert batch["category"].tolist() == [2, 2] and batch["labels"].shape == (2, 2)
    assert torch.equal(batch["labels"].isnan(), torch.tensor([[False, True]] * 2))


def test_other_categories_by_the_same_numbers_are_refused() -> None:
    metas = [Meta(vectors={"category": Vector(kind="category", names=names)}) for names in (("cat", "dog"), ("cat", "cow"))]
    same_meaning(metas[0], metas[0], "val")
    with pytest.raises(DataError, match="val has other category than train: cat, cow; train: cat, dog"):
        same_meaning(*metas, "val")


class TestAnswers:
    image = torch.zeros(3, 20, 10, dtype=torch.uint8)

    def test_a_category(self) -> None:
        answer = CategoryPrediction(self.image, torch.tensor([0.2, 0.7, 0.1, 0.0]), ("ant", "bee", "cat", "dog"))
        assert answer.to_json() == {
            "kind": "category",
            "height": 20,
            "width": 10,
            "category": "bee",
            "scores": {"bee": 0.7, "ant": 0.2, "cat": 0.1, "dog": 0.0},
        }
        assert list(answer.to_json()["scores"]) == ["bee", "ant", "cat", "dog"]
        assert answer.words() == ["bee 0.70", "ant 0.20", "cat 0.10"]
        unknown = CategoryPrediction(self.image, torch.full((2,), NAN), ("a", "b"))
        assert unknown.to_json()["category"] is None and unknown.words() == ["unknown"]

    def test_labels(self) -> None:
        answer = LabelSetPrediction(self.image, torch.tensor([0.5, NAN, 0.9, 0.4]), ("a", "b", "c", "d"))
        assert answer.to_json()["labels"] == ["c", "a"] and answer.to_json()["scores"] == {"c": 0.9, "a": 0.5, "d": 0.4}
        assert answer.words() == ["c 0.90", "a 0.50"] and answer.line() == "c 0.90, a 0.50"
        assert LabelSetPrediction(self.image, torch.zeros(1), ("a",)).words() == ["none"]

    def test_a_value(self) -> None:
        answer = ValuePrediction(self.image, torch.tensor([3.25]), ("distance",), "m")
        assert answer.to_json() == {"kind": "value", "height": 20, "width": 10, "name": "distance", "value": 3.25, "unit": "m"}
        assert answer.words() == ["distance 3.25 m"]
        unknown = ValuePrediction(self.image, torch.tensor([NAN]), ("distance",))
        assert json.loads(json.dumps(unknown.to_json()))["value"] is None and unknown.words() == ["distance unknown"]

    @pytest.mark.parametrize(("size", "factor"), [((1, 1), 256), ((20, 10), 13), ((300, 500), 1)])
    def test_words_are_below_the_picture(self, size: tuple[int, int], factor: int) -> None:
        picture = PillowImage.new("RGB", size[::-1], (200, 0, 0))
        page = np.asarray(captioned(picture, ["bee 0.70", "a name that is much longer than the picture is wide 0.10"]))
        height, width = factor * size[0], factor * size[1]
        assert (page[:height, :width] == (200, 0, 0)).all() and page.shape[1] >= width
        below = page[height:].astype(int)
        dark = below.sum(2) < 200
        assert dark.any() and not dark[:, -2:].any() and not dark[-2:].any() and (below[dark].max(1) < 200).all()


SHRUNK = ["data.scenes=48", "view.size=32x32", "data.size=32x32", "network.channels=4,8", "precision=float32"]


@lru_cache
def model(name: str = "world_classification", *pairs: str) -> Model:
    """An untrained model of a recipe on small pictures, with batch statistics that are not the identity."""
    recipe = find_recipe(name).override([*SHRUNK, *pairs])
    data = Data.of(recipe)
    torch.manual_seed(0)
    networks = data.task.networks(recipe.network)
    for module in networks.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return Model(describe(recipe, data), data.task, networks)


def brightness(*pairs: str) -> Model:
    """A classifier by hand: "nobody" means bright, "several people" means dark."""
    own = ("network.channels=[1]", "network.norm=none")
    trained = model("world_classification", *own, *pairs)
    network = trained.networks["network"]
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    network.features[0].weight.data[0, :, 1, 1] = 1
    network.head[-1].weight.data[:, 0] = torch.tensor([5.0, 0, -5])
    return trained


class TestTask:
    @pytest.mark.parametrize(("name", "perfect"), [("world_labels", 1.0), ("world_distance", 0.0)])
    def test_trains_saves_and_answers(self, name: str, perfect: float, tmp_path: Path) -> None:
        recipe = find_recipe(name).override([*SHRUNK, "batch_size=4", "steps=4", "threads=1"])
        trained = proceed(start(recipe, tmp_path / "run"))
        result = json.loads((tmp_path / "run/evaluation.json").read_text())
        assert result["primary"] in result["metrics"] and len(result["baselines"]) == 3
        data = Data.of(recipe)
        sample = data.val.sample(1, data.task.fields)
        again = load(tmp_path / "run").predict([sample])[0]
        assert again.to_json() == trained.predict([sample])[0].to_json()
        truth = measure(data.task, data.val, {"truth": lambda samples: [data.task.truth(s) for s in samples]})["truth"]
        assert truth[result["primary"]] == pytest.approx(perfect, abs=1e-6)
        assert result["minimised"] == (name == "world_distance")
        assert all(abs(metrics[result["primary"]] - perfect) > 1e-3 for metrics in result["baselines"].values())

    def test_the_constant_baseline_is_the_share_of_each_or_the_median(self) -> None:
        classes = Meta(
            vectors={"category": Vector(kind="category", names=("a", "b", "c")), "value": Vector(kind="value", names=("v",))}
        )
        image = Image(torch.zeros(3, 4, 4, dtype=torch.uint8), frame := Frame.of((4, 4)))
        samples = [
            Sample(str(i), {"image": image, "category": Category(c, frame), "value": Values(torch.tensor([v]), frame)})
            for i, (c, v) in enumerate([(0, 1.0), (2, 2.0), (2, 9.0), (-1, NAN)])
        ]
        category = Task(Config(), classes).baselines(listed(samples))["constant"](samples[0])
        assert category.numbers.tolist() == pytest.approx([1 / 3, 0, 2 / 3])
        assert Task(Config(target="value"), classes).baselines(listed(samples))["constant"](samples[0]).numbers.tolist() == [2]

    def test_flip_test_averages_the_scores_of_both(self) -> None:
        plain, both = model(), model("world_classification", "task.flip_test=true")
        image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255
        with torch.inference_mode():
            plain.networks.eval(), both.networks.eval()
            straight, mirrored = (plain.outputs({"image": i})["scores"] for i in (image, image.flip(-1)))
            found = both.outputs({"image": image})["scores"]
        assert (straight - mirrored).abs().max() > 1e-4
        torch.testing.assert_close(found, (straight + mirrored) / 2)

    def test_mistakes_are_explained(self) -> None:
        meta = Meta(
            vectors={"category": Vector(kind="category", names=("a", "b")), "value": Vector(kind="value", names=("v",))}
        )
        with pytest.raises(DataError, match="does not tell 'labels', but category, value"):
            Task(Config(target="labels"), meta)
        with pytest.raises(UsageError, match="what the data tells as 'category' is: category") as caught:
            Task(Config(target="value", field="category"), meta)
        assert caught.value.hint == "set task.target=category"
        with pytest.raises(UsageError, match="not for a value"):
            Task(Config(target="value", class_weights=(1,)), meta)
        with pytest.raises(UsageError, match="3 class weights for 2 classes"):
            Task(Config(class_weights=(1, 2, 3)), meta)
        with pytest.raises(UsageError, match="'unet' answers with maps") as caught:
            Task(Config(), meta).networks(unet.Config(width=4, depth=1))
        assert caught.value.hint == "set network.kind=classifier"


def listed(samples: list[Sample]) -> Dataset:
    class Listed(Dataset):
        fields = ("image", "category", "value")
        meta = Meta()

        def __len__(self) -> int:
            return len(samples)

        def key(self, index: int) -> str:
            return samples[index].key

        def sample(self, index: int, fields: Sequence[str]) -> Sample:
            return Sample(self.key(index), {name: samples[index][name] for name in fields})

    return Listed()


def continued(image: Tensor, by: int) -> Tensor:
    """The image with `by` pixels of its mirror image around it, by NumPy."""
    return torch.from_numpy(np.pad(image.numpy(), ((0, 0), (by, by), (by, by)), "symmetric"))


class TestScoreMaps:
    @pytest.mark.parametrize("hidden", [0, 6])
    @pytest.mark.parametrize(("name", "activation"), [("world_classification", "softmax"), ("world_labels", "sigmoid")])
    def test_every_score_is_that_of_its_window_alone(self, name: str, activation: str, hidden: int) -> None:
        """32x32 seen, windows of 16 whose centres lie 2 pixels apart though the stride is 4, from border to border."""
        trained = model(name, f"network.hidden={hidden}")
        image = torch.randint(256, (3, 32, 32), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
        maps = DenseClassifier(trained)(image)
        assert maps.equivalence.everywhere and maps.scores.shape == (len(maps.names), 17, 17) and maps.window == (16, 16)
        names = trained.task.vector.names
        order = [names.index(n) for n in maps.names]
        around = continued(image, 8).float() / 255
        for row, column in ((0, 0), (0, 16), (7, 9), (8, 8), (16, 3)):
            window = around[None, :, 2 * row : 2 * row + 16, 2 * column : 2 * column + 16]
            with torch.no_grad():
                scores = trained.networks["network"].eval()(window).flatten()
            alone = scores.softmax(0) if activation == "softmax" else scores.sigmoid()
            torch.testing.assert_close(maps.scores[:, row, column], alone[order], atol=1e-5, rtol=0)
        whole = trained(image)
        assert maps.names[0] == max(whole.ranked(), key=whole.ranked().__getitem__)

    def test_a_value_keeps_its_unit(self) -> None:
        trained = model("world_distance")
        image = torch.randint(256, (3, 32, 32), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
        maps = DenseClassifier(trained, window=1.0)(image)
        torch.testing.assert_close(maps.scores[0, 8, 8], trained(image).numbers[0], atol=1e-5, rtol=0)
        assert maps.names == ("distance",) and maps.render().size[0] >= 256

    def test_windows_lie_where_they_were_seen(self) -> None:
        """A picture of 48 x 80 is seen at 32 x 32: centres every 2 pixels there are 3 x 5 apart here, windows 24 x 40."""
        maps = DenseClassifier(model("world_classification", "network.padding=zero"))(torch.zeros(3, 48, 80, dtype=torch.uint8))
        corners = transform_points(maps.matrix, torch.tensor([[0.5, 0.5], [16.5, 16.5], [3.5, 5.5]], dtype=torch.float64))
        assert corners.flatten().tolist() == pytest.approx([0, 0, 80, 48, 15, 15])
        assert maps.window == pytest.approx((24, 40))
        assert maps.enlarged(maps.names[0]).shape == (48, 80)
        assert not maps.equivalence.everywhere and "padding" in maps.to_json()["reason"]

    def test_the_bright_square_is_found(self) -> None:
        """The square's middle is at (60, 28) of 80 x 48."""
        trained = brightness("view.size=48x80")
        image = torch.zeros(3, 48, 80, dtype=torch.uint8)
        image[:, 16:40, 40:80] = 255
        found = DenseClassifier(trained)(image)
        told = found.to_json()
        assert told["exact"] is True and told["grid"] == [25, 41] and told["window"] == [24, 40]
        highest = told["highest"]["nobody"]
        assert abs(highest["x"] - 60) <= 2 and abs(highest["y"] - 28) <= 2  # pooling does not tell neighbours apart
        assert found.enlarged("nobody")[28, 60] > found.enlarged("nobody")[8, 10]

    def test_the_bars_of_a_letterbox_are_no_part_of_the_image(self) -> None:
        """The darkest windows lie in the bars; of those in the white image, at its edge."""
        found = DenseClassifier(brightness("view.size=48x48", "view.fit=letterbox"))(
            torch.full((3, 20, 60), 255, dtype=torch.uint8)
        )
        highest = found.to_json()["highest"]["several people"]
        assert 0 <= highest["x"] <= 60 and 0 <= highest["y"] <= 20
        assert found.scores[found.names.index("several people")].max() > highest["score"] + 0.1

    def test_a_grid_keeps_its_window_and_a_small_view_is_mirrored(self) -> None:
        grid = DenseClassifier(model("world_classification", "network.padding=zero", "network.grid=2,2"))
        assert grid.network.native == (32, 32)
        pairs = ("network.padding=zero", "network.channels=2,2,2,2,2", "view.size=16x16")
        small = DenseClassifier(model("world_classification", *pairs))
        assert small.network.native == (32, 32)
        assert small(torch.zeros(3, 10, 10, dtype=torch.uint8)).scores.shape == (3, 17, 17)

    def test_no_maps_of_other_models(self) -> None:
        regressor = model("world_classification", "network.kind=regressor", "network.channels=4,8")
        with pytest.raises(UsageError, match="'regressor' has no score maps"):
            DenseClassifier(regressor)

    def test_on_the_command_line(
        self, tmp_path: Path, finished: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        for name in ("a.jpg", "a.maps.jpg"):
            PillowImage.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(tmp_path / name)
        out = tmp_path / "out"
        words = ["predict", str(finished("classification")), str(tmp_path), f"out={out}", "--maps", "--json"]
        assert main(words) == 0
        first, second = json.loads(capsys.readouterr().out)["predictions"]
        assert sorted(p.name for p in out.iterdir()) == sorted(
            f"{n}.{e}" for n in ("a", "a.maps", "a.maps.jpg", "a.maps.jpg.maps") for e in ("png", "json")
        )
        assert first["kind"] == "category" and first["maps"]["kind"] == "score_maps" and first["maps"]["grid"] == [17, 17]
        assert second["maps"]["saved"] == str(out / "a.maps.jpg.maps.png")
        assert json.loads((out / "a.maps.json").read_text())["kind"] == "score_maps"
        assert main(["predict", str(finished("segmentation")), str(tmp_path), f"out={out}", "--maps"]) == 2
        assert "this model's task is segmentation" in capsys.readouterr().err
