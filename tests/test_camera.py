"""The camera: every number by hand, or against the embedded world, whose depth and normals come from the same rays."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pixelwise.data.datasets import world
from pixelwise.data.sample import Depth, Normals
from pixelwise.errors import DataError
from pixelwise.geometry.camera import Camera, Intrinsics, assumed_intrinsics, normals_from_depth, unproject
from pixelwise.geometry.frame import Frame
from pixelwise.geometry.homography import about, compose, horizontal_flip, rotation, scaling, shear, translation
from pixelwise.geometry.warp import warp_depth, warp_normals
from pixelwise.metrics.normals import angles

CAMERA = Intrinsics(50.0, 40.0, 16.0, 10.0)
SIZE = (24, 32)


def plane(normal: tuple[float, float, float], distance: float, camera: Intrinsics = CAMERA) -> Tensor:
    """The depth of the points P with normal . P = -distance, found by meeting each ray with the plane."""
    rays = unproject(torch.ones(SIZE, dtype=torch.float64), camera)
    return -distance / torch.einsum("c,chw->hw", torch.tensor(normal, dtype=torch.float64), rays)


def unit(*vector: float) -> tuple[float, float, float]:
    x, y, z = (v / math.hypot(*vector) for v in vector)
    return x, y, z


def test_points_by_hand() -> None:
    """Pixel (2, 1) has its centre at (2.5, 1.5): x = (2.5 - 0.5) / 2, y = (1.5 - 1) / 4 of every metre."""
    points = unproject(torch.full((2, 3), 8.0), Intrinsics(2.0, 4.0, 0.5, 1.0))
    assert points[:, 1, 2].tolist() == [8.0, 1.0, 8.0]
    assert points[:, 0, 0].tolist() == [0.0, -1.0, 8.0]
    assert unproject(torch.full((1, 1), math.nan), CAMERA).isnan().all()


def test_a_frame_moves_the_camera() -> None:
    halved = CAMERA.moved(scaling(0.5, 0.25))
    assert halved == (25.0, 10.0, 8.0, 2.5)
    assert CAMERA.moved(translation(-3, 4)) == (50.0, 40.0, 13.0, 14.0)
    assert CAMERA.moved(horizontal_flip(32)) == (50.0, 40.0, 16.0, 10.0)
    assert Intrinsics(50.0, 40.0, 10.0, 10.0).moved(horizontal_flip(32)) == (50.0, 40.0, 22.0, 10.0)
    assert CAMERA.moved(about(rotation(90), (16, 16))) == pytest.approx((40.0, 50.0, 22.0, 16.0))
    assert CAMERA.moved(2 * np.eye(3)) == CAMERA


@pytest.mark.parametrize("matrix", [shear(0.1, 0), about(rotation(30), (5, 5)), np.eye(3) + np.diag([1e-3], -2)[:3, :3]])
def test_what_no_camera_sees_is_an_error(matrix: np.ndarray) -> None:
    """Turning by 30 degrees shears where fx and fy differ."""
    with pytest.raises(DataError):
        CAMERA.moved(matrix)


@pytest.mark.parametrize(
    "matrix",
    [
        horizontal_flip(32),
        compose(scaling(1.5, 1.5), translation(-3, -2)),
        about(rotation(90), (16, 12)),
        compose(about(rotation(33), (16, 12)), horizontal_flip(32)),
    ],
)
def test_points_and_normals_move_with_the_picture(matrix: np.ndarray) -> None:
    """The points seen after a warp are the points seen before, turned or mirrored as the normals are, at the same depth."""
    camera = Intrinsics(50.0, 50.0, 15.0, 10.0)
    depth = plane(unit(0.2, -0.5, -1), 2.0, camera)
    normals = torch.tensor(unit(0.2, -0.5, -1), dtype=torch.float64)[:, None, None].expand(3, *SIZE)
    moved, turned = warp_depth(depth, matrix, SIZE), warp_normals(normals, matrix, SIZE)
    points = unproject(moved, camera.moved(matrix))
    on_plane = (turned * points).sum(0)[moved.isfinite()]
    # the nearest pixel is up to 0.71 pixels away, where the plane is up to 0.71 (0.2 + 0.5) / 50 / 1.1 deep of it
    assert len(on_plane) > 200 and (on_plane + 2).abs().max() < 0.03


def test_the_camera_of_other_sizes() -> None:
    camera = Camera(CAMERA, (24, 32))
    assert camera.of((24, 32)) == CAMERA
    assert camera.of((48, 64)) == (100.0, 80.0, 32.0, 20.0)
    assert camera.of((32, 32)) is None
    focal = assumed_intrinsics((100, 200)).fx
    assert math.degrees(2 * math.atan(100 / focal)) == pytest.approx(60)


@pytest.mark.parametrize("normal", [unit(0, 0, -1), unit(0.3, -0.4, -1), unit(0.9, 0, -0.3), unit(0, -1, -0.05)])
@pytest.mark.parametrize("window", [3, 7])
def test_a_plane_is_found_exactly_at_any_slant(normal: tuple[float, float, float], window: int) -> None:
    depth = plane(normal, 1.7)
    found = normals_from_depth(torch.where(depth > 0, depth, math.nan), CAMERA, window)
    known = found.isfinite().all(0)
    assert known.sum() > 0.25 * known.numel()
    expected = torch.tensor(normal, dtype=torch.float64)[:, None].expand(3, int(known.sum()))
    torch.testing.assert_close(found[:, known], expected, atol=1e-9, rtol=0)
    assert (found * unproject(depth, CAMERA)).sum(0)[known].max() < 0  # facing the camera


def test_a_plane_in_float32_with_holes() -> None:
    normal = unit(0.3, -0.4, -1)
    depth = plane(normal, 1.7).float()
    depth[5:8, 10:13], depth[20, 20], depth[21, 20] = math.nan, 0, math.inf
    found = normals_from_depth(depth, CAMERA)
    assert found.dtype == torch.float32
    unknown = found.isnan().any(0)
    expected = torch.zeros(SIZE, dtype=torch.bool)
    expected[5:8, 10:13] = expected[20, 20] = expected[21, 20] = True
    for corner in [(y, x) for y in (0, 1, 2, -1, -2, -3) for x in (0, 1, 2, -1, -2, -3)]:
        down, right = ((v if v >= 0 else -1 - v) + 4 for v in corner)
        expected[corner] |= down * right < 24.5  # of 49 pixels of the window so many are in the picture
    assert torch.equal(unknown, expected)
    truth = torch.tensor(normal)[:, None, None].expand(3, *SIZE)
    assert angles(found, torch.where(unknown, math.nan, truth)).max() < 0.01


def test_a_sphere() -> None:
    """A sphere of radius 1 around (0, 0, 4): its normal is where a point lies from the centre."""
    camera = Intrinsics(200.0, 200.0, 60.0, 60.0)
    rays = unproject(torch.ones(120, 120, dtype=torch.float64), camera)
    a, b, c = rays.square().sum(0), -2 * 4 * rays[2], 16 - 1
    depth = (-b - (b * b - 4 * a * c).sqrt()) / (2 * a)
    truth = unproject(depth, camera) - torch.tensor([0.0, 0.0, 4.0])[:, None, None]
    found = normals_from_depth(depth, camera)
    known = found.isfinite().all(0)
    assert known.sum() > 0.8 * depth.isfinite().sum() and not (known & depth.isnan()).any()
    assert angles(found, torch.where(known, truth, math.nan)).median() < 0.3
    inner = known & (truth[2] < -0.7)  # at the rim a window sees the curve from one side only
    assert inner.sum() > 0.4 * known.sum() and angles(found, torch.where(inner, truth, math.nan)).max() < 0.7


def test_no_plane_across_a_jump() -> None:
    depth = torch.full(SIZE, 2.0)
    depth[:, 16:] = 2.2
    known = normals_from_depth(depth, CAMERA).isfinite().all(0)
    assert not known[4:-4, 13:19].any() and known[4:-4, :13].all() and known[4:-4, 19:].all()
    assert normals_from_depth(torch.where(depth > 2.1, 2.001, 2.0), CAMERA)[:, 12, 16].isfinite().all()


def test_nothing_known_gives_nothing() -> None:
    assert normals_from_depth(torch.full(SIZE, math.nan), CAMERA).isnan().all()


def world_camera(dataset: world.WorldDataset, index: int) -> Intrinsics:
    """The camera of a scene, from how it sends out its rays."""
    look = world._chunk(dataset.config, dataset.split, 0)[index].look
    height, width = dataset.config.size
    focal = float(look["focal"]) * height
    return Intrinsics(focal, focal, width / 2, float(look["horizon"]) * height)


def test_normals_of_the_world_from_its_depth() -> None:
    dataset = world.Config(scenes=32, size=(192, 192)).open("train")
    assert isinstance(dataset, world.WorldDataset)
    off, shares = [], []
    for i in range(3):
        sample = dataset.sample(i, ("depth", "normals"))
        (depth,), (truth,) = (sample[name].tensors().values() for name in ("depth", "normals"))
        found = normals_from_depth(depth, world_camera(dataset, i), 3)
        known = found.isfinite().all(0)
        shares.append(known.sum() / depth.isfinite().sum())
        off.append(angles(torch.where(known, found, 1), torch.where(known, truth, math.nan)))
    pooled = torch.cat(off)
    assert min(shares) > 0.5
    assert pooled.median() < 0.5 and (pooled < 11.25).double().mean() > 0.85


@pytest.mark.parametrize(
    "matrix",
    [horizontal_flip(96), about(rotation(90), (48, 48)), about(1.3 * rotation(25) @ np.diag([1, 1, 1 / 1.3]), (48, 48))],
)
def test_warped_truth_of_the_world_is_the_truth_of_the_warped_world(matrix: np.ndarray) -> None:
    """Normals warped with the picture agree with normals fitted to the warped depth by the moved camera."""
    dataset = world.Config(scenes=32, size=(96, 96)).open("train")
    assert isinstance(dataset, world.WorldDataset)
    sample = dataset.sample(1, ("depth", "normals"))
    moved = sample.warp(matrix, (96, 96))
    camera = world_camera(dataset, 1)
    before, after = sample["depth"], moved["depth"]
    assert isinstance(before, Depth) and isinstance(after, Depth) and isinstance(moved["normals"], Normals)
    at_home = Normals(normals_from_depth(before.metres, camera), Frame.of((96, 96))).warp(matrix, (96, 96)).vectors
    there = normals_from_depth(after.metres, camera.moved(matrix))
    both = at_home.isfinite().all(0) & there.isfinite().all(0)
    off = angles(torch.where(both, there, 1), torch.where(both, moved["normals"].vectors, math.nan))
    assert both.double().mean() > 0.2 and off.median() < 1.5
    exact = np.array_equal(np.abs(matrix[:2, :2]), np.eye(2)) or abs(matrix[0, 0]) < 1e-9
    if exact:  # whole pixels: the same readings, turned
        torch.testing.assert_close(there[:, both], at_home[:, both], atol=2e-4, rtol=0)


def test_a_zoomed_picture_of_the_world_has_the_depth_and_normals_of_the_world_seen_larger() -> None:
    """The same scene drawn at twice the size is the picture zoomed by 2: metres and directions stay, but for half a pixel."""
    near, far = (
        world.Config(scenes=32, size=size).open("train").sample(2, ("depth", "normals")) for size in ((64, 64), (128, 128))
    )
    zoomed = near.warp(scaling(2, 2), (128, 128))
    (ours,), (theirs,) = (sample["depth"].tensors().values() for sample in (zoomed, far))
    both = ours.isfinite() & theirs.isfinite()
    assert both.double().mean() > 0.5 and ((ours / theirs)[both].log().abs() < 0.03).double().mean() > 0.85
    (ours,), (theirs,) = (sample["normals"].tensors().values() for sample in (zoomed, far))
    off = angles(torch.where(both, ours, 1), torch.where(both, theirs, math.nan))
    assert off.median() < 0.5 and (off < 5).double().mean() > 0.8  # round things turn within half a pixel
