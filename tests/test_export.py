"""ONNX: every task and every network at any size, what the file says of itself, and that no wrong file is ever kept."""

from __future__ import annotations

import ast
import json
import re
import runpy
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image as PillowImage
from test_cli import Capture, fails
from test_networks import FROM_CODES
from test_tasks import ASKED, opened, small, untrained
from torch import Tensor, nn
from torch.nn import functional

from pixelwise import asked, cli, export, verbs
from pixelwise.cli import main
from pixelwise.codecs import peaks
from pixelwise.errors import ModelError, UsageError
from pixelwise.export import difference, parts
from pixelwise.model import Model, Precision, load
from pixelwise.nn.enlarging import EnlargingConfig
from pixelwise.nn.heads import Heads
from pixelwise.nn.network import NetworkConfig
from pixelwise.nn.networks import (
    classifier,
    cpm,
    dcgan_discriminator,
    encoder_decoder,
    espcn,
    fcn,
    fsrcnn,
    hed,
    hourglass,
    openpose,
    patchgan,
    pix2pix_unet,
    pixel_difference,
    regressor,
    residual,
    residual_discriminator,
    residual_pixel_shuffle,
    segnet,
    simple_baseline,
    srcnn,
    stack,
    unet,
    vdsr,
)
from pixelwise.nn.padding import _looked_up, mirror_to_multiple
from pixelwise.nn.pixel_difference import PixelDifference
from pixelwise.recipe import Recipe
from pixelwise.run import describe

ROOT = Path(__file__).parent.parent
NETWORKS: dict[str, NetworkConfig] = {
    "unet": unet.Config(width=2, depth=2, upsample="unpool", output_stride=2),
    "unet of timm": unet.Config(width=1, encoder="test_resnet"),
    "encoder_decoder": encoder_decoder.Config(width=2, depth=1, bottleneck="vector", code=8, upsample="pixel_shuffle"),
    "fcn": fcn.Config(width=2, hidden=8),
    "hed": hed.Config(width=2, depth=2),
    "hourglass": hourglass.Config(width=4, stacks=1, depth=1, upsample="unpool"),
    "cpm": cpm.Config(width=4, stages=2, kernel=3, stage_kernel=3, output_stride=4),
    "openpose": openpose.Config(width=2, encoder_width=2, output_stride=4, heads=(1, 1)),
    "simple_baseline": simple_baseline.Config(width=2, encoder_width=2, depth=2),
    "patchgan": patchgan.Config(width=2, layers=1),
    "pix2pix_unet": pix2pix_unet.Config(width=2, depth=2),
    "pixel_difference": pixel_difference.Config(width=4),
    "residual": residual.Config(width=2, blocks=1),
    "segnet": segnet.Config(width=2, depth=1),
    "stack": stack.Config(width=2, depth=1),
    "regressor": regressor.Config(channels=(2,), hidden=8),
    "classifier": classifier.Config(channels=(2,), grid=(2, 3)),
    "srcnn": srcnn.Config(widths=(4, 2)),
    "fsrcnn": fsrcnn.Config(features=4, shrunk=2, mappings=1),
    "espcn": espcn.Config(widths=(4, 2)),
    "vdsr": vdsr.Config(depth=3, width=4),
    "residual_pixel_shuffle": residual_pixel_shuffle.Config(width=4, blocks=1),
    "dcgan_discriminator": dcgan_discriminator.Config(width=2, size=32),
    "residual_discriminator": residual_discriminator.Config(width=2, size=32),
}


def built(name: str) -> nn.Module:
    if isinstance(NETWORKS[name], EnlargingConfig):
        return NETWORKS[name].build(3, 12)
    return NETWORKS[name].build(3, 1 if name in ("hed", "pixel_difference") else 2)


