"""Laying out a street or a park: where everything is, what it wears, and the light, all from the seed and an index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pixelwise.data.world import objects
from pixelwise.data.world.draws import Draws, rgb
from pixelwise.data.world.objects import (
    BRICKS,
    CHECKS,
    FACE,
    PERSON,
    PLAIN,
    SPOTS,
    STRIPES,
)
from pixelwise.data.world.people import HEAD, SHOES, SKIN, joints, limbs, posed, reach
from pixelwise.data.world.solids import Array, vector

USUAL_PEOPLE, MOST_PEOPLE = 4, 6
"""Up to the first a scene draws as many random numbers as ever, so that it stays what it was before crowds were possible."""

LOOK = np.dtype(
    [
        ("salt", "i4"),  # where in the noise table this scene's textures begin
        ("height", "f4"),  # of the camera over the ground, metres
        ("focal", "f4"),  # in picture heights
        ("horizon", "f4"),  # in picture heights from the top
        ("road", "f4", 4),  # where it passes the camera, cosine and sine of its heading, half width; metres
        ("road_style", "u1"),  # 0 none, 1 plain, 2 dashed, 3 with a crossing
        ("road_colour", "f4", 3),
        ("ground_colour", "f4", (2, 3)),
        ("ground_texture", "u1"),
        ("kerb", "f4", 3),
        ("hills", "f4", 3),  # distance, height, features per metre
        ("hill_colour", "f4", 3),
        ("sun", "f4", 3),  # unit vector to it
        ("sun_colour", "f4", 3),
        ("ambient", "f4", 3),
        ("zenith", "f4", 3),
        ("skyline", "f4", 3),
        ("clouds", "f4"),  # share of the sky
        ("fog", "f4"),  # per metre
        ("tint", "f4", 3),  # white balance times exposure
        ("noise", "f4"),  # of the sensor
        ("lamps", "f4", (3, 3)),
        ("moon", "f4", 3),  # slopes x, y and radius
    ]
)


@dataclass(frozen=True)
class Scene:
    """One scene, in metres: x right, y down from the ground, z forward from under the camera."""

    look: Any
    solids: Array
    joints: Array
    reach: Array
    instances: Array
    sloppy: Array


# zenith and skyline as hue, saturation, value; share of scenes by repetition
_SKIES = np.array(
    [
        [[0.58, 0.70, 0.70], [0.56, 0.25, 0.95]],
        [[0.60, 0.55, 0.85], [0.55, 0.15, 1.00]],
        [[0.62, 0.15, 0.62], [0.60, 0.08, 0.80]],
        [[0.65, 0.50, 0.45], [0.07, 0.55, 0.98]],
        [[0.72, 0.35, 0.50], [0.95, 0.35, 0.90]],
        [[0.12, 0.12, 0.75], [0.11, 0.20, 0.92]],
        [[0.50, 0.30, 0.70], [0.13, 0.25, 0.95]],
    ],
    np.float32,
)
_GROUNDS = np.array([[0.22, 0.36], [0.22, 0.36], [0.08, 0.14], [0.0, 1.0], [0.03, 0.1]], np.float32)


def lay_out(
    seed: int, purpose: str, indices: Sequence[int], *, aspect: float = 1.0, people: tuple[int, int] = (0, USUAL_PEOPLE)
) -> list[Scene]:
    """Return the scenes of the given indices; each depends on its own index only.

    Args:
        seed: Of the world.
        purpose: Name of the stream, e.g. the split.
        indices: Which scenes.
        aspect: Width over height of the pictures.
        people: Fewest and most people in a scene, at most MOST_PEOPLE.
    """
    draws = Draws(seed, purpose, indices)
    look = _light(draws, _camera(draws, np.zeros(len(indices), LOOK)))
    _grounds(draws, look)
    crowd, points, lateral, clear = _people(draws, look, aspect, people)
    things = [crowd.reshape(len(indices), -1), *_things(draws, look, aspect, lateral, clear)]
    everything = np.concatenate(things, 1)
    present = crowd["active"][:, :, 0]
    stature_reach = points.pop("reach")
    where = joints(points)
    sloppy = draws.uniform(0, 1, 64)
    return [
        Scene(
            look[i],
            everything[i][everything[i]["active"]],
            where[i][present[i]],
            stature_reach[i][present[i]],
            np.flatnonzero(present[i]).astype(np.int16) + 1,
            sloppy[i],
        )
        for i in range(len(indices))
    ]


def _camera(draws: Draws, look: Array) -> Array:
    look["salt"] = draws.uniform(0, 512, 1)[:, 0]
    look["height"] = draws.uniform(1.3, 2.6, 1)[:, 0]
    look["focal"] = draws.uniform(0.95, 1.3, 1)[:, 0]
    look["horizon"] = draws.uniform(0.36, 0.52, 1)[:, 0]
    return look


def _light(draws: Draws, look: Array) -> Array:
    count = draws.scenes
    azimuth, elevation = draws.uniform(-np.pi, np.pi, 1)[:, 0], np.radians(draws.uniform(14, 65, 1)[:, 0])
    sky = draws.choose(_SKIES, 1)[:, 0] + draws.uniform(-0.06, 0.06, 2, 3)
    colours = rgb(sky[..., :1], np.clip(sky[..., 1:2], 0, 1), np.clip(sky[..., 2:], 0, 1))
    overcast = draws.uniform(0.15, 1, 1) ** 0.6
    look["sun"] = vector(np.cos(elevation) * np.sin(azimuth), -np.sin(elevation), np.cos(elevation) * np.cos(azimuth))
    warmth = np.clip(1.3 - elevation / 0.8, 0, 1)[:, None]
    look["sun_colour"] = overcast * 2.2 * (1 - warmth * np.array([0.0, 0.28, 0.55]))
    look["zenith"], look["skyline"] = colours[:, 0], colours[:, 1]
    look["ambient"] = (0.35 + 0.3 * (1 - overcast)) * (colours.mean(1) + 0.25)
    look["clouds"] = draws.uniform(0, 0.8, 1)[:, 0]
    foggy = draws.chance(0.15, 1)
    look["fog"] = np.where(foggy, draws.uniform(0.012, 0.035, 1), draws.uniform(0.001, 0.008, 1))[:, 0]
    look["tint"] = draws.uniform(0.85, 1.2, 1) * draws.uniform(0.92, 1.08, 3)
    look["noise"] = draws.uniform(0.004, 0.022, 1)[:, 0]
    look["moon"] = np.concatenate([draws.uniform(-0.45, 0.45, 1), draws.uniform(-0.4, -0.15, 1), np.full((count, 1), 0.03)], 1)
    return look


def _grounds(draws: Draws, look: Array) -> None:
    """Draw the road, the ground beside it and the hills behind."""
    heading = draws.uniform(-0.5, 0.5, 1)[:, 0] * draws.uniform(0.1, 1, 1)[:, 0]
    half = draws.uniform(2.2, 4.5, 1)[:, 0]
    look["road"] = np.stack([draws.uniform(-3.5, 3.5, 1)[:, 0], np.cos(heading), np.sin(heading), half], -1)
    look["road_style"] = draws.choose(np.array([0, 1, 2, 2, 3]), 1)[:, 0]
    look["road_colour"] = draws.colours((0, 1), (0, 0.25), (0.22, 0.65), 1)[:, 0]
    hue = draws.choose(_GROUNDS, 1)
    ground = draws.colours((hue[..., 0], hue[..., 1]), (0.05, 0.65), (0.3, 0.85), 1)
    look["ground_colour"] = np.concatenate([ground, ground * draws.uniform(0.5, 0.9, 1)[..., None]], 1)
    look["ground_texture"] = draws.choose(np.array([SPOTS, SPOTS, CHECKS, BRICKS, STRIPES, PLAIN]), 1)[:, 0]
    look["kerb"] = draws.colours((0, 1), (0, 0.2), (0.4, 0.9), 1)[:, 0]
    look["hills"] = draws.uniform([90, 4, 0.3], [150, 34, 1.2], 3)
    look["hill_colour"] = draws.colours((0.2, 0.7), (0.1, 0.5), (0.25, 0.6), 1)[:, 0]


def _from_road(look: Array, lateral: Array, along: Array) -> Array:
    """Return the point of the ground (scenes, n, 3) `lateral` metres right of the road's middle and `along` it."""
    x0, cosine, sine, _ = (look["road"][:, k, None] for k in range(4))
    return vector(x0 + lateral * cosine + along * sine, 0, -lateral * sine + along * cosine)


