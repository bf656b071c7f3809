"""Augmentation: one homography and one change of colour per sample, a pure function of its generator."""

import math

import numpy as np
import PIL.Image
import pytest
import torch
from pydantic import ValidationError
from torch import tensor

from pixelwise.data.augment import Augment, Draw, Photometric, View
from pixelwise.data.sample import Image, Keypoints, LabelMap, Sample
from pixelwise.geometry.frame import Frame
from pixelwise.geometry.homography import Size, letterbox, resize, transform_points
from pixelwise.seeds import generator, torch_generator

LOAD = View(size=(256, 256), load_size=(286, 286))


def picture(size: Size) -> torch.Tensor:
    return torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=torch_generator(0, "picture"))


def sample_of(size: Size) -> Sample:
    pixels, frame = picture(size), Frame.of(size)
    points = tensor([[[size[1] / 2, size[0] / 2]]])
    return Sample(
        "a",
        {
            "image": Image(pixels, frame),
            "target": Image(pixels.clone(), frame),
            "labels": LabelMap(pixels[0], frame),
            "keypoints": Keypoints(points, torch.full((1, 1), 3, dtype=torch.uint8), frame),
        },
    )


def draws(augment: Augment, size: Size, view: View, count: int = 200) -> list[Draw]:
    return [augment.draw(generator(0, "augment", n), size, view) for n in range(count)]


def test_evaluation_sees_the_picture_stretched_letterboxed_or_as_it_is() -> None:
    for fit, expected in (("stretch", resize), ("letterbox", letterbox)):
        matrix, size = View(size=(64, 96), fit=fit).frame_matrix((100, 200))  # type: ignore[arg-type]
        assert np.array_equal(matrix, expected((100, 200), (64, 96))) and size == (64, 96)
    matrix, size = View(size=(64, 96), fit="native").frame_matrix((100, 200))
    assert np.array_equal(matrix, np.eye(3)) and size == (100, 200)


def test_without_augmentation_training_sees_what_evaluation_sees() -> None:
    for fit in ("stretch", "letterbox"):
        view = View(size=(64, 96), fit=fit)  # type: ignore[arg-type]
        drawn = Augment().draw(generator(0), (100, 200), view)
        assert np.array_equal(drawn.matrix, view.frame_matrix((100, 200))[0]) and drawn.photometric is None
        fitted = view.fitted(sample_of((100, 200)))
        assert torch.equal(fitted["image"].tensors()[""], drawn.apply(sample_of((100, 200)), ["image"])["image"].tensors()[""])


def test_the_base_with_a_load_size_is_pillow_s_bicubic_resize() -> None:
    base = LOAD.base(sample_of((100, 200)))
    pillow = PIL.Image.fromarray(picture((100, 200)).permute(1, 2, 0).numpy()).resize((286, 286), PIL.Image.Resampling.BICUBIC)
    assert torch.equal(base["image"].tensors()[""], tensor(np.asarray(pillow)).permute(2, 0, 1))
    assert base["labels"].tensors()[""].shape == (286, 286) and base["keypoints"].frame.size == (286, 286)
    assert base["keypoints"].tensors()[""].tolist() == [[[143.0, 143.0]]]
    evaluated = LOAD.fitted(sample_of((100, 200)))["image"]
    pillow = PIL.Image.fromarray(picture((100, 200)).permute(1, 2, 0).numpy()).resize((256, 256), PIL.Image.Resampling.BICUBIC)
    assert torch.equal(evaluated.tensors()[""], tensor(np.asarray(pillow)).permute(2, 0, 1))
    untouched = sample_of((100, 200))
    assert View(size=(64, 64)).base(untouched) is untouched


def test_crops_of_the_base_are_whole_pixels_and_reach_every_place() -> None:
    sample = sample_of((286, 286))
    pixels = sample["image"].tensors()[""]
    drawn = draws(Augment(flip=0.5), (286, 286), LOAD, 3000)
    lefts, tops, mirrored = set(), set(), 0
    for n, draw in enumerate(drawn):
        x, y = transform_points(np.linalg.inv(draw.matrix), tensor([128.0, 128.0])) - 128  # the crop's corner
        lefts.add(float(x))
        tops.add(float(y))
        mirrored += bool(draw.matrix[0, 0] < 0)
        if n < 20:
            crop = pixels[:, int(y) : int(y) + 256, int(x) : int(x) + 256]
            seen = draw.apply(sample, ["image"])["image"].tensors()[""]
            assert torch.equal(seen, crop.flip(-1) if draw.matrix[0, 0] < 0 else crop)
    assert lefts == tops == set(range(31))
    assert abs(mirrored / 3000 - 0.5) < 4 * math.sqrt(0.25 / 3000)


