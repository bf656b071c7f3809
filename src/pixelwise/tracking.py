"""Who is who from frame to frame: the people found are assigned to those known, by key point similarity.

The assignment is Kuhn's (1955), of the greatest sum of similarities (Lin et al. 2014); a person moves on as before meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from pixelwise.geometry.presence import Presence
from pixelwise.metrics.oks import BOX_SHARE, object_keypoint_similarity
from pixelwise.predictions.keypoints import KeypointsPrediction

SIGMA = 0.1
"""Of every point where the skeleton has no sigmas."""
MOVES = 2.0
"""By which sigmas are multiplied: from frame to frame people move further than their labels differ."""
LEAST = 0.1
"""Similarity below which nobody is taken for somebody known."""
MEMORY = 30
"""Frames that somebody who is not seen is remembered."""
STEADY = 0.5
"""Weight of the old velocity against what the newest two sightings say."""
SMALL = 1 / 40
"""Of the picture's diagonal: the side of the square below which no object's area is taken."""


@dataclass
class Track:
    """Somebody who was seen.

    Attributes:
        identity: From 0, never given twice.
        points: `(K, 2)`, each where it was last seen.
        first: The frame of the first sighting; `last` that of the newest.
        frames: In how many frames.
        velocity: `(2,)` pixels per frame.
    """

    identity: int
    points: Tensor
    first: int
    last: int
    frames: int
    velocity: Tensor

    def expected(self, number: int) -> Tensor:
        """Return the points in frame `number`, moved on at the same velocity."""
        return self.points + self.velocity * (number - self.last)

    def see(self, points: Tensor, number: int) -> None:
        """Take in a sighting; points that are missing in it move with the others."""
        step = (points - self.points).nanquantile(0.5, 0).nan_to_num() / (number - self.last)
        self.points = torch.where(points.isnan(), self.expected(number), points)
        self.velocity = step if self.frames == 1 else STEADY * self.velocity + (1 - STEADY) * step
        self.last, self.frames = number, self.frames + 1


class Tracker:
    """Gives the people of frame after frame their identities.

    Each frame's instances are assigned to the tracks of the last `memory` frames so that the sum of the similarities is the
    greatest (those below 0.1 count nothing); who is left begins a track. Similarity is OKS with twice the skeleton's sigmas,
    or 0.2 for every point, and an area of 0.53 times the box around the track's points. Two who are in
    the same place and pose may swap; those who cross at an even pace do not.

    Attributes:
        tracks: Everybody seen so far.
    """

    def __init__(self, memory: int = MEMORY) -> None:
        self.memory = memory
        self.tracks: list[Track] = []

    def __call__(self, prediction: KeypointsPrediction, number: int) -> KeypointsPrediction:
        """Return the prediction with identities; -1 for an instance without any point.

        Args:
            prediction: Of a frame.
            number: Of the frame; greater than that of the last call.
        """
        points = prediction.points.double()
        identities = torch.full((len(points),), -1, dtype=torch.int64)
        seen = points.isfinite().all(-1).any(-1).nonzero()[:, 0].tolist()
        recent = [track for track in self.tracks if number - track.last <= self.memory]
        for i, track in self._assigned(prediction, points[seen], recent, number):
            identities[seen[i]] = track.identity
            track.see(points[seen[i]], number)
        for i in seen:
            if identities[i] < 0:
                identities[i] = len(self.tracks)
                self.tracks.append(Track(len(self.tracks), points[i], number, number, 1, torch.zeros(2, dtype=torch.float64)))
        return replace(prediction, identities=identities)

    def _assigned(
        self, prediction: KeypointsPrediction, points: Tensor, tracks: Sequence[Track], number: int
    ) -> list[tuple[int, Track]]:
        if not tracks or not len(points):
            return []
        known = torch.stack([track.expected(number) for track in tracks])
        presence = torch.where(known.isfinite().all(-1), Presence.VISIBLE, Presence.UNKNOWN)
        sigmas = [MOVES * sigma for sigma in prediction.skeleton.sigmas or (SIGMA,) * known.shape[1]]
        least = (SMALL * torch.tensor(prediction.image.shape[-2:]).double().norm()).square()
        similarity = object_keypoint_similarity(points, known, presence, _areas(known).clamp(min=least), sigmas)
        similarity = similarity.where(similarity >= LEAST, 0.0)
        pairs = zip(*linear_sum_assignment(similarity.numpy(), maximize=True), strict=True)
        return [(int(i), tracks[int(j)]) for i, j in pairs if similarity[int(i), int(j)] > 0]


def _areas(points: Tensor) -> Tensor:
    """Return 0.53 times the area of the boxes around points `(N, K, 2)`; a side is taken as at least half the other."""
    sides = points.nan_to_num(-torch.inf).amax(1) - points.nan_to_num(torch.inf).amin(1)
    return BOX_SHARE * torch.maximum(sides, sides.flip(-1) / 2).prod(-1)
