"""Super-resolution: the published protocol, the published networks by their counts, exact tiles, and bad input."""

from __future__ import annotations

import io
import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from skimage.metrics import structural_similarity
from torch import Tensor, nn
from torch.nn import functional

from pixelwise.cli import main
from pixelwise.codecs.fine_rgb import FineRGBCodec
from pixelwise.data.augment import Augment, View
from pixelwise.data.datasets import image_folder, low_resolution, world
from pixelwise.data.degradation import Degradation
from pixelwise.data.loader import Batches
from pixelwise.data.sample import FineImage, Image, Sample
from pixelwise.errors import DataError, UsageError
from pixelwise.geometry.frame import Frame
from pixelwise.geometry.homography import horizontal_flip, scaling, translation
from pixelwise.geometry.resample import bicubic
from pixelwise.metrics.super_resolution import SuperResolutionMetrics
from pixelwise.model import Model
from pixelwise.nn.enlarging import BicubicSheets, LumaEnlarger
from pixelwise.nn.networks import espcn, fsrcnn, residual_pixel_shuffle, srcnn, vdsr
from pixelwise.nn.tiling import FIRST
from pixelwise.recipe import find_recipe
from pixelwise.run import Data, describe, train
from pixelwise.tasks.super_resolution import symmetries

OWN_SIZE = ["data.source.scenes=8", "data.source.size=32x32", "view.size=16x16"]
TINY = {
    "residual_pixel_shuffle": ["network.width=8", "network.blocks=1"],
    "fsrcnn": ["network.features=8", "network.shrunk=4", "network.mappings=1"],
    "srcnn": ["network.widths=8,4"],
    "espcn": ["network.widths=8,4"],
}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


@lru_cache
def untrained(*pairs: str) -> Model:
    """A model whose weights are large enough to tell."""
    kind = next((pair.removeprefix("network.kind=") for pair in pairs if pair.startswith("network.kind=")), "")
    tiny = TINY[kind or "residual_pixel_shuffle"]
    recipe = find_recipe("world_super_resolution").override([*OWN_SIZE, *tiny, *pairs])
    data = Data.of(recipe)
    torch.manual_seed(0)
    networks = data.task.networks(recipe.network)
    with torch.no_grad():
        for parameter in networks.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return Model(describe(recipe, data), data.task, networks)


# A picture on a finer grid


def test_a_fine_picture_moves_with_the_coarse_one() -> None:
    """A crop by one coarse pixel is one by three fine ones, and a mirror of either is one of both."""
    pixels = noise(3, 12, 18)
    fine = FineImage(pixels, Frame.of((4, 6)), 3)
    cropped = fine.warp(translation(-1, -2), (2, 5))
    assert torch.equal(cropped.pixels, pixels[:, 6:, 3:]) and cropped.frame.size == (2, 5)
    assert torch.equal(fine.warp(horizontal_flip(6), (4, 6)).pixels, pixels.flip(-1))
    assert fine.warp(scaling(0.5, 0.5), (2, 3)).pixels.shape == (3, 6, 9)


@pytest.mark.parametrize("size", [(5, 5), (4, 7)])
def test_quarter_turns_copy_pixels_and_keep_low_and_high_resolution_together(size: tuple[int, int]) -> None:
    coarse = noise(3, 9, 11)
    fine = coarse.repeat_interleave(2, -1).repeat_interleave(2, -2)
    frame = Frame.of((9, 11))
    sample = Sample("a", {"image": Image(coarse, frame), "fine": FineImage(fine, frame, 2)})
    augment, view = Augment(flip=0.5, quarter_turns=1.0), View(size=size, fit="native")
    upright = set()
    for seed in range(40):
        seen = augment.draw(np.random.default_rng(seed), (9, 11), view).apply(sample, ("image",))
        image, large = (seen[name].tensors()[""] for name in ("image", "fine"))
        assert image.shape[1:] == size
        assert torch.equal(image.repeat_interleave(2, -1).repeat_interleave(2, -2), large)
        ways = (n for n, (to, _) in enumerate(symmetries()) if _is_within(to(image), coarse))
        upright.add(next(ways))
    assert upright == set(range(8))


