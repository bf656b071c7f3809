"""Identities from frame to frame, and points that do not tremble."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pixelwise.geometry.skeleton import Skeleton
from pixelwise.predictions.keypoints import KeypointsPrediction
from pixelwise.smoothing import GaussianSmoother, OneEuro, OneEuroSmoother, gaussian_smoothed
from pixelwise.tracking import Tracker

NAN = math.nan
BODY = torch.tensor([[0.0, 0], [-15, 20], [15, 20], [0, 60]])
NAMES = ("head", "left_hand", "right_hand", "foot")


def found(points: Tensor, sigmas: tuple[float, ...] = ()) -> KeypointsPrediction:
    image = torch.zeros(3, 240, 640, dtype=torch.uint8)
    return KeypointsPrediction(image, points, torch.ones(points.shape[:2]), Skeleton(names=NAMES, sigmas=sigmas))


def people(*places: tuple[float, float]) -> Tensor:
    return BODY + torch.tensor(places).view(-1, 1, 2)


def identities(tracker: Tracker, points: Tensor, number: int, **options: tuple[float, ...]) -> list[int]:
    told = tracker(found(points, **options), number).identities
    assert told is not None and told.dtype == torch.int64
    return told.tolist()


# Tracking


@pytest.mark.parametrize("sigmas", [(), (0.026, 0.062, 0.062, 0.089)])
def test_two_who_cross_at_an_even_pace_keep_their_identities(sigmas: tuple[float, ...]) -> None:
    """They meet in one place in frame 20; the order in which they are found changes from frame to frame."""
    tracker = Tracker()
    for number in range(41):
        points = people((100 + 10 * number, 100), (500 - 10 * number, 100))
        order = [0, 1] if number % 3 else [1, 0]
        told = identities(tracker, points[order], number, sigmas=sigmas)
        if number != 20:  # where both are the same
            assert [told[order.index(0)], told[order.index(1)]] == [1, 0]
    assert [(track.first, track.last, track.frames) for track in tracker.tracks] == [(0, 40, 41)] * 2


def test_the_assignment_is_the_best_of_all_not_the_nearest_first() -> None:
    """Of the two at 100 and 78 the first is nearer to 91 (by 9 against 13), but then nobody would be left for 114."""
    tracker = Tracker()
    assert identities(tracker, people((100, 100), (78, 100)), 0) == [0, 1]
    assert identities(tracker, people((91, 100), (114, 100)), 1) == [1, 0]


def test_who_comes_back_in_time_is_known_and_who_does_not_is_new() -> None:
    tracker = Tracker(memory=3)
    here, nobody = people((100, 100)), torch.zeros(0, 4, 2)
    assert identities(tracker, here, 0) == [0] and identities(tracker, nobody, 1) == []
    assert identities(tracker, here, 3) == [0] and identities(tracker, here, 7) == [1]
    assert [(track.identity, track.first, track.last, track.frames) for track in tracker.tracks] == [(0, 0, 3, 2), (1, 7, 7, 1)]


def test_who_is_not_seen_moves_on_at_the_mean_of_the_old_and_the_new_pace() -> None:
    """Steps of 10 and 20 pixels: 15 per frame, so that three frames after 130 somebody is expected at 175."""
    tracker = Tracker()
    for number, x in enumerate((100, 110, 130)):
        tracker(found(people((x, 100))), number)
    (track,) = tracker.tracks
    assert track.velocity.tolist() == [15, 0]
    torch.testing.assert_close(track.expected(5), people((175, 100))[0].double())


def test_somebody_else_far_away_is_new() -> None:
    tracker = Tracker()
    assert identities(tracker, people((100, 100)), 0) == [0]
    assert identities(tracker, people((400, 100), (102, 100)), 1) == [1, 0]


def test_points_that_are_missing_are_not_held_against_anybody() -> None:
    tracker, points = Tracker(), people((100, 100), (300, 100))
    assert identities(tracker, points, 0) == [0, 1]
    points = points.flip(0).clone()
    points[0, 1:], points[1, 0] = NAN, NAN
    assert identities(tracker, points, 1) == [1, 0]
    assert identities(tracker, people((300, 100), (100, 100)), 2) == [1, 0]


def test_an_instance_without_points_is_nobody() -> None:
    tracker = Tracker()
    points = torch.cat([torch.full((1, 4, 2), NAN), people((100, 100))])
    assert identities(tracker, points, 0) == [-1, 0] and len(tracker.tracks) == 1
    assert identities(tracker, points, 1) == [-1, 0]


def test_a_single_point_can_be_followed() -> None:
    tracker = Tracker()
    for number in range(5):
        points = torch.tensor([[[100.0 + 3 * number, 50]], [[400.0 - 3 * number, 50]]])
        image = torch.zeros(3, 240, 640, dtype=torch.uint8)
        one = KeypointsPrediction(image, points, torch.ones(2, 1), Skeleton(names=("nose",)))
        told = tracker(one, number).identities
        assert told is not None and told.tolist() == [0, 1]


def test_every_identity_has_a_colour_and_a_number_and_json_names_it() -> None:
    plain = found(people((100, 100), (400, 100)))
    named = Tracker()(plain, 0)
    assert named.to_json()["identities"] == [0, 1] and "identities" not in plain.to_json()
    assert named.render().getpixel((100, 100)) == plain.render().getpixel((100, 100)) == (255, 40, 60)
    above = (80, 60, 120, 94)
    assert named.render().crop(above).getbbox() and not plain.render().crop(above).getbbox()


# One-euro filter

SERIES = list(
    zip((1.0, 1.03, 1.07, 1.1, 1.2, 1.21, 1.25, 1.5, 1.53), (10.0, 12.0, 11.5, 30.0, 31.0, 29.5, 30.2, 12.0, 12.4), strict=True)
)
RECORDED = [
    10.0,
    10.481773252832117,
    10.802439173513605,
    21.283051525079212,
    29.031057695358793,
    29.161259422371828,
    29.76165645976642,
    17.24336757060467,
    15.632272581580715,
]
"""What the authors' OneEuroFilter 0.2.1 says of SERIES with cutoffs of 1.2 Hz, of the speed 0.9 Hz, and beta 0.05."""


