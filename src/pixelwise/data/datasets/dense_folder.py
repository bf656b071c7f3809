"""Images with several maps each as folders: `images` beside those of `labels`, `depth`, `normals`, `boundaries` that exist.

In `<split>/` each, or to be parted. Every folder is read as by segmentation_folder, depth_folder and boundary_folder, and one
`meta.json` at the root says what all three ask: `{"classes": ["sky", "road"], "depth_unit": 0.001, "normals_axes": "RUB"}`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field as Setting

from pixelwise.data.boundary_files import Reading
from pixelwise.data.dataset import DataConfig, Dataset, existing_folder
from pixelwise.data.dense import MAPS, Schemes, opened, paired
from pixelwise.data.files import ValFraction, ValFrom
from pixelwise.data.labels import KEYS, LabelScheme
from pixelwise.data.surfaces import SurfaceScheme
from pixelwise.geometry.camera import Intrinsics


class Config(DataConfig):
    """Images with several maps each in folders."""

    kind: Literal["dense_folder"] = "dense_folder"
    root: Annotated[str, Setting(description="folder with meta.json and train/{images,labels,depth,...}, or without train")]
    classes: Annotated[tuple[str, ...], Setting(description="class names of labels, where meta.json has none")] = ()
    depth_unit: Annotated[
        float | None, Setting(gt=0, description="metres per count of an integer file; meta.json's depth_unit if null")
    ] = None
    intrinsics: Annotated[
        tuple[float, float, float, float] | None,
        Setting(description="fx, fy, cx, cy in pixels of the stored pictures; those of meta.json if null"),
    ] = None
    reading: Annotated[
        Reading, Setting(description="pictures of boundaries: grey (white is a boundary) or bits (bit i is annotator i)")
    ] = "grey"
    val_fraction: ValFraction = 0.1
    val_from: ValFrom = "anywhere"

    def open(self, split: str) -> Dataset:
        """Return the images of `split` with the maps that are there.

        Raises:
            DataError: A folder is missing or empty, files do not pair up, or meta.json means nothing.
        """
        root = existing_folder(self.root)
        items = paired(root, split, tuple(MAPS), self.val_fraction, self.val_from)
        labels = LabelScheme.read(root, self.classes) if "labels" in items[0][1] else None
        given = self.intrinsics and Intrinsics(*self.intrinsics)
        surfaces = SurfaceScheme.read(root, self.depth_unit, given, beside=KEYS)
        return opened(items, Schemes(labels, surfaces, self.reading), self.on_error)