def _is_within(part: Tensor, picture: Tensor) -> bool:
    height, width = part.shape[-2:]
    if height > picture.shape[-2] or width > picture.shape[-1]:
        return False
    windows = picture.unfold(1, height, 1).unfold(2, width, 1)
    return bool((windows == part[:, None, None]).flatten(3).all(-1).all(0).any())


# The data


def _folder(root: Path, **pictures: Tensor) -> str:
    for name, pixels in pictures.items():
        array = pixels.permute(1, 2, 0).numpy() if pixels.dim() == 3 else pixels.numpy()
        PillowImage.fromarray(array).save(root / f"{name}.png")
    return str(root)


def _opened(root: str, split: str = "train", scale: int = 2, **changes: object) -> low_resolution.LowResolution:
    source = image_folder.Config(root=root, train=("a.png",), val=("b.png",))
    opened = low_resolution.Config(source=source, scale=scale, **changes).open(split)  # type: ignore[arg-type]
    assert isinstance(opened, low_resolution.LowResolution)
    return opened


def test_the_low_resolution_is_the_rounded_bicubic_of_a_multiple_of_the_scale(tmp_path: Path) -> None:
    pixels = noise(3, 11, 13)
    sample = _opened(_folder(tmp_path, a=pixels, b=noise(6, 6)), scale=3).sample(0, ("image", "fine"))
    image, fine = (sample[name].tensors()[""] for name in ("image", "fine"))
    assert torch.equal(fine, pixels[:, :9, :12])
    expected = bicubic(pixels[:, :9, :12].double(), (3, 4)).round().clamp(0, 255)
    assert torch.equal(image.double(), expected) and image.dtype == torch.uint8
    assert sample["fine"].frame.size == (3, 4)


def test_what_is_grey_in_its_file_is_known_to_be(tmp_path: Path) -> None:
    grey = noise(6, 6)
    root = _folder(tmp_path, a=grey.expand(3, 6, 6), b=grey)
    fields = [_opened(root, split).sample(0, ("fine",))["fine"] for split in ("train", "val")]
    assert [field.grey for field in fields if isinstance(field, FineImage)] == [False, True]
    assert torch.equal(fields[0].tensors()[""], fields[1].tensors()[""])


def test_a_picture_smaller_than_one_pixel_of_the_low_resolution(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="13x2 pixels cannot be reduced 3 times"):
        _opened(_folder(tmp_path, a=noise(3, 2, 13), b=noise(6, 6)), scale=3).sample(0, ("image",))


def test_the_first_picture_smaller_than_the_crop_is_named(tmp_path: Path) -> None:
    root = _folder(tmp_path, a=noise(3, 20, 60), b=noise(3, 8, 8))
    told = []
    for side in (10, 11):
        data = _opened(root)
        made = Batches(data, data.fields, View(size=(side, side), fit="native"), Augment(), 2, 0)
        _ = made[0], made[1]
        told.append(data.notes)
    assert told[0] == []
    (note,) = told[1]
    assert "has 30x10 pixels, the crop (view.size) 11x11: the rest of the crop is fill" in note


