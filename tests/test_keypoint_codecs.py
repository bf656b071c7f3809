"""The targets of key points: every number worked out by hand or by plain loops, and what must hold for all of them."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pixelwise import export
from pixelwise.codecs import peaks
from pixelwise.codecs.channel_softmax import ChannelSoftmaxCodec
from pixelwise.codecs.codec import at_least_one
from pixelwise.codecs.coordinates import CoordinatesCodec
from pixelwise.codecs.gaussian_heatmaps import GaussianHeatmapsCodec
from pixelwise.codecs.one_hot import OneHotCodec
from pixelwise.codecs.points import PointsCodec
from pixelwise.codecs.simcc import SimCCCodec
from pixelwise.codecs.soft_argmax import SoftArgmaxCodec, divergence, expectation, variance
from pixelwise.errors import DataError, UsageError
from pixelwise.geometry.presence import Presence
from pixelwise.losses.regression import wing_loss
from pixelwise.nn.axis_head import AxisHead

UNKNOWN, ABSENT, HIDDEN, VISIBLE = Presence
NAN = torch.nan
SIZE = (48, 64)
SWAP = (1, 0, 2)
CODECS: dict[str, PointsCodec] = {
    "heatmaps": GaussianHeatmapsCodec(3, sigma=4, stride=2, swap=SWAP),
    "heatmaps, l2": GaussianHeatmapsCodec(3, sigma=4, stride=2, swap=SWAP, loss="l2"),
    "one_hot": OneHotCodec(3, stride=2, swap=SWAP),
    "channels": ChannelSoftmaxCodec(3, sigma=4, stride=2, swap=SWAP),
    "soft_argmax": SoftArgmaxCodec(3, sigma=4, stride=2, swap=SWAP),
    "soft_argmax, variance": SoftArgmaxCodec(3, sigma=4, stride=2, swap=SWAP, loss="l1", regulariser="variance"),
    "simcc": SimCCCodec(3, bins=(48, 96), sigma=4, swap=SWAP),
    "coordinates": CoordinatesCodec(3, swap=SWAP, loss="wing"),
}
EACH = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
HALF_A_PIXEL = 1.0
"""Of sheets of stride 2, in input pixels: what one-hot targets cannot tell."""


def visible(points: Tensor) -> Tensor:
    return torch.full(points.shape[:-1], VISIBLE, dtype=torch.uint8)


def drawn(count: int, margin: float, seed: int = 0) -> Tensor:
    """Return points `(count, 1, 3, 2)` in a picture of SIZE, so far from its border."""
    extent = torch.tensor([SIZE[1], SIZE[0]]) - 2 * margin
    return torch.rand(count, 1, 3, 2, generator=torch.Generator().manual_seed(seed)) * extent + margin


def log(values: Tensor) -> Tensor:
    return values.clamp(min=1e-37).log()


def perfect(codec: PointsCodec, targets: dict[str, Tensor]) -> Tensor:
    """Return what a network of the least loss would put out."""
    if isinstance(codec, OneHotCodec):
        sheets = functional.one_hot(targets["cell"], SIZE[0] * SIZE[1] // 4).float() * 100
        return sheets.view(*targets["cell"].shape, SIZE[0] // 2, SIZE[1] // 2)
    if isinstance(codec, SimCCCodec):
        return log(torch.cat([targets["across"], targets["down"]], -1)).flatten(1)[..., None, None]
    if isinstance(codec, CoordinatesCodec):
        return targets["coordinates"].flatten(1)[..., None, None]
    sheets = targets["shares" if isinstance(codec, ChannelSoftmaxCodec) else "heatmaps"]
    return sheets if codec.kind == "l2" else log(sheets)


def noise(codec: PointsCodec, count: int = 2) -> Tensor:
    shape = (1, 1) if codec.scale == 0 else (SIZE[0] // 2, SIZE[1] // 2)
    return torch.randn(count, codec.channels, *shape, generator=torch.Generator().manual_seed(1))


# What holds for all


@EACH
def test_decode_inverts_encode(codec: PointsCodec) -> None:
    """To 0.01 px; a mean wants its whole Gaussian inside, and one pixel is all that a one-hot target tells."""
    points = drawn(100, margin=16 if isinstance(codec, SoftArgmaxCodec) else 0.5)
    found, confidence = codec.decode(perfect(codec, codec.encode(points, visible(points), SIZE)), SIZE)
    apart = (found - points[:, 0]).abs().max()
    assert apart <= (HALF_A_PIXEL + 1e-4 if isinstance(codec, OneHotCodec) else 0.01)
    assert confidence.shape == (100, 3) and confidence.min() > 0.7 and confidence.max() <= 1


@EACH
def test_a_flip_of_the_mirrored_picture_is_the_picture(codec: PointsCodec) -> None:
    points = drawn(4, margin=3)
    mirrored = torch.stack([SIZE[1] - points[..., 0], points[..., 1]], -1)[:, :, list(SWAP)]
    straight, other = (perfect(codec, codec.encode(p, visible(p), SIZE)) for p in (points, mirrored))
    if codec.scale and codec.kind != "l2":  # logarithms of next to nothing differ
        straight, other = straight.clamp(min=-60), other.clamp(min=-60)
    torch.testing.assert_close(codec.flip(other), straight, atol=2e-3, rtol=1e-3)


@EACH
def test_flips(codec: PointsCodec) -> None:
    """Twice gives the same back, and decoding commutes with it."""
    outputs = noise(codec)
    assert torch.equal(codec.flip(codec.flip(outputs)), outputs) or isinstance(codec, CoordinatesCodec)
    torch.testing.assert_close(codec.flip(codec.flip(outputs)), outputs)
    points, confidence = codec.decode(outputs, SIZE)
    other, sure = codec.decode(codec.flip(outputs), SIZE)
    other = torch.stack([SIZE[1] - other[..., 0], other[..., 1]], -1)[:, list(SWAP)]
    torch.testing.assert_close(other, points, atol=1e-3, rtol=0)
    torch.testing.assert_close(sure[:, list(SWAP)], confidence)


@EACH
@pytest.mark.parametrize("state", [UNKNOWN, VISIBLE], ids=["unknown", "visible without a place"])
def test_unknown_points_have_no_gradient_and_no_part(codec: PointsCodec, state: Presence) -> None:
    """The second of three; the loss is that of the other two alone."""
    points = drawn(1, margin=8)
    points[:, :, 1] = NAN
    points.requires_grad_()
    presence = torch.tensor([[[VISIBLE, state, HIDDEN]]], dtype=torch.uint8)
    outputs = noise(codec, 1).requires_grad_()
    value = codec.loss(outputs, codec.encode(points, presence, SIZE))
    value.backward()
    assert value > 0 and outputs.grad is not None
    if not isinstance(codec, OneHotCodec):  # which asks for a pixel, not for a place
        assert points.grad is not None and points.grad.isfinite().all() and points.grad[0, 0, 1].eq(0).all()
    per_point = codec.channels // 3
    own = slice(per_point, 2 * per_point)
    assert outputs.grad[:, own].eq(0).all() and outputs.grad.isfinite().all()
    assert outputs.grad[:, :per_point].ne(0).any() and outputs.grad[:, 2 * per_point :].ne(0).any()
    changed = outputs.detach().clone()
    changed[:, own] += 5
    assert codec.loss(changed, codec.encode(points.detach(), presence, SIZE)) == value


@EACH
def test_nothing_known_costs_nothing(codec: PointsCodec) -> None:
    """A batch of nothing else, and an image of nothing else among others, which changes no gradient of theirs."""
    points, presence = torch.full((2, 1, 3, 2), NAN), torch.zeros(2, 1, 3, dtype=torch.uint8)
    outputs = noise(codec).requires_grad_()
    value = codec.loss(outputs, codec.encode(points, presence, SIZE))
    value.backward()
    assert value == 0 and outputs.grad is not None and outputs.grad.eq(0).all()
    points[0] = drawn(1, margin=8)[0]
    presence[0] = VISIBLE
    both = codec.loss(outputs, codec.encode(points, presence, SIZE))
    alone = codec.loss(outputs[:1], codec.encode(points[:1], presence[:1], SIZE))
    assert both.item() == pytest.approx(alone.item(), rel=1e-6)
    nobody = codec.encode(torch.zeros(2, 0, 3, 2), torch.zeros(2, 0, 3, dtype=torch.uint8), SIZE)
    assert codec.loss(outputs, nobody) == 0


@EACH
def test_answers_are_finite_whatever_the_network_says(codec: PointsCodec) -> None:
    for value in (0.0, -3.0, 1e8):
        points, confidence = codec.decode(torch.full_like(noise(codec), value), SIZE)
        assert points.isfinite().all() and confidence.isfinite().all() and confidence.max() <= 1
        assert isinstance(codec, CoordinatesCodec) or ((points >= 0) & (points <= torch.tensor([64, 48]))).all()


@pytest.mark.parametrize("codec", [c for n, c in CODECS.items() if n not in ("heatmaps", "heatmaps, l2", "channels")])
def test_two_objects_are_refused_where_one_is_meant(codec: PointsCodec) -> None:
    with pytest.raises(DataError, match="2 objects in one image"):
        codec.encode(torch.ones(1, 2, 3, 2), torch.ones(1, 2, 3, dtype=torch.uint8), SIZE)


@pytest.mark.parametrize("build", [OneHotCodec, lambda k, swap: SimCCCodec(k, bins=(8, 8), sigma=9, swap=swap)])
def test_a_swap_that_pairs_nothing_is_refused(build: type[OneHotCodec]) -> None:
    with pytest.raises(UsageError, match="pair 3 points"):
        build(3, swap=(1, 2, 0))


def test_a_present_point_without_a_place_is_unknown() -> None:
    points = torch.tensor([[[[1.0, NAN], [2.0, 3.0], [torch.inf, 1.0], [NAN, NAN]]]])
    presence = torch.tensor([[[VISIBLE, HIDDEN, HIDDEN, ABSENT]]], dtype=torch.uint8)
    assert at_least_one(points, presence)[1].tolist() == [[[UNKNOWN, HIDDEN, UNKNOWN, ABSENT]]]


# Wing loss


def test_wing_loss_by_hand() -> None:
    """w = 10, e = 2: 10 log 1.5 at 1; C = 10 - 10 log 6; 20 - C at 20; both branches meet at 10; slope w / e at 0."""
    found = [wing_loss(torch.tensor([x]), torch.zeros(1)).item() for x in (1.0, -1.0, 9.9999, 10.0, 20.0)]
    assert found == pytest.approx([4.0546511, 4.0546511, 17.917511, 17.917595, 27.917595], abs=1e-5)
    x = torch.tensor([1e-6, -3.0, 15.0, NAN], requires_grad=True)
    wing_loss(x, torch.zeros(4), torch.tensor([True, True, True, False])).backward()
    assert x.grad is not None
    assert (3 * x.grad).tolist() == pytest.approx([5.0, -2.0, 1.0, 0.0], abs=1e-4)


def test_coordinates_compare_input_pixels_by_wing() -> None:
    """Off by 1 of 20 pixels in x and 20 of 40 in y."""
    codec = CoordinatesCodec(1, loss="wing")
    points = torch.tensor([[[[5.0, 10.0]]]])
    outputs = torch.tensor([0.3, 0.75]).view(1, 2, 1, 1)
    value = codec.loss(outputs, codec.encode(points, visible(points), (40, 20)))
    assert value.item() == pytest.approx((4.0546511 + 27.917595) / 2, rel=1e-5)
    sharper = CoordinatesCodec(1, loss="wing", wing=(1.5, 0.5))
    value = sharper.loss(outputs, sharper.encode(points, visible(points), (40, 20)))
    assert value.item() == pytest.approx((1.5 * math.log(3) + 20 - 1.5 + 1.5 * math.log(4)) / 2, rel=1e-5)


# One-hot


@pytest.mark.parametrize(
    ("point", "cell", "known"),
    [
        ((0.0, 0.0), 0, True),
        ((3.999, 3.999), 0, True),
        ((4.0, 3.999), 1, True),
        ((3.999, 4.0), 3, True),
        ((8.0, 4.0), 5, True),
        ((10.0, 8.0), 5, True),  # the far corner belongs to the last pixel, which is half outside
        ((10.01, 8.0), 5, False),
        ((-0.01, 1.0), 0, False),
    ],
)
def test_the_pixel_of_a_point(point: tuple[float, float], cell: int, known: bool) -> None:
    codec = OneHotCodec(1, stride=4)
    points = torch.tensor([[[point]]])
    targets = codec.encode(points, visible(points), (8, 10))
    assert targets["known"].item() is known
    if known:
        assert targets["cell"].item() == cell


def test_one_hot_loss_is_the_log_loss_of_a_pixel() -> None:
    """Of 2 x 2 pixels the right one has probability 3 / 6; a second point is absent, and has no vote."""
    codec = OneHotCodec(2)
    points = torch.tensor([[[[1.2, 0.3], [NAN, NAN]]]])
    presence = torch.tensor([[[VISIBLE, ABSENT]]], dtype=torch.uint8)
    sheet = torch.tensor([[0, math.log(3)], [0, 0]]).expand(1, 2, 2, 2)
    assert codec.loss(sheet, codec.encode(points, presence, (2, 2))).item() == pytest.approx(math.log(2), rel=1e-6)


def test_one_hot_is_the_limit_of_narrow_gaussians() -> None:
    """At the centre of a pixel: sigma 0.5 still gives its neighbours a share, which log softmax of zeros cannot see."""
    points = torch.tensor([[[[5.5, 2.5]]]])
    logits = torch.randn(1, 1, 6, 9, generator=torch.Generator().manual_seed(0))
    hot = OneHotCodec(1)
    expected = hot.loss(logits, hot.encode(points, visible(points), (6, 9)))
    narrow = GaussianHeatmapsCodec(1, sigma=0.5)
    narrow.sigma = 0.05
    torch.testing.assert_close(narrow.loss(logits, narrow.encode(points, visible(points), (6, 9))), expected)


def test_one_hot_decoding_by_hand() -> None:
    """Probabilities 0.5, 0.25 and 0.25 side by side: the mean is 1.25 pixels from the left one's centre at 0.5 ..."""
    sheet = torch.tensor([[0.25, 0.5, 0.25, 0, 0, 0, 0], [0] * 7])[None, None]
    for decoding, x in (("argmax", 1.5), ("local_mean", 1.5)):
        found, sure = OneHotCodec(1, stride=2, decoding=decoding).decode(log(sheet), (4, 14))  # type: ignore[arg-type]
        assert found.flatten().tolist() == pytest.approx([2 * x, 1.0], abs=1e-5) and sure.item() == pytest.approx(0.5)
    sheet = torch.tensor([[0, 0.6, 0, 0.4, 0, 0, 0], [0] * 7])[None, None]
    found, _ = OneHotCodec(1).decode(log(sheet), (2, 7))
    assert found.flatten().tolist() == pytest.approx([0.6 * 1.5 + 0.4 * 3.5, 0.5], abs=1e-5)


