"""Every experiment runs in a tiny form and becomes a page; the frame tells findings as they are; the parts by hand."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_report import Reader
from test_tasks import small

from pixelwise import laboratory, pointing
from pixelwise.cli import main
from pixelwise.color.heat import STOPS, heat
from pixelwise.config import kinds, settings
from pixelwise.errors import UsageError
from pixelwise.experiments import (
    gabor,
    perceptual,
    receptive_field,
    receptive_field_pose,
    regression_vs_belief,
    upsampling,
    vector_to_image,
)
from pixelwise.laboratory import CHAPTERS, PACKAGE, Finding, Tally, experiments, index_page, perform, spread, verdict
from pixelwise.nn.convolutionalize import to_fully_convolutional
from pixelwise.nn.cost import Cost
from pixelwise.nn.networks import classifier
from pixelwise.run import Data, proceed, start
from pixelwise.seeds import torch_generator
from pixelwise.training import Optimizer, Schedule
from pixelwise.trial import descend, train

Capture = pytest.CaptureFixture[str]
Performed = Callable[[str], tuple[dict[str, Any], str]]

SMALL = {
    "receptive-field": ["depths=1,3", "effective=2,4", "samples=2", "width=4", "steps=2", "networks=patchgan"],
    "receptive-field-pose": ["scenes=8", "size=32", "width=4", "dilations=1,4", "kernels=1,5", "steps=2", "repeats=1"],
    "memory": ["size=32", "batch=2", "channels=8", "layers=6", "width=4", "depth=2", "sides=32,64", "measured=32"],
    "gabor": ["size=32", "width=4", "depths=1,2"],
    "upsampling": ["scenes=8", "size=32", "width=4", "steps=2", "repeats=1"],
    "skips": ["scenes=8", "size=32", "width=4", "steps=2", "repeats=1"],
    "bottleneck": ["scenes=8", "size=32", "width=2", "steps=2", "repeats=1", "codes=8,32", "depths=5,4"],
    "vector-to-image": ["scenes=16", "size=48", "channels=4,4,4", "steps=2", "repeats=1"],
    "perceptual": ["scenes=8", "size=64", "width=4", "blocks=1", "look=4", "minutes=0.002", "repeats=1"],
    "colour-l2-vs-classification": ["scenes=8", "size=32", "width=4", "steps=2", "repeats=1", "temperatures=1,0.1"],
    "gan-objectives": ["scenes=8", "size=32", "width=4", "minutes=0.001"],
    "patch-size": ["scenes=8", "size=32", "width=4", "minutes=0.001", "layers=0,2"],
    "cycle": ["scenes=8", "size=32", "width=4", "minutes=0.001"],
    "regression-vs-belief": ["steps=2", "width=4", "tested=32", "repeats=1", "seconds=0.02", "scenes=8"],
}
NAMES = list(SMALL)


@pytest.fixture(scope="module")
def performed(tmp_path_factory: pytest.TempPathFactory) -> Performed:
    """Return the record and the page of an experiment in its tiny form."""
    folder = tmp_path_factory.mktemp("lab")

    @lru_cache
    def perform_one(name: str) -> tuple[dict[str, Any], str]:
        record = perform(name, SMALL[name], folder, lambda text: None)
        assert json.loads((folder / f"{name}.json").read_text()) == json.loads(json.dumps(record))
        return record, (folder / f"{name}.html").read_text()

    return perform_one


def assert_is_a_page(text: str) -> Reader:
    """Check that a page needs nothing but the pages and numbers beside it."""
    read = Reader(text)
    assert read.open == [] and "http:" not in text and "https:" not in text
    for tag, attributes in read.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "form"), tag
        assert (attributes.get("src") or "data:image/").startswith("data:image/")
        assert re.fullmatch(r"[\w-]+\.(html|json)", attributes.get("href") or "index.html")
    return read


# Every experiment


def test_every_file_is_an_experiment_that_is_tested_and_told() -> None:
    assert sorted(name.replace("-", "_") for name in experiments()) == list(kinds(PACKAGE))
    assert list(experiments()) == [name for _, names in CHAPTERS.values() for name in names]
    assert set(SMALL) == set(experiments())


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_states_question_claim_and_settings(name: str) -> None:
    experiment = experiments()[name]
    assert experiment.question.endswith("?") and "\n" not in experiment.question
    assert len(experiment.story.split("\n\n")) >= 2, "why it matters, then what is done"
    assert experiment.claim.endswith(".")
    found = {s.key: s.description for s in settings(experiment.settings())}
    assert found["seed"] and all(found.values())


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_becomes_a_page(performed: Performed, name: str) -> None:
    record, text = performed(name)
    read = assert_is_a_page(text)
    said = " ".join(read.text)
    for part in (record["question"], record["claim"], record["answer"], f"it {record['verdict']}."):
        assert part in said
    assert record["command"] == " ".join(["pixelwise lab", name, *SMALL[name]]) in said
    assert f"{name.replace('-', '_')}.py" in said and "What follows" in said
    assert "nan" not in said.lower().split() and "NaN" not in json.dumps(record)
    charts = [attributes["aria-label"] for tag, attributes in read.tags if tag == "svg"]
    assert charts and len(set(charts)) == len(charts)
    assert name == "memory" or any(tag == "img" for tag, _ in read.tags)
    assert len(text) < 1_500_000


def test_the_index_tells_what_was_found_and_what_was_not_measured(performed: Performed, tmp_path: Path) -> None:
    record, page = performed("gabor")
    for name, text in (("gabor.json", json.dumps(record)), ("gabor.html", page)):
        (tmp_path / name).write_text(text)
    text = index_page(tmp_path)
    read = assert_is_a_page(text)
    said = " ".join(read.text)
    assert all(chapter in said for chapter in CHAPTERS) and "Further experiments" not in said
    assert all(experiment.question in said and experiment.claim in said for experiment in experiments().values())
    assert record["answer"] in said and said.count("Not measured here yet") == len(experiments()) - 1
    assert text.count("<svg") == 1, "the first figure of the page that is there"
    assert {a["href"] for tag, a in read.tags if tag == "a"} == {"gabor.html"}


# The frame

HOSTILE = '"><script>alert(1)</script>&amp;'


def fake(name: str, finding: Finding) -> laboratory.Experiment:
    story = f"Why {HOSTILE}.\n\nHow `code`."
    run = lambda settings, say: finding  # noqa: E731
    return laboratory.Experiment(name, f"Is {HOSTILE}?", story, f"Yes {HOSTILE}.", gabor.Settings, run, Path("x.py"))


def test_what_a_finding_says_stays_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finding = Finding("does not hold", f"No {HOSTILE}.", "<p>body</p>", {"x": 1.5})
    monkeypatch.setattr(laboratory, "experiments", lambda: {"new-one": fake("new-one", finding)})
    said: list[str] = []
    before = torch.random.get_rng_state()
    record = perform("new-one", ["size=40"], tmp_path, said.append)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert (record["verdict"], record["data"], record["settings"]["size"]) == ("does not hold", {"x": 1.5}, 40)
    assert "The claim does not hold. No " in said[-1]
    for name in ("new-one.html", "index.html"):
        read = assert_is_a_page((tmp_path / name).read_text())
        assert sum(HOSTILE in text for text in read.text) >= 3
    assert "Further experiments" in (tmp_path / "index.html").read_text()
    assert "<code>code</code>" in (tmp_path / "new-one.html").read_text()
    with pytest.raises(UsageError, match="unknown setting 'sise'"):
        perform("new-one", ["sise=40"], tmp_path, said.append)


def test_verdict_spread_and_tally_by_hand() -> None:
    assert [verdict(parts) for parts in ([True, True], [True, False], [False, False])] == [
        "holds",
        "holds in part",
        "does not hold",
    ]
    assert spread([0.5]) == "0.500" and spread([1, 2, 6], 1) == "3.0 (1.0 to 6.0)"
    tally = Tally()
    for value in (1.0, 2.0):
        tally.add("a", {"score": value, "time": 10 * value})
    assert tally == {"score": {"a": [1.0, 2.0]}, "time": {"a": [10.0, 20.0]}}
    cells = re.findall(r"<t[hd]>(.*?)</t[hd]>", tally.table(1))
    assert cells == ["", "score", "time", "a", "1.5 (1.0 to 2.0)", "15.0 (10.0 to 20.0)"]


# The shortest training


def test_descent_by_hand() -> None:
    """The loss x^2 / 2 from 1 by plain gradient descent of rate 0.5, halved by a linear schedule over 2 steps: 1, 1/2, 3/8."""
    weight = torch.nn.Parameter(torch.tensor(1.0))
    rate = Optimizer(kind="sgd", lr=0.5, momentum=0)
    descent = descend(lambda step: weight.square() / 2, [weight], rate, Schedule(kind="linear"), 2)
    assert descent.losses == [0.5, 0.125] and weight.item() == 0.375
    assert descent.seconds > 0


def test_descent_for_a_time() -> None:
    weight = torch.nn.Parameter(torch.tensor(1.0))
    descent = descend(lambda step: weight.square(), [weight], Optimizer(), Schedule(kind="cosine"), 10**9, minutes=0.001)
    assert descent.seconds >= 0.06 and 1 < len(descent.losses) < 10**6


@pytest.mark.parametrize(
    ("kind", "last"),
    [("segmentation", []), ("translation", []), ("translation", ["task.order=simultaneous"])],
    ids=["one phase", "two phases", "two at once"],
)
def test_a_trial_is_the_engine_s_training(kind: str, last: list[str], tmp_path: Path) -> None:
    """The same losses of the last phase, step by step, as the whole engine gives for the same recipe."""
    recipe = small(kind).override(["steps=3", "evaluate_every=3", *last])
    _, descent = train(recipe, Data.of(recipe))
    proceed(start(recipe, tmp_path / "run"))
    events = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [event["losses"] for event in events if "losses" in event]
    logged = [sum(value for name, value in step.items() if name != "discriminator") for step in losses]
    assert descent.losses == pytest.approx(logged, rel=1e-5) and len(logged) == 3


# Parts of the experiments, by hand


def test_the_checkerboard_s_power_is_its_amplitude_squared() -> None:
    x = torch.arange(100.0)
    signal = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    variance = float(signal.var((2, 3)).mean())
    for pattern in ((-1) ** x, (-1) ** x[:, None], (-1) ** (x + x[:, None])):
        board = 5 + 0.3 * pattern.expand(1, 2, 100, 100)
        assert upsampling.checkerboard(board, signal) == pytest.approx(0.09 / variance, rel=1e-3)
    slow = torch.sin(2 * math.pi * x / 25).expand(1, 1, 100, 100)
    assert upsampling.checkerboard(slow, signal) < 1e-6
    every_fourth = torch.sin(2 * math.pi * x / 4).expand(1, 1, 100, 100)
    assert upsampling.checkerboard(every_fourth, signal) < 1e-6


def test_bars_and_where_an_answer_lies() -> None:
    bars = regression_vs_belief.draw(2000, 32, torch_generator(0, "test"))
    first = (bars.point == bars.ends[:, 0]).all(1)
    assert (first | (bars.point == bars.ends[:, 1]).all(1)).all()
    assert bars.image.shape == (2000, 3, 32, 32) and bars.image.min() >= 0 and bars.image.max() <= 1
    assert bars.ends.min() >= 3 and bars.ends.max() <= 29, "the dot of radius 3 stays inside"
    torch.testing.assert_close((bars.ends[:, 0] - bars.ends[:, 1]).norm(dim=1), torch.full((2000,), 16.0))
    for low in (0.0, 0.4, 0.8):
        chosen = (bars.chance >= low) & (bars.chance < low + 0.2)
        assert float(first[chosen].float().mean()) == pytest.approx(low + 0.1, abs=0.06)
    x, y = bars.ends[0, 0].floor().long().tolist()
    assert bars.image[0, :, y, x].min() > 0.85, "the marked end is white"
    middle = bars.ends.mean(1)
    torch.testing.assert_close(regression_vs_belief.along(middle, bars), torch.full((2000,), 0.5))
    torch.testing.assert_close(regression_vs_belief.along(bars.ends[:, 0], bars), torch.ones(2000))
    measured = regression_vs_belief.measured
    codec = regression_vs_belief.CODECS["coordinates, L2"]
    assert measured(codec, (middle / 32).flatten(1)[:, :, None, None], bars) == {
        "pixels to the nearest possible place": pytest.approx(8, abs=1e-4),
        "answers within 3 px of a possible place": 0.0,
        "root mean squared error, px": pytest.approx(8, abs=1e-4),
    }


def test_the_share_of_belief_is_read_from_the_peaks() -> None:
    bars = regression_vs_belief.draw(4, 32, torch_generator(1, "test"))
    codec = regression_vs_belief.CODECS["belief map, log loss"]
    seen = torch.full((4, 1, 1), 3, dtype=torch.uint8)
    one, other = (codec.encode(bars.ends[:, end][:, None, None], seen, (32, 32))["heatmaps"] for end in (0, 1))
    belief = (0.7 * one + 0.3 * other).clamp(min=1e-12).log()
    share = regression_vs_belief.share_of_belief(belief, bars)
    torch.testing.assert_close(share, torch.full((4,), 0.7), atol=0.02, rtol=0)


def test_errors_of_points_by_hand() -> None:
    """Five points: 1, 2, 3, 4 and 90 px off, in boxes of 100; the mean is carried by the last, the median is not."""
    pixels = torch.tensor([3.0, 1.0, 90.0, 4.0, 2.0])
    errors = torch.stack([pixels, pixels / 100], -1)
    assert pointing.summary(errors) == {
        "median error, px": 3.0,
        "mean error, px": 20.0,
        "median error / box": pytest.approx(0.03),
        "within 0.05 of the box": pytest.approx(0.8),
        "within 0.1 of the box": pytest.approx(0.8),
    }
    curve = pointing.cumulative(errors, 6)
    assert [x for x, _ in curve] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2, 0.25])
    assert [y for _, y in curve] == pytest.approx([0, 0.8, 0.8, 0.8, 0.8, 0.8])


def test_distances_are_in_the_pictures_own_pixels() -> None:
    """An answer 3 to the right and 4 below the truth is 5 px off, of every labelled point."""
    recipe = small("keypoints")
    data = Data.of(recipe)

    def shifted(samples: Any) -> Any:
        truths = [data.task.truth(sample) for sample in samples]
        return [replace(truth, points=truth.points + torch.tensor([3.0, 4.0])) for truth in truths]

    found = pointing.distances(data, shifted)
    assert len(found) > 10
    torch.testing.assert_close(found[:, 0], torch.full((len(found),), 5.0))
    sample = data.val.sample(0, data.task.fields)
    field: Any = sample["person"]
    seen = field.points[0][field.presence[0] >= 2]
    side = float((seen.amax(0) - seen.amin(0)).max())
    assert found[0, 1].item() == pytest.approx(5 / side, rel=1e-5)


def test_the_belief_of_columns_and_rows_is_their_product() -> None:
    codec = regression_vs_belief.CODECS["column and row"]
    outputs = torch.zeros(128, 1, 1)
    outputs[20], outputs[64 + 7] = 9.0, 9.0
    belief = regression_vs_belief.belief_of(codec, outputs)
    assert belief is not None and belief.shape == (32, 32)
    points = torch.tensor([[[[10.5, 3.5]]]])
    targets: Any = codec.encode(points, torch.full((1, 1, 1), 3, dtype=torch.uint8), (32, 32))
    sharp = torch.cat([targets["across"], targets["down"]], -1).log().view(-1, 1, 1)
    belief = regression_vs_belief.belief_of(codec, sharp)
    assert belief is not None and divmod(int(belief.argmax()), 32) == (3, 10)


def test_the_curve_is_a_mean_over_equal_steps() -> None:
    values, chance = torch.tensor([1.0, 3.0, 10.0]), torch.tensor([0.1, 0.2, 1.0])
    assert regression_vs_belief.curve(values, chance, 2) == [(0.25, 2.0), (0.75, 10.0)]


def test_stitched_maps_are_the_windows_scores() -> None:
    """The score at a pixel is that of the classifier on the window around it, cut out of the mirrored picture."""
    torch.manual_seed(0)
    network = classifier.Config(channels=(4, 4), padding="none").build(3, 2).eval()
    dense = to_fully_convolutional(network, network.least)
    images = torch.rand(2, 3, 17, 17)
    maps = vector_to_image.stitched(dense, images)
    window = network.least
    padded = torch.nn.functional.pad(images, (window // 2,) * 4, mode="reflect")
    assert maps.shape == (2, 2, 17, 17)
    for y, x in ((0, 0), (3, 8), (16, 16), (5, 12)):
        cut = padded[..., y : y + window, x : x + window]
        torch.testing.assert_close(maps[..., y, x], network(cut)[..., 0, 0], atol=1e-5, rtol=1e-5)


def test_localisation_by_hand() -> None:
    """A road of two of four pixels: the best score is on it in one of two scenes; ranks 1, 3 and 1, 2 of the road."""
    labels = torch.tensor([[[2, 2], [0, 0]], [[2, 2], [0, 0]], [[0, 0], [0, 0]]])
    scores = torch.zeros(3, len(vector_to_image.SHOWS), 2, 2)
    scores[0, 0] = torch.tensor([[4.0, 3.0], [2.0, 1.0]])
    scores[1, 0] = torch.tensor([[3.0, 1.0], [4.0, 0.0]])
    found = vector_to_image.localised(scores, labels)
    assert set(found) == {"road"}
    assert found["road"] == {"pointing game": 0.5, "average precision": pytest.approx((1 + (1 / 2 + 2 / 3) / 2) / 2)}


def test_the_effective_width_of_a_box() -> None:
    """Twelve equal pixels in a row have the variance (12^2 - 1) / 12; one pixel has none."""
    power = torch.zeros(20, 20)
    power[7, 4:16] = 2.0
    assert receptive_field.width_of(power) == pytest.approx(4 * math.sqrt(143 / 12) / 2)
    assert receptive_field.slope([(1.0, 3.0), (4.0, 6.0), (16.0, 12.0)]) == pytest.approx(0.5)


def test_squared_gradient_of_a_known_filter() -> None:
    network = torch.nn.Conv2d(1, 1, 3, padding=1, bias=False)
    with torch.no_grad():
        network.weight.copy_(torch.arange(9.0).view(1, 1, 3, 3))
    power = receptive_field.squared_gradient(network, torch.zeros(1, 5, 5))
    assert torch.equal(power[1:4, 1:4], torch.arange(9.0).view(3, 3).square()) and power.sum() == 204


def test_gabor_filters_have_no_mean_and_all_differ() -> None:
    bank = gabor.gabor_bank(16)
    assert bank.shape == (16, 3, 3, 3) and bank.sum((2, 3)).abs().max() < 1e-6
    flat = torch.nn.functional.normalize(bank[:, 0].flatten(1), dim=1)
    assert ((flat @ flat.T) - torch.eye(16)).max() < 0.999


def test_heat_goes_from_dark_to_bright() -> None:
    picture = heat(torch.tensor([[0.0, 0.2, 0.5], [1.0, 0.5, 2.0]]), high=1.0)
    assert picture.dtype == torch.uint8 and picture.shape == (3, 2, 3)
    assert tuple(picture[:, 0, 0].tolist()) == STOPS[0] and tuple(picture[:, 0, 1].tolist()) == STOPS[1]
    assert tuple(picture[:, 1, 0].tolist()) == STOPS[-1] == tuple(picture[:, 1, 2].tolist())
    between = np.mean([STOPS[2], STOPS[3]], 0)
    np.testing.assert_allclose(picture[:, 0, 2].numpy(), between, atol=0.51)
    ramp = heat(torch.linspace(0, 1, 50)[None])[:, 0].float()
    assert ((ramp * torch.tensor([0.2, 0.7, 0.1])[:, None]).sum(0).diff() > 0).all()
    assert torch.isfinite(heat(torch.zeros(2, 2)).float()).all()


# The command line


def test_lab_lists_the_experiments(capsys: Capture) -> None:
    assert main(["lab"]) == 0
    said = capsys.readouterr().out
    for name, experiment in experiments().items():
        assert f"{name}\n  {experiment.question}\n  Claim: {experiment.claim}" in said
    assert "pixelwise lab all" in said
    assert main(["lab", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["experiments"]
    assert [one["name"] for one in listed] == list(experiments())
    assert all(one.keys() == {"name", "question", "claim"} for one in listed)


def test_lab_runs_one(capsys: Capture, tmp_path: Path) -> None:
    words = ["lab", "gabor", *SMALL["gabor"], f"out={tmp_path / 'lab'}"]
    assert main(words) == 0
    assert "Claim: " in (said := capsys.readouterr().out) and f"Saved  {tmp_path / 'lab'}/" in said
    assert {path.name for path in (tmp_path / "lab").iterdir()} == {"gabor.html", "gabor.json", "index.html"}
    assert main([*words, "--json"]) == 0
    printed = capsys.readouterr()
    (record,) = json.loads(printed.out)["experiments"]
    assert record["experiment"] == "gabor" and record["data"]["gains"].keys() == {"1", "2"}
    assert "Claim: " in printed.err


def test_lab_all_gives_each_experiment_its_own_settings(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(laboratory, "perform", lambda name, pairs, out, say: taken.append((name, pairs)) or {"name": name})
    assert main(["lab", "all", "seed=3", "imm=FACES", "camvid=CITY", f"out={tmp_path}"]) == 0
    assert [name for name, _ in taken] == list(experiments())
    own = dict(taken)
    assert own["skips"] == ["seed=3", "camvid=CITY"] and own["regression-vs-belief"] == ["seed=3", "imm=FACES"]
    assert own["gabor"] == ["seed=3"]


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["gabr"], "no experiment 'gabr'", "did you mean 'gabor'?"),
        (["gabor", "sise=3"], "unknown setting 'sise'", "did you mean 'size'?"),
        (["gabor", "size=3"], "size = '3': should be at least 32", "see: pixelwise describe gabor"),
        (["gabor", "out="], "out = '': should be a name", "for example out=NAME"),
        (["all", "imn=x"], "no experiment has a setting 'imn'", "did you mean 'imm'?"),
        (["all", "size=3"], "size = '3': should be at least 32", "see: pixelwise describe receptive-field-pose"),
    ],
)
def test_lab_usage_errors(capsys: Capture, words: list[str], message: str, hint: str) -> None:
    assert main(["lab", *words]) == 2
    err = capsys.readouterr().err.splitlines()
    assert err[0] == f"error: {message}" and err[1].startswith(f"hint: {hint}")


def test_describe_an_experiment(capsys: Capture) -> None:
    assert main(["describe", "skips"]) == 0
    said = capsys.readouterr().out
    assert "skips (experiment)" in said and experiments()["skips"].story in said
    for setting in settings(experiments()["skips"].settings()):
        assert re.search(rf"^  {setting.key} +{re.escape(json.dumps(setting.default))}  ", said, re.MULTILINE)


def test_a_missing_folder_of_faces_is_a_clear_error(capsys: Capture, tmp_path: Path) -> None:
    words = ["lab", "skips", *SMALL["skips"], "camvid=nowhere", f"out={tmp_path}"]
    assert main(words) == 1
    assert capsys.readouterr().err.startswith("error: no such folder: nowhere")


# Receptive field and pose


def test_networks_that_look_further_apart_cost_the_same() -> None:
    tried = [*receptive_field_pose.forms(receptive_field_pose.Settings())]
    apart = [form for form in tried if form.series == receptive_field_pose.APART]
    # 3x3 on the picture, halved, twice 3x3, 1x1 and 3x3: 3 + 1 + 3 * 2 * 2 = 16; three 3x3, each 2 * 2 * dilation more
    assert [form.field for form in apart] == [16 + 12 * dilation for dilation in (1, 2, 4, 8)]
    assert len({form.cost.parameters for form in apart}) == len({form.cost.multiply_accumulates for form in apart}) == 1
    larger = [form for form in tried if form.series == receptive_field_pose.LARGER]
    assert [form.field for form in larger] == [16 + 6 * (kernel - 1) for kernel in (1, 5, 7)]
    assert all(abs(form.cost.parameters / apart[0].cost.parameters - 1) < 0.1 for form in larger)


@pytest.mark.parametrize(
    ("wide", "widest", "holds"),
    [([0.6, 0.7], [0.65, 0.7], [True, True]), ([0.4, 0.4], [0.6, 0.7], [True, False]), ([0.3, 0.4], [0.2, 0.3], [False, True])],
)
def test_the_claim_about_poses_is_judged_as_it_is_stated(wide: list[float], widest: list[float], holds: list[bool]) -> None:
    """The widest better than the narrowest with every seed; less than half of the rise beyond twice the person, 20 pixels."""
    config = receptive_field_pose.cpm.Config()
    names = {28: [0.2, 0.3], 40: wide, 64: widest}
    tried = [
        receptive_field_pose.Form(receptive_field_pose.APART, str(field), config, field, Cost([], 0, 0, [])) for field in names
    ]
    tried += [form._replace(series=receptive_field_pose.LARGER) for form in tried]
    tally = Tally({receptive_field_pose.PCK: {str(field): values for field, values in names.items()}})
    ground = receptive_field_pose.Ground("paper", small("keypoints"), None, 20.0)  # type: ignore[arg-type]
    said, found = receptive_field_pose.judged(tried, ground, tally)
    assert found == [*holds, holds[0]] and "0.250 (0.200 to 0.300) with 28 pixels" in said


# Pixels against features


def test_gradients_in_their_place_by_hand() -> None:
    """One step of 255 grey values between the middle columns; a step of half that, and one in another place, found again."""

    def step(column: int, value: int) -> torch.Tensor:
        image = torch.zeros(3, 1, 4, dtype=torch.uint8)
        image[..., column:] = value
        return image.expand(3, 2, 4)

    luma_range = 219 / 255
    energy = luma_range**2 / 3  # one of three differences across, none down
    assert perceptual.gradients(step(2, 255), step(2, 255)) == pytest.approx((energy, energy, energy))
    ours, theirs, both = perceptual.gradients(step(2, 51), step(2, 255))
    assert (ours / theirs, both / theirs) == pytest.approx((0.04, 0.2))
    assert perceptual.gradients(step(1, 255), step(2, 255)) == pytest.approx((energy, energy, 0.0))
