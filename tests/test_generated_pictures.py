"""Generated pictures: what a segmenter reads in them and how they are as a set, by hand; what the command line says of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_tasks import opened
from test_tasks import small as small_recipe
from torch import Tensor

from pixelwise.cli import main
from pixelwise.data.dataset import Meta
from pixelwise.data.sample import LabelMap, Sample
from pixelwise.errors import UsageError
from pixelwise.evaluation import protocol_line
from pixelwise.fcn_score import FcnScore
from pixelwise.geometry.frame import Frame
from pixelwise.judges import as_text
from pixelwise.metrics.distances import discrepancy
from pixelwise.metrics.sets import SetMetrics, difference, small
from pixelwise.model import Model, load
from pixelwise.nn.embeddings import RandomEmbedding, StatisticsEmbedding
from pixelwise.picture_sets import PictureSets, noise_diversity, too_few
from pixelwise.predictions.image import ImagePrediction
from pixelwise.run import describe, open_run, proceed, start

Capture = pytest.CaptureFixture[str]
Finished = Callable[[str], Path]
CLASSES = ("wall", "door", "sky")


class Reader:
    """A segmenter that sees class n where red is 10 n."""

    description = SimpleNamespace(task=SimpleNamespace(kind="segmentation", labelling="multiclass"), recipe="reader")
    task = SimpleNamespace(meta=Meta(classes=CLASSES))

    def __call__(self, pixels: Tensor) -> Any:
        assert len(pixels) == 3
        return SimpleNamespace(labels=pixels[0] // 10)


class Labelled:
    """Two label maps of 2 x 3 pixels; one pixel is unknown."""

    meta = Meta(classes=CLASSES)
    fields = ("a", "b")
    maps = torch.tensor([[[0, 0, 1], [2, 2, 255]], [[0, 0, 0], [0, 1, 1]]], dtype=torch.uint8)

    def __len__(self) -> int:
        return len(self.maps)

    def sample(self, index: int, fields: tuple[str, ...]) -> Sample:
        return Sample(str(index), {"a": LabelMap(self.maps[index], Frame.of((2, 3)))})


def painter(truth: Any) -> Any:
    return SimpleNamespace(fields=("a",), inputs=("a",), truth=lambda sample: truth, config=SimpleNamespace(kind="painter"))


def painted(labels: Tensor) -> ImagePrediction:
    picture = (10 * labels)[None].expand(3, -1, -1).clone()
    return ImagePrediction(picture, picture)


def judge(reader: Any = None, data: Any = None) -> FcnScore:
    return FcnScore(reader or Reader(), painter(painted(Labelled.maps[0])), data or Labelled())  # type: ignore[arg-type]


# What a segmenter reads


def test_the_fcn_score_by_hand() -> None:
    """Of 11 known pixels 8 are right; of 6, 3 and 2 pixels of the classes 5, 1 and 2; the unknown pixel has no vote."""
    data, one = Labelled(), judge()
    metrics = one.metrics()
    answers = torch.tensor([[[0, 1, 1], [2, 2, 0]], [[0, 0, 0], [0, 0, 2]]], dtype=torch.uint8)
    for index, answer in enumerate(answers):
        one.score(metrics, painted(answer), data.sample(index, ("a",)))
    found = metrics.compute()
    assert found["pixel_accuracy"] == pytest.approx(8 / 11, abs=2e-7)
    assert found["mean_accuracy_present"] == pytest.approx((5 / 6 + 1 / 3 + 1) / 3, abs=2e-7)
    assert found["miou_present"] == pytest.approx((5 / 7 + 1 / 4 + 2 / 3) / 3, abs=1e-12)


def test_a_label_map_painted_as_itself_is_read_without_error() -> None:
    data, one = Labelled(), judge()
    metrics = one.metrics()
    for index in range(2):
        truth = data.sample(index, ("a",))
        one.score(metrics, painted(data.maps[index].clamp(max=2)), truth)
    found = metrics.compute()
    assert (found["pixel_accuracy"], found["mean_accuracy_present"], found["miou_present"]) == (1, 1, 1)


def test_sixteen_bits_are_read_as_eight() -> None:
    one = judge()
    picture = torch.arange(30, dtype=torch.uint8).expand(3, 5, 30)
    assert torch.equal(one.read((picture.int() * 257).to(torch.uint16)), one.read(picture))


@pytest.mark.parametrize(("channels", "refused"), [(1, False), (2, True), (3, False), (5, True)])
def test_pictures_are_coloured_or_grey(channels: int, refused: bool) -> None:
    picture = torch.full((channels, 2, 3), 10, dtype=torch.uint8)
    task: Any = painter(ImagePrediction(picture, picture))
    data: Any = Labelled()
    if refused:
        with pytest.raises(UsageError, match=f"the pictures have {channels} channels$") as sets:
            PictureSets(["statistics"], task, data)
        with pytest.raises(UsageError, match=f"{channels} channels, and the segmenter sees 3") as score:
            FcnScore(Reader(), task, data)  # type: ignore[arg-type]
        assert sets.value.hint and score.value.hint
        return
    coloured = picture.expand(3, -1, -1)
    (see,) = PictureSets(["statistics"], task, data).see.values()
    assert torch.equal(see(picture), see(coloured)) and small(picture).mean() == small(coloured).mean()
    assert FcnScore(Reader(), task, data).read(picture).tolist() == [[1, 1, 1], [1, 1, 1]]  # type: ignore[arg-type]


def test_a_segmenter_that_does_not_fit_is_refused() -> None:
    other = Reader()
    other.task = SimpleNamespace(meta=Meta(classes=("wall", "sky", "door")))
    with pytest.raises(UsageError, match=r"classes are wall, sky, door; those of the data wall, door, sky"):
        judge(other)
    for own, what in (
        (SimpleNamespace(kind="depth"), "the segmenter's task is depth"),
        (SimpleNamespace(kind="segmentation", labelling="multilabel"), "the segmenter's masks overlap"),
    ):
        other = Reader()
        other.description = SimpleNamespace(task=own, recipe="x")
        with pytest.raises(UsageError, match=what):
            judge(other)


def test_where_nothing_says_the_class_there_is_no_score() -> None:
    data = Labelled()
    image = painted(Labelled.maps[0]).image

    def sample(index: int, fields: tuple[str, ...]) -> Sample:
        from pixelwise.data.sample import Image

        return Sample("x", {name: Image(image, Frame.of((2, 3))) for name in fields})

    data.sample = sample  # type: ignore[method-assign]
    data.fields = ("a", "labels")
    with pytest.raises(UsageError, match="no FCN-score: none of 'a' is a label map"):
        judge(data=data)


def test_labels_belong_to_the_image_of_the_data() -> None:
    """The world's street has labels, which are those of `image`, not of the town in `aerial` and `map`."""
    world = opened("segmentation").val
    reader = Reader()
    reader.task = SimpleNamespace(meta=world.meta)
    for fields, inputs in ((("edges", "image"), ("edges",)), (("image",), ("image",))):
        task = painter(painted(Labelled.maps[0]))
        task.fields, task.inputs = fields, inputs
        assert FcnScore(reader, task, world).truth == "labels"  # type: ignore[arg-type]
    task.fields, task.inputs = ("aerial", "map"), ("aerial",)
    with pytest.raises(UsageError, match="none of 'aerial' is a label map"):
        FcnScore(reader, task, world)  # type: ignore[arg-type]


