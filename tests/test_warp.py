"""Pixels, labels, depth and normals move exactly where the points move."""

import math

import numpy as np
import PIL.Image
import pytest
import torch
from scipy import ndimage
from torch import Tensor, tensor

from pixelwise.geometry.homography import (
    Matrix,
    Size,
    about,
    compose,
    horizontal_flip,
    letterbox,
    resize,
    rotation,
    scaling,
    shear,
    transform_points,
    translation,
)
from pixelwise.geometry.tiles import Tile, bands
from pixelwise.geometry.warp import resize_bicubic, warp_depth, warp_image, warp_labels, warp_maps, warp_normals
from pixelwise.seeds import generator, torch_generator

NAN = math.nan


def centres(size: Size) -> Tensor:
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) + 0.5 for n in size), indexing="ij")
    return torch.stack([x, y], -1)


def blob(point: Tensor, size: Size, sigma: float) -> Tensor:
    return torch.exp(-(centres(size) - point).square().sum(-1) / (2 * sigma**2))[None]


def centroid(image: Tensor) -> Tensor:
    return torch.einsum("hw,hwc->c", image[0].double(), centres(tuple(image.shape[-2:]))) / image.double().sum()


def noise(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch_generator(0, "noise"))


def random_composition(seed: int) -> tuple[Matrix, Size, Size]:
    """Fit a picture to a random smaller or larger one, then flip, turn, zoom, shear and shift it about its centre."""
    rng = generator(seed, "composition")
    source = tuple(int(n) for n in rng.integers(240, 320, 2))
    size = tuple(int(n) for n in rng.integers(150, 300, 2))
    middle = (size[1] / 2, size[0] / 2)
    parts = [
        (letterbox if rng.random() < 0.5 else resize)(source, size),
        about(rotation(rng.uniform(-180, 180)), middle),
        about(scaling(*rng.uniform(0.85, 1.2, 2)), middle),
        about(shear(*rng.uniform(-0.2, 0.2, 2)), middle),
        translation(*rng.uniform(-5, 5, 2)),
    ]
    parts[1:] = [parts[1:][i] for i in rng.permutation(4)]
    return compose(*parts, *([horizontal_flip(size[1])] if rng.random() < 0.5 else [])), source, size


@pytest.mark.parametrize("seed", range(40))
def test_the_centroid_of_a_blob_goes_where_its_point_goes(seed: int) -> None:
    matrix, source, size = random_composition(seed)
    point = tensor([source[1], source[0]], dtype=torch.float64) * 0.5 + tensor(generator(seed).uniform(-5, 5, 2))
    shrink = 1 / np.linalg.svd(matrix[:2, :2], compute_uv=False)[-1]
    # wide enough for the beat between the two grids, a property of bilinear sampling, to average out
    warped = warp_image(blob(point, source, 5 * max(1.0, shrink)), matrix, size)
    assert (centroid(warped) - transform_points(matrix, point)).abs().max() < 1e-3


def cases() -> dict[str, tuple[Matrix, Size]]:
    middle = (128.0, 128.0)
    return {
        "flip": (horizontal_flip(256), (256, 256)),
        "quarter size": (scaling(0.25, 0.25), (64, 64)),
        "a seventh, turned": (compose(about(rotation(30), middle), scaling(1 / 7, 1 / 7)), (37, 37)),
        "double size": (scaling(2, 2), (512, 512)),
        "90 degrees": (about(rotation(90), middle), (256, 256)),
        "30 degrees": (about(rotation(30), middle), (256, 256)),
        "zoom": (about(scaling(1.5, 1.5), middle), (256, 256)),
        "odd stretch": (resize((256, 256), (77, 101)), (77, 101)),
        "letterbox": (letterbox((256, 256), (50, 80)), (50, 80)),
        "shift": (translation(10.3, -7.7), (256, 256)),
        "crop of a shrink": (compose(scaling(0.37, 0.53), translation(-6.2, -10.9)), (110, 80)),
        "slight perspective": (about(np.array([[1.0, 0, 0], [0, 1, 0], [1e-5, -1e-5, 1]]), middle), (256, 256)),
    }


