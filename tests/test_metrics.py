import json
import math

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve
from scipy.signal import convolve2d
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from pixelwise.geometry.presence import Presence
from pixelwise.metrics.image import ImageMetrics, luma, ms_ssim, psnr, similarities, ssim
from pixelwise.metrics.keypoints import KeypointMetrics, between, box_side, cumulative_error
from pixelwise.metrics.segmentation import SegmentationMetrics, intersection_over_union

UNKNOWN, ABSENT, HIDDEN, VISIBLE = Presence
NAN = torch.nan

# Segmentation


def segmentation(predicted, labels, classes="abc"):
    metrics = SegmentationMetrics(classes)
    metrics.update(torch.tensor([predicted]), torch.tensor([labels]))
    return metrics


def test_class_absent_from_both_has_no_part():
    """7 of 8 pixels right: IoU 4/5 and 3/4; SMP would say 0.85, torchvision NaN."""
    found = segmentation([0, 0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 1, 1, 1, 1]).compute()
    expected = {
        "pixel_accuracy": 7 / 8,
        "mean_accuracy_present": (1 + 3 / 4) / 2,
        "miou_present": 0.775,
        "frequency_weighted_iou": 0.775,
        "iou/a": 4 / 5,
        "iou/b": 3 / 4,
        "accuracy/a": 1,
        "accuracy/b": 3 / 4,
    }
    assert {name: value for name, value in found.items() if "boundary" not in name} == pytest.approx(expected)


def test_class_absent_from_the_truth_but_predicted_counts_as_zero():
    """One pixel of class 1 is called 2: IoU 1, 3/4 and 0; detectron2 would say 0.875."""
    found = segmentation([0, 0, 0, 0, 2, 1, 1, 1], [0, 0, 0, 0, 1, 1, 1, 1]).compute()
    assert found["miou_present"] == pytest.approx(1.75 / 3) == pytest.approx(0.583, abs=5e-4)
    assert found["mean_accuracy_present"] == pytest.approx(0.875)
    assert found["iou/c"] == 0 and found["frequency_weighted_iou"] == pytest.approx(0.875)


def test_unknown_pixels_are_in_no_union():
    found = segmentation([0, 1, 2, 2], [0, 1, 255, 255]).compute()
    assert found["miou_present"] == 1 and "iou/c" not in found


def test_nothing_known_has_no_metrics():
    metrics = segmentation([0, 1], [255, 255])
    assert metrics.compute() == {} and metrics.records[0].isnan()
    assert SegmentationMetrics("ab").compute() == {}


def test_counts_are_accumulated_over_images_and_recorded_for_each():
    generator = torch.Generator().manual_seed(0)
    predicted = torch.randint(4, (5, 6, 7), generator=generator, dtype=torch.uint8)
    labels = torch.randint(4, (5, 6, 7), generator=generator, dtype=torch.uint8)
    labels[labels == 3] = 255
    together, singly = SegmentationMetrics("abcd"), SegmentationMetrics("abcd")
    together.update(predicted, labels)
    for image, truth in zip(predicted, labels, strict=True):
        singly.update(image, truth)
    assert together.compute() == singly.compute()
    assert torch.stack(together.records).tolist() == torch.stack(singly.records).tolist()
    known = labels[2] != 255
    assert together.records[2].item() == pytest.approx((predicted[2] == labels[2])[known].float().mean().item())
    table = torch.zeros(4, 4, dtype=torch.int64)
    for i, j in zip(labels.flatten().tolist(), predicted.flatten().tolist(), strict=True):
        if i != 255:
            table[i, j] += 1
    assert torch.equal(together.matrix, table)


def test_counts_beyond_float32_are_exact():
    """In float32, 2^24 + 1 = 2^24."""
    metrics = SegmentationMetrics("ab")
    metrics.matrix[0, 0] = 2**24
    metrics.update(torch.tensor([[0, 1]]), torch.tensor([[0, 0]]))
    assert metrics.matrix.tolist() == [[2**24 + 1, 1], [0, 0]]
    assert intersection_over_union(metrics.matrix).tolist() == [(2**24 + 1) / (2**24 + 2), 0]


