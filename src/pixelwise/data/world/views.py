"""The other pictures and maps of a scene: pen lines, the thermal palette, borders, and what the annotators left out."""

from __future__ import annotations

import numpy as np

from pixelwise.data.world.objects import GROUND, ROAD, TREE
from pixelwise.data.world.scene import Scene
from pixelwise.data.world.shading import tent
from pixelwise.data.world.solids import BOX, Array
from pixelwise.data.world.surface import Surface
from pixelwise.geometry.unknown import UNKNOWN

_FOLD = 0.8


def sensor(radiance: Array, noise: float, rng: np.random.Generator) -> Array:
    """Turn linear light (3, H, W) into a picture uint8: a soft shoulder, gamma 2, and noise."""
    tone = np.sqrt(np.maximum(radiance, 0))
    over = np.maximum(tone - 0.8, 0)
    tone = np.minimum(tone, 0.8) + over / (1 + 5 * over) + noise * rng.standard_normal(radiance.shape, np.float32)
    return np.asarray(np.clip(tone * 255 + 0.5, 0, 255).astype(np.uint8))


_IRON = np.array(
    [[0, 0, 10], [32, 0, 90], [110, 5, 140], [185, 30, 110], [230, 85, 30], [250, 160, 10], [255, 225, 90], [255, 255, 235]],
    np.float32,
)


def thermal_palette(warmth: Array) -> Array:
    """Paint warmth (H, W) in [0, 1] from black over purple and orange to white: uint8 (3, H, W)."""
    stops = np.linspace(0, 1, len(_IRON))
    table = np.stack([np.interp(np.linspace(0, 1, 1024), stops, _IRON[:, c]) for c in range(3)]) + 0.5
    return np.asarray(table.astype(np.uint8)[:, (np.clip(warmth, 0, 1) * 1023).astype(np.int32)])


def _differs(values: Array) -> tuple[Array, Array]:
    """Return where values (..., H, W) differ from the next column (..., H, W-1) and the next row (..., H-1, W)."""
    return values[..., 1:] != values[..., :-1], values[..., 1:, :] != values[..., :-1, :]


def _both_sides(across: Array, down: Array) -> Array:
    """Return the cells (H, W) on either side of the marked steps across (H, W-1) and down (H-1, W)."""
    made = np.zeros((across.shape[0], down.shape[1]), bool)
    made[:, 1:] |= across
    made[:, :-1] |= across
    made[1:] |= down
    made[:-1] |= down
    return made


def borders(labels: Array, instances: Array) -> Array:
    """Return the pixels (H, W) bool with a neighbour above, below, left or right of another class or instance."""
    by_class, by_instance = _differs(labels), _differs(instances)
    return _both_sides(by_class[0] | by_instance[0], by_class[1] | by_instance[1])


def void(labels: Array, instances: Array, sloppy: Array, unknown: float) -> Array:
    """Return the labels with the regions that were left out set to UNKNOWN.

    Args:
        labels: (H, W) uint8.
        instances: (H, W) int16.
        sloppy: (64,) a number in [0, 1) per instance; below `unknown` / 2 the object is left out, below `unknown` its border.
        unknown: Share of the objects.
    """
    made = labels.copy()
    for instance in np.flatnonzero(sloppy[: instances.max() + 1] < unknown):
        own = instances == instance
        if instance == 0:
            continue
        if sloppy[instance] < unknown / 2:
            made[own] = UNKNOWN
        else:
            band = _both_sides(*_differs(own))
            for _ in range(len(labels) // 256):
                band = _both_sides(*_differs(band)) | band
            made[band] = UNKNOWN
    return made


def pen(scene: Scene, surface: Surface) -> Array:
    """Draw outlines, folds and class borders in black on white: uint8 (3, H, W)."""
    category, instance = surface.picture(surface.category), surface.picture(surface.instance)
    solid, normal = surface.picture(surface.solid), surface.picture(surface.normal)
    depth = surface.picture(np.minimum(surface.depth, 1000))
    box = np.append(scene.solids["kind"] == BOX, [False] * 3)[solid]
    quiet = (category == TREE) | (category == GROUND) | (category == ROAD)
    steps = []
    for axis in (1, 0):
        first, second = [slice(None)] * 2, [slice(None)] * 2
        first[axis], second[axis] = slice(None, -1), slice(1, None)
        a, b = tuple(first), tuple(second)
        fold = box[a] & box[b] & ((normal[:, *a] * normal[:, *b]).sum(0) < _FOLD)
        gap = np.abs(depth[a] - depth[b]) > 0.1 + 0.02 * np.minimum(depth[a], depth[b])
        inner = (fold | gap & (solid[a] != solid[b])) & ~(quiet[a] & quiet[b])
        steps.append((category[a] != category[b]) | (instance[a] != instance[b]) | inner)
    ink = _both_sides(*steps)
    for _ in range(len(ink) // 1024):
        ink = _both_sides(*_differs(ink)) | ink
    grey = np.clip(255 * (1 - 1.3 * tent(ink.astype(np.float32))) + 0.5, 0, 255).astype(np.uint8)
    return np.repeat(grey[None], 3, 0)
