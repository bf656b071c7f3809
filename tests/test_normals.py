"""Surface normals: codec, losses, metrics, files and answers, on numbers worked by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from torch import Tensor, tensor

import pixelwise.metrics.normals
from pixelwise.codecs.normals import NormalsCodec
from pixelwise.data.dataset import Meta
from pixelwise.data.datasets import depth_folder, world
from pixelwise.data.sample import Normals
from pixelwise.data.surfaces import CODES
from pixelwise.errors import DataError, UsageError
from pixelwise.geometry.homography import about, horizontal_flip, rotation, scaling
from pixelwise.losses.normals import angular_loss, cosine_loss, squared_distance_loss
from pixelwise.metrics.normals import NormalsMetrics, angles
from pixelwise.predictions.normals import NormalsPrediction
from pixelwise.recipe import find_recipe
from pixelwise.run import Data

NAN = math.nan
LOSSES = (cosine_loss, angular_loss, squared_distance_loss)


def at(*degrees: float) -> Tensor:
    """Directions (1, 3, 1, N) in the plane of x and z, turned so far from the camera's axis."""
    turns = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([turns.sin(), 0 * turns, -turns.cos()])[None, :, None]


class TestCodec:
    def test_any_output_becomes_a_direction(self) -> None:
        outputs = tensor([[3.0, 0.0, 0.0, NAN, 1e-5], [0.0, 0.0, 0.0, 0.0, 0.0], [-4.0, 0.0, 7.0, 1.0, 0.0]])[None, :, None]
        found = NormalsCodec().decode(outputs)[0, :, 0].T
        expected = [[0.6, 0, -0.8], [0, 0, -1], [0, 0, 1], [0, 0, -1], [1, 0, 0]]
        torch.testing.assert_close(found, tensor(expected))

    def test_decode_gives_back_what_was_encoded(self) -> None:
        truth = torch.nn.functional.normalize(torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)), dim=1)
        torch.testing.assert_close(NormalsCodec().decode(5 * NormalsCodec().encode(truth)), truth)
        assert NormalsCodec().loss(5 * truth, truth).abs() < 1e-6

    def test_a_mirror_changes_left_and_right_of_place_and_direction(self) -> None:
        outputs = tensor([[[1.0, 2.0]], [[3.0, 4.0]], [[5.0, 6.0]]])
        assert NormalsCodec().flip(outputs).tolist() == [[[-2, -1]], [[4, 3]], [[6, 5]]]

    @pytest.mark.parametrize("length", [0, 1e-30, 1e-9, 1e-6, 1e-3, 1])
    @pytest.mark.parametrize("term", ["cosine", "angular"])
    def test_next_to_nothing_has_a_bounded_gradient(self, term: str, length: float) -> None:
        task = find_recipe("world_normals").override(["task.loss.cosine=0", f"task.loss.{term}=1"]).task.build(Meta())
        outputs = (length * at(80)).float().requires_grad_()
        (value,) = task.loss("train", {}, {"normals": at(20).float()}, {"normals": outputs}).values()
        value.backward()
        assert outputs.grad is not None and outputs.grad.norm() <= 1000.01
        assert outputs.grad.ne(0).any() or (term == "angular" and length < 1e-12)


