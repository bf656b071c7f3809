"""What each ray sees: which surface, how far away, facing where, of which class, and where on that surface it landed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pixelwise.data.world.noise import smooth_noise
from pixelwise.data.world.objects import BACKGROUND, BRICK_FACADE, FACADE, GROUND, ROAD, SKY, WINDOW
from pixelwise.data.world.raster import Rays, cast
from pixelwise.data.world.scene import Scene
from pixelwise.data.world.solids import BOX, Array, inverse_axes

ON_GROUND, ON_HILLS, IN_SKY = -1, -2, -3
"""Index of the solid where there is none."""

STOREY = 3.0
"""Size of a facade's cell, metres."""


@dataclass(frozen=True)
class Surface:
    """What the rays of one scene see; every array ends in (rays,)."""

    rays: Rays
    depth: Array
    """Metres; inf in the sky."""
    solid: Array
    """Index of the solid, or ON_GROUND, ON_HILLS, IN_SKY."""
    category: Array
    instance: Array
    normal: Array
    """(3, rays), unit length, towards the camera; zero in the sky."""
    local: Array
    """(3, rays): the point in the solid's own space; on the ground: lateral and along the road in metres."""
    face: Array
    """Which axis of a box the point's face is across; 1 on the ground, 3 on capsules."""
    cell: Array
    """(2, rays): the column and storey of a facade, fractional; zero elsewhere."""

    def picture(self, values: Array) -> Array:
        """Return values (..., rays) as (..., rows, columns)."""
        return values.reshape(*values.shape[:-1], len(self.rays.y), len(self.rays.x))


def see(scene: Scene, rays: Rays) -> Surface:
    """Return what the rays see of the scene."""
    x, y = rays.grid
    depth, solid = cast(scene.solids, rays)
    backdrop, behind = _backdrop(scene, rays)
    solid = np.where(depth < backdrop, solid, behind)
    depth = np.minimum(depth, backdrop)
    hit = np.flatnonzero(solid >= 0)
    count = len(depth)
    normal, local = np.zeros((3, count), np.float32), np.zeros((3, count), np.float32)
    face, cell = np.ones(count, np.int8), np.zeros((2, count), np.float32)
    ground = np.flatnonzero(solid == ON_GROUND)
    normal[1, ground] = -1
    normal[2, solid == ON_HILLS] = -1
    local[0, ground], local[1, ground] = _along_road(scene, x[ground] * depth[ground], depth[ground])
    normals, points, face[hit] = _on_solids(scene, solid[hit], x[hit], y[hit], depth[hit], rays.height)
    for axis in range(3):
        normal[axis, hit], local[axis, hit] = normals[axis], points[axis]
    category, instance = np.full(count, BACKGROUND, np.uint8), np.zeros(count, np.int16)
    category[hit], instance[hit] = scene.solids["category"][solid[hit]], scene.solids["instance"][solid[hit]]
    category[solid == IN_SKY] = SKY
    on_road = (np.abs(local[0, ground]) < scene.look["road"][3]) & bool(scene.look["road_style"])
    category[ground] = np.where(on_road, np.uint8(ROAD), np.uint8(GROUND))
    _windows(scene, hit, solid[hit], local, face, cell, category)
    return Surface(rays, depth, solid, category, instance, normal, local, face, cell)


def _backdrop(scene: Scene, rays: Rays) -> tuple[Array, Array]:
    """Return the depth (rays,) and the code (rays,) of ground, hills or sky."""
    far, tall, rate = scene.look["hills"]
    place = rays.x * far * rate + scene.look["salt"]
    ridge = (rays.height - tall * smooth_noise(place, 0 * place)) / far
    below = rays.y > rays.height / far
    depth = np.where(below, rays.height / np.maximum(rays.y, np.float32(1e-4)), far).astype(np.float32)[:, None]
    code = np.where(below, ON_GROUND, ON_HILLS)[:, None]
    solid = below[:, None] | (rays.y[:, None] > ridge)
    return np.where(solid, depth, np.float32(np.inf)).ravel(), np.where(solid, code, IN_SKY).ravel()


def _along_road(scene: Scene, x: Array, z: Array) -> tuple[Array, Array]:
    x0, cosine, sine, _ = scene.look["road"]
    return (x - x0) * cosine - z * sine, (x - x0) * sine + z * cosine


def _on_solids(scene: Scene, solid: Array, x: Array, y: Array, depth: Array, height: float) -> tuple[Array, Array, Array]:
    """Return the normals (3, n), the points in the solids' own spaces (3, n) and the faces (n,)."""
    inverse = inverse_axes(scene.solids)
    origin = np.einsum("nij,nj->in", inverse, np.array([0, -height, 0], np.float32) - scene.solids["centre"])
    matrix = np.take(np.ascontiguousarray(inverse.transpose(1, 2, 0)), solid, 2)
    p = np.take(np.ascontiguousarray(origin), solid, 1) + depth * (matrix[:, 0] * x + matrix[:, 1] * y + matrix[:, 2])
    shape = scene.solids["shape"][solid]
    box = scene.solids["kind"][solid] == BOX
    inner, face = p.copy(), np.full(len(solid), 3, np.int8)
    at = np.flatnonzero(box)
    inner[:, at], face[at] = _box_normal(p[:, at], shape[at])
    at = np.flatnonzero(~box)
    inner[1, at] -= np.clip(p[1, at], -shape[at], shape[at])
    normal = inner[0] * matrix[0] + inner[1] * matrix[1] + inner[2] * matrix[2]
    normal /= np.sqrt(normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2)
    return normal, p, face


def _box_normal(p: Array, taper: Array) -> tuple[Array, Array]:
    """Return the normals (3, n) of points on tapered boxes, in the boxes' space, and the axis (n,) they are across."""
    lean = taper * np.float32(0.5)
    x, y, z = np.abs(p)
    slope = lean * (1 - p[1])
    face = np.where(y > np.maximum(x, z) + slope, 1, np.where(x > z, 0, 2)).astype(np.int8)
    sign = np.sign(p)
    made = np.stack([sign[0] * (face == 0), np.where(face == 1, sign[1], -lean), sign[2] * (face == 2)])
    return made, face


def _windows(scene: Scene, hit: Array, solid: Array, local: Array, face: Array, cell: Array, category: Array) -> None:
    """Cut the windows into the facades: fill in their cells and class."""
    facade = np.isin(scene.solids["texture"], (FACADE, BRICK_FACADE))
    chosen = np.flatnonzero(facade[solid] & (face[hit] != 1))
    of, at = solid[chosen], hit[chosen]
    size = 2 * np.linalg.norm(scene.solids["axes"], axis=-1)
    count = np.maximum(np.rint(size / STOREY), 1)
    gable = face[at] == 0
    cell[0, at] = (np.where(gable, local[2, at], local[0, at]) + 1) / 2 * np.where(gable, count[of, 2], count[of, 0])
    cell[1, at] = (local[1, at] + 1) / 2 * count[of, 1]
    half = scene.solids["scale"][of] / 2
    inside = (np.abs(cell[0, at] % 1 - 0.5) < half[:, 0]) & (np.abs(cell[1, at] % 1 - np.float32(0.46)) < half[:, 1])
    category[at[inside]] = WINDOW