# A class for every pixel


def test_two_points_in_one_pixel_share_it() -> None:
    codec = ChannelSoftmaxCodec(2, sigma=1)
    points = torch.tensor([[[[1.5, 0.5], [1.5, 0.5]]]])
    shares = codec.encode(points, visible(points), (1, 3))["shares"][0, :, 0]
    half = torch.tensor([0.303265, 0.5, 0.303265])
    torch.testing.assert_close(shares, torch.stack([half, half, 1 - 2 * half]), atol=1e-6, rtol=0)


def test_neighbouring_points_share_by_their_gaussians_and_both_are_found() -> None:
    """At the pixel of the first: g = 1 and exp(-1/2), so 1 / 1.606531 of it; at 0.4 px apart both are still exact."""
    codec = ChannelSoftmaxCodec(2, sigma=1)
    points = torch.tensor([[[[3.5, 4.5], [4.5, 4.5]]]])
    shares = codec.encode(points, visible(points), (9, 9))["shares"]
    torch.testing.assert_close(shares.sum(1), torch.ones(1, 9, 9))
    assert shares[0, :, 4, 3].tolist() == pytest.approx([0.622459, 0.377541, 0], abs=1e-6)
    near = torch.tensor([[[[4.3, 4.6], [4.7, 4.5]]]])
    found, sure = codec.decode(log(codec.encode(near, visible(near), (9, 9))["shares"]), (9, 9))
    torch.testing.assert_close(found, near[:, 0], atol=0.01, rtol=0)
    assert sure.min() > 0.9