class TestLosses:
    def test_by_hand(self) -> None:
        """Angles of 60 and 90 degrees; the third pixel is unknown."""
        prediction, target = at(70, 10, 5), at(10, 100, NAN)
        assert cosine_loss(prediction, target).item() == pytest.approx((0.5 + 1) / 2)
        assert angular_loss(prediction, target).item() == pytest.approx((math.pi / 3 + math.pi / 2) / 2)
        assert squared_distance_loss(prediction, target).item() == pytest.approx((1 + 2) / 2)
        assert squared_distance_loss(2 * at(10), at(10)).item() == pytest.approx(1)

    @pytest.mark.parametrize("loss", LOSSES)
    def test_gradients_are_finite_everywhere_and_zero_where_unknown(self, loss: object) -> None:
        """Equal, opposite, next to equal, of no length, and unknown."""
        prediction = torch.cat([at(30, 210, 30 + 1e-6, 0), at(50)], 3)
        prediction[..., 3] = 0
        prediction.requires_grad_()
        loss(prediction, at(30, 30, 30, 30, NAN)).backward()  # type: ignore[operator]
        assert prediction.grad is not None and prediction.grad.isfinite().all()
        assert prediction.grad[..., 4].eq(0).all() and prediction.grad.abs().max() <= 1

    def test_the_angular_gradient_is_1_in_size_at_any_angle(self) -> None:
        for degrees in (0.01, 20, 90, 179.9):
            prediction = at(degrees).requires_grad_()
            (gradient,) = torch.autograd.grad(angular_loss(prediction, at(0)), prediction)
            assert gradient.norm().item() == pytest.approx(1, rel=1e-6)

    def test_the_angle_of_a_short_prediction_is_its_own_and_that_of_none_a_right_one(self) -> None:
        short = (1e-4 * at(80)).requires_grad_()
        value = angular_loss(short, at(20))
        value.backward()
        assert value.item() == pytest.approx(math.pi / 3, rel=1e-9)
        assert short.grad is not None and short.grad.norm().item() == pytest.approx(1, rel=1e-9)
        assert angular_loss(0 * at(80), at(20)).item() == pytest.approx(math.pi / 2)

    @pytest.mark.parametrize("loss", LOSSES)
    def test_nothing_known_is_zero_with_zero_gradient(self, loss: object) -> None:
        prediction = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
        value = loss(prediction, torch.full((2, 3, 4, 4), NAN))  # type: ignore[operator]
        value.backward()
        assert value.item() == 0 and prediction.grad is not None and prediction.grad.eq(0).all()

    @pytest.mark.parametrize("term", ["cosine", "angular", "l2"])
    def test_settings_choose_the_terms(self, term: str) -> None:
        recipe = find_recipe("world_normals").override(["task.loss.cosine=0", f"task.loss.{term}=3"])
        truth, said = at(0, NAN).float(), at(90, 0).float()
        losses = recipe.task.build(Meta()).loss("train", {}, {"normals": truth}, {"normals": said})
        expected = {"cosine": 3.0, "angular": 3 * math.pi / 2, "l2": 6.0}[term]
        assert {name: value.item() for name, value in losses.items()} == {term: pytest.approx(expected)}

    def test_no_term_at_all_is_a_usage_error(self) -> None:
        with pytest.raises(UsageError, match="nothing to learn"):
            find_recipe("world_normals").override(["task.loss.cosine=0"])


class TestMetrics:
    def test_by_hand_pooled_over_images(self) -> None:
        metrics = NormalsMetrics()
        metrics.update(at(0, 3, 10)[0], at(0, 0, 0)[0])
        metrics.update(at(24, 90, 8)[0], at(0, 0, NAN)[0])
        found, degrees = metrics.compute(), [0, 3, 10, 24, 90]
        assert found["mean_angle_deg"] == pytest.approx(sum(degrees) / 5)
        assert found["rmse_angle_deg"] == pytest.approx(math.sqrt(sum(v * v for v in degrees) / 5))
        assert found["median_angle_deg"] == pytest.approx(10, abs=0.00051)
        shares = {"5": 0.4, "7.5": 0.4, "11.25": 0.6, "22.5": 0.6, "30": 0.8}
        assert {f"below_{name}_deg": found[f"below_{name}_deg"] for name in shares} == {
            f"below_{name}_deg": pytest.approx(share) for name, share in shares.items()
        }

    def test_thresholds_part_what_lies_on_either_side(self) -> None:
        metrics = NormalsMetrics()
        metrics.update(at(5 - 1e-6, 5 + 1e-6)[0], at(0, 0)[0])
        assert metrics.compute()["below_5_deg"] == 0.5

    def test_the_median_is_numpys_within_its_bound(self) -> None:
        rng = np.random.default_rng(0)
        for count in (1, 2, 7, 1000):
            degrees = rng.uniform(0, 180, count)
            metrics = NormalsMetrics()
            metrics.update(at(*degrees)[0], at(*np.zeros(count))[0])
            assert metrics.compute()["median_angle_deg"] == pytest.approx(np.median(degrees), abs=0.00051)

    def test_opposite_and_equal(self) -> None:
        vectors = torch.nn.functional.normalize(torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0)), dim=0)
        assert angles(vectors, vectors).max() == 0 and angles(-vectors, vectors).min() == 180
        metrics = NormalsMetrics()
        metrics.update(-vectors, vectors)
        assert metrics.compute()["mean_angle_deg"] == metrics.compute()["median_angle_deg"] == 180

    @pytest.mark.parametrize("value", [NAN, math.inf])
    def test_predictions_that_are_no_numbers_are_bad_data(self, value: float) -> None:
        said, truth = at(0, 10, 20)[0], at(0, NAN, 20)[0]
        said[:, 0, 1] = value
        metrics = NormalsMetrics()
        metrics.update(said, truth)
        assert metrics.compute()["mean_angle_deg"] == 0
        said[0, 0, 2] = value
        with pytest.raises(DataError, match="1 of 2 predicted normals are NaN or infinite"):
            metrics.update(said, truth)
        assert metrics.compute()["mean_angle_deg"] == 0

    @pytest.mark.parametrize(("vector", "degrees"), [((1, 0, -1), 45), ((0, 0, 1), 180), ((1, 0, 0), 90)])
    def test_an_angle_at_a_threshold_is_not_below_it(
        self, monkeypatch: pytest.MonkeyPatch, vector: tuple[float, ...], degrees: float
    ) -> None:
        monkeypatch.setattr(pixelwise.metrics.normals, "THRESHOLDS", (degrees, math.nextafter(degrees, 200)))
        metrics = NormalsMetrics()
        metrics.update(tensor(vector, dtype=torch.float64)[:, None, None], at(0)[0])
        shares = [float(share) for share in metrics.sums[2:]]
        assert shares == [0, 1]

    def test_small_angles_are_exact_in_float32(self) -> None:
        """The arc cosine of float32 dot products would say 0 or 0.03 degrees."""
        assert angles(at(0.001)[0].float(), at(0)[0].float()).item() == pytest.approx(0.001, rel=1e-4)

    def test_nothing_has_no_metrics(self) -> None:
        metrics = NormalsMetrics()
        metrics.update(torch.ones(3, 2, 2), torch.full((3, 2, 2), NAN))
        assert metrics.compute() == {}


