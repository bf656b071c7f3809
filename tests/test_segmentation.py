"""Segmentation with labels and masks: losses, weights, metrics, files, settings and runs, by hand or by other libraries."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from scipy.ndimage import binary_erosion
from test_tasks import small
from torch import Tensor
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from pixelwise.codecs.label_map import Kind, LabelMapCodec
from pixelwise.codecs.masks import MasksCodec
from pixelwise.color.heat import STOPS
from pixelwise.color.tables import counts_picture
from pixelwise.data.augment import Augment, View
from pixelwise.data.dataset import Dataset, Meta
from pixelwise.data.datasets import masks_folder, segmentation_folder, world
from pixelwise.data.images import decode_labels
from pixelwise.data.sample import Depth, Image, LabelMap, Masks, Sample, collate
from pixelwise.errors import DataError, PixelwiseError, UsageError
from pixelwise.evaluation import measure, parts_table
from pixelwise.geometry.frame import Frame
from pixelwise.geometry.homography import horizontal_flip, resize
from pixelwise.losses.classification import binary_cross_entropy, binary_focal, cross_entropy, focal
from pixelwise.losses.overlap import lovasz_hinge, lovasz_softmax, soft_dice
from pixelwise.metrics.masks import MaskMetrics
from pixelwise.metrics.outlines import BoundaryIou, near_outline
from pixelwise.model import load
from pixelwise.predictions.labels import LabelPrediction
from pixelwise.predictions.masks import MasksPrediction
from pixelwise.recipe import Recipe, find_recipe
from pixelwise.run import Data, proceed, start
from pixelwise.run import train as trained
from pixelwise.tasks.segmentation import Config, Losses, Task

NAN = torch.nan
KINDS: tuple[Kind, ...] = ("cross_entropy", "dice", "lovasz", "focal")


def random() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def labelled() -> tuple[Tensor, Tensor]:
    """Logits of 4 classes and labels of which a row is unknown and one class is nowhere."""
    logits = torch.randn(2, 4, 3, 5, generator=random(), dtype=torch.float64)
    labels = torch.randint(3, (2, 3, 5), generator=random())
    labels[0, 1] = 255
    return logits, labels


def masked() -> tuple[Tensor, Tensor]:
    """Logits of 3 masks, one of them nowhere, and their targets, each with its own unknown pixels."""
    logits = torch.randn(2, 3, 3, 5, generator=random(), dtype=torch.float64)
    masks = torch.randint(2, (2, 3, 3, 5), generator=random()).double()
    masks[:, 2] = 0
    masks[0, 0, 1], masks[1, 1, :, 2] = NAN, NAN
    return logits, masks


# Losses


def test_smoothed_and_weighted_cross_entropy_is_torchs() -> None:
    logits, labels = labelled()
    weights = torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64)
    theirs = functional.cross_entropy(logits, labels, weights, ignore_index=255, label_smoothing=0.1)
    torch.testing.assert_close(cross_entropy(logits, labels, weights, smoothing=0.1), theirs)


def test_smoothed_binary_cross_entropy_by_hand() -> None:
    """p = 0.8, target 1, smoothed by 0.2 to 0.9; the second is unknown."""
    logits = torch.tensor([[np.log(4.0), 3.0]])
    found = binary_cross_entropy(logits, torch.tensor([[1.0, NAN]]), smoothing=0.2)
    assert found.item() == pytest.approx(-0.9 * np.log(0.8) - 0.1 * np.log(0.2), rel=1e-6)


def test_focal_by_hand() -> None:
    """p = 0.8 for class 0 at three pixels, labelled 0, 1 and unknown; weights 1 and 3."""
    logits = torch.tensor([np.log(4.0), 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, 3)
    labels, weights = torch.tensor([[[0, 1, 255]]]), torch.tensor([1.0, 3.0]).double()
    expected = (-(0.2**2) * np.log(0.8) - 3 * 0.8**2 * np.log(0.2)) / 4
    assert focal(logits, labels, weights).item() == pytest.approx(expected, rel=1e-6)


def test_focal_without_focus_is_cross_entropy() -> None:
    logits, labels = labelled()
    torch.testing.assert_close(focal(logits, labels, gamma=0), cross_entropy(logits, labels))


def test_binary_focal_is_torchvisions() -> None:
    logits, masks = masked()
    known = ~masks.isnan()
    theirs = sigmoid_focal_loss(logits[known], masks[known], alpha=-1, gamma=2, reduction="mean")
    torch.testing.assert_close(binary_focal(logits, masks), theirs)


def test_focal_of_a_certain_answer_has_a_gradient() -> None:
    logits = torch.tensor([[[[200.0]], [[-200.0]]]], requires_grad=True)
    focal(logits, torch.tensor([[[0]]]), gamma=0.5).backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


def test_soft_dice_by_hand() -> None:
    """Sheet 0: p 0.5, 1, 0.25 for truth 1, 1, 0: 1 - 3 / 3.75; sheet 1 has no true pixel; the fourth pixel is unknown."""
    probabilities = torch.tensor([[0.5, 1, 0.25, 0.9], [0.5, 0.5, 0.5, 0.5]]).view(1, 2, 1, 4)
    truth = torch.tensor([[1, 1, 0, 1], [0, 0, 0, 1]]).view(1, 2, 1, 4).bool()
    known = torch.tensor([True, True, True, False]).view(1, 1, 1, 4)
    assert soft_dice(probabilities, truth, known).item() == pytest.approx(1 - 3 / 3.75)
    assert soft_dice(truth.float(), truth, known).item() == 0


def lovasz(errors: list[float], truth: list[bool]) -> float:
    """The definition: errors from the largest times what each adds to 1 - IoU of the set of mistakes."""
    total, before, mistakes = 0.0, 0.0, set[int]()
    for i in sorted(range(len(errors)), key=lambda i: -errors[i]):
        mistakes.add(i)
        true = {j for j, t in enumerate(truth) if t}
        lost = len(mistakes) / len(true | mistakes)
        total, before = total + errors[i] * (lost - before), lost
    return total


def test_lovasz_softmax_is_its_definition() -> None:
    logits, labels = labelled()
    known = labels != 255
    values = []
    for c in range(3):
        truth = (labels == c)[known]
        errors = (truth.double() - logits.softmax(1)[:, c][known]).abs()
        values.append(lovasz(errors.tolist(), truth.tolist()))
    assert lovasz_softmax(logits, labels).item() == pytest.approx(np.mean(values), rel=1e-12)


def test_lovasz_hinge_is_its_definition() -> None:
    logits, masks = masked()
    values = []
    for z, t in zip(logits.movedim(1, 0), masks.movedim(1, 0), strict=True):
        known = ~t.isnan()
        errors = (1 - z[known] * (2 * t[known] - 1)).clamp(min=0)
        values.append(lovasz(errors.tolist(), (t[known] == 1).tolist()))
    assert lovasz_hinge(logits, masks).item() == pytest.approx(np.mean(values), rel=1e-12)


def test_lovasz_of_a_certain_answer_is_one_minus_iou() -> None:
    """Classes 0 and 1 overlap in 2 of 4 and 1 of 3 pixels."""
    predicted, labels = torch.tensor([[[0, 0, 0, 1, 1]]]), torch.tensor([[[0, 0, 1, 1, 0]]])
    logits = functional.one_hot(predicted, 2).movedim(-1, 1) * 100.0
    assert lovasz_softmax(logits, labels).item() == pytest.approx(1 - (2 / 4 + 1 / 3) / 2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("made", [labelled, masked])
def test_gradients_and_what_is_unknown(kind: Kind, made: Callable[[], tuple[Tensor, Tensor]]) -> None:
    """Finite differences agree; unknown pixels have exactly no gradient; nothing known is a loss of 0."""
    logits, truth = made()
    codec = LabelMapCodec(4, (1.0, 0.5, 2.0, 1.0), 0.1) if made is labelled else MasksCodec(3, ((1.0, 2.0),) * 3, 0.1)
    name = "labels" if made is labelled else "masks"
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: codec.loss(z, {name: truth}, kind), logits)
    (gradient,) = torch.autograd.grad(codec.loss(logits, {name: truth}, kind), logits)
    unknown = (truth == 255)[:, None].expand_as(logits) if made is labelled else truth.isnan()
    assert gradient[unknown].eq(0).all() and gradient[~unknown].ne(0).any()
    nothing = torch.full_like(truth, 255 if made is labelled else NAN)
    value = codec.loss(logits, {name: nothing}, kind)
    assert value.item() == 0 and torch.autograd.grad(value, logits)[0].eq(0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_binary_codec_weighs_the_two_classes(kind: Kind) -> None:
    """Only cross-entropy and focal take weights: p = 0.8 at a pixel inside and one outside, weights 1 and 3."""
    logits = torch.full((1, 1, 1, 2), np.log(4.0), dtype=torch.float64)
    plain, weighted = MasksCodec(1), MasksCodec(1, ((1.0, 3.0),))
    targets = plain.encode(torch.tensor([[[1, 0]]], dtype=torch.uint8))
    inside, outside = -np.log(0.8), -np.log(0.2)
    if kind == "focal":
        inside, outside = inside * 0.2**2, outside * 0.8**2
    found, expected = weighted.loss(logits, targets, kind).item(), plain.loss(logits, targets, kind).item()
    assert found == pytest.approx((3 * inside + outside) / 4 if kind in ("cross_entropy", "focal") else expected, rel=1e-6)


# Codecs


def test_masks_round_trip_with_a_threshold() -> None:
    masks = torch.tensor([[[[0, 1, 255]], [[1, 1, 0]]]], dtype=torch.uint8)
    targets = MasksCodec(2).encode(masks)["masks"]
    assert targets[0, 0, 0].tolist()[:2] == [0, 1] and targets[0, 0, 0, 2].isnan()
    assert torch.equal(MasksCodec(2).decode(targets.nan_to_num() * 10 - 5)[0, 1], masks[0, 1])
    at = torch.tensor([0.6, 0.8]).logit().view(2, 1, 1)
    assert MasksCodec(2, threshold=0.7).decode(at).flatten().tolist() == [0, 1]
    with pytest.raises(DataError, match="label 2 in a map of 2"):
        MasksCodec(1).encode(torch.tensor([[[2]]], dtype=torch.uint8))
    with pytest.raises(UsageError, match="1 class weights for 2 masks"):
        MasksCodec(2, ((1.0, 1.0),))


@pytest.mark.parametrize(
    ("codec", "probability"), [(LabelMapCodec(3), torch.softmax), (MasksCodec(3), lambda z, _: z.sigmoid())]
)
def test_averaged_logits_have_the_mean_probability(codec: Any, probability: Any) -> None:
    outputs = torch.randn(4, 2, 3, 2, 2, generator=random(), dtype=torch.float64) * 5
    torch.testing.assert_close(probability(codec.averaged(outputs), 1), probability(outputs, 2).mean(0))


# Metrics


@pytest.mark.parametrize("distance", [1, 2, 5])
def test_near_an_outline_is_what_scipy_erodes(distance: int) -> None:
    labels = torch.randint(4, (1, 5, 6), generator=random()).repeat_interleave(9, 1).repeat_interleave(8, 2)
    expected = np.zeros(labels.shape[1:], bool)
    for c in range(4):
        mask = labels[0].numpy() == c
        expected |= mask & ~binary_erosion(mask, np.ones((2 * distance + 1,) * 2))
    assert np.array_equal(near_outline(labels, distance)[0].numpy(), expected)


def test_unknown_pixels_are_neither_side_of_an_outline() -> None:
    labels = torch.zeros(1, 9, 9, dtype=torch.uint8)
    labels[0, :, 4] = 255
    near = near_outline(labels, 1)[0]
    assert not near[1:-1, 1:-1].any() and not near[:, 4].any() and near[0, :4].all()


def test_boundary_iou_by_hand() -> None:
    """12 x 12, so the band is 1 pixel: class 1 has 32 true and 30 predicted pixels there, 20 in both; class 0 32, 34 and 22."""
    labels, predicted = (torch.zeros(1, 12, 12, dtype=torch.uint8) for _ in range(2))
    labels[..., 6:], predicted[..., 7:] = 1, 1
    metrics = BoundaryIou("abc")
    metrics.update(predicted, labels)
    expected = {"boundary_iou/a": 22 / 44, "boundary_iou/b": 20 / 42, "boundary_miou_present@0.02": (22 / 44 + 20 / 42) / 2}
    assert metrics.compute() == pytest.approx(expected)


def test_boundary_iou_of_what_is_unknown() -> None:
    labels, predicted = torch.zeros(1, 12, 12, dtype=torch.uint8), torch.zeros(1, 12, 12, dtype=torch.uint8)
    labels[..., 6:], predicted[..., 6:] = 255, 1
    metrics = BoundaryIou("ab")
    metrics.update(predicted, labels)
    assert metrics.compute() == {"boundary_miou_present@0.02": 1, "boundary_iou/a": 1}
    assert int(metrics.matrix.sum()) == 72


def test_boundary_iou_of_as_many_classes_as_a_label_map_holds() -> None:
    labels = torch.arange(255, dtype=torch.uint8).view(1, 15, 17)
    metrics = BoundaryIou([str(i) for i in range(255)])
    metrics.update(labels, labels)
    assert metrics.compute()["boundary_miou_present@0.02"] == 1 and int(metrics.matrix.sum()) == 255


def test_mask_metrics_by_hand() -> None:
    """Mask a: 1 shared of 2 predicted and 2 true; b: predicted on 1 pixel, true nowhere; c: in neither; 1 of 12 is unknown."""
    truth = torch.tensor([[[1, 1, 0, 255]], [[0, 0, 0, 0]], [[0, 0, 0, 0]]], dtype=torch.uint8)
    predicted = torch.tensor([[[1, 0, 1, 1]], [[0, 0, 0, 1]], [[0, 0, 0, 0]]], dtype=torch.uint8)
    metrics = MaskMetrics("abc")
    assert metrics.compute() == {}
    metrics.update(predicted, truth)
    assert metrics.compute() == pytest.approx(
        {
            "miou_present": (1 / 3 + 0) / 2,
            "mdice_present": (1 / 2 + 0) / 2,
            "pixel_accuracy": 8 / 11,
            "iou/a": 1 / 3,
            "iou/b": 0,
            "dice/a": 1 / 2,
            "dice/b": 0,
        }
    )


# Fields and predictions


def test_masks_move_with_the_picture_and_are_unknown_outside() -> None:
    masks = Masks(torch.tensor([[[1, 0]], [[255, 1]]], dtype=torch.uint8), Frame.of((1, 2)))
    assert masks.warp(horizontal_flip(2), (1, 2)).masks.tolist() == [[[0, 1]], [[1, 255]]]
    assert masks.warp(np.eye(3), (1, 3)).masks.tolist() == [[[1, 0, 255]], [[255, 1, 255]]]
    assert masks.warp(resize((1, 2), (1, 4)), (1, 4)).masks[0].tolist() == [[1, 1, 0, 0]]


def masks_prediction() -> MasksPrediction:
    masks = torch.tensor([[[1, 0, 1]], [[1, 0, 255]]], dtype=torch.uint8)
    return MasksPrediction(torch.full((3, 1, 3), 100, dtype=torch.uint8), masks, ("a", "b"), ((200, 0, 0), (0, 100, 0)))


def test_masks_are_laid_over_the_picture() -> None:
    """Half the picture's 100, half the mean colour of the masks there."""
    drawn = np.asarray(masks_prediction().render())
    assert drawn[0].tolist() == [[100, 75, 50], [100, 100, 100], [150, 50, 50]]
    assert masks_prediction().to_json()["share"] == {"a": 0.666667, "b": 0.5}


