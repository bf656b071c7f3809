"""Many people as sheets: beliefs in the parts, and part affinity fields that point along the limbs (Cao et al. 2017)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from pixelwise.codecs.candidates import Candidates, best_peaks, limb_scores
from pixelwise.codecs.codec import Codec
from pixelwise.codecs.gaussian_heatmaps import GaussianHeatmapsCodec
from pixelwise.codecs.grouping import People, group, limb_order
from pixelwise.errors import UsageError
from pixelwise.geometry.presence import Presence
from pixelwise.geometry.skeleton import Skeleton
from pixelwise.losses.regression import masked_mean

Targets = dict[str, Tensor]
NARROWEST = 0.5
"""Least thickness in pixels of the sheets: a narrower field falls between them."""
REACH = 1.0
"""How far beyond the box of a person's labelled points his unlabelled ones may lie, in longer sides of the box."""
ENOUGH = 0.5
"""Least share of a person's points that must be labelled for his box to say where the others may be."""


class PartFieldsCodec(Codec[Targets]):
    """K sheets of belief, one of background, and 2L sheets with the x and y of the field of each limb.

    The field of the limb from a to b is the unit vector v from a to b at every p with 0 <= v.(p - a) <= |b - a| that is no
    further than the thickness from the line, and 0 elsewhere; where it is that of several people, their mean (Cao et al.
    2017, eq. 8 and 9). A limb of length 0 has no field, one with an ABSENT end is not drawn.

    What is unknown is NaN in the sheets and has no loss:

    - An UNKNOWN point of a person: its sheet, the fields of its limbs (unless the other end is ABSENT: then there is nothing
      to draw), and the background, all within the box around his present points enlarged by its longer side on all sides. So
      one unknown wrist in a crowd leaves the wrists of people further away their loss. Of whom less than half is present, the
      unknown points may be anywhere: the whole sheets are ignored.
    - Pixels of the `unlabelled` mask, on all sheets.

    An instance of which every point is UNKNOWN is padding, so an image of nothing else shows nobody; people of whom nothing
    is labelled belong into `unlabelled`.
    """

    units: ClassVar[Mapping[str, str]] = {
        "points": "x, y of the best peaks in pixels of the input; 0 where there is none",
        "confidence": "0 to 1; 0 where there is no peak",
        "limbs": "score of the limb between every two peaks; 0 where they do not belong together",
    }

    def __init__(
        self,
        skeleton: Skeleton,
        *,
        sigma: float,
        thickness: float,
        stride: int = 1,
        foreground: float = 1.0,
        threshold: float = 0.1,
        most: int = 30,
        matching: Literal["greedy", "hungarian"] = "greedy",
        least_parts: int = 3,
        least_score: float = 0.2,
    ) -> None:
        """Settle what the sheets look like and how they are read.

        Args:
            skeleton: Points and limbs; the limbs must connect all the points.
            sigma: Width of the Gaussians in input pixels.
            thickness: How far from a limb's line its field reaches, in input pixels.
            stride: Input pixels per pixel of the sheets.
            foreground: How many times the error of a belief counts at a point, against one far from it; published: 1.
            threshold: Least belief of a peak.
            most: Peaks of a sheet that are looked at, the best.
            matching: Pair the ends of a limb best pair first, or by the largest total score.
            least_parts: People with fewer parts are left out; all are needed of a skeleton that has no more.
            least_score: People with a smaller score are left out.

        Raises:
            UsageError: The limbs do not connect the points, or `sigma` or `thickness` is too narrow for the stride.
        """
        self.skeleton, self.stride, self.threshold, self.most = skeleton, stride, threshold, most
        self.foreground = foreground
        self.points, self.limbs = len(skeleton.names), skeleton.limbs
        self.order = limb_order(skeleton.limbs, skeleton.names)
        self.matching, self.least_parts, self.least_score = matching, min(least_parts, self.points), least_score
        self.beliefs = GaussianHeatmapsCodec(
            self.points, swap=skeleton.swap, sigma=sigma, stride=stride, background=True, loss="l2"
        )
        self.thickness = thickness / stride
        if self.thickness < NARROWEST:
            raise UsageError(
                f"thickness = {thickness:g} input pixels is too narrow: the fields would fall between the pixels of a sheet",
                f"at stride {stride} take thickness >= {NARROWEST * stride:g}, or a smaller stride",
            )

    @property
    def channels(self) -> int:
        """Beliefs, background, and two sheets per limb."""
        return self.beliefs.channels + 2 * len(self.limbs)

    @property
    def scale(self) -> float:
        """One output pixel per `stride` input pixels."""
        return 1 / self.stride

    def encode(self, points: Tensor, presence: Tensor, size: tuple[int, int], unlabelled: Tensor | None = None) -> Targets:
        """Draw the sheets.

        Args:
            points: `(B, N, K, 2)`, (x, y) in input pixels; may be NaN where not present.
            presence: uint8 `(B, N, K)` of `Presence`.
            size: Height and width of the input image; the sheets cover it, so theirs are divided by the stride and rounded up.
            unlabelled: uint8 `(B, *size)`: 0 where all people are labelled, anything else where nothing is known.

        Returns:
            `sheets` `(B, channels, h, w)`: beliefs in [0, 1], fields in [-1, 1], NaN where unknown.
        """
        present = presence >= Presence.HIDDEN
        points = torch.where(present[..., None], points, 0)
        beliefs = self.beliefs.encode(points, presence, size)["heatmaps"]
        down, across = (torch.arange(side, device=points.device) + 0.5 for side in beliefs.shape[-2:])
        fields = self._fields(points / self.stride, present, across, down[:, None]).flatten(1, 2)
        ignored = self._ignored(points / self.stride, presence, across, down[:, None])
        if unlabelled is not None:
            covered = functional.max_pool2d((unlabelled != 0).float()[:, None], self.stride, ceil_mode=True) > 0
            ignored = ignored | covered
        return {"sheets": torch.cat([beliefs, fields], 1).masked_fill(ignored, torch.nan)}

    def _fields(self, points: Tensor, present: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Return the fields `(B, L, 2, h, w)` of points `(B, N, K, 2)`, at the pixel centres x `(w,)` and y `(h, 1)`."""
        first, second = (list(ends) for ends in zip(*self.limbs, strict=True))
        start, step = points[:, :, first], points[:, :, second] - points[:, :, first]
        length = torch.linalg.vector_norm(step, dim=-1)
        drawn = present[:, :, first] & present[:, :, second] & (length > 0)
        unit = step / torch.where(drawn, length, 1)[..., None]
        right, below = (x - start[..., 0, None, None]), (y - start[..., 1, None, None])
        vx, vy = unit[..., 0, None, None], unit[..., 1, None, None]
        along = right * vx + below * vy
        beside = (below * vx - right * vy).abs() <= self.thickness
        inside = (along >= 0) & (along <= length[..., None, None]) & beside & drawn[..., None, None]
        total = torch.einsum("bnlhw,bnlc->blchw", inside.to(unit.dtype), unit)
        mean: Tensor = total / inside.sum(1).clamp(min=1)[:, :, None]
        return mean

    def _ignored(self, points: Tensor, presence: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Return where the sheets `(B, channels, h, w)` cannot be known because somebody's point is not."""
        first, second = (list(ends) for ends in zip(*self.limbs, strict=True))
        unknown = (presence == Presence.UNKNOWN) & (presence != Presence.UNKNOWN).any(-1, keepdim=True)
        absent = presence == Presence.ABSENT
        limb = (unknown[:, :, first] & ~absent[:, :, second]) | (unknown[:, :, second] & ~absent[:, :, first])
        lacking = torch.cat([unknown, unknown.any(-1, keepdim=True), limb.repeat_interleave(2, -1)], -1)
        near = self._neighbourhood(points, presence >= Presence.HIDDEN, x, y)
        return torch.einsum("bnc,bnhw->bchw", lacking.float(), near.float()) > 0

    def _neighbourhood(self, points: Tensor, present: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Return where the points of each person may be, bool `(B, N, h, w)`."""
        low = points.masked_fill(~present[..., None], torch.inf).amin(2)
        high = points.masked_fill(~present[..., None], -torch.inf).amax(2)
        margin = REACH * (high - low).amax(-1, keepdim=True)
        (left, top), (right, bottom) = (low - margin).unbind(-1), (high + margin).unbind(-1)
        within = (x >= left[..., None, None]) & (x <= right[..., None, None])
        within = within & (y >= top[..., None, None]) & (y <= bottom[..., None, None])
        return within | (present.float().mean(-1) < ENOUGH)[..., None, None]

    def candidates(self, outputs: Tensor, size: tuple[int, int]) -> Candidates:
        """Return the best peaks of each part, and which two may be the ends of a limb.

        Args:
            outputs: `(B, channels, h, w)`.
            size: Height and width of the input image; points are clipped to it.
        """
        return self._joined(*self._peaks(outputs), outputs, size)

    def _peaks(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        return best_peaks(outputs[:, : self.points], self.beliefs.sigma, self.threshold, self.most)

    def _joined(self, found: Tensor, belief: Tensor, outputs: Tensor, size: tuple[int, int]) -> Candidates:
        first, second = (list(ends) for ends in zip(*self.limbs, strict=True))
        x, y = (found * self.stride).unbind(-1)
        points = torch.stack([x.clamp(0, size[1]), y.clamp(0, size[0])], -1)
        fields = outputs[:, self.beliefs.channels :]
        limbs = limb_scores(fields, points[:, first], points[:, second], self.stride, size)
        both = (belief[:, first, :, None] > 0) & (belief[:, second, None] > 0)
        return Candidates(points, belief.clamp(max=1), torch.where(both, limbs, 0))

    def answers(self, outputs: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
        """Return `points`, `confidence` and `limbs` of the `candidates`; who is who is left to `grouping`."""
        return self.candidates(outputs, size)._asdict()

    def decode(self, outputs: Tensor, size: tuple[int, int]) -> list[People]:
        """Return the people of each image, the surest first; arguments as for `candidates`, on the CPU."""
        found, belief = self._peaks(outputs)
        needed = max(1, int((belief > 0).sum(-1).max()))
        return group(
            self._joined(found[:, :, :needed], belief[:, :, :needed], outputs, size),
            self.limbs,
            self.order,
            optimal=self.matching == "hungarian",
            least_parts=self.least_parts,
            least_score=self.least_score,
        )

    def losses(self, outputs: Tensor, targets: Targets) -> dict[str, Tensor]:
        """Return the losses of the `beliefs` and of the `fields`.

        Each is the mean squared error over all that is known, times the pixels of a sheet, divided by pi sigma^2, the sum of
        squares of one Gaussian; of the fields both components together. So, unweighted, sheets of zeros cost as much as there
        are people, whatever the size, stride and sigma. The error of a belief counts 1 + (foreground - 1) t times where it
        should be t: nearly all of a sheet is 0, and without that a network says nearly 0 for long.
        """
        known = ~targets["sheets"].isnan()
        sheets, parts = torch.where(known, targets["sheets"], 0), self.beliefs.channels
        squares = (outputs - sheets).square()
        weight = 1 + (self.foreground - 1) * sheets[:, : self.points]
        squares = torch.cat([weight * squares[:, : self.points], squares[:, self.points :]], 1)
        unit = sheets[0, 0].numel() / (math.pi * self.beliefs.sigma**2)
        kinds = {"beliefs": (slice(None, parts), unit), "fields": (slice(parts, None), 2 * unit)}
        return {name: scale * masked_mean(squares[:, part], known[:, part]) for name, (part, scale) in kinds.items()}

    def loss(self, outputs: Tensor, targets: Targets) -> Tensor:
        """Return the sum of the `losses`."""
        return torch.stack([*self.losses(outputs, targets).values()]).sum()

    def flip(self, outputs: Tensor) -> Tensor:
        """Mirror the sheets, exchange those that swap their names, and turn the fields round: x points the other way.

        Exact if the width of the input is a multiple of the stride.

        Raises:
            UsageError: The mirror image of a limb is no limb.
        """
        beliefs = self.beliefs.flip(outputs[:, : self.beliefs.channels])
        twins, signs = self._mirror
        fields = outputs[:, self.beliefs.channels :].flip(-1)
        fields = fields.reshape(fields.shape[0], -1, 2, *fields.shape[-2:])[:, twins]
        sign = outputs.new_tensor(signs)[:, None] * outputs.new_tensor([-1.0, 1.0])
        return torch.cat([beliefs, (fields * sign[..., None, None]).flatten(1, 2)], 1)

    @property
    def _mirror(self) -> tuple[list[int], list[float]]:
        """Which limb takes each limb's place in a mirror, and -1 where it is then followed from its other end."""
        twins, signs = [], []
        for a, b in self.limbs:
            twin = (self.beliefs.swap[a], self.beliefs.swap[b])
            if twin not in self.limbs and twin[::-1] not in self.limbs:
                ends = ", ".join(self.skeleton.names[end] for end in twin)
                what = f"the limbs cannot be mirrored: there is none from {ends.replace(', ', ' to ')}"
                raise UsageError(what, "add it to the skeleton's limbs, or set task.flip_test=false")
            twins.append(self.limbs.index(twin if twin in self.limbs else twin[::-1]))
            signs.append(1.0 if twin in self.limbs else -1.0)
        return twins, signs