def test_memory_of_pictures_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(low_resolution, "_MEMORY", 3 * 32 * 32 * 5 // 4 + 1)
    opened = low_resolution.Config(source=world.Config(scenes=4, size=(32, 32))).open("train")
    assert isinstance(opened, low_resolution.LowResolution)
    first = opened.sample(0, ("image",))["image"].tensors()[""].clone()
    for index in range(4):
        opened.sample(index, ("image",))
    assert list(opened._kept) == [3]
    assert torch.equal(opened.sample(0, ("image",))["image"].tensors()[""], first)


# Blind


HARM = Degradation(blur=(0.5, 2.0), noise=(5, 10), jpeg=(30, 60))


def test_training_is_degraded_anew_each_time_and_validation_never(tmp_path: Path) -> None:
    root = _folder(tmp_path, a=noise(3, 32, 32), b=noise(3, 32, 32, seed=1))
    training, val = (_opened(root, split, degradation=HARM) for split in ("train", "val"))
    clean = _opened(root).sample(0, ("image",))["image"].tensors()[""]
    batches = [Batches(training, ("image", "fine"), View(size=(16, 16), fit="native"), Augment(), 2, 0) for _ in range(2)]
    first, again = (b[3]["image"] for b in batches)
    assert torch.equal(first, again)  # a function of the seed and the place
    assert not torch.equal(first[0], first[1]) and not torch.equal(first[0], clean)
    assert torch.equal(batches[0][3]["fine"][0], batches[0][3]["fine"][1])
    seen = [_opened(root, "val", degradation=HARM).sample(0, ("image",))["image"].tensors()[""] for _ in range(2)]
    assert torch.equal(*seen) and torch.equal(seen[0], val.sample(0, ("image",))["image"].tensors()[""])
    assert not torch.equal(seen[0], _opened(root, "val").sample(0, ("image",))["image"].tensors()[""])


def test_how_strong_blur_and_noise_are() -> None:
    """A bright line under a Gaussian of 2 pixels; noise of 10 levels on grey."""
    line = torch.zeros(3, 64, 64, dtype=torch.uint8)
    line[..., 32] = 250
    blurred = Degradation(blur=(2, 2)).reduced(line, 1, np.random.default_rng(0))[0, 32].double()
    place = torch.arange(64, dtype=torch.float64)
    assert ((place - 32).square() * blurred).sum() / blurred.sum() == pytest.approx(4, abs=0.1)
    grey = torch.full((3, 128, 128), 128, dtype=torch.uint8)
    noisy = Degradation(noise=(10, 10)).reduced(grey, 2, np.random.default_rng(0)).double()
    assert noisy.std() == pytest.approx(10, abs=0.2) and noisy.mean() == pytest.approx(128, abs=0.3)


def test_jpeg_is_that_of_pillow() -> None:
    fine = noise(3, 32, 48)
    found = Degradation(jpeg=(35, 35)).reduced(fine, 1, np.random.default_rng(0))
    file = io.BytesIO()
    PillowImage.fromarray(fine.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=35)
    with PillowImage.open(file) as image:
        assert np.array_equal(found.permute(1, 2, 0).numpy(), np.asarray(image))


# Networks


def weights(network: nn.Module) -> int:
    return sum(p.numel() for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d) for p in [m.weight])


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("name", "scale", "train"),
    [("srcnn_x2", 2, "t91"), ("fsrcnn_x2", 2, "t91"), ("espcn_x3", 3, "t91"), ("vdsr_x2", 2, "291")],
)
def test_presets_have_the_published_pictures_loss_and_structure(name: str, scale: int, train: str) -> None:
    recipe = find_recipe(f"sr_{name}")
    kinds = {"srcnn": srcnn.Config(), "fsrcnn": fsrcnn.Config(), "espcn": espcn.Config(), "vdsr": vdsr.Config()}
    assert recipe.network == kinds[name.partition("_")[0]] and recipe.name == f"sr_{name}"
    task, data = recipe.task.model_dump(), recipe.data.model_dump()
    assert (task["scale"], task["loss"], task["channels"], data["scale"]) == (scale, "l2", "y", scale)
    assert data["source"]["train"] == (("sr_t91",) if train == "t91" else ("sr_t91", "bsds500/train/images"))
    assert data["degradation"] == Degradation().model_dump()


