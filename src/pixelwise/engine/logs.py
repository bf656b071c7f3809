"""What happened in a run, one JSON line per event, from the first step on; a report is drawn from this file alone.

{"step": 12, "time": 3.1, "lr": 0.0002, "losses": {"l1": 0.25}}    after each step; time in seconds of training
{"step": 500, "time": 130.2, "metrics": {"miou": 0.61}}            after each evaluation
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from pixelwise.errors import UsageError


class Logs:
    """Appends to metrics.jsonl (and TensorBoard, if asked), after dropping what lies beyond `step`.

    A run that resumes at `step` repeats the steps after it, so the file ends as if the run had never stopped. Writes
    nothing where `quiet` (all processes but the first).

    Raises:
        UsageError: TensorBoard is asked for and not installed.
    """

    def __init__(self, run: Path, step: int = 0, *, quiet: bool = False, tensorboard: bool = False) -> None:
        path = run / "metrics.jsonl"
        kept = [event for event in read(path) if event["step"] <= step]
        self._began = time.monotonic() - (kept[-1]["time"] if kept else 0.0)
        self._board = _board(run, step) if tensorboard and not quiet else None
        self._file = None if quiet else _begin(path, kept)

    def losses(self, step: int, lr: float, losses: Mapping[str, float]) -> None:
        """Log the losses of the step that made it `step` steps."""
        self._write(step, {"lr": lr, "losses": dict(losses)})
        self._chart(step, "losses", {**losses, "lr": lr})

    def metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log an evaluation after `step` steps; a value that is not finite becomes null."""
        self._write(step, {"metrics": {k: v if math.isfinite(v) else None for k, v in metrics.items()}})
        self._chart(step, "metrics", metrics)

    def to_disk(self) -> None:
        """Force all lines to disk, before a state that relies on them."""
        if self._file:
            os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file:
            self._file.close()
        if self._board:
            self._board.close()

    def _write(self, step: int, event: Mapping[str, Any]) -> None:
        seconds = round(time.monotonic() - self._began, 3)
        if self._file:
            self._file.write(json.dumps({"step": step, "time": seconds, **event}, allow_nan=False) + "\n")

    def _chart(self, step: int, group: str, values: Mapping[str, float]) -> None:
        if self._board:
            for name, value in values.items():
                self._board.add_scalar(f"{group}/{name}", value, step)


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the events of a metrics.jsonl, if it is there, up to a line that a kill has cut short."""
    lines = path.read_text().splitlines() if path.exists() else []
    for line in lines:
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            return


def _begin(path: Path, events: list[dict[str, Any]]) -> IO[str]:
    """Put `events` in the place of what is at `path`, and open it to append line by line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text("".join(json.dumps(event) + "\n" for event in events))
    new.replace(path)
    return path.open("a", buffering=1)


def _board(run: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UsageError("TensorBoard is not installed", "pip install 'pixelwise[log]'") from None
    return SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)
