"""What a label says about a point apart from where it is, shared by the data, the codecs and the metrics."""

from __future__ import annotations

from enum import IntEnum


class Presence(IntEnum):
    """What is known about a point; ordered, so that `presence >= Presence.HIDDEN` means it has a coordinate."""

    UNKNOWN = 0
    """Not labelled: no gradient at all."""
    ABSENT = 1
    """Known not to be in the picture: a negative example, its coordinate means nothing."""
    HIDDEN = 2
    """In the picture but covered."""
    VISIBLE = 3
