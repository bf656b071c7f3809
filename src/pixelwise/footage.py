"""Prediction for a video or a folder of frames: every frame as a line of JSON, rows of a table, and a picture."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from pixelwise.asked import Footage as Wanted
from pixelwise.data.video import SUFFIXES, Footage, FrameFolder, Shot, VideoFile
from pixelwise.errors import DataError, UsageError
from pixelwise.model import Model
from pixelwise.prediction import Prediction
from pixelwise.predictions.keypoints import KeypointsPrediction
from pixelwise.smoothing import GaussianSmoother, OneEuroSmoother, smoother
from pixelwise.tracking import Tracker

COLUMNS = ("frame", "time", "identity", "name", "x", "y", "confidence")
Answer = tuple[Shot, Prediction]


def is_video(path: Path) -> bool:
    """Return whether a path is one of a video file, by its suffix."""
    return path.suffix.lower() in SUFFIXES


def predict_footage(model: Model, path: Path, target: Path, wanted: Wanted) -> dict[str, Any]:
    """Predict for every frame and write `target` with .jsonl, .csv (of key points) and .mp4 (of a folder: a folder) added.

    Returns:
        `file`, `frames` (their number), `saved` (a list), `tracks` if people were tracked, `notes`, and `flaws`: what could not
        be read, which ends the answer early or leaves frames out.

    Raises:
        DataError: Nothing of it can be read, or the answer would overwrite it.
        UsageError: The model finds no key points that could be tracked; or PyAV is missing.
    """
    footage: Footage = FrameFolder(path, wanted.rate) if path.is_dir() else VideoFile(path)
    _require_new(path, target)
    tracker = Tracker() if wanted.track or wanted.smooth != "none" else None
    answers = _smoothed(_answers(model, footage, tracker), wanted)
    first = next(answers, None)  # before any file is made
    if first is None:
        raise DataError(f"no frame of {path} can be read", "; ".join(footage.flaws))
    target.parent.mkdir(parents=True, exist_ok=True)
    files = [f"{target}.jsonl"] + ([f"{target}.csv"] if isinstance(first[1], KeypointsPrediction) else [])
    count = 0
    with footage.writer(target) as writer, ExitStack() as stack:
        lines, *tables = [stack.enter_context(Path(file).open("w", newline="")) for file in files]
        for table in tables:
            csv.writer(table).writerow(COLUMNS)
        for shot, prediction in chain([first], answers):
            for table in tables:
                csv.writer(table).writerows(rows(shot, _points(prediction)))
            lines.write(json.dumps({"frame": shot.number, "time": round(shot.time, 6), **prediction.to_json()}) + "\n")
            writer.write(shot, prediction.render())
            count += 1
    done = {"file": str(path), "frames": count, "saved": [str(writer.saved), *files]}
    return {**done, **({"tracks": _told(tracker)} if tracker else {}), "notes": writer.notes, "flaws": footage.flaws}


def _require_new(path: Path, target: Path) -> None:
    if path.resolve() in (target.resolve(), Path(f"{target}.mp4").resolve()):
        raise DataError(f"{path}: the answer would overwrite it", "choose another folder with out=DIR")


def _told(tracker: Tracker) -> list[dict[str, int]]:
    """Return of each identity its first and last frame, and in how many it was seen."""
    return [{"identity": t.identity, "first": t.first, "last": t.last, "frames": t.frames} for t in tracker.tracks]


def _answers(model: Model, footage: Footage, tracker: Tracker | None) -> Iterator[Answer]:
    console = Console(stderr=True)
    for shot in track(footage, footage.path.name, footage.count, console=console, disable=not console.is_terminal):
        prediction = model(shot.pixels)
        yield shot._replace(pixels=shot.pixels[:, :0]), tracker(_points(prediction), shot.number) if tracker else prediction


def _points(prediction: Prediction) -> KeypointsPrediction:
    if not isinstance(prediction, KeypointsPrediction):
        raise UsageError("track and smooth are for key points, and this model finds none", "leave them out")
    return prediction


def _smoothed(answers: Iterator[Answer], wanted: Wanted) -> Iterator[Answer]:
    if wanted.smooth == "none":
        yield from answers
        return
    smooth: OneEuroSmoother[Shot] | GaussianSmoother[Shot] = smoother(wanted.smooth)
    for shot, prediction in answers:
        yield from smooth.push(shot, shot.time, _points(prediction))
    yield from smooth.flush()


def rows(shot: Shot, prediction: KeypointsPrediction) -> Iterator[tuple[Any, ...]]:
    """Yield one row of the table for every point that was found; without tracking identities are empty."""
    identities = [""] * len(prediction.points) if prediction.identities is None else prediction.identities.tolist()
    found = zip(identities, prediction.points.tolist(), prediction.confidence.tolist(), strict=True)
    for identity, points, confidence in found:
        for name, (x, y), sure in zip(prediction.skeleton.names, points, confidence, strict=True):
            if x == x and y == y:
                yield shot.number, round(shot.time, 6), identity, name, round(x, 3), round(y, 3), round(sure, 4)
