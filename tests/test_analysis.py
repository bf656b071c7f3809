"""`pixelwise analyse`: figures known from elsewhere, every way to name a network, and what it says of bad input."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from test_cli import Capture, Finished, fails
from test_networks import build
from torch import nn

from pixelwise import analysis
from pixelwise.analysis import Analysis, Field, Request, answer, smallest
from pixelwise.analysis_report import across, as_json, as_text, strides
from pixelwise.catalogue import Wanted, find
from pixelwise.cli import main
from pixelwise.config import kinds
from pixelwise.errors import UsageError
from pixelwise.nn.effective_receptive_field import influence, width
from pixelwise.nn.memory import predicted, saved_bytes
from pixelwise.nn.receptive_field import receptive_field

TINY = ("width=4", "depth=2")


def asked(capsys: Capture, *words: str) -> dict[str, Any]:
    """Return the JSON of a command that must succeed and print nothing else."""
    code = main(["analyse", *words, "--json"])
    out, err = capsys.readouterr()
    assert code == 0 and not err, err
    found: dict[str, Any] = json.loads(out)
    return found


def layer(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(row for row in found["layers"] if row["layer"] == name)


def unet() -> Analysis:
    return answer(Request("unet", Wanted(settings=TINY), (64, 64), 2, train=True))


# Figures


def test_everything_agrees_with_what_it_comes_from() -> None:
    network = build("unet", {"width": 4, "depth": 2}, out=1)
    found = as_json(unet())
    assert found["shape"] == (2, 3, 64, 64) and found["notes"] == [] and found["network"] == "unet"
    assert found["parameters"] == sum(weight.numel() for weight in network.parameters())
    assert found["parameters"] == sum(row["parameters"] for row in found["layers"])
    assert found["multiply_accumulates"] == sum(row["multiply_accumulates"] for row in found["layers"])
    assert found["saved_bytes"] == sum(row["saved"] for row in found["layers"])
    assert found["saved_bytes"] == sum(saved_bytes(network, (2, 3, 64, 64)).values())
    for kind, train in (("evaluation", False), ("training", True)):
        assert found["memory"][kind]["predicted"] == predicted(network, (2, 3, 64, 64), train).bytes
    (sees,) = found["sees"]
    assert (sees["rows"]["pixels"][-1], sees["columns"]["pixels"][-1]) == receptive_field(network, 3)
    assert sees["rows"]["stride"] == "1" and found["whole_picture"] == []
    assert json.loads(json.dumps(found))["layers"][-1]["shape"] == [2, 1, 64, 64]


def test_vgg16(capsys: Capture) -> None:
    """138,357,544 parameters and 15.47 G multiply-accumulates (torchvision's own table); 212 pixels (Araujo et al. 2019)."""
    found = asked(capsys, "torchvision/vgg16")
    assert found["parameters"] == 138_357_544
    assert found["multiply_accumulates"] / 1e9 == pytest.approx(15.47, abs=0.005)
    last = layer(found, "features.30")
    assert last["sees"]["rows"] == {"pixels": [212], "stride": "32", "everything": False, "cut": False}
    assert last["shape"] == [1, 512, 7, 7] and layer(found, "classifier.6")["sees"]["rows"]["everything"]


def test_the_lecture(capsys: Capture) -> None:
    """A hundred layers see 201 pixels, and keep 122.07 MiB each for one picture, 238.4 GiB for a batch of 20."""
    assert main(["analyse", "stack", "size=400x400", "batch=20", "--train"]) == 0
    text = capsys.readouterr().out
    assert "201 pixels across, stride 1" in text and "autograd keeps        238.45 GiB in training" in text
    found = asked(capsys, "stack", "size=400x400")
    assert {row["saved"] for row in found["layers"] if row["kind"] == "ReLU"} == {128_000_000}
    assert [layer(found, f"layers.{n}.0")["sees"]["rows"]["pixels"] for n in range(100)] == [[2 * n + 3] for n in range(100)]


def test_the_table_shows_blocks_and_all_layers_on_request() -> None:
    found = unet()
    whole, short = as_text(found, 9), as_text(found, 1)
    assert len(found.blocks(9)) == len(found.layers) and whole.splitlines()[0].split()[0] == "layer"
    rows = {line.split()[0]: line.split() for line in short.splitlines()[1:5]}
    assert list(rows) == ["encoder", "dropout", "stages", "head"]
    assert rows["head"][1:6] == ["Conv2d", "2x1x64x64", "5", "32.8k", "48-52"] and "detail=4" in short
    for depth in (1, 2, 9):
        assert sum(row.parameters for row in found.blocks(depth)) == found.cost.parameters
        assert sum(row.saved for row in found.blocks(depth)) == found.saved
    assert len(as_text(answer(Request("timm/resnet50"))).splitlines()) < 50


def test_layers_that_run_twice_and_only_in_training() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.twice, self.extra = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 1, 1)

        def forward(self, image: torch.Tensor) -> Any:
            maps = self.twice(self.twice(image))
            return (maps, self.extra(maps.exp())) if self.training else maps

    network = Shared().eval()
    found = analysis.analyse(analysis.Found(network, "shared", 3, (16, 16)), (16, 16))
    one = 3 * 16 * 16 * 4
    rows = [(row.layer, row.kind, row.parameters, row.saved) for row in found.layers]
    assert rows == [("twice", "Conv2d", 84, 2 * one), ("twice", "Conv2d", 0, 0), ("", "in training only", 0, one)]
    assert [row.sees and row.sees[0].pixels for row in found.layers] == [(3,), (5,), None]
    assert found.blocks(1) == found.layers and found.cost.parameters == 84 + 4