@pytest.mark.parametrize("name", cases())
def test_pixels_and_points_agree(name: str) -> None:
    matrix, size = cases()[name]
    point = tensor([120.3, 131.9], dtype=torch.float64)
    shrink = max(1.0, 1 / np.linalg.svd(matrix[:2, :2], compute_uv=False)[-1])
    warped = warp_image(blob(point, (256, 256), 3 * shrink), matrix, size)
    assert (centroid(warped) - transform_points(matrix, point)).abs().max() < 1e-3


def test_a_perspective_renders_the_blob_where_it_should_be() -> None:
    # it moves the centroid itself, so compare with the blob rendered in the destination
    matrix = about(np.array([[1.0, 0.1, 0], [0, 1, 0], [3e-4, -6e-4, 1]]), (64, 64))
    point = tensor([60.3, 70.9], dtype=torch.float64)
    back = transform_points(np.linalg.inv(matrix), centres((128, 128)))
    ideal = torch.exp(-(back - point).square().sum(-1) / (2 * 8.0**2))[None]
    warped = warp_image(blob(point, (128, 128), 8.0), matrix, (128, 128))
    assert (warped - ideal).abs().max() < 0.01
    assert (centroid(warped) - centroid(ideal)).abs().max() < 1e-3


def scipy_warp(image: Tensor, matrix: Matrix, size: Size, mode: str, fill: float = 0.0) -> Tensor:
    where = transform_points(np.linalg.inv(matrix), centres(size)).numpy()[..., ::-1] - 0.5  # indices: centres are whole
    where = np.moveaxis(where, -1, 0)
    return tensor(np.stack([ndimage.map_coordinates(c.numpy(), where, order=1, mode=mode, cval=fill) for c in image]))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("fill", "mode", "value"), [(0.0, "grid-constant", 0), (0.7, "grid-constant", 0.7), ("edge", "nearest", 0)]
)
def test_bilinear_sampling_equals_scipy(seed: int, fill: float, mode: str, value: float) -> None:
    matrix, source, size = random_composition(seed)
    image = noise(2, *source)
    ours = warp_image(image, matrix, size, fill=fill, antialias=False)  # type: ignore[arg-type]
    assert (ours - scipy_warp(image, matrix, size, mode, value)).abs().max() < 1e-4


def test_perspective_sampling_equals_scipy() -> None:
    matrix = compose(about(rotation(25), (40, 40)), np.array([[1.0, 0.1, -5], [0.05, 1.1, 3], [1e-3, 2e-3, 1]]))
    image = noise(1, 80, 80)
    ours = warp_image(image, matrix, (60, 60), antialias=False)
    assert (ours - scipy_warp(image, matrix, (60, 60), "grid-constant")).abs().max() < 1e-4


def test_bilinear_sampling_equals_kornia() -> None:
    kornia = pytest.importorskip("kornia")
    matrix, source, size = random_composition(3)
    image = noise(3, *source)
    to_index, from_index = translation(-0.5, -0.5), translation(0.5, 0.5)  # kornia counts from pixel centres
    theirs = kornia.geometry.transform.warp_perspective(
        image[None], tensor(compose(from_index, matrix, to_index))[None].float(), size, align_corners=True
    )[0]
    assert (warp_image(image, matrix, size, antialias=False) - theirs).abs().max() < 2e-3


@pytest.mark.parametrize("shrink", [2.3, 5.9, 11.0])
def test_a_turned_shrink_averages_each_pixel_s_footprint(shrink: float) -> None:
    image = tensor(ndimage.gaussian_filter(noise(256, 256).numpy(), shrink / 2))[None]
    matrix = compose(about(rotation(33), (128, 128)), translation(-64, -64), scaling(1 / shrink, 1 / shrink))
    size = (round(128 / shrink), round(128 / shrink))
    fine = scipy_warp(image, compose(matrix, scaling(32, 32)), (32 * size[0], 32 * size[1]), "grid-constant")
    footprint = torch.nn.functional.avg_pool2d(fine, 32)
    difference = warp_image(image, matrix, size) - footprint
    assert difference.square().mean().sqrt() < 0.1 * footprint.std()