def test_the_published_networks_by_their_counts() -> None:
    """SRCNN 9-1-5 has 8,032 weights, 9-5-5 57,184, FSRCNN 12,464, VDSR 664,704; biases and PReLU counted by hand."""
    small = srcnn.Config().build(1, 4)
    assert weights(small) == 81 * 64 + 64 * 32 + 25 * 32 == 8032
    assert parameters(small) == 8032 + 64 + 32 + 1
    assert weights(srcnn.Config(kernels=(9, 5, 5)).build(1, 9)) == 81 * 64 + 25 * 64 * 32 + 25 * 32 == 57184
    fast = fsrcnn.Config().build(1, 9)
    assert weights(fast) == 25 * 56 + 56 * 12 + 4 * 9 * 12 * 12 + 12 * 56 + 81 * 56 == 12464
    assert parameters(fast) == 12464 + 2 * (56 + 12 + 4 * 12 + 56) + 1  # a bias and a slope for each, a bias at the end
    deep = vdsr.Config().build(1, 4)
    assert weights(deep) == 9 * 64 + 18 * 9 * 64 * 64 + 9 * 64 == 664704
    assert parameters(deep) == 664704 + 19 * 64 + 1
    shuffled = espcn.Config().build(1, 9)
    assert parameters(shuffled) == (25 * 64 + 64) + (9 * 64 * 32 + 32) + (9 * 32 * 9 + 9)
    ours = residual_pixel_shuffle.Config().build(1, 4)
    assert parameters(ours) == (9 * 64 + 64) + 8 * (9 * 64 * 64 + 64) + (9 * 64 * 4 + 4) == 298372


@pytest.mark.parametrize("scale", [2, 3, 4, 5])
def test_every_network_keeps_pixels_in_their_places(scale: int) -> None:
    """What a fine pixel sees lies about the coarse pixel that it is in: its middle is less than one away."""
    for config in (
        espcn.Config(),
        srcnn.Config(),
        vdsr.Config(depth=3, width=8),
        fsrcnn.Config(),
        residual_pixel_shuffle.Config(width=8),
    ):
        torch.manual_seed(0)
        network = config.build(1, scale**2).double()
        image = torch.rand(1, 1, 27, 27, dtype=torch.float64, requires_grad=True)
        picture = functional.pixel_shuffle(network(image), scale)
        middle = 13 * scale
        (gradient,) = torch.autograd.grad(picture[..., middle : middle + scale, middle : middle + scale].sum(), image)
        rows = gradient[0, 0].abs().sum(1).nonzero()[:, 0]
        assert abs(int(rows[0]) + int(rows[-1]) - 26) <= 1, config.kind


@pytest.mark.parametrize("scale", [2, 3, 4, 7])
@pytest.mark.parametrize("size", [(1, 1), (1, 6), (2, 2), (5, 9)])
def test_bicubic_sheets_are_the_bicubic_picture(scale: int, size: tuple[int, int]) -> None:
    image = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        found = functional.pixel_shuffle(BicubicSheets(scale)(image), scale)
    expected = bicubic(image.double(), (scale * size[0], scale * size[1]))
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=0)


def test_the_luma_is_the_networks_and_the_chroma_bicubic() -> None:
    class Half(nn.Module):
        """A network that says grey everywhere."""

        def forward(self, image: Tensor) -> Tensor:
            return torch.full_like(image, 0.5).repeat(1, 4, 1, 1)

    image = torch.rand(1, 3, 6, 7, dtype=torch.float32)
    sheets = LumaEnlarger(Half(), 2)(image)
    picture, smooth = functional.pixel_shuffle(sheets, 2), bicubic(image, (12, 14))
    weights = torch.tensor([65.481, 128.553, 24.966])[:, None, None]
    torch.testing.assert_close(((picture * weights).sum(1) + 16) / 255, torch.full((1, 12, 14), 0.5), atol=1e-6, rtol=0)
    for a, b in ((0, 1), (1, 2)):  # differences of channels have no luma
        torch.testing.assert_close(picture[:, a] - picture[:, b], smooth[:, a] - smooth[:, b], atol=1e-5, rtol=0)


def test_networks_that_enlarge_say_what_they_are_for() -> None:
    with pytest.raises(UsageError, match="not 7 in all"):
        vdsr.Config().build(3, 7)
    with pytest.raises(UsageError, match="at most 9 times, not 10"):
        fsrcnn.Config().build(1, 100)


