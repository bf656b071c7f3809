"""The things that stand about: buildings, trees, cars, animals, signs, lamps and clutter, each a few solids."""

from __future__ import annotations

import numpy as np

from pixelwise.data.world.draws import Draws
from pixelwise.data.world.solids import (
    BOX,
    CAPSULE,
    LEAFY,
    Array,
    between,
    box_axes,
    solids,
    turned,
    vector,
)

BACKGROUND, SKY, ROAD, GROUND, BUILDING, WINDOW, TREE, CAR, PERSON, ANIMAL, SIGN = range(11)
CLASSES = ("background", "sky", "road", "ground", "building", "window", "tree", "car", "person", "animal", "sign")
PALETTE = (
    (60, 60, 70),
    (120, 180, 230),
    (110, 90, 120),
    (150, 200, 120),
    (200, 150, 110),
    (60, 110, 200),
    (40, 130, 60),
    (230, 60, 60),
    (250, 190, 60),
    (180, 90, 200),
    (60, 220, 220),
)

PLAIN, STRIPES, BRICKS, CHECKS, SPOTS, LEAVES, FACADE, BRICK_FACADE, FACE, BODY, GLASS, PLATE, LAMP, WHEEL = range(14)
"""Textures of solids."""


def buildings(draws: Draws, place: Array, yaw: Array, half: Array, active: Array, instance: Array) -> Array:
    """Return houses with windows, and their hipped or flat roofs, (scenes, 2n); `place` (scenes, n, 3) is on the ground."""
    scenes, count = yaw.shape
    colour = draws.colours((0, 1), (0.05, 0.5), (0.35, 0.95), count)
    shares = np.stack([draws.uniform(0.35, 0.75, count), draws.uniform(0.4, 0.75, count)], -1)
    shares[..., 0] = np.where(draws.chance(0.15, count), 1, shares[..., 0])
    texture = np.where(draws.chance(0.4, count), BRICK_FACADE, FACADE)
    up = vector(np.zeros((scenes, count)), -1, 0)
    common = {"active": active, "category": BUILDING, "instance": instance, "kind": BOX}
    walls = solids(
        scenes,
        count,
        centre=place + up * half[..., 1:2],
        axes=box_axes(yaw, half),
        colour=colour,
        second=colour * draws.uniform(0.45, 1.25, count)[..., None],
        texture=texture,
        scale=shares,
        heat=draws.uniform(0.3, 0.5, count),
        **common,
    )
    pitched = draws.chance(0.5, count)
    rise = np.where(pitched, draws.uniform(0.6, 1.8, count), 0.2)
    over = np.where(pitched, 0.4, 0.15)
    roof_half = np.stack([half[..., 0] + over, rise, half[..., 2] + over], -1)
    roofs = solids(
        scenes,
        count,
        centre=place + up * (2 * half[..., 1] + rise)[..., None],
        axes=box_axes(yaw, roof_half),
        shape=np.where(pitched, draws.uniform(0.6, 1.0, count), 0),
        colour=draws.colours((0, 1), (0.1, 0.6), (0.2, 0.7), count),
        second=draws.colours((0, 0.1), (0.1, 0.5), (0.15, 0.5), count),
        texture=np.where(pitched, BRICKS, PLAIN),
        scale=2.0,
        heat=0.25,
        **common,
    )
    return np.concatenate([walls, roofs], 1)


_LEAF_HUES = np.array([[0.2, 0.38], [0.2, 0.38], [0.24, 0.45], [0.02, 0.14], [0.85, 0.97]], np.float32)


def trees(draws: Draws, place: Array, active: Array, instance: Array) -> Array:
    """Return round trees, pointed firs and bushes, (scenes, 4n): a trunk and three pieces of the crown each."""
    scenes, count = active.shape
    height = draws.uniform(2.5, 7.5, count)
    form = draws.uniform(0, 1, count)
    fir, bush = form < 0.25, form > 0.85
    height = np.where(bush, 0.3 * height, height)
    hue = draws.choose(_LEAF_HUES, count)
    leaf = draws.colours((hue[..., 0], hue[..., 1]), (0.3, 0.8), (0.25, 0.75), count)
    common = {"category": TREE, "instance": instance, "active": active}
    top = place - vector(0 * height, 0.7 * height, 0)
    trunk = between(place, top, 0.03 * height + 0.04, turned(0 * height)[..., 0, :])
    bark = draws.colours((0.04, 0.12), (0.1, 0.5), (0.2, 0.5), count)
    made = [solids(scenes, count, kind=CAPSULE, colour=bark, second=bark * 0.5, texture=SPOTS, scale=6, heat=0.35, **common)]
    for name, value in trunk.items():
        made[0][name] = value
    for piece in range(3):
        wide = height * draws.uniform(0.2, 0.32, count)
        tall = height * draws.uniform(0.2, 0.3, count)
        off = draws.uniform(-0.16, 0.16, count, 2) * height[..., None]
        middle = vector(off[..., 0], -np.where(bush, 0.35, 0.62 + 0.08 * piece) * height, off[..., 1])
        level = (0.22, 0.48, 0.74)[piece]
        fir_half = np.stack([height * w for w in ((0.3, 0.23, 0.15)[piece], 0.18, (0.3, 0.23, 0.15)[piece])], -1)
        half = np.where(fir[..., None], fir_half, np.stack([wide, tall, wide], -1))
        spun = draws.uniform(0, 1.5, count)
        crown = solids(scenes, count, texture=LEAVES, scale=5, heat=0.4, **common)
        crown["kind"] = np.where(fir, BOX, LEAFY)
        crown["shape"] = np.where(fir, 0.97, 0)
        crown["centre"] = place + np.where(fir[..., None], vector(0 * wide, -(level + 0.1) * height, 0), middle)
        crown["axes"] = box_axes(spun, half)
        crown["colour"], crown["second"] = leaf, leaf * draws.uniform(0.25, 0.55, count)[..., None]
        made.append(crown)
    return np.concatenate(made, 1)