def test_the_filter_equals_that_of_its_authors() -> None:
    one = OneEuro(1.2, 0.05, 0.9)
    told = [one(torch.tensor([x], dtype=torch.float64), time).item() for time, x in SERIES]
    assert told == pytest.approx(RECORDED, abs=1e-9)


def test_the_filter_worked_by_hand() -> None:
    """After 0.1 s at 1 Hz a = 1 / (1 + 1 / (0.2 pi)); with beta 0 the speed does not matter."""
    a = 1 / (1 + 1 / (0.2 * math.pi))
    one = OneEuro(1.0, 0.0)
    assert one(torch.tensor([0.0]), 0.0).tolist() == [0]
    assert one(torch.tensor([1.0]), 0.1).item() == pytest.approx(a)
    assert one(torch.tensor([1.0]), 0.2).item() == pytest.approx(a + (1 - a) * a)


def test_every_number_is_filtered_for_itself_and_a_gap_stays_a_gap() -> None:
    both, alone = OneEuro(), OneEuro()
    series = torch.tensor([[1.0, 5], [2, 7], [3, NAN], [4, NAN], [5, 9]], dtype=torch.float64)
    told = torch.stack([both(values, 0.1 * i) for i, values in enumerate(series)])
    assert told.isnan().tolist() == series.isnan().tolist()
    expected = [alone(series[i, 1:], 0.1 * i).item() for i in (0, 1, 4)]
    assert told[[0, 1, 4], 1].tolist() == pytest.approx(expected, abs=1e-12)
    first = OneEuro()
    assert told[:, 0].tolist() == pytest.approx([first(series[i, :1], 0.1 * i).item() for i in range(5)], abs=1e-12)


def test_a_filtered_point_trembles_less_and_follows() -> None:
    noise = torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
    one, other = OneEuro(), OneEuro()
    still = torch.stack([one(100 + noise[i], i / 30) for i in range(300)])[30:]
    assert still.std(0).max() < 0.6
    moving = torch.stack([other(torch.tensor([10.0 * i]), i / 30) for i in range(300)])
    assert 0 < 2990 - moving[-1].item() < 15, "one and a half frames behind at 300 pixels per second"