def test_the_compact_network_begins_as_bicubic() -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 1, 8, 8)
    network = residual_pixel_shuffle.Config().build(1, 4)
    assert (network(image) - BicubicSheets(2)(image)).abs().mean() < 0.02


def test_the_codec_is_an_inverse_pair() -> None:
    picture, codec = noise(2, 3, 9, 12), FineRGBCodec(3)
    assert codec.encode(picture).shape == (2, 27, 3, 4)
    assert torch.equal(codec.decode(codec.encode(picture)), picture)
    assert torch.equal(codec.decode(codec.flip(codec.encode(picture))), picture.flip(-1))


# The protocol


def test_the_metric_by_hand() -> None:
    """White beside black by one level of G at one pixel of 16: Y differs by round(0.504) = 1 there; the border has no vote."""
    original = torch.zeros(3, 8, 8, dtype=torch.uint8)
    ours = original.clone()
    ours[1, 4, 4] = 1
    ours[:, 0] = 255  # in the border of 2
    metrics = SuperResolutionMetrics(2)
    metrics.update(ours, original)
    # Y = 16 + 128.553 / 255 = 16.504, which rounds to 17; one of 4 x 4 pixels
    assert metrics.compute() == {"psnr_y_crop2": pytest.approx(20 * np.log10(255) + 10 * np.log10(16), abs=1e-9)}


def test_grey_files_count_in_full_range() -> None:
    original = torch.full((3, 6, 6), 100, dtype=torch.uint8)
    ours, metrics = original + 10, SuperResolutionMetrics(2)
    metrics.update(ours, original, grey=True)
    assert metrics.records[0]["psnr_y_crop2"] == pytest.approx(20 * np.log10(255 / 10), abs=1e-9)


