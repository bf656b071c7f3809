"""What is asked about a picture of the world beside its exact maps: how many people, what is there, how far, which parts."""

from __future__ import annotations

import numpy as np

from pixelwise.data.world.objects import CLASSES, PERSON
from pixelwise.data.world.scene import Scene
from pixelwise.data.world.solids import Array
from pixelwise.geometry.unknown import UNKNOWN

CROWD = ("nobody", "one person", "several people")
SHOWS = ("road", "building", "tree", "car", "person", "animal", "sign")
DISTANCE = (3.8, 0.7)
"""Mean and standard deviation of the nearest person's distance, metres."""

ALIVE = ("tree", "person", "animal")
MOVABLE = ("car", "person", "animal")
MASKS = ("alive", "movable", "near")
NEAR = (8.0, 10.0)
"""Metres: up to the first a thing is near, beyond the second it is not; in between it depends on whom one asks."""

SURE, TRACE = 0.005, 0.001
"""Shares of the picture: from the first on a thing is there, up to the second it is not; in between nobody could say."""


def crowd(classes: Array, instances: Array) -> Array:
    """Return how many people there are, as int64 () index of CROWD; -1 if it hangs on someone who can hardly be seen.

    Args:
        classes: (H, W) true class of every pixel.
        instances: (H, W) number of its object.
    """
    shares = np.bincount(instances[classes == PERSON]) / classes.size
    fewest, most = (min(int((shares > least).sum()), 2) for least in (SURE, TRACE))
    return np.array(fewest if fewest == most else -1)


def shows(classes: Array) -> Array:
    """Return which of SHOWS are there, float32 (7,): 1, 0, or NaN where it can hardly be seen.

    Args:
        classes: (H, W) true class of every pixel.
    """
    shares = np.bincount(classes.ravel(), minlength=len(CLASSES))[[CLASSES.index(name) for name in SHOWS]] / classes.size
    return np.where(shares > SURE, 1, np.where(shares > TRACE, np.nan, 0)).astype(np.float32)


def distance(scene: Scene) -> Array:
    """Return how far the nearest person is along the camera's axis, metres, float32 (1,); NaN if there is nobody."""
    return np.array([min(scene.joints[..., 2].mean(1), default=np.nan)], np.float32)


def masks(labels: Array, depth: Array) -> Array:
    """Return MASKS, which overlap, uint8 (3, H, W): 1, 0, or 255 where unknown, for each mask where it is its own.

    Args:
        labels: (H, W) class of every pixel; UNKNOWN where nobody labelled it.
        depth: (H, W) metres; infinite in the sky.
    """
    chosen = [np.isin(labels, [CLASSES.index(name) for name in names]) for names in (ALIVE, MOVABLE)]
    of_classes = [np.where(labels == UNKNOWN, UNKNOWN, mask) for mask in chosen]
    near = np.where(depth <= NEAR[0], 1, np.where(depth > NEAR[1], 0, UNKNOWN))
    return np.stack([*of_classes, near]).astype(np.uint8)