# Key points


def test_pck_of_mmposes_example():
    """Errors 0, 14.1, masked, 0, 0 and 0, 0, masked, 0, 0 with norm 10: 7 of 8 within 0.5."""
    points = torch.tensor([[[10.0, 0], [20, 20], [0, 0], [30, 30], [0, 10]], [[0.0, 0]] * 5])
    truth = torch.tensor([[[10.0, 0], [10, 10], [-1, 0], [30, 30], [0, 10]], [[0.0, 0]] * 5])
    presence = torch.tensor([[VISIBLE, HIDDEN, UNKNOWN, VISIBLE, VISIBLE]] * 2, dtype=torch.uint8)
    metrics = KeypointMetrics({"ten": lambda truth: torch.full((len(truth),), 10.0)}, threshold=0.5)
    metrics.update(points, truth, presence)
    found = metrics.compute()
    assert found["pck@0.5_ten"] == 0.875
    assert found["nme_ten"] == pytest.approx(math.sqrt(2) / 4 / 2)
    assert found["failure@0.5_ten"] == 0
    assert found["auc@0.5_ten"] == pytest.approx(((1 - math.sqrt(2) / 4 / 0.5) + 1) / 2)
    assert found["median_error_px"] == 0


def test_errors_of_mmposes_example():
    """Errors 4, 8, masked, 14.14, 20; the second object has norm 0, so only its pixels count."""
    points = torch.tensor([[[10.0, 4], [10, 18], [0, 0], [40, 40], [20, 10]]])
    truth = torch.tensor([[[10.0, 0], [10, 10], [-1, 0], [30, 30], [0, 10]]])
    presence = torch.tensor([[VISIBLE, VISIBLE, ABSENT, VISIBLE, VISIBLE]], dtype=torch.uint8)
    metrics = KeypointMetrics({"one": lambda truth: truth[:, 0, 0] * 0 + 1})
    metrics.update(points, truth, presence)
    found = metrics.compute()
    assert found["mean_error_px"] == pytest.approx(11.5355339) == pytest.approx(found["nme_one"])
    assert found["median_error_px"] == pytest.approx((8 + math.sqrt(200)) / 2)
    assert found["pck@0.1_one"] == 0 and found["failure@0.1_one"] == 1 and found["auc@0.1_one"] == 0
    relative = metrics.distances[0] / 20
    assert cumulative_error(relative, torch.arange(4) / 4).mean().item() == 0.375


def test_instances_without_a_norm_or_a_label_have_no_part_in_relative_metrics():
    truth = torch.tensor([[[0.0, 0], [10, 4]], [[5.0, 5], [5, 5]], [[0.0, 0], [8, 20]], [[NAN, NAN], [1, 1]]])
    presence = torch.full((4, 2), VISIBLE, dtype=torch.uint8)
    presence[2] = UNKNOWN
    presence[3, 0] = ABSENT
    metrics = KeypointMetrics()
    metrics.update(truth + torch.tensor([0.0, 1.0]), truth, presence)
    found = metrics.compute()
    assert found["nme_bbox"] == pytest.approx(0.1) and found["mean_error_px"] == 1
    assert found["pck@0.1_bbox"] == 1, "a distance of exactly the threshold is correct"
    distances = torch.stack(metrics.distances)
    assert distances.isnan().tolist() == [[False, False], [False, False], [True, True], [True, False]]


def test_a_missing_prediction_is_an_error_and_infinite_means_are_left_out():
    truth = torch.tensor([[[0.0, 0], [10, 0], [0, 10]]])
    points = torch.tensor([[[0.0, 0], [10, 0], [NAN, NAN]]])
    metrics = KeypointMetrics()
    metrics.update(points, truth, torch.full((1, 3), VISIBLE, dtype=torch.uint8))
    found = metrics.compute()
    expected = {"median_error_px": 0, "pck@0.1_bbox": 2 / 3, "auc@0.1_bbox": 0, "failure@0.1_bbox": 1}
    assert found == pytest.approx(expected)