def normals_folder(root: Path, pixels: np.ndarray, axes: str | None = "RUB") -> depth_folder.Config:
    for i in range(2):
        for name in ("images", "normals"):
            (root / name).mkdir(parents=True, exist_ok=True)
        PillowImage.new("RGB", (pixels.shape[1], pixels.shape[0])).save(root / "images" / f"{i}.png")
        if pixels.dtype == np.uint8:
            PillowImage.fromarray(pixels).save(root / "normals" / f"{i}.png")
        else:
            np.save(root / "normals" / f"{i}.npy", pixels)
    (root / "meta.json").write_text(json.dumps({"normals_axes": axes} if axes else {}))
    return depth_folder.Config(root=str(root), val_fraction=0.5)


def read(config: depth_folder.Config) -> Tensor:
    dataset = config.open("train")
    assert dataset.fields == ("image", "normals")
    field = dataset.sample(0, ("image", "normals"))["normals"]
    assert isinstance(field, Normals)
    return field.vectors


class TestFolder:
    def test_png_in_the_common_convention(self, tmp_path: Path) -> None:
        """Blue faces the camera, red looks right, green up; black and middle grey are unknown."""
        blue, red, green = (128, 128, 255), (255, 128, 128), (128, 255, 128)
        found = read(normals_folder(tmp_path, np.array([[blue, red, green, (0, 0, 0), (128, 128, 128)]] * 3, np.uint8)))
        torch.testing.assert_close(found[:, 0, :3].T, tensor([[0.0, 0, -1], [1, 0, 0], [0, -1, 0]]), atol=0.006, rtol=0)
        torch.testing.assert_close(found[:, :, :3].norm(dim=0), torch.ones(3, 3))
        assert found[:, :, 3:].isnan().all()

    @pytest.mark.parametrize("axes", ["RDF", "RUB", "LUF", "FRD"])
    def test_axes_are_converted(self, tmp_path: Path, axes: str) -> None:
        """The direction (2, -3, -6) / 7: right 2, up 3, backward 6 of 7."""
        along = {"R": 2, "L": -2, "D": -3, "U": 3, "F": -6, "B": 6}
        stored = np.array([along[letter] for letter in axes]) / 7
        found = read(normals_folder(tmp_path, np.tile(stored, (4, 4, 1)), axes))
        torch.testing.assert_close(found[:, 1, 2], tensor([2.0, -3.0, -6.0]) / 7)

    def test_every_code_names_three_axes(self) -> None:
        assert len(CODES) == 48 and {"RDF", "RUB", "BUL"} < CODES and "RLF" not in CODES

    def test_missing_axes(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="does not say where the channels"):
            read(normals_folder(tmp_path, np.full((4, 4, 3), 200, np.uint8), None))

    def test_lengths(self, tmp_path: Path) -> None:
        vectors = np.tile(np.array([0.0, 0, 1]), (4, 4, 1))
        vectors[0, 0] *= 1.09
        vectors[0, 1] *= 0.05
        vectors[0, 2] = NAN
        found = read(normals_folder(tmp_path, vectors))
        assert found[:, 0, 0].tolist() == [0, 0, -1] and found[:, 0, 1:3].isnan().all()
        vectors[2, 1] *= 1.2
        with pytest.raises(DataError, match=r"normal at \(x=1, y=2\) has length 1.2"):
            read(normals_folder(tmp_path, vectors))

    def test_normals_that_face_away_betray_wrong_axes(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="face away"):
            read(normals_folder(tmp_path, np.full((4, 4, 3), (128, 128, 255), np.uint8), "RDF"))

    def test_no_known_normal_at_all_is_an_error(self, tmp_path: Path) -> None:
        pixels = np.zeros((4, 4, 3), np.uint8)
        recipe = find_recipe("surface_normals").model_copy(update={"data": normals_folder(tmp_path, pixels)})
        with pytest.raises(DataError, match="no normal of all 1 training samples is known"):
            Data.of(recipe)
        pixels[3, 3] = 128, 128, 255
        normals_folder(tmp_path, pixels)
        Data.of(recipe)

    def test_normals_from_depth_need_a_camera(self, tmp_path: Path) -> None:
        for name in ("images", "depth"):
            (tmp_path / name).mkdir()
            for i in range(2):
                PillowImage.new("RGB" if name == "images" else "L", (8, 8)).save(tmp_path / name / f"{i}.png")
        data = depth_folder.Config(root=str(tmp_path), depth_unit=0.01, val_fraction=0.5)
        with pytest.raises(UsageError, match="needs the field 'normals'") as refused:
            Data.of(find_recipe("surface_normals").model_copy(update={"data": data}))
        assert "data.intrinsics=fx,fy,cx,cy" in refused.value.hint
        dataset = data.open("train")
        assert dataset.fields == ("image", "depth")
        with pytest.raises(DataError, match="need the camera") as caught:
            dataset.sample(0, ("normals",))
        assert "intrinsics" in caught.value.hint