def test_a_shrunk_checkerboard_turns_grey_and_not_into_moire() -> None:
    board = (torch.arange(256)[:, None] + torch.arange(256)).remainder(2).float()[None]
    matrix = compose(about(rotation(10), (128, 128)), scaling(1 / 4.3, 1 / 4.3))
    inner = (slice(None), slice(15, 45), slice(15, 45))
    assert (warp_image(board, matrix, (60, 60))[inner] - 0.5).abs().max() < 0.03
    assert (warp_image(board, matrix, (60, 60), antialias=False)[inner] - 0.5).abs().max() > 0.4


@pytest.mark.parametrize("across", [True, False])
def test_a_turned_stretch_is_antialiased_along_the_axis_that_shrinks(across: bool) -> None:
    stripes = (torch.arange(256) % 2).float().expand(1, 256, 256)
    stripes = stripes if across else stripes.mT
    zoom = scaling(1 / 3.6, 1) if across else scaling(1, 1 / 3.6)
    size = (256, 71) if across else (71, 256)
    warped = warp_image(stripes, compose(about(rotation(5), (128, 128)), zoom), size)
    assert (warped[:, 20:50, 20:50] - 0.5).abs().max() < 0.1


def test_what_is_behind_the_horizon_is_not_in_the_picture() -> None:
    # the way back divides by 1 - 0.1 * (y - 100), which is negative, and would mirror the picture, below row 110
    back = about(np.array([[1.0, 0, 0], [0, 1, 0], [0, -0.1, 1]]), (100, 100))
    matrix = np.linalg.inv(back)
    labels = warp_labels(torch.zeros(200, 200, dtype=torch.uint8), matrix, (200, 200))
    assert (labels[110:] == 255).all() and (labels[60:104, 90:110] == 0).all()
    image = warp_image(torch.ones(1, 200, 200), matrix, (200, 200))
    assert image[:, 110:].max() == 0 and image[:, 60:104, 90:110].min() == pytest.approx(1)


def test_a_shrunk_picture_keeps_its_extent() -> None:
    # 102 / 8.5 = 12 pixels on either axis; repeating the border to whole blocks of 4 would give 104 / 8.5 = 12.2
    warped = warp_image(torch.ones(1, 102, 102), compose(scaling(1 / 8.5, 1 / 8.5), translation(0.3, 0.3)), (14, 14))
    assert warped.sum().item() == pytest.approx(12**2, rel=0.01)


@pytest.mark.parametrize("size", [(40, 60), (97, 33), (200, 300), (150, 20)])
def test_a_resize_equals_pillow_s_antialiased_bilinear(size: Size) -> None:
    image = (noise(3, 97, 121) * 255).byte()
    theirs = PIL.Image.fromarray(image.permute(1, 2, 0).numpy()).resize(size[::-1], PIL.Image.Resampling.BILINEAR)
    ours = warp_image(image, resize((97, 121), size), size)
    assert ours.dtype == torch.uint8
    assert (ours.int() - tensor(np.asarray(theirs)).permute(2, 0, 1).int()).abs().max() <= 1


def test_a_crop_of_a_mirrored_resize_is_the_resize_cropped_and_mirrored() -> None:
    image = noise(3, 100, 140)
    whole = warp_image(image, resize((100, 140), (50, 50)), (50, 50))
    matrix = compose(resize((100, 140), (50, 50)), translation(-7, -3), horizontal_flip(32))
    assert torch.equal(warp_image(image, matrix, (40, 32)), whole[:, 3:43, 7:39].flip(-1))


