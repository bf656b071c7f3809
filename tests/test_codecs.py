import math

import pytest
import torch

from pixelwise.codecs import peaks
from pixelwise.codecs.coordinates import CoordinatesCodec
from pixelwise.codecs.gaussian_heatmaps import GaussianHeatmapsCodec
from pixelwise.codecs.label_map import LabelMapCodec, median_frequency_weights
from pixelwise.codecs.rgb import RGBCodec
from pixelwise.errors import DataError, UsageError
from pixelwise.geometry.presence import Presence

UNKNOWN, ABSENT, HIDDEN, VISIBLE = Presence
NAN = torch.nan


def visible(points):
    return torch.full(points.shape[:-1], VISIBLE, dtype=torch.uint8)


def perfect(codec, targets):
    """What a network of zero loss would put out."""
    return targets["heatmaps"].log() if codec.kind == "cross_entropy" else targets["heatmaps"]


# Gaussian heatmaps: encoding


def test_gaussian_values_along_an_axis():
    codec = GaussianHeatmapsCodec(1, sigma=2, loss="l2")
    points = torch.tensor([[[[4.5, 2.5]]]])
    row = codec.encode(points, visible(points), (5, 9))["heatmaps"][0, 0, 2, 4:]
    torch.testing.assert_close(row, torch.tensor([1, 0.882497, 0.606531, 0.324652, 0.135335]), atol=1e-6, rtol=0)


def test_gaussian_of_sigma_7_input_pixels_at_stride_8():
    codec = GaussianHeatmapsCodec(1, sigma=7, stride=8, loss="l2")
    points = torch.tensor([[[[20.0, 20.0]]]])
    sheet = codec.encode(points, visible(points), (48, 48))["heatmaps"][0, 0]
    found = torch.stack([sheet[2, 2], sheet[2, 3], sheet[3, 3], sheet[2, 4]])
    torch.testing.assert_close(found, torch.tensor([1, 0.520450, 0.270868, 0.073370]), atol=1e-6, rtol=0)


def test_sigma_in_map_pixels_equals_sigma_in_input_pixels_times_stride():
    points = torch.tensor([[[[13.0, 7.0]]]])
    sheets = [
        GaussianHeatmapsCodec(1, sigma=s, sigma_unit=unit, stride=4, loss="l2").encode(points, visible(points), (32, 32))
        for s, unit in ((6, "input"), (1.5, "map"))
    ]
    assert torch.equal(sheets[0]["heatmaps"], sheets[1]["heatmaps"])


def test_several_instances_take_the_maximum_and_the_background_is_the_rest():
    codec = GaussianHeatmapsCodec(2, sigma=2, background=True, loss="l2")
    points = torch.tensor([[[[1.5, 0.5], [3.5, 0.5]], [[5.5, 0.5], [NAN, NAN]]]])
    presence = torch.tensor([[[VISIBLE, HIDDEN], [VISIBLE, ABSENT]]], dtype=torch.uint8)
    targets = codec.encode(points, presence, (1, 7))
    near = torch.tensor([0.882497, 1, 0.882497, 0.606531, 0.882497, 1, 0.882497])
    other = torch.tensor([0.324652, 0.606531, 0.882497, 1, 0.882497, 0.606531, 0.324652])
    expected = torch.stack([near, other, 1 - torch.maximum(near, other)])
    torch.testing.assert_close(targets["heatmaps"][0, :, 0], expected, atol=1e-6, rtol=0)
    assert targets["known"].all() and codec.channels == 3


def test_cross_entropy_target_is_the_gaussian_divided_by_its_sum():
    points = torch.tensor([[[[3.2, 4.1], [6.0, 0.4]]]])
    gaussian = GaussianHeatmapsCodec(2, sigma=2, loss="l2").encode(points, visible(points), (9, 8))["heatmaps"]
    probability = GaussianHeatmapsCodec(2, sigma=2).encode(points, visible(points), (9, 8))["heatmaps"]
    torch.testing.assert_close(probability, gaussian / gaussian.sum((2, 3), keepdim=True))


