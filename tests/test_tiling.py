"""Tiles give what the whole picture gives, within the memory there is, or say that they do not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from test_networks import CASES, build
from torch import Tensor, nn

from pixelwise import memory
from pixelwise.batch import predict_files
from pixelwise.cli import main
from pixelwise.data.sample import Image, Sample
from pixelwise.errors import DataError, UsageError
from pixelwise.geometry import warp
from pixelwise.geometry.frame import Frame
from pixelwise.geometry.homography import resize, rotation, scaling
from pixelwise.geometry.tiles import Cut, exact
from pixelwise.model import Model, load
from pixelwise.nn.tiling import Plan, Tiled, Tiling
from pixelwise.overrides import parse_bytes
from pixelwise.prediction import Prediction
from pixelwise.predictions import image as written
from pixelwise.predictions.image import ImagePrediction
from pixelwise.predictions.several import SeveralPrediction
from pixelwise.recipe import find_recipe
from pixelwise.seeds import torch_generator
from pixelwise.stored import Description
from pixelwise.tasks import segmentation

Capture = pytest.CaptureFixture[str]
OTHER = ("patchgan", "regressor", "classifier", "dcgan", "dcgan_discriminator", "residual_generator", "residual_discriminator")
DENSE = [(kind, changes) for kind, changes in CASES if kind not in OTHER]


def noise(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch_generator(0, "noise"))


def trained(kind: str, changes: dict[str, Any]) -> nn.Module:
    """Build a network whose statistics and biases are those of no fresh one."""
    network, generator = build(kind, changes), torch_generator(0, "weights")
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(generator=generator)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2, generator=generator)  # type: ignore[union-attr]
        if isinstance(getattr(module, "bias", None), Tensor):
            nn.init.normal_(module.bias, 0, 0.3, generator)  # type: ignore[arg-type]
    return network.requires_grad_(False).eval()


def by_steps(tiling: Tiling, size: tuple[int, int], steps: tuple[int, int], shorter: int = 0) -> Plan:
    """Cut a picture into parts that keep `steps`, with the halo of the network or one that is `shorter`."""
    rows, columns = (a._replace(before=a.before - shorter, after=a.after - shorter) for a in tiling._axes(size, False))
    return tiling._exact(Cut(rows, columns, steps))


def error(tiling: Tiling, image: Tensor, plan: Plan) -> float:
    """Return the largest difference to the whole, relative to the largest value."""
    whole = tiling.network(image)
    return float((Tiled(tiling.network, plan)(image) - whole).abs().max() / whole.abs().max())


# Exact tiles


@pytest.mark.parametrize(("kind", "changes"), DENSE)
def test_exact_tiles_equal_the_whole(kind: str, changes: dict[str, Any]) -> None:
    """Of every network, in single and double precision, at sizes that are no multiples of its strides, or it says why not."""
    tiling = Tiling(trained(kind, changes), 3)
    before, after, (period, _), whole = tiling.reach
    unpools = changes.get("upsample") == "unpool" or kind == "segnet"  # where rounding may choose another of two maxima
    if whole:
        assert whole in dict(tiling.network.named_modules())
        settings = type(tiling.network).__name__, changes.get("norm"), changes.get("bottleneck")
        assert {"instance", "group", "vector", "Pix2PixUNet", "ResidualEncoderDecoder"} & set(settings)
        return
    long, short = before[0] + after[0] + 2 * period + 5, period + 1
    size = (long, short) if period % 3 else (short, long)
    for size, steps in (((long, short), (period, 2 * period)), ((short + period // 2, long), (2 * period, period))):
        plan = by_steps(tiling, size, steps)
        assert error(tiling, noise(1, 3, *size), plan) < (1e-3 if unpools else 1e-5)
    assert error(Tiling(tiling.network.double(), 3), noise(1, 3, *size).double(), plan) < 1e-12


@pytest.mark.parametrize("changes", [{"depth": 2}, {"depth": 3, "output_stride": 4}, {"depth": 2, "upsample": "unpool"}])
def test_every_size_and_step(changes: dict[str, Any]) -> None:
    tiling = Tiling(trained("unet", {"width": 2, **changes}).double(), 3)
    period = tiling.reach.period[0]
    for side in range(4 * period, 6 * period, 3):
        image = noise(1, 3, side, side + 1).double()
        for step in (period, 2 * period):
            assert error(tiling, image, by_steps(tiling, (side, side + 1), (step, 3 * period))) < 1e-12


@pytest.mark.parametrize("upsample", ["bilinear", "nearest", "transposed", "bed_of_nails"])
def test_a_halo_one_period_shorter_is_not_exact(upsample: str) -> None:
    """With weights and pictures that are positive nothing cancels, and what lies at the rim of the field is seen."""
    network = trained("unet", {"width": 2, "depth": 2, "norm": "none", "upsample": upsample}).double()
    for parameter in network.parameters():
        parameter.abs_()
    tiling = Tiling(network, 3)
    assert tiling.reach.whole is None
    image = 1 + noise(1, 3, 90, 74).double()
    assert error(tiling, image, by_steps(tiling, (90, 74), (8, 8))) < 1e-14
    assert error(tiling, image, by_steps(tiling, (90, 74), (8, 8), shorter=tiling.reach.period[0])) > 1e-9


def test_tiles_that_are_also_seen_mirrored() -> None:
    """The network looks 15 pixels back and 12 ahead; seen both ways, both halos are 15."""
    network = trained("residual", {"width": 4, "blocks": 0, "norm": "batch", "upsample": "nearest"}).double()
    tiling, image = Tiling(network, 3), noise(1, 3, 9, 73).double()
    assert tiling.reach[:3] == ((15, 15), (12, 12), (4, 4))

    def both(image: Tensor) -> Tensor:
        answer: Tensor = network(image) + network(image.flip(-1)).flip(-1)
        return answer

    def worst(mirrored: bool) -> float:
        rows, columns = tiling._axes((9, 73), mirrored)
        parts = exact(lambda tile: both(tile.of(image)), Cut(rows, columns, (12, 8)))
        return max(float((maps - place.of(whole)).abs().max()) for place, maps in parts)

    whole = both(image)
    assert worst(mirrored=True) < 1e-14 and worst(mirrored=False) > 1e-9


# Plans


def seen_by(network: nn.Module) -> list[tuple[int, int]]:
    sizes: list[tuple[int, int]] = []
    network.register_forward_hook(lambda _, inputs, __: sizes.append(tuple(inputs[0].shape[-2:])))
    return sizes


def test_a_plan_keeps_to_the_memory() -> None:
    network = trained("unet", {"width": 4, "depth": 2})
    tiling, image = Tiling(network, 3), noise(1, 3, 201, 150)
    whole, cost = network(image), tiling.peak
    sizes = seen_by(network)
    for pixels in (204 * 152, 20000, 9000, 70 * 70):
        sizes.clear()
        plan = tiling.plan((201, 150), tiling._takes((1, pixels)), "exact")
        assert plan.notes == () and plan.takes <= tiling._takes((1, pixels))
        torch.testing.assert_close(Tiled(network, plan)(image), whole, atol=1e-5, rtol=0)
        assert max(height * width for height, width in sizes) <= pixels
        assert (sizes == [(201, 150)]) == (pixels == 204 * 152)
    with pytest.raises(
        UsageError, match=r"an exact tile takes \d+\.\d\d MiB, and [\d.]+ K?i?B of the memory are left"
    ) as caught:
        tiling.plan((201, 150), int(10 * cost), "exact")
    assert caught.value.hint.startswith("raise memory by at least ")


def test_predicted_memory_is_that_of_the_layers() -> None:
    """Two convolutions of 8 channels: the picture's 3, both results and 3 of the second's answer at most, times 4 bytes."""
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 16, 1))
    network.stride = 1  # type: ignore[assignment]
    tiling = Tiling(network, 3)
    assert tiling.output == 4 * 16 and tiling.peak == pytest.approx(2.5 * 4 * (3 + 8 + 16), rel=0.15)


@pytest.mark.parametrize("kind", ["instance", "group"])
def test_a_network_that_sees_the_whole_picture_is_blended_and_says_so(kind: str) -> None:
    network = trained("unet", {"width": 4, "depth": 2, "norm": kind})
    tiling, image = Tiling(network, 3), noise(1, 3, 150, 201)
    room = tiling._takes((96, 96)) + 2 * 201 * 96 * tiling.output
    plan = tiling.plan((150, 201), int(room))
    (note,) = plan.notes
    assert note == f"an approximation by blended tiles of 96x96 pixels: {tiling.reach.whole} sees the whole picture"
    sizes = seen_by(network)
    blended = Tiled(network, plan)(image)
    assert set(sizes) == {(96, 96), (96, 93), (94, 96), (94, 93)}
    whole = network(image)
    assert (blended - whole).abs().max() > 1e-4 and (blended - whole).abs().mean() < 0.1 * whole.std()
    with pytest.raises(UsageError, match=f"tiles=exact is impossible with this network: {tiling.inexact}"):
        tiling.plan((150, 201), int(room), "exact")
    assert tiling.plan((150, 201), 10**10, "exact").notes == ()


class Curious(nn.Module):
    """An operation that is not followed."""

    stride = 1

    def forward(self, image: Tensor) -> Tensor:
        return torch.fft.fft(image).real * self.weight

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))


def test_a_network_that_cannot_be_followed_is_blended_and_says_so() -> None:
    tiling = Tiling(Curious(), 3)
    (note,) = tiling.plan((900, 900), tiling._takes((400, 400))).notes
    assert "operation '_fft_r2c'" in note and note.endswith("cannot be followed")
    with pytest.raises(UsageError, match="tiles=exact is impossible with this network: operation '_fft_r2c'"):
        tiling.plan((900, 900), tiling._takes((400, 400)), "exact")


def test_blended_where_asked_for_or_where_memory_is_too_small_for_exact_ones() -> None:
    tiling = Tiling(trained("unet", {"width": 4, "depth": 4}), 3)
    size, much, little = (900, 900), tiling._takes((500, 500)), tiling._takes((200, 200))
    assert tiling.plan(size, much).notes == ()
    assert tiling.plan(size, much, "blended").notes[0].endswith("pixels: as asked for")
    assert tiling.plan(size, little).notes[0].endswith("pixels: too little memory for exact ones")
    with pytest.raises(UsageError, match="a blended tile takes"):
        tiling.plan(size, tiling._takes((40, 40)))


def test_a_network_that_answers_once_for_a_picture_must_see_it_whole() -> None:
    tiling = Tiling(build("regressor", {"channels": (4, 8), "hidden": 8}), 3)
    assert tiling.plan((400, 400), 10**9).notes == ()
    with pytest.raises(UsageError, match="seeing the picture whole, as the network must, takes"):
        tiling.plan((400, 400), 10**6)


# Models


def model(name: str, *changes: str) -> Model:
    """Return an untrained model that sees pictures at their own size."""
    chosen = find_recipe(name).override(["view.fit=native", "network.width=4", *changes])
    meta = chosen.data.open("train").meta
    task = chosen.task.build(meta)
    torch.manual_seed(0)
    networks = task.networks(chosen.network)
    labels_in = ("labels",) if getattr(chosen.task, "source", "") == "labels" else ()
    settings = {"task": chosen.task, "network": chosen.network, "view": chosen.view}
    return Model(Description(recipe=name, meta=meta, labels_in=labels_in, **settings), task, dict(networks.items()))


def in_parts(model: Model, side: int = 40) -> Model:
    """Give a model memory for tiles of `side` pixels beyond its halo."""
    tiling, seen = model._tiling, side + sum(model._tiling.reach.before) + model._tiling.reach.period[0]
    model.memory, room = 1, tiling._takes((seen, seen))
    model._plan = lambda size, held, mirrored=False, turned=False: (  # type: ignore[method-assign]
        tiling.plan(size, room, model.tiles, mirrored, turned)
    )
    return model


PICTURE = np.random.default_rng(0).integers(0, 256, (141, 203, 3), dtype=np.uint8)
PIXEL_MODELS = {
    "labels": ("world_segmentation", "network.depth=2"),
    "labels, mirrored": ("world_segmentation", "network.depth=2", "task.flip_test=true"),
    "masks, mirrored": ("world_multilabel", "network.depth=2", "task.flip_test=true"),
    "depth": ("world_depth", "network.depth=2"),
    "depth, mirrored": ("world_depth", "network.depth=2", "task.flip_test=true", "task.codec=inverse"),
    "normals": ("world_normals", "network.depth=2"),
    "normals, mirrored": ("world_normals", "network.depth=2", "task.flip_test=true"),
    "boundaries, mirrored": ("world_boundaries", "network.depth=2", "task.sides=3", "task.flip_test=true"),
    "several": ("world_multitask", "network.depth=2", "task.features=4"),
    "several, mirrored": (
        "world_multitask",
        "network.depth=2",
        "task.features=4",
        *(f"task.parts.{part}.flip_test=true" for part in ("labels", "normals")),
    ),
    "picture": ("world_translation", "network.kind=unet", "network.depth=2"),
}


def answers(prediction: Prediction, prefix: str = "") -> dict[str, Tensor]:
    """Return every tensor of a prediction and its parts by name."""
    if isinstance(prediction, SeveralPrediction):
        return {k: v for name, part in prediction.parts.items() for k, v in answers(part, f"{name}.").items()}
    return {prefix + name: value for name, value in vars(prediction).items() if isinstance(value, Tensor) and name != "image"}


def varied(answer: Tensor) -> bool:
    """Tell whether an answer says different things at different pixels, or else tiles could not be wrong."""
    return bool((answer != answer.flatten()[0]).any())


@pytest.mark.parametrize("name", PIXEL_MODELS)
def test_a_model_answers_in_parts_as_for_the_whole(name: str) -> None:
    one = model(*PIXEL_MODELS[name])
    whole, sizes = one(PICTURE), seen_by(next(iter(one.networks.values())))
    parts = in_parts(one)(PICTURE)
    real = [size for size in sizes if size[0] < 141 and size[1] < 203]
    assert len(real) > 4 and parts.notes == ()
    if isinstance(whole, ImagePrediction):
        difference = whole.pixels.int() - parts.pixels.int()  # type: ignore[attr-defined]
        assert difference.abs().max() <= 1 and (difference != 0).float().mean() < 1e-3
    else:
        expected, found = answers(whole), answers(parts)
        assert expected.keys() == found.keys() and all(map(varied, expected.values()))
        for field, tensor in expected.items():
            torch.testing.assert_close(found[field], tensor, atol=1e-5, rtol=1e-5 if tensor.is_floating_point() else 0)
    assert torch.equal(whole.image, parts.image)


def test_label_maps_are_cut_into_parts_too() -> None:
    one = model("world_translation", "network.kind=unet", "network.depth=2", "task.source=labels", "task.labels=one_hot")
    labels = np.random.default_rng(0).integers(0, 3, (141, 203), dtype=np.uint8)
    whole = one(labels)
    difference = whole.pixels.int() - in_parts(one)(labels).pixels.int()  # type: ignore[attr-defined]
    assert one.task.sheets == len(one.description.meta.classes) > 3 and difference.abs().max() <= 1


def test_key_points_come_from_maps_that_are_put_together() -> None:
    one = model("world_keypoints", "network.depth=2", "task.flip_test=true")
    whole = one(PICTURE)
    sizes = seen_by(one.networks["network"])
    parts = in_parts(one)(PICTURE)
    assert sum(size != (141, 203) for size in sizes) > 8
    torch.testing.assert_close(whole.points, parts.points, atol=1e-3, rtol=0)  # type: ignore[attr-defined]
    one = model("world_keypoints", "network.depth=2")
    one.memory = memory.resident() + 2 * 10**8
    with pytest.raises(UsageError, match="of the memory are left"):
        one(np.zeros((4000, 3000, 3), np.uint8))


def test_pictures_of_one_size_go_one_by_one_where_a_batch_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    one = model("world_segmentation", "network.depth=2")
    field = Image(torch.from_numpy(PICTURE).permute(2, 0, 1), Frame.of((141, 203)))
    samples = [Sample(str(i), {"image": field}) for i in range(3)]
    batch: list[int] = []
    one.networks["network"].register_forward_hook(lambda _, inputs, __: batch.append(len(inputs[0])))
    one.predict(samples)
    monkeypatch.setattr("pixelwise.model.WHOLE", 2 * 141 * 203)
    one.predict(samples)
    assert batch[0] == 3 and batch[-3:] == [1, 1, 1]


def test_how_sure_a_huge_answer_is_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    one = model("world_segmentation", "network.depth=2")
    monkeypatch.setattr(segmentation, "MOST_CONFIDENT", 141 * 203 - 1)
    assert one(PICTURE).confidence is None  # type: ignore[attr-defined]
    monkeypatch.setattr(segmentation, "MOST_CONFIDENT", 141 * 203)
    assert one(PICTURE).confidence is not None  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a model with instance normalisation, and a picture."""
    folder = tmp_path_factory.mktemp("native")
    one = model("world_segmentation", "network.depth=2", "network.norm=instance")
    pixels = torch.from_numpy(PICTURE).permute(2, 0, 1)
    one.save(folder / "model", Sample("x", {"image": Image(pixels, Frame.of((141, 203)))}), "a card")
    PillowImage.fromarray(np.tile(PICTURE, (4, 4, 1))).save(folder / "large.png")
    return folder


