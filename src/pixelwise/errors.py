"""Every mistake a user can make ends as one of these: what is wrong and where, and a hint how to mend it.

PixelwiseError
├── UsageError     the command or a setting is wrong (exit code 2)
├── DataError      an image, label or folder is wrong
├── ModelError     a model folder is damaged, foreign or newer than this version
└── TrainingError  a run cannot go on
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable


class PixelwiseError(Exception):
    """One clear sentence for the user, with an optional one-line hint; never a traceback."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(PixelwiseError):
    """The command line, a recipe or a setting is wrong."""

    exit_code = 2


class DataError(PixelwiseError):
    """A file or folder of data is missing, damaged or inconsistent."""


class ModelError(PixelwiseError):
    """A model folder is missing, damaged, or does not fit this version."""


class TrainingError(PixelwiseError):
    """A run cannot start or cannot go on."""


def as_called(text: str) -> str:
    """Return `text` with its commands written the way this program was called: `./pw train`, not `pixelwise train`."""
    called = os.environ.get("PIXELWISE_COMMAND", "pixelwise")
    verbs = "list|describe|check|train|evaluate|predict|generate|compare|import|export|demo|lab|analyse|doctor"
    return re.sub(rf"\bpixelwise(?= +(?:{verbs})\b)", lambda _: called, text)


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return "did you mean 'x'?" for the nearest of `choices`, or an empty string; of dotted names, every part must be near."""

    def likeness(choice: str) -> float:
        aligned = name.count(".") == choice.count(".")
        pairs = zip(name.split("."), choice.split("."), strict=True) if aligned else [(name, choice)]
        return min(difflib.SequenceMatcher(None, part, other).ratio() for part, other in pairs) - 0.15 * (not aligned)

    nearest = max(choices, key=likeness, default="")
    return f"did you mean {nearest!r}?" if nearest and likeness(nearest) >= 0.6 else ""
