"""Prediction over many files, images and videos: a bad file is reported and passed over, the others are done."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence, Set
from itertools import chain, count
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from pixelwise.asked import Footage
from pixelwise.data.channels import READABLE
from pixelwise.data.images import SKIP_HINT, SUFFIXES
from pixelwise.errors import DataError, PixelwiseError, UsageError
from pixelwise.footage import is_video, predict_footage
from pixelwise.model import FROM_NOISE, Model, Precision, load
from pixelwise.nn.tiling import Tiles
from pixelwise.prediction import Prediction
from pixelwise.score_maps import DenseClassifier

NAMELESS = r"[^\w-]"
"""What a name from a model folder may not bring into the name of a file."""


def images_in(paths: Sequence[Path], out: Path, suffixes: Set[str] = SUFFIXES) -> Iterator[tuple[Path, Path]]:
    """Yield each image with its path below the folder that was named: files as given, folders with all below them.

    A folder `out` within such a folder holds the answers of an earlier call and is left out.

    Raises:
        DataError: A path does not exist, or a folder holds no image.
    """
    for path in paths:
        if path.is_dir():
            answers = path / out.resolve().relative_to(path.resolve()) if path.resolve() in out.resolve().parents else None
            images = (p for p in path.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
            found = sorted(p for p in images if answers not in p.parents)
            if not found:
                raise DataError(f"no image in {path}", "known suffixes: " + " ".join(sorted(suffixes)))
            yield from ((p, p.relative_to(path)) for p in found)
        else:
            yield path, Path(path.name)


def predict_files(
    folder: Path,
    paths: Sequence[Path],
    out: Path,
    memory: int | None = None,
    tiles: Tiles = "auto",
    maps: bool = False,
    precision: Precision = "float32",
    changes: Sequence[str] = (),
    footage: Footage = Footage(),  # noqa: B008 (immutable)
) -> dict[str, Any]:
    """Predict for every image and video and save each answer below `out`; `memory` to `changes` are as for `load`.

    With `maps`, a classifier's score maps are saved beside each answer. With `footage.frames` a folder is a video.

    Returns:
        `model`, `out`, `predictions` (a list of `file`, `saved` and the answer, with `notes` if there is something to know
        about it), `videos` (a list of what `predict_footage` returns) and `failed` (a list of `file` and `error`).

    Raises:
        UsageError: There are no score maps of this model, or it makes pictures from noise.
    """
    model = load(folder, memory=memory, tiles=tiles, precision=precision, changes=changes)
    if model.task.config.from_noise:
        raise UsageError(FROM_NOISE, f"pixelwise generate {folder} OUT")
    dense = DenseClassifier(model) if maps else None
    videos = [path for path in paths if is_video(path) or (footage.frames and path.is_dir())]
    suffixes = READABLE if model.description.meta.pictures else SUFFIXES
    found = list(images_in([path for path in paths if path not in videos], out, suffixes))
    console = Console(stderr=True)
    predictions: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    taken: set[Path] = set()
    images = {path.resolve() for path, _ in found}
    for path, below in track(found, "predicting", console=console, disable=not console.is_terminal):
        try:
            target = _free(out / below, taken, _has_twin(path))
            done = _one(model, path, target, images)
            if dense:
                done["maps"] = _maps(dense, path, _free(target.with_suffix(".maps.png"), taken), images)
            predictions.append(done)
        except PixelwiseError as error:
            failed.append(_failure(path, error))
    watched: list[dict[str, Any]] = []
    for path in videos:
        try:
            watched.append(_watched(model, path, _unsuffixed(out / path.name, taken), footage))
        except UsageError:
            raise
        except PixelwiseError as error:
            failed.append(_failure(path, error))
    return {"model": str(folder), "out": str(out), "predictions": predictions, "videos": watched, "failed": failed}


def _failure(path: Path, error: PixelwiseError) -> dict[str, str]:
    hint = "" if error.hint == SKIP_HINT else error.hint  # bad files are passed over here as it is
    print(f"error: {error}", *([f"hint: {hint}"] if hint else []), sep="\n", file=sys.stderr)
    return {"file": str(path), "error": str(error)}


def _watched(model: Model, path: Path, target: Path, footage: Footage) -> dict[str, Any]:
    done = predict_footage(model, path, target, footage)
    for kind, texts in (("note", done["notes"]), ("error", done["flaws"])):
        for text in texts:
            print(f"{kind}: {path}: {text}", file=sys.stderr)
    return done


def _unsuffixed(path: Path, taken: set[Path]) -> Path:
    """Return where the answers for a video go, without suffix."""
    free = _free(path, taken)
    return free.with_name(free.name.removesuffix(".png"))


def _has_twin(path: Path) -> bool:
    """Return whether an image beside `path` differs from it by its suffix alone; a later call may ask for that one."""
    others = (suffix for suffix in SUFFIXES if suffix != path.suffix.lower())
    return any(path.with_suffix(suffix).is_file() for other in others for suffix in (other, other.upper()))


def _free(path: Path, taken: set[Path], twin: bool = False) -> Path:
    """Return `path` as a PNG; if it has a twin or that is taken, with the old suffix kept in the name, then numbered."""
    names = chain(() if twin else (path.stem,), (path.name,), (f"{path.name}.{n}" for n in count(2)))
    target = next(t for t in (path.with_name(f"{name}.png") for name in names) if t not in taken)
    taken.add(target)
    return target


def _require_new(path: Path, target: Path, images: Set[Path]) -> None:
    if target.resolve() in images:
        raise DataError(f"{path}: the answer would overwrite the image {target}", "choose another folder with out=DIR")


def _maps(dense: DenseClassifier, path: Path, target: Path, images: Set[Path]) -> dict[str, Any]:
    _require_new(path, target, images)
    maps = dense(path)
    maps.save(target)
    maps.save(target.with_suffix(".json"))
    return {"saved": str(target), **maps.to_json()}


def _save(prediction: Prediction, path: Path, target: Path, images: Set[Path]) -> None:
    """Write the answer, what goes beside it, and the answers that are saved apart, such as `x.depth.png` beside `x.png`."""
    for file in (target, *(target.with_suffix(suffix) for suffix in prediction.beside)):
        _require_new(path, file, images)
        prediction.save(file)
    for name, part in prediction.apart().items():
        _save(part, path, target.with_suffix(f".{re.sub(NAMELESS, '_', name)}.png"), images)


def _one(model: Model, path: Path, target: Path, images: Set[Path]) -> dict[str, Any]:
    _require_new(path, target, images)
    prediction: Prediction = model(path)
    for note in prediction.notes:
        print(f"note: {path}: {note}", file=sys.stderr)
    _save(prediction, path, target, images)
    notes = {"notes": list(prediction.notes)} if prediction.notes else {}
    line = prediction.line()
    says = {"says": line} if line else {}
    return {"file": str(path), "saved": str(target), **says, **prediction.to_json(), **notes}