def noise(*shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def saved(recipe: Recipe, folder: Path) -> Path:
    """Save an untrained model of a recipe."""
    model, data = untrained(recipe.task.kind), opened(recipe.task.kind)
    if recipe != small(recipe.task.kind):
        torch.manual_seed(0)
        task = recipe.task.build(data.train.meta)
        model = Model(describe(recipe, replace(data, task=task)), task, task.networks(recipe.network))
    model.save(folder, data.val.sample(0, model.task.fields), "")
    return folder


def session(model: Path | bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def continued(network: nn.Module, channels: int = 3) -> int:
    """Return by how many columns at once the pictures grow that the first layer sees, while the input grows by one."""
    seen: list[int] = []
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d | PixelDifference))
    with first.register_forward_pre_hook(lambda _, seeing: seen.append(seeing[0].shape[-1])), torch.inference_mode():
        for width in range(257, 290):
            network(torch.zeros(1, channels, 16, width))
    enlarged = seen[0] // 257  # before the first layer, as srcnn and vdsr do
    return int(np.diff(np.unique(seen)).max()) // enlarged


@pytest.mark.parametrize("name", NETWORKS)
def test_what_sides_are_continued_to_a_multiple_of(name: str) -> None:
    network = built(name).eval()
    assert export._multiple(name, network) == continued(network)
    heads = Heads(network, 1, [2])
    assert export._multiple("heads", heads) == export._multiple(name, network)


def test_a_network_that_does_not_say_its_multiple_is_named() -> None:
    with pytest.raises(ModelError, match="generator, a Identity, has no whole number `multiple`"):
        export._multiple("generator", nn.Identity())


@pytest.mark.parametrize("kind", ASKED)
def test_every_task_answers_at_any_size_without_pixelwise(kind: str, tmp_path: Path) -> None:
    model = load(saved(small(kind), tmp_path / "model"))
    made = export.export(tmp_path / "model", tmp_path / "x.onnx")
    run = session(tmp_path / "x.onnx")
    (name,) = (put_in.name for put_in in run.get_inputs())
    assert made["input"][name] == ["batch", 3, "height", "width"]
    for size in ((50, 41), (32, 32), (7, 90)):
        pixels = noise(2, 3, *size)
        with torch.inference_mode():
            expected = model.task.answers(model.outputs({model.task.inputs[0]: pixels}), size)
        found = run.run(list(expected), {name: pixels.numpy()})
        assert list(made["outputs"]) == list(expected) == list(model.task.units())
        assert all(difference(a, b) < 1e-4 for a, b in zip(found, expected.values(), strict=True))
    known = run.get_modelmeta().custom_metadata_map
    assert int(known["size_multiple"]) == max(continued(network, model.task.sheets) for network in model.networks.values())
    view = small(kind).view
    assert known["task"] == kind and known["fit"] == view.fit
    assert known["size"] == "any" if view.fit == "native" else json.loads(known["size"]) == [32, 32]
    assert json.loads(known["units"]).keys() == expected.keys()


