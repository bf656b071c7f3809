"""Leeds Sports Pose: `joints.mat` with `images/im0001.jpg` and so on, in either of its forms, which the shape tells apart.

- LSP (Johnson & Everingham 2010): 3 x 14 x 2000, rows x, y and whether the joint is OCCLUDED: 1 becomes hidden. The first
  1000 images are train and val, the others test.
- LSP Extended (2011): 14 x 3 x 10000, columns x, y and whether the joint is LABELLED: 0 becomes unknown. All of it is for
  training; the names have five digits.

Joints are in the order of the file: right ankle, knee, hip, left hip, knee, ankle, right wrist, elbow, shoulder, left
shoulder, elbow, wrist, neck, head top; left and right are the person's own. The first pixel's centre is 1, as MATLAB
counts, so that half a pixel is taken off.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field as Setting

from pixelwise.data.dataset import DataConfig, Dataset, Meta, existing_folder
from pixelwise.data.files import ValFraction, checked, no_split, part
from pixelwise.data.keypoints import KeypointFiles, image_folder, record, require_images
from pixelwise.data.matlab_files import matlab_variable
from pixelwise.data.sample import Presence
from pixelwise.data.skeletons import LSP14, SkeletonFile, skeleton_for
from pixelwise.errors import DataError

JOINTS, OFFICIAL, TRAINING = 14, 2000, 1000


class Config(DataConfig):
    """Joints of Leeds Sports Pose."""

    kind: Literal["keypoints_lsp"] = "keypoints_lsp"
    root: Annotated[str, Setting(description="folder with joints.mat and images")]
    skeleton: SkeletonFile = ""
    val_fraction: ValFraction = 0.1

    def open(self, split: str) -> Dataset:
        """Return the images of `split`.

        Raises:
            DataError: joints.mat is missing, damaged or of another shape, or an image is missing.
        """
        root = existing_folder(self.root)
        path = root / "joints.mat"
        people, extended = _people(path)
        digits = 5 if extended else 4
        names = [f"im{number + 1:0{digits}d}.jpg" for number in range(len(people))]
        chosen = _chosen(names, split, self.val_fraction, root)
        records = [record(image_folder(root) / names[i], [people[i]], corner=0.5) for i in chosen]
        if self.on_error == "stop":
            require_images((item.path for item in records), path)
        meta = Meta(skeleton=skeleton_for(JOINTS, LSP14, self.skeleton, path))
        return checked(KeypointFiles(root, records, meta), self.on_error)


def _chosen(names: Sequence[str], split: str, fraction: float, root: Path) -> list[int]:
    official = len(names) == OFFICIAL
    if split == "test" and official:
        return list(range(TRAINING, OFFICIAL))
    if split not in ("train", "val"):
        raise no_split(root, split)
    return part(names[:TRAINING] if official else names, split, fraction, where=str(root))


def _people(path: Path) -> tuple[list[list[list[float]]], bool]:
    """Return the rows (x, y, presence) of every image, and whether this is LSP Extended."""
    try:
        joints: Any = np.asarray(matlab_variable(path, "joints"), float)
    except DataError:
        raise
    except Exception as error:  # scipy raises whatever the damage leads to
        raise DataError(f"{path}: no joints of Leeds Sports Pose ({type(error).__name__})") from None
    extended = joints.ndim == 3 and joints.shape[:2] == (JOINTS, 3)
    if not extended and (joints.ndim != 3 or joints.shape[:2] != (3, JOINTS)):
        what = " x ".join(map(str, joints.shape))
        raise DataError(f"{path}: joints are {what}", "expected 3 x 14 x images (LSP) or 14 x 3 x images (LSP Extended)")
    rows = joints.transpose(2, 0, 1) if extended else joints.transpose(2, 1, 0)
    flag = rows[..., 2] > 0
    if extended:
        rows[~flag] = nan
        rows[..., 2] = np.where(flag, Presence.VISIBLE, Presence.UNKNOWN)
    else:
        rows[..., 2] = np.where(flag, Presence.HIDDEN, Presence.VISIBLE)
    return rows.tolist(), extended