@pytest.mark.parametrize(
    ("sees", "text", "stride"),
    [
        ((Field((15,), "8"), Field((15,), "8")), "15", "8"),
        ((Field((188, 204), "1/2"), Field((188, 204), "1/2")), "188-204", "1/2"),
        ((Field((15,), "8"), Field((7,), "4")), "15x7", "8x4"),
        ((Field((224,), "", cut=True), Field((224,), "", cut=True)), "224+", ""),
        ((Field((0,), "", everything=True), Field((0,), "", everything=True)), "all", ""),
    ],
)
def test_words_for_what_is_seen(sees: tuple[Field, Field], text: str, stride: str) -> None:
    assert (across(sees), strides(sees)) == (text, stride)


def test_statistics_over_the_whole_picture_are_named(capsys: Capture) -> None:
    found = asked(capsys, "unet", *TINY, "norm=instance", "size=64x64")
    assert "encoder.levels.0.1" in found["whole_picture"] and found["sees"][0]["rows"]["everything"]
    assert main(["analyse", "unet", *TINY, "norm=instance", "size=64x64"]) == 0
    assert "sees everything in    encoder.levels.0.1, " in capsys.readouterr().out


# Names of networks


def test_what_there_is_is_listed(capsys: Capture) -> None:
    assert main(["analyse"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert tuple(listed[: len(kinds("pixelwise.nn.networks"))]) == kinds("pixelwise.nn.networks")
    assert main(["analyse", "--json"]) == 0
    assert {"name", "summary"} == set(json.loads(capsys.readouterr().out)["networks"][0])


@pytest.mark.parametrize(
    ("name", "found", "outputs"),
    [
        ("resnet18", "timm/resnet18", 5),
        ("timm/resnet18", "timm/resnet18", 5),
        ("torchvision/resnet18", "torchvision/resnet18", 5),
        ("lraspp_mobilenet_v3_large", "torchvision/lraspp_mobilenet_v3_large", 5),
        ("patchgan", "patchgan", 5),
    ],
)
def test_names_of_libraries(name: str, found: str, outputs: int) -> None:
    """Where both have it, timm's is taken; nothing is downloaded."""
    one = find(name, Wanted(outputs=outputs))
    answered = one.network(torch.zeros(1, 3, 64, 64))
    assert one.name == found and not one.network.training
    assert (answered["out"] if isinstance(answered, dict) else answered).shape[1] == outputs


def test_timm_takes_any_channels_and_says_its_usual_size() -> None:
    one = find("timm/resnet18", Wanted(channels=5))
    assert one.channels == 5 and one.network(torch.zeros(1, 5, 64, 64)).shape == (1, 1000)
    assert find("vit_tiny_patch16_384").size == (384, 384)


def test_settings_of_ours(capsys: Capture) -> None:
    found = asked(capsys, "classifier", "channels=1", "network.channels=4,8", "outputs=7", "size=32x32")
    assert found["shape"] == [1, 1, 32, 32] and found["layers"][-1]["shape"] == [1, 7, 1, 1]
    assert [row["shape"] for row in found["layers"] if row["kind"] == "Conv2d"] == [[1, 4, 32, 32], [1, 8, 16, 16]]


def test_nothing_is_downloaded() -> None:
    network = find("unet", Wanted(settings=["encoder=resnet18", "pretrained=true"])).network
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 1, 64, 64)


FILE = """
import torch
from torch import nn

ready = nn.Conv2d(3, 1, 3)

def small():
    return nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(8, 2, 1))

def strided():
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 5, stride=2, padding=2))

def pooled():
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3))

def number():
    return 5

def broken():
    raise KeyError("spoon")

class Sorted(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.fourier = nn.Conv2d(3, 4, 3, padding=1), Fourier()
    def forward(self, image):
        return self.fourier(self.first(image))

class Fourier(nn.Module):
    def forward(self, maps):
        return torch.fft.rfft2(maps).abs()

class Choosing(nn.Conv2d):
    def __init__(self):
        super().__init__(3, 1, 1)
    def forward(self, image):
        return super().forward(image[image > 0].reshape(1, 3, 1, -1))

class Deciding(nn.Conv2d):
    def __init__(self):
        super().__init__(3, 1, 1)
    def forward(self, image):
        return super().forward(image if image.mean() > 0 else -image)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The name of a module of the user's in the current folder."""
    name = "own_" + "".join(c if c.isalnum() else "_" for c in request.node.name)
    (tmp_path / f"{name}.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_a_function_of_the_users(here: str, capsys: Capture) -> None:
    found = asked(capsys, f"{here}:small", "channels=4", "size=32x48")
    assert found["parameters"] == 4 * 8 * 9 + 8 + 8 * 2 + 2 and found["layers"][-1]["shape"] == [1, 2, 32, 48]
    assert asked(capsys, f"{here}:ready")["layers"][0]["shape"] == [1, 1, 254, 254]


def test_a_function_of_the_users_by_hand(here: str, capsys: Capture) -> None:
    """3 * 8 * 9 products at each of 64 * 96 positions, 8 * 2 * 25 at a quarter of them; picture and ReLU's map are kept."""
    found = asked(capsys, f"{here}:strided", "size=64x96")
    assert found["multiply_accumulates"] == 64 * 96 * (216 + 400 // 4) and found["parameters"] == 216 + 8 + 400 + 2
    assert found["saved_bytes"] == 4 * 64 * 96 * (3 + 8)
    assert found["sees"] == [{axis: Field((7,), "2")._asdict() | {"pixels": [7]} for axis in ("rows", "columns")}]


def test_what_is_wrong_with_a_function(here: str, capsys: Capture) -> None:
    for name, words in {
        f"{here}:smal": "has no 'smal'",
        f"{here}:number": "returned 5",
        f"{here}:broken": "raised KeyError: 'spoon'",
        "no_such_module:f": "'no_such_module' cannot be imported: ModuleNotFoundError",
        ":": "'' cannot be imported",
    }.items():
        code, error, hint = fails(capsys, "analyse", name)
        assert code == 2 and words in error and hint
    assert fails(capsys, "analyse", f"{here}:smal")[2] == "did you mean 'small'?"
    assert fails(capsys, "analyse", f"{here}:small", "outputs=3")[0] == 2


def test_a_trained_network(finished: Finished, capsys: Capture) -> None:
    folder = finished("segmentation")
    capsys.readouterr()
    found = asked(capsys, str(folder), "size=32x32")
    assert found == asked(capsys, str(folder / "model"), "size=32x32") | {"network": str(folder)}
    assert found["layers"][-1]["shape"][1] == 11
    code, error, _ = fails(capsys, "analyse", str(folder), "channels=4")
    assert code == 2 and "has channels of its own" in error


# Bad input


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        (("unett",), "no network 'unett'", "did you mean 'unet'?"),
        (("resnet5O",), "no network 'resnet5O'", "did you mean 'resnet50'?"),
        (("deeplabv3_resnet5",), "no network 'deeplabv3_resnet5'", "did you mean 'deeplabv3_resnet50'?"),
        (("timm/resnett18",), "timm has no model 'resnett18'", "did you mean 'resnet18'?"),
        (("torchvision/unet",), "torchvision has no model 'unet'", ""),
        (("runs/none",), "no network 'runs/none'", "it takes one of ours"),
        (("torchvision/resnet81",), "torchvision has no model 'resnet81'", "did you mean 'resnet18'?"),
        (("unet", "widht=4"), "unet has no setting 'widht'", "did you mean 'width'?"),
        (("unet", "width=0"), "width = 0: ", ""),
        (("unet", "upsample=nearst"), "upsample = 'nearst': ", ""),
        (("resnet18", "width=4"), "resnet18 has no setting 'width'", "only our own networks have more"),
        (("unet", "size=256"), "size = '256': should be HEIGHTxWIDTH in pixels", "for example size=256x256"),
        (("unet", "size=0x5"), "size = '0x5': should be HEIGHTxWIDTH in pixels", "for example size=256x256"),
        (("unet", "size=[8, 8, 8]"), "size = '[8, 8, 8]': should be", "for example size=256x256"),
        (("unet", "batch=0"), "batch = '0': should be a positive integer", "for example batch=10"),
        (("size=64x64",), "analyse needs the name of a network first", "pixelwise analyse lists them"),
        (("torchvision/resnet18", "channels=4"), "torchvision/resnet18 takes pictures of 3 channels, not 4", ""),
        (("torchvision/alexnet", "size=32x32"), "pictures of 32x32", "would do is size=63x63"),
        (("torchvision/vgg16", "size=16x512"), "does not take pictures of 16x512", "size=32x32"),
        (("vit_tiny_patch16_224", "size=256x256"), "Input height (256) doesn't match model (224)", "size=224x224"),
        (("torchvision/resnet18", "size=32x32", "--train"), "32x32: Expected more than 1", "size=33x33"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_input(capsys: Capture, words: tuple[str, ...], error: str, hint: str) -> None:
    code, said, hinted = fails(capsys, "analyse", *words)
    assert code == 2 and error in said and hint in hinted


def test_what_cannot_be_trained_is_analysed_all_the_same(capsys: Capture) -> None:
    found = asked(capsys, "torchvision/resnet18", "size=32x32")
    assert found["saved_bytes"] is None and "the smallest square that would do is size=33x33" in found["notes"][0]


def test_what_cannot_be_followed_is_analysed_without_what_it_sees(here: str, capsys: Capture) -> None:
    found = asked(capsys, f"{here}:Sorted", "size=16x16", "--train")
    assert "operation '_fft_r2c' in layer 'fourier'" in found["notes"][0] and found["sees"] == []
    assert [row["sees"] for row in found["layers"]] == [None, None] and found["memory"]["training"]["predicted"] > 0
    assert main(["analyse", f"{here}:Sorted", "size=16x16"]) == 0
    text = capsys.readouterr().out
    assert "an output sees" not in text and "note: what it sees is not known: operation '_fft_r2c'" in text
    assert "not counted" in text


def test_what_depends_on_values_is_refused(here: str, capsys: Capture) -> None:
    code, error, _ = fails(capsys, "analyse", f"{here}:Choosing")
    assert code == 2 and "operation 'aten.nonzero" in error and "cannot be followed" in error


def test_what_decides_by_values_is_told_so(here: str, capsys: Capture) -> None:
    code, error, hint = fails(capsys, "analyse", f"{here}:Deciding")
    assert code == 2 and "forward() of layer 'Deciding' decides by a value that it has computed" in error
    assert "torch.where" in hint


def test_what_no_size_mends(here: str, capsys: Capture) -> None:
    code, error, hint = fails(capsys, "analyse", f"{here}:pooled", "size=64x64", "--train")
    assert code == 2 and "cannot be trained" in error and "another batch" in hint
    assert "in layer '1' (Expected more than 1" in error
    assert asked(capsys, f"{here}:pooled", "size=64x64", "batch=2", "--train")["memory"]["training"]["predicted"] > 0


@pytest.mark.parametrize("least", [1, 2, 31, 32, 33, 63, 200, 224, 700, 1024])
def test_the_smallest_side(least: int) -> None:
    tried: list[int] = []

    def takes(side: int) -> bool:
        tried.append(side)
        return side >= least

    assert smallest(takes) == least and len(tried) < 25


def test_a_side_that_does_not_exist() -> None:
    assert smallest(lambda side: False) is None
    assert smallest(lambda side: side == 224) == 224


# Measured memory


def test_measured_beside_predicted(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    asked_for: list[Any] = []

    def elsewhere(arguments: list[Any], setting: dict[str, str]) -> int:
        asked_for.append((arguments, bool(setting)))
        return 2**20 if setting else 3 * 2**20

    monkeypatch.setattr(analysis, "_elsewhere", elsewhere)
    words = ["unet", *TINY, "size=64x64", "batch=2", "--train", "--measure"]
    found = asked(capsys, *words)
    for kind in ("evaluation", "training"):
        memory = found["memory"][kind]
        assert (memory["measured"], memory["resident"]) == (2**20, 3 * 2**20)
        assert memory["ratio"] == pytest.approx(memory["predicted"] / 2**20)
    wanted = (None, None, list(TINY))
    assert [(a[0], tuple(a[1]), a[2], a[3], own) for a, own in asked_for] == [
        ("unet", wanted, (2, 3, 64, 64), train, own) for train in (False, True) for own in (True, False)
    ]
    assert main(["analyse", *words]) == 0
    assert "1.00 MiB measured (ratio " in capsys.readouterr().out


def test_what_would_not_fit_is_not_measured(capsys: Capture) -> None:
    code, error, _ = fails(capsys, "analyse", "unet", *TINY, "size=100000x100000", "--measure")
    assert code == 2 and "measuring takes" in error and "are left" in error


def test_a_measurement_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"the memory could not be measured: .*'no_such_module' cannot"):
        analysis._elsewhere(["no_such_module:f", Wanted(), (1, 3, 8, 8), False], {})


# The effective receptive field


def binomial(layers: int) -> list[int]:
    """Return how many ways lead from a pixel through so many 3-tap averages: 1 2 3 2 1 for two."""
    ways = [1]
    for _ in range(layers):
        ways = [sum(ways[max(0, i - 2) : i + 1]) for i in range(len(ways) + 2)]
    return ways


def test_averages_in_a_row_make_a_bell() -> None:
    """Four 3x3 box filters: 1 4 10 16 19 16 10 4 1 along each axis; pixels above 4.55 % of the largest product count."""
    network = nn.Sequential(*(nn.Conv2d(1, 1, 3, padding=1, bias=False) for _ in range(4)))
    for convolution in network:
        nn.init.ones_(convolution.weight)  # type: ignore[arg-type]
    found = influence(network, 1, (21, 31), pictures=2)
    ways = binomial(4)
    assert ways == [1, 4, 10, 16, 19, 16, 10, 4, 1] and found.shape == (21, 31)
    bell = torch.tensor(ways, dtype=torch.float64) / 19
    assert torch.allclose(found[6:15, 11:20], bell[:, None] * bell, atol=1e-6)
    assert found.sum() == pytest.approx(float(bell.sum()) ** 2, abs=1e-4)
    count = sum(a * b > 0.0455 * 19 * 19 for a in ways for b in ways)
    assert width(found) == math.sqrt(count) and width(found, 0.99) == 1


def test_a_page_and_a_model_named_in_another_way(capsys: Capture) -> None:
    for arguments, hint in (
        (["unet", "out=x.html"], "hint: out=x"),
        (["torchvision:resnet18"], "hint: write torchvision/resnet18"),
    ):
        assert main(["analyse", *arguments]) != 0
        assert hint in capsys.readouterr().err


def test_influence_changes_nothing_and_repeats() -> None:
    network = build("unet", {"width": 4, "depth": 2, "dropout": 0.5}).train()
    random = torch.get_rng_state()
    first, again = (influence(network, 3, (32, 40), pictures=2) for _ in range(2))
    assert torch.equal(first, again) and torch.equal(random, torch.get_rng_state()) and network.training
    assert first.max() == 1 and first.min() >= 0
    assert influence(nn.Sequential(nn.Flatten(), nn.Linear(48, 3)), 3, (4, 4), 2).min() > 0, "numbers depend on all pixels"


def test_the_page(tmp_path: Path, capsys: Capture) -> None:
    found = asked(capsys, "unet", *TINY, "size=48x64", "--train", f"out={tmp_path / 'a'}")
    effective = found["effective_receptive_field"]
    assert effective["size"] == [48, 64] and 1 < effective["width"] < 48 and effective["threshold"] == pytest.approx(0.0455)
    assert json.loads((tmp_path / "a" / "analysis.json").read_text()) == found
    page = (tmp_path / "a" / "analysis.html").read_text()
    assert all(row["layer"] in page for row in found["layers"]) and "data:image/png" in page and "<svg" in page
    assert "48 or 52 pixels across, depending on its place, stride 1" in page
    assert asked(capsys, "unet", *TINY, "size=48x64")["effective_receptive_field"] is None
