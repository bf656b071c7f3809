"""Homographies and Frames against numbers worked by hand."""

import numpy as np
import pytest
import torch
from torch import tensor

from pixelwise.geometry.frame import Frame
from pixelwise.geometry.homography import (
    about,
    compose,
    horizontal_flip,
    is_mirror,
    jacobian,
    letterbox,
    resize,
    rotation,
    scaling,
    shear,
    transform_points,
    translation,
)


def moved(matrix: np.ndarray, x: float, y: float) -> list[float]:
    return transform_points(matrix, tensor([x, y], dtype=torch.float64)).tolist()


def test_the_elementary_matrices() -> None:
    assert moved(translation(3, -2), 1, 1) == [4, -1]
    assert moved(scaling(2, 3), 1, 1) == [2, 3]
    assert moved(shear(0.5, 0), 1, 4) == [3, 4]
    assert moved(shear(0, 0.5), 4, 1) == [4, 3]
    assert moved(rotation(180), 1, 2) == pytest.approx([-1, -2])
    assert moved(resize((2, 4), (6, 6)), 4, 2) == [6, 6]


def test_compose_does_its_first_argument_first() -> None:
    assert moved(compose(translation(1, 0), scaling(2, 2)), 0, 0) == [2, 0]
    assert moved(compose(scaling(2, 2), translation(1, 0)), 0, 0) == [1, 0]
    assert moved(compose(), 5, 6) == [5, 6]


def test_about_leaves_its_centre_in_place() -> None:
    quarter = about(rotation(90), (10, 20))
    assert moved(quarter, 10, 20) == pytest.approx([10, 20])
    assert moved(quarter, 11, 20) == pytest.approx([10, 21])


def test_letterbox_centres_the_whole_picture_on_whole_pixels() -> None:
    matrix = letterbox((100, 200), (64, 64))  # 200 wide becomes 64, 100 high becomes 32: 16 rows above
    assert moved(matrix, 0, 0) == [0, 16]
    assert moved(matrix, 200, 100) == [64, 48]
    odd = letterbox((100, 333), (64, 64))  # 100 * 64 / 333 = 19.2 rows become 19, with (64 - 19) // 2 = 22 above
    assert moved(odd, 0, 0) == [0, 22]
    assert moved(odd, 333, 100) == pytest.approx([64, 41], abs=1e-12)
    assert moved(letterbox((10, 10000), (4, 4)), 10000, 10) == pytest.approx([4, 2])  # never thinner than one pixel


def test_points_keep_shape_type_and_unknown_coordinates() -> None:
    points = tensor([[[1.0, 2.0], [float("nan"), float("nan")]]])
    out = transform_points(translation(1, 1), points)
    assert out.dtype == torch.float32 and out.shape == (1, 2, 2)
    assert out[0, 0].tolist() == [2, 3] and out[0, 1].isnan().all()


def test_a_perspective_divides_by_the_third_coordinate() -> None:
    matrix = np.array([[1.0, 0, 0], [0, 1, 0], [0.01, 0, 1]])
    assert moved(matrix, 100, 50) == [50, 25]


def test_the_jacobian_is_the_derivative() -> None:
    matrix = compose(rotation(20), shear(0.1, 0.2), np.array([[1.0, 0, 3], [0, 2, 4], [0.001, -0.002, 1]]))
    step = 1e-6
    numeric = [
        (np.array(moved(matrix, 7 + dx, 9 + dy)) - moved(matrix, 7 - dx, 9 - dy)) / (2 * step)
        for dx, dy in ((step, 0), (0, step))
    ]
    assert jacobian(matrix, (7, 9)) == pytest.approx(np.array(numeric).T, abs=1e-8)


def test_only_an_odd_number_of_flips_mirrors() -> None:
    flip, turn = horizontal_flip(64), about(rotation(130), (5, 5))
    assert is_mirror(flip) and is_mirror(compose(turn, flip, turn)) and is_mirror(scaling(1, -1))
    assert not is_mirror(compose(flip, turn, flip)) and not is_mirror(turn) and not is_mirror(scaling(-1, -1))
    assert is_mirror(-flip) and not is_mirror(-turn)  # a homography has no sign


def test_the_frame_brings_answers_back_to_the_original() -> None:
    frame = Frame.of((480, 640)).then(letterbox((480, 640), (256, 256)), (256, 256))
    frame = frame.then(about(rotation(17), (128, 128)), (256, 256)).then(horizontal_flip(256), (256, 256)).scaled(1 / 8)
    assert (frame.original_size, frame.size) == ((480, 640), (32, 32))
    original = torch.rand(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 480
    back = transform_points(frame.inverse, transform_points(frame.matrix, original))
    assert (back - original).abs().max() < 1e-10


def test_a_scaled_frame_rounds_its_size_up() -> None:
    assert Frame.of((33, 64)).scaled(1 / 32).size == (2, 2)
    assert Frame.of((33, 64)).scaled(4).size == (132, 256)
    assert Frame.of((30, 30)).scaled(1 / 3).size == (10, 10)
