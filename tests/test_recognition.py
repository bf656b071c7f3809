"""What a classifier knows of recoloured pictures: against its own evaluation, and against one whose answers are known."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from pixelwise.cli import main
from pixelwise.data.sample import Category, Image, Sample
from pixelwise.errors import UsageError
from pixelwise.evaluation import REAL
from pixelwise.predictions.image import ImagePrediction
from pixelwise.predictions.vectors import CategoryPrediction
from pixelwise.recognition import Recognition
from pixelwise.run import open_run

Finished = Callable[[str], Path]


def test_real_pictures_score_as_the_classifier_does(finished: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    runs = str(finished("colorization")), str(finished("classification"))
    assert main(["evaluate", runs[0], f"classifier={runs[1]}", "limit=6", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert main(["evaluate", runs[1], "limit=6", "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)
    recognised = found["recognition"]
    assert recognised["baselines"][REAL] == alone["metrics"]
    assert recognised["primary"] == "accuracy" and recognised["protocol"]["samples"] == 6
    assert list(recognised["baselines"]) == [REAL, "grey", "constant", "random", "nearest_neighbour"]
    assert found["primary"] == "auc_rebalanced"
    assert main(["evaluate", runs[0], f"classifier={runs[1]}", "limit=2"]) == 0
    assert "world_classification recognises" in capsys.readouterr().out


def test_the_answers_are_what_is_classified(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that says 0 of grey pictures and 2 of coloured ones is right as often as these are the truth."""
    model, train, data = open_run(finished("colorization"), "val")
    judge = Recognition(finished("classification"), model.task)
    (field_name,) = (name for name in judge.fields if name != "image")
    names = judge.classifier.task.meta.vectors[field_name].names

    def seen(samples: Sequence[Sample]) -> list[Any]:
        answers = []
        for sample in samples:
            field = sample["image"]
            assert isinstance(field, Image)
            coloured = bool(field.pixels.float().std(0).max() > 2)
            answers.append(CategoryPrediction(field.pixels, torch.eye(len(names))[2 * coloured], names))
        return answers

    monkeypatch.setattr(judge.classifier, "predict", seen)
    found = judge.scores(model, train, data, "val")
    pictures = judge.recipe.data.open("val")
    truths = [pictures.sample(i, (field_name,))[field_name] for i in range(len(pictures))]
    known = [t.index for t in truths if isinstance(t, Category) and t.index >= 0]
    shares = [known.count(k) / len(known) for k in (0, 2)]
    assert shares[0] != shares[1]
    assert found["baselines"]["grey"]["accuracy"] == pytest.approx(shares[0])
    assert found["baselines"][REAL]["accuracy"] == pytest.approx(shares[1])
    assert found["metrics"]["accuracy"] == pytest.approx(shares[1])


def test_sixteen_bits_are_recognised_as_eight(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Recognition(finished("classification"), open_run(finished("colorization"), "val")[0].task)
    sample, predict, seen = judge.recipe.data.open("val").sample(0, judge.fields), judge.classifier.predict, list[Any]()

    def looked(samples: Sequence[Sample]) -> list[Any]:
        seen.append(samples[0]["image"].tensors()[""])
        return list(predict(samples))

    monkeypatch.setattr(judge.classifier, "predict", looked)
    pixels = sample["image"].tensors()[""]
    for kind in (pixels, (pixels.int() * 257).to(torch.uint16)):
        judge.score(judge.metrics(), ImagePrediction(kind, kind), sample)
    assert seen[1].dtype == torch.uint8 and torch.equal(*seen)


def test_mistakes(finished: Finished, tmp_path: Path) -> None:
    task, depth = open_run(finished("colorization"), "val")[0].task, open_run(finished("depth"), "val")[0].task
    with pytest.raises(UsageError, match="no run in"):
        Recognition(tmp_path, task)
    with pytest.raises(UsageError, match="is of colorization"):
        Recognition(finished("colorization"), task)
    with pytest.raises(UsageError, match="answers of depth are no other look"):
        Recognition(finished("classification"), depth)
