"""Boundaries from files to drawings: fields, readers, targets, loss, the two networks, and the task."""

from __future__ import annotations

import io
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from scipy.io import savemat
from torch import nn, tensor

from pixelwise.codecs.boundaries import BoundaryCodec
from pixelwise.data.boundary_files import decode_boundaries
from pixelwise.data.dataset import Meta
from pixelwise.data.datasets import boundary_folder
from pixelwise.data.matlab_files import MOST_BYTES
from pixelwise.data.sample import Boundaries, Image, LabelMap, Sample, collate
from pixelwise.errors import DataError, UsageError
from pixelwise.geometry.frame import Frame
from pixelwise.geometry.homography import about, horizontal_flip, rotation, scaling, translation
from pixelwise.losses.boundaries import balanced_cross_entropy
from pixelwise.nn.networks import hed, pixel_difference
from pixelwise.nn.pixel_difference import RING, PixelDifference, differences
from pixelwise.predictions.boundaries import BoundaryPrediction, Pen
from pixelwise.run import train
from pixelwise.tasks import boundaries

NAN = torch.nan


def field(*maps: list[list[float]]) -> Boundaries:
    drawn = tensor(maps)
    return Boundaries(drawn, Frame.of(tuple(drawn.shape[1:])))


# the field


def test_the_share_of_the_annotators() -> None:
    assert field([[1.0, 0, 0, NAN]], [[1.0, 1, 0, 0]]).tensors()[""].nan_to_num(-1).tolist() == [[1, 0.5, 0, -1]]


def test_a_mirror_and_a_turn_move_every_annotator() -> None:
    drawn = (torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.2).float()
    ours = Boundaries(drawn, Frame.of((8, 8)))
    assert torch.equal(ours.warp(horizontal_flip(8), (8, 8)).drawn, drawn.flip(-1))
    assert torch.equal(ours.warp(about(rotation(90), (4, 4)), (8, 8)).drawn, torch.rot90(drawn, -1, (-2, -1)))


def test_no_line_is_lost_where_the_picture_shrinks() -> None:
    """A third of the size: each pixel holds 3 x 3, and is a boundary if one of them is; two annotators a pixel apart agree."""
    first, second = torch.zeros(9, 9), torch.zeros(9, 9)
    first[:, 4], second[:, 5] = 1, 1
    found = Boundaries(torch.stack([first, second]), Frame.of((9, 9))).warp(scaling(1 / 3, 1 / 3), (3, 3))
    assert found.tensors()[""].tolist() == [[0, 1, 0]] * 3
    assert found.frame.size == (3, 3)


def test_what_lies_outside_is_unknown() -> None:
    found = field([[1.0, 0.0]]).warp(translation(1, 0), (1, 3)).drawn
    assert found.nan_to_num(-1).tolist() == [[[-1, 1, 0]]]


# files