def test_ssim_is_that_of_scikit_image_inside() -> None:
    original = noise(3, 40, 44)
    ours = (original.float() * 0.8 + 20).round().byte()
    metrics = SuperResolutionMetrics(3)
    metrics.update(ours, original)
    weights = np.array([65.481, 128.553, 24.966]) / 255
    a, b = (np.round(np.tensordot(weights, p.numpy().astype(float), 1) + 16)[3:-3, 3:-3] for p in (ours, original))
    _, every = structural_similarity(
        a, b, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    assert metrics.records[0]["ssim_y_crop3"] == pytest.approx(every[5:-5, 5:-5].mean(), abs=1e-6)


def test_pictures_smaller_than_the_border_have_no_vote() -> None:
    metrics = SuperResolutionMetrics(4)
    tiny = torch.zeros(3, 8, 30, dtype=torch.uint8)
    metrics.update(tiny, tiny)
    assert metrics.compute() == {}
    large = torch.zeros(3, 30, 30, dtype=torch.uint8)
    metrics.update(large, large)
    assert metrics.compute() == {"psnr_y_crop4": 100.0, "ssim_y_crop4": 1.0}


# The task


def test_the_scale_of_task_and_data_must_agree() -> None:
    with pytest.raises(UsageError, match=r"task.scale = 3, but the pictures of the data are 2 times as fine"):
        Data.of(find_recipe("world_super_resolution").override([*OWN_SIZE, "task.scale=3"]))


@pytest.mark.parametrize("setting", ["augment.rotate=5", "augment.brightness=0.1", "augment.scale=0.9,1", "view.fit=stretch"])
def test_what_would_change_the_low_resolution_is_refused(setting: str) -> None:
    with pytest.raises(UsageError, match="low resolution"):
        Data.of(find_recipe("world_super_resolution").override([*OWN_SIZE, setting]))


@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("channels", ["y", "rgb"])
def test_the_answer_is_what_the_network_says(scale: int, channels: str) -> None:
    model = untrained(f"task.scale={scale}", f"data.scale={scale}", "view.size=10x10", f"task.channels={channels}")
    pixels = noise(3, 9, 5)
    prediction = model(pixels)
    with torch.inference_mode():
        sheets = model.networks["network"](pixels[None] / 255)
    expected = (functional.pixel_shuffle(sheets, scale)[0] * 255).round().clamp(0, 255)
    assert torch.equal(prediction.pixels.float(), expected)  # type: ignore[attr-defined]
    told = prediction.to_json()
    assert told["scale"] == scale and told["enlarged"] == {"height": 9 * scale, "width": 5 * scale}
    assert (told["height"], told["width"]) == (9, 5)


@pytest.mark.parametrize("kind", list(TINY))
@pytest.mark.parametrize("ensemble", [False, True])
def test_tiles_have_no_seams(kind: str, ensemble: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture seen in tiles gives the same pixels as the whole picture, also turned and mirrored."""
    model = untrained(f"network.kind={kind}", f"task.self_ensemble={str(ensemble).lower()}")
    pixels = noise(3, 90, 110)
    whole = model(pixels)
    tiling = model._tiling
    monkeypatch.setattr(model, "memory", 2**40)
    monkeypatch.setattr(model, "_room", lambda: FIRST + int(tiling.peak * 90 * 110 * 0.6) + whole.nbytes)
    seen: list[int] = []
    with model.networks["network"].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0][0, 0].numel())):
        tiled = model(pixels)
    assert len(seen) >= 2 * (8 if ensemble else 1) and max(seen) < 90 * 110 and tiled.notes == ()
    assert torch.equal(tiled.pixels, whole.pixels)  # type: ignore[attr-defined]


def test_the_ensemble_does_not_see_how_the_picture_lies() -> None:
    model, pixels = untrained("task.self_ensemble=true"), noise(3, 12, 17)
    plain = model(pixels).pixels  # type: ignore[attr-defined]
    for to, back in symmetries():
        turned = back(model(to(pixels).contiguous()).pixels)  # type: ignore[attr-defined]
        assert (turned.int() - plain.int()).abs().max() <= 1


def test_symmetries_are_eight_and_have_their_ways_back() -> None:
    picture = torch.arange(6).view(2, 3)
    assert len({tuple(to(picture).flatten().tolist()) + to(picture).shape for to, _ in symmetries()}) == 8
    assert all(torch.equal(back(to(picture)), picture) for to, back in symmetries())


# End to end


@lru_cache
def _run(folder: Path) -> Path:
    pairs = [*OWN_SIZE, *TINY["residual_pixel_shuffle"], "steps=4", "batch_size=2", "evaluate_every=4", "precision=float32"]
    train(find_recipe("world_super_resolution").override(pairs), folder)
    return folder


def _size(path: str | Path) -> tuple[int, int]:
    with PillowImage.open(path) as image:
        return image.size


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _run(tmp_path_factory.mktemp("sr") / "run")


def test_predict_enlarges_files_folders_and_frames(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    _folder(pictures, wide=noise(3, 6, 40), thin=noise(3, 7, 1), grey=noise(5, 5))
    out = tmp_path / "out"
    assert main(["predict", str(run), str(pictures), f"out={out}", "--json"]) == 0
    told = {Path(p["file"]).stem: p for p in json.loads(capsys.readouterr().out)["predictions"]}
    assert told["wide"]["scale"] == 2 and told["wide"]["enlarged"] == {"height": 12, "width": 80}
    assert _size(told["thin"]["saved"]) == (2, 14) and _size(told["grey"]["saved"]) == (10, 10)
    assert main(["predict", str(run), str(pictures), "frames=true", f"out={tmp_path / 'video'}", "--json"]) == 0
    (video,) = json.loads(capsys.readouterr().out)["videos"]
    assert _size(Path(video["saved"][0]) / "wide.jpg") == (80, 12)


def test_a_scale_that_is_not_offered(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _folder(tmp_path, a=noise(3, 6, 6))
    assert main(["predict", str(run), str(tmp_path / "a.png"), "task.scale=4"]) == 2
    assert "task.scale cannot be changed after training: it is 2" in capsys.readouterr().err
