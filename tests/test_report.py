"""The report is one file that needs nothing else, tells the numbers, and lets no name in it become code."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from PIL import Image as PillowImage
from test_cli import Finished
from test_tasks import small

from pixelwise.page import COLOURS
from pixelwise.report import Report, page, sheet

HOSTILE = '"><script>alert(1)</script><img src="http://evil.example/x.png">&amp;\''
RESULT: dict[str, Any] = {
    "recipe": "x",
    "metrics": {"l1": 0.123456, "psnr_rgb": 21.5, "iou/wall": 0.5},
    "baselines": {"constant": {"l1": 0.2, "psnr_rgb": 14.25}, "identity": {"l1": 0.31415926}},
    "primary": "l1",
    "minimised": True,
    "protocol": {"split": "val", "samples": 3, "of": 7, "pixels": "each image's own", "baselines_fitted_on": 12},
    "seconds": 12.4,
}


class Reader(HTMLParser):
    """Gathers tags, their attributes and the text of a page, and checks that every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def report(events: list[dict[str, Any]] | None = None, **result: Any) -> Report:
    strip = [PillowImage.new("RGB", (8, 6), colour) for colour in ("red", "lime", "blue")]
    return Report(small("translation"), {**RESULT, **result}, [strip], events or [])


def assert_needs_nothing_else(text: str) -> Reader:
    read = Reader(text)
    assert read.open == []
    for tag, attributes in read.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "form", "a"), tag
        assert not any(name.startswith("on") or name in ("href", "xlink:href", "srcset") for name in attributes)
        if "src" in attributes:
            assert tag == "img" and (attributes["src"] or "").startswith("data:image/")
    style = "".join(re.findall(r"<style>(.*?)</style>", text, re.DOTALL))
    assert "url(" not in style and "@import" not in style
    return read


@pytest.mark.parametrize("kind", ["segmentation", "keypoints", "translation"])
def test_the_report_of_a_run_is_one_file_with_its_numbers(finished: Finished, kind: str) -> None:
    text = (finished(kind) / "report.html").read_text()
    read = assert_needs_nothing_else(text)
    assert "http:" not in text and "https:" not in text
    result = json.loads((finished(kind) / "evaluation.json").read_text())
    said = "\n".join(read.text)
    for metrics in (result["metrics"], *result["baselines"].values()):
        assert f"{metrics[result['primary']]:.4g}" in read.text
    assert {"ours", *result["baselines"], result["primary"], kind} <= set(re.findall(r"[\w@.]+", said))
    assert "3 of 3 samples of val" in said and '"scenes": 12' in said
    further = {"segmentation": 1, "keypoints": 2, "translation": 1}  # translation's: the same samples while training
    assert sum(tag == "img" for tag, _ in read.tags) == 3 * 3 + further.get(kind, 0)
    events = [json.loads(line) for line in (finished(kind) / "metrics.jsonl").read_text().splitlines()]
    losses = {f"loss {name}" for event in events for name in event.get("losses", {})}
    charts = [attributes["aria-label"] for tag, attributes in read.tags if tag == "svg"]
    assert losses <= set(charts) and result["primary"] in charts and len(set(charts)) == len(charts)
    assert 5_000 < len(text) < 500_000


def test_the_table_by_hand() -> None:
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", report().section())
    cells = [re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in rows]
    assert cells == [
        ["", "l1", "psnr_rgb"],
        ["ours", "0.1235", "21.5"],
        ["constant", "0.2", "14.25"],
        ["identity", "0.3142", "-"],
        ["", "iou"],
        ["wall", "0.5"],
    ]


def test_a_network_that_does_not_beat_a_baseline_is_said_not_to() -> None:
    verdict = "The network does not beat every trivial baseline."
    assert verdict not in report().section()
    assert verdict in report(metrics={"l1": 0.2}).section()
    assert verdict not in report(metrics={"l1": 0.32}, minimised=False).section()


def test_hostile_names_stay_text() -> None:
    """Names of classes, metrics, baselines, settings, splits and folders come from files that others wrote."""
    events = [{"step": step, "losses": {HOSTILE: 1.0 / step}, "metrics": {HOSTILE: 0.5}} for step in (1, 2)]
    pairs = ["data.kind=segmentation_folder", "data.root=x", f"data.classes={json.dumps([HOSTILE])}"]
    recipe = small("segmentation").override(pairs)
    hostile = replace(
        report(events, metrics={HOSTILE: 1.0}, baselines={HOSTILE: {HOSTILE: 2.0}}, primary=HOSTILE),
        recipe=recipe.model_copy(update={"name": HOSTILE}),
    )
    hostile.result["protocol"] = {**RESULT["protocol"], "split": HOSTILE}
    read = assert_needs_nothing_else(page(HOSTILE, [hostile]))
    assert sum(HOSTILE in text for text in read.text) >= 5
    assert sum(tag == "img" for tag, _ in read.tags) == 3


def test_curves_pass_over_what_was_not_finite() -> None:
    metrics = [{"step": s, "metrics": {"l1": v, "lost": None}} for s, v in ((10, 0.5), (20, None), (30, 0.25))]
    text = report(metrics).section()
    assert 'aria-label="l1"' in text and 'aria-label="lost"' not in text
    (points,) = re.findall(r'<polyline points="([^"]*)"', text)
    assert points == "192.0,28.0 464.0,200.0"  # x = 56 + 408 step / 30, y from 28 at the largest to 200 at the smallest
    assert ">30</text>" in text and text.count(COLOURS[sum(map(ord, "l1")) % len(COLOURS)]) == 3, "the line and its two points"


def test_a_long_curve_is_thinned_to_means() -> None:
    events = [{"step": s, "losses": {"l1": float(s % 2)}} for s in range(1, 1001)]
    (points,) = re.findall(r'<polyline points="([^"]*)"', report(events).section())
    assert len(points.split()) <= 250
    assert set(re.findall(r",([\d.]+)", points)) <= {f"{28 + 172 * (0.6 - v) / 0.2:.1f}" for v in (0.4, 0.6)}


def test_pictures_are_there_pixel_for_pixel() -> None:
    first = re.findall(r'src="data:image/png;base64,([^"]*)"', report().section())[0]
    with PillowImage.open(io.BytesIO(base64.b64decode(first))) as image:
        assert image.size == (8, 6) and image.convert("RGB").getpixel((3, 3)) == (255, 0, 0)


def test_the_sheet_of_strips() -> None:
    rows = [[PillowImage.new("RGB", (10, 20), "red"), PillowImage.new("L", (40, 20), 255)]]
    made = sheet(rows, height=40, gap=4)
    assert made.size == (4 + 20 + 4 + 80 + 4, 40 + 2 * 4)
    assert [made.getpixel((x, 20)) for x in (10, 50)] == [(255, 0, 0), (255, 255, 255)]


def test_pictures_beside_the_numbers_have_captions() -> None:
    shown = replace(report(), pictures={"what is <called> what": PillowImage.new("RGB", (600, 700), "white")})
    text = shown.section()
    assert "<figcaption>what is &lt;called&gt; what</figcaption>" in text
    with PillowImage.open(io.BytesIO(base64.b64decode(re.findall(r"image/jpeg;base64,([^\"]*)", text)[0]))) as image:
        assert image.size == (600, 700), "not made smaller"


def test_a_page_of_several_runs() -> None:
    text = page("demo", [report(), report()])
    assert_needs_nothing_else(text)
    assert text.count("<section>") == 2 and "<title>demo</title>" in text
