"""What `analyse` says: the totals fit the parts, every kind of network is found, and what is wrong is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pixelwise.analysis import smallest
from pixelwise.cli import main

Capture = pytest.CaptureFixture[str]

OWN = """
import torch
from torch import nn

class Warped(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, image):
        maps = self.first(image)
        return nn.functional.grid_sample(maps, maps[:, :2].permute(0, 2, 3, 1), align_corners=False)

def plain():
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 5, stride=2, padding=2))

def number():
    return 3
"""


def analysed(capsys: Capture, *words: str) -> dict[str, Any]:
    assert main(["analyse", *words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def refused(capsys: Capture, *words: str) -> tuple[str, str]:
    """Return the message and hint of a usage error."""
    assert main(["analyse", *words]) == 2
    lines = capsys.readouterr().err.splitlines()
    return lines[0].removeprefix("error: "), (lines[1:] or [""])[0].removeprefix("hint: ")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "networks_of_mine.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "networks_of_mine"


def test_a_network_of_ours(capsys: Capture, tmp_path: Path) -> None:
    found = analysed(capsys, "unet", "size=256x256", "batch=2", "width=8", "--train", f"out={tmp_path}")
    assert found["shape"] == [2, 3, 256, 256] and found["whole_picture"] == []
    assert found["sees"][0]["rows"]["pixels"] == [220, 236]
    assert sum(layer["parameters"] for layer in found["layers"]) == found["parameters"]
    assert sum(layer["multiply_accumulates"] for layer in found["layers"]) == found["multiply_accumulates"]
    assert sum(layer["saved"] for layer in found["layers"]) == found["saved_bytes"]
    assert found["memory"]["training"]["predicted"] > found["saved_bytes"] > found["memory"]["evaluation"]["predicted"] / 2
    assert 1 < found["effective_receptive_field"]["width"] < 220
    written = json.loads((tmp_path / "analysis.json").read_text())
    assert written == found and "<svg" in (tmp_path / "analysis.html").read_text()


def test_a_function_of_the_users_by_hand(capsys: Capture, own: str) -> None:
    found = analysed(capsys, f"{own}:plain", "size=64x96")
    # 3 * 8 * 9 products for each of 64 * 96 pixels, 8 * 2 * 25 for each of a quarter of them; biases
    assert found["multiply_accumulates"] == 64 * 96 * (216 + 400 // 4) and found["parameters"] == 216 + 8 + 400 + 2
    assert found["sees"][0]["columns"]["pixels"] == [7] and found["sees"][0]["columns"]["stride"] == "2"
    # the picture, and the map that ReLU and the second convolution share... the first convolution's own output is not kept
    assert found["saved_bytes"] == 4 * 64 * 96 * (3 + 8)


def test_what_cannot_be_followed_is_named_and_the_rest_is_told(capsys: Capture, own: str) -> None:
    found = analysed(capsys, f"{own}:Warped", "size=32x32")
    assert found["sees"] == [] and found["multiply_accumulates"] == 32 * 32 * 4 * 27
    assert "'grid_sampler_2d'" in found["notes"][0]


def test_networks_of_both_libraries(capsys: Capture) -> None:
    ours, theirs = (analysed(capsys, name, "size=64x64") for name in ("timm/resnet18", "torchvision/resnet18"))
    assert ours["parameters"] == theirs["parameters"] == 11_689_512
    assert analysed(capsys, "resnet18", "size=64x64")["network"] == "timm/resnet18"


def test_the_list(capsys: Capture) -> None:
    assert main(["analyse"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ("segnet", "hourglass", "module:function"))


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["unett"], "no network 'unett'", "did you mean 'unet'?"),
        (["torchvision/resnet81"], "torchvision has no model 'resnet81'", "did you mean 'resnet18'?"),
        (["unet", "widht=3"], "unet has no setting 'widht'", "did you mean 'width'?"),
        (["unet", "size=12"], "size = '12': should be HEIGHTxWIDTH in pixels", "for example size=256x256"),
        (["size=2x2"], "analyse needs the name of a network first", "pixelwise analyse lists them"),
    ],
)
def test_mistakes(capsys: Capture, words: list[str], message: str, hint: str) -> None:
    assert refused(capsys, *words) == (message, hint)


def test_a_picture_below_the_minimum(capsys: Capture) -> None:
    message, hint = refused(capsys, "torchvision/alexnet", "size=32x32")
    assert message.startswith("torchvision/alexnet does not take pictures of 32x32: ")
    assert hint == "the smallest square that would do is size=63x63"


def test_no_module(capsys: Capture, own: str) -> None:
    assert refused(capsys, f"{own}:number")[0] == f"{own}:number returned a int"
    assert refused(capsys, f"{own}:plane")[1] == "did you mean 'plain'?"


def test_the_smallest() -> None:
    assert smallest(lambda side: side >= 47) == 47
    assert smallest(lambda side: side >= 32) == 32
    assert smallest(lambda side: False) is None