def test_native_pictures_are_cropped_or_padded_with_the_unknown() -> None:
    view = View(size=(64, 64), fit="native")
    sample = sample_of((100, 40))
    pixels = sample["image"].tensors()[""]
    lefts = set()
    for draw in draws(Augment(), (100, 40), view):
        left, top = (int(v) for v in draw.matrix[:2, 2])
        lefts.add(left)
        seen = draw.apply(sample, ["image"])
        expected = torch.zeros(3, 64, 64, dtype=torch.uint8)
        expected[:, :, left : left + 40] = pixels[:, -top : 64 - top]
        assert torch.equal(seen["image"].tensors()[""], expected)
        labels = seen["labels"].tensors()[""]
        assert (labels[:, :left] == 255).all() and (labels[:, left + 40 :] == 255).all()
        assert torch.equal(labels[:, left : left + 40], pixels[0, -top : 64 - top])
    assert lefts == set(range(25))


def test_draws_stay_within_their_limits_and_use_them() -> None:
    augment = Augment(rotate=30, scale=(0.5, 2), translate=0.25)
    view = View(size=(80, 160))
    angles, zooms, shifts = [], [], []
    for draw in draws(augment, (80, 160), view, 1000):
        a, c = draw.matrix[0, 0], draw.matrix[1, 0]
        angles.append(math.degrees(math.atan2(c, a)))
        zooms.append(math.hypot(a, c))
        shifts.append((transform_points(draw.matrix, tensor([80.0, 40.0])) - tensor([80.0, 40.0])).tolist())
    assert -30 <= min(angles) < -29 and 29 < max(angles) <= 30
    assert 0.5 <= min(zooms) < 0.51 and 1.96 < max(zooms) <= 2
    assert abs(np.mean(np.log(zooms))) < 0.06  # log-uniform: as much smaller as larger
    x, y = np.array(shifts).T
    assert x.min() == pytest.approx(-40, abs=1e-4) and y.max() == pytest.approx(20, abs=1e-4)
    assert np.abs(x - x.round()).max() < 1e-4  # the centre moves by whole pixels only


def test_a_draw_is_a_function_of_its_generator_and_settings_do_not_disturb_each_other() -> None:
    augment = Augment(flip=0.5, rotate=10, scale=(0.8, 1.2), translate=0.1, brightness=0.2, hue=0.1)
    first, again = (augment.draw(generator(0, "augment", 5), (286, 286), LOAD) for _ in range(2))
    assert np.array_equal(first.matrix, again.matrix) and first.photometric == again.photometric
    other = augment.draw(generator(0, "augment", 6), (286, 286), LOAD)
    assert not np.array_equal(first.matrix, other.matrix) and first.photometric != other.photometric
    plain = Augment(flip=0.5, hue=0.1).draw(generator(0, "augment", 5), (286, 286), LOAD)
    assert first.photometric and plain.photometric and plain.photometric.hue == first.photometric.hue
    assert plain.photometric.brightness == 1
    rng = generator(0, "augment", 5)
    augment.draw(rng, (286, 286), LOAD)
    assert rng.random() == generator(0, "augment", 5).random(13)[12]


def test_points_follow_the_pixels_through_one_warp() -> None:
    # a white spot on its keypoint, away from the centre, through fit, zoom, rotation, shift and mirror at once
    y, x = torch.meshgrid(*(torch.arange(n) + 0.5 for n in (200, 300)), indexing="ij")
    spot = torch.exp(-((x - 170) ** 2 + (y - 90) ** 2) / (2 * 10.0**2))
    frame = Frame.of((200, 300))
    points = Keypoints(tensor([[[170.0, 90.0]]]), torch.full((1, 1), 3, dtype=torch.uint8), frame)
    sample = Sample("a", {"image": Image(spot[None], frame), "keypoints": points})
    augment = Augment(flip=0.5, rotate=30, scale=(0.8, 1.2), translate=0.05)
    for draw in draws(augment, (200, 300), View(size=(128, 128), fit="letterbox"), 20):
        seen = draw.apply(sample, [])
        image = seen["image"].tensors()[""][0].double()
        rows, columns = (torch.arange(128) + 0.5).double(), (torch.arange(128) + 0.5).double()
        centroid = tensor([(image.sum(0) * columns).sum(), (image.sum(1) * rows).sum()]) / image.sum()
        assert (centroid - seen["keypoints"].tensors()[""][0, 0]).abs().max() < 1e-3