@pytest.mark.parametrize(("loss", "absent"), [("l2", True), ("cross_entropy", False)])
def test_known_sheets(loss, absent):
    """Sheets: unknown, absent, hidden, visible; then the same with padding; with a second person; padding only; nobody."""
    codec = GaussianHeatmapsCodec(4, sigma=2, loss=loss)
    states = [UNKNOWN, ABSENT, HIDDEN, VISIBLE]
    padding, second, nobody = [UNKNOWN] * 4, [VISIBLE, VISIBLE, UNKNOWN, ABSENT], [ABSENT] * 4
    images = [[states, padding], [states, second], [padding, padding], [nobody, padding]]
    presence = torch.tensor(images, dtype=torch.uint8)
    points = torch.full((4, 2, 4, 2), NAN)
    points[presence >= HIDDEN] = 5.0
    known = codec.encode(points, presence, (16, 16))["known"]
    expected = [[False, absent, True, True], [False, True, False, True], [False] * 4, [absent] * 4]
    assert known.tolist() == expected


def test_background_is_ignored_where_any_sheet_is():
    codec = GaussianHeatmapsCodec(2, sigma=2, background=True, loss="l2")
    presence = torch.tensor([[[VISIBLE, UNKNOWN]], [[VISIBLE, ABSENT]]], dtype=torch.uint8)
    known = codec.encode(torch.ones(2, 1, 2, 2), presence, (8, 8))["known"]
    assert known.tolist() == [[True, False, False], [True, True, True]]


def test_no_instance_at_all_is_unknown():
    for codec in (GaussianHeatmapsCodec(3, sigma=2), CoordinatesCodec(3)):
        targets = codec.encode(torch.zeros(2, 0, 3, 2), torch.zeros(2, 0, 3, dtype=torch.uint8), (8, 8))
        shape = (2, 6, 1, 1) if codec.scale == 0 else (2, 3, 8, 8)
        outputs = torch.randn(shape, requires_grad=True)
        codec.loss(outputs, targets).backward()
        assert outputs.grad.eq(0).all()


# Gaussian heatmaps: decoding


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
@pytest.mark.parametrize("loss", ["l2", "cross_entropy"])
@pytest.mark.parametrize("sigma", [0.5, 1.0, 1.5, 2.0, 3.0])
def test_decode_inverts_encode_everywhere(stride, loss, sigma):
    height, width = 9 * stride + 1, 12 * stride  # the last row of pixels is only partly inside
    codec = GaussianHeatmapsCodec(1, sigma=sigma, sigma_unit="map", stride=stride, loss=loss)
    generator = torch.Generator().manual_seed(0)
    extent = torch.tensor([width, height])
    inner = torch.rand(400, 2, generator=generator) * extent
    corners = torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1], [0.5, 0], [0, 0.5], [0.999, 0.5], [0.5, 0.999]]) * extent
    points = torch.cat([inner, corners])[:, None, None]
    targets = codec.encode(points, visible(points), (height, width))
    found, confidence = codec.decode(perfect(codec, targets), (height, width))
    torch.testing.assert_close(found[:, 0], points[:, 0, 0], atol=0.01, rtol=0)
    lowest = math.exp(-0.25 / sigma**2) * (0.8 if loss == "cross_entropy" else 1)  # half a pixel off on both axes
    assert confidence.min() > lowest - 1e-4 and confidence.max() <= 1


def test_decoding_noise_is_less_than_half_of_dark():
    """RMSE in input pixels, 64 x 64 sheets at stride 4, sigma 2; DARK without smoothing: 0.393 and 1.007."""
    codec = GaussianHeatmapsCodec(1, sigma=2, sigma_unit="map", stride=4, loss="l2")
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(400, 1, 1, 2, generator=generator) * 256
    clean = codec.encode(points, visible(points), (256, 256))["heatmaps"]
    for noise, limit in ((0.02, 0.2), (0.05, 0.5)):
        noisy = clean + noise * torch.randn(clean.shape, generator=generator)
        error = (codec.decode(noisy, (256, 256)).points - points[:, 0]).norm(dim=-1)
        assert error.square().mean().sqrt() < limit
        cell = peaks.centre(noisy) * 4
        assert (codec.decode(noisy, (256, 256)).points - cell).abs().max() <= 4


@pytest.mark.parametrize(("method", "expected"), [("argmax", (2.5, 1.5)), ("quarter", (2.25, 1.75))])
def test_coarse_decoding_by_hand(method, expected):
    sheet = torch.tensor([[0, 0, 0.3, 0], [0, 0.6, 0.9, 0.5], [0, 0, 0.4, 0]])
    codec = GaussianHeatmapsCodec(1, sigma=2, loss="l2", decoding=method)
    found, confidence = codec.decode(sheet[None, None], (3, 4))
    assert found.flatten().tolist() == pytest.approx(expected)
    assert confidence.item() == pytest.approx(0.9)