def test_class_loss_by_hand() -> None:
    """Equal logits cost log 3 at each of 12 pixels; the sum is divided by 2 pi sigma^2 and by two points."""
    codec = ChannelSoftmaxCodec(2, sigma=1)
    points = torch.tensor([[[[1.5, 0.5], [3.0, 2.0]]]])
    targets = codec.encode(points, visible(points), (3, 4))
    assert codec.loss(torch.zeros(1, 3, 3, 4), targets).item() == pytest.approx(12 * math.log(3) / (4 * math.pi), rel=1e-6)
    presence = torch.tensor([[[VISIBLE, UNKNOWN]]], dtype=torch.uint8)
    alone = codec.loss(torch.zeros(1, 3, 3, 4), codec.encode(points, presence, (3, 4)))
    assert alone.item() == pytest.approx(12 * math.log(2) / (2 * math.pi), rel=1e-6)


def test_an_absent_point_is_a_class_that_no_pixel_has() -> None:
    codec = ChannelSoftmaxCodec(2, sigma=1)
    presence = torch.tensor([[[VISIBLE, ABSENT]]], dtype=torch.uint8)
    targets = codec.encode(torch.tensor([[[[1.5, 1.5], [NAN, NAN]]]]), presence, (3, 4))
    outputs = torch.zeros(1, 3, 3, 4, requires_grad=True)
    codec.loss(outputs, targets).backward()
    assert outputs.grad is not None
    assert targets["known"].all() and targets["shares"][:, 1].eq(0).all() and (outputs.grad[:, 1] > 0).all()