def test_what_is_approximate_is_said(saved: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Model, "_room", lambda _: 200_000_000)
    outcome = predict_files(saved / "model", [saved / "large.png"], tmp_path, memory=10**9)
    (answer,), err = outcome["predictions"], capsys.readouterr().err
    (note,) = answer["notes"]
    assert note.startswith("an approximation by blended tiles of ") and note.endswith(" sees the whole picture")
    assert f"note: {saved}/large.png: {note}" in err
    outcome = predict_files(saved / "model", [saved / "large.png"], tmp_path, memory=10**9, tiles="exact")
    assert outcome["failed"][0]["error"].endswith(": encoder.levels.0.1 sees the whole picture")
    monkeypatch.setattr(Model, "_room", lambda _: 10**10)
    outcome = predict_files(saved / "model", [saved / "large.png"], tmp_path)
    assert "notes" not in outcome["predictions"][0]


def test_a_picture_that_cannot_be_read_within_the_memory(saved: Path) -> None:
    with pytest.raises(DataError, match=r"large.png: reading 812x564 pixels takes [\d.]+ MiB, and 0 B of the memory are left"):
        load(saved / "model", memory="1MB")(saved / "large.png")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("memory=much", "memory = 'much': should be an amount of memory"),
        ("memory=4XB", "memory = '4XB': should be an amount of memory"),
        ("memory=-1GB", "memory = '-1GB': should be an amount of memory"),
        ("memory=0", "memory = '0': should be an amount of memory"),
        ("memory=", "memory = '': should be a name"),
        ("tiles=exakt", "tiles = 'exakt': should be one of auto, exact, blended"),
    ],
)
def test_bad_options_of_predict(saved: Path, capsys: Capture, word: str, message: str) -> None:
    assert main(["predict", str(saved / "model"), str(saved / "large.png"), word]) == 2
    assert capsys.readouterr().err.splitlines()[0] == f"error: {message}"
    with pytest.raises(UsageError, match="tiles = 'exakt'") as caught:
        load(saved / "model", tiles="exakt")  # type: ignore[arg-type]
    assert caught.value.hint == "did you mean 'exact'?"