def _lateral(look: Array, place: Array) -> Array:
    x0, cosine, sine, _ = (look["road"][:, k, None] for k in range(4))
    return np.asarray((place[..., 0] - x0) * cosine - place[..., 2] * sine)


def _people(draws: Draws, look: Array, aspect: float, allowed: tuple[int, int]) -> tuple[Array, dict[str, Array], Array, Array]:
    """Return the limbs, the points of the poses, how far people stand from the road's middle, and the nearest one."""
    fewest, most = allowed
    count = USUAL_PEOPLE if most <= USUAL_PEOPLE else MOST_PEOPLE
    number = np.floor(fewest + draws.uniform(0, most - fewest + 1 - 1e-4, 1))
    active = np.arange(count) < number
    stature = np.where(draws.chance(0.2, count), draws.uniform(1.0, 1.4, count), draws.uniform(1.5, 1.95, count))
    stature[:, 0] = np.maximum(stature[:, 0], 1.45)
    share = draws.uniform(0.42, 0.8, 1)[:, 0]
    depth = draws.uniform(4.5, 14 if count == USUAL_PEOPLE else 9, count)  # a crowd stands close together
    floor = 1.03 - look["horizon"]
    depth[:, 0] = np.maximum(look["focal"] * stature[:, 0] / share, look["focal"] * look["height"] / floor)
    depth[:, 1:] = np.maximum(depth[:, 1:], depth[:, :1] + 0.8)
    sideways = draws.uniform(-0.42, 0.42, count)
    sideways[:, 0] *= 0.8
    feet = vector(sideways * aspect / look["focal"][:, None] * depth, 0, depth)
    turn = draws.uniform(-1, 1, count)
    yaw = np.pi * np.sign(turn) * np.abs(turn) ** 1.6
    points = posed(draws, feet, stature, yaw)
    clothes = draws.colours((0, 1), (0, 0.95), (0.1, 0.95), count, 4)
    clothes[:, :, SKIN] = draws.colours((0.03, 0.09), (0.25, 0.7), (0.3, 0.95), count)
    clothes[:, :, SHOES] *= 0.5
    instance = np.broadcast_to(np.arange(1, count + 1), yaw.shape)
    crowd = limbs(points, stature, yaw, clothes)
    for name, value in (("active", active), ("instance", instance), ("category", PERSON), ("heat", 0.92)):
        crowd[name] = np.asarray(value)[..., None] if np.ndim(value) else value
    _dress(draws, crowd, yaw)
    points["reach"] = reach(stature)
    lateral = np.where(active, _lateral(look, feet), 0)
    return crowd, points, lateral, np.where(active[:, :1, None], feet[:, :1], vector(0, 0, 0))