def test_quarter_does_not_move_at_the_border():
    assert peaks.quarter(torch.tensor([[[[0.9, 0.5], [0.1, 0.2]]]])).flatten().tolist() == [0.5, 0.5]


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 4), (8, 8)])
@pytest.mark.parametrize("loss", ["l2", "cross_entropy"])
def test_flat_negative_and_broken_sheets_decode_to_points_in_the_image(size, loss):
    codec = GaussianHeatmapsCodec(3, sigma=1, loss=loss)
    sheets = torch.stack([torch.zeros(size), torch.full(size, -3.0), torch.full(size, 1e8)])[None]
    points, confidence = codec.decode(sheets, size)
    assert points.isfinite().all() and (points >= 0).all() and (points <= torch.tensor(size[::-1])).all()
    assert confidence.isfinite().all()
    diverged = codec.decode(torch.full((1, 3, *size), NAN), size).points
    assert diverged.isfinite().all()


def test_absent_point_has_no_confidence():
    codec = GaussianHeatmapsCodec(1, sigma=2, loss="l2")
    targets = codec.encode(torch.full((1, 1, 1, 2), NAN), torch.tensor([[[ABSENT]]], dtype=torch.uint8), (8, 8))
    assert codec.decode(targets["heatmaps"], (8, 8)).confidence.item() == 0


def test_uniform_logits_are_hardly_confident():
    codec = GaussianHeatmapsCodec(1, sigma=2)
    confidence = codec.decode(torch.zeros(1, 1, 32, 32), (32, 32)).confidence.item()
    assert confidence == pytest.approx(2 * math.pi * 4 / 1024, rel=1e-5)


# Gaussian heatmaps: loss


@pytest.mark.parametrize(("stride", "side", "sigma"), [(1, 64, 2.0), (4, 256, 12.0), (2, 64, 3.0)])
def test_l2_of_an_empty_sheet_is_one_at_every_scale(stride, side, sigma):
    codec = GaussianHeatmapsCodec(1, sigma=sigma, stride=stride, loss="l2")
    points = torch.full((1, 1, 1, 2), side / 2 + 0.3)
    targets = codec.encode(points, visible(points), (side, side))
    assert codec.loss(torch.zeros_like(targets["heatmaps"]), targets).item() == pytest.approx(1, abs=1e-4)
    assert codec.loss(targets["heatmaps"], targets).item() == 0


def test_cross_entropy_loss_by_hand():
    """Logits 0: log(number of pixels); a perfect sheet: the entropy of the target, 1 + log(2 pi sigma^2)."""
    codec = GaussianHeatmapsCodec(1, sigma=2)
    points = torch.full((1, 1, 1, 2), 20.3)
    targets = codec.encode(points, visible(points), (40, 41))
    assert codec.loss(torch.zeros(1, 1, 40, 41), targets).item() == pytest.approx(math.log(40 * 41), rel=1e-6)
    entropy = 1 + math.log(2 * math.pi * 4)
    log_target = targets["heatmaps"].clamp(min=1e-38).log()
    assert codec.loss(log_target, targets).item() == pytest.approx(entropy, rel=1e-5)


