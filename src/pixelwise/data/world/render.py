"""From a scene to pictures and their exact answers, all from the same rays.

The pictures are filtered from rays at pixel centres, borders and corners; the answers are the rays at the centres.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from pixelwise.data.world import answers, shading
from pixelwise.data.world.raster import Rays
from pixelwise.data.world.scene import Scene
from pixelwise.data.world.solids import BOX, LEAFY, Array, box_hit, capsule_hit, inverse_axes
from pixelwise.data.world.surface import Surface, see
from pixelwise.data.world.views import borders, pen, sensor, thermal_palette, void
from pixelwise.geometry.presence import Presence

PICTURES = ("image", "edges", "night", "thermal")
MAPS = ("labels", "instances", "depth", "normals", "boundaries", "masks")
SEEN = ("crowd", "shows")


def rays(scene: Scene, size: tuple[int, int], step: int) -> Rays:
    """Return the rays of a picture: `step` 1 has pixel centres only, 2 also what lies half way between, borders included."""
    height, width = size
    x, y = (np.arange(n) + 0.5 if step == 1 else np.arange(2 * n + 1) / 2 for n in (width, height))
    look = scene.look
    scale = look["focal"] * height
    slope_x, slope_y = (x - width / 2) / scale, (y - look["horizon"] * height) / scale
    return Rays(slope_x.astype(np.float32), slope_y.astype(np.float32), float(look["height"]))


def project(scene: Scene, points: Array, size: tuple[int, int]) -> Array:
    """Return where points (..., 3) of the world lie in the picture, pixels (..., 2) (x, y)."""
    look, (height, width) = scene.look, size
    scale = look["focal"] * height
    x = points[..., 0] / points[..., 2] * scale + width / 2
    y = (points[..., 1] + look["height"]) / points[..., 2] * scale + look["horizon"] * height
    return np.stack([x, y], -1).astype(np.float32)


def render(
    scene: Scene,
    size: tuple[int, int],
    fields: Iterable[str],
    unknown: float,
    noise: Callable[[str], np.random.Generator],
) -> dict[str, Array]:
    """Return the asked fields of one scene.

    Args:
        scene: The scene.
        size: Height and width in pixels.
        fields: Any of PICTURES (uint8 (3, H, W)), MAPS and SEEN (what `answers` says of the true maps).
        unknown: Share of the objects that are left unlabelled or whose border is void.
        noise: Random numbers of the sensor that takes the picture of this name.
    """
    wanted = set(fields)
    made: dict[str, Array] = {}
    step = 2 if wanted & set(PICTURES) else 1
    surface = see(scene, rays(scene, size, step))
    if wanted & {"image", "night", "thermal"}:
        light = shading.sunlit(scene, surface, rays(scene, size, 1))
        colour = shading.albedo(scene, surface)
    if "image" in wanted:
        radiance = surface.picture(shading.day(scene, surface, colour, light))
        made["image"] = sensor(shading.tent(radiance), scene.look["noise"], noise("image"))
    if "night" in wanted:
        radiance = surface.picture(shading.night(scene, surface, colour))
        made["night"] = sensor(shading.tent(radiance), 0.6 * scene.look["noise"] + 0.012, noise("night"))
    if "thermal" in wanted:
        warmth = shading.tent(surface.picture(shading.temperature(scene, surface, light)))
        made["thermal"] = thermal_palette(warmth + 0.012 * noise("thermal").standard_normal(warmth.shape, np.float32))
    if "edges" in wanted:
        made["edges"] = pen(scene, surface)
    made.update(_maps(scene, surface, step, wanted, unknown))
    return made


def _maps(scene: Scene, surface: Surface, step: int, wanted: set[str], unknown: float) -> dict[str, Array]:
    def centres(values: Array) -> Array:
        picture = surface.picture(values)
        return np.ascontiguousarray(picture[..., 1::2, 1::2] if step == 2 else picture)

    made: dict[str, Array] = {}
    labels, instances = centres(surface.category), centres(surface.instance)
    if "crowd" in wanted:
        made["crowd"] = answers.crowd(labels, instances)
    if "shows" in wanted:
        made["shows"] = answers.shows(labels)
    if wanted & {"labels", "masks"}:
        made["labels"] = void(labels, instances, scene.sloppy, unknown)
    if "masks" in wanted:
        made["masks"] = answers.masks(made["labels"], centres(surface.depth))
    if "instances" in wanted:
        made["instances"] = instances
    if "boundaries" in wanted:
        made["boundaries"] = borders(labels, instances)
    if "depth" in wanted:
        depth = centres(surface.depth)
        made["depth"] = np.where(np.isfinite(depth), depth, np.float32(np.nan))
    if "normals" in wanted:
        normals = centres(surface.normal)
        made["normals"] = np.where(np.abs(normals).any(0), normals, np.float32(np.nan))
    return made


def keypoints(scene: Scene, size: tuple[int, int]) -> tuple[Array, Array]:
    """Return the key points (N, 14, 2) of all people, the nearest first, and their presence (N, 14) by true occlusion.

    A joint lies inside its limb. It is VISIBLE if the first thing its ray meets is its own person, no further before the joint
    than the joint lies under the skin; HIDDEN if anything else is in the way; ABSENT outside the picture.
    """
    points = project(scene, scene.joints, size)
    target = scene.joints.reshape(-1, 3).copy()
    target[:, 1] += scene.look["height"]
    depth, solid = _first(scene, (target / target[:, 2:]).T.astype(np.float32))
    owner = np.where(solid >= 0, scene.solids["instance"][solid], 0).reshape(points.shape[:2])
    under = scene.joints[..., 2] - depth.reshape(points.shape[:2])
    visible = (owner == scene.instances[:, None]) & (under <= scene.reach)
    presence = np.where(visible, Presence.VISIBLE, Presence.HIDDEN)
    inside = ((points >= 0) & (points < np.array(size[::-1]))).all(-1)
    return points, np.where(inside, presence, Presence.ABSENT).astype(np.uint8)


def _first(scene: Scene, directions: Array) -> tuple[Array, Array]:
    """Return the depth and index of the first solid on each ray (3, n)."""
    solid = scene.solids
    inverse = inverse_axes(solid)
    camera = np.array([0, -scene.look["height"], 0], np.float32)
    origin = np.einsum("nij,nj->in", inverse, camera - solid["centre"])[:, None]
    direction = np.einsum("nij,jr->irn", inverse, directions)
    box = solid["kind"] == BOX
    depth = np.full(direction.shape[1:], np.inf, np.float32)
    shape = solid["shape"]
    depth[:, box] = box_hit(origin[..., box], direction[..., box], shape[box])
    # the leaves' edges are drawn ragged: what lies behind them counts as hidden by the middle of the crown
    radius2 = np.where(solid["kind"] == LEAFY, np.float32(0.65), np.float32(1))
    depth[:, ~box] = capsule_hit(origin[..., ~box], direction[..., ~box], shape[~box], radius2[~box])
    nearest = depth.argmin(1)
    return np.take_along_axis(depth, nearest[:, None], 1)[:, 0], nearest
