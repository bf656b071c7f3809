"""Colorization: codecs, weights, metrics and answers against numbers worked by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from skimage import color
from torch import Tensor

from pixelwise.asked import Footage
from pixelwise.batch import predict_files
from pixelwise.codecs.chroma import BINS, ChromaBinsCodec, ChromaCodec, ChromaHybridCodec
from pixelwise.color.chroma import annealed_mean, in_gamut, nearest_bin, rebalancing, smoothed, soft_encoding
from pixelwise.color.spaces import lab_of_srgb, srgb_of_lab, srgb_of_lightness
from pixelwise.data.augment import Augment, View
from pixelwise.data.dataset import Meta
from pixelwise.data.datasets import image_folder
from pixelwise.errors import DataError, UsageError
from pixelwise.losses.wavelets import haarpsi_loss
from pixelwise.metrics.colour import ColourMetrics, colourfulness
from pixelwise.model import Model, load
from pixelwise.nn.networks import unet
from pixelwise.predictions.image import ImagePrediction
from pixelwise.recipe import Recipe, find_recipe
from pixelwise.run import Data, describe, proceed, start
from pixelwise.tasks import colorization


def one(a: float, b: float) -> Tensor:
    return torch.tensor([float(a), float(b)]).view(1, 2, 1, 1)


def index_of(a: float, b: float) -> int:
    return int((in_gamut() - torch.tensor([a, b])).square().sum(1).argmin())


class TestSoftEncoding:
    def test_a_colour_on_a_bin(self) -> None:
        """exp(0) = 1 there, exp(-100 / 50) = 0.1353 on each of four neighbours: 1 / 1.5413 = 0.649 and 0.088."""
        index, weight = soft_encoding(one(20, -30))
        assert index.shape == weight.shape == (1, 5, 1, 1)
        assert index.flatten()[0] == index_of(20, -30)
        around = {index_of(20 + a, -30 + b) for a, b in ((10, 0), (-10, 0), (0, 10), (0, -10))}
        assert set(index.flatten()[1:].tolist()) == around
        whole = 1 + 4 * math.exp(-2)
        assert weight.flatten().tolist() == pytest.approx([1 / whole, *[math.exp(-2) / whole] * 4], abs=1e-6)
        assert weight.flatten()[:2].tolist() == pytest.approx([0.649, 0.088], abs=5e-4)

    def test_ten_neighbours_as_in_the_released_code(self) -> None:
        """Beyond the four come four diagonal ones of exp(-4), and one of exp(-8) at twice the step."""
        _, weight = soft_encoding(one(20, -30), neighbours=10)
        raw = [1.0, *[math.exp(-2)] * 4, *[math.exp(-4)] * 4, math.exp(-8)]
        assert weight.flatten().tolist() == pytest.approx([value / sum(raw) for value in raw], abs=1e-6)

    def test_a_colour_far_from_all_bins_still_sums_to_one(self) -> None:
        _, weight = soft_encoding(one(400, 400))
        assert weight.isfinite().all() and weight.sum().item() == pytest.approx(1)

    def test_nearest_bin_is_the_one_of_a_search(self) -> None:
        rgb = torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        ab = lab_of_srgb(rgb)[1:]
        searched = (ab.permute(1, 2, 0)[:, :, None] - in_gamut()).square().sum(-1).argmin(-1)
        assert torch.equal(nearest_bin(ab), searched)


class TestRebalancing:
    def test_weights_by_hand(self) -> None:
        """p = (3/4, 1/4), half mixed with (1/2, 1/2): (5/8, 3/8); inverses 8/5 and 8/3; their mean by p is 28/15."""
        weights = rebalancing(torch.tensor([0.75, 0.25], dtype=torch.float64))
        assert weights.tolist() == pytest.approx([1.6 * 15 / 28, 8 / 3 * 15 / 28])
        assert (weights * torch.tensor([0.75, 0.25])).sum().item() == pytest.approx(1)

    def test_bins_that_never_occur_are_no_part_of_the_even_share(self) -> None:
        weights = rebalancing(torch.tensor([0.75, 0.25, 0.0], dtype=torch.float64))
        assert weights[:2].tolist() == pytest.approx([1.6 * 15 / 28, 8 / 3 * 15 / 28]) and weights[2] == weights[1]

    def test_without_rebalancing_all_weigh_the_same(self) -> None:
        assert rebalancing(torch.tensor([0.75, 0.25], dtype=torch.float64), uniform=1.0).tolist() == pytest.approx([1, 1])

    def test_smoothing_keeps_the_mass_and_spreads_it_to_the_neighbours(self) -> None:
        """Around a bin in the middle: 1 of the kernel there, exp(-2) on four, exp(-4) on four, and so on: a product of sums."""
        counts = torch.zeros(BINS)
        counts[index_of(0, 0)] = 7
        share = smoothed(counts)
        line = sum(math.exp(-2 * step**2) for step in range(-6, 7))
        assert share.sum().item() == pytest.approx(1)
        assert share[index_of(0, 0)].item() == pytest.approx(1 / line**2, rel=1e-6)
        assert share[index_of(10, 0)].item() == pytest.approx(math.exp(-2) / line**2, rel=1e-6)


class TestAnnealedMean:
    def test_by_hand(self) -> None:
        """Two bins of odds 3 : 1 at T = 1; at T = 1/2 the odds are squared, 9 : 1."""
        logits = torch.full((1, BINS, 1, 1), -1e4)
        logits[0, index_of(0, 0)], logits[0, index_of(40, 20)] = math.log(3), 0.0
        assert annealed_mean(logits, 1.0).flatten().tolist() == pytest.approx([10, 5], abs=1e-4)
        assert annealed_mean(logits, 0.5).flatten().tolist() == pytest.approx([4, 2], abs=1e-4)
        assert annealed_mean(logits, 0.01).flatten().tolist() == pytest.approx([0, 0], abs=1e-4)


class TestCodecs:
    def test_cells_are_means_and_a_cell_across_the_border_is_of_what_is_inside(self) -> None:
        ab = torch.arange(30.0).view(1, 1, 5, 6).repeat(1, 2, 1, 1)
        cells = ChromaCodec(4).encode(ab)
        assert cells.shape == (1, 2, 2, 2)
        assert cells[0, 0].flatten().tolist() == pytest.approx([10.5, 13.5, 25.5, 28.5])

    def test_regression_by_hand_and_back(self) -> None:
        codec, truth = ChromaCodec(), one(33, -11)
        assert codec.loss(truth / 110, truth).item() == 0
        off = truth / 110 + torch.tensor([0.1, 0.3]).view(1, 2, 1, 1)
        assert codec.loss(off, truth).item() == pytest.approx((0.01 + 0.09) / 2)
        torch.testing.assert_close(codec.decode(truth / 110), truth)

    def test_classification_is_the_entropy_at_best_and_answers_the_colour(self) -> None:
        codec, truth = ChromaBinsCodec(temperature=1.0), one(20, -30)
        index, weight = soft_encoding(truth)
        perfect = torch.full((1, BINS, 1, 1), -60.0).scatter(1, index, weight.log())
        entropy = -(weight * weight.log()).sum().item()
        assert codec.loss(perfect, truth).item() == pytest.approx(entropy, abs=1e-5)
        assert codec.loss(torch.zeros(1, BINS, 1, 1), truth).item() == pytest.approx(math.log(BINS), abs=1e-5)
        torch.testing.assert_close(codec.decode(perfect), truth, atol=1e-3, rtol=0)

    def test_rebalanced_loss_is_weighed_by_the_nearest_bin(self) -> None:
        prior = torch.full((BINS,), 0.5 / (BINS - 1), dtype=torch.float64)
        prior[index_of(20, -30)] = 0.5
        weights = rebalancing(prior)
        codec = ChromaBinsCodec(prior=prior.tolist())
        for a, b in ((20, -30), (40, 20)):
            found = codec.loss(torch.zeros(1, BINS, 1, 1), one(a, b)).item()
            assert found == pytest.approx(weights[index_of(a, b)].item() * math.log(BINS), rel=1e-5)
        assert weights[index_of(40, 20)] > 10 * weights[index_of(20, -30)]

    def test_hybrid_adds_both_and_answers_by_the_regression(self) -> None:
        codec, truth = ChromaHybridCodec(weight=10.0), one(33, -11)
        outputs = torch.zeros(1, BINS + 2, 1, 1)
        assert codec.loss(outputs, truth).item() == pytest.approx(math.log(BINS) + 10 * (0.3 + 0.1) / 2, abs=1e-5)
        outputs[:, BINS:] = truth / 110
        torch.testing.assert_close(codec.decode(outputs), truth)

    @pytest.mark.parametrize("codec", [ChromaCodec(), ChromaBinsCodec(), ChromaHybridCodec()])
    def test_grey_pictures_are_unknown_and_have_no_gradient(self, codec: ChromaCodec) -> None:
        """Of two pictures one has |a| and |b| of at most 5: the loss is that of the other, its own gradient exactly 0."""
        truth = torch.tensor([[5.0, -5.0], [0.0, 6.0]]).view(2, 2, 1, 1)
        outputs = torch.randn(2, codec.channels, 1, 1, generator=torch.Generator().manual_seed(0)).requires_grad_()
        loss = codec.loss(outputs, truth)
        loss.backward()
        assert outputs.grad is not None and torch.all(outputs.grad[0] == 0) and outputs.grad[1].any()
        assert loss.item() == pytest.approx(codec.loss(outputs[1:], truth[1:]).item())
        assert codec.loss(outputs[:1], truth[:1]).item() == 0

    def test_answers_lie_where_the_cells_are(self) -> None:
        """Between the centres of two cells of 4 pixels, at 2 and 6, ab goes evenly: pixel 2, centred at 2.5, has 1/8 of it."""
        ab = torch.tensor([0.0, 8.0]).view(1, 1, 1, 2).repeat(1, 2, 1, 1)
        found = ChromaCodec(4).answers(ab / 110, (3, 7))["ab"]
        assert found.shape == (1, 2, 3, 7)
        assert found[0, 0, 0].tolist() == pytest.approx([0, 0, 1, 3, 5, 7, 8], abs=1e-5)


class TestLightness:
    def test_bytes_become_the_lab_of_scikit_image(self) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (600, 500, 3), dtype=np.uint8)  # more than one band
        found = lab_of_srgb(torch.from_numpy(pixels).permute(2, 0, 1))
        assert found.dtype == torch.float32
        assert np.abs(found.permute(1, 2, 0).numpy() - color.rgb2lab(pixels)).max() < 2e-4

    def test_bands_are_the_whole(self) -> None:
        picture = torch.rand(2, 3, 400, 300, generator=torch.Generator().manual_seed(0))
        for convert in (lab_of_srgb, srgb_of_lab):
            whole = torch.cat([convert(picture[..., row : row + 50, :]) for row in range(0, 400, 50)], -2)
            torch.testing.assert_close(convert(picture), whole, atol=1e-4, rtol=0)  # rounding of float32 at L = 100

    def test_what_a_screen_shows_is_as_it_is(self) -> None:
        rgb = torch.rand(3, 9, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        torch.testing.assert_close(srgb_of_lightness(lab_of_srgb(rgb)), rgb, atol=2e-6, rtol=0)

    def test_what_no_screen_shows_keeps_its_lightness_and_hue(self) -> None:
        lab = torch.tensor([[90.0, 10.0, 50.0], [80.0, 60.0, -90.0], [-100.0, -60.0, 10.0]]).view(3, 1, 3).double()
        found = lab_of_srgb(srgb_of_lightness(lab))
        torch.testing.assert_close(found[0], lab[0], atol=0.25, rtol=0)
        share = found[1:].norm(dim=0) / lab[1:].norm(dim=0)
        assert (share < 0.9).all() and (share > 0.1).all()
        torch.testing.assert_close(found[1:], share * lab[1:], atol=1.0, rtol=0)
        clipped = lab_of_srgb(srgb_of_lab(lab).clamp(0, 1))
        assert (clipped[0] - lab[0]).abs().max() > 2


class TestMetrics:
    def test_area_under_the_curve_is_that_of_fine_thresholds(self) -> None:
        generator = torch.Generator().manual_seed(0)
        ours, theirs = (torch.randint(0, 256, (3, 20, 20), generator=generator, dtype=torch.uint8) for _ in range(2))
        metrics = ColourMetrics()
        metrics.update(ours, theirs)
        ab = [color.rgb2lab(one.permute(1, 2, 0).numpy())[..., 1:] for one in (ours, theirs)]
        distance = np.linalg.norm(ab[0] - ab[1], axis=-1)
        thresholds = (np.arange(15000) + 0.5) / 100
        counted = np.mean([(distance <= threshold).mean() for threshold in thresholds])
        assert metrics.compute()["auc_raw"] == pytest.approx(counted, abs=1e-5)

    def test_rebalanced_by_hand(self) -> None:
        """Half the pixels right, of a colour with 3/4 of the prior; half wrong by d, with 1/4: (d' 4) / (4/3 + 4) is lost."""
        original = torch.zeros(3, 1, 2, dtype=torch.uint8)
        original[:, 0, 1] = torch.tensor([200, 40, 40], dtype=torch.uint8)
        image = original.clone()
        image[:, 0, 1] = 100
        a, b = lab_of_srgb(original)[1:, 0, 1].tolist()
        prior = torch.zeros(BINS, dtype=torch.float64)
        prior[index_of(0, 0)], prior[nearest_bin(lab_of_srgb(original)[1:])[0, 1]] = 0.75, 0.25
        metrics = ColourMetrics(prior.tolist())
        metrics.update(image, original)
        lost = math.hypot(a, b) / 150
        found = metrics.compute()
        assert found["auc_raw"] == pytest.approx(1 - lost / 2, abs=1e-4)
        assert found["auc_rebalanced"] == pytest.approx(1 - lost * 4 / (4 / 3 + 4), abs=1e-4)

    def test_colourfulness_by_hand_and_signed(self) -> None:
        """Half red, half green: R - G is 255 and -255, of deviation 255 and mean 0; (R + G) / 2 - B is 127.5 everywhere."""
        rgb = torch.zeros(3, 1, 2)
        rgb[0, 0, 0] = rgb[1, 0, 1] = 255
        assert colourfulness(rgb).item() == pytest.approx(255 + 0.3 * 127.5)
        assert colourfulness(torch.full((3, 4, 4), 77.0)).item() == 0

    def test_nothing_has_no_key(self) -> None:
        assert ColourMetrics().compute() == {}


def coloured_folder(root: Path, count: int = 6, grey: bool = False) -> Path:
    generator = np.random.default_rng(0)
    for i in range(count):
        pixels = generator.integers(0, 256, (24, 32, 1 if grey else 3), dtype=np.uint8).repeat(3 if grey else 1, 2)
        root.mkdir(parents=True, exist_ok=True)
        PillowImage.fromarray(pixels).save(root / f"{i}.png")
    return root


def small(**settings: Any) -> Recipe:
    recipe = find_recipe("world_colorization").override(
        [
            "data.scenes=12",
            "view.size=32x32",
            "data.size=32x32",
            "batch_size=4",
            "steps=2",
            "network.width=8",
            "network.depth=2",
        ]
    )
    return recipe.model_copy(update={"task": recipe.task.model_copy(update=settings)})


def untrained(recipe: Recipe) -> Model:
    data = Data.of(recipe)
    torch.manual_seed(0)
    return Model(describe(recipe, data), data.task, data.task.networks(recipe.network))


def saved(recipe: Recipe, folder: Path) -> Path:
    """Write an untrained model."""
    data, model = Data.of(recipe), untrained(recipe)
    model.save(folder, data.val.sample(0, data.task.fields), "")
    return folder


def answered(model: Model, image: Any) -> ImagePrediction:
    prediction = model(image)
    assert isinstance(prediction, ImagePrediction)
    return prediction


class TestTask:
    def test_the_prior_is_counted_and_travels_with_the_model(self, tmp_path: Path) -> None:
        run = start(small(), tmp_path / "run")
        model = proceed(run)
        prior = model.task.config.prior
        assert len(prior) == BINS and sum(prior) == pytest.approx(1, abs=1e-6)
        assert model.task.codec.prior == prior
        assert tuple(json.loads((run / "model/config.json").read_text())["task"]["prior"]) == prior
        assert load(run).task.config.prior == prior

    def test_grey_levels_keep_their_lightness(self) -> None:
        """Whatever the colours, each of the 256 levels of grey comes back within half a level of rounding in each channel."""
        grey = np.arange(256, dtype=np.uint8).reshape(8, 32)
        model = untrained(small())
        with torch.no_grad():
            for parameter in model.networks.parameters():
                parameter.mul_(3)
        found = answered(model, grey)
        assert (found.pixels != found.pixels[:1]).any()
        lightness = color.rgb2lab(found.pixels.permute(1, 2, 0).numpy())[..., 0]
        level = color.rgb2lab(np.repeat(grey[..., None], 3, 2))[..., 0]
        assert np.abs(lightness - level).max() < 0.5
        assert torch.equal(found.image[0], torch.from_numpy(grey))

    def test_colours_are_not_seen_and_it_says_so(self) -> None:
        """Two pictures of the same lightness get the same answer; a coloured one brings a note."""
        model = untrained(small())
        pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        found = answered(model, pixels)
        assert "colours" in found.notes[0]
        grey = found.image.permute(1, 2, 0).repeat(1, 1, 3).numpy()
        again = answered(model, grey)
        assert again.notes == ()
        assert (again.pixels.int() - found.pixels.int()).abs().max() <= 2

    @pytest.mark.parametrize("size", [(1, 40), (40, 1), (1, 1), (3, 300)])
    def test_pictures_of_one_pixel_across(self, size: tuple[int, int]) -> None:
        assert answered(untrained(small()), np.full(size, 90, np.uint8)).pixels.shape == (3, *size)

    @pytest.mark.parametrize("representation", ["l2", "classification", "hybrid"])
    def test_other_representations_train(self, representation: str, tmp_path: Path) -> None:
        model = proceed(start(small(representation=representation), tmp_path / "run"))
        assert answered(model, np.zeros((20, 20), np.uint8)).pixels.shape == (3, 20, 20)
        assert model.task.primary == "auc_raw"

    def test_hints_are_seen_where_they_are(self) -> None:
        recipe = small(interactive=True)
        model = untrained(recipe)
        task = model.task
        assert isinstance(task, colorization.Task)
        task.config = task.config.model_copy(update={"hints": ((0.5, 0.25, "#ff0000"), (0.0, 1.0, "#808080"))})
        given = task._given_hints(torch.zeros(1, 1, 32, 48))
        ys, xs = given[0, 2].nonzero(as_tuple=True)
        assert {(int(y), int(x)) for y, x in zip(ys, xs, strict=True)} == {
            (y, x) for y in range(5, 10) for x in range(21, 26)
        } | {(y, x) for y in range(29, 32) for x in range(5)}
        red = color.rgb2lab(np.array([[[255, 0, 0]]], np.uint8))[0, 0, 1:] / 110
        assert given[0, :2, 7, 23].tolist() == pytest.approx(red.tolist(), abs=1e-5)
        assert task.networks(recipe.network)["network"](torch.zeros(1, 4, 32, 32)).shape == (1, BINS, 8, 8)

    def test_drawn_hints_show_the_mean_of_their_square(self) -> None:
        torch.manual_seed(0)
        ab = 110 * torch.rand(64, 2, 32, 32)
        hints = colorization._drawn_hints(ab)
        mask = hints[:, 2]
        assert set(mask.unique().tolist()) == {0.0, 1.0}
        assert torch.all(hints[:, :2][(mask == 0)[:, None].expand(-1, 2, -1, -1)] == 0)
        rows = mask.amax(2).sum(0)
        assert rows[12:20].sum() > 2 * rows[:8].sum()  # about the middle
        assert (mask.amax((1, 2)) == 0).any()  # an eighth has no hint at all
        constant = torch.full((1, 2, 32, 32), 55.0)
        torch.testing.assert_close(
            colorization._drawn_hints(constant)[0, 0].unique(), torch.tensor([0.0, 0.5]), atol=1e-6, rtol=0
        )

    def test_hints_change_an_answer_after_training(self, tmp_path: Path) -> None:
        run = saved(small(interactive=True), tmp_path / "model")
        grey = {"image": torch.full((1, 3, 32, 32), 128, dtype=torch.uint8)}
        with torch.no_grad():
            plain = load(run).outputs(grey)["sheets"]
            hinted = load(run, changes=['task.hints=[[0.5,0.5,"#d02020"]]']).outputs(grey)["sheets"]
        assert (plain - hinted).abs().amax((0, 1))[3:5, 3:5].min() > 1e-5  # the middle cells, on which the hint lies

    def test_a_folder_and_a_video_are_coloured(self, tmp_path: Path) -> None:
        for name in ("0.png", "1.png"):
            (tmp_path / "frames").mkdir(exist_ok=True)
            PillowImage.new("L", (20, 12), 90).save(tmp_path / "frames" / name)
        folder, frames = saved(small(), tmp_path / "model"), tmp_path / "frames"
        done = predict_files(folder, [frames], tmp_path / "pictures")
        assert [Path(one["saved"]).name for one in done["predictions"]] == ["0.png", "1.png"] and not done["failed"]
        watched = predict_files(folder, [frames], tmp_path / "video", footage=Footage(frames=True))["videos"]
        assert watched[0]["frames"] == 2
        with PillowImage.open(next((tmp_path / "video").rglob("*.jpg"))) as answer:
            assert answer.size == (20, 12) and answer.mode == "RGB"

    @pytest.mark.parametrize("representation", ["l2", "hybrid"])
    def test_a_perceptual_loss_compares_the_coloured_picture(self, representation: str) -> None:
        """It is HaarPSI of the picture's L with our ab, bilinear at every pixel; grey pictures neither count nor teach."""
        recipe = small(representation=representation).override(["task.perceptual=haarpsi", "task.perceptual.weight=3"])
        task = Data.of(recipe).task
        task.networks(recipe.network)  # the codec follows from its stride
        pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        pixels[1] = pixels[1, :1]
        batch = task.encode({"image": pixels})
        sheets = 0.1 * torch.randn(3, task.codec.channels, 8, 8, generator=torch.Generator().manual_seed(1))
        found = task.loss("train", {}, batch, {"sheets": sheets.requires_grad_()})["perceptual"]
        assert torch.autograd.grad(found, sheets)[0].abs().amax((1, 2, 3)).gt(0).tolist() == [True, False, True]
        shown = []
        for i in (0, 2):
            ab = 110 * torch.nn.functional.interpolate(sheets[i : i + 1, -2:].detach(), (32, 32), mode="bilinear")[0]
            rgb = pixels[i].permute(1, 2, 0).numpy()
            lab = np.concatenate([color.rgb2lab(rgb)[..., :1], ab.permute(1, 2, 0).numpy()], 2)
            ours = srgb_of_lab(torch.from_numpy(lab).permute(2, 0, 1).float())
            shown.append(float(haarpsi_loss(ours[None], pixels[i : i + 1] / 255).mean()))
        assert float(found.detach()) == pytest.approx(3 * sum(shown) / 2, rel=2e-4)

    def test_a_belief_has_no_perceptual_loss(self) -> None:
        with pytest.raises(UsageError, match="representation=l2 or hybrid for perceptual=mdsi"):
            small().override(["task.perceptual=mdsi"])

    @pytest.mark.parametrize("pairs", [["task.interactive=true"], ["task.representation=l2", "task.perceptual=ms_ssim"]])
    def test_the_memory_of_a_step_is_predicted(
        self, pairs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        recipe = small().override([*pairs, "steps=1"])
        proceed(start(recipe, tmp_path / "run"))
        said = capsys.readouterr()
        assert "could not be predicted" not in said.out + said.err

    def test_mistakes_are_explained(self, tmp_path: Path) -> None:
        recipe = small()
        with pytest.raises(UsageError, match="hints are for a network trained with"):
            recipe.override(['task.hints=[[0.5,0.5,"#ff0000"]]'])
        with pytest.raises(UsageError, match="prior has 3 shares"):
            recipe.override(["task.prior=[0.5,0.25,0.25]"])
        task = colorization.Config(interactive=True).build(Meta())
        with pytest.raises(UsageError, match="colours that augmentation made"):
            task.check(View(size=(32, 32)), Augment(hue=0.1))
        with pytest.raises(UsageError, match="letterbox"):
            task.check(View(size=(32, 32), fit="letterbox"), Augment())
        root = coloured_folder(tmp_path / "grey", grey=True)
        with pytest.raises(DataError, match="pictures are grey"):
            colorization.Config().settled(image_folder.Config(root=str(root)).open("train"))

    def test_a_network_that_answers_with_a_vector_is_refused(self) -> None:
        recipe = find_recipe("world_colorization").override(["network.kind=regressor"])
        with pytest.raises(UsageError, match="answers with one vector"):
            recipe.task.build(Meta()).networks(recipe.network)

    def test_an_encoder_of_timm_sees_the_lightness(self) -> None:
        network = unet.Config(encoder="resnet18", output_stride=4)
        task = colorization.Config().build(Meta())
        assert task.networks(network)["network"].eval()(torch.zeros(1, 1, 64, 64)).shape == (1, BINS, 16, 16)
        assert task.codec.stride == 4
