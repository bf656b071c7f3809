"""Articulated people: fourteen joints, put where the pose says, and the limbs that are drawn between exactly these points."""

from __future__ import annotations

import numpy as np

from pixelwise.data.world.draws import Draws
from pixelwise.data.world.solids import CAPSULE, Array, between, solids, vector
from pixelwise.geometry.skeleton import Skeleton

BODY = Skeleton(
    names=(
        "head",
        "neck",
        *(f"{side}_{joint}" for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle") for side in ("left", "right")),
    ),
    limbs=((0, 1), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7), (1, 8), (1, 9), (8, 10), (9, 11), (10, 12), (11, 13)),
    swap=(0, 1, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12),
    sigmas=(0.035, 0.079, *(sigma for sigma in (0.079, 0.072, 0.062, 0.107, 0.087, 0.089) for _ in range(2))),
)
"""Left is the person's own left. Sigmas are COCO's; the head has that of the ears, the neck that of the shoulders."""

_REACH = (0.11, 0.09, 0.085, 0.085, 0.06, 0.06, 0.06, 0.06, 0.105, 0.105, 0.08, 0.08, 0.07, 0.07)
"""How deep under the skin each joint lies at most, in statures; what covers it from further away hides it."""

# degrees, left then right: thigh forward, knee, arm forward, arm sideways, elbow; leg sideways, lean forward
_POSES = np.array(
    [
        [0, 0, 5, 5, 0, 0, 9, 9, 10, 10, 4, 0],  # standing
        [24, -22, 6, 26, -24, 26, 8, 8, 18, 22, 2, 3],  # walking
        [-22, 24, 26, 6, 26, -24, 8, 8, 22, 18, 2, 3],
        [52, -34, 30, 75, -48, 46, 8, 8, 85, 80, 2, 14],  # running
        [-34, 52, 75, 30, 46, -48, 8, 8, 80, 85, 2, 14],
        [0, 0, 5, 5, 10, 0, 148, 10, 25, 14, 6, 0],  # waving
        [0, 0, 5, 5, 0, 10, 10, 148, 14, 25, 6, 0],
        [4, 4, 8, 8, 0, 0, 142, 142, 15, 15, 16, -4],  # cheering
        [0, 0, 4, 4, 0, 0, 92, 92, 8, 8, 24, 0],  # star
        [82, 70, 92, 84, 40, 30, 12, 12, 50, 45, 8, 24],  # crouching
        [0, 4, 5, 5, 85, 0, 6, 10, 8, 10, 5, 0],  # pointing
        [4, 0, 5, 5, 0, 85, 10, 6, 10, 8, 5, 0],
        [4, -4, 6, 6, -16, -16, 34, 34, 95, 95, 8, 0],  # hands on the hips
    ],
    np.float32,
)

SKIN, SHIRT, TROUSERS, SHOES = range(4)

# from joint, to joint (or name of an extra point), radius across and flatness, what it wears
_LIMBS = (
    ("chest", "pelvis", 0.1, 0.62, SHIRT),
    ("left_shoulder", "right_shoulder", 0.05, 1.0, SHIRT),
    ("left_hip", "right_hip", 0.068, 1.0, TROUSERS),
    ("neck", "head", 0.034, 1.0, SKIN),
    ("crown", "chin", 0.066, 1.0, SKIN),
    ("left_shoulder", "left_elbow", 0.037, 1.0, SHIRT),
    ("right_shoulder", "right_elbow", 0.037, 1.0, SHIRT),
    ("left_elbow", "left_wrist", 0.03, 1.0, SKIN),
    ("right_elbow", "right_wrist", 0.03, 1.0, SKIN),
    ("left_wrist", "left_hand", 0.031, 0.8, SKIN),
    ("right_wrist", "right_hand", 0.031, 0.8, SKIN),
    ("left_hip", "left_knee", 0.052, 1.0, TROUSERS),
    ("right_hip", "right_knee", 0.052, 1.0, TROUSERS),
    ("left_knee", "left_ankle", 0.04, 1.0, TROUSERS),
    ("right_knee", "right_ankle", 0.04, 1.0, TROUSERS),
    ("left_heel", "left_toe", 0.034, 1.0, SHOES),
    ("right_heel", "right_toe", 0.034, 1.0, SHOES),
)
HEAD = 4
"""Which limb is the head."""