def test_the_bicubic_resize_is_pillow_s() -> None:
    image = (noise(3, 97, 121) * 255).byte()
    for size in ((40, 60), (286, 286)):
        theirs = PIL.Image.fromarray(image.permute(1, 2, 0).numpy()).resize(size[::-1], PIL.Image.Resampling.BICUBIC)
        assert torch.equal(resize_bicubic(image, size), tensor(np.asarray(theirs)).permute(2, 0, 1))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_whole_pixel_motions_copy_pixels(dtype: torch.dtype) -> None:
    image = (noise(3, 20, 30) * 255).to(dtype)
    assert torch.equal(warp_image(image, np.eye(3), (20, 30)), image)
    assert torch.equal(warp_image(image, horizontal_flip(30), (20, 30)), image.flip(-1))
    assert torch.equal(warp_image(image, about(scaling(1, -1), (0, 10)), (20, 30)), image.flip(-2))
    assert torch.equal(warp_image(image, translation(-4, -2), (10, 12)), image[:, 2:12, 4:16])
    crop_then_flip = compose(translation(-4, -2), horizontal_flip(12))
    assert torch.equal(warp_image(image, crop_then_flip, (10, 12)), image[:, 2:12, 4:16].flip(-1))


def test_outside_the_source_is_fill_or_the_border() -> None:
    image = tensor([[[1, 2], [3, 4]]], dtype=torch.uint8)
    shifted = translation(1, -1)
    assert warp_image(image, shifted, (2, 4), fill=9).tolist() == [[[9, 3, 4, 9], [9, 9, 9, 9]]]
    assert warp_image(image, shifted, (2, 4), fill="edge").tolist() == [[[3, 3, 4, 4], [3, 3, 4, 4]]]
    mirrored = compose(horizontal_flip(2), shifted)
    assert warp_image(image, mirrored, (2, 4), fill=9).tolist() == [[[9, 4, 3, 9], [9, 9, 9, 9]]]
    assert warp_image(image, mirrored, (2, 4), fill="edge").tolist() == [[[4, 4, 3, 3], [4, 4, 3, 3]]]
    for far in (translation(50, 0), translation(0, -50), translation(50.5, 0)):
        assert warp_image(image, far, (2, 2), fill=7).tolist() == [[[7, 7], [7, 7]]]
    assert warp_image(image, translation(50.5, 0), (1, 2), fill="edge").tolist() == [[[1, 1]]]


def test_values_are_rounded_to_the_nearest_level() -> None:
    image = tensor([[[1, 6, 254]]], dtype=torch.uint8)
    # shifted by a quarter: 0.75 * 1 = 0.75, 0.25 * 1 + 0.75 * 6 = 4.75, 0.25 * 6 + 0.75 * 254 = 192
    assert warp_image(image, translation(0.25, 0), (1, 3)).tolist() == [[[1, 5, 192]]]
    # antialiased halves: the triangle over pixels 0, 1, 2 weighs 3, 3, 1 of 7: (3 * 1 + 3 * 6 + 254) / 7 = 39.29
    assert warp_image(tensor([[[1, 6, 254, 254]]], dtype=torch.uint8), scaling(0.5, 1), (1, 2))[0, 0, 0] == 39


def test_a_great_zoom_samples_only_what_is_seen() -> None:
    image = noise(1, 100, 100)
    matrix = compose(translation(-50, -50), scaling(100, 100))
    zoomed = warp_image(image, matrix, (100, 100))
    assert zoomed[0, 50, 50].item() == pytest.approx(
        scipy_warp(image, matrix, (100, 100), "nearest")[0, 50, 50].item(), abs=1e-5
    )


def test_maps_go_back_with_their_border_values() -> None:
    maps = noise(2, 8, 8)
    back = warp_maps(maps, scaling(4, 4), (32, 32))
    expected = torch.nn.functional.interpolate(maps[None], (32, 32), mode="bilinear", align_corners=False)[0]
    assert (back - expected).abs().max() < 1e-6
    half = warp_maps(maps.bfloat16(), about(rotation(5), (4, 4)), (8, 8))
    assert half.dtype == torch.bfloat16 and half.min() > 0  # no fill beyond the border


@pytest.mark.parametrize("seed", range(3))
def test_labels_are_the_pixel_each_centre_falls_into(seed: int) -> None:
    matrix, source, size = random_composition(seed)
    labels = torch.randint(0, 21, source, dtype=torch.uint8, generator=torch_generator(seed))
    expected = torch.full(size, 255, dtype=torch.uint8)
    inverse = np.linalg.inv(matrix)
    for row in range(size[0]):
        for column in range(size[1]):
            x, y, _ = (math.floor(v) for v in inverse @ (column + 0.5, row + 0.5, 1))
            if 0 <= x < source[1] and 0 <= y < source[0]:
                expected[row, column] = labels[y, x]
    assert torch.equal(warp_labels(labels, matrix, size), expected)