def test_masks_are_saved_exactly_as_pages(tmp_path: Path) -> None:
    with PillowImage.open(masks_prediction().save(tmp_path / "answer.tif")) as saved:
        pages = []
        for page in range(2):
            saved.seek(page)
            pages.append(np.asarray(saved).tolist())
    assert pages == [[[255, 0, 255]], [[255, 0, 0]]]


def test_a_saved_label_map_is_read_back(tmp_path: Path) -> None:
    """Palette PNG out and in; painted in colours it is found again through the palette."""
    labels = torch.tensor([[0, 1, 2], [2, 255, 0]], dtype=torch.uint8)
    palette = ((10, 20, 30), (200, 0, 0), (0, 0, 0))
    prediction = LabelPrediction(torch.zeros(3, 2, 3, dtype=torch.uint8), labels, None, ("a", "b", "c"), palette)
    path = prediction.save(tmp_path / "answer.png")
    assert torch.equal(decode_labels(path, 3), labels)
    PillowImage.open(path).convert("RGB").crop((0, 0, 3, 1)).save(tmp_path / "painted.png")
    assert decode_labels(tmp_path / "painted.png", 3, palette=palette).tolist() == [[0, 1, 2]]
    with pytest.raises(DataError, match=r"painted.png: a colour is not in the palette: \(0, 0, 0\) at 1 pixels"):
        decode_labels(tmp_path / "painted.png", 2, palette=palette[:2])