def cars(draws: Draws, place: Array, yaw: Array, active: Array, instance: Array) -> Array:
    """Return cars and vans (scenes, 6n): body, cabin, four wheels; `yaw` turns their long axis from z."""
    scenes, count = yaw.shape
    frame = turned(yaw)
    van = draws.chance(0.25, count)
    long, wide = draws.uniform(1.8, 2.3, count), draws.uniform(0.8, 0.92, count)
    sill, waist = draws.uniform(0.2, 0.3, count), np.where(van, 1.1, draws.uniform(0.75, 0.9, count))
    roof = np.where(van, draws.uniform(1.8, 2.1, count), draws.uniform(1.3, 1.5, count))
    colour = draws.colours((0, 1), (0, 0.9), (0.16, 0.95), count)
    common = {"active": active, "category": CAR, "instance": instance}

    def at(x: Array, y: Array | float, z: Array) -> Array:
        return np.asarray(place + np.einsum("bni,bnij->bnj", vector(x, -y, z), frame))

    def part(low: Array, high: Array, half_wide: Array, half_long: Array, z: Array, **values: object) -> Array:
        half = np.stack([half_wide, (high - low) / 2, half_long], -1)
        made = solids(scenes, count, kind=BOX, axes=box_axes(yaw, half), colour=colour, **common, **values)
        made["centre"] = at(0 * low, (low + high) / 2, z)
        return made

    body = part(sill, waist, wide, long, 0 * long, texture=BODY, shape=0.06, heat=0.45)
    cabin_long = np.where(van, 0.86, 0.6) * long
    cabin = part(waist, roof, 0.92 * wide, cabin_long, np.where(van, -0.08, -0.12) * long, texture=GLASS, heat=0.3)
    cabin["shape"] = np.where(van, 0.12, 0.36)
    dark = draws.colours((0.45, 0.65), (0, 0.4), (0.1, 0.55), count)
    cabin["second"] = dark
    made = [body, cabin]
    for x, z in ((1, 1), (-1, 1), (1, -1), (-1, -1)):
        axes = box_axes(yaw, vector(0 * long + 0.13, 0.33, 0.33))
        wheel = solids(scenes, count, kind=CAPSULE, axes=axes, colour=0.02, second=0.3, texture=WHEEL, heat=0.6, **common)
        wheel["centre"] = at(x * (wide - 0.05), 0.33, z * 0.62 * long)
        made.append(wheel)
    return np.concatenate(made, 1)


def animals(draws: Draws, place: Array, yaw: Array, active: Array, instance: Array) -> Array:
    """Return four-legged animals (scenes, 9n) from the size of a cat to that of a cow."""
    scenes, count = yaw.shape
    size = np.exp(draws.uniform(np.log(0.35), np.log(1.3), count))
    front = vector(np.sin(yaw), 0, -np.cos(yaw)) * size[..., None]
    side = vector(np.cos(yaw), 0, np.sin(yaw)) * size[..., None]
    up = vector(0 * yaw, -size, 0)
    coat = draws.colours((0.0, 0.14), (0.05, 0.7), (0.12, 0.95), count)
    second = np.where(draws.chance(0.5, count)[..., None], coat * 0.6, draws.colours((0, 0.1), (0, 0.4), (0.1, 0.9), count))
    texture = draws.choose(np.array([PLAIN, SPOTS, STRIPES]), count)
    thick, leg = draws.uniform(0.15, 0.24, count)[..., None], draws.uniform(0.4, 0.6, count)[..., None]
    hips, chest = place + up * (leg + 0.08) - 0.38 * front, place + up * (leg + 0.1) + 0.36 * front
    neck = chest + up * draws.uniform(0.1, 0.4, count)[..., None] + 0.22 * front
    nose = neck + 0.24 * front - up * draws.uniform(0.02, 0.12, count)[..., None]
    tail = hips - 0.3 * front + up * draws.uniform(-0.3, 0.3, count)[..., None]
    swing = draws.uniform(-0.16, 0.16, count)[..., None] * front
    pieces = [
        (hips, chest, thick * 0.92),
        (chest, neck, thick * 0.5),
        (neck, nose, thick * 0.48),
        (neck + 0.1 * side, neck + 0.12 * side + 0.16 * up, thick * 0.2),
        (hips, tail, thick * 0.18),
    ]
    for end, x, step in ((hips, 0.1, 1), (hips, -0.1, -1), (chest, 0.1, -1), (chest, -0.1, 1)):
        hip = end + x * side
        foot = hip * np.array([1, 0, 1], np.float32) + step * swing - vector(0 * yaw, 0.05 * size, 0)
        pieces.append((hip, foot, thick * 0.3))
    values = {"category": ANIMAL, "instance": instance, "active": active, "texture": texture, "scale": (5.0, 5.0)}
    made = []
    for start, end, radius in pieces:
        fields = between(start, end, radius[..., 0] * size, side)
        made.append(solids(scenes, count, kind=CAPSULE, colour=coat, second=second, heat=0.85, **fields, **values))
    return np.concatenate(made, 1)