# Sets


def flat(value: int) -> Tensor:
    return torch.full((3, 8, 8), value, dtype=torch.uint8)


def flattened(pairs: Iterable[Any]) -> SetMetrics:
    def see(picture: Tensor) -> Tensor:
        return picture.flatten().float() / 255

    metrics = SetMetrics({"flat": see})
    for ours, real in pairs:
        metrics.update(ours, {"flat": see(real)})
    return metrics


def test_diversity_is_the_mean_over_pairs() -> None:
    """0, 51 and 255 differ by 0.2, 0.8 and 1."""
    metrics = SetMetrics({})
    for value in (0, 51, 255):
        metrics.update(flat(value), {})
    assert metrics.compute() == pytest.approx({"diversity_l1@32": 2 / 3}, abs=1e-6)
    assert small(flat(51)).shape == (3, 32, 32) and difference([small(flat(7))] * 3) == 0


def test_the_distance_is_that_of_random_halves() -> None:
    draw = torch.Generator().manual_seed(0)
    ours, real = (torch.randint(0, 256, (12, 3, 4, 4), generator=draw, dtype=torch.uint8) for _ in range(2))
    metrics = flattened(zip(ours, real // 2, strict=True))
    found = metrics.compute()
    value, error = found["kid@flat,100x6"], found["kid_std@flat,100x6"]
    whole = discrepancy(ours.flatten(1) / 255, (real // 2).flatten(1) / 255)
    assert whole > 0 and 0 < error < value and abs(value - whole) < 4 * error / 10, "the mean of 100 halves"


def test_two_draws_from_one_set_are_not_told_apart() -> None:
    draw = torch.Generator().manual_seed(1)
    metrics = flattened(torch.randint(0, 256, (16, 2, 3, 4, 4), generator=draw, dtype=torch.uint8))
    (note,) = too_few(metrics.compute(), 16)
    assert note.startswith("kid@flat,100x8: 16 pictures are too few to tell ")
    assert list(too_few({"kid@f,100x8": 1.0, "kid_std@f,100x8": 0.4}, 16)) == []


def test_sixteen_bits_are_the_same_set_as_eight() -> None:
    """v of 255 is 257 v of 65535."""
    see = {"random": RandomEmbedding(size=(32, 32)).of, "statistics": StatisticsEmbedding((32, 32)).of}
    pictures = torch.randint(0, 256, (2, 5, 3, 20, 24), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    found = []
    for kind in (pictures, (pictures.int() * 257).to(torch.uint16)):
        metrics = SetMetrics(see)
        for ours, real in zip(*kind, strict=True):
            metrics.update(ours, {name: features(real) for name, features in see.items()})
        found.append(metrics.compute())
    assert found[0] == found[1] and len(found[0]) == 5


def test_three_pictures_have_no_distance() -> None:
    found = flattened((flat(value), flat(value)) for value in (0, 1, 2)).compute()
    assert list(found) == ["diversity_l1@32"]
    assert list(too_few(found, 3)) == ["no kernel distance: 3 pictures are too few, it takes 4"]
    protocol = {"split": "val", "samples": 3, "of": 3, "pixels": "each image's own", "baselines_fitted_on": 3}
    result = {"metrics": found, "primary": "kid@flat,100x1", "minimised": True, "protocol": protocol}
    assert "decides" not in protocol_line(result)
    assert "x decides, lower" in protocol_line(result | {"metrics": {"x": 1.0}, "primary": "x"})


def test_real_pictures_are_embedded_once(finished: Finished) -> None:
    model, train, data = open_run(finished("translation"), "val")
    judge, seen = PictureSets(["statistics"], model.task, data, 3), list[Tensor]()
    ((name, see),) = judge.see.items()

    def counted(picture: Tensor) -> Tensor:
        seen.append(picture)
        return see(picture)

    judge.see = {name: counted}
    rows = judge.scores(model, train, data, "val", 3)
    assert len(seen) == 3 * (2 + len(rows["baselines"])), "ours and each beside it, and the real ones once"
    assert rows == judge.scores(model, train, data, "val", 3) and rows["notes"]


def test_answers_that_are_no_pictures_are_no_set() -> None:
    data = opened("segmentation")
    with pytest.raises(UsageError, match="the answers of segmentation are no pictures"):
        PictureSets(["statistics"], data.task, data.val)


def test_dropout_is_the_noise_and_is_off_again_afterwards() -> None:
    data = opened("translation")
    recipe = small_recipe("translation").override(["network.dropout_stages=[1]"])
    torch.manual_seed(0)
    model = Model(describe(recipe, data), data.task, data.task.networks(recipe.network))
    sample = data.val.sample(0, data.task.fields)
    before = model.predict([sample])[0].pixels  # type: ignore[attr-defined]
    first, second = noise_diversity(model, data.val), noise_diversity(model, data.val)
    assert 0 < first == second, "the noise has a seed"
    assert torch.equal(model.predict([sample])[0].pixels, before)  # type: ignore[attr-defined]


# The command line


def test_evaluate_scores_pictures_by_a_run_of_ours(capsys: Capture, finished: Finished, tmp_path: Path) -> None:
    """Labels to pictures of the world: each row has its score, real pictures too."""
    recipe = small_recipe("translation").override(["task.source=labels", "task.target=image"])
    runs = [str(tmp_path / "run"), str(finished("segmentation"))]
    proceed(start(recipe, tmp_path / "run"))
    capsys.readouterr()
    assert main(["evaluate", runs[0], f"segmenter={runs[1]}", "features=statistics", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    score, sets = found["fcn_score"], found["sets"]
    rows = ["real pictures", *found["baselines"]]
    assert list(score["baselines"]) == rows and score["primary"] == "miou_present"
    assert all(0 <= row["pixel_accuracy"] <= 1 for row in (score["metrics"], *score["baselines"].values()))
    assert score["segmenter"] == load(runs[1]).description.recipe
    assert list(sets["baselines"]) == ["real, of training", *found["baselines"]]
    assert sets["baselines"]["constant"]["diversity_l1@32"] == 0 < sets["baselines"]["identity"]["diversity_l1@32"]
    text = as_text("fcn_score", score) + as_text("sets", sets | {"notes": ["few"]})
    assert f"FCN-score by {score['segmenter']}:" in text and "as sets of pictures:" in text and "note: few" in text
