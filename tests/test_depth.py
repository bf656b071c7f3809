"""Depth: codecs, losses, metrics, files and answers, on numbers worked by hand."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from torch import Tensor, tensor

from pixelwise.batch import predict_files
from pixelwise.codecs.depth import DepthCodec
from pixelwise.data import surfaces
from pixelwise.data.dataset import Dataset, Meta
from pixelwise.data.datasets import depth_folder
from pixelwise.data.files import part_in_order
from pixelwise.data.sample import Depth, Image, Normals, Sample, collate
from pixelwise.errors import DataError, UsageError
from pixelwise.geometry.camera import Camera, Intrinsics
from pixelwise.geometry.frame import Frame
from pixelwise.losses.depth import berhu_loss, gradient_matching_loss, scale_invariant_log_loss
from pixelwise.metrics.depth import DepthMetrics, Protocol, aligned, cropped
from pixelwise.predictions.depth import DepthPrediction
from pixelwise.predictions.point_cloud import rotating_view
from pixelwise.recipe import Recipe, find_recipe
from pixelwise.run import Data
from pixelwise.tasks import depth as depth_task

NAN = math.nan
RANGE = (0.5, 8.0)
KINDS = ("metric", "log", "inverse")


class TestCodec:
    @pytest.mark.parametrize(("kind", "sheet"), [("metric", -0.3), ("log", 0.0), ("inverse", -0.3)])
    def test_by_hand(self, kind: str, sheet: float) -> None:
        """2 m of 0.5 to 8: 1.5 of 7.5 metres, 2 of 4 doublings, 0.5 - 0.125 of 2 - 0.125 inverse metres; less one half."""
        codec = DepthCodec(kind, RANGE)  # type: ignore[arg-type]
        encoded = codec.encode(tensor([[[2.0, 0.5, 8.0]]]))
        assert encoded.shape == (1, 1, 1, 3)
        ends = [0.5, -0.5] if kind == "inverse" else [-0.5, 0.5]
        assert encoded.flatten().tolist() == pytest.approx([sheet, *ends], abs=1e-6)

    @pytest.mark.parametrize("kind", KINDS)
    def test_is_a_strict_inverse_within_its_range(self, kind: str) -> None:
        codec = DepthCodec(kind, RANGE)  # type: ignore[arg-type]
        metres = torch.rand(2, 5, 7, generator=torch.Generator().manual_seed(0)) * 7.4 + 0.55
        torch.testing.assert_close(codec.decode(codec.encode(metres)), metres, atol=0, rtol=2e-6)

    @pytest.mark.parametrize("kind", KINDS)
    def test_beyond_the_range_nothing_is_known_and_nothing_said(self, kind: str) -> None:
        codec = DepthCodec(kind, RANGE)  # type: ignore[arg-type]
        assert codec.encode(tensor([[[0.4, 8.1, NAN, math.inf, 0.0, -1.0]]])).isnan().all()
        said = codec.decode(tensor([-9.0, 9.0, NAN, math.inf])[None, None])
        assert said.min() == 0.5 and said.max() == 8.0 and said[0, 2] == 0.5

    @pytest.mark.parametrize("kind", KINDS)
    def test_logarithm_is_that_of_the_metres_and_smooth_below(self, kind: str) -> None:
        codec = DepthCodec(kind, RANGE)  # type: ignore[arg-type]
        outputs = tensor([[[[-0.5, -0.2, 0.5]]]], dtype=torch.float64)
        torch.testing.assert_close(codec.logarithm(outputs)[:, 0], codec.decode(outputs).double().log(), atol=1e-6, rtol=0)
        around = tensor([-0.5 - 1e-6, -0.5 + 1e-6], dtype=torch.float64, requires_grad=True)
        (slopes,) = torch.autograd.grad(codec.logarithm(around).sum(), around)
        assert slopes[0] == pytest.approx(float(slopes[1]), rel=1e-4) and slopes[0] != 0
        assert codec.logarithm(tensor([-100.0])).isfinite().all()

    @pytest.mark.parametrize(("kind", "middle"), [("metric", 4.25), ("log", 2.0), ("inverse", 1 / 1.0625)])
    def test_an_untrained_network_says_the_middle(self, kind: str, middle: float) -> None:
        codec = DepthCodec(kind, RANGE)  # type: ignore[arg-type]
        assert codec.decode(tensor([[[0.0]]])).item() == pytest.approx(middle, rel=1e-6)

    @pytest.mark.parametrize("range_", [(0.0, 1.0), (2.0, 1.0), (1.0, math.inf), (NAN, 1.0)])
    def test_ranges_that_are_none(self, range_: tuple[float, float]) -> None:
        with pytest.raises(UsageError):
            DepthCodec("log", range_)


class TestLosses:
    def test_berhu_by_hand(self) -> None:
        """c = 0.2 x 5 = 1: |0.5|, |-1| as they are, 5 becomes (25 + 1) / 2 = 13; the mean of the three is 14.5 / 3."""
        prediction = tensor([0.5, -1.0, 5.0, 99.0], requires_grad=True)
        target = tensor([0.0, 0.0, 0.0, NAN])
        value = berhu_loss(prediction, target, target.isfinite())
        value.backward()
        assert value.item() == pytest.approx(14.5 / 3)
        assert prediction.grad is not None
        assert prediction.grad.tolist() == pytest.approx([1 / 3, -1 / 3, 5 / 3, 0])

    def test_scale_invariant_by_hand(self) -> None:
        """Image 1: d = 1, 3, mean 2, mean square 5: 5 - 4 / 2 = 3. Image 2: d = 2: 4 - 4 / 2 = 2. Image 3 has nothing."""
        prediction = tensor([[1.0, 3.0], [2.0, 9.0], [7.0, 7.0]], requires_grad=True)
        target = tensor([[0.0, 0.0], [0.0, NAN], [NAN, NAN]])
        value = scale_invariant_log_loss(prediction, target, target.isfinite())
        value.backward()
        assert value.item() == pytest.approx(2.5)
        assert prediction.grad is not None and prediction.grad[2].eq(0).all() and prediction.grad[1, 1] == 0
        assert prediction.grad[0].tolist() == pytest.approx([(1 - 1) / 2, (3 - 1) / 2])  # (2 d - 2 lambda mean) / n / images

    def test_lambda_1_forgives_any_factor(self) -> None:
        truth = torch.rand(2, 1, 4, 5, generator=torch.Generator().manual_seed(1)) + 1
        valid = torch.ones_like(truth, dtype=torch.bool)
        assert scale_invariant_log_loss((7 * truth).log(), truth.log(), valid, share=1).abs() < 1e-6
        assert scale_invariant_log_loss((7 * truth).log(), truth.log(), valid).item() == pytest.approx(math.log(7) ** 2 / 2)

    def test_gradient_matching_by_hand(self) -> None:
        """Errors 0 1 / 4 NaN: across |1|, down |4|, 5 over 3 valid pixels; the second scale sees one pixel."""
        prediction = tensor([[[0.0, 1.0], [4.0, 50.0]]], requires_grad=True)
        target = tensor([[[0.0, 0.0], [0.0, NAN]]])
        value = gradient_matching_loss(prediction, target, target.isfinite(), scales=2)
        value.backward()
        assert value.item() == pytest.approx(5 / 3)
        assert prediction.grad is not None and prediction.grad[0, 1, 1] == 0
        ramp = torch.arange(8.0).expand(1, 8, 8)
        everywhere = torch.ones(1, 8, 8, dtype=torch.bool)
        # scale 1: 8 x 7 steps of 1 over 64; scale 2: 4 x 3 steps of 2 over 16; scale 4: 2 steps of 4 over 4; scale 8: none
        assert gradient_matching_loss(ramp, 0 * ramp, everywhere).item() == pytest.approx(56 / 64 + 24 / 16 + 8 / 4)
        assert gradient_matching_loss(ramp + 3, ramp, everywhere) == 0

    @pytest.mark.parametrize("loss", [berhu_loss, scale_invariant_log_loss, gradient_matching_loss])
    def test_nothing_known_is_zero_with_zero_gradient(self, loss: object) -> None:
        prediction = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
        value = loss(prediction, torch.full((2, 1, 4, 4), NAN), torch.zeros(2, 1, 4, 4, dtype=torch.bool))  # type: ignore[operator]
        value.backward()
        assert value.item() == 0 and prediction.grad is not None and prediction.grad.eq(0).all()

    @pytest.mark.parametrize("term", ["l1", "berhu", "scale_invariant", "gradient"])
    @pytest.mark.parametrize("kind", KINDS)
    def test_settings_choose_the_terms(self, term: str, kind: str) -> None:
        recipe = find_recipe("world_depth").override(["task.loss.l1=0", "task.loss.gradient=0", f"task.loss.{term}=2"])
        task = recipe.override([f"task.codec={kind}"]).task.build(Meta())
        metres = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(2)) * 20 + 2
        metres[0, 0] = NAN
        target = task.codec.encode(metres)
        output = torch.full((2, 1, 8, 8), -0.1, requires_grad=True)
        losses = task.loss("train", {}, {"depth": target}, {"depth": output})
        assert list(losses) == [term] and losses[term] > 0
        (gradient,) = torch.autograd.grad(losses[term], output)
        assert gradient.isfinite().all() and gradient[0, 0, 0].eq(0).all() and gradient.ne(0).any()
        perfect = task.loss("train", {}, {"depth": target}, {"depth": target.nan_to_num(0.3)})
        assert perfect[term].abs() < 1e-6

    def test_no_term_at_all_is_a_usage_error(self) -> None:
        with pytest.raises(UsageError, match="nothing to learn"):
            find_recipe("world_depth").override(["task.loss.l1=0", "task.loss.gradient=0"])


def computed(predicted: Tensor, truth: Tensor, **settings: object) -> dict[str, float]:
    metrics = DepthMetrics(Protocol(**settings))  # type: ignore[arg-type]
    metrics.update(predicted, truth)
    return metrics.compute()


class TestMetrics:
    def test_by_hand(self) -> None:
        """Predictions 1, 2, 6 of truths 2, 2, 4 (and unknown ones): ratios 1/2, 1, 3/2."""
        found = computed(tensor([[1.0, 2.0, 6.0, 9.0, 9.0]]), tensor([[2.0, 2.0, 4.0, NAN, 100.0]]))
        g = [math.log(0.5), 0.0, math.log(1.5)]
        mean, square = sum(g) / 3, sum(v * v for v in g) / 3
        expected = {
            "abs_rel": (0.5 + 0 + 0.5) / 3,
            "sq_rel": (0.5 + 0 + 1) / 3,
            "rmse_m": math.sqrt((1 + 0 + 4) / 3),
            "rmse_log": math.sqrt(square),
            "log10": (math.log10(2) + math.log10(1.5)) / 3,
            "delta1": 1 / 3,
            "delta2": 2 / 3,
            "delta3": 2 / 3,
            "silog_x100_lambda1": 100 * math.sqrt(square - mean**2),
            "silog_lambda0.5": math.sqrt(square - mean**2 / 2),
            "irmse_per_m": math.sqrt((0.25 + 0 + (1 / 6 - 1 / 4) ** 2) / 3),
        }
        assert found == pytest.approx(expected, rel=1e-12)

    def test_thresholds_are_strict(self) -> None:
        truth = tensor([[1.0, 4.0, 1.0]], dtype=torch.float64)
        found = computed(tensor([[1.25, 3.2, 1.2499]], dtype=torch.float64), truth)
        assert (found["delta1"], found["delta2"]) == (pytest.approx(1 / 3), 1.0)

    def test_average_over_images_or_pixels(self) -> None:
        """Image 1 has 1 pixel with error 1 of 1 m, image 2 has 3 pixels with errors 0 of 1 m."""
        by_image, by_pixel = DepthMetrics(), DepthMetrics(Protocol(average="pixel"))
        for metrics in (by_image, by_pixel):
            metrics.update(tensor([[2.0, 5.0, 5.0]]), tensor([[1.0, NAN, NAN]]))
            metrics.update(torch.ones(1, 3), torch.ones(1, 3))
            metrics.update(torch.ones(1, 3), torch.full((1, 3), NAN))
        assert by_image.compute()["abs_rel"] == 0.5
        assert by_pixel.compute()["abs_rel@pixel"] == 0.25
        assert by_image.compute()["rmse_m"] == 0.5
        assert by_pixel.compute()["rmse_m@pixel"] == 0.5  # sqrt(1 / 4)
        assert by_pixel.compute()["silog_lambda0.5@pixel"] == pytest.approx(
            math.sqrt(math.log(2) ** 2 / 4 - (math.log(2) / 4) ** 2 / 2)
        )

    def test_names_say_what_is_not_the_default(self) -> None:
        protocol = Protocol(average="pixel", align="median", crop="kitti_garg", range=(0.1, 50))
        assert protocol.name("abs_rel") == "abs_rel@pixel,median,kitti_garg,0.1-50m"
        assert Protocol().name("abs_rel") == "abs_rel"
        task = find_recipe("world_depth").override(["task.protocol.align=median"]).task.build(Meta())
        assert task.primary == "abs_rel@median"

    def test_predictions_are_clamped_and_the_truth_is_not(self) -> None:
        """Range 1 to 4, exclusive: of the truths only 2 counts; inf becomes 4, NaN and -1 become 1."""
        truth = tensor([[1.0, 2.0, 4.0, 2.0, 2.0]])
        found = computed(tensor([[1.0, math.inf, 1.0, NAN, -1.0]]), truth, range=(1, 4))
        assert found["abs_rel@1-4m"] == pytest.approx((1 + 0.5 + 0.5) / 3)

    def test_crops(self) -> None:
        metres = torch.arange(480.0 * 640).view(480, 640)
        inside = cropped(metres, "nyu_eigen")
        assert inside.shape == (426, 560) and inside[0, 0] == 45 * 640 + 41 and inside[-1, -1] == 470 * 640 + 600
        kitti = torch.arange(375.0 * 1242).view(375, 1242)
        garg, eigen = cropped(kitti, "kitti_garg"), cropped(kitti, "kitti_eigen")
        # 375 x .40810811 = 153.04, x .99189189 = 371.96; 1242 x .03594771 = 44.6, x .96405229 = 1197.4
        assert garg[0, 0] == 153 * 1242 + 44 and garg[-1, -1] == 370 * 1242 + 1196
        # 988 x .99189189 = 979.989, where .99 would make it 978.12, and .992 980.1
        assert cropped(torch.arange(988.0)[:, None].expand(988, 40), "kitti_garg")[-1, 0] == 978
        # 375 x .3324324 = 124.66, x .91351351 = 342.57
        assert eigen[0, 0] == 124 * 1242 + 44 and eigen[-1, -1] == 341 * 1242 + 1196
        with pytest.raises(DataError, match="640x480"):
            cropped(kitti, "nyu_eigen")

    def test_median_alignment_is_numpys(self) -> None:
        d, t = tensor([1.0, 2.0, 4.0, 8.0]).double(), tensor([3.0, 3.0, 5.0, 50.0]).double()
        assert aligned(d, t, "median").tolist() == pytest.approx((d.numpy() * np.median(t.numpy()) / 3).tolist())

    def test_least_squares_alignment_agrees_with_numpy(self) -> None:
        rng = np.random.default_rng(0)
        d, t = rng.uniform(1, 5, 50), rng.uniform(1, 5, 50)
        slope, offset = np.polyfit(d, t, 1)
        found = aligned(torch.from_numpy(d), torch.from_numpy(t), "least_squares_depth")
        np.testing.assert_allclose(found, slope * d + offset, rtol=1e-12)
        slope, offset = np.polyfit(1 / d, 1 / t, 1)
        fitted = slope / d + offset
        found = aligned(torch.from_numpy(d), torch.from_numpy(t), "least_squares_disparity")
        np.testing.assert_allclose(found, np.where(fitted > 0, 1 / fitted, np.inf), rtol=1e-9)

    @pytest.mark.parametrize(
        ("align", "odd", "becomes"),
        [
            ("median", NAN, 1.0),
            ("median", math.inf, 10.0),
            ("least_squares_depth", NAN, 1.0),
            ("least_squares_depth", math.inf, 10.0),
            ("least_squares_depth", -math.inf, 1.0),
            ("least_squares_disparity", NAN, 1.0),
            ("least_squares_disparity", 0.0, 1.0),
        ],
    )
    def test_one_odd_prediction_costs_one_pixel(self, align: str, odd: float, becomes: float) -> None:
        """Three of four truths are met exactly once fitted; the odd one is clamped to 1 or 10 m, and its truth is 3 m."""
        truth = tensor([[2.0, 3.0, 4.0, 5.0]], dtype=torch.float64)
        said = 1 / (0.5 / truth + 0.1) if align == "least_squares_disparity" else 0.5 * truth
        said[0, 1] = odd
        found = aligned(said[0], truth[0], align)  # type: ignore[arg-type]
        assert found[[0, 2, 3]].tolist() == pytest.approx([2, 4, 5], rel=1e-9)
        share = computed(said, truth, align=align, range=(1.0, 10.0))[f"abs_rel@{align},1-10m"]
        assert share == pytest.approx(abs(becomes - 3) / 3 / 4)
        nothing = computed(torch.full((1, 4), NAN), truth, align=align, range=(1.0, 10.0))
        assert nothing[f"rmse_m@{align},1-10m"] == pytest.approx(math.sqrt((1 + 4 + 9 + 16) / 4))

    @pytest.mark.parametrize("align", ["median", "least_squares_depth", "least_squares_disparity"])
    def test_what_is_forgiven_costs_nothing(self, align: str) -> None:
        truth = torch.rand(6, 7, generator=torch.Generator().manual_seed(0)) * 4 + 1
        bent = {
            "median": 3 * truth,
            "least_squares_depth": 0.3 * truth + 2,
            "least_squares_disparity": 1 / (0.2 / truth + 0.7),
        }[align]
        assert computed(bent, truth, align=align)[f"abs_rel@{align}"] < 1e-5
        assert computed(bent, truth)["abs_rel"] > 0.1
        constant = computed(torch.ones(6, 7), truth, align=align)
        assert all(math.isfinite(value) for value in constant.values())

    def test_nothing_has_no_metrics(self) -> None:
        assert computed(torch.ones(2, 2), torch.full((2, 2), NAN)) == {} == DepthMetrics().compute()


def folder(root: Path, count: int = 5, meta: dict[str, object] | None = None, unit: float = 1.0) -> Path:
    """Frame i is everywhere i + 1 metres, but for a pixel without a reading."""
    for i in range(count):
        for name in ("images", "depth"):
            (root / name).mkdir(parents=True, exist_ok=True)
        PillowImage.new("RGB", (8, 6), (i, i, i)).save(root / "images" / f"{i:03d}.png")
        counts = np.full((6, 8), round((i + 1) / (0.001 * unit)), np.uint16)
        counts[0, 1] = 0
        PillowImage.fromarray(counts).save(root / "depth" / f"{i:03d}.png")
    if meta is not None:
        (root / "meta.json").write_text(json.dumps(meta))
    return root


def metres(dataset: Dataset, index: int) -> Tensor:
    field = dataset.sample(index, ("depth",))["depth"]
    assert isinstance(field, Depth)
    return field.metres


MILLIMETRES = {"depth_unit": 0.001, "fx": 10, "fy": 10, "cx": 4, "cy": 3}


class TestFolder:
    def test_counts_become_metres_and_0_is_unknown(self, tmp_path: Path) -> None:
        dataset = depth_folder.Config(root=str(folder(tmp_path, meta=MILLIMETRES)), val_from="end").open("train")
        assert dataset.fields == ("image", "depth", "normals")
        assert dataset.meta.camera == Camera(Intrinsics(10, 10, 4, 3), (6, 8))
        found = metres(dataset, 1)
        assert found.dtype == torch.float32 and found[0, 1].isnan() and found.isnan().sum() == 1
        assert found[3, 3].item() == 2.0
        assert Meta.model_validate_json(dataset.meta.model_dump_json()) == dataset.meta

    def test_normals_follow_from_depth(self, tmp_path: Path) -> None:
        dataset = depth_folder.Config(root=str(folder(tmp_path, meta=MILLIMETRES)), val_from="end").open("train")
        field = dataset.sample(0, ("normals",))["normals"]
        assert isinstance(field, Normals)
        torch.testing.assert_close(field.vectors[:, 3, 4], tensor([0.0, 0.0, -1.0]))
        assert field.vectors[:, 0, 1].isnan().all()

    def test_the_end_is_held_out(self, tmp_path: Path) -> None:
        config = depth_folder.Config(root=str(folder(tmp_path, 10, MILLIMETRES)), val_from="end", val_fraction=0.2)
        assert [[data.key(i) for i in range(len(data))] for data in (config.open("train"), config.open("val"))] == [
            [f"{i:03d}" for i in range(8)],
            ["008", "009"],
        ]
        assert part_in_order(["a", "b"], "val", 0.01) == [1]
        with pytest.raises(DataError, match="leaves nothing"):
            part_in_order(["a"], "train", 0.5)

    def test_npy_in_metres(self, tmp_path: Path) -> None:
        root = folder(tmp_path)
        for path in (root / "depth").glob("*.png"):
            path.unlink()
            values = np.full((6, 8), 2.5)
            values[0, :4] = math.inf, -math.inf, math.nan, -1
            np.save(path.with_suffix(".npy"), values)
        dataset = depth_folder.Config(root=str(root)).open("train")
        assert dataset.fields == ("image", "depth") and metres(dataset, 0)[0, :4].isnan().all()
        assert metres(dataset, 0)[1, 1] == 2.5

    def test_settings_stand_in_for_meta_json(self, tmp_path: Path) -> None:
        config = depth_folder.Config(root=str(folder(tmp_path)), depth_unit=0.001, intrinsics=(10, 11, 4, 3), val_from="end")
        dataset = config.open("val")
        assert metres(dataset, 0)[2, 2] == 5.0
        assert dataset.meta.camera == Camera(Intrinsics(10, 11, 4, 3), (6, 8))

    @pytest.mark.parametrize(
        ("unit", "guess"),
        [
            (1.0, r"000.png: the median depth is 1000 m, .* in millimetres \(depth_unit 0.001\) it would be 1 m"),
            (1e-7, r"the median depth is 0.0001 m, .* in millimetres \(depth_unit 0.001\) it would be 1 m"),
        ],
    )
    def test_a_wrong_unit_is_noted_with_a_guess(self, tmp_path: Path, unit: float, guess: str) -> None:
        root = folder(tmp_path, meta={"depth_unit": unit})
        (note,) = depth_folder.Config(root=str(root), val_from="end").open("train").notes
        assert "the unit is probably wrong" in note and re.search(guess, note)

    def test_a_wrong_unit_is_noted_once_among_other_notes(self, tmp_path: Path) -> None:
        scheme = surfaces.SurfaceScheme.read(folder(tmp_path, meta={"depth_unit": 1.0}), None, None)
        scheme.notes.append("an image is turned by its EXIF tag")
        for i in range(3):
            scheme.decode_depth(tmp_path / "depth" / f"00{i}.png")
        assert len(scheme.notes) == 2 and "the unit is probably wrong" in scheme.notes[1]

    def test_keys_that_mean_nothing_are_noted(self, tmp_path: Path) -> None:
        root = folder(tmp_path, meta={**MILLIMETRES, "unit": "mm", "fx_fy_cx_cy": [1, 1, 0, 0]})
        (note,) = depth_folder.Config(root=str(root)).open("train").notes
        assert note.startswith(f"{root / 'meta.json'}: unit, fx_fy_cx_cy mean nothing") and "depth_unit" in note

    def test_a_right_unit_is_not(self, tmp_path: Path) -> None:
        assert depth_folder.Config(root=str(folder(tmp_path, meta=MILLIMETRES))).open("train").notes == []

    @pytest.mark.parametrize(
        ("meta", "expected"),
        [
            (None, "not known how many metres"),
            ({"depth_unit": "mm"}, "could not convert"),
            ({"depth_unit": -1}, "no number of metres"),
            ({"depth_unit": 0.001, "fx": 3}, "fx without fy, cx, cy"),
            ({**MILLIMETRES, "fx": 0}, "no camera"),
            ({**MILLIMETRES, "normals_axes": "xyz"}, "names no axes"),
            ([], "expected an object"),
        ],
    )
    def test_bad_meta(self, tmp_path: Path, meta: dict[str, object], expected: str) -> None:
        with pytest.raises(DataError, match=expected):
            depth_folder.Config(root=str(folder(tmp_path, meta=meta))).open("train")

    def test_bad_files(self, tmp_path: Path) -> None:
        root = folder(tmp_path, meta=MILLIMETRES)
        bad = root / "depth" / "002.png"

        def message() -> str:
            dataset = depth_folder.Config(root=str(root), val_from="end").open("train")
            with pytest.raises(DataError) as caught:
                dataset.sample(2, dataset.fields)
            return f"{caught.value} {caught.value.hint}"

        PillowImage.new("RGB", (8, 6)).save(bad)
        assert "RGB image does not hold one value per pixel" in message()
        PillowImage.fromarray(np.ones((7, 8), np.uint16)).save(bad)
        assert "8x6, but" in message() and "8x7" in message()
        bad.write_bytes(b"nonsense")
        assert "not a readable" in message()
        bad.unlink()
        np.save(bad.with_suffix(".npy"), np.ones((6, 8, 2)))
        assert "expected (H, W, 1)" in message()
        np.save(bad.with_suffix(".npy"), np.array([[object()]]), allow_pickle=True)
        assert "no readable .npy" in message()
        (root / "depth" / "x.exr").write_bytes(b"")
        with pytest.raises(DataError, match="OpenEXR") as caught:
            depth_folder.Config(root=str(root)).open("train")
        assert "npy" in caught.value.hint

    def test_hostile_npy_files_are_bad_data_and_can_be_skipped(self, tmp_path: Path) -> None:
        root = folder(tmp_path, meta=MILLIMETRES)
        (root / "depth" / "002.png").unlink()
        bad = root / "depth" / "002.npy"

        def written(shape: str, data: bytes = b"") -> bytes:
            header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
            return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data

        archive = io.BytesIO()
        np.savez(archive, depth=np.ones((6, 8), np.float32))
        whole = written("(6, 8)", bytes(192))
        cut = whole[:8] + (30).to_bytes(2, "little") + whole[10:40]
        hostile = [archive.getvalue(), written("(1000000, 1000000)"), cut, whole[:9], whole[:-1], b"", written("(6, -8)")]
        config = depth_folder.Config(root=str(root), val_from="end", on_error="skip")
        for content in hostile:
            bad.write_bytes(content)
            with pytest.raises(DataError, match=r"002.npy: no readable .npy file"):
                config.model_copy(update={"on_error": "stop"}).open("train").sample(2, ("image", "depth"))
            dataset = config.open("train")
            assert [dataset.key(i) for i in range(len(dataset))] == ["000", "001", "003"]
            assert any("skipped" in note and "002.npy" in note for note in dataset.notes)
        bad.write_bytes(whole)
        assert metres(config.open("train"), 2).isnan().all()

    def test_an_npy_file_beyond_the_limit_of_pixels(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        root = folder(tmp_path, meta=MILLIMETRES)
        (root / "depth" / "002.png").unlink()
        np.save(root / "depth" / "002.npy", np.ones((6, 8)))
        dataset = depth_folder.Config(root=str(root), val_from="end").open("train")
        monkeypatch.setattr(surfaces, "PIXEL_LIMIT", 48)
        assert metres(dataset, 2).eq(1).all()
        monkeypatch.setattr(surfaces, "PIXEL_LIMIT", 47)
        with pytest.raises(DataError, match="larger than 47 pixels"):
            metres(dataset, 2)

    def test_a_folder_of_images_alone(self, tmp_path: Path) -> None:
        PillowImage.new("RGB", (8, 6)).save((tmp_path / "images").mkdir() or tmp_path / "images" / "a.png")
        with pytest.raises(DataError, match="has no folder depth or normals"):
            depth_folder.Config(root=str(tmp_path)).open("train")


class TestRange:
    """Frames at 1 to 5 m of which 4 are trained on; each of 47 readings."""

    def recipe(self, root: Path, range_: tuple[float, float]) -> Recipe:
        data = depth_folder.Config(root=str(folder(root, meta=MILLIMETRES)), val_from="end", val_fraction=0.2)
        return find_recipe("depth").model_copy(update={"data": data, "task": depth_task.Config(range=range_)})

    def test_no_reading_within_the_range_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"no reading of all 4 training samples lies within task.range = 20,80") as caught:
            Data.of(recipe := self.recipe(tmp_path, (20.0, 80.0)))
        assert caught.value.hint == "they lie between 1 and 4 m: set task.range"
        for path in (tmp_path / "depth").glob("*.png"):
            PillowImage.fromarray(np.zeros((6, 8), np.uint16)).save(path)
        with pytest.raises(DataError, match="nothing to learn from") as caught:
            Data.of(recipe)
        assert caught.value.hint == "none is known"

    def test_the_share_beyond_the_range_is_noted(self, tmp_path: Path) -> None:
        (note,) = Data.of(self.recipe(tmp_path, (0.5, 3.5))).train.notes
        assert note.startswith("25.0% of the readings lie beyond task.range = 0.5,3.5") and "between 1 and 4 m" in note
        assert Data.of(self.recipe(tmp_path, (1.0, 4.0))).train.notes == []

    def test_one_usable_map_is_found_beyond_those_surveyed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(depth_task, "SURVEYED", 2)
        (note,) = Data.of(self.recipe(tmp_path, (1.5, 2.5))).train.notes
        assert note.startswith("66.7% of the readings")  # frames 0 and 2, and then 1


def predicted(
    values: list[list[float]], camera: Intrinsics | None = None, limits: tuple[float, float] = RANGE
) -> DepthPrediction:
    image = torch.arange(3 * len(values) * len(values[0]), dtype=torch.uint8).view(3, len(values), -1)
    return DepthPrediction(image, tensor(values), limits, camera)


class TestPrediction:
    def test_png_holds_millimetres_and_says_so(self, tmp_path: Path) -> None:
        answer = predicted([[1.2344, NAN, 8.0]])
        with PillowImage.open(answer.save(tmp_path / "a.png")) as saved:
            assert np.asarray(saved).tolist() == [[1234, 0, 8000]] and saved.mode == "I;16"
            assert saved.text["depth_unit"].startswith("0.001 metres")
        assert answer.to_json()["depth_unit"] == 0.001
        assert answer.to_json()["metres"] == {"nearest": 1.2344, "median": 1.2344, "farthest": 8.0}
        far = predicted([[200.0]], limits=(1.0, 250.0))
        assert far.unit == 1 / 256 and np.asarray(far.answer()).tolist() == [[51200]]
        near = predicted([[0.0004, NAN]], limits=(0.0001, 8.0))
        assert np.asarray(near.answer()).tolist() == [[1, 0]]  # 0 would say that there is no reading
        nothing = json.loads(json.dumps(predicted([[NAN]]).to_json()))
        assert nothing["metres"]["median"] is None

    def test_png_round_trip_through_the_reader(self, tmp_path: Path) -> None:
        root = folder(tmp_path, 3, meta=MILLIMETRES)
        answer = predicted([[1.0 + 0.1 * x + 0.01 * y for x in range(8)] for y in range(6)])
        answer.save(root / "depth" / "000.png")
        found = metres(depth_folder.Config(root=str(root), val_from="end").open("train"), 0)
        torch.testing.assert_close(found, answer.metres, atol=0.0005001, rtol=0)

    def test_npy(self, tmp_path: Path) -> None:
        answer = predicted([[1.5, NAN]])
        np.testing.assert_array_equal(np.load(answer.save(tmp_path / "a.npy")), [[1.5, NAN]])

    def test_ply_by_hand(self, tmp_path: Path) -> None:
        camera = Intrinsics(2.0, 2.0, 0.5, 0.5)
        text = predicted([[4.0, NAN, 2.0]], camera).save(tmp_path / "a.ply").read_bytes()
        header, _, body = text.partition(b"end_header\n")
        assert b"element vertex 2" in header and b"binary_little_endian" in header
        record = np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)])
        points = np.frombuffer(body, record)
        assert points["xyz"].tolist() == [[0, 0, 4], [2, 0, 2]]  # pixel 2 is 2 to the right of cx, half of its depth each
        assert points["rgb"].tolist() == [[0, 3, 6], [2, 5, 8]]

    def test_ply_without_a_camera_is_an_error(self, tmp_path: Path) -> None:
        answer = predicted([[1.0]])
        with pytest.raises(UsageError, match="need the camera"):
            answer.save(tmp_path / "a.ply")
        replace(answer, intrinsics=Intrinsics(1, 1, 0, 0)).save(tmp_path / "a.ply")

    def test_near_is_bright_and_unknown_black(self) -> None:
        drawn = np.asarray(predicted([[0.5, 2.0, 8.0, NAN]]).render()).astype(int).sum(-1)[0]
        assert drawn[0] > drawn[1] > drawn[2] > drawn[3] == 0

    def test_the_view_from_the_front_is_the_picture(self) -> None:
        """Seen from where it was taken, every point falls on its own pixel; turned to the side, near ones move against far."""
        camera = Intrinsics(20.0, 20.0, 8.0, 6.0)
        depth = torch.full((12, 16), 4.0)
        depth[4:8, 6:10] = 2.0
        image = torch.full((3, 12, 16), 10, dtype=torch.uint8)
        image[:, 4:8, 6:10] = 200
        answer = DepthPrediction(image, depth, RANGE, camera)
        front, side = (
            np.asarray(view)[..., 0] for view in rotating_view(*answer.points(camera), camera, (12, 16), (0.0, 20.0))
        )
        assert (front[1:11, 1:15] != 255).all() and front[6, 8] == 200 and front[2, 3] == 10
        # led to the right, the camera sees what is near further to the left: 20 x / z of x = -2 sin 20, z = 4 - 2 cos 20
        assert np.argwhere(side == 200)[:, 1].mean() == pytest.approx(7.5 - 20 * 0.684 / 2.121, abs=1)
        assert len(answer.views()) == 5 and answer.views()[0].size == (16, 12)

    def test_nothing_known_can_be_drawn(self) -> None:
        assert np.asarray(predicted([[NAN, NAN]]).views()[0]).tolist() == [[[255] * 3] * 2]


def test_the_camera_goes_with_pictures_of_its_proportions() -> None:
    task = depth_task.Task(depth_task.Config(), Meta(camera=Camera(Intrinsics(10, 10, 4, 3), (6, 8))))
    for size, expected in (((6, 8), (10, 10, 4, 3)), ((12, 16), (20, 20, 8, 6)), ((8, 8), None)):
        image = Image(torch.zeros(3, *size, dtype=torch.uint8), Frame.of(size))
        assert task.blank(Sample("x", {"image": image})).intrinsics == expected


def test_a_flip_test_of_a_symmetric_answer_is_the_answer() -> None:
    task = find_recipe("world_depth").override(["task.flip_test=true"]).task.build(Meta())
    network = torch.nn.Conv2d(3, 1, 1)
    image = torch.rand(2, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    outputs = task.respond({"network": network}, {"image": image})["depth"]
    torch.testing.assert_close(outputs, network(image))
    uneven = torch.nn.Conv2d(3, 1, (1, 3), padding=(0, 1))
    mirrored = uneven(image.flip(-1)).flip(-1)
    torch.testing.assert_close(task.respond({"network": uneven}, {"image": image})["depth"], (uneven(image) + mirrored) / 2)


def test_predict_writes_counts_unit_and_picture_and_the_report_looks_around(
    finished: Callable[[str], Path], tmp_path: Path
) -> None:
    PillowImage.new("RGB", (20, 10), (90, 80, 70)).save(tmp_path / "a.png")
    told = predict_files(finished("depth"), [tmp_path / "a.png"], tmp_path / "out")
    assert not told["failed"] and told["predictions"][0]["depth_unit"] == 1 / 256
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.png", "a.json", "a.view.jpg"}
    with PillowImage.open(tmp_path / "out" / "a.png") as counts, PillowImage.open(tmp_path / "out" / "a.view.jpg") as view:
        assert counts.mode == "I;16" and view.mode == "RGB" and counts.size == view.size == (20, 10)
    page = (finished("depth") / "report.html").read_text()
    captions = re.findall("<figcaption>([^<]*seen otherwise)</figcaption>", page)
    assert captions == ["the truth of the first sample, seen otherwise", "our answer of the first sample, seen otherwise"]
    assert "seen otherwise" not in (finished("surface_normals") / "report.html").read_text()


def test_unknown_depth_has_exactly_zero_gradient(tmp_path: Path) -> None:
    dataset = depth_folder.Config(root=str(folder(tmp_path, meta=MILLIMETRES)), val_from="end").open("train")
    task = depth_task.Task(depth_task.Config(loss=depth_task.Loss(berhu=1, scale_invariant=1, gradient=1)), dataset.meta)
    batch = task.encode(collate([dataset.sample(i, ("image", "depth")) for i in (0, 1)]))
    output = torch.rand(2, 1, 6, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    sum(task.loss("train", {}, batch, {"depth": output}).values()).backward()  # type: ignore[union-attr]
    assert output.grad is not None and output.grad[:, :, 0, 1].eq(0).all() and (output.grad != 0).sum() == 2 * 47
