"""Charts put numbers where they belong, worked out by hand; prose and pictures stay what they are."""

from __future__ import annotations

import re

import pytest
from PIL import Image as PillowImage
from test_report import assert_needs_nothing_else

from pixelwise.page import (
    COLOURS,
    Axis,
    bar_chart,
    captioned,
    document,
    gallery,
    line_chart,
    number,
    prose,
    section,
)


def test_an_even_axis() -> None:
    axis = Axis.over([2, 10], 100, 200, False)
    assert [axis(value) for value in (2, 6, 10, 11, 0)] == [100, 150, 200, 200, 100]
    assert axis.ticks() == [2, 4, 6, 8, 10]
    assert Axis.over([0, 0.9], 0, 1, False).ticks() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
    assert Axis.over([5, 5], 0, 1, False)(5) == 0.5


def test_a_logarithmic_axis() -> None:
    axis = Axis.over([1, 100, 0, -3], 100, 200, True)
    assert [axis(value) for value in (1, 10, 100, 0)] == pytest.approx([100, 150, 200, 100])
    assert axis.ticks() == [1, 2, 5, 10, 20, 50, 100]
    assert Axis.over([3, 3e5], 0, 1, True).ticks() == [10, 100, 1000, 1e4, 1e5]
    assert len(Axis.over([1e-12, 1], 0, 1, True).ticks()) <= 8
    assert Axis.over([0.0], 0, 1, True)(1) == 0.5


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.12345, "0.123"), (1234.5, "1234"), (12345, "12.3k"), (2_500_000, "2.5M"), (3.4e9, "3.4G"), (1e-6, "1e-06"),
     (-20000, "-20k"), (8e13, "80T")],
)  # fmt: skip
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


def test_a_line_s_points_lie_where_they_belong() -> None:
    """x from 56 at 0 to 464 at 4; y from 200 at the least to 28 at the largest."""
    chart = line_chart("error", {"a": [(1, 2), (2, 4), (4, 3)], "<b>": [(1, 2), (4, 4)]}, "layers")
    assert re.findall(r'<polyline points="([^"]*)"', chart) == ["158.0,200.0 260.0,28.0 464.0,114.0", "158.0,200.0 464.0,28.0"]
    assert chart.count("<circle") == 5 and ">layers</text>" in chart
    assert "&lt;b&gt;" in chart and COLOURS[0] in chart and COLOURS[1] in chart
    both = line_chart("error", {"a": [(1, 1), (10, 10), (100, 1000)]}, "n", ("x", "y"))
    assert re.findall(r'<polyline points="([^"]*)"', both) == ["56.0,200.0 260.0,142.7 464.0,28.0"]
    assert both.count("<rect") == 0, "one line needs no legend"
    assert line_chart("x", {"a": [(i, i) for i in range(99)]}).count("<circle") == 0


def test_a_bar_is_as_long_as_its_mean() -> None:
    """The names take 12 + 7 * 5 = 47, so 0 lies at 47 and the largest value, 4, at 404."""
    chart = bar_chart("score", {"first": [1.0, 3.0], "b": [4.0]})
    assert re.findall(r'<rect x="47" y="\d+" width="([\d.]+)"', chart) == ["178.5", "357.0"]
    assert 'x1="136.2" x2="314.8"' in chart, "the whisker from 1 to 3"
    assert re.findall(r'class="dot" cx="([\d.]+)"', chart) == ["136.2", "314.8"]
    assert ">2</text>" in chart and ">4</text>" in chart
    logarithmic = bar_chart("power", {"first": [1e-4], "b": [1.0], "c": [0.0]}, logarithmic=True)
    widths = [float(width) for width in re.findall(r'<rect x="47" y="\d+" width="([\d.]+)"', logarithmic)]
    assert widths[1] == 357.0 and widths[2] == 0 and 0 < widths[0] < 30


def test_prose_is_paragraphs_and_code() -> None:
    assert prose("One <b>\nline.\n\n\nTwo `x < y`.") == "<p>One &lt;b&gt; line.</p>\n<p>Two <code>x &lt; y</code>.</p>"
    assert section("A & b", "<p>x</p>", "y") == "<h2>A &amp; b</h2><p>x</p>\ny"


def test_a_gallery_keeps_its_rows() -> None:
    image = PillowImage.new("RGB", (4, 4), "red")
    text = captioned(gallery([[(image, "one"), (image, "<two>")], [(image, "three"), (image, "four")]]), "All & more.")
    assert "repeat(2," in text and text.count("<img") == 4 and "<small>&lt;two&gt;</small>" in text
    assert re.findall(r"<figure>.*?</figure>", text, re.DOTALL) == [text]
    assert_needs_nothing_else(document("t", text))
