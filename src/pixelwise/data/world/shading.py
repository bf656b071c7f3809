"""Light on surfaces: what they are made of, the sun or the lamps on them, fog before them; colours are linear RGB."""

from __future__ import annotations

import numpy as np

from pixelwise.data.world import objects as o
from pixelwise.data.world.noise import dice, noise
from pixelwise.data.world.raster import Rays, shadows
from pixelwise.data.world.scene import Scene
from pixelwise.data.world.solids import Array
from pixelwise.data.world.surface import IN_SKY, ON_GROUND, ON_HILLS, Surface


def tent(samples: Array) -> Array:
    """Filter a lattice (..., 2H+1, 2W+1) of samples half a pixel apart to pixels (..., H, W), weights 1 2 1 both ways."""
    rows = samples[..., 0:-2:2, :] + 2 * samples[..., 1::2, :] + samples[..., 2::2, :]
    return np.asarray((rows[..., 0:-2:2] + 2 * rows[..., 1::2] + rows[..., 2::2]) / 16)


def column(colour: Array) -> Array:
    """Return a colour (3,) as (3, 1)."""
    return np.asarray(colour, np.float32)[:, None]


def albedo(scene: Scene, surface: Surface) -> Array:
    """Return the colour (3, rays) of each surface by white light; the sky is left black."""
    made = np.zeros((3, len(surface.depth)), np.float32)
    hit = np.flatnonzero(surface.solid >= 0)
    solid = surface.solid[hit]
    mix, gain = _texture(scene, surface, hit, solid)
    first, second = scene.solids["colour"].T, scene.solids["second"].T
    for channel in range(3):
        base, more = first[channel], second[channel] - first[channel]
        made[channel, hit] = (base[solid] + more[solid] * mix) * gain
    ground = np.flatnonzero(surface.solid == ON_GROUND)
    made[:, ground] = _ground(scene, surface, ground)
    hills = np.flatnonzero(surface.solid == ON_HILLS)
    x, y = (part[hills] for part in surface.rays.grid)
    made[:, hills] = column(scene.look["hill_colour"]) * (0.6 + 0.8 * noise(x * 300, y * 500))
    return made


def _texture(scene: Scene, surface: Surface, hit: Array, solid: Array) -> tuple[Array, Array]:
    """Return how much of the second colour shows (n,) and the brightness (n,)."""
    size = np.linalg.norm(scene.solids["axes"], axis=-1)
    px, py, pz = (axis[hit] for axis in surface.local)
    face = surface.face[hit]
    x, y, z = (p * size[:, axis][solid] for axis, p in enumerate((px, py, pz)))
    u, v = np.where(face == 0, z, x), np.where(face == 1, z, y)
    texture = scene.solids["texture"][solid]
    who = 31 * scene.solids["instance"].astype(np.float32)
    grain = noise(u * 90 + who[solid], v * 90 + scene.look["salt"])
    mix, gain = np.zeros(len(hit), np.float32), 0.82 + 0.36 * grain
    scale = scene.solids["scale"]
    for kind in np.unique(scene.solids["texture"]):
        at = np.flatnonzero(texture == kind)
        of = solid[at]
        along, down = scale[of].T
        a, b = u[at] * along, v[at] * down
        if kind in _PATTERNS:
            mix[at] = _PATTERNS[kind](a, b)
        elif kind == o.LEAVES:
            mix[at] = np.clip(1.6 * noise(u[at] * 60 + who[of], v[at] * 60) - 0.3, 0, 1)
        elif kind in (o.FACADE, o.BRICK_FACADE):
            mix[at], gain[at] = _facade(surface, hit[at], u[at], v[at], kind == o.BRICK_FACADE, gain[at])
        elif kind == o.FACE:
            mix[at], gain[at] = _face(px[at], py[at], pz[at], gain[at])
        elif kind == o.WHEEL:
            mix[at] = py[at] ** 2 + pz[at] ** 2 < 0.3
        elif kind == o.GLASS:
            pane = (face[at] != 1) & (np.abs(py[at]) < 0.8) & (np.abs(np.where(face[at] == 0, pz[at], px[at])) > 0.06)
            mix[at] = pane
        elif kind == o.PLATE:
            radius = np.maximum(np.abs(px[at]), np.abs(py[at]))
            bars = np.abs(np.where(down > 1.7, px[at], py[at])) < 0.08 * along + 0.08
            mix[at] = ((radius < 0.78) & ~(bars & (radius < 0.6))) ^ (along > 2)
    return mix, gain