@pytest.mark.parametrize(("loss", "background"), [("l2", False), ("l2", True), ("cross_entropy", False)])
def test_heatmap_gradients_of_unknown_are_exactly_zero_and_the_rest_is_unchanged(loss, background):
    codec = GaussianHeatmapsCodec(3, sigma=2, loss=loss, background=background)
    points = torch.tensor([[[[3.0, 4.0], [NAN, NAN], [6.0, 2.0]]]], requires_grad=True)
    presence = torch.tensor([[[VISIBLE, UNKNOWN, HIDDEN]]], dtype=torch.uint8)
    targets = codec.encode(points, presence, (8, 8))
    outputs = torch.randn(1, codec.channels, 8, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    value = codec.loss(outputs, targets)
    value.backward()
    assert outputs.grad[0, 1].eq(0).all() and (not background or outputs.grad[0, 3].eq(0).all())
    assert outputs.grad[0, 0].ne(0).any() and outputs.grad[0, 2].ne(0).any()
    assert points.grad.isfinite().all() and points.grad[0, 0, 1].eq(0).all() and points.grad[0, 0, 0].ne(0).all()
    alone = GaussianHeatmapsCodec(2, sigma=2, loss=loss)
    two = alone.encode(points[:, :, [0, 2]], presence[:, :, [0, 2]], (8, 8))
    assert value.item() == pytest.approx(alone.loss(outputs[:, [0, 2]], two).item(), rel=1e-6)


@pytest.mark.parametrize("loss", ["l2", "cross_entropy"])
def test_only_unknown_points_give_zero_loss_and_gradient(loss):
    codec = GaussianHeatmapsCodec(2, sigma=2, loss=loss)
    targets = codec.encode(torch.full((1, 2, 2, 2), NAN), torch.zeros(1, 2, 2, dtype=torch.uint8), (8, 8))
    outputs = torch.randn(1, 2, 8, 8, requires_grad=True)
    value = codec.loss(outputs, targets)
    value.backward()
    assert value.item() == 0 and outputs.grad.eq(0).all()


def test_absent_sheet_learns_zero_under_l2():
    codec = GaussianHeatmapsCodec(1, sigma=2, loss="l2")
    targets = codec.encode(torch.full((1, 1, 1, 2), NAN), torch.tensor([[[ABSENT]]], dtype=torch.uint8), (4, 4))
    outputs = torch.full((1, 1, 4, 4), 0.5)
    assert codec.loss(outputs, targets).item() == pytest.approx(16 * 0.25 / (4 * math.pi))


# Flip, for both kinds of key points


@pytest.mark.parametrize("loss", ["l2", "cross_entropy"])
def test_heatmap_flip_of_the_mirrored_image_is_the_image(loss):
    codec = GaussianHeatmapsCodec(3, sigma=4, stride=2, swap=(1, 0, 2), loss=loss, background=loss == "l2")
    points = torch.tensor([[[[3.2, 4.7], [15.1, 8.0], [9.9, 2.0]]]])
    mirrored = torch.stack([20 - points[..., 0], points[..., 1]], -1)[:, :, [1, 0, 2]]
    straight = codec.encode(points, visible(points), (12, 20))["heatmaps"]
    flipped = codec.flip(codec.encode(mirrored, visible(points), (12, 20))["heatmaps"])
    torch.testing.assert_close(flipped, straight, atol=1e-6, rtol=0)


def test_coordinates_flip_of_the_mirrored_image_is_the_image():
    codec = CoordinatesCodec(3, swap=(1, 0, 2))
    points = torch.tensor([[[[3.2, 4.7], [15.1, 8.0], [9.9, 2.0]]]])
    mirrored = torch.stack([20 - points[..., 0], points[..., 1]], -1)[:, :, [1, 0, 2]]
    straight, other = (codec.encode(p, visible(p), (12, 20))["coordinates"].view(1, 6, 1, 1) for p in (points, mirrored))
    torch.testing.assert_close(codec.flip(other), straight)


@pytest.mark.parametrize("swap", [(1, 2, 0), (0, 1), (0, 0, 2), (0, 1, 3), (-1, 1, 0)])
def test_swap_that_pairs_nothing_is_refused(swap):
    for build in (CoordinatesCodec, lambda k, swap: GaussianHeatmapsCodec(k, swap=swap, sigma=2)):
        with pytest.raises(UsageError, match="pair 3 points"):
            build(3, swap=swap)


def test_impossible_heatmaps_are_refused():
    with pytest.raises(UsageError, match="too narrow") as raised:
        GaussianHeatmapsCodec(1, sigma=3, stride=8)
    assert "sigma >= 4" in raised.value.hint
    with pytest.raises(UsageError, match="background"):
        GaussianHeatmapsCodec(1, sigma=3, background=True)


# Coordinates


def test_coordinates_round_trip_and_layout():
    codec = CoordinatesCodec(2)
    points = torch.tensor([[[[10.0, 30.0], [25.5, 0.25]]]])
    targets = codec.encode(points, visible(points), (60, 40))
    assert targets["coordinates"].flatten().tolist() == pytest.approx([0.25, 0.5, 0.6375, 0.25 / 60])
    found, confidence = codec.decode(targets["coordinates"].view(1, 4, 1, 1), (60, 40))
    torch.testing.assert_close(found, points[:, 0], atol=1e-5, rtol=0)
    assert confidence.eq(1).all() and codec.channels == 4


@pytest.mark.parametrize(
    ("loss", "expected"),
    [("l2", (0.09 + 0.04 + 0.0004) / 4), ("l1", (0.3 + 0.2 + 0.02) / 4), ("smooth_l1", (0.275 + 0.175 + 0.004) / 4)],
)
def test_coordinates_loss_by_hand(loss, expected):
    """Two points of three are present, off by (0, 0.3) and (0.2, 0.02) of the image."""
    codec = CoordinatesCodec(3, loss=loss)
    points = torch.tensor([[[[5.0, 5.0], [NAN, NAN], [2.0, 8.0]]]], requires_grad=True)
    presence = torch.tensor([[[VISIBLE, ABSENT, HIDDEN]]], dtype=torch.uint8)
    outputs = torch.tensor([0.5, 0.8, 9.0, 9.0, 0.4, 0.78]).view(1, 6, 1, 1).requires_grad_()
    value = codec.loss(outputs, codec.encode(points, presence, (10, 10)))
    value.backward()
    assert value.item() == pytest.approx(expected, rel=1e-5)
    assert outputs.grad[0, 2:4].eq(0).all() and outputs.grad[0, 4:].ne(0).all()
    assert points.grad.isfinite().all() and points.grad[0, 0, 1].eq(0).all()


def test_coordinates_refuse_two_objects():
    with pytest.raises(DataError, match="2 objects"):
        CoordinatesCodec(1).encode(torch.zeros(1, 2, 1, 2), torch.zeros(1, 2, 1, dtype=torch.uint8), (4, 4))


# Label maps


@pytest.mark.parametrize(("classes", "dtype"), [(5, torch.uint8), (300, torch.int16)])
def test_label_map_round_trip(classes, dtype):
    codec = LabelMapCodec(classes, ignore=255 if classes < 255 else -1)
    labels = torch.randint(classes, (2, 3, 4), generator=torch.Generator().manual_seed(0)).to(dtype)
    one_hot = torch.nn.functional.one_hot(codec.encode(labels)["labels"], classes).movedim(-1, 1).float()
    found, probabilities = codec.decode(one_hot * 100)
    assert torch.equal(found, labels) and found.dtype == dtype
    torch.testing.assert_close(probabilities, one_hot)
    mirrored = codec.encode(labels.flip(-1))["labels"]
    assert torch.equal(codec.flip(torch.nn.functional.one_hot(mirrored, classes).movedim(-1, 1).float()), one_hot)


def test_label_map_loss_counts_known_pixels_only():
    """Class weights 1 and 3; logits say p = 0.8 for class 0: known pixels of class 0 and 1, and one unknown."""
    codec = LabelMapCodec(2, class_weights=(1.0, 3.0))
    outputs = torch.tensor([math.log(4.0), 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, 3).clone().requires_grad_()
    value = codec.loss(outputs, codec.encode(torch.tensor([[[0, 1, 255]]], dtype=torch.uint8)))
    value.backward()
    assert value.item() == pytest.approx((-math.log(0.8) - 3 * math.log(0.2)) / 4, rel=1e-6)
    assert outputs.grad[..., 2].eq(0).all() and outputs.grad[..., :2].ne(0).all()


def test_label_map_refuses_what_is_no_class():
    with pytest.raises(DataError, match="label 7 in a map of 3"):
        LabelMapCodec(3).encode(torch.tensor([[[0, 7, 255]]]))
    with pytest.raises(UsageError, match="2 class weights for 3"):
        LabelMapCodec(3, class_weights=(1.0, 2.0))


def test_median_frequency_weights_by_hand():
    """Frequencies 30 / 80, 40 / 80 and, because only the first image has class 2, 10 / 40; class 3 is nowhere."""
    counts = torch.tensor([[10, 20, 10, 0], [20, 20, 0, 0]])
    assert median_frequency_weights(counts).tolist() == pytest.approx([1.0, 0.75, 1.5, 0.0])
    assert median_frequency_weights(torch.zeros(1, 2)).tolist() == [0, 0]


# RGB


def test_every_8_bit_value_survives_the_round_trip():
    codec = RGBCodec()
    image = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    encoded = codec.encode(image)
    assert encoded.min() == -1 and encoded.max() == 1
    assert torch.equal(codec.decode(encoded), image)
    assert torch.equal(codec.decode(codec.encode(image / 255)), image)
    assert torch.equal(codec.decode(torch.tensor([-9.0, 9.0]).view(1, 1, 1, 2)).flatten(), torch.tensor([0, 255]).byte())


def test_rgb_loss_and_flip():
    codec = RGBCodec()
    assert codec.loss(torch.full((1, 3, 2, 2), 0.5), torch.full((1, 3, 2, 2), -0.25)).item() == 0.75
    assert codec.flip(torch.arange(3.0).view(1, 1, 1, 3)).flatten().tolist() == [2, 1, 0]