def test_no_points_have_no_metrics():
    assert KeypointMetrics().compute() == {}
    metrics = KeypointMetrics()
    metrics.update(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), torch.zeros(1, 2, dtype=torch.uint8))
    assert metrics.compute() == {}


def test_lengths():
    points = torch.tensor([[[1.0, 2], [4, 6], [2, 9]], [[NAN, NAN], [4, 6], [5, 5]], [[NAN, NAN]] * 3])
    assert between(0, 1)(points)[0].item() == 5 and between(0, 1)(points)[1].isnan()
    assert box_side(points)[:2].tolist() == [7, 1]
    assert not box_side(points)[2] > 0


# Images


def images(channels, size=(33, 41)):
    generator = np.random.default_rng(0)
    original = np.cumsum(np.cumsum(generator.normal(size=(channels, *size)), 1), 2)
    original = (original - original.min()) / np.ptp(original)
    return np.clip(original + generator.normal(scale=0.05, size=original.shape), 0, 1), original


def skimage_ssim(image, original):
    return structural_similarity(
        image, original, channel_axis=0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_ssim_and_psnr_agree_with_skimage(dtype, tolerance):
    image, original = images(3)
    ours, theirs = torch.tensor(image, dtype=dtype)[None], torch.tensor(original, dtype=dtype)[None]
    assert ssim(ours, theirs).item() == pytest.approx(skimage_ssim(image, original), abs=tolerance)
    assert psnr(ours, theirs).item() == pytest.approx(peak_signal_noise_ratio(original, image, data_range=1), rel=tolerance)


def matlabs_ms_ssim(image, original):
    """The authors' code, of one channel in [0, 255], with what MATLAB calls imfilter(symmetric) and convolve2d(valid)."""
    position = np.arange(11) - 5
    window = np.exp(-(position[:, None] ** 2 + position**2) / (2 * 1.5**2))
    window, product = window / window.sum(), 1.0

    def blurred(values):
        return convolve2d(values, window, mode="valid")

    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        x, y, c1, c2 = blurred(image), blurred(original), (0.01 * 255) ** 2, (0.03 * 255) ** 2
        xx, yy, xy = blurred(image**2) - x**2, blurred(original**2) - y**2, blurred(image * original) - x * y
        contrast = (2 * xy + c2) / (xx + yy + c2)
        luminance = (2 * x * y + c1) / (x**2 + y**2 + c1)
        product *= np.mean(contrast * luminance if scale == 4 else contrast) ** weight
        image, original = (convolve(i, np.full((2, 2), 0.25), mode="reflect")[::2, ::2] for i in (image, original))
    return product


@pytest.mark.parametrize("size", [(176, 192), (177, 195)])
def test_ms_ssim_agrees_with_its_authors(size):
    image, original = images(3, size)
    ours = ms_ssim(torch.tensor(image)[None], torch.tensor(original)[None])
    theirs = [matlabs_ms_ssim(255 * a, 255 * b) for a, b in zip(image, original, strict=True)]
    assert ours.item() == pytest.approx(np.mean(theirs), abs=1e-12)


def test_ms_ssim_agrees_with_other_libraries():
    """piq 0.8.0 (`multi_scale_ssim`) and pytorch-msssim 1.0.0 (`ms_ssim`, whose window is of float32) on these pictures."""
    image, original = (torch.tensor(i)[None] for i in images(3, (176, 192)))
    found = ms_ssim(image, original).item()
    piq, pytorch_msssim = 0.8840024884778072, 0.8840041181145281
    assert found == pytest.approx(piq, abs=1e-12) and found == pytest.approx(pytorch_msssim, abs=5e-6)


def test_ms_ssim_of_small_opposite_and_equal_images():
    flat = torch.rand(1, 1, 176, 176, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert ms_ssim(flat, flat).item() == pytest.approx(1, abs=1e-12)
    assert ms_ssim(flat, 1 - flat).item() == 0
    assert ms_ssim(flat[..., :175], flat[..., :175]).isnan().all()
    metrics = ImageMetrics()
    metrics.update(torch.zeros(3, 175, 200), torch.zeros(3, 175, 200))
    assert not any(name.startswith("ms_ssim") for name in metrics.compute())


def test_psnr_by_hand():
    original = torch.zeros(2, 3, 4, 4)
    image = torch.stack([torch.full((3, 4, 4), 0.1), torch.zeros(3, 4, 4)])
    assert psnr(image, original).tolist() == pytest.approx([20, math.inf], rel=1e-6)


def test_luma_is_bt601_in_studio_range():
    colours = torch.tensor([[0.0, 0, 0], [1, 1, 1], [1, 0, 0]]).T[None, :, None]
    assert (luma(colours).flatten() * 255).tolist() == pytest.approx([16, 235, 81.481], rel=1e-6)


def test_image_metrics_are_means_of_per_image_values():
    """Differences of 51 and 5.1 levels would pool to 16.95 dB; the mean of 13.98 and 33.98 dB is 23.98."""
    original = torch.zeros(2, 3, 16, 16)
    metrics = ImageMetrics()
    metrics.update(torch.full((1, 3, 16, 16), 0.2), original[:1])
    metrics.update(torch.full((3, 16, 16), 0.02), original[0])
    found = metrics.compute()
    assert found["l1"] == pytest.approx(0.11) and found["psnr_rgb"] == pytest.approx(-20 * math.log10(0.2) + 10)
    assert found["psnr_y"] == pytest.approx(found["psnr_rgb"] + 20 * math.log10(255 / 219), abs=1e-4)
    assert [r["l1"] for r in metrics.records] == pytest.approx([0.2, 0.02])
    constant = 1e-4 / (0.2**2 + 1e-4), 1e-4 / (0.02**2 + 1e-4)
    assert found["ssim_rgb"] == pytest.approx(sum(constant) / 2, abs=1e-6)


def test_image_metrics_of_bytes_agree_with_skimage():
    image, original = ((i * 255).round().astype(np.uint8) for i in images(3))
    metrics = ImageMetrics()
    metrics.update(torch.tensor(image), torch.tensor(original))
    found = metrics.compute()
    assert found["ssim_rgb"] == pytest.approx(skimage_ssim(image / 255, original / 255), abs=1e-10)
    assert found["psnr_rgb"] == pytest.approx(peak_signal_noise_ratio(original, image), rel=1e-10)


@pytest.mark.parametrize("band", [1, 200 * 4, 200 * 37])
@pytest.mark.parametrize(("channels", "dtype"), [(1, np.uint8), (3, np.uint8), (3, np.uint16), (3, np.float32)])
def test_large_images_are_measured_in_bands_with_the_same_digits(channels, dtype, band, monkeypatch):
    """Bands of one row, of an even number and of an odd one; the height is odd at two of the scales."""
    highest = 1 if dtype == np.float32 else np.iinfo(dtype).max
    pair = [torch.from_numpy((i * highest).astype(dtype)) for i in images(channels, (187, 200))]
    whole, parts = ImageMetrics(), ImageMetrics()
    whole.update(*pair)
    monkeypatch.setattr("pixelwise.metrics.image.BAND", band)
    parts.update(*pair)
    assert len(whole.compute()) == (4 if channels == 1 else 7)
    assert parts.compute() == pytest.approx(whole.compute(), rel=1e-13)


def test_no_more_than_a_band_of_a_large_image_is_float64(monkeypatch):
    seen = []
    monkeypatch.setattr("pixelwise.metrics.image.similarities", lambda a, b: seen.append(a.shape) or similarities(a, b))
    monkeypatch.setattr("pixelwise.metrics.image.BAND", 200 * 30)
    ImageMetrics().update(*torch.zeros(2, 3, 400, 200, dtype=torch.uint8))
    assert max(height * width for *_, height, width in seen) == 200 * 40


def test_grey_equal_and_small_images():
    metrics = ImageMetrics()
    metrics.update(torch.zeros(1, 10, 40), torch.zeros(1, 10, 40))
    assert metrics.compute() == {"l1": 0, "psnr_grey": 100}
    json.dumps(metrics.compute(), allow_nan=False)
    assert ImageMetrics().compute() == {}