# The mean of a map


def test_the_mean_and_variance_of_the_authors_example() -> None:
    """anibali/dsntnn: 5 x 5, 0.6 at row 2, column 3 and 0.1 beside it: (0.4, 0) from -1 to 1; variance loss 28.88."""
    sheet = torch.zeros(5, 5)
    sheet[[1, 2, 2, 3, 2], [3, 2, 4, 3, 3]] = torch.tensor([0.1, 0.1, 0.1, 0.1, 0.6])
    mean = expectation(sheet)
    assert (2 * mean / 5 - 1).tolist() == pytest.approx([0.4, 0.0], abs=1e-6)
    assert variance(sheet).tolist() == pytest.approx([0.2, 0.2], abs=1e-6)
    codec = SoftArgmaxCodec(1, sigma=2, regulariser="variance")
    points = (mean + torch.tensor([0, 1e-9])).view(1, 1, 1, 2)
    value = codec.loss(log(sheet)[None, None], codec.encode(points, visible(points), (5, 5)))
    assert value.item() == pytest.approx(28.88, abs=1e-4)


def test_distances_reach_from_minus_one_to_one() -> None:
    """The same map; the point is 2 rows above: 2 * 2 / 5; 1 column beside that: 0.4 more in L1."""
    sheet = torch.zeros(5, 5)
    sheet[[1, 2, 2, 3, 2], [3, 2, 4, 3, 3]] = torch.tensor([0.1, 0.1, 0.1, 0.1, 0.6])
    for loss, point, expected in (("euclidean", (3.5, 0.5), 0.8), ("l1", (2.5, 0.5), 1.2), ("euclidean", (2.0, 0.5), 1.0)):
        codec = SoftArgmaxCodec(1, sigma=2, loss=loss, weight=0)  # type: ignore[arg-type]
        points = torch.tensor([[[point]]])
        value = codec.loss(log(sheet)[None, None], codec.encode(points, visible(points), (5, 5)))
        assert value.item() == pytest.approx(expected, abs=1e-5)