def posed(draws: Draws, feet: Array, stature: Array, yaw: Array) -> dict[str, Array]:
    """Draw a pose for each person and return every named point (scenes, people, 3), the lowest foot on the ground.

    Args:
        draws: Random numbers.
        feet: (scenes, people, 3) where they stand.
        stature: (scenes, people) metres.
        yaw: (scenes, people) radians; 0 faces the camera, positive turns to the right of the picture.
    """
    people = yaw.shape[1]
    pose = draws.choose(_POSES, people) + draws.uniform(-9, 9, people, 12)
    pose = np.radians(pose) * np.where(draws.chance(0.5, people), 1, 0.8)[..., None]
    forward = vector(np.sin(yaw), 0, -np.cos(yaw))
    left = vector(np.cos(yaw), 0, np.sin(yaw))
    down = vector(np.zeros_like(yaw), 1, 0)

    def bone(length: float, swing: Array, spread: Array, side: int) -> Array:
        """Return a bone that hangs down, swung forward and spread to its own side."""
        hanging = np.cos(swing)[..., None] * down + np.sin(swing)[..., None] * forward
        return np.asarray(length * (np.cos(spread)[..., None] * hanging + side * np.sin(spread)[..., None] * left))

    lean, tilt = pose[..., 11], draws.uniform(-0.1, 0.1, people)
    spine = -bone(1.0, -lean, tilt, 1)
    points = {"pelvis": np.zeros_like(forward)}
    points["neck"] = 0.30 * spine
    points["chest"] = 0.24 * spine
    points["head"] = points["neck"] + 0.105 * (spine + draws.uniform(-0.1, 0.3, people)[..., None] * forward)
    points["crown"] = points["head"] + 0.016 * spine
    points["chin"] = points["head"] - 0.016 * spine
    for number, (name, side) in enumerate((("left", 1), ("right", -1))):
        thigh, knee, arm, spread, elbow = (pose[..., 2 * k + number] for k in range(5))
        outward = pose[..., 10]
        points[f"{name}_shoulder"] = points["neck"] - 0.035 * spine + side * 0.108 * left
        points[f"{name}_elbow"] = points[f"{name}_shoulder"] + bone(0.165, arm, spread, side)
        raised = np.where(spread > 1.2, elbow, 0)
        points[f"{name}_wrist"] = points[f"{name}_elbow"] + bone(0.14, arm + elbow - raised, spread + raised, side)
        points[f"{name}_hand"] = points[f"{name}_wrist"] + bone(0.035, arm + elbow - raised, spread + raised, side)
        points[f"{name}_hip"] = points["pelvis"] + side * 0.058 * left
        points[f"{name}_knee"] = points[f"{name}_hip"] + bone(0.245, thigh, outward, side)
        points[f"{name}_ankle"] = points[f"{name}_knee"] + bone(0.235, thigh - knee, outward, side)
        points[f"{name}_heel"] = points[f"{name}_ankle"] + 0.012 * down - 0.005 * forward
        points[f"{name}_toe"] = points[f"{name}_heel"] + 0.085 * forward + side * 0.02 * left
    lowest = np.maximum(points["left_heel"][..., 1], points["right_heel"][..., 1]) + 0.034
    lift = vector(np.zeros_like(yaw), -lowest, 0)
    return {name: feet + (point + lift) * stature[..., None] for name, point in points.items()}


def joints(points: dict[str, Array]) -> Array:
    """Return the key points in the world (scenes, people, 14, 3) in the order of BODY."""
    return np.stack([points[name] for name in BODY.names], -2)


def reach(stature: Array) -> Array:
    """Return how deep each joint lies under the skin at most, metres (..., 14)."""
    return np.asarray(stature[..., None] * np.array(_REACH, np.float32))


def limbs(points: dict[str, Array], stature: Array, yaw: Array, clothes: Array, **values: Array) -> Array:
    """Return the solids (scenes, people * 17) of the people.

    Args:
        points: From `posed`.
        stature: (scenes, people) metres.
        yaw: (scenes, people) radians.
        clothes: (scenes, people, 4, 3) colours of skin, shirt, trousers and shoes.
        values: Further fields, (scenes, people, ...) each.
    """
    left = vector(np.cos(yaw), 0, np.sin(yaw))
    forward = vector(np.sin(yaw), 0, -np.cos(yaw))
    scenes, people = yaw.shape
    made = []
    for start, end, radius, flat, wear in _LIMBS:
        across = forward if (start, end) in (("left_shoulder", "right_shoulder"), ("left_hip", "right_hip")) else left
        fields = between(points[start], points[end], radius * stature, across, flat)
        made.append(solids(scenes, people, kind=CAPSULE, colour=clothes[:, :, wear], **fields, **values))
    return np.stack(made, 2)
