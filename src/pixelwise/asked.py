"""What the words behind `pixelwise predict MODEL` and `pixelwise generate MODEL` ask for, read before torch is imported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pixelwise.errors import UsageError, did_you_mean
from pixelwise.overrides import choice, options, parse_bytes, split_override

TILES = ("auto", "exact", "blended")
PRECISIONS = ("float32", "bfloat16")
SMOOTH = ("none", "one_euro", "gaussian")
SWITCH = ("false", "true")
KEYS = {"out": str, "memory": str, "tiles": str, "precision": str, "track": str, "smooth": str, "frames": str, "fps": int}
TAKES = (
    f"out=DIR (default: predictions), memory=4GiB, tiles={'|'.join(TILES)}, precision={'|'.join(PRECISIONS)}; of a video: "
    f"track=true, smooth={'|'.join(SMOOTH[1:])}; of a folder with the frames of one: frames=true, fps=N (default: 30); "
    "and of task.* what says how to answer, such as task.flip_test=true"
)

WISHES = {"count": int, "seed": str, "class": str, "walk": int}
GENERATE_TAKES = (
    "count=N (default: 64), seed=N (default: 0), class=NAME (default: each in turn), walk=N (pictures from each to the next)"
)


class Footage(NamedTuple):
    """What is asked of a video.

    Attributes:
        track: Give everybody found an identity.
        smooth: How points are smoothed over time, which takes identities.
        frames: A folder holds the frames of a video.
        rate: Frames per second of such a folder.
    """

    track: bool = False
    smooth: Literal["none", "one_euro", "gaussian"] = "none"
    frames: bool = False
    rate: float = 30.0


class Asked(NamedTuple):
    """Images, videos and folders, and how to predict for them; `memory` to `changes` as `load` says."""

    paths: list[Path]
    out: Path
    memory: int | None
    tiles: Any
    precision: Any
    changes: list[str]
    footage: Footage


def asked(words: Sequence[str]) -> Asked:
    """Read the words.

    Raises:
        UsageError: A setting means nothing, or there is nothing to predict for.
    """
    pairs = [word for word in words if word.partition("=")[0] in KEYS and "=" in word]
    chosen, _ = options(pairs, KEYS)
    changes = [word for word in words if word.startswith("task.") and "=" in word]
    paths = [Path(word) for word in words if word not in (*pairs, *changes)]
    for path in paths:
        if "=" in path.name and not path.exists():
            raise UsageError(f"predict has no setting {path.name.partition('=')[0]!r}", f"it takes {TAKES}")
    if not paths:
        raise UsageError("no images to predict for", "pixelwise predict MODEL IMAGE...")
    footage = Footage(
        choice("track", chosen, SWITCH) == "true",
        choice("smooth", chosen, SMOOTH),
        choice("frames", chosen, SWITCH) == "true",
        float(chosen.get("fps", 30)),
    )
    memory = parse_bytes(chosen["memory"]) if "memory" in chosen else None
    tiles, precision = choice("tiles", chosen, TILES), choice("precision", chosen, PRECISIONS)
    return Asked(paths, Path(chosen.get("out", "predictions")), memory, tiles, precision, changes, footage)


class Wished(NamedTuple):
    """Pictures from noise: how many, of which seed and class, and in how many steps from each to the next (1: none)."""

    number: int = 64
    seed: int = 0
    category: str | None = None
    walk: int = 1


def wished(words: Sequence[str]) -> Wished:
    """Read the words behind `pixelwise generate MODEL OUT`.

    Raises:
        UsageError: A setting means nothing.
    """
    taken, left = options(words, WISHES)
    if left:
        key = split_override(left[0])[0]
        raise UsageError(f"generate has no setting {key!r}", did_you_mean(key, WISHES) or f"it takes {GENERATE_TAKES}")
    seed = taken.get("seed", "0")
    if not seed.isdecimal():
        raise UsageError(f"seed = {seed!r}: should be a whole number, 0 or more", "for example seed=1")
    if taken.get("walk", 1) > 1 and taken.get("count", 64) < 2:
        raise UsageError("a walk needs two pictures to go between", "count=2 or more")
    return Wished(taken.get("count", 64), int(seed), taken.get("class"), taken.get("walk", 1))