def test_labels_by_hand() -> None:
    labels = tensor([[1, 2], [3, 4]], dtype=torch.uint8)
    doubled = [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    assert warp_labels(labels, scaling(2, 2), (4, 4)).tolist() == doubled
    assert warp_labels(labels, about(rotation(90), (1, 1)), (2, 2)).tolist() == [[3, 1], [4, 2]]
    assert warp_labels(labels, translation(1, 0), (2, 3)).tolist() == [[255, 1, 2], [255, 3, 4]]
    assert warp_labels(labels.short(), translation(0.6, 0), (2, 3), ignore=-1).tolist() == [[-1, 1, 2], [-1, 3, 4]]


def test_depth_is_nearest_and_a_zoom_leaves_metres() -> None:
    depth = tensor([[1.5, NAN], [3.0, 4.0]])
    warped = warp_depth(depth, compose(scaling(2, 2), translation(1, 0)), (4, 5))
    row = [NAN, 1.5, 1.5, NAN, NAN]
    assert torch.equal(warped.nan_to_num(-1), tensor([row, row, [NAN, 3, 3, 4, 4], [NAN, 3, 3, 4, 4]]).nan_to_num(-1))


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (about(rotation(90), (1.0, 1.0)), [0.0, 0.6, -0.8]),  # what pointed right points down
        (about(rotation(180), (1.0, 1.0)), [-0.6, 0.0, -0.8]),
        (about(rotation(30), (1.0, 1.0)), [0.6 * math.cos(math.pi / 6), 0.3, -0.8]),
        (horizontal_flip(2), [-0.6, 0.0, -0.8]),
        (compose(horizontal_flip(2), about(rotation(90), (1.0, 1.0))), [0.0, -0.6, -0.8]),
        (about(scaling(3, 3), (1.0, 1.0)), [0.6, 0.0, -0.8]),
        (about(scaling(3, 2), (1.0, 1.0)), [0.6, 0.0, -0.8]),  # a stretch is another lens, not another surface
    ],
)
def test_normals_turn_with_the_picture(matrix: Matrix, expected: list[float]) -> None:
    normals = tensor([0.6, 0.0, -0.8])[:, None, None].expand(3, 2, 2)
    warped = warp_normals(normals, matrix, (2, 2))
    assert (warped - tensor(expected)[:, None, None]).abs().max() < 1e-6


def test_normals_stay_of_length_1_and_unknown_where_unknown() -> None:
    normals = tensor([0.36, 0.48, -0.8])[:, None, None].repeat(1, 4, 4)
    normals[:, 0, 0] = NAN
    warped = warp_normals(normals, translation(1, 0), (4, 5))
    assert warped[:, :, 0].isnan().all() and warped[:, 0, 1].isnan().all()
    known = compose(about(rotation(40), (2, 2)), about(shear(0.2, 0), (2, 2)))
    lengths = warp_normals(normals, known, (4, 4)).norm(dim=0)
    assert (lengths[~lengths.isnan()] - 1).abs().max() < 1e-6 and (~lengths.isnan()).sum() > 8


def test_bands_put_together_are_the_whole() -> None:
    """A huge destination is made in bands; no seam, whatever the motion."""
    maps = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))
    for matrix, size in (
        (scaling(2.5, 2.5), (50, 75)),
        (scaling(0.6, 0.6), (12, 18)),
        (rotation(10), (25, 30)),
        (np.eye(3), (20, 30)),
    ):
        whole = warp_maps(maps, matrix, size)
        parts = [
            warp_maps(maps, translation(0, -band.top) @ matrix, (band.height, band.width))
            for band in bands(Tile(0, 0, *size), most=size[1] * 7)
        ]
        assert [p.shape[1] for p in parts] == [7] * (size[0] // 7) + [size[0] % 7]
        torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=0)