def _stripes(a: Array, b: Array) -> Array:
    return (b * 0.8) % 1 < 0.5


def _checks(a: Array, b: Array) -> Array:
    return (a * 0.5 % 1 < 0.5) ^ (b * 0.5 % 1 < 0.5)


def _bricks(a: Array, b: Array) -> Array:
    row = np.floor(b)
    return np.maximum((b - row) < 0.16, ((a / 2 + row / 2) % 1) < 0.08) * np.float32(0.8)


def _spots(a: Array, b: Array) -> Array:
    return np.asarray(np.clip(8 * noise(a * 9, b * 9 + 77) - 4, 0, 1))


_PATTERNS = {o.STRIPES: _stripes, o.CHECKS: _checks, o.BRICKS: _bricks, o.SPOTS: _spots}


def _facade(surface: Surface, at: Array, u: Array, v: Array, bricks: bool, gain: Array) -> tuple[Array, Array]:
    """Return plaster or bricks, a sill under each storey and a plinth."""
    storey = surface.cell[1, at]
    mix = _bricks(u * 2.2, v * 4.4) * 0.6 if bricks else 0 * u
    mix = np.where((storey % 1 > 0.94) & (surface.face[at] != 1), 1, mix)
    weather = 0.7 + 0.6 * noise(u * 8, v * 5)
    return mix, gain * weather


def _face(x: Array, y: Array, z: Array, gain: Array) -> tuple[Array, Array]:
    """Return hair on top and behind, eyes and a mouth in front: what tells left from right."""
    hair = (z > 0.15 - 0.6 * y) | (y < -0.75)
    eyes = (np.abs(np.abs(x) - 0.36) < 0.15) & (np.abs(y + 0.08) < 0.13) & (z < 0)
    mouth = (np.abs(x) < 0.3) & (np.abs(y - 0.6) < 0.07) & (z < 0)
    return hair, np.where((eyes | mouth) & ~hair, 0.2, gain)


def _ground(scene: Scene, surface: Surface, at: Array) -> Array:
    """Return the colour (3, n) of road, kerb, markings and the ground beside."""
    look = scene.look
    a, b = surface.local[0, at], surface.local[1, at]
    grain = noise(a * 40, b * 40 + look["salt"]) + noise(a * 7 + 99, b * 7)
    kind = int(look["ground_texture"])
    mix = 0.6 * _PATTERNS[kind](a * 1.4, b * 1.4) if kind in _PATTERNS else 0 * a
    first, second = look["ground_colour"]
    ground = (column(first) + column(second - first) * mix) * (0.65 + 0.35 * grain)
    style, half = int(look["road_style"]), look["road"][3]
    if style == 0:
        return np.asarray(ground)
    aside = np.abs(a)
    kerb = (aside >= half) & (aside < half + 0.35)
    road = column(look["road_colour"]) * (0.8 + 0.2 * grain)
    painted = np.abs(aside - half + 0.35) < 0.08
    if style >= 2:
        painted |= (aside < 0.09) & (b % 4 < 2)
    if style == 3:
        painted |= (np.abs(b - 9) < 1.5) & (a % 1.1 < 0.55)
    road = np.where(painted, np.float32(0.75) * (0.7 + 0.3 * grain), road)
    beside = np.where(kerb, column(look["kerb"]), ground)
    return np.where(aside < half, road, beside)


