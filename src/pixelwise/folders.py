"""Where pixelwise keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder of what can be made again: PIXELWISE_CACHE, or pixelwise under the user's cache folder."""
    chosen = os.environ.get("PIXELWISE_CACHE")
    return Path(chosen or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pixelwise")