# Data


def image(path: Path, size: tuple[int, int] = (6, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(np.random.default_rng(len(str(path))).integers(0, 256, (*size, 3), np.uint8)).save(path)


def mask(path: Path, values: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(np.array(values, np.uint8)).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images in train and one in val; the second has no file for `hair`, val has none for `hat`."""
    for split, name in (("train", "0"), ("train", "1"), ("val", "2")):
        image(tmp_path / split / "images" / f"{name}.jpg", (1, 4))
    mask(tmp_path / "train/masks/hair/0.png", [[0, 255, 128, 1]])
    mask(tmp_path / "train/masks/hat/0.png", [[[255] * 3, [0] * 3, [128] * 3, [0] * 3]])
    mask(tmp_path / "train/masks/hat/1.png", [[0, 0, 0, 255]])
    mask(tmp_path / "val/masks/hair/2.png", [[255, 0, 0, 0]])
    return tmp_path


def masks_of(dataset: Dataset, index: int) -> Any:
    field = dataset.sample(index, ("masks",))["masks"]
    assert isinstance(field, Masks) and field.masks.dtype == torch.uint8
    return field.masks[:, 0].tolist()


def test_masks_folder(folder: Path) -> None:
    train = masks_folder.Config(root=str(folder)).open("train")
    assert train.meta.masks == ("hair", "hat") and [train.key(i) for i in range(len(train))] == ["0", "1"]
    assert masks_of(train, 0) == [[0, 1, 255, 1], [1, 0, 255, 0]]
    assert masks_of(train, 1) == [[255] * 4, [0, 0, 0, 1]]
    assert set(train.sample(0, train.fields).fields) == {"image", "masks"}
    assert masks_of(masks_folder.Config(root=str(folder), missing="absent").open("val"), 0) == [[1, 0, 0, 0], [0] * 4]
    (folder / "meta.json").write_text('{"masks": ["hat", "hair", "shoe"]}')
    again = masks_folder.Config(root=str(folder)).open("train")
    assert again.meta.masks == ("hat", "hair", "shoe") and masks_of(again, 1) == [[0, 0, 0, 1], [255] * 4, [255] * 4]


def test_what_is_wrong_with_masks(folder: Path) -> None:
    def fails(index: int = 0) -> str:
        with pytest.raises(DataError) as caught:
            masks_folder.Config(root=str(folder)).open("train").sample(index, ("image", "masks"))
        return str(caught.value)

    bad = mask(folder / "train/masks/hair/0.png", [[0, 255, 128, 77]])
    assert fails() == f"{bad}: value 77 at (x=3, y=0)"
    mask(bad, [[0, 255, 128]])
    assert fails() == f"{folder}/train/images/0.jpg: 4x1, but {bad} is 3x1"
    orphan = mask(folder / "train/masks/hair/9.png", [[0]])
    assert fails() == f"{orphan} belongs to no image"
    (folder / "meta.json").write_text('{"masks": []}')
    for file in sorted(folder.rglob("masks/*/*")):
        file.unlink()
        if not any(file.parent.iterdir()):
            file.parent.rmdir()
    assert fails() == f"{folder}: the masks are not known"


def test_the_masks_of_the_world_follow_from_its_labels_and_depth() -> None:
    dataset = world.Config(scenes=4, unknown=0.6).open("train")
    for i in range(4):
        sample = dataset.sample(i, ("masks", "labels", "depth"))
        masks, labels, depth = sample["masks"], sample["labels"], sample["depth"]
        assert isinstance(masks, Masks) and isinstance(labels, LabelMap) and isinstance(depth, Depth)
        alive, movable, near = masks.masks
        unknown = labels.labels == 255
        assert alive[unknown].eq(255).all() and torch.equal(alive == 1, torch.isin(labels.labels, torch.tensor([6, 8, 9])))
        assert movable[unknown].eq(255).all() and torch.equal(movable == 1, torch.isin(labels.labels, torch.tensor([7, 8, 9])))
        metres = depth.metres.nan_to_num(torch.inf)
        assert torch.equal(near == 1, metres <= 8) and torch.equal(near == 0, metres > 10)


def test_wrong_labels_are_named_with_their_file(tmp_path: Path) -> None:
    root = streets(tmp_path, [[0, 1], [0, 1], [0, 1]])
    dataset = segmentation_folder.Config(root=str(root), val_fraction=0.34).open("train")
    key = dataset.key(0)
    mask(root / "labels" / f"{key}.png", np.full((6, 8), 7))
    with pytest.raises(DataError, match=rf"labels/{key}.png: class 7 at \(x=0, y=0\), but classes=2 allows 0..1"):
        dataset.sample(0, ("labels",))
    mask(root / "labels" / f"{key}.png", np.zeros((6, 7)))
    with pytest.raises(DataError, match=rf"images/{key}.png: 8x6, but .*labels/{key}.png is 7x6"):
        dataset.sample(0, ("image", "labels"))


# Settings


def streets(root: Path, maps: list[list[int]], classes: int = 2) -> Path:
    """Make images of 6 x 8 whose labels are a row of values, and the names of the classes."""
    for i, values in enumerate(maps):
        image(root / "images" / f"{i}.png")
        mask(root / "labels" / f"{i}.png", np.resize(values, (6, 8)))
    (root / "meta.json").write_text(json.dumps({"classes": [f"class {i}" for i in range(classes)]}))
    return root


def of_streets(root: Path, *pairs: str) -> Recipe:
    words = ["view.size=16x16", "batch_size=2", "steps=2", "network.width=4", "network.depth=2", "precision=float32"]
    return find_recipe("segmentation").override([f"data.root={root}", "data.val_fraction=0.34", *words, *pairs])


def test_weights_are_counted_once_and_saved(tmp_path: Path) -> None:
    """Of 32 known pixels in each image class 0 has 8 and class 1 has 24, 32 of which count: f = 1/4 and 3/4, median 1/2."""
    root = streets(tmp_path / "data", [[0, 1, 1, 1, 255, 255]] * 3)
    recipe = of_streets(root, "task.class_weights=median_frequency", "task.labelling=binary")
    trained(recipe, tmp_path / "run")
    assert recipe.task.class_weights == "median_frequency"
    expected = pytest.approx([0.5 / 0.25, 0.5 / 0.75], abs=1e-6)
    assert json.loads((tmp_path / "run/recipe.json").read_text())["task"]["class_weights"] == expected
    assert json.loads((tmp_path / "run/model/config.json").read_text())["task"]["class_weights"] == expected
    assert load(tmp_path / "run").task.codec.weights == (expected,)


def test_weights_also_follow_where_the_run_was_made_without_data(tmp_path: Path) -> None:
    root = streets(tmp_path / "data", [[0, 1, 1, 1]] * 3)
    proceed(start(of_streets(root, "task.class_weights=median_frequency"), tmp_path / "run"))
    assert load(tmp_path / "run").task.codec.class_weights == pytest.approx((2, 2 / 3), abs=1e-6)


def test_a_resumed_run_takes_what_its_recipe_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that was made without data: what its first process counted is in the recipe from then on."""
    root, asked = streets(tmp_path / "data", [[0, 1, 1, 1]] * 3), []
    settled = Config.settled
    monkeypatch.setattr(Config, "settled", lambda self, train: asked.append(train) or settled(self, train))
    run = start(of_streets(root, "task.class_weights=median_frequency"), tmp_path / "run")
    proceed(run)
    assert json.loads((run / "recipe.json").read_text())["task"]["class_weights"] == pytest.approx([2, 2 / 3], abs=1e-6)
    assert len(asked) == 1
    proceed(run)
    assert len(asked) == 1


def test_nothing_but_unknown_labels_is_an_error(tmp_path: Path) -> None:
    root = streets(tmp_path, [[255]] * 3)
    with pytest.raises(DataError, match="every pixel of all 2 training samples is unknown"):
        Data.of(of_streets(root))


def test_one_unknown_image_among_others_costs_nothing(tmp_path: Path) -> None:
    """A batch of unknown pixels has losses of 0, and the metrics of a run stay finite."""
    root = streets(tmp_path / "data", [[255], [0, 1], [255], [255], [1, 0], [0]])
    losses = [f"task.loss.{kind}=1" for kind in KINDS]
    for labelling in ("multiclass", "binary"):
        recipe = of_streets(root, *losses, f"task.labelling={labelling}", "batch_size=1", "steps=6", "data.val_fraction=0.5")
        out = tmp_path / labelling
        trained(recipe, out)
        events = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        steps = [event["losses"] for event in events if "losses" in event]
        assert all(set(step) == set(KINDS) for step in steps)
        assert any(not any(step.values()) for step in steps) and any(all(step.values()) for step in steps)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        (
            {"loss": {"cross_entropy": 0}},
            "loss: every weight is 0, .*: set one above it, such as cross_entropy=1",
        ),
        ({"loss": {"dice": -1}}, "greater than or equal to 0"),
        ({"labelling": "multilabel", "class_weights": "median_frequency"}, "is for one class per pixel"),
        ({"class_weights": "inverse"}, "median_frequency"),
        ({"scales_test": ()}, "at least 1 item"),
        ({"scales_test": (0.0,)}, "greater than 0"),
        ({"threshold": 1}, "less than 1"),
    ],
)
def test_settings_that_mean_nothing(settings: dict[str, Any], error: str) -> None:
    with pytest.raises(UsageError, match=error):
        Config.checked(settings)


@pytest.mark.parametrize(
    ("config", "meta", "error"),
    [
        (Config(labelling="binary"), Meta(classes=("a", "b", "c")), "'binary' is for two classes, not 3"),
        (Config(labelling="binary", class_weights=(1,)), Meta(classes=("a", "b")), "1 class weights for 2 classes"),
        (Config(labelling="multilabel"), Meta(classes=("a", "b")), "needs masks"),
        (Config(labelling="multilabel", class_weights=(1,)), Meta(masks=("a", "b")), "1 class weights for 2 masks"),
        (Config(), Meta(masks=("a",)), "needs the names of the classes"),
    ],
)
def test_settings_that_do_not_fit_the_data(config: Config, meta: Meta, error: str) -> None:
    with pytest.raises(PixelwiseError, match=error):
        config.build(meta)


def test_overrides_of_weights() -> None:
    def weights(text: str) -> Any:
        return find_recipe("segmentation").override([f"task.class_weights={text}"]).task.class_weights

    assert weights("median_frequency") == "median_frequency"
    assert weights("1,2.5") == weights("[1, 2.5]") == (1, 2.5) and weights("[]") == ()


def test_losses_are_summed_by_name() -> None:
    task = Config(loss=Losses(cross_entropy=0, dice=0.5, lovasz=2)).build(Meta(classes=("a", "b", "c", "d")))
    logits, labels = labelled()
    found = task.loss("train", {}, {"labels": labels}, {"logits": logits.float()})
    dice = soft_dice(logits.softmax(1), functional.one_hot(labels % 255, 4).movedim(-1, 1).bool(), (labels != 255)[:, None])
    expected = {"dice": 0.5 * dice.item(), "lovasz": 2 * lovasz_softmax(logits, labels).item()}
    assert {name: value.item() for name, value in found.items()} == pytest.approx(expected, rel=1e-5)


# Several looks at one picture


class Blur(torch.nn.Module):
    """Three sheets that look to the right, so that a mirror, and a zoom, change the answer."""

    stride = 1

    def forward(self, pixels: Tensor) -> Tensor:
        return 4 * (pixels - pixels.roll(1, -1)) + pixels * torch.tensor([1.0, 2.0, -1.0]).view(1, 3, 1, 1)


@pytest.mark.parametrize("labelling", ["multiclass", "multilabel"])
def test_flips_and_zooms_average_probabilities(labelling: Any) -> None:
    meta, scales = Meta(classes=("a", "b", "c"), masks=("a", "b", "c")), (0.5, 1.0, 2.0)
    picture = torch.rand(1, 3, 8, 12, generator=random())

    def probabilities(pixels: Tensor, **settings: Any) -> Tensor:
        task = Config(labelling=labelling, **settings).build(meta)
        logits = task.respond({"network": Blur()}, {"image": pixels})["logits"]
        return logits.softmax(1) if labelling == "multiclass" else logits.sigmoid()

    parts = [probabilities(picture, scales_test=(scale,)) for scale in scales]
    parts += [probabilities(picture.flip(-1), scales_test=(scale,)).flip(-1) for scale in scales]
    found = probabilities(picture, scales_test=scales, flip_test=True)
    torch.testing.assert_close(found, torch.stack(parts).mean(0), atol=1e-6, rtol=0)
    assert (parts[0] - parts[1]).abs().max() > 0.05 and (parts[1] - parts[4]).abs().max() > 0.05


def test_zooms_are_refused_where_pictures_are_seen_in_tiles() -> None:
    task = Config(scales_test=(0.75, 1, 1.25)).build(Meta(classes=("a", "b")))
    task.check(View(size=(32, 32)), Augment())
    with pytest.raises(UsageError, match=r"task\.scales_test needs view\.fit=stretch or letterbox"):
        task.check(View(size=(32, 32), fit="native"), Augment())


# Runs


def small_run(labelling: str, root: Path) -> Recipe:
    if labelling == "multilabel":
        return small("segmentation").override(["task.labelling=multilabel", "task.loss.dice=1", "name=masks"])
    rows = [[0, 1, 1], [1, 1, 0], [0, 0, 255], [0, 1], [1], [0, 0, 1]]
    return of_streets(streets(root, rows), "task.labelling=binary", "task.threshold=0.4", "task.loss.focal=1")


@pytest.mark.parametrize("labelling", ["binary", "multilabel"])
def test_a_run_with_one_sheet_or_masks(labelling: str, tmp_path: Path) -> None:
    recipe = small_run(labelling, tmp_path / "data")
    model = proceed(start(recipe, tmp_path / "run"))
    data = Data.of(recipe)
    task = data.task
    assert isinstance(task, Task) and task.codec.channels == (1 if labelling == "binary" else 3)
    sample = data.val.sample(0, task.fields)
    ours, again = (one.predict([sample])[0] for one in (model, load(tmp_path / "run")))
    assert np.array_equal(np.asarray(ours.render()), np.asarray(again.render())) and ours.to_json() == again.to_json()
    predictors = {name: lambda s, one=p: [one(x) for x in s] for name, p in task.baselines(data.train).items()}
    measured = measure(task, data.val, {"truth": lambda s: [task.truth(x) for x in s], **predictors})
    assert measured["truth"]["miou_present"] == 1
    assert all(measured[name]["miou_present"] < 1 for name in predictors)
    assert ours.render().size == ours.input().size
    text = (tmp_path / "run/report.html").read_text()
    assert "in detail" in text and ("is called what" in text) == (labelling == "binary")


def test_binary_paints_the_second_class_from_its_threshold() -> None:
    """Probabilities 0.3, 0.45 and 0.9 with a threshold of 0.4."""
    task = Config(labelling="binary", threshold=0.4).build(Meta(classes=("no", "yes")))
    picture = Image(torch.zeros(3, 1, 3, dtype=torch.uint8), Frame.of((1, 3)))
    logits = torch.tensor([0.3, 0.45, 0.9]).logit().view(1, 1, 1, 3)
    (found,) = task.decode({"logits": logits}, [Sample("x", {"image": picture})], [picture.frame])
    assert found.labels.tolist() == [[0, 1, 1]]
    assert found.confidence.flatten().tolist() == pytest.approx([0.7, 0.45, 0.9])


def test_masks_are_collated_and_encoded_with_their_own_unknown() -> None:
    data = Data.of(small("segmentation").override(["task.labelling=multilabel"]))
    samples = [data.train.sample(i, data.task.fields) for i in range(2)]
    batch = data.task.encode(collate(samples))
    truth = torch.stack([sample["masks"].tensors()[""] for sample in samples])
    assert batch["masks"].shape == truth.shape and torch.equal(batch["masks"].isnan(), truth == 255)
    assert not torch.equal(truth[:, 0] == 255, truth[:, 2] == 255)


# The report


def test_parts_are_a_table() -> None:
    metrics = {"miou_present": 0.5, "iou/a": 0.25, "iou/b": 0.75, "accuracy/b": 1.0, "confusion/a/b": 3.0}
    assert parts_table({"metrics": metrics}) == [["", "iou", "accuracy"], ["a", "0.25", "-"], ["b", "0.75", "1"]]
    assert parts_table({"metrics": {"l1": 1.0}}) == []


def test_the_picture_of_counts_has_a_bright_diagonal_where_all_is_right() -> None:
    drawn = np.asarray(counts_picture(torch.tensor([[4, 0], [0, 0]]), ("a", "bb")))
    cells = drawn[-64:, -64:]
    assert cells[16, 16].tolist() == list(STOPS[-1]), "all of the first row"
    assert all(cells[y, x].tolist() == list(STOPS[0]) for y, x in ((16, 48), (48, 16), (48, 48)))
    assert drawn.shape[0] == drawn.shape[1] and (drawn[:, :4] == 255).all()