def _dress(draws: Draws, crowd: Array, yaw: Array) -> None:
    """Give the clothes their textures, some short sleeves and trousers, and the head its hair and face."""
    count = crowd.shape[1]
    crowd["second"] = crowd["colour"] * draws.uniform(0.5, 1.1, count)[..., None, None]
    crowd["scale"] = 9.0
    shirt = [0, 1, 5, 6]
    crowd["texture"][:, :, shirt] = draws.choose(np.array([PLAIN, PLAIN, STRIPES, CHECKS, SPOTS]), count)[..., None]
    crowd["second"][:, :, shirt] = draws.colours((0, 1), (0, 0.9), (0.1, 0.95), count)[:, :, None]
    long_sleeves, short_trousers = draws.chance(0.5, count)[..., None, None], draws.chance(0.3, count)[..., None, None]
    for limb, like, chosen in ((7, 5, long_sleeves), (8, 6, long_sleeves), (13, 4, short_trousers), (14, 4, short_trousers)):
        crowd["colour"][:, :, limb] = np.where(chosen[..., 0], crowd["colour"][:, :, like], crowd["colour"][:, :, limb])
    crowd["texture"][:, :, HEAD] = FACE
    crowd["second"][:, :, HEAD] = draws.colours((0.02, 0.13), (0.1, 0.8), (0.03, 0.8), count)