def test_divergence_by_hand() -> None:
    """p = (1, 0), q = (1/2, 1/2), middle (3/4, 1/4): (log 4/3 + log(2/3) / 2 + log(2) / 2) / 2; at most log 2."""
    p, q = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.5]])
    assert divergence(p, q).item() == pytest.approx((math.log(4 / 3) + math.log(2 / 3) / 2 + math.log(2) / 2) / 2, rel=1e-6)
    assert divergence(p, q) == divergence(q, p) and divergence(p, p) == 0
    assert divergence(p, p.flip(-1)).item() == pytest.approx(math.log(2), rel=1e-6)


def test_the_regulariser_has_its_weight() -> None:
    points = torch.tensor([[[[3.2, 4.1]]]])
    logits = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    none, one, three = (
        codec.loss(logits, codec.encode(points, visible(points), (8, 8)))
        for codec in (SoftArgmaxCodec(1, sigma=1, weight=w) for w in (0, 1, 3))
    )
    assert (three - none).item() == pytest.approx(3 * (one - none).item(), rel=1e-5) and one > none


def test_the_gradient_at_the_point_itself_is_finite() -> None:
    codec = SoftArgmaxCodec(1, sigma=1)
    points = torch.tensor([[[[4.0, 4.0]]]])
    logits = torch.zeros(1, 1, 8, 8, requires_grad=True)
    codec.loss(logits, codec.encode(points, visible(points), (8, 8))).backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