def write(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(values).save(path)
    return path


def test_bits_are_annotators(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", np.array([[0, 1, 2], [3, 4, 7]], np.uint8))
    assert decode_boundaries(path, "bits").tolist() == [[[0, 1, 0], [1, 0, 1]], [[0, 0, 1], [1, 0, 1]], [[0, 0, 0], [0, 1, 1]]]
    many = write(tmp_path / "b.png", np.array([[256, 1]], np.uint16))
    assert decode_boundaries(many, "bits").shape == (9, 1, 2)
    assert decode_boundaries(many, "bits")[8].tolist() == [[1, 0]]
    assert decode_boundaries(write(tmp_path / "c.png", np.zeros((2, 3), np.uint8)), "bits").tolist() == [[[0] * 3] * 2]


def test_grey_is_one_annotator(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", np.array([[0, 51, 255]], np.uint8))
    assert decode_boundaries(path, "grey").tolist() == [[[0, pytest.approx(0.2), 1]]]


def matlab(path: Path, maps: list[np.ndarray], compressed: bool = True) -> Path:
    """Write `groundTruth` as BSDS500 has it: a row of cells, each a structure with Segmentation and Boundaries."""
    cells = np.empty((1, len(maps)), object)
    for i, one in enumerate(maps):
        cells[0, i] = {"Segmentation": one.astype(np.uint16), "Boundaries": one}
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"groundTruth": cells}, do_compression=compressed)
    return path


@pytest.mark.parametrize("compressed", [True, False])
def test_matlab_files(tmp_path: Path, compressed: bool) -> None:
    maps = [np.eye(4, 6, dtype=bool), np.ones((4, 6), bool)]
    assert np.array_equal(decode_boundaries(matlab(tmp_path / "a.mat", maps, compressed), "grey"), np.stack(maps))


def test_damaged_matlab_files(tmp_path: Path) -> None:
    contents = matlab(tmp_path / "a.mat", [np.eye(9, dtype=np.uint8)] * 2).read_bytes()
    path = tmp_path / "b.mat"
    random = np.random.default_rng(0)
    wrong = [b"", b"x" * 300, contents[:128], contents[:-5]]
    for _ in range(30):
        changed = bytearray(contents)
        changed[random.integers(128, len(contents))] ^= 255
        wrong.append(bytes(changed))
    refused = 0
    for one in wrong:
        path.write_bytes(one)
        try:
            assert decode_boundaries(path, "bits").shape == (2, 9, 9)
        except DataError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused >= 25


def test_a_matlab_file_that_decompresses_to_too_much(tmp_path: Path) -> None:
    contents = matlab(tmp_path / "a.mat", [np.eye(9, dtype=np.uint8)]).read_bytes()
    bomb = zlib.compress(bytes(MOST_BYTES + 10))
    (tmp_path / "b.mat").write_bytes(contents[:128] + struct.pack("<II", 15, len(bomb)) + bomb)
    assert (tmp_path / "b.mat").stat().st_size < 50_000
    with pytest.raises(DataError, match="at most 16 MB"):
        decode_boundaries(tmp_path / "b.mat", "bits")


def test_matlab_files_of_something_else(tmp_path: Path) -> None:
    stream = io.BytesIO()
    savemat(stream, {"other": np.eye(3)})
    (tmp_path / "a.mat").write_bytes(stream.getvalue())
    matlab(tmp_path / "b.mat", [np.eye(3), np.eye(4)])
    matlab(tmp_path / "c.mat", [np.full((3, 3), 7.0)])
    for name in ("a.mat", "b.mat", "c.mat", "missing.mat"):
        with pytest.raises(DataError, match=name):
            decode_boundaries(tmp_path / name, "bits")


def test_folders_and_the_published_layout_are_the_same_data(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for split, name in (("train", "a"), ("train", "b"), ("val", "c")):
        pixels = random.integers(0, 256, (12, 10, 3), dtype=np.uint8)
        drawn = random.random((3, 12, 10)) < 0.3
        drawn[2, 0, 0] = True  # or the last annotator would not be seen in the bits
        write(tmp_path / "ours" / split / "images" / f"{name}.png", pixels)
        bits = (drawn * np.array([1, 2, 4])[:, None, None]).sum(0).astype(np.uint8)
        write(tmp_path / "ours" / split / "boundaries" / f"{name}.png", bits)
        write(tmp_path / "theirs" / "images" / split / f"{name}.png", pixels)
        matlab(tmp_path / "theirs" / "groundTruth" / split / f"{name}.mat", list(drawn.astype(np.uint8)))
    for split, count in (("train", 2), ("val", 1)):
        ours = boundary_folder.Config(root=str(tmp_path / "ours"), reading="bits").open(split)
        theirs = boundary_folder.Config(root=str(tmp_path / "theirs")).open(split)
        assert len(ours) == len(theirs) == count
        for i in range(count):
            a, b = (data.sample(i, ("image", "boundaries")) for data in (ours, theirs))
            assert a.key == b.key
            for name in ("image", "boundaries"):
                assert torch.equal(a[name].tensors()[""], b[name].tensors()[""])
    with pytest.raises(DataError):
        boundary_folder.Config(root=str(tmp_path / "theirs")).open("test")


def test_boundaries_of_another_size(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write(tmp_path / split / "images" / "a.png", np.zeros((12, 10, 3), np.uint8))
        write(tmp_path / split / "boundaries" / "a.png", np.zeros((12, 11), np.uint8))
    data = boundary_folder.Config(root=str(tmp_path)).open("val")
    with pytest.raises(DataError, match="10x12"):
        data.sample(0, ("image", "boundaries"))


# targets and loss


def test_targets_by_share() -> None:
    codec = BoundaryCodec(threshold=0.3)
    shares = tensor([[[0.0, 0.2, 0.3, 1.0, NAN, 0.1 + 0.2]]])
    assert codec.encode(shares)["boundaries"].tolist() == [[[0, 255, 1, 1, 255, 1]]]
    labels = tensor([[[0, 1, 255]]], dtype=torch.uint8)
    assert codec.encode(labels)["boundaries"].tolist() == [[[0, 1, 255]]]
    with pytest.raises(DataError, match="2 in a map"):
        codec.encode(tensor([[[2]]], dtype=torch.uint8))


def test_the_answer_is_the_last_output() -> None:
    outputs = tensor([5.0, -5.0, 0.0])[None, :, None, None]
    assert BoundaryCodec(sides=2).decode(outputs).tolist() == [[[0.5]]]


def test_balanced_cross_entropy_by_hand() -> None:
    """Four known pixels, one positive: beta = 3/4. At p = 1/2 everywhere: (3/4 + 3 * 1/4) log 2 / 4 = 3/8 log 2."""
    targets = tensor([[[1, 0, 0, 0, 255]]])
    assert balanced_cross_entropy(torch.zeros(1, 2, 1, 5), targets).tolist() == pytest.approx(
        [3 / 8 * math.log(2)] * 2, abs=1e-7
    )
    # beta is each image's own: a second one of two and two has (2 * 1/2 + 2 * 1/2) log 2 / 4 = 1/2 log 2
    both = torch.cat([targets, tensor([[[1, 1, 0, 0, 255]]])])
    expected = (3 / 8 + 1 / 2) / 2 * math.log(2)
    assert balanced_cross_entropy(torch.zeros(2, 1, 1, 5), both).tolist() == pytest.approx([expected], abs=1e-7)


def test_the_unknown_has_no_loss_and_no_gradient() -> None:
    logits = tensor([[[[0.3, -1.0, NAN, 2.0]]]], requires_grad=True)
    loss = balanced_cross_entropy(logits, tensor([[[1, 0, 255, 255]]])).sum()
    loss.backward()
    assert loss.isfinite() and logits.grad is not None
    assert logits.grad[..., 2:].tolist() == [[[[0, 0]]]] and (logits.grad[..., :2] != 0).all()
    for nothing in ([[[255, 255, 255, 255]]], [[[0, 0, 0, 0]]]):
        assert balanced_cross_entropy(torch.ones(1, 1, 1, 4), tensor(nothing)).tolist() == [0]


def test_losses_of_sides_and_fused() -> None:
    codec, targets = BoundaryCodec(sides=2), {"boundaries": tensor([[[1, 0]]], dtype=torch.uint8)}
    outputs = torch.randn(1, 3, 1, 2, generator=torch.Generator().manual_seed(0))
    losses = codec.losses(outputs, targets)
    assert sorted(losses) == ["fused", "sides"]
    torch.testing.assert_close(losses["fused"] + losses["sides"], codec.loss(outputs, targets))
    torch.testing.assert_close(losses["fused"], BoundaryCodec().loss(outputs[:, 2:], targets))


# networks


def shifted(maps: torch.Tensor, row: int, column: int) -> torch.Tensor:
    """Return what lies (row, column) away from each pixel; 0 outside."""
    padded = nn.functional.pad(maps, (2, 2, 2, 2))
    return padded[..., 2 + row : 2 + row + maps.shape[-2], 2 + column : 2 + column + maps.shape[-1]]


@pytest.mark.parametrize("kind", ["central", "angular", "radial"])
def test_pixel_differences_are_differences(kind: str) -> None:
    """Each of the eight weights times one difference of two pixels, worked without any kernel; and as a plain convolution."""
    torch.manual_seed(0)
    layer = PixelDifference(kind, 3, 4).double()  # type: ignore[arg-type]
    maps = torch.randn(2, 3, 7, 9, dtype=torch.float64)
    expected = torch.zeros(2, 4, 7, 9, dtype=torch.float64)
    for i, (row, column) in enumerate(RING):
        near = shifted(maps, row, column)
        difference = {
            "central": near - maps,
            "angular": near - shifted(maps, *RING[(i + 1) % 8]),
            "radial": shifted(maps, 2 * row, 2 * column) - near,
        }[kind]
        expected += torch.einsum("oi,bihw->bohw", layer.weight[..., i], difference)
    torch.testing.assert_close(layer(maps), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(layer.plain()(maps), expected, atol=1e-12, rtol=0)


def test_a_flat_picture_has_no_differences() -> None:
    assert differences("plain").sum(1).tolist() == [1] * 9
    for kind in ("central", "angular", "radial"):
        assert differences(kind).sum(1).tolist() == [0] * 8  # type: ignore[arg-type]


def test_the_light_network_is_light_and_becomes_plain() -> None:
    torch.manual_seed(0)
    network = pixel_difference.Config().build(3, 5).eval()
    # first: 8 weights; per block 8 or 9 for each channel and a 1x1; per halving a 1x1 with bias; four scores, and their fusion
    ring = (8, 8, 9)
    blocks = sum(width * (weights + width) for width in (20, 40, 80, 80) for weights in ring)
    halving = sum(before * (8 + after) + before * after + after for before, after in ((20, 40), (40, 80), (80, 80)))
    count = 3 * 8 * 20 + blocks + halving + (20 + 40 + 80 + 80 + 4) + 5
    assert sum(p.numel() for p in network.parameters()) == count == 72_729
    plain = network.plain()
    assert not any(isinstance(module, PixelDifference) for module in plain.modules())
    picture = torch.rand(1, 3, 37, 53)
    with torch.no_grad():
        assert (plain(picture) - network(picture)).abs().max() < 1e-6


def test_sides_come_finest_first_and_are_fused() -> None:
    torch.manual_seed(0)
    network = hed.Config(width=4, depth=2).build(3, 4).eval()
    picture = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        scores = network(picture)
        maps = network.encoder(picture)
        finest, coarsest = (network.sides.scores[str(stride)](maps[stride]) for stride in (1, 4))
        enlarged = nn.functional.interpolate(coarsest, (32, 32), mode="bilinear", align_corners=False)
    torch.testing.assert_close(scores[:, :1], finest, atol=1e-6, rtol=0)
    torch.testing.assert_close(scores[:, 2:3], enlarged, atol=1e-6, rtol=0)
    torch.testing.assert_close(scores[:, 3:], scores[:, :3].mean(1, keepdim=True), atol=1e-6, rtol=0)  # as it starts
    only = hed.Config(width=4, depth=2).build(3, 1)
    assert only(picture).shape == (1, 1, 32, 32)
    with pytest.raises(UsageError, match="3"):
        hed.Config(width=4, depth=2).build(3, 5)


# the task


def sample() -> Sample:
    drawn = torch.zeros(2, 40, 30)
    drawn[:, :, 12] = 1
    pixels = torch.zeros(3, 40, 30, dtype=torch.uint8)
    pixels[..., 12:] = 200
    frame = Frame.of((40, 30))
    return Sample("one", {"image": Image(pixels, frame), "boundaries": Boundaries(drawn, frame)})


def test_the_task_scores_both_kinds_of_truth() -> None:
    task = boundaries.Task(boundaries.Config(tolerance=0.03), Meta())
    assert task.primary == "ods@0.03"
    one = sample()
    labels = LabelMap(one["boundaries"].tensors()[""].to(torch.uint8), one["boundaries"].frame)
    other = Sample("two", {"image": one["image"], "boundaries": labels})
    for each in (one, other):
        metrics = task.metrics()
        task.score(metrics, task.truth(each), each)
        assert metrics.compute()["ods@0.03"] > 0.95
        assert task.encode(collate([each]))["boundaries"].sum() == 40


def test_the_gradient_finds_an_edge() -> None:
    class One:
        fields = ("image", "boundaries")

        def __len__(self) -> int:
            return 1

        def sample(self, index: int, fields: object) -> Sample:
            return sample()

    task = boundaries.Task(boundaries.Config(tolerance=0.03), Meta())
    predictors = task.baselines(One())  # type: ignore[arg-type]
    assert list(predictors) == ["constant", "gradient", "nearest_neighbour"]
    scores = {}
    for name, predictor in predictors.items():
        metrics = task.metrics()
        task.score(metrics, predictor(sample()), sample())
        scores[name] = metrics.compute()["ods@0.03"]
    assert scores["gradient"] > 0.95 and scores["nearest_neighbour"] > 0.95 > 0.5 > scores["constant"]


def test_a_drawing_is_black_lines_on_white(tmp_path: Path) -> None:
    values = torch.zeros(40, 30)
    values[:, 12] = 1
    values[5, 20] = 1
    blurred = nn.functional.avg_pool2d(values[None], 3, 1, 1)[0] * 3
    blank = torch.zeros(3, 40, 30, dtype=torch.uint8)
    prediction = BoundaryPrediction(blank, blurred.clamp(0, 1), Pen(0.3, 0.6, 10))
    with PillowImage.open(prediction.save(tmp_path / "lines.png")) as saved:
        assert saved.mode == "L"
        pixels = np.asarray(saved)
    assert set(np.unique(pixels)) == {0, 255}
    black = pixels == 0
    assert black.sum() == 40 and np.unique(np.argwhere(black)[:, 1]).tolist() == [12]
    shown = BoundaryPrediction(blank, torch.full((40, 30), 0.2), None)
    assert np.asarray(shown.answer()).tolist() == [[204] * 30] * 40
    assert shown.to_json() == {"kind": "boundaries", "height": 40, "width": 30, "mean_probability": 0.2}


def test_settings_in_the_wrong_order() -> None:
    with pytest.raises(ValueError, match="above high"):
        boundaries.Config(low=0.7, high=0.6)


def test_side_outputs_of_a_timm_encoder() -> None:
    network = hed.Config(encoder="resnet18").build(3, 6)
    assert network(torch.rand(1, 3, 37, 53)).shape == (1, 6, 37, 53)
    with pytest.raises(ValueError, match="pretrained needs encoder"):
        hed.Config(pretrained=True)


def test_a_grey_map_is_scored_at_the_threshold_of_training() -> None:
    """Everybody agrees on one line, 0.4 of the annotators on the other; both are trained as boundaries."""
    frame = Frame.of((40, 30))
    shares = torch.zeros(1, 40, 30)
    shares[..., 8], shares[..., 20] = 1, 0.4
    grey = Sample("grey", {"image": sample()["image"], "boundaries": Boundaries(shares, frame)})
    for threshold, drawn in ((0.3, 80), (0.5, 40)):
        task = boundaries.Task(boundaries.Config(threshold=threshold, thresholds=3), Meta())
        metrics = task.metrics()
        task.score(metrics, BoundaryPrediction(torch.empty(3, 40, 30), shares[0], None), grey)
        assert task.primary == "ods@0.0075,3thr" and task.primary in metrics.compute()
        assert metrics.counts[0][:, 1].tolist() == [drawn] * 3
        assert (task.encode(collate([grey]))["boundaries"] == 1).sum() == drawn


def test_mirrored_answers_are_turned_back() -> None:
    class Brightness(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image[:, :1] * torch.arange(4.0)

    image = torch.rand(1, 3, 2, 4, generator=torch.Generator().manual_seed(0))
    task = boundaries.Task(boundaries.Config(flip_test=True), Meta())
    found = task.respond({"network": Brightness()}, {"image": image})["probabilities"][0, 0]
    # what is mirrored and turned back sees the columns weighted 3, 2, 1, 0
    there, back = (image[0, 0] * weights for weights in (torch.arange(4.0), torch.arange(4.0).flip(0)))
    torch.testing.assert_close(found, (there.sigmoid() + back.sigmoid()) / 2, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("values", "looks"), [((0, 1, 31), 1), ((0, 1, 127), 1), ((0, 0, 0), 0), ((0, 50, 128), 0)])
def test_bits_read_as_grey_are_spoken_of(tmp_path: Path, values: tuple[int, ...], looks: int) -> None:
    for name in ("a", "b"):
        write(tmp_path / "train" / "images" / f"{name}.png", np.zeros((1, 3, 3), np.uint8))
        write(tmp_path / "train" / "boundaries" / f"{name}.png", np.array([values], np.uint8))
    for reading, count in (("grey", looks), ("bits", 0)):
        data = boundary_folder.BoundaryFolder(
            [(n, tmp_path / "train" / "images" / f"{n}.png", tmp_path / "train" / "boundaries" / f"{n}.png") for n in "ab"],
            reading,  # type: ignore[arg-type]
        )
        for i in range(2):
            data.sample(i, ("image", "boundaries"))
        assert sum("set data.reading=bits" in note for note in data.notes) == count


def test_a_run_says_when_it_measures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(0)
    for split, name in (("train", "a"), ("val", "b")):
        write(tmp_path / split / "images" / f"{name}.png", random.integers(0, 256, (32, 32, 3), dtype=np.uint8))
        write(tmp_path / split / "boundaries" / f"{name}.png", np.eye(32, dtype=np.uint8) * 255)
    words = [f"data.root={tmp_path}", "view.size=32,32", "network.width=2", "task.thresholds=2", "steps=1", "batch_size=1"]
    train(boundaries.boundaries().override([*words, "augment.rotate=0", "data.reading=grey"]), tmp_path / "run")
    told = [line for line in capsys.readouterr().err.splitlines() if "measuring" in line]
    assert told == [
        "run  measuring 1 of 1 validation samples",
        "run  measuring 1 validation samples, and every baseline on them",
    ]
