"""Colours for classes: as distinct as calm ones can be, painted onto label maps, and read back from painted ones.

The choice is Glasbey et al. 2007: each colour is the one farthest from all before it, here in OKLab (Ottosson 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from pixelwise.errors import DataError

RGB = tuple[int, int, int]
LEVELS = 18
"""Steps per channel of the grid that colours are chosen from: multiples of 15."""
ROWS = 256
"""Rows that are painted at a time: indices take eight times the memory of labels."""
LIGHTNESS = (0.4, 0.88)
"""OKLab lightness of the colours, so that black, white and photographs stand apart."""
CHROMA = 0.13
"""Most OKLab chroma of the colours: pure red has 0.26, and whole areas of such colours glare."""
FIRST = (0.6, -0.05, -0.12)
"""Near which, in OKLab, the first colour is: a blue."""


@lru_cache
def distinct_colours(count: int) -> tuple[RGB, ...]:
    """Return `count` different colours, always the same; fewer colours are the beginning of more.

    Raises:
        DataError: More colours than there are on the grid (some 1,600).
    """
    steps = torch.arange(LEVELS) * (255 // (LEVELS - 1))
    grid = torch.cartesian_prod(steps, steps, steps)
    seen = oklab(grid)
    usable = (seen[:, 0] > LIGHTNESS[0]) & (seen[:, 0] < LIGHTNESS[1]) & (seen[:, 1:].norm(dim=1) < CHROMA)
    grid, seen = grid[usable], seen[usable]
    if count > len(grid):
        raise DataError(f"no {count} colours can be told apart", f"there are {len(grid)}; show fewer classes")
    chosen = [int((seen - seen.new_tensor(FIRST)).norm(dim=1).argmin())]
    distance = torch.full((len(grid),), torch.inf, dtype=seen.dtype)
    while len(chosen) < count:
        distance = torch.minimum(distance, (seen - seen[chosen[-1]]).norm(dim=1))
        chosen.append(int(distance.argmax()))
    return tuple((int(r), int(g), int(b)) for r, g, b in grid[chosen[:count]])


def oklab(rgb: Tensor) -> Tensor:
    """Return lightness, green-red and blue-yellow, float64 `(..., 3)`, of sRGB colours `(..., 3)` in [0, 255]."""
    srgb = rgb.double() / 255
    linear = torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    cones = linear @ linear.new_tensor(
        [
            [0.4122214708, 0.2119034982, 0.0883024619],
            [0.5363325363, 0.6806995451, 0.2817188376],
            [0.0514459929, 0.1073969566, 0.6299787005],
        ]
    )
    return cones ** (1 / 3) @ linear.new_tensor(
        [
            [0.2104542553, 1.9779984951, 0.0259040371],
            [0.7936177850, -2.4285922050, 0.7827717662],
            [-0.0040720468, 0.4505937099, -0.8086757660],
        ]
    )


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Return one sheet per class, float `(B, C, H, W)`: 1 where a label map `(B, H, W)` has it; unknown pixels are 0 in all."""
    sheets = functional.one_hot(labels.long().clamp(max=classes), classes + 1)
    return sheets[..., :-1].movedim(-1, 1).float()


def colourise(labels: Tensor, palette: Sequence[RGB] = (), *, ignore: int = 255, unknown: RGB = (0, 0, 0)) -> Tensor:
    """Paint every class in its colour.

    Args:
        labels: Integer `(..., H, W)`, class indices or `ignore`.
        palette: Colour of each class, 0 to 255; empty means `distinct_colours`.
        ignore: The label of unknown pixels.
        unknown: Their colour.

    Returns:
        uint8 `(..., 3, H, W)`.

    Raises:
        DataError: A class has no colour in the palette.
    """
    if torch.compiler.is_exporting():  # a graph has no errors to raise, and no rows to save memory by
        table = torch.tensor([*(palette or distinct_colours(ignore)), unknown], dtype=torch.uint8)
        return table[torch.where(labels != ignore, labels.long(), len(table) - 1)].movedim(-1, -3)
    known = labels != ignore
    needed = int(labels[known].max()) + 1 if known.any() else 0
    palette = palette or distinct_colours(needed)
    if needed > len(palette):
        raise DataError(f"class {needed - 1} has no colour: the palette has {len(palette)}", "give one per class")
    table = torch.tensor([*palette, unknown], dtype=torch.uint8, device=labels.device)
    painted = table.new_empty((*labels.shape, 3))
    for rows, part in zip(torch.split(labels, ROWS, -2), torch.split(painted, ROWS, -3), strict=True):
        part.copy_(table[torch.where(rows != ignore, rows.long(), len(palette))])
    return painted.movedim(-1, -3)