# A column and a row


def test_bins_of_a_point_by_hand() -> None:
    """4 bins over 8 pixels: x = 3 is the centre of bin 1, sigma 2 pixels is one bin; y in 8 bins, two to a pixel of 4."""
    codec = SimCCCodec(1, bins=(8, 4), sigma=2)
    points = torch.tensor([[[[3.0, 1.25]]]])
    targets = codec.encode(points, visible(points), (4, 8))
    across = torch.tensor([0.606531, 1, 0.606531, 0.135335])
    torch.testing.assert_close(targets["across"][0, 0], across / across.sum(), atol=1e-6, rtol=0)
    down = torch.tensor([math.exp(-((i - 2) ** 2) / 32) for i in range(8)])
    torch.testing.assert_close(targets["down"][0, 0], down / down.sum(), atol=1e-6, rtol=0)
    assert codec.channels == 12
    zeros = torch.zeros(1, 12, 1, 1)
    assert codec.loss(zeros, targets).item() == pytest.approx(math.log(8) + math.log(4), rel=1e-6)


def test_bins_by_argmax_are_off_by_half_a_bin() -> None:
    codec = SimCCCodec(3, bins=(48, 96), sigma=4, decoding="argmax")
    points = drawn(100, margin=0.5)
    found, _ = codec.decode(perfect(codec, codec.encode(points, visible(points), SIZE)), SIZE)
    apart = (found - points[:, 0]).abs().amax((0, 1))
    assert 0.3 < apart[0] <= 64 / 96 / 2 + 1e-4 and 0.45 < apart[1] <= 0.5 + 1e-4


def test_bins_that_cannot_tell_are_refused() -> None:
    points = torch.ones(1, 1, 1, 2)
    with pytest.raises(UsageError, match="too narrow for 8 bins over 64 pixels") as raised:
        SimCCCodec(1, bins=(8, 8), sigma=3).encode(points, visible(points), (64, 64))
    assert "task.sigma >= 4" in raised.value.hint
    with pytest.raises(UsageError, match="2 bins part nothing"):
        SimCCCodec(1, bins=(2, 8), sigma=3)


def test_two_places_lose_their_pairing() -> None:
    """(8, 8) with 0.6 and (40, 24) with 0.4 stay apart on a sheet; on the axes the likelier one wins by itself."""
    codec = SimCCCodec(1, bins=(32, 48), sigma=2)
    here, there = torch.tensor([[[[8.0, 24.0]]]]), torch.tensor([[[[40.0, 8.0]]]])
    one, other = (codec.encode(p, visible(p), (32, 48)) for p in (here, there))
    across, down = 0.6 * one["across"] + 0.4 * other["across"], 0.4 * one["down"] + 0.6 * other["down"]
    found = codec.decode(log(torch.cat([across, down], -1)).view(1, -1, 1, 1), (32, 48)).points
    torch.testing.assert_close(found, torch.tensor([[[8.0, 8.0]]]), atol=0.02, rtol=0)


def test_the_axis_head_reads_a_map_as_a_vector() -> None:
    class Maps(nn.Module):
        stride, multiple, stages = 2, 2, 2

        def forward(self, image: Tensor, every: bool = False) -> Tensor:
            maps = image[:, :2, ::2, ::2]
            return torch.stack([maps, -maps], 1) if every else -maps

    head = AxisHead(Maps(), (16, 24)).eval()
    assert (head.stride, head.multiple, head.stages) == (0, 2, 2)
    image = torch.rand(3, 3, 4, 6)
    scores, both = head(image), head(image, every=True)
    assert scores.shape == (3, 2 * 40, 1, 1) and both.shape == (3, 2, 80, 1, 1)
    expected = -image[:, :2, ::2, ::2].flatten(2) @ head.axes.weight.T + head.axes.bias
    torch.testing.assert_close(scores.view(3, 2, 40), expected)
    torch.testing.assert_close(both[:, 1], scores)
    assert head(torch.rand(1, 3, 50, 7)).shape == (1, 80, 1, 1)


