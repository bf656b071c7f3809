"""What all tests share: a cache folder of their own, and tiny trained runs, made once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the tests, and the processes they start, out of the user's cache, and commands as they are without `./pw`."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIXELWISE_CACHE", str(folder))
        patch.delenv("PIXELWISE_COMMAND", raising=False)
        yield folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a finished tiny run of a kind of task; to be read, not changed."""
    from test_tasks import small

    from pixelwise.run import proceed, start

    @lru_cache
    def run(kind: str) -> Path:
        folder = tmp_path_factory.mktemp("finished") / kind
        proceed(start(small(kind), folder))
        return folder

    return run
