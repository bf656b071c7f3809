"""The gallery: a folder that needs nothing else, in the order of the error, in which no name becomes code."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PillowImage
from test_report import HOSTILE, Reader
from test_tasks import opened, untrained

from pixelwise.cli import main
from pixelwise.data.sample import Sample
from pixelwise.errors import UsageError
from pixelwise.gallery import LARGEST, SCRIPT, STYLE, THUMBNAIL, make

Capture = pytest.CaptureFixture[str]
Finished = Callable[[str], Path]


class Renamed:
    """A data set whose samples have a hostile name."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def sample(self, index: int, fields: tuple[str, ...]) -> Sample:
        return Sample(f"{HOSTILE}{index}", self.dataset.sample(index, fields).fields)


def read(folder: Path) -> Reader:
    """Return the page, after checking that all it names is in the folder, and that its one script is its own."""
    text = (folder / "index.html").read_text()
    found = Reader(text)
    assert found.open == [] and "http" not in SCRIPT + STYLE
    assert [attributes for tag, attributes in found.tags if tag == "script"] == [{}]
    for tag, attributes in found.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        assert not any(name.startswith("on") for name in attributes)
        place = attributes.get("src") or attributes.get("href")
        assert place is None or (folder / place).is_file()
    return found


def size_of(path: Path) -> tuple[int, int]:
    with PillowImage.open(path) as picture:
        return picture.size


@pytest.mark.parametrize(
    "kind", ["translation", "cycle_translation", "colorization", "super_resolution", "depth", "segmentation"]
)
def test_every_task_of_pictures_has_a_gallery(kind: str, tmp_path: Path) -> None:
    model, data = untrained(kind), opened(kind)
    found = make(model, data.val, "x", tmp_path / "out")
    records = json.loads((tmp_path / "out" / "gallery.json").read_text())["samples"]
    page = read(tmp_path / "out")
    assert found["samples"] == len(records) == len(data.val)
    sections = [attributes for tag, attributes in page.tags if tag == "section"]
    assert found["sorted_by"] == model.task.primary
    assert all(model.task.primary in json.loads(one["data-errors"] or "") for one in sections)
    assert [tag for tag, _ in page.tags].count("img") == 3 * len(records)


def test_the_page_begins_with_the_worst(tmp_path: Path) -> None:
    """Each error is what the task's metrics say of this sample alone; l1 is to be small."""
    model, data = untrained("translation"), opened("translation")
    make(model, data.val, "x", tmp_path / "out")
    sections = [attributes for tag, attributes in read(tmp_path / "out").tags if tag == "section"]
    shown = [json.loads(one["data-errors"] or "")["l1"] for one in sections]
    assert len(shown) > 1 and shown == sorted(shown, reverse=True)
    for one, value in zip(sections, shown, strict=True):
        sample = data.val.sample(int(one["data-number"] or 0) - 1, data.task.fields)
        ours, truth = model.predict([sample])[0], data.task.truth(sample)
        by_hand = (ours.pixels.double() - truth.pixels.double()).abs().mean() / 255  # type: ignore[attr-defined]
        assert value == pytest.approx(float(by_hand), abs=1e-12)
        written = tmp_path / "out" / "pictures" / f"{int(one['data-number'] or 0):04d}-output.png"
        with PillowImage.open(written) as picture:
            assert picture.tobytes() == ours.render().tobytes()


def test_names_stay_text(tmp_path: Path) -> None:
    make(untrained("translation"), Renamed(opened("translation").val), HOSTILE, tmp_path / "out", 1)  # type: ignore[arg-type]
    page = read(tmp_path / "out")
    assert f"{HOSTILE}0" in page.text and HOSTILE in page.text and html.escape(HOSTILE) not in page.text
    assert sorted(path.name for path in (tmp_path / "out" / "pictures").iterdir()) == [
        f"0001-{column}.png" for column in ("input", "output", "truth")
    ]


def test_large_pictures_are_made_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pixelwise import gallery

    pictures = tuple(PillowImage.new("RGB", (2500, side)) for side in (100, 5000, 2500))
    monkeypatch.setattr(gallery, "answered", lambda *_: gallery.Row(1, "x", pictures, {}))
    found = make(untrained("translation"), opened("translation").val, "x", tmp_path / "out", 1)
    assert found["sorted_by"] is None
    sizes = {path.name: size_of(path) for path in (tmp_path / "out" / "pictures").iterdir()}
    assert sizes == {"0001-input.jpg": (1024, 41), "0001-output.jpg": (512, 1024), "0001-truth.jpg": (1024, 1024)}
    small = [size_of(path) for path in (tmp_path / "out" / "thumbnails").iterdir()]
    assert len(small) == 3 and max(max(size) for size in small) == THUMBNAIL < LARGEST
    read(tmp_path / "out")


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(UsageError, match="exists already"):
        make(untrained("translation"), opened("translation").val, "x", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_verb(capsys: Capture, finished: Finished, tmp_path: Path) -> None:
    run, out = str(finished("segmentation")), str(tmp_path / "out")
    capsys.readouterr()
    assert main(["gallery", run, out, "limit=2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"out": out, "samples": 2, "of": 3, "sorted_by": "miou_present"}
    assert main(["gallery", run, out]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["gallery", run, str(tmp_path / "more"), "network.width=3"]) == 2
    assert "gallery cannot change 'network.width': the model is trained" in capsys.readouterr().err
    assert not (tmp_path / "more").exists()
