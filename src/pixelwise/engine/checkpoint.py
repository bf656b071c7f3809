"""A run's state on disk, written so that a kill at any moment costs only the steps since the last save.

state/000300/  networks.safetensors  ema.safetensors  optimizers.pt  state.json
A state is written into a hidden folder, forced to disk and renamed; state.json holds the digest of every other file, so
a state that is torn or damaged is recognised and passed over.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pixelwise.errors import TrainingError

FORMAT = 1


class Best(NamedTuple):
    """The step whose evaluation was best so far, and that evaluation."""

    step: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class State:
    """All that a run remembers, as whole tensors on the CPU; randomness is a function of the step, so not here."""

    step: int
    best: Best | None
    networks: Mapping[str, Tensor]
    ema: Mapping[str, Tensor]
    optimizers: Mapping[str, Any]

    def save(self, folder: Path) -> None:
        """Write the state as `folder`, which appears at once and whole; an older one there is replaced."""
        fresh = folder.with_name(f".{folder.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        self._write(fresh)
        for file in fresh.iterdir():
            _to_disk(file)
        _to_disk(fresh)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
        _to_disk(folder.parent)

    def _write(self, folder: Path) -> None:
        save_file(dict(self.networks), folder / "networks.safetensors")
        if self.ema:
            save_file(dict(self.ema), folder / "ema.safetensors")
        torch.save(dict(self.optimizers), folder / "optimizers.pt")
        best = self.best and self.best._asdict()
        digests = {file.name: _digest(file) for file in sorted(folder.iterdir())}
        about = {"format": FORMAT, "step": self.step, "best": best, "sha256": digests}
        (folder / "state.json").write_text(json.dumps(about, indent=1))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the state at `folder`, executing nothing that is in it.

        Raises:
            TrainingError: It was written by a newer version.
        """
        about = json.loads((folder / "state.json").read_text())
        if about["format"] > FORMAT:
            raise TrainingError(f"{folder} was written by a newer pixelwise", "update pixelwise to go on with this run")
        averaged = folder / "ema.safetensors"
        return cls(
            about["step"],
            about["best"] and Best(**about["best"]),
            load_file(folder / "networks.safetensors"),
            load_file(averaged) if averaged.exists() else {},
            torch.load(folder / "optimizers.pt", map_location="cpu", weights_only=True),
        )


def folder_of(run: Path, step: int) -> Path:
    """Return where the state after `step` steps of `run` is kept."""
    return run / "state" / f"{step:06d}"


def saved(run: Path) -> list[Path]:
    """Return the folders of all states of `run`, oldest first, whole or not."""
    return sorted((f for f in (run / "state").glob("*") if f.name.isdigit()), key=lambda f: int(f.name))


def newest(run: Path, passed_over: Callable[[Path], object] = lambda folder: None) -> Path | None:
    """Return the newest whole state of `run`, if there is one; every damaged one on the way goes to `passed_over`."""
    for folder in reversed(saved(run)):
        if is_whole(folder):
            return folder
        passed_over(folder)
    return None


def is_whole(folder: Path) -> bool:
    """Tell whether every file of a state is there, bit for bit."""
    try:
        digests = json.loads((folder / "state.json").read_text())["sha256"]
        return all(_digest(folder / name) == digest for name, digest in digests.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def prune(run: Path, step: int, keep: int, best: Best | None) -> None:
    """Delete the states of `run` up to `step`, but for the newest `keep` and the best; later ones are damaged."""
    past = [folder for folder in saved(run) if int(folder.name) <= step]
    for folder in past[:-keep]:
        if best is None or int(folder.name) != best.step:
            shutil.rmtree(folder)


def deployed_weights(folder: Path, deployed: Iterable[str]) -> dict[str, dict[str, Tensor]]:
    """Return the weights of each deployed network in the state at `folder`: the averaged ones, if there are any."""
    averaged = folder / "ema.safetensors"
    weights = load_file(averaged if averaged.exists() else folder / "networks.safetensors")
    return {name: within(weights, name) for name in deployed}


def within(state: Mapping[str, Tensor], network: str) -> dict[str, Tensor]:
    """Return the part of `state` that belongs to `network`, under the network's own names."""
    prefix = network + "."
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
