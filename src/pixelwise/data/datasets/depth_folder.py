"""Depth or surface normals as folders: `<split>/images` with `<split>/depth`, `<split>/normals` or both, or to be parted.

Depth is PNG (or TIFF, PGM) of 16 bits, 0 for no reading, or `.npy` in metres; normals are PNG or `.npy`. `meta.json` at the
root states the unit, the camera and the axes (see `pixelwise.data.surfaces`). Where there is a camera and no folder of
normals, they are fitted to the depth. OpenEXR is not read: it would take a library of its own; convert it to `.npy`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field as Setting

from pixelwise.data.dataset import DataConfig, Dataset, existing_folder
from pixelwise.data.dense import Schemes, opened, paired
from pixelwise.data.files import ValFraction, ValFrom
from pixelwise.data.surfaces import SurfaceScheme
from pixelwise.geometry.camera import Intrinsics


class Config(DataConfig):
    """Images with maps of depth or of surface normals in folders."""

    kind: Literal["depth_folder"] = "depth_folder"
    root: Annotated[str, Setting(description="folder with meta.json and train/{images,depth}, or {images,depth}")]
    depth_unit: Annotated[
        float | None, Setting(gt=0, description="metres per count of an integer file; meta.json's depth_unit if null")
    ] = None
    intrinsics: Annotated[
        tuple[float, float, float, float] | None,
        Setting(description="fx, fy, cx, cy in pixels of the stored pictures; those of meta.json if null"),
    ] = None
    val_fraction: ValFraction = 0.1
    val_from: ValFrom = "anywhere"

    def open(self, split: str) -> Dataset:
        """Return the images of `split` with their depth, their normals, or both.

        Raises:
            DataError: A folder is missing or empty, files do not pair up, or meta.json means nothing.
        """
        root = existing_folder(self.root)
        scheme = SurfaceScheme.read(root, self.depth_unit, self.intrinsics and Intrinsics(*self.intrinsics))
        items = paired(root, split, ("depth", "normals"), self.val_fraction, self.val_from)
        return opened(items, Schemes(None, scheme), self.on_error)