def sunlit(scene: Scene, surface: Surface, pixels: Rays) -> Array:
    """Return how much of the sun (rays,) reaches each surface; shadows are found per pixel, which softens them."""
    dark = shadows(scene.solids, pixels, scene.look["sun"]).reshape(len(pixels.y), len(pixels.x)).astype(np.float32)
    light = 1 - _between_pixels(dark).ravel() * (surface.solid == ON_GROUND)
    return np.asarray(light * np.maximum(np.einsum("i,ir->r", scene.look["sun"], surface.normal), 0))


def _between_pixels(pixels: Array) -> Array:
    """Spread values at pixel centres (H, W) to the lattice (2H+1, 2W+1) half a pixel apart."""
    padded = np.pad(pixels, 1, mode="edge")
    fine = np.empty((2 * padded.shape[0] - 1, padded.shape[1]), np.float32)
    fine[::2], fine[1::2] = padded, (padded[1:] + padded[:-1]) / 2
    wide = np.empty((len(fine), 2 * padded.shape[1] - 1), np.float32)
    wide[:, ::2], wide[:, 1::2] = fine, (fine[:, 1:] + fine[:, :-1]) / 2
    return wide[1:-1, 1:-1]


def day(scene: Scene, surface: Surface, colour: Array, light: Array) -> Array:
    """Return the radiance (3, rays) by day.

    Args:
        scene: The scene.
        surface: What is seen.
        colour: (3, rays) from `albedo`.
        light: (rays,) from `sunlit`.
    """
    look = scene.look
    above = 0.62 - 0.38 * surface.normal[1]
    made = colour * (column(look["ambient"]) * above + column(look["sun_colour"]) * light)
    glass = np.flatnonzero(surface.category == o.WINDOW)
    x, y = surface.rays.grid
    mirror = _sky_gradient(scene, -np.abs(y[glass]) - 0.1) * (0.25 + 0.5 * noise(x[glass] * 150, y[glass] * 90))
    made[:, glass] = 0.12 * made[:, glass] + mirror
    veil = 1 - np.exp(-look["fog"] * np.minimum(surface.depth, 400))
    made += (column(look["skyline"]) - made) * veil
    sky = np.flatnonzero(surface.solid == IN_SKY)
    made[:, sky] = _sky(scene, x[sky], y[sky])
    return np.asarray(made * column(look["tint"]))


def _sky_gradient(scene: Scene, y: Array) -> Array:
    rise = np.sqrt(np.clip(-y * 1.6, 0, 1))
    return np.asarray(column(scene.look["skyline"]) + column(scene.look["zenith"] - scene.look["skyline"]) * rise)


def _sky(scene: Scene, x: Array, y: Array) -> Array:
    """Return the sky's colour (3, n): a gradient, clouds on a ceiling, and the glow around the sun."""
    look = scene.look
    up = np.maximum(-y, 0) + np.float32(0.12)
    puff = 0.65 * noise(x / up * 22 + look["salt"], 26 / up) + 0.35 * noise(x / up * 70, 84 / up + look["salt"])
    cover = np.clip((puff - 1 + look["clouds"]) * 4, 0, 0.9)
    white = column(0.35 * look["sun_colour"] + 0.6 * look["ambient"] + 0.1) * (0.75 + 0.5 * (1 - puff))
    made = _sky_gradient(scene, y)
    made += (white - made) * cover
    toward = (look["sun"][0] * x + look["sun"][1] * y + look["sun"][2]) / np.sqrt(x * x + y * y + 1)
    glow = np.maximum(toward, 0) ** 24
    return np.asarray(made + column(look["sun_colour"]) * (0.35 * glow + 2.0 * (toward > 0.9985)))


