"""What the words behind `pixelwise predict MODEL` ask for, read before torch is imported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pixelwise.errors import UsageError
from pixelwise.overrides import choice, options, parse_bytes

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