# Gaussian


def test_a_constant_stays_as_it_is_and_gaps_stay_gaps_unless_asked() -> None:
    values = torch.full((9, 2), 7.0)
    values[3:5, 1] = NAN
    times = torch.tensor([0.0, 0.03, 0.07, 0.1, 0.13, 0.2, 0.21, 0.3, 0.33])
    told = gaussian_smoothed(values, times)
    assert told.isnan().tolist() == values.isnan().tolist()
    assert told[~told.isnan()].tolist() == pytest.approx([7] * 16, abs=1e-5)
    filled = gaussian_smoothed(values, times, fill=True)
    assert filled.flatten().tolist() == pytest.approx([7] * 18, abs=1e-5)
    assert gaussian_smoothed(torch.tensor([1.0, NAN]), torch.tensor([0.0, 9]), fill=True)[1].isnan(), "nothing is within reach"


def test_weights_worked_by_hand() -> None:
    """One width away exp(-1/2), two exp(-2), three exp(-9/2), four none: their sum around an impulse."""
    impulse = torch.tensor([0.0, 0, 0, 0, 1, 0, 0, 0, 0], dtype=torch.float64)
    times = torch.arange(9, dtype=torch.float64)
    g = [math.exp(-d * d / 2) for d in range(4)]
    told = gaussian_smoothed(impulse, times, 1.0)
    assert told[4].item() == pytest.approx(1 / (1 + 2 * sum(g[1:])))
    assert told[5].item() == pytest.approx(g[1] / (1 + 2 * sum(g[1:])))
    assert told[8].item() == 0 and told[7].item() == pytest.approx(g[3] / (1 + g[1] + g[2] + g[3] + g[1]))


# Frames that wait


def tracked(x: float, who: int) -> KeypointsPrediction:
    points = people((x, 100))
    base = found(points)
    return KeypointsPrediction(base.image, points, base.confidence, base.skeleton, identities=torch.tensor([who]))


def test_frames_smoothed_as_they_come_are_those_smoothed_at_once() -> None:
    draw = torch.Generator().manual_seed(1)
    times = (torch.rand(40, generator=draw, dtype=torch.float64) * 0.05 + 0.01).cumsum(0).tolist()
    places = (300 + 20 * torch.randn(40, generator=draw)).tolist()
    who = [0] * 17 + [1] * 23
    smooth: GaussianSmoother[int] = GaussianSmoother()
    told: list[tuple[int, KeypointsPrediction]] = []
    for i in range(40):
        told += smooth.push(i, times[i], tracked(places[i], who[i]))
        assert i - len(told) < 15, "what is kept is bounded"
    told += smooth.flush()
    assert [number for number, _ in told] == list(range(40))
    for own in (slice(0, 17), slice(17, 40)):
        values = torch.tensor(places[own], dtype=torch.float64)
        expected = gaussian_smoothed(values, torch.tensor(times[own], dtype=torch.float64))
        got = torch.stack([prediction.points[0, 0, 0] for _, prediction in told[own]])
        assert got.tolist() == pytest.approx(expected.tolist(), abs=1e-4)


def test_the_one_euro_filter_holds_no_frame_back_and_keeps_identities_apart() -> None:
    smooth: OneEuroSmoother[int] = OneEuroSmoother()
    alone = OneEuro()
    for i, (x, who) in enumerate([(100.0, 0), (500.0, 1), (110.0, 0), (520.0, 1), (400.0, -1)]):
        ((number, prediction),) = smooth.push(i, 0.1 * i, tracked(x, who))
        assert number == i
        expected = alone(people((x, 100)), 0.1 * i) if who == 0 else None
        if expected is not None:
            assert prediction.points.flatten().tolist() == pytest.approx(expected.flatten().tolist())
        if who == -1 or i == 1:
            assert prediction.points[0, 0, 0] == x
    assert list(smooth.flush()) == []
