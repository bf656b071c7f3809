"""The one convention of CONVENTIONS.md, checked on the functions everybody uses; every number is worked by hand."""

import torch
import torch.nn.functional as F
from torch import tensor

from pixelwise.geometry.frame import Frame
from pixelwise.geometry.homography import horizontal_flip, resize, rotation, scaling, transform_points, translation
from pixelwise.geometry.warp import warp_image


def row(*values: float) -> torch.Tensor:
    return tensor([[values]])


def test_the_centre_of_pixel_0_is_one_half_and_a_flip_is_width_minus_x() -> None:
    moved = transform_points(horizontal_flip(10), tensor([[0.5, 3.0], [0.0, 3.0], [9.5, 3.0]]))
    assert moved.tolist() == [[9.5, 3.0], [10.0, 3.0], [0.5, 3.0]]


def test_pixel_0_and_the_last_pixel_change_places_in_a_flip() -> None:
    assert warp_image(row(1, 2, 3, 4), horizontal_flip(4), (1, 4)).tolist() == [[[4, 3, 2, 1]]]


def test_a_point_is_x_then_y_and_a_size_is_height_then_width() -> None:
    assert transform_points(resize((100, 200), (50, 20)), tensor([200.0, 100.0])).tolist() == [20.0, 50.0]


def test_map_coordinates_are_image_coordinates_divided_by_the_stride() -> None:
    frame = Frame.of((32, 64)).scaled(1 / 4)
    assert frame.size == (8, 16)
    assert transform_points(frame.matrix, tensor([[2.0, 2.0], [64.0, 32.0]])).tolist() == [[0.5, 0.5], [16.0, 8.0]]


def test_the_frame_of_strided_maps_agrees_with_what_a_strided_average_sees() -> None:
    image = torch.zeros(1, 1, 8, 8)
    image[..., 4, 6] = 1.0  # centre (6.5, 4.5): a quarter of it is (1.625, 1.125), inside map pixel column 1, row 1
    assert F.avg_pool2d(image, 4)[0, 0].nonzero().tolist() == [[1, 1]]
    assert transform_points(Frame.of((8, 8)).scaled(0.25).matrix, tensor([6.5, 4.5])).floor().tolist() == [1, 1]


def test_doubling_samples_at_quarters_because_corners_are_not_aligned() -> None:
    # destination centres 0.5 1.5 2.5 3.5 come from 0.25 0.75 1.25 1.75; source centres are 0.5 and 1.5
    doubled = warp_image(row(0.0, 1.0), scaling(2, 1), (1, 4))
    assert doubled.tolist() == [[[0.0, 0.25, 0.75, 1.0]]]
    assert torch.equal(doubled, F.interpolate(row(0.0, 1.0)[None], (1, 4), mode="bilinear", align_corners=False)[0])


def test_halving_without_antialiasing_samples_on_the_border_between_two_pixels() -> None:
    halved = warp_image(row(0.0, 1.0, 2.0, 3.0), scaling(0.5, 1), (1, 2), antialias=False)
    assert halved.tolist() == [[[0.5, 2.5]]]


def test_half_a_pixel_to_the_right_is_the_mean_of_two_neighbours() -> None:
    assert warp_image(row(2.0, 4.0, 8.0), translation(0.5, 0), (1, 3)).tolist() == [[[1.0, 3.0, 6.0]]]


def test_positive_degrees_turn_clockwise_on_the_screen() -> None:
    right_turned_down = transform_points(rotation(90), tensor([1.0, 0.0], dtype=torch.float64))
    assert (right_turned_down - tensor([0.0, 1.0])).abs().max() < 1e-15