class TestPrediction:
    def test_picture_and_file_in_the_common_convention(self, tmp_path: Path) -> None:
        vectors = tensor([[[0.0, 1.0, 0.0, NAN]], [[0.0, 0.0, -1.0, NAN]], [[-1.0, 0.0, 0.0, NAN]]])
        answer = NormalsPrediction(torch.zeros(3, 1, 4, dtype=torch.uint8), vectors)
        with PillowImage.open(answer.save(tmp_path / "a.png")) as saved:
            expected = [[[128, 128, 255], [255, 128, 128], [128, 255, 128], [0, 0, 0]]]
            assert np.asarray(saved).tolist() == expected and saved.text["normals_axes"] == "RUB"
        assert np.load(answer.save(tmp_path / "a.npy"))[0, :3].tolist() == [[0, 0, -1], [1, 0, 0], [0, -1, 0]]
        told = json.loads(json.dumps(answer.to_json()))
        assert told["normals_axes"] == "RUB"
        assert told["mean"] == [0.3333, -0.3333, -0.3333]

    def test_round_trip_through_the_reader(self, tmp_path: Path) -> None:
        field = world.Config(scenes=4).open("train").sample(0, ("normals",))["normals"]
        assert isinstance(field, Normals)
        answer = NormalsPrediction(torch.zeros(3, 64, 64, dtype=torch.uint8), field.vectors)
        config = normals_folder(tmp_path, np.asarray(answer.render()))
        off = angles(read(config), field.vectors)
        assert off.max() < 0.5  # 8 bits: half of 1 / 127.5 in each channel


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (horizontal_flip(64), lambda n: torch.stack([-n[0], n[1], n[2]]).flip(-1)),
        (about(rotation(90), (32, 32)), lambda n: torch.stack([-n[1], n[0], n[2]]).rot90(-1, (1, 2))),
        (about(rotation(180), (32, 32)), lambda n: torch.stack([-n[0], -n[1], n[2]]).flip(-1, -2)),
        (scaling(2, 2), lambda n: n[:, :32, :32].repeat_interleave(2, 1).repeat_interleave(2, 2)),
    ],
)
def test_normals_turn_with_the_picture(matrix: np.ndarray, expected: object) -> None:
    """A wall that looks right in the picture looks left in the mirror, and down after a quarter turn; a zoom turns nothing."""
    field = world.Config(scenes=4).open("train").sample(1, ("normals",))["normals"]
    assert isinstance(field, Normals)
    moved = field.warp(matrix, (64, 64)).vectors
    torch.testing.assert_close(moved, expected(field.vectors), atol=1e-6, rtol=0, equal_nan=True)  # type: ignore[operator]


def test_a_flip_test_mirrors_directions() -> None:
    """A network that knows no left and right answers (x, y, z) in both pictures: only y and z survive the mean."""
    task = find_recipe("world_normals").override(["task.flip_test=true"]).task.build(Meta())
    image = torch.zeros(1, 3, 2, 4)
    network = torch.nn.Conv2d(3, 3, 1)
    torch.nn.init.zeros_(network.weight)
    network.bias = torch.nn.Parameter(tensor([2.0, -3.0, -6.0]))
    found = task.respond({"network": network}, {"image": image})["normals"]
    torch.testing.assert_close(found[0, :, 0, 0], tensor([0.0, -3.0, -6.0]) / math.sqrt(45))