def test_amounts_of_memory() -> None:
    texts = {"4GiB": 2**32, "1.5GB": 15 * 10**8, "300 mb": 3 * 10**8, "2KiB": 2048, "1000": 1000, "7B": 7, "1MiB": 2**20}
    assert {text: parse_bytes(text) for text in texts} == texts


# Huge pictures: what is done band by band


def test_a_picture_written_in_bands_is_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2103, 2001, 3), dtype=np.uint8)).permute(2, 0, 1)
    answer = ImagePrediction(pixels[:, :1, :1], pixels)
    monkeypatch.setattr(written, "LARGE", 2**22)
    monkeypatch.setattr(ImagePrediction, "render", None)
    with PillowImage.open(answer.save(tmp_path / "x.png")) as image:
        assert image.format == "PNG" and image.mode == "RGB"
        assert np.array_equal(np.asarray(image), pixels.permute(1, 2, 0).numpy())
    mean = pixels.double().mean((1, 2)) / 255
    assert answer.to_json()["mean"] == pytest.approx(mean.tolist(), abs=1e-6)


def test_large_pictures_are_warped_without_floats_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.from_numpy(PICTURE).permute(2, 0, 1)
    motions = [(resize((141, 203), (32, 48)), (32, 48)), (scaling(0.21, 0.21), (29, 42)), (rotation(10), (141, 203))]
    usual = [warp.warp_image(image, *motion) for motion in motions]
    monkeypatch.setattr(warp, "LARGE", 5000)
    floats: list[int] = []
    real = warp._floating
    monkeypatch.setattr(warp, "_floating", lambda values: floats.append(values[0].numel()) or real(values))
    for motion, expected in zip(motions, usual, strict=True):
        difference = (warp.warp_image(image, *motion).int() - expected.int()).abs()
        assert difference.max() <= 1
    assert floats and max(floats) < image[0].numel() / 2