def _things(draws: Draws, look: Array, aspect: float, lateral: Array, clear: Array) -> list[Array]:
    """Place everything else along the road, out of the way of the nearest person `clear` (scenes, 1, 3)."""
    people = lateral.shape[1]
    half_road = look["road"][:, 3, None]
    heading = np.arctan2(look["road"][:, 2], look["road"][:, 1])[:, None]
    widest = np.stack([np.maximum(-lateral, 0).max(1), np.maximum(lateral, 0).max(1)], 1)
    front = np.maximum(half_road + draws.uniform(1.5, 6, 2), widest + 0.9)
    left, right = front[:, :1], front[:, 1:]
    density = draws.choose(np.array([0.15, 0.6, 0.9]), 1)

    sides, per_side = 2, 5
    half = draws.uniform([3, 2, 3], [7, 9, 6], sides * per_side, 3)
    gap = draws.uniform(0, 4, sides * per_side)
    length = (2 * half[..., 2] + gap).reshape(-1, sides, per_side)
    along = (np.cumsum(length, -1) - length / 2 + draws.uniform(1, 6, sides, 1)).reshape(len(look), -1)
    side = np.repeat([-1.0, 1.0], per_side)
    away = np.where(side < 0, left, right) + half[..., 0]
    place = _from_road(look, side * away, along)
    end = _from_road(look, draws.uniform(-12, 12, 1), draws.uniform(45, 70, 1))
    half = np.concatenate([half, draws.uniform([8, 3, 4], [14, 12, 6], 1, 3)], 1)
    active = np.concatenate([draws.chance(density, sides * per_side), draws.chance(0.4, 1)], 1)
    place = np.concatenate([place, end], 1)
    yaw = np.broadcast_to(-heading, active.shape)
    houses = objects.buildings(draws, place, yaw, half, active, np.broadcast_to(people + np.arange(1, 12), active.shape))

    def beside(count: int, inner: Array, nearest: float, furthest: float) -> Array:
        """Return places between the road (or its middle) and the houses."""
        which = np.where(draws.chance(0.5, count), -1.0, 1.0)
        outer = np.where(which < 0, left, right) - 0.7
        reach = inner + draws.uniform(0, 1, count) * np.maximum(outer - inner, 0.1)
        return _from_road(look, which * reach, draws.uniform(0, 1, count) ** 1.5 * (furthest - nearest) + nearest)

    def free(place: Array, radius: float, count: int) -> Array:
        """Return whether a thing is in view and leaves the nearest person in view (or, sometimes, does not)."""
        z = np.maximum(place[..., 2], 0.1)
        distance = np.linalg.norm(place - clear, axis=-1)
        before = (place[..., 2] < clear[..., 2] + radius) & (
            np.abs(place[..., 0] / z - clear[..., 0] / np.maximum(clear[..., 2], 0.1)) < (radius + 0.4) / z
        )
        inside = place[..., 2] > 2.2 + radius
        return np.asarray(inside & (distance > radius + 0.35) & (~before | draws.chance(0.12, count)))

    edge = half_road + 0.4
    place = beside(7, edge, 6, 38)
    active = draws.chance(np.where(density < 0.3, 0.8, 0.45), 7) & free(place, 0.9, 7)
    wood = objects.trees(draws, place, active, np.broadcast_to(people + np.arange(12, 19), active.shape))
    lane = np.where(draws.chance(0.5, 4), -1.0, 1.0)
    place = _from_road(look, lane * (half_road - 1.1), draws.uniform(0, 1, 4) * 6 + np.arange(4) * 7 + 6)
    active = draws.chance(0.5, 4) & free(place, 2.1, 4)
    yaw = -heading + np.where(lane < 0, np.pi, 0) + draws.uniform(-0.15, 0.15, 4)
    traffic = objects.cars(draws, place, yaw, active, np.broadcast_to(people + np.arange(19, 23), active.shape))
    place = beside(3, 0 * half_road, 3.5, 14)
    active = draws.chance(0.65, 3) & free(place, 0.6, 3)
    yaw = draws.uniform(-np.pi, np.pi, 3)
    zoo = objects.animals(draws, place, yaw, active, np.broadcast_to(people + np.arange(23, 26), active.shape))
    place = beside(3, edge, 4, 16)
    active = draws.chance(0.75, 3) & free(place, 0.3, 3)
    plates = objects.signs(draws, place, active, np.broadcast_to(people + np.arange(26, 29), active.shape))
    which = np.where(draws.chance(0.5, 3), -1.0, 1.0)
    place = _from_road(look, which * (half_road + 0.5), np.array([7.0, 15.0, 26.0]) + draws.uniform(-2, 2, 3))
    active = draws.chance(0.75, 3) & free(place, 0.3, 3)
    look["lamps"] = place - vector(0, np.where(active, 4.6, 1000), 0)
    lights = objects.lamps(draws, place, active, np.broadcast_to(people + np.arange(29, 32), active.shape))
    place = beside(5, 0 * half_road, 3.2, 12)
    active = draws.chance(0.35, 5) & free(place, 0.6, 5)
    props = objects.clutter(draws, place, active, np.broadcast_to(people + np.arange(32, 37), active.shape))
    return [houses, wood, traffic, zoo, plates, lights, props]