RED, GREY = [200.0, 100.0, 50.0], [100.0, 100.0, 100.0]
LUMA_OF_RED = 0.299 * 200 + 0.587 * 100 + 0.114 * 50  # 124.2


def coloured(*colours: list[float]) -> torch.Tensor:
    return tensor(colours).T[:, None].byte()


def test_brightness_scales_and_clips() -> None:
    assert Photometric(brightness=1.5)(coloured(RED, GREY))[:, 0].T.tolist() == [[255, 150, 75], [150, 150, 150]]


def test_contrast_scales_about_the_mean_luma() -> None:
    mean = (LUMA_OF_RED + 100) / 2  # 112.1; half contrast: (value + mean) / 2
    out = Photometric(contrast=0.5)(coloured(RED, GREY))[:, 0].T
    assert out.tolist() == [[round((v + mean) / 2) for v in colour] for colour in (RED, GREY)]
    brighter = Photometric(brightness=0.5, contrast=0.5)(coloured(RED, GREY))[:, 0].T
    assert brighter.tolist() == [[round((v + mean) / 4) for v in colour] for colour in (RED, GREY)]


def test_saturation_scales_about_each_pixel_s_luma_and_leaves_grey() -> None:
    out = Photometric(saturation=0.0)(coloured(RED, GREY))[:, 0].T
    assert out.tolist() == [[124, 124, 124], [100, 100, 100]]
    half = Photometric(saturation=0.5)(coloured(RED, GREY))[:, 0].T
    assert half.tolist() == [[162, 112, 87], [100, 100, 100]]  # (200 + 124.2) / 2, (100 + 124.2) / 2, (50 + 124.2) / 2


def test_a_third_of_the_hue_circle_turns_red_into_green_into_blue() -> None:
    out = Photometric(hue=1 / 3)(coloured(RED, GREY))[:, 0].T
    assert out.tolist() == [[50, 200, 100], [100, 100, 100]]
    assert Photometric(hue=-1 / 3)(coloured(RED))[:, 0].T.tolist() == [[100, 50, 200]]


def test_no_change_is_exact_and_floats_are_in_0_to_1() -> None:
    image = picture((8, 8))
    assert torch.equal(Photometric()(image), image)
    bright = Photometric(brightness=2.0)(tensor([[[0.25, 0.75]]]))
    assert bright.tolist() == [[[0.5, 1.0]]]


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_pictures_without_three_channels_have_no_hue(channels: int) -> None:
    grey = torch.full((channels, 1, 2), 100, dtype=torch.uint8)
    assert torch.equal(Photometric(saturation=0.3, hue=0.4)(grey), grey)
    grey[:, :, 1] = 60  # mean 80: contrast 0.5 gives 90 and 70
    assert Photometric(contrast=0.5)(grey)[0, 0].tolist() == [90, 70]


def test_only_the_inputs_are_recoloured() -> None:
    sample = sample_of((64, 64))
    drawn = Augment(brightness=0.5).draw(generator(0), (64, 64), View(size=(64, 64)))
    seen = drawn.apply(sample, ["image", "labels", "missing"])
    assert not torch.equal(seen["image"].tensors()[""], sample["image"].tensors()[""])
    assert torch.equal(seen["target"].tensors()[""], sample["target"].tensors()[""])
    assert torch.equal(seen["labels"].tensors()[""], sample["labels"].tensors()[""])


@pytest.mark.parametrize(
    ("config", "wrong"),
    [
        (Augment, {"flip": 1.5}),
        (Augment, {"hue": 0.6}),
        (Augment, {"scale": (1.2, 0.8)}),
        (Augment, {"scale": (0, 1)}),
        (Augment, {"rotation": 5}),
        (View, {"size": (0, 5)}),
        (View, {"size": (8, 8), "load_size": (9, 9), "fit": "native"}),
    ],
)
def test_wrong_settings_are_refused(config: type[Augment] | type[View], wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        config.model_validate(wrong)
