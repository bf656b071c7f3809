"""Points in space with their colours: written as PLY, and looked at from one side after the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image as PillowImage
from torch import Tensor

from pixelwise.geometry.camera import Intrinsics
from pixelwise.geometry.homography import Size
from pixelwise.prediction import to_pillow

TURNS = (-30.0, -15.0, 0.0, 15.0, 30.0)
"""Degrees from which a cloud is shown; positive turns the camera to the right of the scene."""
PAPER = 255
MOST_DRAWN = 2**19


def write_ply(path: Path, points: Tensor, colours: Tensor) -> None:
    """Write a binary PLY file that point cloud viewers read.

    Args:
        path: Where to.
        points: float `(N, 3)`, metres; x right, y down, z forward.
        colours: uint8 `(N, 3)`, RGB.
    """
    record = np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)])
    vertices = np.empty(len(points), record)
    vertices["xyz"], vertices["rgb"] = points.numpy(), colours.numpy()
    names = [f"property float {axis}" for axis in "xyz"] + [f"property uchar {name}" for name in ("red", "green", "blue")]
    comment = "comment metres; x right, y down, z forward"
    header = ["ply", "format binary_little_endian 1.0", comment, f"element vertex {len(points)}", *names, "end_header\n"]
    path.write_bytes("\n".join(header).encode() + vertices.tobytes())


def rotating_view(
    points: Tensor, colours: Tensor, intrinsics: Intrinsics, size: Size, turns: Sequence[float] = TURNS
) -> list[PillowImage.Image]:
    """Draw the points as the camera sees them that is led around them, about the vertical axis through their middle.

    Args:
        points: float `(N, 3)`, metres; x right, y down, z forward.
        colours: uint8 `(N, 3)`, RGB.
        intrinsics: Of the pictures that are drawn.
        size: (height, width) of them.
        turns: Degrees, one for each picture; 0 is where the points were seen from.
    """
    stride = -(-len(points) // MOST_DRAWN) or 1
    points, colours = points[::stride].double(), colours[::stride]
    centre = points.median(0).values * points.new_tensor([0, 0, 1]) if len(points) else points.new_zeros(3)
    pictures = []
    for degrees in turns:
        cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        turn = points.new_tensor([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
        pictures.append(to_pillow(_drawn((points - centre) @ turn.T + centre, colours, intrinsics, size, stride)))
    return pictures


def _drawn(points: Tensor, colours: Tensor, intrinsics: Intrinsics, size: Size, stride: int) -> Tensor:
    """Return the picture uint8 (3, H, W): squares of 2 pixels, the nearest in front."""
    order = points[:, 2].argsort(descending=True)
    points, colours = points[order], colours[order]
    seen = points[:, 2] > 0.01
    x, y, z = points[seen].unbind(1)
    colours = colours[seen]
    column, row = x / z * intrinsics.fx + intrinsics.cx, y / z * intrinsics.fy + intrinsics.cy
    height, width = size
    side = 2 * math.ceil(math.sqrt(stride))
    across, down = (steps.flatten() for steps in torch.meshgrid(torch.arange(side), torch.arange(side), indexing="xy"))
    columns, rows = ((v - side / 2 + 0.5).floor()[:, None] + step for v, step in ((column, across), (row, down)))
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    place = (rows * width + columns)[inside].long()
    # the last one written to a place is the nearest one
    last = torch.full((height * width,), -1).scatter_reduce(0, place, inside.nonzero()[:, 0], "amax")
    picture = torch.full((height * width, 3), PAPER, dtype=torch.uint8)
    picture[last >= 0] = colours[last[last >= 0]]
    return picture.T.reshape(3, height, width)
