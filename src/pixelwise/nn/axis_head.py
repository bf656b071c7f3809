"""From maps to a classification of every point's column and row (SimCC, Li et al. 2022): a head that all points share."""

from __future__ import annotations

from torch import Tensor, nn

from pixelwise.nn.stages import stages_of

SHARE = 8
"""Bins per position of the map that the head sees, as in the paper: bins half a pixel wide, maps at stride 4."""


class AxisHead(nn.Module):
    """(B, C, H, W) -> (B, K (columns + rows), 1, 1) scores: each of K maps, as a vector, through one linear layer.

    The map of a point is not a belief here and is not summed over rows or columns: the layer may read any column from any of
    its pixels. Sums along an axis would be the marginals of a sheet, and no more than it. A linear layer needs a fixed number
    of inputs, so maps are averaged to a fixed grid, and any size goes in. `stride` is 0: the output lies on no pixel grid.

    Args:
        trunk: (B, C, H, W) -> (B, K, H / stride, W / stride) maps.
        bins: How many along the height and along the width.
    """

    stride = 0

    def __init__(self, trunk: nn.Module, bins: tuple[int, int]) -> None:
        super().__init__()
        self.trunk, self.multiple = trunk, getattr(trunk, "multiple", None)
        self.stages = stages_of(trunk)
        rows, columns = (-(-number // SHARE) for number in bins)
        self.pool = nn.AdaptiveAvgPool2d((rows, columns))
        self.axes = nn.Linear(rows * columns, sum(bins))

    def forward(self, image: Tensor, every: bool = False) -> Tensor:
        """Return the scores of `image`; with `every` those of all stages, `(B, S, K (columns + rows), 1, 1)`."""
        maps = self.trunk(image, every=True) if every else self.trunk(image)
        vectors = self.pool(maps.flatten(0, -4) if every else maps).flatten(2)
        scores: Tensor = self.axes(vectors).flatten(1)[..., None, None]
        return scores.view(*maps.shape[:2], *scores.shape[1:]) if every else scores