def night(scene: Scene, surface: Surface, colour: Array) -> Array:
    """Return the radiance (3, rays) by night: moonlight, street lamps, lit windows and the lights of cars."""
    x, y = surface.rays.grid
    z = np.minimum(surface.depth, 400)
    up = 0.6 - 0.4 * surface.normal[1]
    light = column(np.array([0.09, 0.12, 0.21])) * up
    for lamp in scene.look["lamps"]:
        if lamp[1] < -100:
            continue
        to = np.stack([lamp[0] - x * z, lamp[1] + surface.rays.height - y * z, lamp[2] - z])
        square = (to * to).sum(0)
        facing = np.maximum((to * surface.normal).sum(0) / np.sqrt(square), 0.06)
        light = light + column(np.array([1.0, 0.72, 0.38])) * (7.0 * facing / (1 + square * 0.2))
    made = colour * light
    veil = 1 - np.exp(-scene.look["fog"] * 0.5 * z)
    made += (column(np.array([0.012, 0.016, 0.035])) - made) * veil
    made += _shining(scene, surface)
    sky = np.flatnonzero(surface.solid == IN_SKY)
    made[:, sky] = _night_sky(scene, x[sky], y[sky])
    return np.asarray(made)


def _night_sky(scene: Scene, x: Array, y: Array) -> Array:
    low = np.exp(-4 * np.maximum(-y, 0))
    made = column(np.array([0.006, 0.009, 0.03])) + column(np.array([0.03, 0.026, 0.04])) * low
    moon_x, moon_y, radius = scene.look["moon"]
    away = np.hypot(x - moon_x, y - moon_y)
    made = made + column(np.array([0.9, 0.92, 1.0])) * ((away < radius) + 0.06 * np.exp(-away / radius / 2))
    a, b = np.floor(x * 60), np.floor(y * 60)
    star = dice(a, b, np.full(len(x), scene.look["salt"]))
    near = np.hypot(x * 60 - a - 0.5, y * 60 - b - 0.5) < 0.25
    return np.asarray(made + np.float32(0.7) * ((star > 0.97) & near) * (star * 30 % 1))


def _shining(scene: Scene, surface: Surface) -> Array:
    """Return the light (3, rays) that surfaces give off by night."""
    made = np.zeros((3, len(surface.depth)), np.float32)
    glass = np.flatnonzero(surface.category == o.WINDOW)
    room = dice(
        surface.instance[glass], np.floor(surface.cell[0, glass]), np.floor(surface.cell[1, glass]), surface.face[glass]
    )
    warm = column(np.array([1.0, 0.62, 0.25])) * (1 - room) + column(np.array([0.75, 0.85, 1.0])) * room
    made[:, glass] = warm * ((room * 13 % 1 < 0.4) * (0.25 + 0.5 * (room * 7 % 1)))
    hit = np.flatnonzero(surface.solid >= 0)
    texture = scene.solids["texture"][surface.solid[hit]]
    lamp = hit[texture == o.LAMP]
    made[:, lamp] = column(np.array([1.6, 1.3, 0.8]))
    body = hit[texture == o.BODY]
    px, py, pz = surface.local[:, body]
    beam = (surface.face[body] == 2) & (np.abs(np.abs(px) - 0.72) < 0.18) & (np.abs(py + 0.15) < 0.3)
    white, red = column(np.array([1.5, 1.45, 1.2])), column(np.array([0.9, 0.03, 0.02]))
    made[:, body] = np.where(beam, np.where(pz > 0, white, red), 0)
    return made


def temperature(scene: Scene, surface: Surface, light: Array) -> Array:
    """Return how warm everything looks (rays,), 0 to 1."""
    x, y = surface.rays.grid
    made = np.full(len(light), 0.34, np.float32)
    hit = np.flatnonzero(surface.solid >= 0)
    solid = surface.solid[hit]
    made[hit] = scene.solids["heat"][solid]
    texture = scene.solids["texture"][solid]
    made[hit[(texture == o.BODY) & (surface.local[2, hit] > 0.4)]] += 0.25
    made[hit[(texture == o.FACE)]] += 0.06
    made[surface.category == o.WINDOW] = 0.22
    made[surface.category == o.ROAD] += 0.08
    alive = (surface.category == o.PERSON) | (surface.category == o.ANIMAL)
    made += np.where(alive, -0.12 * (1 + surface.normal[2]), 0.12 * light)
    made += 0.05 * (noise(x * 90 + scene.look["salt"], y * 90) - 0.5)
    sky = surface.solid == IN_SKY
    return np.where(sky, 0.06 + 0.1 * np.exp(-5 * np.maximum(-y, 0)), made)