# Peaks


def dark(sheet: np.ndarray) -> tuple[float, float]:
    """The formula of DARK in plain numbers, for a peak with all neighbours."""
    y, x = np.unravel_index(sheet.argmax(), sheet.shape)
    h = np.log(sheet.astype(np.float64))
    gx, gy = (h[y, x + 1] - h[y, x - 1]) / 2, (h[y + 1, x] - h[y - 1, x]) / 2
    dxx = 0.25 * (h[y, x + 2] - 2 * h[y, x] + h[y, x - 2])
    dyy = 0.25 * (h[y + 2, x] - 2 * h[y, x] + h[y - 2, x])
    dxy = 0.25 * (h[y + 1, x + 1] - h[y - 1, x + 1] - h[y + 1, x - 1] + h[y - 1, x - 1])
    step = -np.linalg.solve([[dxx, dxy], [dxy, dyy]], [gx, gy])
    return float(x + 0.5 + step[0]), float(y + 0.5 + step[1])


def test_log_taylor_is_the_formula() -> None:
    """On bent, lopsided peaks, where the formula is not exact."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(11) - 5.2, torch.arange(13) - 6.3, indexing="ij")
    sheet = torch.exp(-(x**2) / 5 - y**2 / 9 + x * y / 14 + x**3 / 200)
    sheets = sheet * (1 + 0.02 * torch.rand(20, 1, 11, 13, generator=generator))
    found = peaks.log_taylor(sheets.log())[:, 0]
    expected = torch.tensor([dark(one[0].numpy()) for one in sheets])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("decoding", ["log_taylor", "dark"])
def test_a_clean_peak_is_found_to_a_hundredth(decoding: peaks.Decoding) -> None:
    """64 x 64 sheets of stride 4, sigma 2; log-Taylor up to the very border, DARK where its kernel sees no border."""
    codec = GaussianHeatmapsCodec(1, sigma=2, sigma_unit="map", stride=4, loss="l2", decoding=decoding)
    generator = torch.Generator().manual_seed(0)
    margin = 44 if decoding == "dark" else 0
    points = torch.rand(300, 1, 1, 2, generator=generator) * (256 - 2 * margin) + margin
    sheets = codec.encode(points, visible(points), (256, 256))["heatmaps"]
    apart = codec.decode(sheets, (256, 256)).points - points[:, 0]
    assert apart.norm(dim=-1).max() < 0.01


def test_local_mean_by_hand() -> None:
    """(0.6 * 2 + 0.3 * 1 + 0.1 * 3) of columns; negative values and what lies 3 pixels off do not count."""
    sheet = torch.zeros(1, 1, 7, 9)
    sheet[0, 0, 3, [1, 2, 3, 5]] = torch.tensor([0.3, 0.6, 0.1, 0.5])
    sheet[0, 0, 4, 2] = -9.0
    assert peaks.local_mean(sheet).flatten().tolist() == pytest.approx([2.3, 3.5])
    corner = torch.zeros(1, 1, 4, 4)
    corner[0, 0, 0, :2] = torch.tensor([0.75, 0.25])
    assert peaks.local_mean(corner).flatten().tolist() == pytest.approx([0.75, 0.5])
    assert peaks.local_mean(torch.full((1, 1, 3, 3), -1.0)).flatten().tolist() == [0.5, 0.5]


def test_smoothing_is_the_authors_kernel() -> None:
    """11 pixels for sigma 2, 17 for 3, sum 1; a Gaussian of sigma 2 becomes one of sigma 2 sqrt 2, but for its ends."""
    spot = torch.zeros(1, 1, 31, 31)
    spot[0, 0, 15, 15] = 1
    for sigma, width in ((2.0, 11), (3.0, 17)):
        blurred = peaks.smoothed(spot, sigma)[0, 0]
        assert int((blurred[15] > 0).sum()) == width and blurred.sum().item() == pytest.approx(1, abs=1e-5)
        assert (blurred[15, 16] / blurred[15, 15]).item() == pytest.approx(math.exp(-1 / (2 * sigma**2)), rel=1e-5)


def test_maps_that_are_too_small_for_derivatives() -> None:
    for size in ((1, 1), (2, 7), (4, 4)):
        sheets = torch.randn(2, 3, *size)
        assert (peaks.log_taylor(sheets) - peaks.centre(sheets)).abs().max() <= 1


class Decoded(nn.Module):
    """Every codec, and every way to find a peak but `log_fit` (`test_export.py`), in one graph."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.maps = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.head = AxisHead(nn.Conv2d(3, 3, 3, stride=2, padding=1), (16, 24))
        self.codecs: dict[str, PointsCodec] = {
            **{
                decoding: GaussianHeatmapsCodec(3, sigma=4, stride=2, loss="l2", decoding=decoding)
                for decoding in ("log_taylor", "dark", "local_mean", "quarter", "argmax")
            },
            "one_hot": OneHotCodec(3, stride=2),
            "channels": ChannelSoftmaxCodec(3, sigma=4, stride=2, decoding="log_taylor"),
            "soft_argmax": SoftArgmaxCodec(3, sigma=4, stride=2),
            "simcc": SimCCCodec(3, bins=(16, 24), sigma=4),
        }
        self.names = [f"{name} {key}" for name in self.codecs for key in ("points", "confidence")]

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Return the answers of all."""
        size, image = (pixels.shape[-2], pixels.shape[-1]), pixels.float() / 32
        maps, bins = self.maps(image), self.head(image)
        found = (codec.answers(bins if codec.scale == 0 else maps[:, : codec.channels], size) for codec in self.codecs.values())
        return tuple(value for answers in found for value in answers.values())


def test_every_codec_can_be_followed_at_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.onnx, "export", partial(torch.onnx.export, optimize=False))  # onnxruntime does so itself
    graph = Decoded().eval()
    made, _ = export._onnx(graph, "image", graph.names, torch.zeros(1, 3, 32, 32, dtype=torch.uint8), 18)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    run = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    generator = np.random.default_rng(0)
    for shape in ((1, 3, 64, 64), (2, 3, 46, 70), (3, 3, 24, 130)):
        pixels = generator.integers(0, 256, shape, dtype=np.uint8)
        with torch.inference_mode():
            expected = graph(torch.from_numpy(pixels))
        for name, ours, theirs in zip(graph.names, expected, run.run(None, {"image": pixels}), strict=True):
            np.testing.assert_allclose(theirs, ours, atol=2e-3, err_msg=f"{name} {shape}")


def test_under_l2_the_foreground_counts_more_and_the_background_sheet_does_not() -> None:
    """By hand at one pixel of height 0.5: an error of 0.4 counts 1 + 9 / 2 times; on the background sheet once."""
    codec = GaussianHeatmapsCodec(1, sigma=2, loss="l2", background=True, foreground=10)
    heatmaps = torch.tensor([0.5, 0.5])[None, :, None, None]
    targets = {"heatmaps": heatmaps, "known": torch.ones(1, 2, dtype=torch.bool)}
    assert codec.loss(heatmaps + 0.4, targets).item() == pytest.approx((5.5 + 1) / 2 * 0.16 / (math.pi * 4), rel=1e-6)


def test_a_place_is_as_sure_as_its_less_sure_axis() -> None:
    """Logits of 0 over 64 columns: 1/64 each, and a perfect answer has 1 / (sqrt(2 pi) 4 columns) at its peak."""
    codec = SimCCCodec(1, bins=SIZE, sigma=4)
    place = torch.tensor([[[[32.5, 24.5]]]])
    axes = codec.encode(place, visible(place), SIZE)
    flat = math.sqrt(2 * math.pi) * 4
    for across, down, sure in (
        (axes["across"].log(), torch.zeros(1, 1, 48), flat / 48),
        (torch.zeros(1, 1, 64), axes["down"].log(), flat / 64),
    ):
        outputs = torch.cat([across, down], -1).view(1, -1, 1, 1)
        assert codec.decode(outputs, SIZE).confidence.item() == pytest.approx(sure, rel=1e-5)