class Every(nn.Module):
    """All networks in one graph, which is made much sooner than one of each."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.networks = nn.ModuleDict({name: built(name) for name in NETWORKS})

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return tuple(network(pixels.float() / 255) for network in self.networks.values())


def test_every_network_can_be_followed_at_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    files = (ROOT / "src" / "pixelwise" / "nn" / "networks").glob("[!_]*.py")
    assert {file.stem for file in files} - set(FROM_CODES) == {config.kind for config in NETWORKS.values()}
    every = Every().eval()
    monkeypatch.setattr(torch.onnx, "export", partial(torch.onnx.export, optimize=False))  # onnxruntime does so itself
    made, _ = export._onnx(every, "image", list(NETWORKS), noise(1, 3, 32, 32), 18)
    run = session(made.SerializeToString())
    for shape in ((1, 3, 64, 64), (2, 3, 45, 70), (3, 3, 131, 20), (1, 3, 9, 33)):
        pixels = noise(*shape)
        with torch.inference_mode():
            expected = every(pixels)
        for name, found, wanted in zip(NETWORKS, run.run(None, {"image": pixels.numpy()}), expected, strict=True):
            assert difference(found, wanted) < 1e-5, (name, shape)


def test_other_inputs_and_settings_of_the_tasks(tmp_path: Path) -> None:
    """Coordinates; a label map, painted; and the mirrored picture averaged with the first, floats in."""
    coordinates = ["task.target=coordinates", "task.loss=l1", "network.kind=regressor", "network.channels=4,8"]
    folder = saved(small("keypoints").override([*coordinates, "view.fit=native"]), tmp_path / "coordinates")
    export.export(folder, tmp_path / "x.onnx")
    points, _ = session(tmp_path / "x.onnx").run(None, {"image": noise(2, 3, 40, 60).numpy()})
    found = load(folder)(noise(2, 3, 40, 60)[0]).points[0]  # type: ignore[attr-defined]
    np.testing.assert_allclose(points[0], found, atol=1e-4)
    assert session(tmp_path / "x.onnx").get_modelmeta().custom_metadata_map["size"] == "any"

    folder = saved(small("translation").override(["task.source=labels", "task.target=image"]), tmp_path / "painted")
    assert load(folder).description.labels_in == ("labels",)
    export.export(folder, tmp_path / "x.onnx", input_type="float32")
    labels = noise(1, 32, 32) % 12
    labels[labels == 11] = 255
    run = session(tmp_path / "x.onnx")
    (rgb,) = run.run(None, {"labels": labels.numpy()})
    assert run.get_modelmeta().custom_metadata_map["channels"] == "class index"
    pixels = (torch.from_numpy(rgb[0]) * 255).round().to(torch.uint8)
    assert (pixels.int() - load(folder)(labels[0]).pixels).abs().max() <= 1  # type: ignore[attr-defined]


def test_floats_go_in_and_the_mirrored_picture_is_averaged_inside(tmp_path: Path, capsys: Capture) -> None:
    folder = saved(small("segmentation").override(["task.flip_test=true"]), tmp_path / "model")
    assert main(["export", str(folder), str(tmp_path / "sub" / "x.onnx"), "input=float32", "opset=20", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["opset"] == 20 and told["input"] == {"image": ["batch", 3, "height", "width"], "type": "float32"}
    assert told["bytes"] == (tmp_path / "sub" / "x.onnx").stat().st_size
    assert len(told["differences"]) == 3 and max(told["differences"]["1x32x32"].values()) < 1e-5
    pixels = noise(1, 3, 32, 32)
    run = session(tmp_path / "sub" / "x.onnx")
    labels, probabilities = run.run(None, {"image": (pixels.float() / 255).numpy()})
    answer = load(folder)(pixels[0])
    assert (labels[0] == answer.labels.numpy()).all()  # type: ignore[attr-defined]
    np.testing.assert_allclose(probabilities[0].max(0), answer.confidence, atol=1e-5)  # type: ignore[attr-defined]
    mirrored = run.run(None, {"image": (pixels.flip(-1).float() / 255).numpy()})[1]
    np.testing.assert_allclose(mirrored[..., ::-1], probabilities, atol=1e-5)
    assert [p.name for p in (tmp_path / "sub").iterdir()] == ["x.onnx"]


def test_zoomed_pictures_are_averaged_inside(tmp_path: Path) -> None:
    recipe = small("segmentation").override(["task.scales_test=0.3,1,1.37", "task.flip_test=true"])
    made = export.export(saved(recipe, tmp_path / "model"), tmp_path / "x.onnx")
    assert len(made["differences"]) == 3
    task = recipe.task.build(opened("segmentation").train.meta)
    seen: list[tuple[int, ...]] = []

    class Seeing(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            seen.append(tuple(image.shape[-2:]))
            return torch.zeros(1, task.codec.channels, *image.shape[-2:])

    task.respond({"network": Seeing()}, {"image": torch.zeros(1, 3, 50, 1)})
    assert seen[:3] == [(15, 1), (50, 1), (69, 1)]  # 68.5 goes up, and no side becomes 0


def scripts() -> list[str]:
    """Return the programs that the document prints."""
    return re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "onnx.md").read_text(), re.MULTILINE | re.DOTALL)


class Found:
    """A session that finds one person at (8, 0), (12, 8) and (16, 16) in a model's picture of 32 x 32."""

    fit = ""

    def __init__(self, path: str) -> None:
        skeleton = {"names": ["head", "hip", "foot"], "limbs": [[0, 1], [1, 2]]}
        self.custom_metadata_map = {"size": "[32, 32]", "fit": self.fit, "skeleton": json.dumps(skeleton)}

    def get_modelmeta(self) -> Found:
        return self

    def run(self, names: list[str], inputs: dict[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        assert names == ["points", "confidence", "limbs"] and inputs["image"].shape == (1, 3, 32, 32)
        points = np.array([[[[8.0, 0.0]], [[12.0, 8.0]], [[16.0, 16.0]]]], np.float32)
        return [points, np.ones((1, 3, 1), np.float32), np.ones((1, 2, 1, 1), np.float32)]


@pytest.mark.parametrize(
    ("fit", "own"),
    [("letterbox", [[0.0, 0.0], [6.0, 12.0], [12.0, 24.0]]), ("stretch", [[6.0, 0.0], [9.0, 12.0], [12.0, 24.0]])],
)
def test_the_document_brings_people_back_to_their_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, fit: str, own: list[list[float]]
) -> None:
    """24 x 48 letterboxed into 32 x 32 is 16 wide, from 8 to 24, and 2/3 as large; stretched it is 4/3 and 2/3 as large."""
    monkeypatch.setattr(Found, "fit", fit)
    monkeypatch.setattr("onnxruntime.InferenceSession", Found)
    (tmp_path / "run.py").write_text(scripts()[1])
    PillowImage.fromarray(noise(48, 24, 3).numpy()).save(tmp_path / "photo.png")
    monkeypatch.setattr(sys, "argv", ["run.py", "x.onnx", str(tmp_path / "photo.png")])
    runpy.run_path(str(tmp_path / "run.py"))
    score, people = capsys.readouterr().out.split(" ", 1)
    assert float(score) == 1 and [*ast.literal_eval(people)] == ["head", "hip", "foot"]
    np.testing.assert_allclose([*ast.literal_eval(people).values()], own, atol=1e-5)


def test_the_document_runs_a_model_without_pixelwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved(small("segmentation"), tmp_path / "model")
    export.export(folder, tmp_path / "x.onnx")
    code = scripts()[0]
    assert len(code.splitlines()) <= 15 and "torch" not in code and "pixelwise" not in code
    (tmp_path / "run.py").write_text(code)
    PillowImage.fromarray(noise(32, 32, 3).numpy()).save(tmp_path / "photo.png")
    monkeypatch.setattr(sys, "argv", ["run.py", *(str(tmp_path / name) for name in ("x.onnx", "photo.png", "answer.png"))])
    runpy.run_path(str(tmp_path / "run.py"))
    ours = load(folder)(tmp_path / "photo.png").answer()
    with PillowImage.open(tmp_path / "answer.png") as theirs:
        assert (np.asarray(theirs) == np.asarray(ours)).all()
        assert theirs.convert("RGB").tobytes() == ours.convert("RGB").tobytes()


# Half precision


def test_predicting_in_bfloat16_differs_by_about_a_hundredth(tmp_path: Path, capsys: Capture) -> None:
    folder = saved(small("segmentation"), tmp_path / "model")
    batch = {"image": noise(2, 3, 40, 36)}
    with torch.inference_mode():
        exact = load(folder).outputs(batch)["logits"]
        model = load(folder, precision="bfloat16")
        rough = model.outputs(batch)["logits"]
        again = model.computing_in("float32").outputs(batch)["logits"]
    assert rough.dtype == torch.float32 and rough.is_contiguous() and torch.equal(again, exact)
    apart = (rough - exact).abs().max() / exact.std()
    assert 1e-4 < apart < 0.05
    PillowImage.fromarray(noise(32, 32, 3).numpy()).save(tmp_path / "photo.png")
    words = ["predict", str(folder), str(tmp_path / "photo.png"), f"out={tmp_path / 'out'}"]
    assert main([*words, "precision=bfloat16"]) == 0
    capsys.readouterr()
    code, message, hint = fails(capsys, *words, "precision=bfloat")
    assert (code, message) == (2, "precision = 'bfloat': should be one of float32, bfloat16")
    assert hint == "did you mean 'bfloat16'?"
    with pytest.raises(UsageError, match="precision = 'half': should be one of float32, bfloat16"):
        load(folder, precision="half")  # type: ignore[arg-type]


# No wrong file


class Sized(nn.Module):
    """Looks another way at wide pictures, or takes pictures of one height."""

    def __init__(self, widest: int, height: int = 0) -> None:
        super().__init__()
        self.widest, self.height = widest, height

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        lines = torch.arange(self.height or pixels.shape[-2])[:, None]
        return (pixels.float() + lines if pixels.shape[-1] <= self.widest else -pixels.float(),)


def test_a_graph_that_depends_on_the_size_is_refused() -> None:
    """The exporter itself would keep the branch that it saw."""
    with pytest.raises(ModelError, match="for any size: it answers otherwise where the width is above 99"):
        export._onnx(Sized(99), "image", ["out"], noise(1, 3, 40, 40), 18)
    with pytest.raises(ModelError, match=r"for any size: .*specialized it to be a constant"):
        export._onnx(Sized(2**20, 41), "image", ["out"], noise(1, 3, 40, 40), 18)


def test_a_wrong_graph_is_never_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without our products the exporter settles the parts that are averaged, for one size, and says nothing."""
    folder = saved(small("classification").override(["network.grid=2,3"]), tmp_path / "model")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x.onnx").write_text("an older file")
    monkeypatch.setattr(export, "AveragesAsProducts", torch.no_grad)
    with pytest.raises(ModelError, match="the exported graph"):
        export.export(folder, tmp_path / "out" / "x.onnx")
    assert [p.read_text() for p in (tmp_path / "out").iterdir()] == ["an older file"]


def test_a_missing_package_is_named(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "find_spec", lambda name: None if name.startswith("onnx") else name)
    code, message, hint = fails(capsys, "export", str(tmp_path), "x.onnx")
    assert (code, message) == (2, "export needs onnx and onnxscript and onnxruntime")
    assert hint == "pip install 'pixelwise[export]'"


def test_the_command_line_says_what_can_be_exported() -> None:
    assert get_args(Precision) == asked.PRECISIONS
    assert verbs.OPSETS == export.OPSETS and get_args(export.InputType) == verbs.PIXELS


# The parts


def test_differences() -> None:
    assert difference(np.array([1.0, 4.0], np.float32), torch.tensor([1.0, 5.0])) == pytest.approx(0.2)
    assert difference(np.array([0.0, 0.25], np.float32), torch.tensor([0.0, 0.5])) == pytest.approx(0.25)
    assert difference(np.array([1, 2, 3, 4], np.uint8), torch.tensor([1, 2, 0, 4], dtype=torch.uint8)) == 0.25
    assert difference(np.zeros((1, 2), np.float32), torch.zeros(2, 1)) == float("inf")
    assert difference(np.zeros(2, np.float64), torch.zeros(2)) == float("inf")
    assert not difference(np.array([np.nan], np.float32), torch.ones(1)) <= 1e9


@pytest.mark.parametrize(("size", "count"), [(7, 3), (3, 7), (12, 4), (5, 5), (1, 2)])
def test_parts_are_those_of_adaptive_pooling(size: int, count: int) -> None:
    maps = torch.rand(2, 3, size, 4)
    expected = functional.adaptive_avg_pool2d(maps, (count, 4))
    torch.testing.assert_close(parts(size, count) @ maps, expected)


@pytest.mark.parametrize(("size", "multiple", "least"), [(3, 8, 1), (8, 8, 1), (9, 4, 32), (1, 4, 6), (5, 1, 1)])
def test_padding_by_indices_is_padding_by_pieces(size: int, multiple: int, least: int) -> None:
    image = torch.rand(1, 2, size, 4)
    expected = mirror_to_multiple(image.expand(1, 2, size, 4), multiple, least)[..., :4]
    assert torch.equal(_looked_up(image, -2, multiple, least), expected)


def test_equations_are_solved() -> None:
    factors = torch.randn(3, 4, 6, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    matrix, right = factors @ factors.mT + 1e-6 * torch.eye(6), factors[..., :1]
    torch.testing.assert_close(peaks._solved(matrix, right), torch.linalg.solve(matrix, right)[..., 0])