def signs(draws: Draws, place: Array, active: Array, instance: Array) -> Array:
    """Return traffic signs (scenes, 2n): a pole and a round, square or diamond plate."""
    scenes, count = active.shape
    height = draws.uniform(2.0, 2.9, count)
    common = {"category": SIGN, "instance": instance, "active": active, "heat": 0.3}
    top = place - vector(0 * height, height, 0)
    pole = between(place, top, 0 * height + 0.045, turned(0 * height)[..., 0, :])
    grey = draws.colours((0, 1), (0, 0.2), (0.3, 0.8), count)
    poles = solids(scenes, count, kind=CAPSULE, colour=grey, second=grey, texture=PLAIN, **pole, **common)
    form = draws.uniform(0, 3, count)
    half = draws.uniform(0.3, 0.5, count)
    roll = np.where(form < 1, np.pi / 4, 0)
    axes = box_axes(draws.uniform(-0.5, 0.5, count), vector(half, half, 0.04))
    x, y = axes[..., 0, :].copy(), axes[..., 1, :].copy()
    cosine, sine = np.cos(roll)[..., None], np.sin(roll)[..., None]
    axes[..., 0, :], axes[..., 1, :] = cosine * x + sine * y, cosine * y - sine * x
    plates = solids(scenes, count, axes=axes, texture=PLATE, **common)
    plates["kind"] = np.where(form > 2, CAPSULE, BOX)
    plates["centre"] = top + vector(0 * height, 0, -0.07)
    plates["colour"] = draws.colours((0, 1), (0.4, 1), (0.4, 0.95), count)
    plates["second"] = draws.colours((0, 1), (0, 0.5), (0.7, 1), count)
    plates["scale"] = draws.uniform(0.5, 3, count, 2)
    return np.concatenate([poles, plates], 1)


def lamps(draws: Draws, place: Array, active: Array, instance: Array) -> Array:
    """Return street lamps (scenes, 2n): a pole and a light on it."""
    scenes, count = active.shape
    top = place - vector(0 * active, 4.6, 0)
    common = {"category": BACKGROUND, "instance": instance, "active": active, "kind": CAPSULE}
    dark = draws.colours((0, 1), (0, 0.4), (0.1, 0.5), count)
    pole = between(place, top, np.full((scenes, count), 0.06, np.float32), turned(0.0 * active)[..., 0, :])
    poles = solids(scenes, count, colour=dark, second=dark, texture=PLAIN, heat=0.3, **pole, **common)
    heads = solids(scenes, count, centre=top, colour=0.8, second=0.8, texture=LAMP, heat=0.9, **common)
    heads["axes"] = box_axes(0.0 * active, vector(0 * active + 0.28, 0.2, 0.28))
    return np.concatenate([poles, heads], 1)


def clutter(draws: Draws, place: Array, active: Array, instance: Array) -> Array:
    """Return crates, balls, bins and cones (scenes, n) of no class of their own."""
    scenes, count = active.shape
    size = draws.uniform(0.18, 0.5, count)
    form = draws.uniform(0, 4, count).astype(int)
    tall = np.choose(form, (0.9, 1.0, 0.8, 1.3)) * size
    made = solids(scenes, count, category=BACKGROUND, instance=instance, active=active, heat=0.3)
    made["kind"] = np.where((form == 1) | (form == 2), CAPSULE, BOX)
    made["shape"] = np.choose(form, (0.0, 0.0, 0.7, 0.95))
    made["axes"] = box_axes(draws.uniform(-1.5, 1.5, count), np.stack([size, tall, size], -1))
    extent = np.where(form == 2, tall * 1.7, tall)
    made["centre"] = place - vector(0 * size, np.where(form == 2, 0.6 * extent, extent), 0)
    made["colour"] = draws.colours((0, 1), (0.2, 1), (0.15, 0.95), count)
    made["second"] = draws.colours((0, 1), (0, 0.8), (0.15, 0.95), count)
    made["texture"] = draws.choose(np.array([PLAIN, STRIPES, BRICKS, CHECKS, SPOTS]), count)
    made["scale"] = draws.uniform(2, 6, count)[..., None]
    return made