def test_memory_of_the_process() -> None:
    memory.give_back()
    before = memory.resident()
    held = [bytearray(1_000_000) for _ in range(100)]  # small enough for the C library to keep them
    assert 90_000_000 < memory.resident() - before < 130_000_000
    del held
    memory.give_back()
    assert memory.resident() - before < 20_000_000
    assert 10**8 < memory.available() < 10**14


@pytest.mark.slow
def test_the_peak_of_a_process_keeps_to_its_memory(tmp_path: Path) -> None:
    """36 million pixels: 108 MB of picture, 144 MB in Pillow, 180 MB of answer; whole, the network would take 5 GB."""
    model("world_segmentation", "network.width=8").save(
        tmp_path / "model", Sample("x", {"image": Image(torch.zeros(3, 64, 64, dtype=torch.uint8), Frame.of((64, 64)))}), ""
    )
    PillowImage.fromarray(np.tile(PICTURE, (43, 30, 1))[:6000, :6000]).save(tmp_path / "large.png")
    words = [sys.executable, "-m", "pixelwise", "predict", "model", "large.png", "memory=1.3GB", "tiles=exact", "--json"]
    code = (
        "import json, resource, subprocess, sys; done = subprocess.run(sys.argv[1:], capture_output=True, text=True);"
        "print(json.dumps([done.stdout, done.stderr, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024]))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    out, err, peak = json.loads(done.stdout)
    assert json.loads(out)["failed"] == [], err
    assert peak < 1.3e9
