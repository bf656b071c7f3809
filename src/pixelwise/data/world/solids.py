"""Everything that stands in the world is one of three solids, each the affine image of a simple one.

A solid maps world points to its own space, where a box is [-1, 1]^3 (tapering towards its top) and a capsule has radius 1
around a piece of the y axis. Affine maps keep the parameter of a ray, so for rays (x, y, 1) it is the depth in metres.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

BOX, CAPSULE, LEAFY = range(3)
"""Kinds of solid. LEAFY is a capsule with a ragged surface."""

NEAR = 0.3
"""Nothing nearer than this is seen, metres."""

SOLID = np.dtype(
    [
        ("active", "?"),
        ("kind", "u1"),
        ("centre", "f4", 3),
        ("axes", "f4", (3, 3)),  # rows: the half axes in the world, metres, orthogonal
        ("shape", "f4"),  # box: taper, 1 is a pyramid; capsule: half length of its axis in radii
        ("category", "u1"),
        ("instance", "i2"),
        ("texture", "u1"),
        ("scale", "f4", 2),  # texture cells per metre; windows: share of the facade cell
        ("colour", "f4", 3),
        ("second", "f4", 3),
        ("heat", "f4"),
    ]
)


def solids(scenes: int, count: int, **values: Any) -> Array:
    """Return `count` active solids (scenes, count) of dtype SOLID with the given fields, broadcast where needed."""
    made = np.zeros((scenes, count), SOLID)
    made["active"] = True
    for name, value in values.items():
        made[name] = value
    return made


def vector(x: Any, y: Any, z: Any) -> Array:
    """Stack three broadcastable arrays on a new last axis: (..., 3) float32."""
    return np.stack(np.broadcast_arrays(x, y, z), -1).astype(np.float32)


def turned(yaw: Array) -> Array:
    """Return the axes (..., 3, 3) of a frame turned by `yaw` radians about the vertical; row 2 is (-sin, 0, cos)."""
    sine, cosine, zero = np.sin(yaw), np.cos(yaw), np.zeros_like(yaw)
    return np.stack([vector(cosine, zero, sine), vector(zero, zero + 1, zero), vector(-sine, zero, cosine)], -2)


def box_axes(yaw: Array, half: Array) -> Array:
    """Return the half axes (..., 3, 3) of a box with half sizes `half` (..., 3) turned by `yaw`."""
    return np.asarray(turned(yaw) * half[..., :, None], np.float32)


def between(start: Array, end: Array, radius: Array, across: Array, flat: float = 1.0) -> dict[str, Array]:
    """Return the fields of a capsule from `start` to `end` (..., 3), radius (...) along `across`, `flat` times it beside.

    `across` (..., 3) needs only be independent of the axis.
    """
    along = end - start
    length = np.maximum(np.linalg.norm(along, axis=-1, keepdims=True), 1e-4)
    y = along / length
    x = across - (across * y).sum(-1, keepdims=True) * y
    x = x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-4)
    z = np.cross(x, y)
    radius = np.asarray(radius)[..., None]
    axes = np.stack([x * radius, y * radius * flat, z * radius * flat], -2)
    return {"centre": (start + end) / 2, "axes": axes, "shape": (length / 2 / (radius * flat))[..., 0]}


def inverse_axes(solid: Array) -> Array:
    """Return the matrices (n, 3, 3) that map world vectors to the solids' own spaces."""
    axes = solid["axes"]
    return np.asarray(axes / (axes * axes).sum(-1, keepdims=True), np.float32)


def extents(solid: Array) -> Array:
    """Return the eight corners (n, 8, 3) of a box around each solid, in the world."""
    signs = np.stack(np.meshgrid(*[[-1.0, 1.0]] * 3, indexing="ij"), -1).reshape(8, 3).astype(np.float32)
    half = solid["axes"].copy()
    half[:, 1] *= np.where(solid["kind"] == BOX, 1, 1 + solid["shape"])[:, None]
    return np.asarray(solid["centre"][:, None] + np.einsum("ki,nij->nkj", signs, half), np.float32)


def box_hit(origin: Array, direction: Array, taper: Array | None = None) -> Array:
    """Return where rays enter boxes, in units of the ray; inf where they miss.

    Args:
        origin: (3, ...) start of each ray in the box's space.
        direction: (3, ...).
        taper: (...), the half width is 1 - taper * (1 - y) / 2; without it 1, which is quicker.
    """
    (ox, oy, oz), (dx, dy, dz) = origin, direction
    slabs = [_slab(oy, dy)]
    if taper is None:
        slabs += [_slab(ox, dx), _slab(oz, dz)]
    else:
        o, d = taper * (1 - oy) * np.float32(0.5) - 1, taper * dy * np.float32(-0.5)
        slabs += [_half_space(o + s * p, d + s * v) for p, v in ((ox, dx), (oz, dz)) for s in (1, -1)]
    enter, leave = (np.asarray(part) for part in slabs[0])
    for low, high in slabs[1:]:
        enter, leave = np.maximum(enter, low), np.minimum(leave, high)
    return np.where((enter < leave) & (enter > NEAR), enter, np.float32(np.inf))


def _slab(origin: Array, direction: Array) -> tuple[Array, Array]:
    """Return where rays are within [-1, 1]."""
    pace = 1 / np.where(direction == 0, np.float32(1e-12), direction)
    middle, half = -origin * pace, np.abs(pace)
    return middle - half, middle + half


def _half_space(origin: Array, direction: Array) -> tuple[Array, Array]:
    """Return where rays are below 0."""
    crossing = -origin / np.where(direction == 0, np.float32(1e-12), direction)
    inward = direction < 0
    return np.where(inward, crossing, np.float32(-np.inf)), np.where(inward, np.float32(np.inf), crossing)


def capsule_hit(origin: Array, direction: Array, length: Array, radius2: Array | float = 1.0) -> Array:
    """Return where rays enter capsules, in units of the ray; inf where they miss.

    The point nearest to the axis is found first and the half chord from there: no cancellation for far, thin limbs.

    Args:
        origin: (3, ...) start of each ray in the capsule's space.
        direction: (3, ...).
        length: (...), half length of the axis.
        radius2: squared radius, at most 1.
    """
    (ox, oy, oz), (dx, dy, dz) = origin, direction
    flat = dx * dx + dz * dz + np.float32(1e-12)
    nearest = -(ox * dx + oz * dz) / flat
    px, pz = ox + nearest * dx, oz + nearest * dz
    chord = radius2 - px * px - pz * pz
    side = nearest - np.sqrt(np.maximum(chord, 0) / flat)
    y = oy + side * dy
    oy = oy - np.clip(y, -length, length)
    whole = flat + dy * dy
    middle = -(ox * dx + oy * dy + oz * dz) / whole
    px, py, pz = ox + middle * dx, oy + middle * dy, oz + middle * dz
    cap_chord = radius2 - px * px - py * py - pz * pz
    cap = middle - np.sqrt(np.maximum(cap_chord, 0) / whole)
    on_side = np.abs(y) <= length
    hit = (chord > 0) & (on_side | (cap_chord > 0))
    distance = np.where(on_side, side, cap)
    return np.where(hit & (distance > NEAR), distance, np.float32(np.inf))
