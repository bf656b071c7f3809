"""A town from above and its map: roofs, roads, trees and water with their shadows, and the same in flat colours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pixelwise.data.world.draws import rgb
from pixelwise.data.world.noise import noise, smooth_noise
from pixelwise.data.world.shading import column, tent
from pixelwise.data.world.solids import Array
from pixelwise.data.world.views import sensor

MAP_CLASSES = ("ground", "park", "water", "street", "main road", "building")
MAP_PALETTE = ((242, 239, 233), (200, 225, 175), (165, 205, 225), (255, 255, 255), (250, 205, 120), (205, 190, 175))

_SPAN = 120.0
"""Height of the picture, metres."""


@dataclass
class _Town:
    """The lattice of points (rows, columns) and what has been painted on it."""

    x: Array
    y: Array
    """Metres from the middle."""
    a: Array
    b: Array
    """The same, turned to the streets."""
    kind: Array
    """Index into MAP_CLASSES."""
    colour: Array
    """(3, rows, columns) by white light."""
    height: Array
    """Metres over the ground."""
    light: Array
    """Share of the sun that a surface gets by its slope."""


def aerial(rng: np.random.Generator, size: tuple[int, int]) -> tuple[Array, Array]:
    """Draw a town.

    Args:
        rng: Random numbers; the same give the same town at any size.
        size: Height and width in pixels.

    Returns:
        The aerial picture and its map, uint8 (3, H, W) each.
    """
    height, width = size
    metres = _SPAN / height
    x = (np.arange(2 * width + 1, dtype=np.float32) / 2 - width / 2) * metres
    y = (np.arange(2 * height + 1, dtype=np.float32) / 2 - height / 2) * metres
    town = _land(rng, *np.meshgrid(x, y), width / height)
    streets = _streets(rng, town)
    _houses(rng, town, streets)
    _traffic(rng, town, streets)
    drawn_map = np.array(MAP_PALETTE, np.float32).T[:, town.kind]
    _trees(rng, town, width / height)
    radiance = _lit(rng, town, metres)
    picture = sensor(tent(radiance), float(rng.uniform(0.004, 0.02)), rng)
    return picture, np.asarray((tent(drawn_map) + 0.5).astype(np.uint8))


Bounds = tuple[float, float]


def _colour(rng: np.random.Generator, hue: Bounds, saturation: Bounds, value: Bounds) -> Array:
    return rgb(*(np.array([rng.uniform(*bounds)], np.float32) for bounds in (hue, saturation, value)))


def _land(rng: np.random.Generator, x: Array, y: Array, aspect: float) -> _Town:
    """Paint ground, parks and a river or lake."""
    turn, salt = rng.uniform(0, np.pi), rng.uniform(0, 512)
    a, b = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    x, y, a, b = (part.astype(np.float32) for part in (x, y, a, b))
    grain = noise(x * 9 + salt, y * 9) * 0.5 + noise(x * 2, y * 2 + salt) * 0.5
    bare, grass = _colour(rng, (0.05, 0.2), (0.1, 0.5), (0.4, 0.8)), _colour(rng, (0.17, 0.38), (0.25, 0.6), (0.3, 0.65))
    kind = np.zeros(x.shape, np.intp)
    park = smooth_noise(x * 0.6 + salt, y * 0.6 + salt) < rng.uniform(0.1, 0.45)
    kind[park] = 1
    colour = np.where(park, grass[:, None, None], bare[:, None, None]) * (0.55 + 0.9 * grain)
    phase, bend, sway = rng.uniform(0, 6.3), rng.uniform(0, np.pi), rng.uniform(4, 14)
    across = x * np.cos(bend) + y * np.sin(bend) + rng.uniform(-35, 35) * aspect
    along = y * np.cos(bend) - x * np.sin(bend)
    shore = np.abs(across + sway * np.sin(along / rng.uniform(14, 30) + phase)) + 1.2 * smooth_noise(x * 1.5, y * 1.5)
    wet = shore < rng.choice([0.0, 6.0, 11.0, 18.0])
    kind[wet] = 2
    water = _colour(rng, (0.45, 0.62), (0.3, 0.7), (0.2, 0.5))[:, None, None]
    colour = np.where(wet, water * (0.85 + 0.3 * noise(x * 5, y * 12)), colour)
    return _Town(x, y, a, b, kind, colour.astype(np.float32), np.zeros(x.shape, np.float32), np.ones(x.shape, np.float32))


def _streets(rng: np.random.Generator, town: _Town) -> list[tuple[int, float, float]]:
    """Pave streets along both axes and return them: the axis they cross (0 is a), where, and their half width."""
    made = []
    asphalt = _colour(rng, (0, 1), (0, 0.15), (0.35, 0.65))[:, None, None]
    grain = 0.85 + 0.3 * noise(town.x * 12, town.y * 12)
    for axis, across, along in ((0, town.a, town.b), (1, town.b, town.a)):
        place = -95.0 + rng.uniform(0, 25)
        while place < 95:
            half = 4.5 if rng.random() < 0.3 else 2.6
            inside = np.abs(across - place) < half
            main = half > 4
            town.kind[inside & (town.kind != 4)] = 4 if main else 3
            lines = (np.abs(across - place) < 0.25) & (along % 5 < 2.5) if main else np.zeros_like(inside)
            town.colour = np.where(inside, np.where(lines, np.float32(0.75), asphalt * grain), town.colour)
            made.append((axis, place, half))
            place += rng.uniform(22, 46)
    return made


def _paint(town: _Town, part: tuple[slice, slice], inside: Array, colour: Array) -> None:
    """Paint `colour` (3, h, w) on a part of the town where `inside` (h, w)."""
    seen = town.colour[:, part[0], part[1]]
    seen[:] = np.where(inside, colour, seen)


def _window(town: _Town, a: float, b: float, radius: float) -> tuple[slice, slice] | None:
    """Return the part of the lattice around a point given along the streets, None if it is outside."""
    origin = np.array([town.a[0, 0], town.b[0, 0]])
    step = town.x[0, 1] - town.x[0, 0]
    right = np.array([town.a[0, 1], town.b[0, 1]]) - origin
    down = np.array([town.a[1, 0], town.b[1, 0]]) - origin
    delta = np.array([a, b]) - origin
    column_at, row_at = delta @ right / step**2, delta @ down / step**2
    reach = radius / step + 1
    rows = slice(max(int(row_at - reach), 0), max(int(row_at + reach) + 1, 0))
    columns = slice(max(int(column_at - reach), 0), max(int(column_at + reach) + 1, 0))
    return (rows, columns) if town.x[rows, columns].size else None


def _houses(rng: np.random.Generator, town: _Town, streets: list[tuple[int, float, float]]) -> None:
    """Set houses along a jittered grid wherever they stand clear of streets and water."""
    for i in np.arange(-88, 89, 11.5):
        for j in np.arange(-88, 89, 11.5):
            a, b = i + rng.uniform(-0.7, 0.7), j + rng.uniform(-0.7, 0.7)
            half_a, half_b, tall = rng.uniform(2.6, 5), rng.uniform(2.6, 5), rng.uniform(3, 9)
            keep, gabled, lengthwise = rng.random() < 0.8, rng.random() < 0.6, half_a > half_b
            hue = _colour(rng, (0, 0.12) if rng.random() < 0.6 else (0, 1), (0.05, 0.6), (0.3, 0.85))
            free = all(abs((a, b)[axis] - at) > half + (half_a, half_b)[axis] + 0.6 for axis, at, half in streets)
            part = _window(town, a, b, float(np.hypot(half_a, half_b)))
            if not (keep and free and part):
                continue
            u, v = (town.a[part] - a) / half_a, (town.b[part] - b) / half_b
            inside = (np.abs(u) < 1) & (np.abs(v) < 1)
            if (town.kind[part][inside] == 2).any():
                continue
            ridge = v if lengthwise else u
            tiles = 0.85 + 0.3 * ((ridge * 6) % 1 < 0.5) if gabled else 0.9 + 0.2 * noise(u * 30, v * 30)
            rim = np.where(np.maximum(np.abs(u), np.abs(v)) > 0.9, 1.2, 1.0) if not gabled else 1.0
            _paint(town, part, inside, hue[:, None, None] * tiles * rim)
            town.kind[part][inside] = 5
            town.height[part][inside] = tall
            slope = 1.0 + 0.35 * np.sign(ridge) * (1 if rng.random() < 0.5 else -1) if gabled else np.ones_like(u)
            town.light[part][inside] = slope[inside]


def _traffic(rng: np.random.Generator, town: _Town, streets: list[tuple[int, float, float]]) -> None:
    """Put cars on the streets; the map does not know them."""
    for axis, at, half in streets:
        for place in rng.uniform(-85, 85, 5):
            lane = at + half * 0.5 * rng.choice([-1, 1])
            a, b = (lane, place) if axis == 0 else (place, lane)
            paint = _colour(rng, (0, 1), (0, 0.9), (0.1, 0.95))
            part = _window(town, a, b, 2.4)
            if not part:
                continue
            across, along = (town.a[part], town.b[part]) if axis == 0 else (town.b[part], town.a[part])
            long = np.abs(along - place)
            inside = (np.abs(across - lane) < 0.9) & (long < 2.1)
            glass = inside & (long < 1.4) & (long > 0.8)
            car = np.where(glass, np.float32(0.03), paint[:, None, None])
            _paint(town, part, inside, car)
            town.height[part][inside] = 1.4


def _trees(rng: np.random.Generator, town: _Town, aspect: float) -> None:
    """Plant trees: round crowns, brighter on the side of the sun; none stands in water or on a main road."""
    leaf = rng.uniform(0.18, 0.36)
    for _ in range(int(90 * aspect)):
        x, y = rng.uniform(-60 * aspect, 60 * aspect), rng.uniform(-60, 60)
        radius, tall = rng.uniform(1.2, 3.6), rng.uniform(3, 7)
        hue = _colour(rng, (leaf - 0.06, leaf + 0.06), (0.35, 0.75), (0.25, 0.6))
        row = int(np.searchsorted(town.y[:, 0], y).clip(0, len(town.y) - 1))
        col = int(np.searchsorted(town.x[0], x).clip(0, town.x.shape[1] - 1))
        part = _window(town, float(town.a[row, col]), float(town.b[row, col]), radius)
        chance = rng.random()
        if not part or town.kind[row, col] in (2, 3, 4, 5) or (town.kind[row, col] == 0 and chance < 0.4):
            continue
        u, v = (town.x[part] - x) / radius, (town.y[part] - y) / radius
        crown = u * u + v * v + 0.5 * noise(town.x[part] * 14, town.y[part] * 14)
        inside = crown < 1
        bulk = 0.6 + 0.5 * np.sqrt(np.maximum(1 - crown, 0)) + 0.3 * noise(town.x[part] * 25, town.y[part] * 25)
        _paint(town, part, inside, hue[:, None, None] * bulk)
        town.height[part][inside] = tall * np.sqrt(np.maximum(1 - crown, 0.1))[inside]


def _lit(rng: np.random.Generator, town: _Town, metres: float) -> Array:
    """Return the radiance (3, rows, columns): sun, shadows and haze."""
    azimuth, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.1)
    step = metres / 2
    shade = np.zeros_like(town.height)
    steps = max(int(9 * reach / step), 1)
    for k in range(1, steps + 1):
        rows, columns = round(k * np.sin(azimuth)), round(k * np.cos(azimuth))
        shade = np.maximum(shade, _moved(town.height, rows, columns) - k * step / reach)
    lit = np.clip((town.height - shade) * 2 + 1, 0, 1)
    sun = np.array([1.25, 1.15, 1.0], np.float32) * rng.uniform(0.6, 1.15)
    sky = np.array([0.28, 0.32, 0.4], np.float32) * rng.uniform(0.8, 1.3)
    radiance = town.colour * (column(sky)[..., None] + column(sun)[..., None] * (lit * town.light))
    return np.asarray(radiance + np.float32(rng.uniform(0, 0.06)))


def _moved(values: Array, rows: int, columns: int) -> Array:
    """Return values (H, W) moved down by `rows` and right by `columns`, zero where nothing came from."""
    height, width = values.shape
    made = np.zeros_like(values)
    if abs(rows) < height and abs(columns) < width:
        source = values[max(-rows, 0) : height - max(rows, 0), max(-columns, 0) : width - max(columns, 0)]
        made[max(rows, 0) : height - max(-rows, 0), max(columns, 0) : width - max(-columns, 0)] = source
    return made
